//! After a death: the task of the dead is settled, its place becomes free.

use std::time::{Duration, Instant};

use super::{Ending, KILL_PATIENCE, Place, Stage, Supervisor, WorkerLife, back_off};
use crate::error::{StartError, TaskError};
use crate::key::Key;
use crate::ring;
use crate::shm::{Owner, State};
use crate::sync::{Ordering, fence};
use crate::sys::futex;
use crate::wire::Exit;

/// A worker that lived shorter than this counts as a failed start.
const SHORT_LIFE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Settles what a worker that has ended leaves behind, and makes its place free.
    pub(super) fn bury(&mut self, index: usize, exit: Exit, now: Instant) {
        self.note_end(index, now);
        let (stage, ending) = (self.stage, self.ending != Ending::No);
        let Some(place) = self.places.get_mut(index) else { return };
        let vacant = WorkerLife::Vacant { not_before: now };
        let (process, served) = match std::mem::replace(&mut place.worker, vacant) {
            WorkerLife::Ended { process, served, .. } => (process, served),
            // Waits for its time already.
            life @ WorkerLife::Vacant { .. } => return place.worker = life,
            // Asked for, and never heard of.
            _ => return,
        };
        let long_lived = served.is_some_and(|since| now.duration_since(since) >= SHORT_LIFE);
        let in_order = ending && exit == Exit::Code(0);
        place.failures = if long_lived || in_order { 0 } else { place.failures.saturating_add(1) };
        // The first death in a row is replaced at once.
        let wait = if place.failures > 1 { back_off(place.failures - 1) } else { Duration::ZERO };
        place.worker = WorkerLife::Vacant { not_before: now + wait };
        let pid = process.pid;
        if !ending || exit != Exit::Code(0) {
            tracing::warn!(pid, worker = index, %exit, "a worker has ended");
        }
        self.settle_dead(index, pid, exit);
        if served.is_none() && stage != Stage::Serving {
            self.complain(StartError::Died {
                who: format!("worker {index}"),
                pid,
                stage: stage.text(),
                exit,
            });
        }
        self.publish_pids();
    }

    /// Ends the task that a dead worker had, tells all who wait for anything of its, and passes on
    /// the wake that it may have swallowed.
    pub(super) fn settle_dead(&self, index: usize, pid: u32, exit: Exit) {
        let region = self.core.segment.region();
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
                self.core.settle(Key::new(slot_index, generation), TaskError::Died { pid, exit });
            } else if State::unpack(slot.words.done.load(Ordering::Relaxed))
                .is_some_and(|done| done.owner == owner)
            {
                // DONE, but perhaps nobody was told; it may have died between the mark and the wake.
                if self.core.book.live_at(slot_index).is_some() {
                    futex::wake_all(&slot.words.waiter);
                }
            }
        }
        // All of them: a wake that it was about to pass on may be marked as given.
        for words in region.workers() {
            ring::rouse(words, futex::wake_one);
        }
    }

    /// The fork server is gone, or not to be trusted: its workers go with it.
    pub(super) fn lose_server(&mut self, now: Instant) {
        let Some(server) = self.server.take() else { return };
        let pid = server.pid();
        drop(server);
        let stage = self.stage;
        self.back_off_server(now);
        if self.ending == Ending::No {
            tracing::error!(pid, "the fork server has ended");
        }
        let deadline = now + KILL_PATIENCE;
        for index in 0..self.places.len() {
            let ended = self.places.get(index).and_then(Place::process).is_none_or(|process| {
                process.kill_with_group();
                process.has_ended_by(deadline)
            });
            // One that the kernel has not ended yet is buried when it has.
            if ended {
                self.bury(index, Exit::Unknown, now);
            }
        }
        self.complain(StartError::Died {
            who: "the fork server".to_owned(),
            pid,
            stage: stage.text(),
            exit: Exit::Unknown,
        });
    }

    /// Replaces the worker that has written nonsense; all of them if nobody knows which.
    pub(super) fn replace_faulty(&mut self, place: Option<u16>) {
        let place = place.filter(|place| usize::from(*place) < self.places.len());
        tracing::error!(?place, "a worker wrote into the segment what no worker writes");
        for (index, candidate) in self.places.iter().enumerate() {
            if place.is_none_or(|place| usize::from(place) == index)
                && let Some(process) = candidate.process()
            {
                process.kill();
            }
        }
    }
}
