//! Doors for the fuzz targets in `fuzz/`: thin functions over what is private. Compiled in by the
//! feature `fuzzing` only.
//!
//! A module of the supervisor's by its place in the tree, so that it sees the whole host.

#![allow(missing_docs, reason = "for the fuzz targets alone")]

use std::mem::offset_of;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Shared, Supervisor};
use crate::error::{Death, DeathReport, RetrieveError, StartError, SubmitError, WaitError};
use crate::host::book::Book;
use crate::host::builder::Config;
use crate::host::core::{Core, Request};
use crate::host::{Answer, Key, WaitPolicy};
use crate::key::Generation;
use crate::ring;
use crate::shm::{Owner, Payload, Sizes, SlotWords};
use crate::wire::{
    Args, EncodeTo, Exit, FromServer, Outcome, PythonError, RawWriter, Signature, StartMethod,
    Task, ThreadReport, ToServer, Value, decode_message, encode_message,
};

/// What a worker makes of a task's bytes.
pub fn decode_task(signature: &Signature, bytes: &[u8]) -> Option<Vec<Value>> {
    Args::decode(signature, bytes).ok().map(|args| args.values().to_vec())
}

/// The bytes of a task, as `submit` writes them into a slot; `None` if it does not fit the signature.
pub fn encode_task(signature: &Signature, task: &Task<'_>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; signature.check(task).ok()?];
    // SAFETY: the vector's own bytes, which nothing else touches while the writer lives.
    let mut writer = unsafe { RawWriter::new(bytes.as_mut_ptr(), bytes.len()) };
    task.encode_to(&mut writer).ok()?;
    Some(bytes)
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

/// The host's side of an engine without processes: segment, book, ring, and the supervisor's audits
/// and burials. What a worker does is done by call.
pub struct Host {
    core: Arc<Core>,
    supervisor: Supervisor,
}

/// Where what stands in the segment, in bytes from its start.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub bytes: usize,
    pub head: usize,
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

impl Host {
    /// The first task of each slot comes after generation `origin`, so that an input does the same
    /// each time.
    ///
    /// # Errors
    /// As for any start.
    pub fn new(slots: usize, workers: usize, origin: u64) -> Result<Self, StartError> {
        let config: Config = crate::Engine::builder("fuzz:target")
            .signature(Signature::new().str("text"))
            .slots(slots)
            .slot_bytes(256)
            .workers(workers)
            .wait_policy(WaitPolicy::Park)
            .validate()?;
        let mut core = Core::new(&config, true)?;
        let origin = Generation::new(origin).unwrap_or(Generation::starting_at(origin));
        core.book = Book::new(config.sizes.slots, origin);
        let core = Arc::new(core);
        let supervisor = Supervisor::new(core.clone(), Arc::new(Shared::default()), config);
        Ok(Self { core, supervisor })
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
            ring: layout.ring as usize,
            entries: layout.ring_entries as usize,
            slots: layout.slots as usize,
            slot_words: size_of::<SlotWords>(),
            bodies: layout.bodies as usize,
            body: slot_bytes as usize,
        }
    }

    pub fn tail(&self) -> u64 {
        self.core.tail()
    }

    /// # Errors
    /// See [`crate::Engine::submit`]; so for the others.
    pub fn submit(&self, text: &str) -> Result<Key, SubmitError> {
        self.core.submit(&Task::new().str(text)).map(|(key, _)| key)
    }

    /// # Errors
    /// See [`crate::Engine::retrieve`].
    pub fn retrieve(&self, key: Key, answer: &mut Answer) -> Result<bool, RetrieveError> {
        self.core.retrieve_into(key, answer)
    }

    /// # Errors
    /// See [`crate::Engine::wait`].
    pub fn wait(&self, key: Key) -> Result<Answer, WaitError> {
        self.core.wait(key, Duration::ZERO.into(), false)
    }

    pub fn abandon(&self, key: Key) {
        self.core.abandon(key);
    }

    pub fn in_use(&self) -> usize {
        self.core.reclaim();
        self.core.book.in_use()
    }

    /// One of the supervisor's looks.
    pub fn audit(&mut self) {
        self.supervisor.tick(Instant::now());
    }

    /// The worker at this place has died.
    pub fn bury(&mut self, place: usize) {
        let death = Death { pid: 1, exit: Exit::Signal(9) };
        self.supervisor.settle_dead(place, death, &DeathReport::default());
    }

    /// Kills, and buries, the workers that the host holds to be faulty.
    pub fn bury_faulty(&mut self, workers: usize) {
        let requests = std::mem::take(&mut *self.core.mailbox.requests.lock());
        for request in requests {
            let Request::Fault(place) = request else { continue };
            let place = place.map(usize::from).filter(|place| *place < workers);
            (0..workers).filter(|w| place.is_none_or(|p| p == *w)).for_each(|w| self.bury(w));
        }
    }

    /// The end of the engine: every task that is not done ends.
    pub fn close(&self) -> usize {
        self.core.close("the end");
        self.core.settle_all()
    }

    /// What an honest worker at this place gets to do, and the task's bytes.
    pub fn claim(&self, place: u16) -> Option<(Key, Vec<u8>)> {
        let region = self.core.segment.region();
        let mut task = Payload::new();
        let slot = |index| Some(region.slot(index)?.words);
        let claimed = ring::claim(region.ring(), slot, Owner::worker(place)?, &mut task)?;
        if claimed.len > crate::shm::ENTRY_BYTES {
            region.slot(claimed.key.index())?.copy_task(claimed.len, &mut task).ok()?;
        }
        Some((claimed.key, task.to_vec()))
    }

    /// It answers. `false` if it has lost the task, and must go.
    pub fn answer(&self, place: u16, key: Key, outcome: &[u8]) -> bool {
        let (Some(slot), Some(owner)) = (self.core.slot(key), Owner::worker(place)) else {
            return false;
        };
        if !ring::finish(slot.words, key, owner) {
            return false;
        }
        // SAFETY: the worker has claimed the slot and not published its outcome yet.
        let writer = unsafe { slot.answer_writer(outcome.len()) };
        let written = writer.is_some_and(|writer| writer.put(outcome).is_ok());
        ring::publish(slot.words, key, owner);
        written
    }
}
