//! Looks for tasks that wait although somebody could do them. Runs while there are tasks, and only
//! then.

use std::time::Instant;

use super::{Place, Supervisor, TICK};
use crate::key::Key;
use crate::ring;
use crate::shm::{Entry, State};
use crate::sync::{Ordering, fence};
use crate::sys::futex;
use crate::sys::process::Process;

/// Audits without any task before the supervisor sleeps without a time limit.
const IDLE_TICKS: u32 = 20;
/// Audits without progress before sleepers are woken for a task that waits beside them.
const WAKE_TICKS: u32 = 2;
/// Audits without progress before workers that should take a waiting task are replaced. Ticks are
/// counted, not time: a host that was suspended has seen one.
const STALL_TICKS: u32 = 10;

/// What the audits have seen.
#[derive(Default)]
pub(super) struct Audit {
    head: u64,
    ticks_without_progress: u32,
    idle_ticks: u32,
    /// Waiting tasks that had no entry at the last tick.
    orphans: Vec<Key>,
    /// Those that were pushed again.
    pushed_again: Vec<Key>,
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
        if self.core.book.in_use() > 0 {
            self.audit.idle_ticks = 0;
            self.replace_stopped();
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
    pub(super) fn check_progress(&mut self) {
        let core = self.core.clone();
        let region = core.segment.region();
        let ring = region.ring();
        // Relaxed: looked at once a tick, and believed only after several.
        let head = ring.head.load(Ordering::Relaxed);
        if head != self.audit.head || !ring::pending(ring) {
            self.audit.head = head;
            self.audit.ticks_without_progress = 0;
        } else {
            self.audit.ticks_without_progress += 1;
        }
        if head == self.core.tail() {
            self.push_orphans();
        }
        let ticks = self.audit.ticks_without_progress;
        if ticks == 0 {
            return;
        }
        // Who has claimed the entry at the head and does not move on sits in the lock.
        if let Some(holder) = self.holder_of_the_lock() {
            if ticks >= STALL_TICKS {
                self.audit.ticks_without_progress = 0;
                if let Some(process) = self.places.get(holder).and_then(Place::process) {
                    tracing::error!(pid = process.pid, "a worker stays in the lock: replacing it");
                    process.kill();
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
                if let Some(process) = self.places.get(index).and_then(Place::process) {
                    tracing::error!(
                        pid = process.pid,
                        "an idle worker takes no task: replacing it"
                    );
                    process.kill();
                }
            }
        } else if ticks >= WAKE_TICKS {
            for words in region.workers() {
                // A searcher that does not search keeps all others asleep. For one that does, the
                // word is a hint that it misses for a moment.
                words.searching.store(0, Ordering::Relaxed);
                ring::rouse(words, futex::wake_one);
            }
        }
    }

    /// Replaces workers that somebody has stopped while they had no task: they would answer wakes
    /// that are meant for others. One that is stopped in a task keeps it, and may go on.
    pub(super) fn replace_stopped(&mut self) {
        let idle = self.idle_places();
        for (index, place) in self.places.iter_mut().enumerate() {
            let stopped = idle.contains(&index) && place.process().is_some_and(Process::is_stopped);
            place.stopped_ticks = if stopped { place.stopped_ticks + 1 } else { 0 };
            if place.stopped_ticks >= STALL_TICKS
                && let Some(process) = place.process()
            {
                tracing::error!(pid = process.pid, "an idle worker is stopped: replacing it");
                process.kill();
                place.stopped_ticks = 0;
            }
        }
    }

    /// The worker that has claimed the task at the head and not moved the head on.
    pub(super) fn holder_of_the_lock(&self) -> Option<usize> {
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
    pub(super) fn idle_places(&self) -> Vec<usize> {
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
        (0..self.places.len())
            .filter(|index| {
                self.places.get(*index).is_some_and(Place::is_serving)
                    && busy.get(*index) == Some(&false)
            })
            .collect()
    }

    /// Pushes tasks again that wait although the ring is empty: something has moved the
    /// head that should not.
    pub(super) fn push_orphans(&mut self) {
        let region = self.core.segment.region();
        let mut orphans = Vec::new();
        for index in 0..=u16::MAX {
            let Some(slot) = region.slot(index) else { break };
            // Relaxed: believed only at the second tick, and a claim is by exchange.
            let claim = State::unpack(slot.words.claim.load(Ordering::Relaxed));
            if let Some(key) = self.core.book.live_at(index)
                && claim.map(|claim| claim.generation) != key.generation()
            {
                orphans.push(key);
            }
        }
        self.audit.pushed_again.retain(|key| orphans.contains(key));
        for key in &orphans {
            if self.audit.pushed_again.contains(key) {
                tracing::error!(%key, "no worker can claim a task that waits: it ends");
                self.core.give_up(*key);
            } else if self.audit.orphans.contains(key) {
                tracing::error!(%key, "a queued task has lost its place in the ring: pushed again");
                self.core.push_again(*key);
                self.audit.pushed_again.push(*key);
            }
        }
        self.audit.orphans = orphans;
    }
}
