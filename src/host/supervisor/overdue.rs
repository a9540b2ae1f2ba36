//! Tasks that are over for the host, by deadline or by cancellation, while a worker still has them:
//! the worker is interrupted, if the model wants that, and then killed.

use std::time::{Duration, Instant};

use super::{Supervisor, TICK};
use crate::host::wait::FAR;
use crate::key::Key;
use crate::ring;
use crate::shm::{Owner, State};
use crate::sync::Ordering;

/// How long a worker that has finished may take to publish what it has, before it is killed too: it
/// keeps the slot.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(1);

/// Why the worker of such a task is killed.
pub(super) const OVERDUE: &str = "its task was cancelled, or not done by its deadline";

/// A task that is over and that a worker still has.
pub(super) struct Overdue {
    key: Key,
    /// When its worker is killed.
    kill_at: Instant,
}

impl Supervisor {
    pub(super) fn note_overdue(&mut self, key: Key, now: Instant) {
        if self.overdue.iter().any(|task| task.key == key) {
            // It was cancelled, and now its deadline has passed: it is interrupted once.
            return;
        }
        let grace = match self.config.interrupt {
            Some(grace) if self.interrupt(key) => grace.min(FAR),
            _ => Duration::ZERO,
        };
        self.overdue.push(Overdue { key, kill_at: now + grace });
    }

    /// Asks the worker that runs this task to break off. It does so only if it still runs it when
    /// the signal arrives.
    fn interrupt(&self, key: Key) -> bool {
        let (Some(slot), Some(generation)) = (self.core.slot(key), key.generation()) else {
            return false;
        };
        // Relaxed: the worker compares the key with that of the task it runs.
        let claim = State::unpack(slot.words.claim.load(Ordering::Relaxed));
        let owner = claim.filter(|claim| claim.generation == generation).map(|claim| claim.owner);
        let Some(place) = owner.and_then(Owner::place).map(usize::from) else { return false };
        let words = self.core.segment.region().workers().get(place);
        let process = self.places.get(place).and_then(|place| place.process());
        let (Some(words), Some(process)) = (words, process) else { return false };
        // Release: pairs with the Acquire load in the worker's signal handler; the signal itself comes
        // later.
        words.interrupt.store(key.get(), Ordering::Release);
        process.interrupt();
        true
    }

    /// Condemns the tasks whose time is up and kills their workers; forgets those that no worker has
    /// any more.
    pub(super) fn condemn_overdue(&mut self, now: Instant) {
        let core = &self.core;
        self.overdue.retain(|task| core.is_held(task.key) && core.book.has_ended_early(task.key));
        let is_due = |task: &&Overdue| now >= task.kill_at.max(self.no_judging_before);
        let due: Vec<_> =
            self.overdue.iter().filter(is_due).map(|task| (task.key, task.kill_at)).collect();
        for (key, kill_at) in due {
            self.condemn(key, kill_at, now);
        }
    }

    fn condemn(&mut self, key: Key, kill_at: Instant, now: Instant) {
        let core = self.core.clone();
        let (Some(slot), Some(generation)) = (core.slot(key), key.generation()) else { return };
        // It may wait again by now: its worker has died, and it was to be done once more.
        if ring::cancel(slot.words, generation) {
            return;
        }
        let mut owner = ring::condemn(slot.words, generation);
        if owner.is_none() && now >= kill_at + PUBLISH_PATIENCE {
            // It has finished, and does not publish.
            let claim = State::unpack(slot.words.claim.load(Ordering::Relaxed));
            owner = claim
                .map(|claim| claim.owner)
                .filter(|owner| ring::unpublished_of(slot.words, *owner) == Some(generation));
        }
        if let Some(place) = owner.and_then(Owner::place)
            && let Some(place) = self.places.get_mut(usize::from(place))
            && place.worker.as_ref().is_some_and(|worker| worker.killed_for.is_none())
        {
            place.kill(OVERDUE);
        }
    }

    pub(super) fn overdue_timer(&self, now: Instant) -> Option<Instant> {
        let next =
            self.overdue.iter().map(|task| task.kill_at.max(self.no_judging_before)).min()?;
        // Those that are killed already are looked at again until they are dead.
        Some(if next > now { next } else { now + TICK })
    }
}
