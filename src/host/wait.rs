//! How a host thread waits for an answer: awake for a bounded time, then asleep.

use std::time::{Duration, Instant};

use super::answer::Answer;
use super::core::Core;
use crate::error::WaitError;
use crate::key::Key;
use crate::ring::{self, Awake, NAP};
use crate::shm::SLEEPS;
use crate::sync::{AtomicU32, Ordering};
use crate::sys::futex;
use crate::wire::Patience;

/// The longest sleep without a look: what a broken worker fails to say is noticed after this.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// The furthest deadline that is taken seriously, so that a little more can be added to it.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Until when to wait.
///
/// Made from a [`Duration`] (counted from the call), from an [`Instant`], or [`Deadline::NEVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Until);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    After(Duration),
    At(Instant),
    Never,
}

impl Deadline {
    /// Wait for as long as it takes.
    pub const NEVER: Self = Self(Until::Never);

    /// The instant; `None` if there is none.
    pub(crate) fn instant(self) -> Option<Instant> {
        match self.0 {
            // An instant that the clock cannot express never comes.
            Until::After(duration) => Instant::now().checked_add(duration),
            Until::At(instant) => Some(instant),
            Until::Never => None,
        }
    }
}

impl From<Duration> for Deadline {
    fn from(duration: Duration) -> Self {
        Self(Until::After(duration))
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self(Until::At(instant))
    }
}

/// The threads of the host that wait awake at this moment, and the CPUs that they share with the
/// workers.
pub(crate) struct Crowd {
    awake: AtomicU32,
    cpus: u32,
    workers: u32,
}

impl Crowd {
    pub(crate) fn new(cpus: u32, workers: u32) -> Self {
        Self { awake: AtomicU32::new(0), cpus, workers }
    }

    /// Counts this thread in for as long as the result lives.
    #[inline]
    fn join(&self) -> Awakened<'_> {
        // Relaxed: see `is_crowded`.
        self.awake.fetch_add(1, Ordering::Relaxed);
        Awakened(self)
    }

    /// Whether a thread that spins would take a CPU from somebody: each thread that waits keeps a
    /// worker busy, as long as there are workers.
    #[inline]
    fn is_crowded(&self) -> bool {
        // Relaxed: a count in the host's own memory; nothing is handed over.
        let awake = self.awake.load(Ordering::Relaxed);
        awake.saturating_add(awake.min(self.workers)) > self.cpus
    }
}

/// A thread that is counted in.
struct Awakened<'a>(&'a Crowd);

impl Drop for Awakened<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.awake.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    /// As [`wait_into`](Self::wait_into), into an answer of its own.
    #[inline]
    pub(crate) fn wait(
        &self,
        key: Key,
        deadline: Deadline,
        all_slept: bool,
    ) -> Result<Answer, WaitError> {
        let mut answer = Answer::new();
        self.wait_into(key, deadline, all_slept, &mut answer)?;
        Ok(answer)
    }

    /// Waits until the task of `key` is over or the deadline has passed, and takes its outcome.
    /// `all_slept`: no worker was awake when it was submitted.
    #[inline]
    pub(crate) fn wait_into(
        &self,
        key: Key,
        deadline: Deadline,
        all_slept: bool,
        answer: &mut Answer,
    ) -> Result<(), WaitError> {
        // Relaxed, here and below: `retrieve_into` looks again.
        let done = self.slot(key).map(|slot| (slot, slot.words.done.load(Ordering::Relaxed)));
        let is_over = done.is_none_or(|(slot, before)| {
            !self.is_older(before, key)
                // Whoever spins for a moment is not counted as one of a crowd, and need not look whether
                // there is one: in a crowd too, most calls are answered within that moment, and a
                // yield costs more.
                || (!all_slept
                    && !self.patience.spin.is_zero()
                    && ring::glance(|| slot.words.done.load(Ordering::Relaxed) != before))
        });
        if is_over && self.retrieve_into(key, answer)? {
            return Ok(());
        }
        self.wait_longer(key, deadline, all_slept, answer)
    }

    /// The deadline counts from here, which may be microseconds after the call: one that is
    /// answered at once reads no clock.
    #[cold]
    fn wait_longer(
        &self,
        key: Key,
        deadline: Deadline,
        all_slept: bool,
        answer: &mut Answer,
    ) -> Result<(), WaitError> {
        let deadline = deadline.instant();
        let Patience { spin, parks, .. } = self.patience;
        // A worker that has to be woken takes longer than it pays to spin; and where it is woken on
        // this very CPU, it comes sooner if we leave.
        let mut sleepy = spin.is_zero() || (parks && all_slept);
        while !self.retrieve_into(key, answer)? {
            let now = Instant::now();
            if !self.mailbox.attended() {
                self.end_overdue(now);
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(WaitError::TimedOut);
            }
            if sleepy {
                let left = deadline.map_or(MAX_SLEEP, |deadline| deadline - now);
                self.sleep(key, left.min(MAX_SLEEP));
            } else {
                let awake = self.stay_awake(key, now, deadline);
                sleepy = parks && awake == Awake::Spent;
                if !parks && awake == Awake::Spent {
                    // It is crowded, and yielding has not helped.
                    let left = deadline.map_or(NAP, |deadline| deadline - now);
                    self.sleep(key, left.min(NAP));
                }
            }
        }
        Ok(())
    }

    /// Spins, or yields if it is crowded; and tells the workers whether it is.
    fn stay_awake(&self, key: Key, now: Instant, deadline: Option<Instant>) -> Awake {
        let Patience { spin, yields, .. } = self.patience;
        let over = || self.is_over(key);
        let awake = {
            let _awake = self.crowd.join();
            if self.crowd.is_crowded() {
                self.tell_crowded(true);
                ring::yield_until(yields, deadline, over)
            } else {
                let budget = (spin != Duration::MAX).then(|| now + spin);
                let end = budget.map_or(deadline, |end| Some(deadline.map_or(end, |d| d.min(end))));
                ring::spin_until(end, over, || self.crowd.is_crowded())
            }
        };
        // The last of a crowd is the one that finds none.
        if !self.crowd.is_crowded() {
            self.tell_crowded(false);
        }
        awake
    }

    fn tell_crowded(&self, crowded: bool) {
        let word = &self.segment.region().host().crowded;
        // Relaxed: a hint. Written only when it changes, because the workers watch the line.
        if word.load(Ordering::Relaxed) != u32::from(crowded) {
            word.store(crowded.into(), Ordering::Relaxed);
        }
    }

    /// Sleeps until somebody says that the task is over, at most for `timeout`.
    fn sleep(&self, key: Key, timeout: Duration) {
        let Some(slot) = self.slot(key) else { return };
        let waiters = ring::ask(&slot.words.waiter, SLEEPS);
        if self.is_over(key) {
            // Another thread that waits for the same key may sleep on what was written above, after the
            // wake that was meant for it.
            self.tell_waiters(slot, key.index());
        } else {
            futex::wait(&slot.words.waiter, waiters, Some(timeout));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crowded_when_those_who_wait_and_the_workers_they_keep_busy_are_more_than_the_cpus() {
        // CPUs, workers, and the first thread that is one too many.
        for (cpus, workers, too_many) in
            [(2, 1, 2), (2, 2, 2), (4, 1, 4), (4, 2, 3), (8, 4, 5), (16, 100, 9), (1, 1, 1)]
        {
            let crowd = Crowd::new(cpus, workers);
            let mut awake = Vec::new();
            assert!(!crowd.is_crowded());
            while awake.len() < too_many {
                assert!(!crowd.is_crowded(), "{cpus} {workers} {}", awake.len());
                awake.push(crowd.join());
            }
            assert!(crowd.is_crowded(), "{cpus} {workers} {too_many}");
            awake.pop();
            assert!(!crowd.is_crowded(), "{cpus} {workers}: one has gone");
            awake.clear();
            assert_eq!(crowd.awake.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_deadline_is_the_instant_that_was_meant_or_none() {
        let now = Instant::now();
        assert_eq!(Deadline::from(now).instant(), Some(now));
        let second = Duration::from_secs(1);
        let counted = Deadline::from(second).instant().unwrap();
        assert!(counted >= now + second && counted <= Instant::now() + second);
        assert_eq!(Deadline::NEVER.instant(), None);
        assert_eq!(Deadline::from(Duration::MAX).instant(), None, "no clock gets there");
    }
}
