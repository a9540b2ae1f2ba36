//! After a death: the task of the dead is settled, or done once more; its seat becomes free.

use std::time::Instant;

use super::overdue::OVERDUE;
use super::places::{Life, Worker};
use super::staff::UNNEEDED;
use super::versions::Stage;
use super::{Ending, Supervisor};
use crate::error::{Death, DeathReport, StartError, TaskError};
use crate::key::Key;
use crate::ring;
use crate::shm::{BROKEN, Owner, State};
use crate::sync::{Ordering, fence};
use crate::sys::futex;
use crate::wire::Exit;

/// Workers in a row that cannot be had, before `submit` says so.
const DOWN_AFTER: u32 = 3;

/// Why a worker is killed that was replaced and does not end.
pub(super) const NOT_ENDED: &str = "it did not end";
/// Why a worker is killed that does not get ready.
pub(super) const NOT_READY: &str = "it did not get ready";

impl Supervisor {
    /// A worker could not be made.
    pub(super) fn bury_unborn(&mut self, index: usize, now: Instant) {
        if let Some(worker) = self.places.get_mut(index).and_then(|place| place.worker.take()) {
            self.failed_starts = self.failed_starts.saturating_add(1);
            self.vacate_seat(index, &worker, false, now);
        }
    }

    /// Settles what a worker that has ended leaves behind, and makes its place free.
    pub(super) fn bury(&mut self, index: usize, exit: Exit, last_words: String, now: Instant) {
        let Some(worker) = self.places.get_mut(index).and_then(|place| place.worker.take()) else {
            return;
        };
        let pid = worker.process.as_ref().map_or(0, |process| process.pid);
        let in_order = worker.killed_for == Some(UNNEEDED)
            || exit == Exit::Code(0) && (self.ending != Ending::No || self.has_left(index));
        if !in_order {
            // Relaxed: a count for those who watch.
            self.shared.deaths.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(pid, worker = index, %exit, killed_for = worker.killed_for, "a worker has ended");
        }
        let blameless = in_order || worker.killed_for == Some(OVERDUE) || exit == Exit::WithServer;
        self.vacate_seat(index, &worker, blameless, now);
        let report = DeathReport {
            out_of_memory: match worker.killed_for {
                Some(_) => Some(false),
                None if exit == Exit::Signal(9) => self.oom.take_kill(),
                None => Some(false),
            },
            killed_for: worker.killed_for,
            last_words,
            earlier: Vec::new(),
        };
        let words = self.core.segment.region().workers().get(index);
        // Relaxed: written before the worker ended, and only a hint: a fault too many is no harm.
        let is_broken = words.is_some_and(|words| words.away.load(Ordering::Relaxed) == BROKEN);
        self.settle_dead(index, Death { pid, exit }, &report);
        if is_broken {
            self.condemn_all();
        }
        if !worker.ready && !blameless {
            self.failed_starts = self.failed_starts.saturating_add(1);
        }
        if !worker.ready && !blameless && !worker.has_told {
            let (who, stage) = (format!("worker {index}"), Stage::Ready.text());
            let deadline = self.config.start_deadline;
            let error = if worker.killed_for == Some(NOT_READY) {
                StartError::TimedOut { deadline, stage }
            } else {
                StartError::Died { who, pid, stage, exit }
            };
            self.server_trouble(worker.version, error);
        }
        self.publish_workers();
        self.check_availability();
    }

    /// Whether the worker at this place has no seat any more: it was replaced.
    fn has_left(&self, place: usize) -> bool {
        let has = |seat: &super::Seat| seat.holder == Some(place) || seat.heir == Some(place);
        !self.seats.iter().any(has) && !has(&self.spare)
    }

    fn vacate_seat(&mut self, place: usize, worker: &Worker, blameless: bool, now: Instant) {
        for seat in self.seats.iter_mut().chain([&mut self.spare]) {
            if seat.holder == Some(place) {
                seat.holder = None;
            } else if seat.heir == Some(place) {
                seat.heir = None;
            } else {
                continue;
            }
            seat.note_end(worker.served, blameless, now);
        }
    }

    /// Ends the task that a dead worker had, or has it done once more; tells all who wait for anything
    /// of its, and passes on the wake that it may have swallowed.
    pub(super) fn settle_dead(&mut self, index: usize, death: Death, report: &DeathReport) {
        let core = self.core.clone();
        let region = core.segment.region();
        let owner = u16::try_from(index).ok().and_then(Owner::worker);
        let (Some(owner), Some(words)) = (owner, region.workers().get(index)) else { return };
        ring::clear_worker(words);
        // SeqCst: pairs with the fences of submits and of `prepare_to_park`: who parks from here on
        // is seen below, and a submit that does not see the dead worker search no more is seen by
        // who parks.
        fence(Ordering::SeqCst);
        for slot_index in 0..=u16::MAX {
            let Some(slot) = region.slot(slot_index) else { break };
            if let Some(generation) = ring::unpublished_of(slot.words, owner) {
                self.settle_task(Key::new(slot_index, generation), death, report);
            } else if State::unpack(slot.words.done.load(Ordering::Relaxed))
                .is_some_and(|done| done.owner == owner)
            {
                // DONE, but perhaps nobody was told; it may have died between the mark and the wake.
                if core.book.live_at(slot_index).is_some() {
                    // Whatever the word says: it may have died between taking it back and the wake.
                    // Relaxed: who sleeps looks at `done` before.
                    slot.words.waiter.store(0, Ordering::Relaxed);
                    futex::wake_all(&slot.words.waiter);
                    core.notices.mark(slot_index);
                }
            }
        }
        core.notices.look_after_death();
        // All of them: a wake that it was about to pass on may be marked as given.
        self.rouse_all();
    }

    /// Wakes every worker, whatever there is to do.
    pub(super) fn rouse_all(&self) {
        for (place, words) in self.places.iter().zip(self.core.segment.region().workers()) {
            if place.worker.is_some() {
                ring::rouse(words, futex::wake_one);
            }
        }
    }

    /// The task of a dead worker: done once more, if the model allows that and it has not killed too
    /// many already, or ended.
    fn settle_task(&mut self, key: Key, death: Death, report: &DeathReport) {
        let earlier = self.histories.remove(&key).unwrap_or_default();
        let is_live = self.core.book.live_at(key.index()) == Some(key);
        let may_retry = is_live
            && !self.rebuilds
            && self.ending != Ending::Stopping
            && earlier.len() < self.config.retries as usize;
        if may_retry && self.core.push_again(key) {
            self.note_push(key);
            tracing::warn!(%key, pid = death.pid, "the task of a dead worker is done once more");
            self.histories.insert(key, earlier.into_iter().chain([death]).collect());
            return;
        }
        let report = Box::new(DeathReport { earlier, ..report.clone() });
        let Death { pid, exit } = death;
        self.core.settle(key, TaskError::Died { pid, exit, report });
    }

    /// Forgets the histories of tasks that have ended otherwise.
    pub(super) fn forget_histories(&mut self) {
        let book = &self.core.book;
        self.histories.retain(|key, _| book.live_at(key.index()) == Some(*key));
    }

    /// Takes no tasks while no worker can be had, and ends those that wait.
    pub(super) fn check_availability(&mut self) {
        if self.ending != Ending::No || !self.is_up {
            return;
        }
        let takes_tasks =
            |place: &super::Place| matches!(place.life(), Some(Life::Serving | Life::Standing));
        let nobody = !self.places.iter().any(takes_tasks);
        let failures = self.failed_starts.max(self.server_failures);
        if nobody && failures >= DOWN_AFTER {
            let reason = format!("{failures} starts in a row have failed: {}", self.last_trouble);
            tracing::error!(reason, "no worker can be had: taking no tasks");
            self.core.suspend(&reason);
            self.core.end_waiting(|| TaskError::Unavailable { reason: reason.clone() });
        }
    }

    /// A worker serves: tasks are taken, again.
    pub(super) fn note_service(&mut self) {
        (self.failed_starts, self.server_failures) = (0, 0);
        self.core.resume();
    }
}
