//! What all threads of the host share: segment, book, ring, and the steps of a task's life.

use core::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use parking_lot::Mutex;

use super::answer::Answer;
use super::book::{Book, Look};
use super::builder::Config;
use super::deadlines::Deadlines;
use super::engine::Reload;
use super::future::Spinning;
use super::large_slots::{Large, LargeSlots};
use super::notices::Notices;
use super::patience::WaitPolicy;
use super::tensor_room::TensorRoom;
use super::wait::Crowd;
use crate::error::{ReloadError, RetrieveError, StartError, SubmitError, TaskError};
use crate::key::{Generation, Key};
use crate::ring::{self, Producer};
use crate::shm::{
    Extent, Owner, Payload, Phase, SLEEPS, Segment, SegmentError, Slot, State, is_bad_length,
};
use crate::sync::{AtomicU32, Ordering, fence};
use crate::sys::memory::{self, ForkWitness};
use crate::sys::socket::Bell;
use crate::sys::{cpus, futex};
use crate::wire::{
    EncodeTo, IntoVec, Outcome, Patience, PlacedTask, Placement, Placements, Refusal, Signature,
    SpliceError, Task, TensorSpec, place,
};

/// What a thread of the host asks of the supervisor.
#[derive(Debug)]
pub(crate) enum Request {
    /// End the engine: drain until the instant, then stop.
    Shutdown(std::time::Instant),
    /// The worker at this place, if known, has written what no worker writes.
    Fault(Option<u16>),
    /// This task is over for the host, and a worker has it: the worker is to stop.
    Condemn(Key),
    /// Replace the workers by such with the code as it is now, until the instant.
    Reload(std::time::Instant, SyncSender<Result<Reload, ReloadError>>),
    /// Something is to be looked at earlier than it would be.
    Look,
}

/// The supervisor's letter box.
pub(crate) struct Mailbox {
    pub(crate) bell: Bell,
    /// `None` when nobody empties it any more.
    requests: Mutex<Option<Vec<Request>>>,
    /// 1 while the supervisor sleeps without a time limit, because no task was outstanding.
    pub(crate) asleep: AtomicU32,
    /// Whether there is a supervisor: a test double has none.
    attended: bool,
}

impl Mailbox {
    pub(crate) fn attended(&self) -> bool {
        self.attended
    }

    pub(crate) fn ask(&self, request: Request) {
        if self.attended
            && let Some(requests) = &mut *self.requests.lock()
        {
            requests.push(request);
            self.bell.ring();
        }
    }

    /// What was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Request> {
        self.requests.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Drops what is asked, now and later: whoever waits for a reply sees that there will be none.
    pub(crate) fn close(&self) {
        *self.requests.lock() = None;
    }
}

/// What a slot says of a task's outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Published {
    /// Nothing: its word is that of an earlier task, or of none.
    NotYet,
    /// There is one, by this owner; if that is the host, there is a verdict in the book.
    By(Owner),
    /// What no honest party writes.
    Nonsense,
}

/// The producer and the gate in front of it, under one lock: once the gate is closed, no task
/// enters the ring any more.
struct Entrance {
    producer: Producer,
    gate: Gate,
}

/// Whether tasks are taken; if not, why.
enum Gate {
    Open,
    /// There are no workers; there may be some again.
    Unavailable(String),
    /// For ever.
    Closed(String),
}

impl Gate {
    fn check(&self) -> Result<(), SubmitError> {
        match self {
            Self::Open => Ok(()),
            Self::Unavailable(reason) => Err(SubmitError::Unavailable { reason: reason.clone() }),
            Self::Closed(reason) => Err(SubmitError::Closed { reason: reason.clone() }),
        }
    }
}

/// The host's own copy of a task.
#[derive(Default)]
struct TaskCopy {
    bytes: Payload,
    /// Its length, for one that stands in the large area, where only the host writes: there are no bytes
    /// here then.
    large: Option<u32>,
}

/// Why a large task could not be put down.
fn no_room(action: &'static str, needed: usize, error: &std::io::Error) -> SubmitError {
    if memory::is_out_of_room(error) {
        let (available, total) = memory::shared_memory_room();
        return SubmitError::NoSharedMemory { needed, available, total };
    }
    SubmitError::System { action, reason: error.to_string() }
}

/// The engine's shared half. The segment goes when the last thread drops it.
pub(crate) struct Core {
    pub(crate) segment: Segment,
    /// Descriptors 0 to 2, where the host had closed them.
    _standard: Vec<std::os::fd::OwnedFd>,
    pub(crate) signature: Signature,
    pub(crate) mailbox: Mailbox,
    pub(crate) book: Book,
    pub(crate) deadlines: Deadlines,
    /// Who awaits what.
    pub(crate) notices: Arc<Notices>,
    pub(crate) spinning: Spinning,
    /// A copy of each slot's task, for when its worker dies; none if no task is done twice.
    copies: Box<[Mutex<TaskCopy>]>,
    large: LargeSlots,
    tensor_room: TensorRoom,
    entrance: Mutex<Entrance>,
    witness: ForkWitness,
    pub(crate) crowd: Crowd,
    /// What is in force of the policy that was chosen.
    pub(crate) policy: WaitPolicy,
    pub(crate) patience: Patience,
}

impl Core {
    /// `attended`: there will be a supervisor.
    pub(crate) fn new(config: &Config, attended: bool) -> Result<Self, StartError> {
        let sizes = config.sizes;
        let system = |action| move |source| StartError::System { action, source };
        let cpus = cpus::available();
        let standard = memory::occupy_standard_descriptors().map_err(system("open /dev/null"))?;
        let segment = Segment::create(sizes).map_err(|error| match error {
            SegmentError::NoRoom { needed, available, total } => {
                StartError::NoSharedMemory { needed, available, total }
            }
            SegmentError::FileSize { needed, limit } => StartError::FileSizeLimit { needed, limit },
            SegmentError::System { action, source } => StartError::System { action, source },
        })?;
        let random = memory::random_u64().map_err(system("draw a random number"))?;
        Ok(Self {
            segment,
            _standard: standard,
            signature: config.setup.signature.clone(),
            mailbox: Mailbox {
                bell: Bell::new().map_err(system("create an eventfd"))?,
                requests: Mutex::new(Some(Vec::new())),
                asleep: AtomicU32::new(0),
                attended,
            },
            book: Book::new(sizes.slots, Generation::starting_at(random)),
            deadlines: Deadlines::new(sizes.slots),
            notices: Arc::new(Notices::new(sizes.slots).map_err(system("create a pipe"))?),
            spinning: Spinning::new(if cpus > 1 { config.poll_spin } else { Duration::ZERO }),
            copies: (0..if config.retries > 0 { sizes.slots } else { 0 })
                .map(|_| Mutex::default())
                .collect(),
            large: LargeSlots::new(sizes.slots),
            tensor_room: TensorRoom::new(sizes.slots, config.huge_pages),
            entrance: Mutex::new(Entrance { producer: Producer::default(), gate: Gate::Open }),
            witness: ForkWitness::new().map_err(system("map a page"))?,
            crowd: Crowd::new(u32::try_from(cpus).unwrap_or(u32::MAX), sizes.workers),
            policy: config.wait_policy.on(cpus),
            patience: config.setup.patience,
        })
    }

    #[inline]
    pub(crate) fn in_forked_child(&self) -> bool {
        self.witness.in_forked_child()
    }

    #[inline]
    pub(crate) fn slot(&self, key: Key) -> Option<Slot<'_>> {
        self.segment.region().slot(key.index())
    }

    /// Accepts a task: checks it, writes it into a slot, pushes the slot, wakes a worker if one must
    /// be woken, and says whether all slept.
    #[inline]
    pub(crate) fn submit(&self, task: &Task<'_>) -> Result<(Key, bool), SubmitError> {
        if self.in_forked_child() {
            return Err(SubmitError::ForkedChild);
        }
        let task = PlacedTask { task, tensors: &[] };
        let needed = self.check(&task)?;
        let key = self.take_slot()?;
        match self.send(key, &task, needed) {
            Ok(all_slept) => Ok((key, all_slept)),
            Err(error) => {
                self.give_up(key);
                Err(error)
            }
        }
    }

    /// Takes a slot, and room for a task's tensors. Gives their places, and the address of the inputs'.
    pub(crate) fn reserve(
        &self,
        tensors: &[TensorSpec],
    ) -> Result<(Key, Placements, Option<NonNull<u8>>), SubmitError> {
        if self.in_forked_child() {
            return Err(SubmitError::ForkedChild);
        }
        let (placements, ends) = place(tensors)?;
        let large = self.segment.large();
        // One that no `usize` holds is beyond the room, too.
        let needed = ends.map(|end| usize::try_from(end).unwrap_or(usize::MAX));
        if let Some(needed) = needed.into_iter().find(|needed| *needed > large.room()) {
            return Err(SubmitError::TooLarge { needed, room: large.room() });
        }
        self.entrance.lock().gate.check()?;
        let key = self.take_slot()?;
        let mut begun = self.tensor_room.begin(large, key.index(), needed);
        if begun.as_ref().is_err_and(memory::is_out_of_room) {
            self.make_room();
            begun = self.tensor_room.begin(large, key.index(), needed);
        }
        match begun {
            Ok(inputs) => {
                self.large.begin(key.index(), Large::Tensors);
                // SeqCst: pairs with the fence that the supervisor has between setting `asleep` and
                // counting the slots in use. Who keeps pages must be awake to give them back.
                fence(Ordering::SeqCst);
                self.rouse_supervisor();
                Ok((key, placements, inputs))
            }
            Err(error) => {
                self.book.release(key);
                let needed = needed.into_iter().fold(0, usize::saturating_add);
                Err(no_room("reserve tensors", needed, &error))
            }
        }
    }

    /// Accepts the task for which tensors were reserved in this slot. Says whether all workers slept.
    /// After an error the slot is the caller's still.
    pub(crate) fn submit_reserved(
        &self,
        key: Key,
        task: &Task<'_>,
        tensors: &[Placement],
    ) -> Result<bool, SubmitError> {
        if self.in_forked_child() {
            return Err(SubmitError::ForkedChild);
        }
        let task = PlacedTask { task, tensors };
        let needed = self.check(&task)?;
        self.send(key, &task, needed)
    }

    /// Nobody submits a task in this slot for which tensors were reserved.
    pub(crate) fn give_up_reserved(&self, key: Key) {
        if !self.in_forked_child() {
            self.give_up(key);
        }
    }

    /// Gives back the slot of a task that was not accepted.
    #[cold]
    fn give_up(&self, key: Key) {
        if self.large.is_used(key.index()) {
            self.clear_large(key, false);
        }
        self.book.release(key);
    }

    #[inline]
    fn slot_bytes(&self) -> usize {
        self.segment.region().layout().sizes.slot_bytes as usize
    }

    /// Holds a task against the signature, and against the room that there ever is. Says how many bytes
    /// its encoding has.
    #[inline]
    fn check(&self, task: &PlacedTask<'_, '_>) -> Result<usize, SubmitError> {
        let needed = self.signature.check(task.task, task.tensors)?;
        let slot_bytes = self.slot_bytes();
        if needed > slot_bytes && needed > self.segment.large().room() {
            let room = self.segment.large().room().max(slot_bytes);
            return Err(SubmitError::TooLarge { needed, room });
        }
        Ok(needed)
    }

    /// Gives back what nobody wants any more of the large area.
    fn make_room(&self) {
        self.reclaim();
        self.give_back_unused();
    }

    /// Gives back the pages that are kept for tensors to come.
    pub(crate) fn give_back_unused(&self) {
        self.tensor_room.give_back_unused(self.segment.large());
    }

    /// Writes a task of so many bytes into its slot, pushes it, wakes a worker if one must be woken, and
    /// says whether all slept. If it is not accepted, the slot is the caller's still.
    #[inline]
    fn send(
        &self,
        key: Key,
        task: &PlacedTask<'_, '_>,
        needed: usize,
    ) -> Result<bool, SubmitError> {
        let room = self.slot_bytes();
        if needed > room {
            self.put_large(key, task, needed)?;
        } else if !self.fill(key, task, needed) {
            // `check` has counted the bytes, so this cannot be; if it is, nothing is lost.
            return Err(SubmitError::TooLarge { needed, room });
        }
        self.push(key)?;
        let region = self.segment.region();
        let all_slept = ring::wake_one(region.workers(), futex::wake_one);
        // Behind the fence in `wake_one`, which pairs with the one the supervisor has between setting
        // `asleep` and counting the slots in use.
        self.rouse_supervisor();
        Ok(all_slept)
    }

    /// Wakes the supervisor if it sleeps because no slot was in use. For a thread that has taken one, and
    /// passed a SeqCst fence since.
    #[inline]
    fn rouse_supervisor(&self) {
        // Relaxed: ordered by the caller's fence.
        if self.mailbox.asleep.load(Ordering::Relaxed) == 1 {
            self.mailbox.bell.ring();
        }
    }

    /// Gives a task that was accepted a deadline of its own.
    pub(crate) fn set_deadline(&self, key: Key, deadline: std::time::Instant) {
        if self.deadlines.set(key, deadline) {
            self.mailbox.ask(Request::Look);
            if !self.mailbox.attended {
                self.notices.stir();
            }
        }
    }

    /// A free slot, for this thread to fill.
    #[inline]
    fn take_slot(&self) -> Result<Key, SubmitError> {
        match self.book.take_free() {
            Some(key) => Ok(key),
            None => self.take_reclaimed(),
        }
    }

    #[cold]
    fn take_reclaimed(&self) -> Result<Key, SubmitError> {
        self.reclaim();
        // This comes before full: trying again later is no use then.
        self.entrance.lock().gate.check()?;
        self.book.take_free().ok_or_else(|| self.full())
    }

    fn full(&self) -> SubmitError {
        SubmitError::Full { slots: self.segment.region().layout().sizes.slots }
    }

    /// Writes the task into a slot that the book has given out.
    #[inline]
    fn fill(&self, key: Key, task: &PlacedTask<'_, '_>, bytes: usize) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        // Left over by a thread that gave up. Written only then: the line is the worker's.
        if slot.words.waiter.load(Ordering::Relaxed) != 0 {
            slot.words.waiter.store(0, Ordering::Relaxed);
        }
        // SAFETY: the book gave this slot to this thread, and the last worker that had it has
        // handed it back or is dead.
        let Some(mut writer) = (unsafe { slot.task_writer(bytes) }) else { return false };
        let written = task.encode_to(&mut writer).is_ok();
        if let Some(copy) = self.copy_of(key) {
            // From the slot, which is this thread's alone.
            let mut copy = copy.lock();
            copy.large = None;
            return written && slot.copy_task(bytes, &mut copy.bytes).is_ok();
        }
        written
    }

    /// Puts a task that does not fit its slot into the large area.
    #[cold]
    fn put_large(
        &self,
        key: Key,
        task: &PlacedTask<'_, '_>,
        needed: usize,
    ) -> Result<(), SubmitError> {
        let large = self.segment.large();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(needed).map_err(|error| SubmitError::System {
            action: "encode a large task",
            reason: error.to_string(),
        })?;
        // `check` has counted the bytes, and a vector grows: this cannot fail.
        let _ = task.encode_to(&mut IntoVec(&mut bytes));
        let mut written = large.write(key.index(), Extent::Task, &bytes);
        if written.as_ref().is_err_and(memory::is_out_of_room) {
            // Maybe it is full of what nobody wants any more.
            self.make_room();
            written = large.write(key.index(), Extent::Task, &bytes);
        }
        written.map_err(|error| no_room("write a large task", needed, &error))?;
        self.large.begin(key.index(), Large::Task);
        if let Some(slot) = self.slot(key) {
            slot.words.waiter.store(0, Ordering::Relaxed);
            // Relaxed: as in `task_writer`.
            slot.words.task_len.store(needed as u32, Ordering::Relaxed);
        }
        if let Some(copy) = self.copy_of(key) {
            *copy.lock() = TaskCopy { large: Some(needed as u32), ..TaskCopy::default() };
        }
        Ok(())
    }

    /// The host's own copy of the task in this slot, where tasks may be done once more.
    #[inline]
    fn copy_of(&self, key: Key) -> Option<&Mutex<TaskCopy>> {
        self.copies.get(usize::from(key.index()))
    }

    #[inline]
    fn push(&self, key: Key) -> Result<(), SubmitError> {
        let ring = self.segment.region().ring();
        let mut entrance = self.entrance.lock();
        let Some(slot) = self.slot(key) else { return Ok(()) };
        if !matches!(entrance.gate, Gate::Open) || !entrance.producer.has_room(ring) {
            let refused = entrance.gate.check().err();
            drop(entrance);
            return Err(refused.unwrap_or_else(|| {
                // Full in the ring: a slot was handed back before its entry was reached, or the head
                // was moved. The audit sees which.
                self.mailbox.ask(Request::Look);
                self.full()
            }));
        }
        // Before the push: a worker may be done, or dead, the moment the entry is visible.
        self.book.accept(key);
        entrance.producer.push(ring, key, slot.words);
        Ok(())
    }

    /// Has a task of a dead worker done once more. `false` if there is no room in the ring.
    pub(crate) fn push_again(&self, key: Key) -> bool {
        let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) else {
            return false;
        };
        // What the dead one may have left of an answer.
        self.segment.large().clear(key.index(), Extent::Answer);
        let region = self.segment.region();
        let mut entrance = self.entrance.lock();
        if !entrance.producer.has_room(region.ring()) {
            return false;
        }
        // The dead worker's outcome stands where a large task does.
        let restored = self.copy_of(key).is_some_and(|copy| {
            let copy = copy.lock();
            if let Some(len) = copy.large {
                // Relaxed: as in `task_writer`.
                slot.words.task_len.store(len, Ordering::Relaxed);
                return true;
            }
            // SAFETY: the task's worker is dead, and no other can claim it before `requeue` below.
            let writer = unsafe { slot.task_writer(copy.bytes.len()) };
            writer.is_some_and(|writer| writer.put(&copy.bytes).is_ok())
        });
        if !restored {
            return false;
        }
        ring::requeue(slot.words, generation);
        entrance.producer.push(region.ring(), key, slot.words);
        drop(entrance);
        ring::wake_one(region.workers(), futex::wake_one);
        true
    }

    /// Takes all entries out of the ring and ends all tasks without an outcome. For when no worker
    /// lives. Says how many tasks that ends.
    pub(crate) fn start_anew(&self, verdict: impl Fn() -> TaskError) -> usize {
        // Held to the end: a task that comes meanwhile is not one of them.
        let mut entrance = self.entrance.lock();
        entrance.producer.vacate(self.segment.region().ring());
        self.end_unfinished(verdict)
    }

    /// The position behind the last entry.
    pub(crate) fn tail(&self) -> u64 {
        self.entrance.lock().producer.tail()
    }

    /// Takes no tasks any more, for this reason; the first reason stays.
    pub(crate) fn close(&self, reason: &str) {
        let gate = &mut self.entrance.lock().gate;
        if !matches!(gate, Gate::Closed(_)) {
            *gate = Gate::Closed(reason.to_owned());
        }
    }

    /// Takes no tasks until [`resume`](Self::resume): there are no workers.
    pub(crate) fn suspend(&self, reason: &str) {
        let gate = &mut self.entrance.lock().gate;
        if !matches!(gate, Gate::Closed(_)) {
            *gate = Gate::Unavailable(reason.to_owned());
        }
    }

    /// Takes tasks again, unless it was closed.
    pub(crate) fn resume(&self) {
        let gate = &mut self.entrance.lock().gate;
        if matches!(gate, Gate::Unavailable(_)) {
            *gate = Gate::Open;
        }
    }

    /// What the slot says of the outcome of this task.
    #[inline]
    fn outcome_of(&self, key: Key) -> Published {
        let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) else {
            return Published::Nonsense;
        };
        // Acquire: pairs with the Release in `ring::publish` and `ring::settle`: length and bytes
        // of the outcome are complete, and the verdict is in the book.
        Self::published(slot.words.done.load(Ordering::Acquire), generation)
    }

    /// Whether this `done` word, read from the slot of `key`, is one from before its outcome.
    #[inline]
    pub(crate) fn is_older(&self, done: u64, key: Key) -> bool {
        key.generation().is_some_and(|it| Self::published(done, it) == Published::NotYet)
    }

    /// What a `done` word says of the outcome of the task with this generation.
    #[inline]
    fn published(word: u64, generation: Generation) -> Published {
        match word {
            0 => Published::NotYet,
            word => match State::unpack(word) {
                Some(State { phase: Phase::Done, owner, generation: found }) => {
                    if found == generation {
                        Published::By(owner)
                    } else if generation.is_after(found) {
                        Published::NotYet
                    } else {
                        Published::Nonsense
                    }
                }
                _ => Published::Nonsense,
            },
        }
    }

    /// Whether `key` may have something to retrieve, or something wrong: whether waiting is over.
    #[inline]
    pub(crate) fn is_over(&self, key: Key) -> bool {
        self.outcome_of(key) != Published::NotYet || self.book.look(key) != Look::Live
    }

    /// What [`retrieve_into`](Self::retrieve_into) does, for a thread that does not wait: where there
    /// is no supervisor, it keeps the deadlines.
    #[inline]
    pub(crate) fn poll(&self, key: Key, answer: &mut Answer) -> Result<bool, RetrieveError> {
        let taken = self.retrieve_into(key, answer)?;
        if !taken && !self.mailbox.attended && self.deadlines.next().is_some() {
            self.end_overdue(std::time::Instant::now());
            return self.retrieve_into(key, answer);
        }
        Ok(taken)
    }

    /// Takes the outcome of `key` if there is one; `false` if the task is still with the workers.
    #[inline]
    pub(crate) fn retrieve_into(
        &self,
        key: Key,
        answer: &mut Answer,
    ) -> Result<bool, RetrieveError> {
        if self.in_forked_child() {
            return Err(RetrieveError::ForkedChild);
        }
        if self.book.look(key) == Look::Live {
            match self.outcome_of(key) {
                Published::NotYet => return Ok(false),
                Published::By(owner) if owner != Owner::HOST => {
                    return self.take(key, owner, answer);
                }
                _ => {}
            }
        }
        self.retrieve_otherwise(key)
    }

    /// The cases in which there is no answer to take.
    #[cold]
    fn retrieve_otherwise(&self, key: Key) -> Result<bool, RetrieveError> {
        // Looked at anew: the supervisor writes the book before the segment.
        match self.book.look(key) {
            Look::Unknown => Err(RetrieveError::Unknown { key }),
            Look::Gone => Err(RetrieveError::AlreadyRetrieved { key }),
            Look::Settled => Err(self
                .book
                .take_verdict(key, || self.is_held_or_cleared(key))
                .map_or(RetrieveError::AlreadyRetrieved { key }, RetrieveError::Task)),
            Look::Live => match self.outcome_of(key) {
                // The book has no verdict, the segment says that there is one; or it says what
                // nobody says. Only a broken worker writes that.
                Published::By(Owner::HOST) | Published::Nonsense => {
                    Err(self.fault(key, "its slot's words are none that a task can have"))
                }
                // Published a moment ago.
                _ => Ok(false),
            },
        }
    }

    #[inline]
    fn take(&self, key: Key, owner: Owner, answer: &mut Answer) -> Result<bool, RetrieveError> {
        if !self.book.take_live(key) {
            // Another thread was faster, or the supervisor.
            return self.retrieve_otherwise(key);
        }
        let mut copied =
            self.slot(key).is_some_and(|slot| slot.copy_answer(answer.payload()).is_ok());
        if !copied || self.large.is_used(key.index()) {
            match self.take_large(key, copied, answer) {
                Ok(is_there) => copied = is_there,
                Err(error) => {
                    self.book.release(key);
                    answer.payload().clear();
                    return Err(RetrieveError::Task(error));
                }
            }
        }
        self.book.release(key);
        let outcome = match copied {
            true => Outcome::decode(answer.payload()).ok(),
            false => None,
        };
        let error = match outcome {
            Some(Outcome::Value(_)) => return Ok(true),
            Some(Outcome::Python(error)) => TaskError::Python(error),
            Some(Outcome::Refused(refusal @ Refusal::NoSharedMemory { .. })) => {
                // The next one shall have what is kept for tensors.
                self.give_back_unused();
                TaskError::Refused(refusal)
            }
            Some(Outcome::Refused(refusal)) => TaskError::Refused(refusal),
            None => {
                self.mailbox.ask(Request::Fault(owner.place()));
                TaskError::Corrupt { detail: "its bytes are no outcome" }
            }
        };
        answer.payload().clear();
        Err(RetrieveError::Task(error))
    }

    /// For what has not all been in the slot: copies the answer out, if the slot has not given it
    /// (`copied`), puts tensors in place into it, and gives the pages back. Whether the answer is there.
    #[cold]
    fn take_large(&self, key: Key, copied: bool, answer: &mut Answer) -> Result<bool, TaskError> {
        let mut read = match self.slot(key) {
            Some(slot) if !copied => {
                // Relaxed: as in `copy_answer`.
                let len = slot.words.answer_len.load(Ordering::Relaxed) as usize;
                let large = self.segment.large();
                let read = large.read(key.index(), Extent::Answer, len, answer.payload());
                read.map_err(SpliceError::Unread)
            }
            _ => Ok(()),
        };
        if read.is_ok() && self.large.has(key.index(), Large::Tensors) {
            read = self.splice(key, answer);
        }
        self.clear_large(key, !copied);
        match read {
            Ok(()) => Ok(true),
            Err(SpliceError::Malformed) => Ok(false),
            // A length that no answer has.
            Err(SpliceError::Unread(error)) if is_bad_length(&error) => Ok(false),
            Err(SpliceError::Unread(error)) => Err(TaskError::Refused(Refusal::System {
                action: "hand a large answer to the host".to_owned(),
                reason: error.to_string(),
            })),
        }
    }

    /// Puts the tensors that an answer names in place into it.
    fn splice(&self, key: Key, answer: &mut Answer) -> Result<(), SpliceError> {
        let outputs = self.tensor_room.outputs(key.index()) as u64;
        if outputs == 0 {
            return Ok(());
        }
        let Some(placed) = Outcome::bytes_placed(answer.payload(), outputs)? else { return Ok(()) };
        let payload = answer.payload();
        // A tensor's head in the whole is shorter than in the message.
        let whole = (payload.len() as u64).saturating_add(placed);
        let no_memory = || SpliceError::Unread(std::io::ErrorKind::OutOfMemory.into());
        let whole = usize::try_from(whole).map_err(|_| no_memory())?;
        let mut message = Payload::new();
        if payload.capacity() < whole {
            message = std::mem::take(payload);
            payload.try_reserve_exact(whole).map_err(|_| no_memory())?;
        } else {
            // It has grown for an answer before, and is used again.
            message.try_reserve_exact(payload.len()).map_err(|_| no_memory())?;
            message.extend_from_slice(payload);
            payload.clear();
        }
        Outcome::splice(&message, outputs, answer.payload(), |offset, len, into| {
            self.tensor_room.read_output(key.index(), offset, len, into)
        })
    }

    /// Gives back what the slot of a task that is over may have of the large area. (One that was said to
    /// be small and was not, which no honest worker says, keeps it until the slot's next large task.)
    fn clear_if_large(&self, key: Key) {
        let slot_bytes = self.segment.region().layout().sizes.slot_bytes;
        let Some(slot) = self.slot(key) else { return };
        // Relaxed: as in `copy_answer`. Without an outcome of a worker's, one may have died while it
        // wrote a large one.
        let may_have_answer = self.outcome_of(key) == Published::By(Owner::HOST)
            || slot.words.answer_len.load(Ordering::Relaxed) > slot_bytes;
        if may_have_answer || self.large.is_used(key.index()) {
            self.clear_large(key, may_have_answer);
        }
    }

    /// Gives back what the slot's task and answer have of the large area.
    fn clear_large(&self, key: Key, has_answer: bool) {
        let had = self.large.end(key.index());
        let large = self.segment.large();
        if has_answer || Large::Task.is_in(had) {
            large.clear_payloads(key.index());
        }
        if Large::Tensors.is_in(had) {
            self.tensor_room.end(large, key.index());
        }
    }

    /// Ends a live task whose slot holds what it cannot hold, and has the culprit replaced. The slot
    /// is not free before a worker has passed its entry, or the one that has it has ended.
    fn fault(&self, key: Key, detail: &'static str) -> RetrieveError {
        if !self.book.abandon(key) {
            return RetrieveError::AlreadyRetrieved { key };
        }
        self.mailbox.ask(Request::Fault(None));
        if let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) {
            ring::heal(slot.words, generation);
            ring::cancel(slot.words, generation);
            self.tell_waiters(slot, key.index());
        }
        RetrieveError::Task(TaskError::Corrupt { detail })
    }

    /// Ends a task that may wait or run, with this verdict. `false` if it is over already.
    ///
    /// The verdict is there at once. The slot is not free before no worker has it: if one runs the
    /// task, the supervisor is asked to stop it.
    pub(crate) fn end_early(&self, key: Key, verdict: TaskError) -> bool {
        if self.in_forked_child()
            || matches!(self.outcome_of(key), Published::By(_))
            || !self.book.settle(key, verdict)
        {
            return false;
        }
        if let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) {
            if !ring::cancel(slot.words, generation) {
                self.mailbox.ask(Request::Condemn(key));
            }
            self.tell_waiters(slot, key.index());
        }
        true
    }

    /// Ends the tasks whose deadline has passed.
    pub(crate) fn end_overdue(&self, now: std::time::Instant) {
        for key in self.deadlines.due(now, |key| self.book.accepted_at(key.index()) == Some(key)) {
            let is_new = self.end_early(key, TaskError::DeadlinePassed);
            // Nobody wants it any more, and a worker still has it.
            if !is_new && self.book.has_ended_early(key) && self.is_held(key) {
                self.mailbox.ask(Request::Condemn(key));
            }
        }
    }

    /// Ends every task that no worker has begun.
    pub(crate) fn end_waiting(&self, verdict: impl Fn() -> TaskError) {
        for index in 0..=u16::MAX {
            if self.segment.region().slot(index).is_none() {
                break;
            }
            if let Some(key) = self.book.live_at(index) {
                self.end_if_waiting(key, &verdict);
            }
        }
    }

    /// Ends a task that no worker has begun. `false` if one has, or if it is over.
    pub(crate) fn end_if_waiting(&self, key: Key, verdict: impl Fn() -> TaskError) -> bool {
        // The exchange first: a worker that claims the task keeps it.
        if !self.in_forked_child()
            && self.book.look(key) == Look::Live
            && let (Some(slot), Some(generation)) = (self.slot(key), key.generation())
            && ring::cancel(slot.words, generation)
        {
            let ended = self.book.settle(key, verdict());
            self.tell_waiters(slot, key.index());
            return ended;
        }
        false
    }

    /// Ends every task that has no outcome yet, whoever had it, and frees all slots that nobody wants
    /// any more. For when no worker lives. Says how many tasks it has ended.
    pub(crate) fn end_unfinished(&self, verdict: impl Fn() -> TaskError) -> usize {
        let mut ended = 0;
        for index in 0..=u16::MAX {
            let Some(slot) = self.segment.region().slot(index) else { break };
            let Some(key) = self.book.accepted_at(index) else { continue };
            if !self.is_held(key) {
                continue;
            }
            if let Some(generation) = key.generation() {
                ring::heal(slot.words, generation);
            }
            ended += usize::from(self.book.live_at(index) == Some(key));
            self.settle(key, verdict());
        }
        self.reclaim();
        ended
    }

    /// Whether tasks are taken.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.entrance.lock().gate, Gate::Open)
    }

    /// Whether a worker may still have the task of `key`, or its entry.
    pub(crate) fn is_held(&self, key: Key) -> bool {
        !matches!(self.outcome_of(key), Published::By(_))
    }

    /// As [`is_held`](Self::is_held). If not, its slot is about to be free: its pages go back first.
    fn is_held_or_cleared(&self, key: Key) -> bool {
        let is_held = self.is_held(key);
        if !is_held {
            self.clear_if_large(key);
        }
        is_held
    }

    /// Nobody will retrieve `key` any more. Cancels the task if no worker has it yet.
    pub(crate) fn abandon(&self, key: Key) {
        if self.in_forked_child() {
            return;
        }
        if self.book.look(key) == Look::Live && self.book.abandon(key) {
            if let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) {
                // If a worker is faster, the task runs and its outcome is dropped.
                ring::cancel(slot.words, generation);
                self.tell_waiters(slot, key.index());
            }
        } else if self.book.look(key) == Look::Settled {
            // Also when the supervisor was faster than the `abandon` above.
            drop(self.book.take_verdict(key, || self.is_held_or_cleared(key)));
        }
    }

    /// Frees abandoned slots that no worker has any more.
    pub(crate) fn reclaim(&self) {
        let over = self.book.take_over(|key| match self.outcome_of(key) {
            Published::By(_) => true,
            Published::NotYet => false,
            Published::Nonsense => {
                if let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) {
                    ring::heal(slot.words, generation);
                }
                self.mailbox.ask(Request::Fault(None));
                false
            }
        });
        // Not under the list's lock: giving pages back may wait for a worker that writes some.
        for key in over {
            self.clear_if_large(key);
            self.book.release(key);
        }
    }

    /// Ends the task of `key` with a verdict and wakes who waits for it. For tasks that no living
    /// worker has.
    pub(crate) fn settle(&self, key: Key, verdict: TaskError) {
        // The book first: who sees DONE(host) in the segment finds the verdict.
        self.book.settle(key, verdict);
        if let (Some(slot), Some(generation)) = (self.slot(key), key.generation()) {
            ring::settle(slot.words, generation);
            self.tell_waiters(slot, key.index());
        }
    }

    /// Tells all who wait that the task in this slot is over.
    pub(crate) fn tell_waiters(&self, slot: Slot<'_>, index: u16) {
        // SeqCst: pairs with the fence in `ring::ask`, as in `peer::serve`.
        fence(Ordering::SeqCst);
        let waiters = ring::take_waiters(&slot.words.waiter);
        if waiters & SLEEPS != 0 {
            futex::wake_all(&slot.words.waiter);
        }
        // Whatever the word says, which a worker can write.
        self.notices.mark(index);
    }

    /// Whether there is, or was, such a task whose outcome nobody has taken.
    pub(crate) fn check_key(&self, key: Key) -> Result<(), RetrieveError> {
        match self.book.look(key) {
            Look::Live | Look::Settled => Ok(()),
            Look::Gone => Err(RetrieveError::AlreadyRetrieved { key }),
            Look::Unknown => Err(RetrieveError::Unknown { key }),
        }
    }

    /// Ends every task that is not done: nobody is left to do it. Says how many there were.
    pub(crate) fn settle_all(&self) -> usize {
        let ended = self.end_unfinished(|| TaskError::Closed);
        for index in 0..=u16::MAX {
            let Some(slot) = self.segment.region().slot(index) else { break };
            self.tell_waiters(slot, index);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::error::WaitError;
    use crate::wire::{Args, Value};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Whatever words stand in the slots before a call: it ends with `Corrupt`, and the engine serves
    /// on, also after far more such calls than its ring has entries, all while its worker is busy.
    fn survives(scribble: impl Fn(&crate::shm::SlotWords, Generation)) {
        /// The model waits inside until it is [`OPEN`].
        const CLOSED: u32 = 0;
        const INSIDE: u32 = 1;
        const OPEN: u32 = 2;
        let gate = Arc::new(AtomicU32::new(OPEN));
        let engine = {
            let gate = gate.clone();
            let model = move |_: &Args<'_>| {
                while gate.load(Ordering::Relaxed) != OPEN {
                    gate.store(INSIDE, Ordering::Relaxed);
                    while gate.load(Ordering::Relaxed) == INSIDE {
                        std::thread::yield_now();
                    }
                }
                Ok(Value::Int(7))
            };
            Engine::builder("test:seven").workers(1).slots(4).start_with(model).unwrap()
        };
        let mut generation = engine.core().book.first_generation();
        for _ in 0..3 {
            gate.store(CLOSED, Ordering::Relaxed);
            let plug = engine.submit(&Task::new()).unwrap();
            let deadline = std::time::Instant::now() + PATIENCE;
            while gate.load(Ordering::Relaxed) != INSIDE {
                assert!(std::time::Instant::now() < deadline, "the worker takes no task");
                std::thread::yield_now();
            }
            for index in (0..4).filter(|index| *index != plug.key().index()) {
                let slot = engine.core().segment.region().slot(index).unwrap();
                scribble(slot.words, generation);
            }
            let mut corrupt = 0;
            for _ in 0..100 {
                let Ok(ticket) = engine.submit(&Task::new()) else { continue };
                generation = ticket.key().generation().unwrap();
                let error = engine.wait(ticket, PATIENCE).unwrap_err();
                let found = matches!(
                    error,
                    WaitError::Retrieve(RetrieveError::Task(TaskError::Corrupt { .. }))
                );
                assert!(found, "{error}");
                corrupt += 1;
            }
            assert_eq!(corrupt, 3, "each slot once, none before a worker has passed its entry");
            gate.store(OPEN, Ordering::Relaxed);
            assert_eq!(engine.wait(plug, PATIENCE).unwrap().int(0), Ok(7));
            // The supervisor collects abandoned slots, which a test double does not have.
            while engine.in_use() > 0 {
                assert!(std::time::Instant::now() < deadline, "{} in use", engine.in_use());
                std::thread::yield_now();
            }
            for _ in 0..100 {
                assert_eq!(engine.call(&Task::new(), PATIENCE).unwrap().int(0), Ok(7));
            }
        }
    }

    #[test]
    fn a_done_word_that_nobody_writes_ends_one_task_and_not_the_engine() {
        survives(|words, _| words.done.store(u64::MAX, Ordering::Relaxed));
        survives(|words, _| words.done.store(7 | 1 << 20, Ordering::Relaxed));
    }

    #[test]
    fn a_done_word_of_a_later_task_ends_one_task_and_not_the_engine() {
        survives(|words, generation| {
            let later = (0..1000).fold(generation, |generation, _| generation.next());
            let done = State::of_host(Phase::Done, later).pack();
            words.done.store(done, Ordering::Relaxed);
        });
    }

    #[test]
    fn an_answer_longer_than_there_is_room_for_ends_one_task_and_not_the_engine() {
        let lengths = [u32::MAX, 1 << 31, (64 << 20) + 1, 64 << 20, 4097];
        for (len, is_long) in lengths.into_iter().flat_map(|len| [(len, false), (len, true)]) {
            let open = Arc::new(AtomicU32::new(0));
            let model = {
                let open = open.clone();
                move |_: &Args<'_>| {
                    while open.load(Ordering::Relaxed) == 0 {
                        std::thread::yield_now();
                    }
                    Ok(Value::Int(7))
                }
            };
            let engine =
                Engine::builder("test:seven").workers(1).slots(1).start_with(model).unwrap();
            let ticket = engine.submit(&Task::new()).unwrap();
            let slot = engine.core().slot(ticket.key()).unwrap();
            if is_long {
                // So that there is something to read: a file that is long enough, with a hole there.
                let large = engine.core().segment.large();
                large.write(0, Extent::Answer, &vec![0; large.room()]).unwrap();
                large.clear(0, Extent::Answer);
            }
            open.store(1, Ordering::Relaxed);
            let deadline = std::time::Instant::now() + PATIENCE;
            while slot.words.done.load(Ordering::Acquire) == 0 {
                assert!(std::time::Instant::now() < deadline);
            }
            slot.words.answer_len.store(len, Ordering::Relaxed);
            let error = engine.wait(ticket, PATIENCE).unwrap_err();
            let corrupt = WaitError::Retrieve(RetrieveError::Task(TaskError::Corrupt {
                detail: "its bytes are no outcome",
            }));
            assert_eq!(error, corrupt, "{len} {is_long}");
            assert_eq!(engine.call(&Task::new(), PATIENCE).unwrap().int(0), Ok(7));
        }
    }

    /// Beyond what a task has of outputs there are no pages: who reads there is killed.
    #[test]
    fn an_answer_that_names_outputs_that_its_task_has_not_got_ends_one_task_and_not_the_engine() {
        use crate::DType;
        use crate::wire::write_placed_tag;
        const BYTES: usize = 10_000;
        const OUTCOME_IS_VALUE: u8 = 0;
        let engine = Engine::builder("test:none").signature(Signature::new().value("out"));
        let engine = engine.workers(1).slots(1).start_with(|_: &Args<'_>| Ok(Value::None)).unwrap();
        let room = engine.payload_bytes() as u64;
        let honest = [(0, BYTES), (64, BYTES - 64), (BYTES as u64 - 1, 1), (3, 0), (64, 5000)];
        let end = BYTES as u64;
        let hostile =
            [(1, BYTES), (end, 1), (end - 1, 2), (room - 1, 1), (room, 1), (0, BYTES + 1)];
        let hostile = hostile.into_iter().chain([(1 << 40, 1), (u64::MAX - 63, 64), (0, 64 << 20)]);
        let all = hostile.map(|named| (named, false)).chain(honest.map(|named| (named, true)));
        for ((offset, bytes), is_right) in all {
            let specs = [TensorSpec::output(DType::U8, &[BYTES])];
            let mut reserved = engine.reserve(&specs).unwrap();
            let ticket = reserved.submit(&Task::new().reserved(0)).unwrap();
            let slot = engine.core().slot(ticket.key()).unwrap();
            let deadline = std::time::Instant::now() + PATIENCE;
            while !engine.core().is_over(ticket.key()) {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
            let (mut placements, _) = place(&[TensorSpec::output(DType::U8, &[bytes])]).unwrap();
            placements[0].offset = offset;
            let mut message = vec![OUTCOME_IS_VALUE];
            write_placed_tag(&mut IntoVec(&mut message)).unwrap();
            placements[0].write(&mut IntoVec(&mut message)).unwrap();
            // SAFETY: the double has published, and does nothing more with the slot.
            let writer = unsafe { slot.answer_writer(message.len()) }.unwrap();
            writer.put(&message).unwrap();
            match engine.wait(ticket, PATIENCE) {
                Ok(answer) => {
                    assert!(is_right, "{offset} {bytes}");
                    let Some(crate::ValueRef::Tensor(tensor)) = answer.get(0) else { panic!() };
                    assert_eq!(tensor.bytes(), vec![0; bytes]);
                }
                Err(WaitError::Retrieve(RetrieveError::Task(TaskError::Corrupt { .. }))) => {
                    assert!(!is_right, "{offset} {bytes}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(engine.in_use(), 0);
    }

    #[test]
    fn the_memory_of_a_large_payload_goes_back_however_its_task_ends() {
        use crate::Signature;
        const LARGE: usize = 3 << 20;
        let model = |args: &Args<'_>| match args.values() {
            [Value::Str(text), _] if text == "fail" => {
                Err(crate::PythonError::new("E", "as asked"))
            }
            [Value::Str(text), Value::Int(len)] => {
                std::thread::sleep(Duration::from_millis(text.len().min(2) as u64));
                Ok(Value::Bytes(vec![1; *len as usize]))
            }
            _ => Ok(Value::None),
        };
        let signature = Signature::new().str("text").int("len");
        let engine = Engine::builder("test:len").signature(signature).workers(1).slots(4);
        let engine = engine.start_with(model).unwrap();
        let pages = || memory::pages_behind(engine.core().segment.descriptor()).unwrap();
        let before = pages();
        let large = "x".repeat(LARGE);
        let task = |text, len| Task::new().str(text).int(len);
        for (text, len) in [(&*large, 1), ("", LARGE as i64), (&*large, LARGE as i64)] {
            let ticket = engine.submit(&task(text, len)).unwrap();
            let deadline = std::time::Instant::now() + PATIENCE;
            while !engine.core().is_over(ticket.key()) {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
            assert!(pages() >= before + (LARGE as u64 >> 12), "taken: {} {len}", text.len());
            engine.wait(ticket, PATIENCE).unwrap();
            assert_eq!(pages(), before, "retrieved: {} {len}", text.len());
            // Abandoned at once, after a while, cancelled.
            drop(engine.submit(&task(text, len)).unwrap());
            let ticket = engine.submit(&task(text, len)).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            drop(ticket);
            let ticket = engine.submit(&task(text, len)).unwrap();
            engine.cancel(ticket.key());
            drop(ticket);
            // Ended early, and asked for when no worker has it any more.
            let ticket = engine.submit(&task(text, len)).unwrap();
            engine.cancel(ticket.key());
            while engine.core().is_held(ticket.key()) {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
            assert!(engine.wait(ticket, PATIENCE).is_err());
            while engine.in_use() > 0 {
                assert!(std::time::Instant::now() < deadline);
                std::thread::yield_now();
            }
            assert_eq!(pages(), before, "abandoned: {} {len}", text.len());
        }
        assert!(engine.call(&task("fail", 0), PATIENCE).is_err());
        let error = engine.submit(&Task::new().str(&"x".repeat(65 << 20)).int(1)).unwrap_err();
        assert!(matches!(error, SubmitError::TooLarge { .. }), "{error}");
        assert_eq!(pages(), before);
    }

    #[test]
    fn who_asks_a_supervisor_that_has_ended_sees_that_there_will_be_no_reply() {
        let mailbox = Mailbox {
            bell: Bell::new().unwrap(),
            requests: Mutex::new(Some(Vec::new())),
            asleep: AtomicU32::new(0),
            attended: true,
        };
        let ask = || {
            let (reply, replied) = std::sync::mpsc::sync_channel(1);
            mailbox.ask(Request::Reload(std::time::Instant::now(), reply));
            replied
        };
        let before = ask();
        assert_eq!(mailbox.take().len(), 1);
        assert!(before.recv().is_err(), "taken, and dropped");
        let before = ask();
        mailbox.close();
        assert!(before.recv().is_err());
        assert!(ask().recv().is_err());
        assert!(mailbox.take().is_empty());
    }
}
