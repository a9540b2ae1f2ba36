//! The limit of what two processes that sleep can do: one wakes the other, and is woken by it.
//! Neither spins.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use nearcall_bench::clock;
use nearcall_bench::measure::{Latencies, Turn, closed_loop};
use nearcall_bench::order::{Order, Pace};
use rustix::thread::futex::{self, Flags};

use crate::batches;
use crate::call::PythonCall;
use crate::interpreter::{self, Attached};
use crate::pair::Pair;
use crate::words::{END, ENDED, Words, after};

/// Nothing but the futexes.
pub(crate) const NAME: &str = "futex";
/// The peer makes a Python call, in its own process, before it answers.
pub(crate) const WITH_PYTHON: &str = "futex + python";

pub(crate) fn turn(order: &Order) -> anyhow::Result<Turn> {
    let pair = Pair::start(order)?;
    // The first one takes as long as the peer's start.
    round_trip(&pair, 1)?;
    let turn = match order.pace {
        Some(pace) => paced(&pair, pace)?,
        None => unpaced(&pair, order)?,
    };
    pair.end()?;
    Ok(turn)
}

fn unpaced(pair: &Pair, order: &Order) -> anyhow::Result<Turn> {
    batches::one_after_another(order)?;
    ensure!(order.system == NAME, "it is measured at a pace only");
    let callers = |_| {
        let mut last = 1;
        Ok(move |_| {
            last = after(last);
            round_trip(pair, last)
        })
    };
    closed_loop(1, callers, order.span, || None)
}

fn paced(pair: &Pair, pace: Pace) -> anyhow::Result<Turn> {
    ensure!(pace.calls > 1, "the first call is not counted: there must be another one");
    ensure!(
        clock::monotonic_ns()? < pace.first_ns,
        "the first call was due before the pair had started"
    );
    let mut latencies = Latencies::new()?;
    let mut last = 1;
    let mut times: Option<(Instant, Instant)> = None;
    for call in 0..pace.calls {
        clock::sleep_until(pace.first_ns + call * pace.period_ns)?;
        last = after(last);
        let begun = Instant::now();
        round_trip(pair, last)?;
        let ended = Instant::now();
        if call > 0 {
            latencies.record(ended - begun);
            times = Some((times.map_or(begun, |(first, _)| first), ended));
        }
    }
    let (begun, ended) = times.context("no calls")?;
    Ok(Turn { latencies, seconds: (ended - begun).as_secs_f64(), cpu_seconds: None })
}

#[inline]
fn round_trip(pair: &Pair, request: u32) -> anyhow::Result<()> {
    let words = pair.words();
    words.request.store(request, Ordering::Release);
    wake(&words.request);
    loop {
        let answer = words.answer.load(Ordering::Acquire);
        if answer == request {
            return Ok(());
        }
        if answer == ENDED {
            return Err(pair.post_mortem());
        }
        wait(&words.answer, answer);
    }
}

/// The peer: answers each request with itself, when `work` was done with it.
pub(crate) fn serve(
    words: &Words,
    mut work: impl FnMut(u32) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut last = 0;
    loop {
        let request = words.request.load(Ordering::Acquire);
        if request == END {
            return Ok(());
        }
        if request == last {
            wait(&words.request, last);
            continue;
        }
        work(request)?;
        words.answer.store(request, Ordering::Release);
        wake(&words.answer);
        last = request;
    }
}

/// The peer that makes the order's call. Its only thread is attached all the time.
pub(crate) fn serve_with_python(words: &Words, order: &Order) -> anyhow::Result<()> {
    let workload = order.workload.context("the order has no workload")?;
    interpreter::start(order)?;
    let attached = Attached::new()?;
    let call = PythonCall::new(attached.py(), workload)?;
    serve(words, |request| call.call(attached.py(), request.into()))
}

/// Sleeps while `word` is `expected`; may return at any time.
fn wait(word: &AtomicU32, expected: u32) {
    // Not private: the word is another process's too. Errors mean "look again".
    let _ = futex::wait(word, Flags::empty(), expected, None);
}

/// Wakes who sleeps on `word`: there is one at most.
pub(crate) fn wake(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), 1);
}
