//! The part of waiting that stays awake: spinning, and yielding where a spinner would keep a CPU
//! from somebody who has something to do.

use std::thread::yield_now;
use std::time::{Duration, Instant};

use crate::sync::spin_loop;

/// Looks before the first look at the clock, and between two of them: some microseconds, in which
/// a small model has answered. So a call that is answered at once reads no clock.
const LOOKS_PER_CLOCK: u32 = 128;

/// How a time of waiting awake has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awake {
    /// What was waited for is there.
    Found,
    /// It was enough.
    Spent,
    /// It has become crowded: yield instead.
    Crowded,
}

/// Looks for some microseconds. Whether `found`.
#[inline]
pub(crate) fn glance(found: impl Fn() -> bool) -> bool {
    for _ in 0..LOOKS_PER_CLOCK {
        if found() {
            return true;
        }
        spin_loop();
    }
    false
}

/// Spins until `found`, at most until `end`, and while it is not `crowded`, which is asked now and
/// then.
pub(crate) fn spin_until(
    end: Option<Instant>,
    found: impl Fn() -> bool,
    crowded: impl Fn() -> bool,
) -> Awake {
    loop {
        if glance(&found) {
            return Awake::Found;
        }
        if crowded() {
            return Awake::Crowded;
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Awake::Spent;
        }
    }
}

/// A yield that keeps a thread off its CPU for this long, and for nothing, has not gone to those it
/// waits for: somebody else computes. (It costs a whole slice of the scheduler's, and more from the
/// next.)
const DEAR_YIELD: Duration = Duration::from_millis(1);

/// Lets others run until `found`, `times` at most, at most until `end`, and while that pays.
pub(crate) fn yield_until(times: u32, end: Option<Instant>, found: impl Fn() -> bool) -> Awake {
    let mut before = Instant::now();
    for _ in 0..times {
        yield_now();
        if found() {
            return Awake::Found;
        }
        let now = Instant::now();
        if now.duration_since(before) >= DEAR_YIELD || end.is_some_and(|end| now >= end) {
            break;
        }
        before = now;
    }
    Awake::Spent
}
