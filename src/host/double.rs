//! The test double: the engine's real ring and slots, with a Rust closure at the other end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::builder::Config;
use super::core::Core;
use super::engine::{Backend, Engine, Shutdown};
use crate::error::StartError;
use crate::peer::{Handler, InPlace, Notice, Worker};
use crate::ring;
use crate::shm::{Order, Region};
use crate::sys::memory::FileIdentity;
use crate::sys::{futex, memory};
use crate::wire::{AnswerBuf, Args, Placed, PythonError, Refusal, Signature, Value};

/// How long threads may take to finish their task once the shutdown's deadline has passed.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// Starts an engine over threads that run `model`.
pub(crate) fn start<F>(config: Config, model: F) -> Result<Engine, StartError>
where
    F: Fn(&Args<'_>) -> Result<Value, PythonError> + Send + Sync + 'static,
{
    let core = Arc::new(Core::new(&config, false)?);
    let workers_mapping = workers_mapping(&core)?;
    let button = FileIdentity::of(core.notices.button());
    let button =
        button.map_err(|source| StartError::System { action: "look at a pipe", source })?;
    let model = Arc::new(model);
    let mut threads = Vec::new();
    for place in 0..config.sizes.workers {
        let handler = Closure { model: model.clone(), signature: config.setup.signature.clone() };
        let spawned = {
            let core = core.clone();
            thread::Builder::new().name(format!("nearcall-{place}")).spawn(move || {
                let Ok(place) = u16::try_from(place) else { return };
                let region = workers_mapping.as_ref().unwrap_or(core.segment.region());
                // SAFETY: the segment is `core`'s, which outlives this call, or it stays mapped for
                // ever; its lock was initialised; each place is given to one thread.
                let worker = unsafe {
                    let notice = Notice::new(core.notices.button(), button);
                    let large = core.segment.large();
                    Worker::new(region, large, notice, place, core.patience, handler)
                };
                if let Some(worker) = worker {
                    let _ = worker.run();
                }
            })
        };
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(source) => {
                end(&core, threads, Instant::now());
                return Err(StartError::System { action: "start a thread", source });
            }
        }
    }
    Ok(Engine::new(core, Backend::Threads(Mutex::new(threads))))
}

/// Mapped behind the segment's end, where there is no memory: whoever touches it gets a SIGBUS.
const GUARD_BYTES: u64 = 1 << 16;

/// A mapping of the segment that the workers have and the host has not, as between processes: only
/// under `--cfg nearcall_two_mappings`, for the sanitizers (`scripts/sanitize`). It is never unmapped.
fn workers_mapping(core: &Core) -> Result<Option<Region>, StartError> {
    if !cfg!(nearcall_two_mappings) {
        return Ok(None);
    }
    let system = |source| StartError::System { action: "map the segment once more", source };
    let bytes = core.segment.region().layout().segment_bytes;
    let base = memory::map_shared(core.segment.descriptor(), bytes + GUARD_BYTES);
    let base = base.map_err(system)?;
    // SAFETY: the first `bytes` bytes there were just mapped, readable and writable, for as long as
    // the process lives; nobody has the address but the region.
    let region = unsafe { Region::attach(base, bytes) };
    region.map(Some).map_err(|error| system(io::Error::other(error.0)))
}

/// Drains until the deadline, then stops. A closure that does not return keeps its thread, and
/// with it the segment, but no caller.
pub(crate) fn end(core: &Core, threads: Vec<JoinHandle<()>>, deadline: Instant) -> Shutdown {
    core.close("it was shut down");
    let mut drained = true;
    for (order, until) in
        [(Order::Drain, deadline), (Order::Stop, deadline.max(Instant::now()) + STOP_PATIENCE)]
    {
        for words in core.segment.region().workers() {
            ring::give_order(words, order, futex::wake_one);
        }
        while !threads.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        if threads.iter().all(JoinHandle::is_finished) {
            break;
        }
        drained = false;
    }
    let (finished, stuck): (Vec<_>, Vec<_>) =
        threads.into_iter().partition(JoinHandle::is_finished);
    for thread in finished {
        let _ = thread.join();
    }
    drained &= core.settle_all() == 0;
    Shutdown { drained, killed: stuck.len() }
}

struct Closure<F> {
    model: Arc<F>,
    signature: Signature,
}

impl<F> Handler for Closure<F>
where
    F: Fn(&Args<'_>) -> Result<Value, PythonError>,
{
    fn handle(&mut self, task: &[u8], in_place: &mut InPlace<'_>, answer: &mut AnswerBuf) {
        let tensor = |placed: &Placed<'_>| in_place.copy(placed).ok();
        let Ok(args) = Args::decode(&self.signature, task, tensor) else {
            return answer.refuse(Refusal::MalformedTask);
        };
        // The closure is only called again, never looked into, so it may be left in any state.
        match catch_unwind(AssertUnwindSafe(|| (self.model)(&args))) {
            Ok(Ok(value)) => {
                answer.start_value();
                answer.value(&value);
            }
            Ok(Err(error)) => answer.python_error(error),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned());
                let text = text.unwrap_or_else(|| "no message".to_owned());
                answer.python_error(PythonError::new("panic", text));
            }
        }
    }

    fn finalize(self) {}
}

/// What the sanitizers must report, or they watch nothing. Run by `scripts/sanitize` only.
#[cfg(test)]
mod planted {
    use super::*;
    use crate::shm::Payload;
    use crate::sync::Ordering;
    use crate::wire::{Task, ValueRef};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    #[ignore = "a data race, for the thread sanitizer"]
    fn an_answer_is_read_behind_a_look_that_does_not_acquire() {
        let model = |_: &Args<'_>| Ok(Value::Bytes(vec![7; 1000]));
        let engine = Engine::builder("test:race").workers(1).slots(1).start_with(model).unwrap();
        let ticket = engine.submit(&Task::new()).unwrap();
        let slot = engine.core().slot(ticket.key()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        // The race: `Core::outcome_of` loads with Acquire.
        while slot.words.done.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "no answer");
            thread::yield_now();
        }
        slot.copy_answer(&mut Payload::new()).unwrap();
        assert_eq!(
            engine.wait(ticket, PATIENCE).unwrap().get(0),
            Some(ValueRef::Bytes(&[7; 1000]))
        );
    }

    #[test]
    #[ignore = "a read of freed memory, for the address sanitizer"]
    fn an_answer_is_read_after_it_was_dropped() {
        let model = |_: &Args<'_>| Ok(Value::Bytes(vec![7; 1000]));
        let engine = Engine::builder("test:freed").workers(1).slots(1).start_with(model).unwrap();
        let answer = engine.call(&Task::new(), PATIENCE).unwrap();
        let first = answer.bytes(0).unwrap().as_ptr();
        drop(answer);
        // SAFETY: none. The bytes are gone: that is what must be reported.
        assert_eq!(unsafe { first.read_volatile() }, 7);
    }

    #[test]
    #[ignore = "a read behind the segment's end, for the address sanitizer and two mappings"]
    fn a_worker_reads_behind_the_end_of_the_segment() {
        let model = |_: &Args<'_>| Ok(Value::None);
        let engine = Engine::builder("test:end").workers(1).slots(1).start_with(model).unwrap();
        let region = workers_mapping(engine.core()).unwrap().unwrap();
        let to_end = region.layout().segment_bytes - region.layout().consumer_end;
        // SAFETY: the guard is mapped there.
        let end = unsafe { region.lock().add(to_end as usize) };
        // SAFETY: none. There is no memory behind it: that is what must be reported.
        assert_eq!(unsafe { end.read_volatile() }, 0);
    }
}
