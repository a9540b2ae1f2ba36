//! Doors for the fuzz targets in `fuzz/`: thin functions over what is private. Compiled in by the
//! feature `fuzzing` only.
//!
//! A module of the supervisor's by its place in the tree, so that it sees the whole host.

#![allow(missing_docs, reason = "for the fuzz targets alone")]

use std::fs::File;
use std::io::ErrorKind;
use std::mem::offset_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Life, Shared, Supervisor, Worker};
use crate::error::{RetrieveError, StartError, SubmitError, TaskError, WaitError};
use crate::host::book::Book;
use crate::host::builder::{Config, Retirement};
use crate::host::core::{Core, Request};
use crate::host::{Answer, Key, WaitPolicy};
use crate::key::Generation;
use crate::ring;
use crate::shm::{AWAKE, BROKEN, Owner, Payload, Sizes, SlotWords, WorkerWords};
use crate::sync::Ordering;
use crate::sys::process::Process;
use crate::wire::{
    Args, EncodeTo, Exit, FromServer, Outcome, PlacedTask, PythonError, RawWriter, Signature,
    StartMethod, Task, Tensor, TensorSpec, ThreadReport, ToServer, Value, decode_message,
    encode_message, place,
};

/// What a worker makes of a task's bytes, and how many bytes its tensors in place have, of which it sees
/// zeros. Where that are many there are none.
pub fn decode_task(signature: &Signature, bytes: &[u8]) -> Option<(Vec<Value>, usize)> {
    let mut in_place = 0;
    let args = Args::decode(signature, bytes, |placed| {
        let zeros = usize::try_from(placed.bytes()).ok().filter(|bytes| *bytes <= MOST_ZEROS)?;
        in_place += zeros;
        let shape: Vec<_> = placed.shape().map(|extent| extent as usize).collect();
        Tensor::from_bytes(placed.dtype(), &shape, vec![0; zeros]).ok()
    });
    Some((args.ok()?.values().to_vec(), in_place))
}

/// Bytes that a tensor in place may have here.
const MOST_ZEROS: usize = 256;

/// The bytes of a task, as `submit` writes them into a slot, with tensors that were reserved for it; `None`
/// if it does not fit the signature.
pub fn encode_task(
    signature: &Signature,
    task: &Task<'_>,
    reserved: &[TensorSpec],
) -> Option<Vec<u8>> {
    let (tensors, _) = place(reserved).ok()?;
    let mut bytes = vec![0; signature.check(task, &tensors).ok()?];
    // SAFETY: the vector's own bytes, which nothing else touches while the writer lives.
    let mut writer = unsafe { RawWriter::new(bytes.as_mut_ptr(), bytes.len()) };
    PlacedTask { task, tensors: &tensors }.encode_to(&mut writer).ok()?;
    Some(bytes)
}

/// What the host makes of an outcome's bytes that may name tensors in place, of which there are `room`
/// bytes, and `outputs` can be read; and how many bytes that has put into it. `None`: no honest worker
/// writes that, or not all can be read.
pub fn splice(bytes: &[u8], room: usize, outputs: &[u8]) -> Option<(Vec<u8>, usize)> {
    if Outcome::bytes_placed(bytes, room as u64).ok()?.is_none() {
        return Some((bytes.to_vec(), 0));
    }
    let (mut whole, mut put) = (Payload::new(), 0);
    let spliced = Outcome::splice(bytes, room as u64, &mut whole, |offset, len, into| {
        let rest = usize::try_from(offset).ok().and_then(|offset| outputs.get(offset..));
        let read = rest.and_then(|rest| rest.get(..len)).ok_or(ErrorKind::UnexpectedEof)?;
        into.extend_from_slice(read);
        put += len;
        Ok(())
    });
    spliced.ok().map(|()| (whole.into_vec(), put))
}

/// The answer that an outcome's bytes make, as `retrieve` makes it.
pub fn answer(bytes: &[u8]) -> Option<Answer> {
    let mut answer = Answer::new();
    answer.payload().extend_from_slice(bytes);
    matches!(Outcome::decode(answer.payload()), Ok(Outcome::Value(_))).then_some(answer)
}

/// What a fork server understands of a packet, encoded again.
pub fn to_server(bytes: &[u8]) -> Option<Vec<u8>> {
    encode_message(decode_message::<ToServer>(bytes).ok()?)
}

/// What the host understands of a packet, encoded again.
pub fn from_server(bytes: &[u8]) -> Option<Vec<u8>> {
    encode_message(decode_message::<FromServer>(bytes).ok()?)
}

/// Packets as they are sent, some of each kind.
pub fn packets() -> Vec<Vec<u8>> {
    let setup = crate::Engine::builder("big_model:Engine")
        .method("run")
        .init_kwargs_json("{\"a\": 1}")
        .python_path("/models")
        .signature(Signature::new().floats("f", 3).strs("s", ..).int("i").bools("b", 1..=9))
        .start_method(StartMethod::Spawn)
        .collect_garbage_between_calls(true)
        .interrupt(Duration::from_millis(300))
        .memory_limit(1 << 30)
        .descriptor_limit(64)
        .cpu_limit(300)
        .wait_policy(WaitPolicy::Park)
        .validate();
    let to = setup.map(|config| ToServer::Setup(config.setup)).into_iter();
    let to = to.chain([ToServer::Spawn { worker: 1, incarnation: 300 }, ToServer::Stop]);
    let (worker, incarnation, pid) = (2, 1, 77_777);
    let error = PythonError::new("ValueError", "no");
    let from = [
        FromServer::Hello { pid },
        FromServer::Imported(ThreadReport { threads: 2, suspect: Some("numpy".to_owned()) }),
        FromServer::ImportFailed(error.clone()),
        FromServer::Spawned { worker, incarnation, pid },
        FromServer::SpawnFailed { worker, incarnation, errno: 11 },
        FromServer::Ready { worker, incarnation },
        FromServer::InitializeFailed { worker, incarnation, error },
        FromServer::Exited {
            worker,
            incarnation,
            pid,
            exit: Exit::Signal(9),
            last_words: "the end".to_owned(),
        },
    ];
    to.filter_map(encode_message).chain(from.into_iter().filter_map(encode_message)).collect()
}

/// The host's side of an engine without processes: segment, book, ring, and the supervisor with its
/// audits, burials and repairs. Workers are there for the supervisor; what they do is done by call.
/// Time passes in rounds only.
pub struct Host {
    core: Arc<Core>,
    supervisor: Supervisor,
    now: Instant,
}

/// What a [`Host`] is made with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub slots: usize,
    pub workers: usize,
    pub retries: u32,
    /// Workers are asked to break off before they are killed.
    pub interrupt: Option<Duration>,
    /// The first task of each slot comes after this generation, so that an input does the same each
    /// time.
    pub origin: u64,
}

/// Where what stands in the segment, in bytes from its start.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub bytes: usize,
    pub head: usize,
    pub workers: usize,
    pub worker_words: usize,
    pub ring: usize,
    pub entries: usize,
    pub slots: usize,
    pub slot_words: usize,
    pub bodies: usize,
    pub body: usize,
}

/// Where what stands in a slot's words.
pub const DONE: usize = offset_of!(SlotWords, done);
pub const ANSWER_LEN: usize = offset_of!(SlotWords, answer_len);
pub const CLAIM: usize = offset_of!(SlotWords, claim);
/// What belongs to a task ends behind this; what a host thread reads of an answer, before.
pub const CLAIM_END: usize = CLAIM + 8;
/// Where what stands in a worker's words.
pub const RUNNING: usize = offset_of!(WorkerWords, running);

/// Higher than any process id.
const NOBODY: u32 = i32::MAX as u32;

impl Host {
    /// # Errors
    /// As for any start.
    pub fn new(settings: Settings) -> Result<Self, StartError> {
        let mut builder = crate::Engine::builder("fuzz:target")
            .signature(Signature::new().str("text"))
            .slots(settings.slots)
            .slot_bytes(256)
            .payload_bytes(0)
            .workers(settings.workers)
            .retries(settings.retries)
            .wait_policy(WaitPolicy::Park);
        if let Some(grace) = settings.interrupt {
            builder = builder.interrupt(grace);
        }
        let config: Config = builder.validate()?;
        let mut core = Core::new(&config, true)?;
        let origin = Generation::new(settings.origin).unwrap_or(Generation::starting_at(1));
        core.book = Book::new(config.sizes.slots, origin);
        let core = Arc::new(core);
        let mut supervisor = Supervisor::new(core.clone(), Arc::new(Shared::default()), config);
        supervisor.is_up = true;
        Ok(Self { core, supervisor, now: Instant::now() })
    }

    /// The first byte of the segment.
    pub fn base(&self) -> *mut u8 {
        let region = self.core.segment.region();
        let host = std::ptr::from_ref(region.host()).cast::<u8>().cast_mut();
        host.wrapping_sub(region.layout().host as usize)
    }

    pub fn places(&self) -> Places {
        let region = self.core.segment.region();
        let layout = region.layout();
        let Sizes { slot_bytes, .. } = layout.sizes;
        Places {
            bytes: layout.segment_bytes as usize,
            head: std::ptr::from_ref(region.ring().head) as usize - self.base() as usize,
            workers: layout.workers as usize,
            worker_words: size_of::<WorkerWords>(),
            ring: layout.ring as usize,
            entries: layout.ring_entries as usize,
            slots: layout.slots as usize,
            slot_words: size_of::<SlotWords>(),
            bodies: layout.bodies as usize,
            body: slot_bytes as usize,
        }
    }

    // What threads of the host do ------------------------------------------------------------------

    /// # Errors
    /// See [`crate::Engine::submit_by`]; so for the others.
    pub fn submit(&self, text: &str, within: Option<Duration>) -> Result<Key, SubmitError> {
        let (key, _) = self.core.submit(&Task::new().str(text))?;
        if let Some(within) = within {
            self.core.set_deadline(key, self.now + within);
        }
        Ok(key)
    }

    /// # Errors
    /// See [`crate::Engine::retrieve`].
    pub fn retrieve(&self, key: Key, answer: &mut Answer) -> Result<bool, RetrieveError> {
        self.core.poll(key, answer)
    }

    /// # Errors
    /// See [`crate::Engine::wait`].
    pub fn wait(&self, key: Key) -> Result<Answer, WaitError> {
        self.core.wait(key, Duration::ZERO.into(), false)
    }

    pub fn cancel(&self, key: Key) -> bool {
        self.core.end_early(key, TaskError::Cancelled)
    }

    pub fn abandon(&self, key: Key) {
        self.core.abandon(key);
    }

    pub fn in_use(&self) -> usize {
        self.core.reclaim();
        self.core.book.in_use()
    }

    /// The end of the engine: every task that is not done ends.
    pub fn close(&self) -> usize {
        self.core.close("the end");
        self.core.settle_all()
    }

    // What the supervisor does ---------------------------------------------------------------------

    /// One round of its loop, in which no process says anything.
    pub fn round(&mut self, passed: Duration) {
        self.now += passed;
        for request in self.core.mailbox.take() {
            match request {
                Request::Fault(place) => self.supervisor.replace_faulty(place),
                Request::Condemn(key) => self.supervisor.note_overdue(key, self.now),
                Request::Look | Request::Shutdown(_) | Request::Reload(..) => {}
            }
        }
        self.supervisor.act(self.now);
        // None while nothing happens: something might have.
        if self.supervisor.next_tick.is_none() {
            self.supervisor.resume_ticks();
            self.supervisor.next_tick = Some(self.now);
        }
        if self.supervisor.next_tick.is_some_and(|tick| self.now >= tick) {
            self.supervisor.tick(self.now);
        }
    }

    pub fn tail(&self) -> u64 {
        self.core.tail()
    }

    /// Whether all workers have to go, so that the segment can be made anew.
    pub fn rebuilds(&self) -> bool {
        self.supervisor.rebuilds
    }

    /// A worker begins to serve at this place. `false` if none may, or one does.
    pub fn hire(&mut self, place: usize) -> bool {
        let core = self.core.clone();
        let (Some(row), Some(seat), Some(words), Ok(nobody)) = (
            self.supervisor.places.get_mut(place),
            self.supervisor.seats.get_mut(place),
            core.segment.region().workers().get(place),
            File::open("/dev/null"),
        ) else {
            return false;
        };
        if self.supervisor.rebuilds || row.worker.is_some() {
            return false;
        }
        let mut worker = Worker::new(0, Retirement::default(), self.now);
        // Signals that are sent there reach nobody.
        worker.process = Some(Arc::new(Process { pid: NOBODY, pidfd: nobody.into() }));
        worker.ready = true;
        worker.enter(Life::Serving, self.now);
        row.incarnation += 1;
        row.worker = Some(worker);
        seat.holder = Some(place);
        ring::clear_worker(words);
        // Relaxed: as in `peer::serve`.
        words.parked.store(AWAKE, Ordering::Relaxed);
        self.supervisor.note_service();
        true
    }

    /// Whether the supervisor has killed the worker at this place.
    pub fn is_killed(&self, place: usize) -> bool {
        let row = self.supervisor.places.get(place).and_then(|row| row.worker.as_ref());
        row.is_some_and(|worker| worker.killed_for.is_some())
    }

    /// The worker at this place has ended; `broken`: because it has found the segment broken.
    pub fn bury(&mut self, place: usize, broken: bool) {
        if broken && let Some(words) = self.core.segment.region().workers().get(place) {
            words.away.store(BROKEN, Ordering::Relaxed);
        }
        let exit = if broken { Exit::Code(1) } else { Exit::Signal(9) };
        self.supervisor.note_end(place, self.now);
        self.supervisor.bury(place, exit, String::new(), self.now);
    }

    /// Starts of workers have failed, again and again. Whether tasks are taken all the same, because
    /// somebody serves.
    pub fn fail_starts(&mut self) -> bool {
        self.supervisor.failed_starts = u32::MAX;
        self.supervisor.check_availability();
        self.core.is_open()
    }

    // What an honest worker does, as in `peer::serve` ----------------------------------------------

    /// Gets something to do, and the task's bytes.
    pub fn claim(&self, place: u16) -> Option<(Key, Vec<u8>)> {
        let region = self.core.segment.region();
        let mut task = Payload::new();
        let slot = |index| Some(region.slot(index)?.words);
        let claimed = ring::claim(region.ring(), slot, Owner::worker(place)?, &mut task)?;
        let words = region.workers().get(usize::from(place))?;
        // Relaxed, here and below: as there.
        words.running.store(claimed.key.get(), Ordering::Relaxed);
        words.tasks.fetch_add(1, Ordering::Relaxed);
        if claimed.len > crate::shm::ENTRY_BYTES
            && region.slot(claimed.key.index())?.copy_task(claimed.len, &mut task).is_err()
        {
            // It answers that the task is malformed.
            task.clear();
        }
        Some((claimed.key, task.to_vec()))
    }

    /// Has an outcome. `false` if it has lost the task, and must go.
    pub fn finish(&self, place: u16, key: Key) -> bool {
        let slot = self.core.slot(key).zip(Owner::worker(place));
        slot.is_some_and(|(slot, owner)| ring::finish(slot.words, key, owner))
    }

    /// Hands over the outcome of the task that it has finished.
    pub fn publish(&self, place: u16, key: Key, outcome: &[u8]) {
        let (Some(slot), Some(owner)) = (self.core.slot(key), Owner::worker(place)) else { return };
        // SAFETY: the worker has claimed the slot and not published its outcome yet.
        let writer = unsafe { slot.answer_writer(outcome.len()) };
        if writer.is_some_and(|writer| writer.put(outcome).is_ok()) {
            ring::publish(slot.words, key, owner);
        }
        if let Some(words) = self.core.segment.region().workers().get(usize::from(place)) {
            words.running.store(0, Ordering::Relaxed);
        }
    }
}
