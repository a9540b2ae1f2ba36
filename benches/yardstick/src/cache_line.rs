//! The limit of what two processes that never sleep can do: a cache line goes from one CPU to the
//! other, and comes back.
//!
//! The shortest of what was tried on two CPUs of an EPYC (medians in ns, when the two are threads
//! of one core, and when they are two cores; the host moves them):
//!
//! | | one core | two cores |
//! |---|---|---|
//! | two words in one line, no pause: what is measured here | 51 | 297 |
//! | two words in one line, pausing (`spin_loop`) | 60 | 291 |
//! | one word, pausing or not | 61 to 96 | 294 to 307 |
//! | two lines, pausing, one side pausing, or not | 59 to 110 | 352 to 543 |
//! | two lines, written by exchange | 84 to 93 | 434 to 580 |

use std::sync::atomic::Ordering;
use std::thread::available_parallelism;

use anyhow::ensure;
use nearcall_bench::measure::Turn;
use nearcall_bench::order::{NotHere, Order};

use crate::batches;
use crate::pair::Pair;
use crate::words::{END, ENDED, Words, after};

pub(crate) const NAME: &str = "cache-line";

pub(crate) fn turn(order: &Order) -> anyhow::Result<Turn> {
    batches::one_after_another(order)?;
    let cpus = available_parallelism()?.get();
    ensure!(cpus > 1, NotHere("two processes that spin need two CPUs".to_owned()));
    let pair = Pair::start(order)?;
    let mut last = 0;
    let turn = batches::in_batches(order.span, || {
        last = after(last);
        if round_trip(pair.words(), last) { Ok(()) } else { Err(pair.post_mortem()) }
    })?;
    pair.end()?;
    Ok(turn)
}

/// Whether an answer came.
#[inline]
fn round_trip(words: &Words, request: u32) -> bool {
    words.request.store(request, Ordering::Release);
    loop {
        let answer = words.answer.load(Ordering::Acquire);
        if answer == request {
            return true;
        }
        if answer == ENDED {
            return false;
        }
    }
}

/// The peer: answers each request with itself.
pub(crate) fn serve(words: &Words) -> anyhow::Result<()> {
    let mut last = 0;
    loop {
        let request = words.request.load(Ordering::Acquire);
        if request == END {
            return Ok(());
        }
        if request != last {
            words.answer.store(request, Ordering::Release);
            last = request;
        }
    }
}
