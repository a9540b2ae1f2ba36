//! The part of waiting that stays awake: spinning, and yielding where a spinner would keep a CPU
//! from somebody who has something to do.

use std::thread::yield_now;
use std::time::{Duration, Instant};

use crate::sync::spin_loop;

/// Looks before the first look at the clock, and between two of them: some microseconds, in which
/// a small model has answered. So a call that is answered at once reads no clock.
const LOOKS_PER_CLOCK: u32 = 128;

/// How long somebody sleeps who never does otherwise (`WaitPolicy::Spin`), when it is crowded and
/// yielding has not helped: since Linux 6.18 threads that do nothing but yield keep others, in all
/// of the machine, from their CPUs for seconds.
pub(crate) const NAP: Duration = Duration::from_micros(200);

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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Says yes when asked for the `last` time; counts.
    fn counted(asked: &Cell<u32>, last: u32) -> impl Fn() -> bool + '_ {
        move || {
            asked.set(asked.get() + 1);
            asked.get() == last
        }
    }

    fn past() -> Option<Instant> {
        Some(Instant::now())
    }

    #[test]
    fn a_glance_ends_with_what_it_finds_and_soon_without() {
        for last in [1, 2, LOOKS_PER_CLOCK] {
            let asked = Cell::new(0);
            assert!(glance(counted(&asked, last)));
            assert_eq!(asked.get(), last);
        }
        let asked = Cell::new(0);
        assert!(!glance(counted(&asked, 0)));
        assert_eq!(asked.get(), LOOKS_PER_CLOCK);
    }

    #[test]
    fn who_spins_looks_before_the_clock_and_ends_at_the_time_or_in_a_crowd() {
        let asked = Cell::new(0);
        let never = || -> bool { panic!("asked before it was worth it") };
        assert_eq!(spin_until(past(), counted(&asked, LOOKS_PER_CLOCK), never), Awake::Found);
        assert_eq!(spin_until(past(), || false, || false), Awake::Spent);
        assert_eq!(spin_until(past(), || false, || true), Awake::Crowded);
        // Without an end: for as long as it takes, or until it gets crowded.
        let asked = Cell::new(0);
        let found = counted(&asked, 10 * LOOKS_PER_CLOCK);
        assert_eq!(spin_until(None, found, || false), Awake::Found);
        let (asked, crowd) = (Cell::new(0), Cell::new(0));
        let ended = spin_until(None, counted(&asked, 0), counted(&crowd, 3));
        assert_eq!((ended, asked.get()), (Awake::Crowded, 3 * LOOKS_PER_CLOCK));
        let begun = Instant::now();
        let end = begun + Duration::from_millis(2);
        assert_eq!(spin_until(Some(end), || false, || false), Awake::Spent);
        assert!(Instant::now() >= end);
    }

    #[test]
    fn who_yields_looks_after_each_yield_so_many_times_at_most() {
        let asked = Cell::new(0);
        assert_eq!(yield_until(100, past(), counted(&asked, 1)), Awake::Found);
        let asked = Cell::new(0);
        assert_eq!(yield_until(100, past(), counted(&asked, 0)), Awake::Spent);
        assert_eq!(asked.get(), 1, "the time was over");
        let asked = Cell::new(0);
        assert_eq!(yield_until(0, None, counted(&asked, 0)), Awake::Spent);
        assert_eq!(asked.get(), 0);
        let asked = Cell::new(0);
        assert_eq!(yield_until(5, None, counted(&asked, 0)), Awake::Spent);
        // Fewer where one yield was dear: somebody else computes on this CPU.
        assert!((1..=5).contains(&asked.get()));
    }

    #[test]
    fn a_yield_that_was_dear_is_the_last() {
        let asked = Cell::new(0);
        let slowly = || {
            std::thread::sleep(DEAR_YIELD);
            counted(&asked, 0)()
        };
        assert_eq!(yield_until(5, None, slowly), Awake::Spent);
        assert_eq!(asked.get(), 1);
    }
}
