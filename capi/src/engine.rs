//! `nearcall_engine`: the functions of a running engine.

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::time::Duration;

use engine::{Deadline, Key, WorkerState};

use crate::answer::Answer;
use crate::completions::Door;
use crate::error::Error;
use crate::failure::{Failure, guard, shielded};
use crate::task::Task;

/// A model in worker processes. The caller's. Any thread may use it, at the same time as others, but for
/// nearcall_engine_free().
#[derive(Debug)]
pub struct Engine {
    pub(crate) engine: engine::Engine,
    /// Dropped after the engine: nobody watches it any more then.
    pub(crate) door: Door,
}

impl Engine {
    pub(crate) fn new(engine: engine::Engine) -> Self {
        Self { engine, door: Door::default() }
    }
}

/// How an engine is: nearcall_health().
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Health {
    /// Every worker that there should be serves, none hangs or is stopped, and the supervisor answers.
    pub is_well: bool,
    /// Whether tasks are taken.
    pub takes_tasks: bool,
    /// The supervisor's thread has given a sign of life.
    pub supervisor_responds: bool,
    /// Workers that there should be.
    pub wanted: usize,
    /// Worker processes that there are.
    pub workers: usize,
    /// Those that start, or stand by.
    pub starting: usize,
    /// Those that serve and have no task.
    pub idle: usize,
    /// Those that run a task, the ones that hang too.
    pub running: usize,
    /// Those that have run the same task for longer than nearcall_builder_hung_after() says.
    pub hung: usize,
    /// Those that a signal or a debugger has stopped.
    pub stopped: usize,
    /// Those that were replaced or have ended, and are not gone yet.
    pub leaving: usize,
    /// Slots that hold a task, or an answer that was not retrieved.
    pub in_use: usize,
    /// Workers that have died since the start.
    pub deaths: u64,
}

#[inline]
pub(crate) fn running(engine: Option<&Engine>) -> Result<&engine::Engine, Failure> {
    engine.map(|engine| &engine.engine).ok_or_else(|| Failure::null("the engine"))
}

/// Counted from now; negative is never.
#[inline]
pub(crate) fn deadline(timeout_ns: i64) -> Deadline {
    u64::try_from(timeout_ns).map_or(Deadline::NEVER, |ns| Deadline::from(Duration::from_nanos(ns)))
}

#[inline]
pub(crate) fn key_of(key: i64) -> Result<Key, Failure> {
    let number = u64::try_from(key).ok().and_then(Key::from_number);
    number.ok_or(Failure::NoKey(key))
}

/// The version of this library, as in "0.1.0". It lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Frees an engine, and ends it: running tasks get 0.3 s, then the workers are killed. Call
/// nearcall_shutdown() first to let them finish. No other thread may use the engine any more. NULL is nothing to
/// free. In a forked child this ends nothing of the parent's.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_engine_free(engine: Option<Box<Engine>>) {
    shielded((), || drop(engine));
}

/// Accepts a task, and gives its key: a positive number. Never waits. NEARCALL_FLAG_AGAIN when all slots are
/// taken: try again later.
///
/// The task is the caller's to retrieve, wait for, cancel or abandon: until then it has a slot. `key` is 0 if
/// the task was not accepted.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_submit(
    engine: Option<&Engine>,
    task: Option<&Task>,
    key: Option<&mut MaybeUninit<i64>>,
    error: Option<&mut Error>,
) -> c_int {
    nearcall_submit_by(engine, task, -1, key, error)
}

/// Accepts a task that has to be done within so many nanoseconds; negative: whenever. If it is not, it ends with
/// NEARCALL_FLAG_DEADLINE_PASSED, whether somebody waits for it or not, and the worker that runs it is replaced.
/// Otherwise as nearcall_submit().
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_submit_by(
    engine: Option<&Engine>,
    task: Option<&Task>,
    timeout_ns: i64,
    key: Option<&mut MaybeUninit<i64>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let place = key.ok_or_else(|| Failure::null("the place for the key"))?;
        place.write(0);
        let engine = running(engine)?;
        let task = task.ok_or_else(|| Failure::null("the task"))?.arguments()?;
        let ticket = if timeout_ns < 0 {
            engine.submit(task)?
        } else {
            engine.submit_by(task, deadline(timeout_ns))?
        };
        place.write(ticket.into_key().into());
        Ok(())
    })
}

/// Takes the answer of a task, if it is done; NEARCALL_FLAG_AGAIN while it is not. Never waits.
///
/// An answer can be taken once. Any flag but NEARCALL_FLAG_AGAIN and NEARCALL_FLAG_FORKED_CHILD ends the task, and
/// its key. The memory of `answer` is used again; what was read from it before is gone.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_retrieve(
    engine: Option<&Engine>,
    key: i64,
    answer: Option<&mut Answer>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let engine = running(engine)?;
        let answer = answer.ok_or_else(|| Failure::null("the answer"))?;
        let done = engine.retrieve_into(key_of(key)?, answer.refill())?;
        if done { Ok(()) } else { Err(Failure::NotFinished) }
    })
}

/// Waits for the answer of a task, for at most so many nanoseconds; negative: for as long as it takes.
/// NEARCALL_FLAG_AGAIN if it has not come by then: the task goes on, and its key stays good. Otherwise as
/// nearcall_retrieve().
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_wait(
    engine: Option<&Engine>,
    key: i64,
    timeout_ns: i64,
    answer: Option<&mut Answer>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let engine = running(engine)?;
        let answer = answer.ok_or_else(|| Failure::null("the answer"))?;
        Ok(engine.wait_into(key_of(key)?, deadline(timeout_ns), answer.refill())?)
    })
}

/// Submits a task and waits for its answer. After so many nanoseconds the task is ended, with
/// NEARCALL_FLAG_DEADLINE_PASSED; negative: never. With a task and an answer that are used again it allocates
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_call(
    engine: Option<&Engine>,
    task: Option<&Task>,
    timeout_ns: i64,
    answer: Option<&mut Answer>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let engine = running(engine)?;
        let task = task.ok_or_else(|| Failure::null("the task"))?.arguments()?;
        let answer = answer.ok_or_else(|| Failure::null("the answer"))?;
        Ok(engine.call_into(task, deadline(timeout_ns), answer.refill())?)
    })
}

/// Ends a task that is not done yet: NEARCALL_FLAG_CANCELLED is there to be retrieved at once. `was_running` (or
/// NULL) gets false if the task was over before, or this engine has no such task.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_cancel(
    engine: Option<&Engine>,
    key: i64,
    was_running: Option<&mut MaybeUninit<bool>>,
) -> c_int {
    guard(None, || {
        let cancelled = match (running(engine), key_of(key)) {
            (Ok(engine), Ok(key)) => Ok(engine.cancel(key)),
            (Err(failure), _) => Err(failure),
            (_, Err(_)) => Ok(false),
        };
        if let Some(place) = was_running {
            place.write(*cancelled.as_ref().unwrap_or(&false));
        }
        cancelled.map(drop)
    })
}

/// Gives up a task whose answer nobody wants any more: its slot is free as soon as no worker has it. One that
/// runs, runs to its end. A key that is none, or used up, is nothing to give up.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_abandon(engine: Option<&Engine>, key: i64) -> c_int {
    guard(None, || {
        let engine = running(engine)?;
        if let Ok(key) = key_of(key) {
            engine.abandon(key);
        }
        Ok(())
    })
}

/// Ends an engine: it takes no more tasks, and waits for those accepted, for at most so many nanoseconds
/// (negative: for as long as it takes); then running ones get 0.3 s, then their workers are killed. Answers stay
/// to be retrieved. `drained` (or NULL) gets whether all were done in time, `killed` (or NULL) how many workers
/// had to be killed. A second time it returns at once, or waits for the first.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_shutdown(
    engine: Option<&Engine>,
    timeout_ns: i64,
    drained: Option<&mut MaybeUninit<bool>>,
    killed: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    guard(None, || {
        let ended = running(engine)?.shutdown(deadline(timeout_ns));
        if let Some(place) = drained {
            place.write(ended.drained);
        }
        if let Some(place) = killed {
            place.write(ended.killed);
        }
        Ok(())
    })
}

/// Replaces all workers by such that have the model's code as it is now on disk, and waits for that, for at most
/// so many nanoseconds. No task fails, and none waits for longer than the one at hand. `workers` (or NULL) gets
/// how many were replaced.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_reload(
    engine: Option<&Engine>,
    timeout_ns: i64,
    workers: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let reloaded = running(engine)?.reload(deadline(timeout_ns)).map_err(Failure::Reload)?;
        if let Some(place) = workers {
            place.write(reloaded.workers);
        }
        Ok(())
    })
}

/// Slots that hold a task, or an answer that was not retrieved. 0 for NULL, and in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_in_use(engine: Option<&Engine>) -> usize {
    shielded(0, || engine.map_or(0, |engine| engine.engine.in_use()))
}

/// How many tasks the engine holds at once. 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_slots(engine: Option<&Engine>) -> usize {
    shielded(0, || engine.map_or(0, |engine| engine.engine.slots()))
}

/// How many workers the engine has when it is whole. 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_workers(engine: Option<&Engine>) -> usize {
    shielded(0, || engine.map_or(0, |engine| engine.engine.workers()))
}

/// The process ids of the workers that serve at this moment: writes as many as there is room for, and returns how
/// many there are. 0 for NULL, and in a forked child.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_worker_pids(
    engine: Option<&Engine>,
    pids: *mut u32,
    room: usize,
) -> usize {
    shielded(0, || {
        let found = engine.map_or(Vec::new(), |engine| engine.engine.worker_pids());
        if !pids.is_null() {
            for (index, pid) in found.iter().enumerate().take(room) {
                // SAFETY: before the end of the room that the caller has.
                let place = unsafe { pids.add(index) };
                // SAFETY: as above.
                unsafe { place.write(*pid) };
            }
        }
        found.len()
    })
}

/// How the engine is. Takes some 0.1 ms, at most 0.2 s. In a forked child: NEARCALL_FLAG_FORKED_CHILD.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_health(
    engine: Option<&Engine>,
    health: Option<&mut MaybeUninit<Health>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let place = health.ok_or_else(|| Failure::null("the place for the health"))?;
        place.write(Health::default());
        let found = running(engine)?.health();
        let found = found.ok_or(Failure::Task(engine::error::RetrieveError::ForkedChild))?;
        let count = |wanted: &[WorkerState]| {
            found.workers.iter().filter(|worker| wanted.contains(&worker.state)).count()
        };
        place.write(Health {
            is_well: found.is_well,
            takes_tasks: found.takes_tasks,
            supervisor_responds: found.supervisor_responds,
            wanted: found.wanted,
            workers: found.workers.len(),
            starting: count(&[WorkerState::Starting, WorkerState::Standby]),
            idle: count(&[WorkerState::Idle]),
            running: count(&[WorkerState::Running, WorkerState::Computing, WorkerState::Stuck]),
            hung: count(&[WorkerState::Computing, WorkerState::Stuck]),
            stopped: count(&[WorkerState::Stopped]),
            leaving: count(&[WorkerState::Leaving, WorkerState::Ended]),
            in_use: found.in_use,
            deaths: found.deaths,
        });
        Ok(())
    })
}
