//! The test double: the engine's real ring and slots, with a Rust closure at the other end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::builder::Config;
use super::core::Core;
use super::engine::{Backend, Engine, Shutdown};
use crate::error::StartError;
use crate::peer::{Handler, Worker};
use crate::ring;
use crate::shm::Order;
use crate::sys::futex;
use crate::wire::{AnswerBuf, Args, PythonError, Refusal, Signature, Value};

/// How long threads may take to finish their task once the shutdown's deadline has passed.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// Starts an engine over threads that run `model`.
pub(crate) fn start<F>(config: Config, model: F) -> Result<Engine, StartError>
where
    F: Fn(&Args<'_>) -> Result<Value, PythonError> + Send + Sync + 'static,
{
    let core = Arc::new(Core::new(&config, false)?);
    let model = Arc::new(model);
    let mut threads = Vec::new();
    for place in 0..config.sizes.workers {
        let handler = Closure { model: model.clone(), signature: config.setup.signature.clone() };
        let spawned = {
            let core = core.clone();
            thread::Builder::new().name(format!("nearcall-{place}")).spawn(move || {
                let Ok(place) = u16::try_from(place) else { return };
                // SAFETY: the segment is `core`'s, which outlives this call; its lock was
                // initialised; each place is given to one thread.
                let worker =
                    unsafe { Worker::new(core.segment.region(), place, core.patience, handler) };
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
    fn handle(&mut self, task: &[u8], answer: &mut AnswerBuf) {
        let Ok(args) = Args::decode(&self.signature, task) else {
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
