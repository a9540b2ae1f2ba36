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
use crate::shm::{Entry, Owner, Phase, Position, State};
use crate::sync::{Ordering, fence};

/// Audits without any task before the supervisor sleeps without a time limit.
const IDLE_TICKS: u32 = 20;
/// Audits without progress before sleepers are woken for a task that waits beside them.
const WAKE_TICKS: u32 = 2;
/// Audits without progress before workers that should take a waiting task are replaced.
const STALL_TICKS: u32 = 10;
/// How often they are replaced for the same entry before it is the lock that cannot be had.
const STALLS: u32 = 2;

/// Audits from one look for tasks without an entry to the next, while there are entries: it goes
/// through all slots.
const LOSS_TICKS: u32 = 5;
/// Such looks, at least, before a task that is claimed by nobody counts as lost. (A worker that is
/// stopped between two of its steps looks like that for a while.)
const UNOWNED_LOOKS: u32 = 12;

/// What the audits have seen.
#[derive(Default)]
pub(super) struct Audit {
    head: Position,
    ticks_without_progress: u32,
    /// How often workers were replaced because nobody took the entry at the head.
    stalls: u32,
    idle_ticks: u32,
    /// Audits with tasks.
    ticks: u32,
    /// Tasks without an outcome that no worker runs, at the last look.
    open: HashMap<Key, Open>,
}

/// A task without an outcome that no worker runs.
#[derive(Clone, Copy)]
enum Open {
    /// It waits, or is to be skipped: when the head is here, its entry was passed.
    Waits { until: Position },
    /// It is claimed, but by nobody who says so. How many looks have seen this before.
    Unowned { looks: u32 },
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
        // Relaxed: looked at again and again.
        let head = self.core.segment.region().ring().head.load(Ordering::Relaxed);
        // Also for tasks that are over, and taken by another: whoever awaits them has to hear of that.
        let is_awaited = self.core.notices.audit(|key| self.core.is_over(key));
        // Entries without tasks are none that honest parties leave for long.
        if self.core.book.in_use() > 0 || head != self.core.tail() || is_awaited {
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
                // Who keeps pages from here on sees that we sleep, and wakes us.
                self.core.give_back_unused();
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
            self.audit.stalls = 0;
            self.audit.ticks_without_progress = 0;
        } else {
            self.audit.ticks_without_progress += 1;
        }
        self.audit.ticks = self.audit.ticks.wrapping_add(1);
        let is_empty = head == core.tail();
        if (is_empty || self.audit.ticks.is_multiple_of(LOSS_TICKS)) && self.has_lost_tasks() {
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
            self.audit.stalls += 1;
            if self.audit.stalls > STALLS {
                // Nor do those that were new: nobody has the lock, and it says that somebody does.
                self.audit.stalls = 0;
                return self.condemn_all();
            }
            // Suspects first: one that is stopped may sit in the lock that all others wait for.
            let is_stopped = |index: &usize| {
                let process = self.places.get(*index).and_then(|place| place.process());
                process.is_some_and(|process| process.is_stopped())
            };
            let stopped: Vec<usize> = idle.iter().copied().filter(is_stopped).collect();
            for index in if stopped.is_empty() { idle } else { stopped } {
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
                // It may be the one that all wait for: they get the time to go on.
                self.audit.ticks_without_progress = 0;
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

    /// Whether something stands in the segment that honest parties do not leave there: tasks that wait
    /// and have no entry in the ring any more, tasks that are claimed and that nobody runs, a head that
    /// is where it cannot be.
    fn has_lost_tasks(&mut self) -> bool {
        let core = self.core.clone();
        let region = core.segment.region();
        let entries = region.layout().ring_entries;
        let tail = core.tail();
        // Acquire: pairs with the Release in `claim`: the claims that came before it are seen below.
        let head = region.ring().head.load(Ordering::Acquire);
        // Between the two looks at the tail any number of tasks may have come and gone.
        let next_tail = core.tail();
        let ring = region.ring();
        let hides = ring.entries.get((head & (entries - 1)) as usize).is_some_and(|words| {
            // Relaxed: the lock around the tail has ordered it behind the push.
            Entry::fresh(words.entry.load(Ordering::Relaxed), head, entries).is_none()
        });
        // Relaxed: what was read above stays true if the head is still the same.
        let is_hidden = head != next_tail && hides && ring.head.load(Ordering::Relaxed) == head;
        let is_ahead = |of: Position| (head.wrapping_sub(of) as i64) >= 0;
        let mut lost = is_hidden
            || !is_ahead(tail.wrapping_sub(entries))
            || is_ahead(next_tail.wrapping_add(1));
        let before = std::mem::take(&mut self.audit.open);
        for index in 0..=u16::MAX {
            let Some(slot) = region.slot(index) else { break };
            let Some(key) = core.book.accepted_at(index).filter(|key| core.is_held(*key)) else {
                continue;
            };
            // Relaxed: believed only at a later look.
            let claim = State::unpack(slot.words.claim.load(Ordering::Relaxed));
            let claim = claim.filter(|claim| Some(claim.generation) == key.generation());
            let before = before.get(&key);
            let now = match claim {
                // Its entry is to be reached yet.
                None | Some(State { phase: Phase::Cancelled, .. }) => match before {
                    Some(&Open::Waits { until }) => {
                        lost |= is_ahead(until);
                        Open::Waits { until }
                    }
                    // The entry was pushed before this.
                    _ => Open::Waits { until: core.tail() },
                },
                Some(claim) if self.runs(claim.owner, key) => continue,
                Some(_) => match before {
                    Some(&Open::Unowned { looks }) => {
                        lost |= looks >= UNOWNED_LOOKS;
                        Open::Unowned { looks: looks + 1 }
                    }
                    _ => Open::Unowned { looks: 0 },
                },
            };
            self.audit.open.insert(key, now);
        }
        if lost {
            self.audit.open.clear();
        }
        lost
    }

    /// A task has a new entry.
    pub(super) fn note_push(&mut self, key: Key) {
        self.audit.open.remove(&key);
    }

    /// Whether this owner is a worker that says that it runs this task.
    fn runs(&self, owner: Owner, key: Key) -> bool {
        let place = owner.place().map(usize::from);
        let words = place.and_then(|place| self.core.segment.region().workers().get(place));
        let row = place.and_then(|place| self.places.get(place));
        row.is_some_and(|row| row.worker.is_some())
            // Relaxed: believed only after several looks.
            && words.is_some_and(|words| words.running.load(Ordering::Relaxed) == key.get())
    }
}
