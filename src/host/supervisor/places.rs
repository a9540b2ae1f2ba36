//! The rows of the worker table, as the supervisor knows them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::builder::Retirement;
use crate::sys::memory;
use crate::sys::process::Process;

/// One place in the worker table.
#[derive(Default)]
pub(super) struct Place {
    pub(super) worker: Option<Worker>,
    /// How many workers this place has had.
    pub(super) incarnation: u32,
}

/// A process that is at a place, or is about to be, or was until a moment ago.
pub(crate) struct Worker {
    pub(crate) life: Life,
    /// When this part of its life has begun.
    pub(super) since: Instant,
    /// When it began to serve.
    pub(super) served: Option<Instant>,
    /// The process, once the fork server has told it.
    pub(crate) process: Option<Arc<Process>>,
    /// It has said that it is ready. (It may do so before the server says that it exists.)
    pub(super) ready: bool,
    /// It has told itself what went wrong.
    pub(super) has_told: bool,
    /// Which fork server's.
    pub(super) version: u32,
    /// When it is replaced although nothing is wrong with it.
    pub(super) retirement: Retirement,
    pub(super) retires: bool,
    /// Audits, without a gap, that have found its model keeping tensors of tasks that are over.
    pub(super) keeps_for: u32,
    /// Audits in a row that found it idle and stopped.
    pub(super) stopped_ticks: u32,
    /// The task that it runs, and how many audits in a row have seen it run.
    pub(crate) busy: Option<(u64, u32)>,
    /// Why the engine has killed it, if it has.
    pub(super) killed_for: Option<&'static str>,
}

/// The parts of a worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Asked for.
    Requested,
    /// A process that is not ready yet.
    Starting,
    /// Ready; takes no tasks yet.
    Standing,
    /// Takes tasks.
    Serving,
    /// Ends after the task at hand; somebody else has its seat.
    Leaving,
    /// Ended, says the kernel; how, the server will say.
    Ended,
}

impl Worker {
    pub(super) fn new(version: u32, retirement: Retirement, now: Instant) -> Self {
        Self {
            life: Life::Requested,
            since: now,
            served: None,
            process: None,
            ready: false,
            has_told: false,
            version,
            retirement,
            retires: false,
            keeps_for: 0,
            stopped_ticks: 0,
            busy: None,
            killed_for: None,
        }
    }

    pub(super) fn enter(&mut self, life: Life, now: Instant) {
        (self.life, self.since) = (life, now);
        if life == Life::Serving {
            self.served = Some(now);
        }
    }

    /// Kills it. Of several reasons the first one is told.
    pub(super) fn kill(&mut self, reason: &'static str) {
        if let Some(process) = &self.process
            && self.life != Life::Ended
        {
            self.killed_for.get_or_insert(reason);
            process.kill();
        }
    }

    /// Whether it has a task that it may still answer.
    pub(super) fn may_run_tasks(&self) -> bool {
        matches!(self.life, Life::Serving | Life::Leaving)
    }
}

impl Place {
    /// The worker's life, if there is one.
    pub(super) fn life(&self) -> Option<Life> {
        self.worker.as_ref().map(|worker| worker.life)
    }

    /// The process, unless it has ended.
    pub(super) fn process(&self) -> Option<&Arc<Process>> {
        let worker = self.worker.as_ref().filter(|worker| worker.life != Life::Ended)?;
        worker.process.as_ref()
    }

    /// Whether there is a process, ended or not.
    pub(super) fn has_process(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.process.is_some())
    }

    pub(super) fn kill(&mut self, reason: &'static str) {
        if let Some(worker) = &mut self.worker {
            worker.kill(reason);
        }
    }
}

/// A right to have a worker: one for each worker that serves, and one for the spare.
pub(super) struct Seat {
    /// The place whose worker has it.
    pub(super) holder: Option<usize>,
    /// The place whose worker is to have it next: it is being started while the holder serves.
    pub(super) heir: Option<usize>,
    /// Short lives in a row.
    pub(super) failures: u32,
    /// When the next worker may be asked for.
    pub(super) not_before: Instant,
}

/// A worker, or a fork server, that lived shorter than this has failed.
pub(super) const SHORT_LIFE: Duration = Duration::from_secs(1);

const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

impl Seat {
    pub(super) fn new(now: Instant) -> Self {
        Self { holder: None, heir: None, failures: 0, not_before: now }
    }

    /// Takes note that a worker that had this seat, or was to have it, has ended. `served`: since
    /// when it took tasks. `blameless`: somebody wanted it to end.
    pub(super) fn note_end(&mut self, served: Option<Instant>, blameless: bool, now: Instant) {
        let long_lived = served.is_some_and(|since| now.duration_since(since) >= SHORT_LIFE);
        if long_lived {
            self.failures = 0;
        }
        if !long_lived && !blameless {
            self.failures = self.failures.saturating_add(1);
        }
        // The first death in a row is replaced at once.
        let wait = if self.failures > 1 && !blameless {
            back_off(self.failures - 1)
        } else {
            Duration::ZERO
        };
        self.not_before = now + wait;
    }
}

/// How long to wait after so many failures in a row: doubled each time, within limits, less up to a
/// half by chance, so that engines that failed together do not try again together.
pub(super) fn back_off(failures: u32) -> Duration {
    let most = BACK_OFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10));
    jittered(most.min(BACK_OFF_MAX), 0.5, 1.0)
}

/// `duration` times something between the two, by chance.
pub(super) fn jittered(duration: Duration, least: f64, most: f64) -> Duration {
    // Without a random number: the middle.
    let random = memory::random_u64().unwrap_or(u64::MAX / 2) as f64 / u64::MAX as f64;
    duration.mul_f64(least + (most - least) * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_life_is_waited_for_ever_longer_and_a_long_one_is_forgiven() {
        let now = Instant::now();
        let mut seat = Seat::new(now);
        seat.note_end(None, false, now);
        assert_eq!(seat.not_before, now, "the first one is replaced at once");
        let mut longest = Duration::ZERO;
        for failure in 2..20 {
            seat.note_end(Some(now), false, now);
            let wait = seat.not_before - now;
            assert!(wait >= BACK_OFF_MIN / 2 && wait <= BACK_OFF_MAX, "{failure}: {wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest >= BACK_OFF_MAX / 2);
        seat.note_end(Some(now), true, now);
        assert_eq!(seat.not_before, now, "nobody's fault");
        seat.note_end(Some(now), false, now + SHORT_LIFE);
        assert_eq!((seat.not_before, seat.failures), (now + SHORT_LIFE, 0));
    }

    #[test]
    fn waits_differ_by_chance_within_their_limits() {
        let second = Duration::from_secs(1);
        let waits: Vec<_> = (0..100).map(|_| jittered(second, 0.5, 1.0)).collect();
        assert!(waits.iter().all(|wait| (second / 2..=second).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
