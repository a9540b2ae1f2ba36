//! The workers' half: what `nearcall-worker` is made of, all but its Python.
//!
//! A language is put under it by two traits: [`Runtime`] for the fork server (import once, fork
//! many) and [`Handler`] for a worker (answer one task after another). `nearcall-worker`
//! implements them with CPython, the tests' worker with plain Rust.
//!
//! Not for services, and not covered by semantic versioning: host and worker must be of the same
//! version, which the host checks.

mod double;
mod fork_copy;
mod forked;
mod in_place;
mod interrupt;
mod last_words;
mod notice;
mod rights;
mod serve;
mod server;

pub use crate::error::{MalformedTask, PeerError};
#[doc(hidden)]
pub use crate::shm::layout_tables;
pub use crate::wire::{
    AnswerBuf, Argument, DType, Kind, Len, Limits, MAX_DEPTH, MAX_RANK, Malformed, ModelSpec,
    Outcome, Parameter, Patience, Placed, PythonError, Refusal, Scalar, Setup, Signature,
    StartMethod, TENSOR_ALIGNMENT, Task, TaskReader, Tensor, TensorRef, ThreadReport, Value,
    ValueRef,
};
#[doc(hidden)]
pub use double::SlotDouble;
pub use fork_copy::ForkCopy;
pub use in_place::{InPlace, KeptTensors, TensorMemory};
pub(crate) use notice::Notice;
pub(crate) use serve::Worker;
pub(crate) use server::Version;
pub use server::{CommandLine, Language, run, run_as, version_json};

/// What stands between a Python interpreter and a worker's own arguments, where the interpreter is to be
/// the worker: output is not buffered, as in `nearcall-worker` (a killed worker loses none), and the
/// folder that the host happens to be in is not searched for modules (`-c` puts "" in front, `-P` would
/// leave it out, but only from Python 3.11 on). `python -m nearcall.worker` is the same but for that.
pub const PYTHON_ARGUMENTS: [&str; 3] = [
    "-u",
    "-c",
    "import sys; sys.path[:1] == [''] and sys.path.pop(0); from nearcall.worker import main; main()",
];

/// The layout of the segment that this build speaks.
pub const LAYOUT_VERSION: u32 = crate::shm::LAYOUT_VERSION;

/// What a fork server does with its language.
///
/// The calls come in this order: [`import`](Self::import) once; then, for each worker,
/// [`before_fork`](Self::before_fork), the fork, and [`after_fork_parent`](Self::after_fork_parent)
/// here or [`after_fork_child`](Self::after_fork_child) and [`instantiate`](Self::instantiate)
/// there. A worker that is started from scratch gets `import` and `instantiate` only.
pub trait Runtime {
    /// The model in a worker.
    type Model: Handler;

    /// Starts the interpreter, imports the model, checks that it takes the signature's keywords,
    /// and preloads what workers share.
    ///
    /// Reports how many threads the process has afterwards.
    ///
    /// # Errors
    /// What the model's code raised, or an equivalent for what is missing.
    fn import(&mut self, setup: &Setup) -> Result<ThreadReport, PythonError>;

    /// Makes the interpreter ready for a fork.
    fn before_fork(&mut self) {}

    /// Undoes [`before_fork`](Self::before_fork) in the fork server, also after a failed fork.
    fn after_fork_parent(&mut self) {}

    /// Makes the interpreter whole in the new worker.
    fn after_fork_child(&mut self) {}

    /// Constructs and initialises the model in the worker.
    ///
    /// # Errors
    /// What the model's code raised.
    fn instantiate(&mut self) -> Result<Self::Model, PythonError>;

    /// Ends the interpreter of a fork server that was told to end, when no worker is left: runs
    /// what the import has registered for the exit.
    fn end(&mut self) {}
}

/// What a worker does with its tasks.
pub trait Handler {
    /// Answers one task. `task` holds its encoded arguments, in the order of the signature (see
    /// [`TaskReader`]); `in_place` has the tensors that it names without their elements. The outcome
    /// goes into `answer`, which starts empty and must not stay so.
    ///
    /// When this returns, nothing may use the memory of tensors in place any more, or
    /// [`InPlace::keep`] must have been called.
    fn handle(&mut self, task: &[u8], in_place: &mut InPlace<'_>, answer: &mut AnswerBuf);

    /// Makes the model ready for interrupts, and gives what breaks a call off: a function that is
    /// called in a signal handler, on the thread that calls [`handle`](Self::handle), in between
    /// whatever that does. It must be async-signal-safe. `None`: calls cannot be broken off.
    ///
    /// Called once, before the first task, and only if the host may want to interrupt.
    fn interrupter(&mut self) -> Option<fn()> {
        None
    }

    /// Takes an interrupt back that may have come too late for the call that has just returned: the
    /// next one must not see it. Called only after a call that was interrupted.
    fn forget_interrupt(&mut self) {}

    /// Frees what the call has left. Called when the answer is with the host, so that nobody waits
    /// for it.
    fn tidy(&mut self) {}

    /// Uses a time without tasks, some microseconds after the last one and before the worker parks:
    /// what is put off until then makes no call longer.
    fn idle(&mut self) {}

    /// Whether the worker may spin for its next task without letting anything else of its
    /// process run (for CPython: no other thread wants the GIL).
    fn alone(&mut self) -> bool {
        true
    }

    /// Waits by calling `wait`, while other threads of the process may run (for CPython: without
    /// the GIL).
    fn while_detached(&mut self, wait: &mut dyn FnMut()) {
        wait();
    }

    /// Ends the model in order.
    fn finalize(self);
}
