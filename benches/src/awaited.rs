//! Calls that are awaited, beside the same calls by a thread that blocks.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nearcall::{Answer, Completions, Ticket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::engine::{PATIENCE, Running};
use crate::measure::{Latencies, Span, Turn, closed_loop};

/// How a thread comes to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It blocks.
    Blocking,
    /// It runs a plain event loop: it sleeps in `poll`, dispatches, and polls the future again.
    EventLoop,
    /// It runs tokio, which watches the descriptor.
    Tokio,
    /// It runs tokio, and the library's thread wakes its futures.
    TokioUnwatched,
    /// It blocks, when the answer is there already. Only its own steps are measured.
    BlockingReady,
    /// It polls a future, when the answer is there already. Only its own steps are measured.
    PolledReady,
}

impl How {
    /// All, each behind what it is compared with.
    pub const ALL: [Self; 6] = [
        Self::Blocking,
        Self::EventLoop,
        Self::Tokio,
        Self::TokioUnwatched,
        Self::BlockingReady,
        Self::PolledReady,
    ];

    /// As in `bench.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::EventLoop => "awaited, event loop",
            Self::Tokio => "awaited, tokio",
            Self::TokioUnwatched => "awaited, tokio, woken by the library",
            Self::BlockingReady => "blocking, ready",
            Self::PolledReady => "awaited, ready",
        }
    }
}

impl Running {
    /// One thread that makes one call after another, and comes to its answers so.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn one_by_one(&self, how: How, span: Span) -> anyhow::Result<Turn> {
        let loops = |caller: &mut dyn FnMut(u64) -> anyhow::Result<()>| {
            // On this thread: an event loop does not change threads.
            self.on_this_thread(caller, span)
        };
        match how {
            How::Blocking => {
                closed_loop(1, |_| Ok(|number| self.call(number)), span, || self.cpu())
            }
            How::EventLoop => {
                let event_loop = EventLoop::new(self.engine().completions());
                loops(&mut |number| {
                    let call = self.engine().call_async(&self.task(number), PATIENCE);
                    self.check(number, &event_loop.run(call)??)
                })
            }
            How::Tokio | How::TokioUnwatched => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
                let waking =
                    (how == How::Tokio).then(|| runtime.spawn(wake(self.engine().completions())));
                let turn = loops(&mut |number| {
                    let call = self.engine().call_async(&self.task(number), PATIENCE);
                    self.check(number, &runtime.block_on(call)?)
                });
                if let Some(waking) = waking {
                    waking.abort();
                }
                turn
            }
            How::BlockingReady => {
                self.ready(span, |ticket| Ok(self.engine().wait(ticket, PATIENCE)?))
            }
            How::PolledReady => self.ready(span, |ticket| {
                let future = pin!(ticket.into_future());
                match future.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(answer) => Ok(answer?),
                    Poll::Pending => anyhow::bail!("the answer was there"),
                }
            }),
        }
    }

    fn on_this_thread(
        &self,
        caller: &mut dyn FnMut(u64) -> anyhow::Result<()>,
        span: Span,
    ) -> anyhow::Result<Turn> {
        let mut numbers = 0..;
        let mut run = |seconds: f64, note: &mut dyn FnMut(Duration)| -> anyhow::Result<f64> {
            let start = Instant::now();
            let end = start + Duration::from_secs_f64(seconds);
            let mut now = start;
            while now < end {
                caller(numbers.next().context("no more numbers")?)?;
                let after = Instant::now();
                note(after - now);
                now = after;
            }
            Ok((now - start).as_secs_f64())
        };
        run(span.warm_up, &mut |_| ())?;
        let mut latencies = Latencies::new()?;
        let before = self.cpu();
        let seconds = run(span.measured, &mut |latency| latencies.record(latency))?;
        let cpu_seconds = before.zip(self.cpu()).map(|(before, after)| after - before);
        Ok(Turn { latencies, seconds, cpu_seconds })
    }

    /// What a submit and a taking cost when nobody has to wait in between.
    fn ready<'e>(
        &'e self,
        span: Span,
        take: impl Fn(Ticket<'e>) -> anyhow::Result<Answer>,
    ) -> anyhow::Result<Turn> {
        let mut latencies = Latencies::new()?;
        let start = Instant::now();
        let measured = start + Duration::from_secs_f64(span.warm_up);
        let end = measured + Duration::from_secs_f64(span.measured);
        for number in 0.. {
            let task = self.task(number);
            let begun = Instant::now();
            let ticket = self.engine().submit_by(&task, PATIENCE)?;
            let submitted = begun.elapsed();
            while !self.engine().notify(&ticket)? {
                ensure!(begun.elapsed() < PATIENCE, "no answer");
                std::thread::yield_now();
            }
            let ready = Instant::now();
            let answer = take(ticket)?;
            let taken = ready.elapsed();
            self.check(number, &answer)?;
            if begun >= measured {
                latencies.record(submitted + taken);
            }
            if ready >= end {
                break;
            }
        }
        Ok(Turn { latencies, seconds: 0.0, cpu_seconds: None })
    }
}

/// Whether a future was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The plainest event loop: of one descriptor and one future.
struct EventLoop {
    completions: Completions,
    woken: Arc<Woken>,
}

impl EventLoop {
    fn new(completions: Completions) -> Self {
        Self { completions, woken: Arc::new(Woken(AtomicBool::new(false))) }
    }

    fn run<F: Future>(&self, future: F) -> anyhow::Result<F::Output> {
        use std::os::fd::AsFd;

        let mut future = pin!(future);
        let waker = Waker::from(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut keys = Vec::new();
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
            while !self.woken.0.swap(false, Ordering::Relaxed) {
                let readable = PollFd::new(self.completions.as_fd(), PollFlags::POLLIN);
                let ready = poll(&mut [readable], PollTimeout::from(30_000_u16))?;
                ensure!(ready > 0, "nobody rings");
                self.completions.dispatch(&mut keys);
            }
        }
    }
}

async fn wake(completions: Completions) -> anyhow::Result<()> {
    // SAFETY: a `Completions` has the same open descriptor for life.
    let completions = unsafe { AsyncFd::register_with_interest(completions, Interest::READABLE) };
    let completions = completions.context("no event loop")?;
    let mut keys = Vec::new();
    loop {
        completions.readable().await?.clear_ready();
        if !completions.get_ref().dispatch(&mut keys) {
            return Ok(());
        }
    }
}
