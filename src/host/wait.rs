//! How a host thread waits for an answer: spin for a bounded time, then sleep.

use std::time::{Duration, Instant};

use super::answer::Answer;
use super::core::Core;
use crate::error::WaitError;
use crate::key::Key;
use crate::shm::PARKED;
use crate::sync::{Ordering, fence, spin_loop};
use crate::sys::futex;

/// Looks at the slot between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 64;

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

impl Core {
    /// Waits until the task of `key` is over or the deadline has passed, and takes its outcome.
    #[inline]
    pub(crate) fn wait(&self, key: Key, deadline: Deadline) -> Result<Answer, WaitError> {
        let mut answer = Answer::new();
        if self.retrieve_into(key, &mut answer)? {
            return Ok(answer);
        }
        let deadline = deadline.instant();
        self.spin_for(key, deadline);
        while !self.retrieve_into(key, &mut answer)? {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(WaitError::TimedOut);
            }
            self.sleep(key, left.map_or(MAX_SLEEP, |left| left.min(MAX_SLEEP)));
        }
        Ok(answer)
    }

    /// Spins for the engine's budget, unless as many threads spin as there are CPUs to spare.
    fn spin_for(&self, key: Key, deadline: Option<Instant>) {
        // Relaxed: a count of spinners, in the host's own memory; nothing is handed over.
        if self.spinners.fetch_add(1, Ordering::Relaxed) < self.max_spinners {
            let start = Instant::now();
            let end = deadline.map_or(start + self.spin, |d| d.min(start + self.spin));
            'spin: loop {
                for _ in 0..SPINS_PER_CLOCK {
                    if self.is_over(key) {
                        break 'spin;
                    }
                    spin_loop();
                }
                if Instant::now() >= end {
                    break;
                }
            }
        }
        self.spinners.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sleeps until somebody says that the task is over, at most for `timeout`.
    fn sleep(&self, key: Key, timeout: Duration) {
        let Some(slot) = self.slot(key) else { return };
        slot.words.waiter.store(PARKED, Ordering::Relaxed);
        // SeqCst: pairs with the fences in `peer::serve` and `wake_waiters`. Either whoever ends
        // the task sees that somebody sleeps, or we see that it is over.
        fence(Ordering::SeqCst);
        if !self.is_over(key) {
            futex::wait(&slot.words.waiter, PARKED, Some(timeout));
        }
    }
}
