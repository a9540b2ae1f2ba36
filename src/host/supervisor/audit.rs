//! Looks for tasks that wait although somebody could do them, and for workers that hang. Runs while
//! there are tasks, and only then.
//!
//! Ticks are counted, not time: a host that was suspended has seen one.

use std::collections::HashMap;
use std::time::Instant;

use super::places::Life;
use super::{Supervisor, TICK};
use crate::key::Key;
use crate::ring;
use crate::shm::{Entry, Position, State};
use crate::sync::{Ordering, fence};

/// Audits without any task before the supervisor sleeps without a time limit.
const IDLE_TICKS: u32 = 20;
/// Audits without progress before sleepers are woken for a task that waits beside them.
const WAKE_TICKS: u32 = 2;
/// Audits without progress before workers that should take a waiting task are replaced.
const STALL_TICKS: u32 = 10;

/// What the audits have seen.
#[derive(Default)]
pub(super) struct Audit {
    head: Position,
    ticks_without_progress: u32,
    idle_ticks: u32,
    /// Waiting tasks, and where the head was when they were first seen.
    waiting: HashMap<Key, Position>,
}

impl Supervisor {
    pub(super) fn resume_ticks(&mut self) {
        // Relaxed: a submitter that still sees 1 rings the bell once more.
        self.core.mailbox.asleep.store(0, Ordering::Relaxed);
        self.audit = Audit::default();
        self.next_tick = Some(Instant::now() + TICK);
    }

    /// One audit. Stops the ticks when there has been nothing to audit for a while.
    pub(super) fn tick(&mut self, now: Instant) {
        self.core.reclaim();
        self.next_tick = Some(now + TICK);
        self.retire(now);
        if self.core.book.in_use() > 0 {
            self.audit.idle_ticks = 0;
            self.watch_the_busy();
            self.replace_stopped();
            self.forget_histories();
            return self.check_progress();
        }
        self.audit.ticks_without_progress = 0;
        self.audit.idle_ticks += 1;
        if self.audit.idle_ticks >= IDLE_TICKS {
            let asleep = &self.core.mailbox.asleep;
            // Relaxed, here and below: ordered by the fence.
            asleep.store(1, Ordering::Relaxed);
            // SeqCst: pairs with the fence in a submit's `wake_one`. Either the submitter sees
            // that we sleep, or we see that its slot is in use.
            fence(Ordering::SeqCst);
            if self.core.book.in_use() > 0 {
                asleep.store(0, Ordering::Relaxed);
            } else {
                self.next_tick = None;
            }
        }
    }

    /// Finds tasks that wait although somebody could do them.
    fn check_progress(&mut self) {
        let core = self.core.clone();
        let ring = core.segment.region().ring();
        // Relaxed: looked at once a tick, and believed only after several.
        let head = ring.head.load(Ordering::Relaxed);
        if head != self.audit.head || !ring::pending(ring) {
            self.audit.head = head;
            self.audit.ticks_without_progress = 0;
        } else {
            self.audit.ticks_without_progress += 1;
        }
        if self.has_lost_entries(head) {
            return self.condemn_all();
        }
        let ticks = self.audit.ticks_without_progress;
        if ticks == 0 {
            return;
        }
        // Who has claimed the entry at the head and does not move on sits in the lock.
        if let Some(holder) = self.holder_of_the_lock() {
            if ticks >= STALL_TICKS {
                self.audit.ticks_without_progress = 0;
                if let Some(place) = self.places.get_mut(holder) {
                    tracing::error!(holder, "a worker stays in the lock: replacing it");
                    place.kill("it stayed in the workers' lock");
                }
            }
            return;
        }
        let idle = self.idle_places();
        if idle.is_empty() {
            // All are busy: the queue may wait.
            self.audit.ticks_without_progress = 0;
        } else if ticks >= STALL_TICKS {
            // One of them sits in the lock, or they do not wake up.
            self.audit.ticks_without_progress = 0;
            for index in idle {
                if let Some(place) = self.places.get_mut(index) {
                    tracing::error!(index, "an idle worker takes no task: replacing it");
                    place.kill("it took no task while one was waiting");
                }
            }
        } else if ticks >= WAKE_TICKS {
            for words in core.segment.region().workers() {
                // A searcher that does not search keeps all others asleep. For one that does, the
                // word is a hint that it misses for a moment.
                words.searching.store(0, Ordering::Relaxed);
            }
            self.rouse_all();
        }
    }

    /// Counts for how long workers have been at the same task. That they hang is told, not judged.
    fn watch_the_busy(&mut self) {
        let hung_after = self.config.hung_ticks;
        let mut changed = false;
        for (place, words) in self.places.iter_mut().zip(self.core.segment.region().workers()) {
            let Some(worker) = &mut place.worker else { continue };
            // Relaxed: a hint.
            let running = words.running.load(Ordering::Relaxed);
            worker.busy = match worker.busy {
                _ if running == 0 || !worker.may_run_tasks() => None,
                Some((key, ticks)) if key == running => Some((key, ticks.saturating_add(1))),
                _ => Some((running, 0)),
            };
            let pid = worker.process.as_ref().map_or(0, |process| process.pid);
            if worker.busy.is_some_and(|(_, ticks)| ticks == hung_after) {
                tracing::warn!(pid, after = ?hung_after * TICK, "a worker hangs in a task");
            }
            changed |= worker.busy.is_some_and(|(_, ticks)| ticks > 0);
        }
        if changed {
            self.publish_workers();
        }
    }

    /// Replaces workers that somebody has stopped while they had no task: they would answer wakes
    /// that are meant for others. One that is stopped in a task keeps it, and may go on.
    fn replace_stopped(&mut self) {
        let idle = self.idle_places();
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some(worker) = &mut place.worker else { continue };
            let is_stopped = idle.contains(&index)
                && worker.process.as_ref().is_some_and(|process| process.is_stopped());
            worker.stopped_ticks = if is_stopped { worker.stopped_ticks + 1 } else { 0 };
            if worker.stopped_ticks >= STALL_TICKS {
                worker.stopped_ticks = 0;
                tracing::error!(index, "an idle worker is stopped: replacing it");
                worker.kill("it was stopped while it had no task");
            }
        }
    }

    /// The worker that has claimed the task at the head and not moved the head on.
    fn holder_of_the_lock(&self) -> Option<usize> {
        let region = self.core.segment.region();
        let ring = region.ring();
        let entries = ring.entries.len() as u64;
        // Relaxed, here and below: looked at once a tick, and believed only after several.
        let head = ring.head.load(Ordering::Relaxed);
        let words = ring.entries.get((head & (entries - 1)) as usize)?;
        let key = Entry::fresh(words.entry.load(Ordering::Relaxed), head, entries)??;
        let claim = region.slot(key.index())?.words.claim.load(Ordering::Relaxed);
        let claim = State::unpack(claim).filter(|s| Some(s.generation) == key.generation())?;
        claim.owner.place().map(usize::from)
    }

    /// Workers that serve and run no task.
    fn idle_places(&self) -> Vec<usize> {
        let region = self.core.segment.region();
        let mut busy = vec![false; self.places.len()];
        for index in 0..=u16::MAX {
            let Some(slot) = region.slot(index) else { break };
            // Relaxed: looked at once a tick, and believed only after several.
            let claim = State::unpack(slot.words.claim.load(Ordering::Relaxed));
            let Some(owner) = claim.map(|claim| claim.owner) else { continue };
            if ring::unpublished_of(slot.words, owner).is_some()
                && let Some(busy) = owner.place().and_then(|place| busy.get_mut(usize::from(place)))
            {
                *busy = true;
            }
        }
        for (words, busy) in region.workers().iter().zip(&mut busy) {
            // Relaxed: as above.
            *busy |= words.away.load(Ordering::Relaxed) != 0;
        }
        let serves = |place: &super::Place| place.life() == Some(Life::Serving);
        let idle = self.places.iter().zip(busy).enumerate();
        idle.filter(|(_, (place, busy))| serves(place) && !busy).map(|(index, _)| index).collect()
    }

    /// Whether tasks wait that have no entry in the ring any more, or the head is where it cannot be:
    /// somebody has written there who should not.
    fn has_lost_entries(&mut self, head: Position) -> bool {
        let region = self.core.segment.region();
        let entries = region.layout().ring_entries;
        let tail = self.core.tail();
        let mut waiting = HashMap::new();
        for index in 0..=u16::MAX {
            let Some(slot) = region.slot(index) else { break };
            // Relaxed: believed only at the second tick, and a claim is by exchange.
            let claim = State::unpack(slot.words.claim.load(Ordering::Relaxed));
            if let Some(key) = self.core.book.live_at(index)
                && claim.map(|claim| claim.generation) != key.generation()
            {
                waiting.insert(key, self.audit.waiting.get(&key).copied().unwrap_or(head));
            }
        }
        let is_lost = |(key, since): (&Key, &Position)| {
            let seen_before = self.audit.waiting.contains_key(key);
            seen_before && (head == tail || head.wrapping_sub(*since) >= entries)
        };
        // The tail was read after the head.
        let lost = tail.wrapping_sub(head) > entries || waiting.iter().any(is_lost);
        self.audit.waiting = if lost { HashMap::new() } else { waiting };
        lost
    }
}
