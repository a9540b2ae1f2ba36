//! The part of waiting that stays awake: spinning, and yielding where a spinner would keep a CPU
//! from somebody who has something to do.

use std::thread::yield_now;
use std::time::Instant;

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

/// Lets others run until `found`, `times` at most, and at most until `end`.
pub(crate) fn yield_until(times: u32, end: Option<Instant>, found: impl Fn() -> bool) -> Awake {
    for _ in 0..times {
        yield_now();
        if found() {
            return Awake::Found;
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
    Awake::Spent
}
