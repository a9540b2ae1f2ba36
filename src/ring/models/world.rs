//! What the models play with: the words of a small segment, the workers' lock, futexes, and the
//! plain memory whose races the checker sees.

#[cfg(not(shuttle))]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

use checker::sync::{Condvar, Mutex};

use crate::key::{Generation, Key};
use crate::ring::{self, Producer};
use crate::shm::{
    AWAITS, Completed, CompletionWords, EntryWords, Owner, Payload, Phase, RingWords, SLEEPS,
    SlotWords, State, WorkerWords,
};
use crate::sync::modelled::{is_dead, is_left_out, lives_on};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

pub(super) use checker::thread;

/// Plain memory: two threads that come to it without an order between them, one of them to write,
/// are a failure of the model.
pub(super) struct Plain {
    #[cfg(not(shuttle))]
    number: loom::cell::UnsafeCell<u64>,
    #[cfg(shuttle)]
    number: AtomicU64,
}

// SAFETY: the checker vouches for it, or fails.
unsafe impl Sync for Plain {}
// SAFETY: a number.
unsafe impl Send for Plain {}

impl Plain {
    fn new() -> Self {
        #[cfg(not(shuttle))]
        let number = loom::cell::UnsafeCell::new(0);
        #[cfg(shuttle)]
        let number = AtomicU64::new(0);
        Self { number }
    }

    pub(super) fn write(&self, number: u64) {
        if lives_on() {
            #[cfg(not(shuttle))]
            // SAFETY: the checker fails if anybody else reads or writes meanwhile.
            self.number.with_mut(|at| unsafe { *at = number });
            #[cfg(shuttle)]
            self.number.store(number, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> u64 {
        if !lives_on() {
            return 0;
        }
        #[cfg(not(shuttle))]
        // SAFETY: the checker fails if anybody writes meanwhile.
        return self.number.with(|at| unsafe { *at });
        #[cfg(shuttle)]
        return self.number.load(Ordering::Relaxed);
    }
}

/// Where threads sleep that wait for a word to change.
pub(super) struct Bed {
    /// The kernel's lock around the look at the word.
    kernel: Mutex<()>,
    wake: Condvar,
}

impl Bed {
    fn new() -> Self {
        Self { kernel: Mutex::new(()), wake: Condvar::new() }
    }

    /// `futex::wait`, without a time limit.
    pub(super) fn wait(&self, word: &AtomicU32, expected: u32) {
        if !lives_on() {
            return;
        }
        let guard = self.kernel.lock().unwrap();
        if word.peek() == expected {
            drop(self.wake.wait(guard).unwrap());
        }
    }

    /// `futex::wake_all`. (No model has two that sleep on a worker's word.)
    pub(super) fn wake(&self) {
        if lives_on() {
            let _guard = self.kernel.lock().unwrap();
            self.wake.notify_all();
        }
    }
}

pub(super) struct Slot {
    pub(super) words: SlotWords,
    pub(super) waiter: Bed,
    /// What is too large for the slot's words.
    pub(super) task: Plain,
    pub(super) answer: Plain,
}

/// Something that threads of the model count up, and wait for, without any word of the segment.
pub(super) struct Count {
    number: Mutex<usize>,
    changed: Condvar,
}

impl Count {
    pub(super) fn new() -> Self {
        Self { number: Mutex::new(0), changed: Condvar::new() }
    }

    pub(super) fn add(&self) {
        *self.number.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Waits until it is at least `wanted`. Gives what it is.
    pub(super) fn reaches(&self, wanted: usize) -> usize {
        let mut number = self.number.lock().unwrap();
        while *number < wanted {
            number = self.changed.wait(number).unwrap();
        }
        *number
    }
}

/// What an event loop of the host's sleeps on: an eventfd.
pub(super) struct EventLoopBell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl EventLoopBell {
    fn new() -> Self {
        Self { rung: Mutex::new(false), changed: Condvar::new() }
    }

    pub(super) fn ring(&self) {
        if lives_on() {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    /// Waits until it was rung, and answers it.
    pub(super) fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// A small segment.
pub(super) struct World {
    entries: Box<[EntryWords]>,
    /// One for each entry: what the task in it would be as plain memory.
    in_entry: Box<[Plain]>,
    head: AtomicU64,
    /// The workers' lock. One that dies in it lets go of it, with all as it is: what a robust lock
    /// gives to the next.
    lock: Mutex<()>,
    pub(super) slots: Box<[Slot]>,
    pub(super) workers: Box<[WorkerWords]>,
    pub(super) beds: Box<[Bed]>,
    completion: CompletionWords,
    completed: Box<[AtomicU64]>,
    pub(super) bell: EventLoopBell,
}

pub(super) fn generation(number: u64) -> Generation {
    Generation::new(number).unwrap()
}

pub(super) fn key(slot: u16, number: u64) -> Key {
    Key::new(slot, generation(number))
}

pub(super) fn owner(place: u16) -> Owner {
    Owner::worker(place).unwrap()
}

fn several<T>(count: usize, make: impl Fn() -> T) -> Box<[T]> {
    (0..count).map(|_| make()).collect()
}

impl World {
    pub(super) fn new(entries: usize, slots: usize, workers: usize) -> Self {
        let slot = || Slot {
            words: SlotWords::default(),
            waiter: Bed::new(),
            task: Plain::new(),
            answer: Plain::new(),
        };
        Self {
            entries: several(entries, EntryWords::default),
            in_entry: several(entries, Plain::new),
            head: AtomicU64::new(0),
            lock: Mutex::new(()),
            slots: several(slots, slot),
            workers: several(workers, WorkerWords::default),
            beds: several(workers, Bed::new),
            completion: CompletionWords::default(),
            completed: several(1, AtomicU64::default),
            bell: EventLoopBell::new(),
        }
    }

    pub(super) fn ring(&self) -> RingWords<'_> {
        RingWords { entries: &self.entries, head: &self.head }
    }

    pub(super) fn slot(&self, key: Key) -> &Slot {
        &self.slots[usize::from(key.index())]
    }

    fn in_entry(&self, position: u64) -> &Plain {
        &self.in_entry[position as usize % self.in_entry.len()]
    }

    /// What `Core::submit` does with a slot that is the caller's: writes the task and pushes it.
    pub(super) fn submit(&self, producer: &mut Producer, key: Key) {
        let slot = self.slot(key);
        slot.task.write(key.get());
        slot.words.task_len.store(8, Ordering::Relaxed);
        slot.words.task[0].store(key.get(), Ordering::Relaxed);
        self.push(producer, key);
    }

    /// Pushes a task that stands in its slot, again perhaps.
    pub(super) fn push(&self, producer: &mut Producer, key: Key) {
        let has_room = is_left_out("there is room") || producer.has_room(self.ring());
        assert!(has_room, "the ring is large enough");
        self.in_entry(producer.tail()).write(key.get());
        producer.push(self.ring(), key, &self.slot(key).words);
    }

    /// What `Worker::claim` does, up to the wake of a colleague.
    pub(super) fn claim(&self, place: u16) -> Option<Key> {
        if !ring::pending(self.ring()) {
            return None;
        }
        let mut task = Payload::new();
        let guard = self.lock.lock().unwrap();
        let looked_up = |index: u16| {
            // The reader of an entry, before it moves the head on.
            self.in_entry(self.head.peek()).read();
            self.slots.get(usize::from(index)).map(|slot| &slot.words)
        };
        let claimed = ring::claim(self.ring(), looked_up, owner(place), &mut task);
        drop(guard);
        if is_dead() {
            return None;
        }
        let claimed = claimed?;
        assert_eq!((claimed.len, &*task), (8, &claimed.key.get().to_ne_bytes()[..]), "the entry");
        Some(claimed.key)
    }

    /// What `Worker::serve` does: reads the task, finishes, writes the outcome, publishes it, and
    /// wakes who waits. `false` when the worker was condemned, or died.
    pub(super) fn serve(&self, place: u16, key: Key) -> bool {
        let slot = self.slot(key);
        let task = slot.task.read();
        assert!(is_dead() || task == key.get(), "the task in the slot");
        if !ring::finish(&slot.words, key, owner(place)) {
            return false;
        }
        slot.answer.write(answer(key));
        ring::publish(&slot.words, key, owner(place));
        self.tell_waiters(key);
        !is_dead()
    }

    /// The second half of `Worker::serve`.
    pub(super) fn tell_waiters(&self, key: Key) {
        let slot = self.slot(key);
        crate::sync::fence_after_rmw(); // behind the outcome
        let waiters = ring::take_waiters(&slot.words.waiter);
        if waiters & SLEEPS != 0 {
            slot.waiter.wake();
        }
        if waiters & AWAITS != 0 && ring::mark(self.completed(), key.index()) {
            self.bell.ring();
        }
    }

    pub(super) fn completed(&self) -> Completed<'_> {
        Completed { words: &self.completion, slots: &self.completed }
    }

    /// Wakes who sleeps on this word of a worker.
    pub(super) fn wake(&self, word: &AtomicU32) {
        let place = self.workers.iter().position(|words| std::ptr::eq(&words.parked, word));
        self.beds[place.unwrap()].wake();
    }

    /// What `Core::outcome_of` does: who has ended the task, if it is over.
    pub(super) fn ended(&self, key: Key) -> Option<Owner> {
        let done = State::unpack(self.slot(key).words.done.load(Ordering::Acquire))?;
        let is_over = done.phase == Phase::Done && Some(done.generation) == key.generation();
        is_over.then_some(done.owner)
    }

    /// Reads the answer of a task that a worker has ended.
    pub(super) fn retrieve(&self, key: Key) {
        assert_eq!(self.slot(key).answer.read(), answer(key), "the answer of {key:?}");
    }

    /// The last worker: takes all that is left, when all others are gone.
    pub(super) fn drain(&self, place: u16) -> Vec<Key> {
        let mut taken = Vec::new();
        while let Some(key) = self.claim(place) {
            assert!(self.serve(place, key));
            taken.push(key);
        }
        assert!(!ring::pending(self.ring()));
        taken
    }
}

/// What a model makes of a task.
fn answer(key: Key) -> u64 {
    !key.get()
}
