//! Awaiting an answer instead of waiting for it, on any runtime.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::core::Core;
use super::engine::Engine;
use super::notices::{Notices, Then};
use super::ticket::{AsKey, Ticket};
use super::wait::Deadline;
use crate::error::{CallError, RetrieveError, SubmitError, TaskError};
use crate::key::Key;
use crate::ring;
use crate::sync::{AtomicU64, Ordering};
use crate::wire::Task;

/// How often futures have spun when they were polled, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollSpins {
    /// For how long a future spins when it is polled for the first time:
    /// [`Builder::poll_spin`](crate::Builder::poll_spin), or zero where there is one CPU only.
    pub bound: Duration,
    /// How many have spun.
    pub spins: u64,
    /// How many of these had their answer at the end of it.
    pub answered: u64,
}

/// The same, as it is counted.
pub(crate) struct Spinning {
    bound: Duration,
    spins: AtomicU64,
    answered: AtomicU64,
}

impl Spinning {
    pub(crate) fn new(bound: Duration) -> Self {
        Self { bound, spins: AtomicU64::new(0), answered: AtomicU64::new(0) }
    }

    pub(crate) fn report(&self) -> PollSpins {
        PollSpins {
            bound: self.bound,
            // Relaxed, here and below: counts for people.
            spins: self.spins.load(Ordering::Relaxed),
            answered: self.answered.load(Ordering::Relaxed),
        }
    }

    /// Spins until it is over, or for the bound.
    fn spin(&self, over: impl Fn() -> bool) {
        if self.bound.is_zero() || over() {
            return;
        }
        self.spins.fetch_add(1, Ordering::Relaxed);
        ring::spin_until(Some(Instant::now() + self.bound), &over, || false);
        if over() {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The answer of an accepted task, to be awaited: what a [`Ticket`] becomes.
///
/// It needs no runtime of any kind: see [`Engine::completions`] for who wakes it. Dropped before it is
/// done, it abandons its task, as a ticket does: one that waits for a worker is never run, one that
/// runs goes on until its end or its deadline. After [`kill_on_drop`](Self::kill_on_drop) that one is
/// stopped.
///
/// # Errors
/// Why there is no answer and will be none; see [`RetrieveError`].
#[must_use = "dropping a future abandons its task"]
pub struct TicketFuture<'e> {
    /// None once the outcome was taken.
    ticket: Option<Ticket<'e>>,
    polled: bool,
    /// Whether it has asked to be woken.
    has_asked: bool,
    kill_on_drop: bool,
}

impl<'e> TicketFuture<'e> {
    /// Whether the task is [cancelled](Engine::cancel) when the future is dropped: so that a call that
    /// runs is interrupted, or its worker killed and replaced. Default: no.
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.kill_on_drop = kill;
        self
    }

    /// The key of the task; `None` once the future is done.
    pub fn key(&self) -> Option<Key> {
        self.ticket.as_ref().map(Ticket::key)
    }

    /// The outcome is taken: nothing is left to abandon.
    fn finish(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.into_key();
        }
    }
}

impl Future for TicketFuture<'_> {
    type Output = Result<Answer, RetrieveError>;

    /// # Panics
    /// When it is polled once more after it was done.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        #[expect(clippy::expect_used, reason = "what the contract of `Future` leaves to panics")]
        let ticket = this.ticket.as_ref().expect("a future that is done was polled");
        let (engine, key) = (ticket.engine(), ticket.key());
        let core = engine.core();
        if !this.polled {
            this.polled = true;
            core.spinning.spin(|| core.is_over(key));
        }
        let mut answer = Answer::new();
        loop {
            match core.poll(key, &mut answer) {
                Ok(false) => {}
                outcome => {
                    if this.has_asked {
                        core.notices.forget_future(key);
                    }
                    this.finish();
                    return Poll::Ready(outcome.map(|_| answer));
                }
            }
            this.has_asked = true;
            if core.await_end(key, Then::Wake(context.waker().clone())) {
                if engine.ensure_dispatch().is_err() {
                    // Nobody would wake it. So it wakes itself, again and again.
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

impl Drop for TicketFuture<'_> {
    fn drop(&mut self) {
        let Some(ticket) = &self.ticket else { return };
        if self.kill_on_drop {
            ticket.engine().cancel(ticket.key());
        }
        let core = ticket.engine().core();
        if self.has_asked && !core.in_forked_child() {
            core.notices.forget_future(ticket.key());
        }
    }
}

impl fmt::Debug for TicketFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TicketFuture").field(&self.ticket).finish()
    }
}

impl<'e> IntoFuture for Ticket<'e> {
    type Output = Result<Answer, RetrieveError>;
    type IntoFuture = TicketFuture<'e>;

    fn into_future(self) -> TicketFuture<'e> {
        TicketFuture { ticket: Some(self), polled: false, has_asked: false, kill_on_drop: false }
    }
}

/// A call, to be awaited: what [`Engine::call_async`] gives. As for [`TicketFuture`].
///
/// # Errors
/// The task was not accepted, or has no answer; see [`CallError`].
#[must_use = "dropping a future abandons its task"]
#[derive(Debug)]
pub struct CallFuture<'e>(Result<TicketFuture<'e>, Option<SubmitError>>);

impl CallFuture<'_> {
    /// As [`TicketFuture::kill_on_drop`].
    pub fn kill_on_drop(self, kill: bool) -> Self {
        Self(self.0.map(|future| future.kill_on_drop(kill)))
    }

    /// The key of the task; `None` if it was not accepted, and once the future is done.
    pub fn key(&self) -> Option<Key> {
        self.0.as_ref().ok()?.key()
    }
}

impl Future for CallFuture<'_> {
    type Output = Result<Answer, CallError>;

    /// # Panics
    /// When it is polled once more after it was done.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(future) => Pin::new(future).poll(context).map_err(CallError::from),
            #[expect(
                clippy::expect_used,
                reason = "what the contract of `Future` leaves to panics"
            )]
            Err(error) => {
                let error = error.take().expect("a future that is done was polled");
                Poll::Ready(Err(error.into()))
            }
        }
    }
}

/// The door through which an event loop learns that tasks are over: a descriptor to watch, and what to
/// do when it is readable.
///
/// The descriptor ([`AsFd`]) becomes readable when a task is over that somebody awaits, and stays so
/// until [`dispatch`](Self::dispatch) is called. It may become so for nothing. Nobody else may read from
/// it.
pub struct Completions {
    /// Nothing of the engine's lives on because somebody watches.
    core: Weak<Core>,
    notices: Arc<Notices>,
}

impl Completions {
    fn new(core: &Arc<Core>) -> Self {
        core.notices.watch();
        Self { core: Arc::downgrade(core), notices: core.notices.clone() }
    }

    /// Wakes the futures whose tasks are over, and adds to `over` the keys that
    /// [`Engine::notify`] was asked for and whose tasks are over. Never blocks.
    ///
    /// Among the keys may be some that were retrieved or abandoned meanwhile. Of several `Completions`
    /// of an engine, whichever is asked first has a key.
    ///
    /// `false`: the engine is gone, or belongs to another process than this one. Nothing will come any
    /// more; stop watching.
    pub fn dispatch(&self, over: &mut Vec<Key>) -> bool {
        self.core.upgrade().is_some_and(|core| core.dispatch(over))
    }
}

impl AsFd for Completions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.listener()
    }
}

impl AsRawFd for Completions {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade()
            && !core.in_forked_child()
            && self.notices.unwatch()
        {
            // If it fails, futures that are polled try it again.
            let _ = core.ensure_dispatch();
        }
    }
}

impl fmt::Debug for Completions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Completions").field(&self.as_raw_fd()).finish()
    }
}

impl Engine {
    /// Submits a task, as [`submit_by`](Engine::submit_by) does, for its answer to be awaited. That
    /// happens in this call, not when the future is polled: the future does not borrow the task.
    ///
    /// A task that is not accepted is the future's error: [`SubmitError::Full`] is not waited out.
    ///
    /// ```
    /// use nearcall::{Args, Engine, Signature, Task, Value};
    /// use std::time::Duration;
    ///
    /// let engine = Engine::builder("numbers:successor")
    ///     .signature(Signature::new().int("x"))
    ///     .start_with(|args: &Args<'_>| match args.get("x") {
    ///         Some(Value::Int(x)) => Ok(Value::Int(x + 1)),
    ///         _ => Ok(Value::None),
    ///     })?;
    /// let answers = async {
    ///     let five = engine.call_async(&Task::new().int(4), Duration::from_secs(10));
    ///     let seven = engine.call_async(&Task::new().int(6), Duration::from_secs(10));
    ///     (five.await, seven.await)
    /// };
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// let (five, seven) = runtime.block_on(answers);
    /// assert_eq!((five?.int(0)?, seven?.int(0)?), (5, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call_async(&self, task: &Task<'_>, deadline: impl Into<Deadline>) -> CallFuture<'_> {
        let submitted = self.submit_by(task, deadline);
        CallFuture(submitted.map(Ticket::into_future).map_err(Some))
    }

    /// The door for an event loop that is to wake this engine's futures, or learn of the end of tasks
    /// that were asked for by [`notify`](Engine::notify).
    ///
    /// Without one, a thread of the library wakes futures: they work on any runtime as they are, and
    /// cost one more change of threads, some 20 µs. While there is a `Completions`, whoever has it
    /// must watch its descriptor: nobody else wakes them. With tokio:
    ///
    /// ```
    /// use nearcall::Completions;
    /// use tokio::io::{Interest, unix::AsyncFd};
    ///
    /// async fn wake(completions: Completions) -> std::io::Result<()> {
    ///     // SAFETY: a `Completions` has the same open descriptor for life.
    ///     let completions =
    ///         unsafe { AsyncFd::register_with_interest(completions, Interest::READABLE) }?;
    ///     let mut keys = Vec::new();
    ///     loop {
    ///         completions.readable().await?.clear_ready();
    ///         if !completions.get_ref().dispatch(&mut keys) {
    ///             return Ok(());
    ///         }
    ///     }
    /// }
    ///
    /// # use nearcall::{Args, Engine, Task, Value};
    /// # use std::time::Duration;
    /// # let engine = Engine::builder("a:b").start_with(|_: &Args<'_>| Ok(Value::Int(7)))?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    /// # runtime.block_on(async {
    /// let waking = tokio::spawn(wake(engine.completions()));
    /// assert_eq!(engine.call_async(&Task::new(), Duration::from_secs(10)).await?.int(0)?, 7);
    /// drop(engine);
    /// waking.await??;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn completions(&self) -> Completions {
        Completions::new(self.shared_core())
    }

    /// Has the key of a task be given to [`Completions::dispatch`] once the task is over. `true`: it is
    /// over already, and will not be given.
    ///
    /// For event loops that keep keys instead of futures. A task is reported once, however often it was
    /// asked for.
    ///
    /// # Errors
    /// [`RetrieveError::AlreadyRetrieved`] and [`RetrieveError::Unknown`]: there is no such task.
    /// [`RetrieveError::ForkedChild`].
    pub fn notify(&self, task: impl AsKey) -> Result<bool, RetrieveError> {
        let (core, key) = (self.core(), task.as_key());
        if core.in_forked_child() {
            return Err(RetrieveError::ForkedChild);
        }
        core.check_key(key)?;
        if core.await_end(key, Then::Report) {
            if !core.mailbox.attended() {
                // Deadlines of a test double are the thread's to keep. If it cannot be had, whoever
                // retrieves keeps them.
                let _ = self.ensure_dispatch();
            }
            return Ok(false);
        }
        // If somebody has taken it for reporting meanwhile, it is reported.
        Ok(core.notices.forget_report(key))
    }

    /// How often futures have spun, and for how long they may.
    pub fn poll_spins(&self) -> PollSpins {
        self.core().spinning.report()
    }
}

impl From<RetrieveError> for CallError {
    fn from(error: RetrieveError) -> Self {
        Self::Wait(error.into())
    }
}

impl From<TaskError> for CallError {
    fn from(error: TaskError) -> Self {
        Self::Wait(error.into())
    }
}
