//! The host's own record of its slots: which are free, whose task is in each, and how it stands.
//!
//! A worker can write anything into the segment, so nothing that must not be told wrong is kept
//! there: not the generation, not the free slots, not the verdict on a task whose worker died.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::free_slots::FreeSlots;
use crate::error::TaskError;
use crate::key::{Generation, Key};
use crate::sync::{AtomicU64, Ordering};

/// How a slot stands with the host. Three bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// In the free stack; the generation is that of its last task.
    Free = 0,
    /// One thread writes a task into it.
    Filling = 1,
    /// A task was accepted; the slot's words tell how far it is.
    Live = 2,
    /// The host has ended the task; its verdict is in `verdicts`. A worker may still have it.
    Settled = 3,
    /// One thread takes the outcome out.
    Taking = 4,
    /// Nobody wants the outcome; free once no worker can write the slot any more.
    Abandoned = 5,
}

const STANDING_BITS: u32 = 3;

const fn pack(standing: Standing, generation: Generation) -> u64 {
    generation.get() << STANDING_BITS | standing as u64
}

/// What the book knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Its task is with the workers, or done.
    Live,
    /// The host has ended its task.
    Settled,
    /// Retrieved or abandoned before.
    Gone,
    /// Never given.
    Unknown,
}

/// The record of all slots.
pub(crate) struct Book {
    /// Standing and generation of each slot.
    slots: Box<[AtomicU64]>,
    /// The generation before the first that was given.
    origin: Generation,
    free: FreeSlots,
    /// Slots whose task was abandoned while a worker may have had it.
    abandoned: Mutex<Vec<Key>>,
    /// Why settled tasks have no answer. Rare, so one lock for all.
    verdicts: Mutex<HashMap<Key, TaskError>>,
}

impl Book {
    /// A book of `slots` free slots (at most 65,535) whose generations start at `origin`.
    pub(crate) fn new(slots: u32, origin: Generation) -> Self {
        let count = u16::try_from(slots).unwrap_or(u16::MAX);
        Self {
            slots: (0..count).map(|_| AtomicU64::new(pack(Standing::Free, origin))).collect(),
            origin,
            free: FreeSlots::new(count),
            abandoned: Mutex::new(Vec::new()),
            verdicts: Mutex::new(HashMap::new()),
        }
    }

    #[inline]
    fn word(&self, index: u16) -> Option<&AtomicU64> {
        self.slots.get(usize::from(index))
    }

    /// Takes a free slot for a new task. The caller fills it, then calls [`accept`](Self::accept)
    /// or [`release`](Self::release).
    #[inline]
    pub(crate) fn take_free(&self) -> Option<Key> {
        let index = self.free.pop()?;
        let word = self.word(index)?;
        // Relaxed, here and below: the slot is this thread's alone since it left the free stack,
        // which orders it after the last user's stores.
        let last = Generation::new(word.load(Ordering::Relaxed) >> STANDING_BITS)?;
        let key = Key::new(index, last.next());
        word.store(pack(Standing::Filling, last.next()), Ordering::Relaxed);
        Some(key)
    }

    /// The task of `key` is complete and about to be pushed.
    #[inline]
    pub(crate) fn accept(&self, key: Key) {
        self.set(key, Standing::Live);
    }

    /// The slot of `key`, which this thread has taken for filling or taking, is free again.
    #[inline]
    pub(crate) fn release(&self, key: Key) {
        self.set(key, Standing::Free);
        self.free.push(key.index());
    }

    #[inline]
    fn set(&self, key: Key, standing: Standing) {
        if let (Some(word), Some(generation)) = (self.word(key.index()), key.generation()) {
            // Release: pairs with the Acquire loads in `look` and `switch`.
            word.store(pack(standing, generation), Ordering::Release);
        }
    }

    /// `from` → `to`, for the one thread that succeeds.
    #[inline]
    fn switch(&self, key: Key, from: Standing, to: Standing) -> bool {
        let (Some(word), Some(generation)) = (self.word(key.index()), key.generation()) else {
            return false;
        };
        let (from, to) = (pack(from, generation), pack(to, generation));
        // AcqRel: pairs with `set` and with itself, so that who takes a task over sees all that
        // was done to it before.
        word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// How the task of `key` stands.
    #[inline]
    pub(crate) fn look(&self, key: Key) -> Look {
        let (Some(word), Some(generation)) = (self.word(key.index()), key.generation()) else {
            return Look::Unknown;
        };
        // Acquire: pairs with the Release in `set`, so that a settled task's verdict is there.
        let word = word.load(Ordering::Acquire);
        if word == pack(Standing::Live, generation) {
            Look::Live
        } else if word == pack(Standing::Settled, generation) {
            Look::Settled
        } else {
            self.look_back(word >> STANDING_BITS, generation)
        }
    }

    #[cold]
    fn look_back(&self, current: u64, asked: Generation) -> Look {
        let since_origin =
            |number: u64| number.wrapping_sub(self.origin.get()) & ((1 << Generation::BITS) - 1);
        let (asked, current) = (since_origin(asked.get()), since_origin(current));
        if (1..=current).contains(&asked) { Look::Gone } else { Look::Unknown }
    }

    /// Makes this thread the one that takes the outcome of a live task.
    #[inline]
    pub(crate) fn take_live(&self, key: Key) -> bool {
        self.switch(key, Standing::Live, Standing::Taking)
    }

    /// Takes the verdict on a settled task; `None` if another thread did. Its slot is free then, or,
    /// if a worker still has it (`held`), as soon as none has.
    pub(crate) fn take_verdict(&self, key: Key, held: impl FnOnce() -> bool) -> Option<TaskError> {
        if !self.switch(key, Standing::Settled, Standing::Taking) {
            return None;
        }
        let verdict = self.verdicts.lock().remove(&key);
        if held() {
            self.set(key, Standing::Abandoned);
            self.abandoned.lock().push(key);
        } else {
            self.release(key);
        }
        Some(verdict.unwrap_or(TaskError::Closed))
    }

    /// Ends a live task with a verdict, whoever has it. `false` if it is not live (any more).
    pub(crate) fn settle(&self, key: Key, verdict: TaskError) -> bool {
        let mut verdicts = self.verdicts.lock();
        let settled = self.switch(key, Standing::Live, Standing::Settled);
        if settled {
            // A thread that has seen the standing waits for the lock, and then finds this.
            verdicts.insert(key, verdict);
        }
        settled
    }

    /// Nobody wants the outcome of a live task any more. `false` if it is not live (any more).
    pub(crate) fn abandon(&self, key: Key) -> bool {
        let abandoned = self.switch(key, Standing::Live, Standing::Abandoned);
        if abandoned {
            self.abandoned.lock().push(key);
        }
        abandoned
    }

    /// Those abandoned slots of which `over` says that no worker has them any more. They are the
    /// caller's to [`release`](Self::release).
    pub(crate) fn take_over(&self, over: impl Fn(Key) -> bool) -> Vec<Key> {
        let mut taken = Vec::new();
        self.abandoned.lock().retain(|key| {
            let over = over(*key);
            if over {
                taken.push(*key);
            }
            !over
        });
        taken
    }

    #[cfg(test)]
    pub(crate) fn first_generation(&self) -> Generation {
        self.origin
    }

    /// The key of the task that was accepted in the slot at `index`, until the slot is free again.
    pub(crate) fn accepted_at(&self, index: u16) -> Option<Key> {
        // Acquire: as in `look`.
        let word = self.word(index)?.load(Ordering::Acquire);
        let generation = Generation::new(word >> STANDING_BITS)?;
        let is_not = [Standing::Free, Standing::Filling].map(|standing| pack(standing, generation));
        (!is_not.contains(&word)).then(|| Key::new(index, generation))
    }

    /// Whether the host has ended this task, and its slot was not free since.
    pub(crate) fn has_ended_early(&self, key: Key) -> bool {
        self.accepted_at(key.index()) == Some(key) && self.live_at(key.index()) != Some(key)
    }

    /// The key of the live task in the slot at `index`.
    pub(crate) fn live_at(&self, index: u16) -> Option<Key> {
        // Acquire: as in `look`.
        let word = self.word(index)?.load(Ordering::Acquire);
        let generation = Generation::new(word >> STANDING_BITS)?;
        (word == pack(Standing::Live, generation)).then(|| Key::new(index, generation))
    }

    /// Slots that are not free.
    pub(crate) fn in_use(&self) -> usize {
        // Relaxed: a count for people, and for the supervisor, who orders it by a fence.
        let in_use = |word: &&AtomicU64| {
            word.load(Ordering::Relaxed) & ((1 << STANDING_BITS) - 1) != Standing::Free as u64
        };
        self.slots.iter().filter(in_use).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(slots: u32, origin: u64) -> Book {
        Book::new(slots, Generation::new(origin).unwrap())
    }

    #[test]
    fn the_slot_freed_last_is_used_next() {
        let book = book(3, 10);
        let first = book.take_free().unwrap();
        let second = book.take_free().unwrap();
        assert_eq!((first.index(), second.index()), (0, 1));
        book.release(first);
        assert_eq!(book.take_free().unwrap().index(), 0);
    }

    #[test]
    fn a_key_is_unknown_before_it_is_given_and_gone_after_it_is_taken() {
        let book = book(1, 10);
        let key = book.take_free().unwrap();
        assert_eq!(key.generation().unwrap().get(), 11);
        book.accept(key);
        assert_eq!(book.look(key), Look::Live);
        let later = Key::new(0, Generation::new(12).unwrap());
        let earlier = Key::new(0, Generation::new(10).unwrap());
        let elsewhere = Key::new(1, Generation::new(11).unwrap());
        for never in [later, earlier, elsewhere] {
            assert_eq!(book.look(never), Look::Unknown, "{never:?}");
        }
        assert!(book.take_live(key));
        assert!(!book.take_live(key), "only one thread takes it");
        assert_eq!(book.look(key), Look::Gone);
        book.release(key);
        assert_eq!(book.look(key), Look::Gone);
        let next = book.take_free().unwrap();
        book.accept(next);
        assert_eq!((next, book.look(key)), (later, Look::Gone));
    }

    #[test]
    fn keys_stay_apart_over_the_wrap_of_the_generation() {
        let last = (1 << Generation::BITS) - 1;
        let book = book(1, last - 1);
        let mut given = Vec::new();
        for _ in 0..4 {
            let key = book.take_free().unwrap();
            book.accept(key);
            assert_eq!(book.look(key), Look::Live);
            assert!(given.iter().all(|old| book.look(*old) == Look::Gone));
            assert!(book.take_live(key));
            book.release(key);
            given.push(key);
        }
        let numbers: Vec<_> = given.iter().map(|key| key.generation().unwrap().get()).collect();
        assert_eq!(numbers, [last, 1, 2, 3]);
    }

    #[test]
    fn a_settled_task_gives_its_verdict_once_and_frees_its_slot() {
        let book = book(1, 10);
        let key = book.take_free().unwrap();
        book.accept(key);
        assert!(book.settle(key, TaskError::Closed));
        assert!(!book.settle(key, TaskError::Closed), "it has ended already");
        assert_eq!(book.look(key), Look::Settled);
        assert_eq!(book.take_verdict(key, || false), Some(TaskError::Closed));
        assert_eq!(book.take_verdict(key, || false), None);
        assert_eq!(book.in_use(), 0);
    }

    #[test]
    fn an_abandoned_slot_is_free_only_when_no_worker_has_it() {
        let book = book(1, 10);
        let key = book.take_free().unwrap();
        book.accept(key);
        assert!(book.abandon(key));
        assert_eq!(book.look(key), Look::Gone);
        assert!(book.take_over(|_| false).is_empty());
        assert_eq!(book.take_free(), None);
        assert_eq!(book.take_over(|abandoned| abandoned == key), [key]);
        assert!(book.take_over(|_| true).is_empty());
        assert_eq!(book.take_free(), None);
        book.release(key);
        assert!(book.take_free().is_some());
    }
}
