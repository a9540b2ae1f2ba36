//! The two ways to call the engine from Rust, as the contract table sees them.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nearcall::error::{CallError, Code, RetrieveError, WaitError};
use nearcall::{Answer, Completions, Engine, Key, Task, Ticket, TicketFuture, ValueRef};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::run::{End, Host, HostFor};

/// The engine's blocking calls.
pub(crate) struct Blocking<'e> {
    engine: &'e Engine,
    /// Those that were not abandoned.
    tickets: BTreeMap<Key, Ticket<'e>>,
}

pub(crate) struct BlockingHost;

impl<'e> HostFor<'e> for BlockingHost {
    type Host = Blocking<'e>;
}

impl<'e> Host<'e> for Blocking<'e> {
    fn new(engine: &'e Engine) -> Self {
        Self { engine, tickets: BTreeMap::new() }
    }

    fn submit(&mut self, task: &Task<'_>, deadline: Option<Duration>) -> Result<Key, End> {
        let submitted = match deadline {
            Some(deadline) => self.engine.submit_by(task, deadline),
            None => self.engine.submit(task),
        };
        let ticket = submitted.map_err(|error| failed(error.code(), &error))?;
        let key = ticket.key();
        self.tickets.insert(key, ticket);
        Ok(key)
    }

    fn call(&mut self, task: &Task<'_>, deadline: Duration) -> End {
        ended(self.engine.call(task, deadline), CallError::code)
    }

    fn retrieve(&mut self, key: Key) -> End {
        match self.engine.retrieve(key).transpose() {
            None => End::Pending,
            Some(outcome) => ended(outcome, RetrieveError::code),
        }
    }

    fn wait(&mut self, key: Key, within: Duration) -> End {
        ended(self.engine.wait(key, within), WaitError::code)
    }

    fn abandon(&mut self, key: Key) {
        drop(self.tickets.remove(&key));
    }
}

fn ended<E: std::error::Error>(outcome: Result<Answer, E>, code: fn(&E) -> Code) -> End {
    outcome.map_or_else(|error| failed(code(&error), &error), |answer| read(&answer))
}

fn failed(code: Code, error: &dyn std::error::Error) -> End {
    End::Failed(code, error.to_string())
}

fn read(answer: &Answer) -> End {
    match answer.value() {
        ValueRef::Int(value) => End::Int(value),
        ValueRef::Str(text) => End::Text(text.len()),
        other => End::Other(format!("{other:?}")),
    }
}

/// Futures, woken by a thread of the library's, or, if there are `completions`, by this thread itself.
pub(crate) struct Awaited<'e> {
    engine: &'e Engine,
    completions: Option<Completions>,
    /// Of tasks that were neither answered nor abandoned.
    futures: BTreeMap<Key, TicketFuture<'e>>,
}

pub(crate) struct AwaitedHost;

impl<'e> HostFor<'e> for AwaitedHost {
    type Host = Awaited<'e>;
}

/// As [`Awaited`], with an event loop.
pub(crate) struct Watched<'e>(Awaited<'e>);

pub(crate) struct WatchedHost;

impl<'e> HostFor<'e> for WatchedHost {
    type Host = Watched<'e>;
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<'e> Awaited<'e> {
    /// Polls once and then until the deadline, whenever it is woken. `None`: it is not done.
    fn run<F: Future + Unpin>(&self, future: &mut F, deadline: Instant) -> Option<F::Output> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            if let Poll::Ready(output) =
                Pin::new(&mut *future).poll(&mut Context::from_waker(&waker))
            {
                return Some(output);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match &self.completions {
                Some(completions) => {
                    let bell = PollFd::new(completions.as_fd(), PollFlags::POLLIN);
                    poll(&mut [bell], PollTimeout::try_from(left).unwrap()).unwrap();
                    let mut keys = Vec::new();
                    assert!(completions.dispatch(&mut keys), "the engine is there");
                    assert_eq!(keys, [], "nobody has asked for keys");
                }
                None => thread::park_timeout(left),
            }
        }
    }

    /// Looks after the task until then; `None`: it is not done.
    fn look(&mut self, key: Key, deadline: Instant) -> Option<End> {
        let Some(mut future) = self.futures.remove(&key) else {
            // No future can be had for a key that is used up or was never given.
            let outcome = self.engine.retrieve(key).transpose()?;
            return Some(ended(outcome, RetrieveError::code));
        };
        let outcome = self.run(&mut future, deadline);
        if outcome.is_none() {
            self.futures.insert(key, future);
        }
        Some(ended(outcome?, RetrieveError::code))
    }
}

impl<'e> Host<'e> for Awaited<'e> {
    fn new(engine: &'e Engine) -> Self {
        Self { engine, completions: None, futures: BTreeMap::new() }
    }

    fn submit(&mut self, task: &Task<'_>, deadline: Option<Duration>) -> Result<Key, End> {
        let submitted = match deadline {
            Some(deadline) => self.engine.submit_by(task, deadline),
            None => self.engine.submit(task),
        };
        let ticket = submitted.map_err(|error| failed(error.code(), &error))?;
        let key = ticket.key();
        self.futures.insert(key, ticket.into_future());
        Ok(key)
    }

    fn call(&mut self, task: &Task<'_>, deadline: Duration) -> End {
        let mut future = self.engine.call_async(task, deadline);
        // The call's own deadline ends it, which this one only watches over.
        let outcome = self.run(&mut future, Instant::now() + deadline + Duration::from_secs(30));
        ended(outcome.unwrap_or_else(|| panic!("it is past its deadline")), CallError::code)
    }

    fn retrieve(&mut self, key: Key) -> End {
        self.look(key, Instant::now()).unwrap_or(End::Pending)
    }

    fn wait(&mut self, key: Key, within: Duration) -> End {
        let timed_out = || failed(Code::TimedOut, &WaitError::TimedOut);
        self.look(key, Instant::now() + within).unwrap_or_else(timed_out)
    }

    fn abandon(&mut self, key: Key) {
        drop(self.futures.remove(&key));
    }
}

impl<'e> Host<'e> for Watched<'e> {
    fn new(engine: &'e Engine) -> Self {
        Self(Awaited { completions: Some(engine.completions()), ..Awaited::new(engine) })
    }

    fn submit(&mut self, task: &Task<'_>, deadline: Option<Duration>) -> Result<Key, End> {
        self.0.submit(task, deadline)
    }

    fn call(&mut self, task: &Task<'_>, deadline: Duration) -> End {
        self.0.call(task, deadline)
    }

    fn retrieve(&mut self, key: Key) -> End {
        self.0.retrieve(key)
    }

    fn wait(&mut self, key: Key, within: Duration) -> End {
        self.0.wait(key, within)
    }

    fn abandon(&mut self, key: Key) {
        self.0.abandon(key);
    }
}
