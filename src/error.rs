//! One error enum for each operation. Each says what happened, to whom, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

mod code;

pub use code::Code;

use crate::key::Key;
use crate::wire::{DType, Exit, Kind, Len, PythonError, Refusal};

/// A signature that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A name that Python would not take as a keyword.
    #[error("the parameter name {name:?} is no Python identifier")]
    NotAnIdentifier {
        /// The name.
        name: String,
    },
    /// A name given more than once.
    #[error("the parameter {name:?} is declared twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A range of lengths that no list has.
    #[error("no list has {min} to {max} items: parameter {name:?}")]
    EmptyRange {
        /// The parameter.
        name: String,
        /// The least number of items.
        min: u32,
        /// The largest number of items.
        max: u32,
    },
    /// More parameters than a signature can have.
    #[error("{found} parameters are more than the limit of {limit}")]
    TooMany {
        /// How many were declared.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// A configuration that cannot be run. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number outside its limits.
    #[error("{what} = {found} is outside its limits, {min} to {max}")]
    OutOfRange {
        /// Which setting.
        what: &'static str,
        /// What it was set to.
        found: u64,
        /// The least it can be.
        min: u64,
        /// The most it can be.
        max: u64,
    },
    /// A model that is not written as `module:callable`.
    #[error("the model {found:?} is not written as \"module:Class\" or \"module:function\"")]
    Model {
        /// What was given.
        found: String,
    },
    /// A setting that holds a NUL byte or is not UTF-8.
    #[error("{what} {found:?} holds a NUL byte or is not UTF-8")]
    NotText {
        /// Which setting.
        what: &'static str,
        /// What was given, as far as it can be shown.
        found: String,
    },
    /// Model, paths, signature and initial arguments together are too long for one message.
    #[error(
        "model, paths, signature and init_kwargs_json together are longer than {limit} bytes: \
         hand large configurations over in a file"
    )]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The signature is not one.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A start that failed. Everything that it had begun is ended and removed again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no worker binary.
    #[error(
        "no nearcall-worker found (tried {}): build one for your Python, see README.md, \
         \"The worker\", and name it with .worker(path) or $NEARCALL_WORKER",
        .tried.join(", ")
    )]
    WorkerNotFound {
        /// The places that were looked at, in order.
        tried: Vec<String>,
    },
    /// The worker binary could not be asked for its version.
    #[error("{} is no usable nearcall-worker: {reason}", .worker.display())]
    WorkerUnusable {
        /// The binary.
        worker: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// The worker binary belongs to another version of this library.
    #[error(
        "{} is of version {found}, this library needs {expected}: build the worker from the same version",
        .worker.display()
    )]
    WorkerVersion {
        /// The binary.
        worker: PathBuf,
        /// Its version and layout version.
        found: String,
        /// The library's.
        expected: String,
    },
    /// There is no Python where it was said to be.
    #[error("no Python found: {reason}")]
    PythonNotFound {
        /// What was tried.
        reason: String,
    },
    /// The Python could not be asked for its version.
    #[error("{} is no usable Python: {reason}", .python.display())]
    PythonUnusable {
        /// The interpreter.
        python: PathBuf,
        /// What it did instead.
        reason: String,
    },
    /// The worker was built for another minor version of Python.
    #[error(
        "{} is Python {found}, but {} was built for Python {built_for}: \
         build a worker with PYO3_PYTHON={} or choose another environment with .python(…)",
        .python.display(), .worker.display(), .python.display()
    )]
    PythonVersion {
        /// The interpreter.
        python: PathBuf,
        /// Its minor version, as in `3.12`.
        found: String,
        /// The worker.
        worker: PathBuf,
        /// The minor version it was built for.
        built_for: String,
    },
    /// The interpreter that is to be the worker ([`Builder::worker_from_python`](crate::Builder::worker_from_python))
    /// cannot import the package `nearcall`.
    #[error(
        "{} has no package nearcall to be a worker by ({reason}): please type {} -m pip install nearcall=={}",
        .python.display(), .python.display(), env!("CARGO_PKG_VERSION")
    )]
    PackageNotFound {
        /// The interpreter.
        python: PathBuf,
        /// What the import raised.
        reason: String,
    },
    /// The interpreter's package `nearcall` is of another version than this library.
    #[error(
        "the package nearcall of {} is of version {found}, this library needs {expected}: please type \
         {} -m pip install nearcall=={}",
        .python.display(), .python.display(), env!("CARGO_PKG_VERSION")
    )]
    PackageVersion {
        /// The interpreter.
        python: PathBuf,
        /// The package's version and layout version.
        found: String,
        /// The library's.
        expected: String,
    },
    /// The segment does not fit in shared memory.
    #[error(
        "the segment needs {needed} bytes of shared memory, /dev/shm has {available} of {total} bytes free: \
         lower slots or slot_bytes, or give the container more (docker run --shm-size={})",
        suggest_shm_size(*.needed)
    )]
    NoSharedMemory {
        /// Bytes that the segment takes.
        needed: u64,
        /// Bytes that were free.
        available: u64,
        /// Bytes that /dev/shm has in all.
        total: u64,
    },
    /// This process, or those that it starts, may not write as far as the last slot's large payload.
    #[error(
        "the segment can get {needed} bytes long, and this process may write files of {limit} bytes \
         (RLIMIT_FSIZE, ulimit -f): raise that, or lower slots or payload_bytes"
    )]
    FileSizeLimit {
        /// Bytes that the segment can have.
        needed: u64,
        /// Bytes that a file may have.
        limit: u64,
    },
    /// The model could not be imported or preloaded, or does not take the signature's keywords.
    #[error("the model could not be imported: {}", .error.in_full())]
    Import {
        /// What it raised.
        #[source]
        error: PythonError,
    },
    /// The constructor or `initialize` raised.
    #[error("worker {worker} could not initialise the model: {}", .error.in_full())]
    Initialize {
        /// The worker's number.
        worker: u16,
        /// What it raised.
        #[source]
        error: PythonError,
    },
    /// The import started threads, and forking was demanded.
    #[error(
        "the model's import left {threads} threads running{}: a fork would copy only one; \
         keep them from starting, start them in initialize(), or use StartMethod::Auto or Spawn",
        .suspect.as_ref().map(|module| format!(" (likely started by {module:?})")).unwrap_or_default()
    )]
    Threads {
        /// Threads of the fork server after the import.
        threads: u32,
        /// The module that likely started them.
        suspect: Option<String>,
    },
    /// A process of the engine ended before it was ready.
    #[error("{who} (pid {pid}) ended while {stage}: {exit}")]
    Died {
        /// Which process.
        who: String,
        /// Its process id, 0 when it had not told.
        pid: u32,
        /// What it was doing.
        stage: &'static str,
        /// How it ended.
        exit: Exit,
    },
    /// The start took longer than its deadline.
    #[error(
        "the start was not done after {deadline:?}: still {stage}; raise start_deadline if it needs longer"
    )]
    TimedOut {
        /// The deadline.
        deadline: Duration,
        /// What it was doing.
        stage: &'static str,
    },
    /// The system refused something.
    #[error("could not {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The next power of two of megabytes, as Docker's flag takes it.
fn suggest_shm_size(needed: u64) -> String {
    format!("{}m", needed.div_ceil(1 << 20).saturating_add(1).next_power_of_two())
}

/// A reload that was not done, or not in time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new code cannot be had. The old workers go on.
    #[error("the new version cannot start, the old one goes on: {0}")]
    Start(#[source] StartError),
    /// Not all workers were replaced by the deadline. If none was, none will be; otherwise the
    /// replacement goes on: those that are left run a task that has not ended.
    #[error("{replaced} of {workers} workers were replaced by the deadline")]
    TimedOut {
        /// Workers that have the new code.
        replaced: usize,
        /// Workers that there are.
        workers: usize,
    },
    /// Another reload is under way.
    #[error("another reload is under way: wait for it, then reload again")]
    Busy,
    /// The engine was shut down, or is being shut down.
    #[error("the engine was shut down")]
    Closed,
    /// A test double has no code to reload.
    #[error("a test double has no code to reload")]
    Double,
    /// This process is a fork of the one that started the engine.
    #[error("this process was forked from the one that started the engine, which still owns it")]
    ForkedChild,
}

/// A task that does not fit the signature. No slot was touched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TaskMismatch {
    /// Too few or too many arguments.
    #[error("the task has {found} arguments, the signature {expected}: {names}")]
    Count {
        /// How many the signature has.
        expected: usize,
        /// How many the task has.
        found: usize,
        /// The signature's names.
        names: String,
    },
    /// An argument of another type.
    #[error("argument {name:?} is a {found}, the signature says {expected}")]
    Type {
        /// The parameter.
        name: String,
        /// Its type.
        expected: Kind,
        /// The type given.
        found: Kind,
    },
    /// A list of a length that the signature does not admit.
    #[error("argument {name:?} has {found} items, the signature says {expected}")]
    Length {
        /// The parameter.
        name: String,
        /// The lengths it may have.
        expected: Len,
        /// The length given.
        found: usize,
    },
    /// A reserved tensor that there is not.
    #[error(
        "argument {name:?} is reserved tensor {index}, and {reserved} are reserved: submit the task by \
         what `Engine::reserve` gave for it"
    )]
    NotReserved {
        /// The parameter.
        name: String,
        /// The number given.
        index: usize,
        /// How many are reserved for the task.
        reserved: usize,
    },
    /// A value with more containers inside each other than there may be.
    #[error("argument {name:?} has more than {limit} containers inside each other")]
    Deep {
        /// The parameter.
        name: String,
        /// How many there may be.
        limit: usize,
    },
}

/// A tensor that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TensorError {
    /// More dimensions than there can be.
    #[error("a tensor of {found} dimensions: there can be {limit}")]
    Rank {
        /// Dimensions of the shape given.
        found: usize,
        /// The most there can be.
        limit: usize,
    },
    /// A shape that no memory holds.
    #[error("no memory holds a tensor of {dtype} with the shape {shape:?}")]
    Overflow {
        /// The type of the elements.
        dtype: DType,
        /// The shape given.
        shape: Vec<usize>,
    },
    /// More or fewer elements than the shape has.
    #[error("a tensor of {dtype} with the shape {shape:?} has {needed} bytes, not {found}")]
    Size {
        /// The type of the elements.
        dtype: DType,
        /// The shape given.
        shape: Vec<usize>,
        /// Bytes that such a tensor has.
        needed: u64,
        /// Bytes that were given.
        found: usize,
    },
}

/// A tensor has elements of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the tensor's elements are {found}, not {asked}")]
pub struct ElementsError {
    /// The type asked for.
    pub asked: DType,
    /// The type they have.
    pub found: DType,
}

/// What could not be written into a reserved tensor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReservedError {
    /// There is no tensor of this number.
    #[error("there is no reserved tensor {index}: {reserved} are reserved, counted from 0")]
    NoSuchTensor {
        /// The number given.
        index: usize,
        /// How many there are.
        reserved: usize,
    },
    /// The tensor is room for an answer.
    #[error("reserved tensor {index} is an output: the model writes it")]
    Output {
        /// Its number.
        index: usize,
    },
    /// Elements of another type.
    #[error("reserved tensor {index} has elements of {found}, not {given}")]
    Elements {
        /// Its number.
        index: usize,
        /// The type given.
        given: DType,
        /// Its type.
        found: DType,
    },
    /// An array of another shape.
    #[error("reserved tensor {index} has the shape {found:?}, not {given:?}")]
    Shape {
        /// Its number.
        index: usize,
        /// The shape given.
        given: Vec<usize>,
        /// Its shape.
        found: Vec<usize>,
    },
    /// More elements than there is room for.
    #[error("{given} bytes from byte {first} on are beyond the {room} of reserved tensor {index}")]
    Range {
        /// Its number.
        index: usize,
        /// The first byte to write.
        first: usize,
        /// Bytes to write.
        given: usize,
        /// Bytes that it has.
        room: usize,
    },
    /// The task was submitted: the tensors are the model's.
    #[error("the task of these reserved tensors was submitted: reserve others for the next")]
    Submitted,
    /// This process is a fork of the one that has reserved it.
    #[error(
        "this process was forked from the one that has reserved the tensors, which still has them"
    )]
    ForkedChild,
}

/// An Arrow array that is no tensor, or a tensor that is no Arrow array.
#[cfg(feature = "arrow")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InteropError {
    /// Items without a value.
    #[error("{nulls} of {items} items are null, and a tensor has none: fill or drop them first")]
    Nulls {
        /// How many are null.
        nulls: usize,
        /// How many there are, at that depth of lists.
        items: usize,
    },
    /// Items that are no elements of a tensor.
    #[error(
        "a tensor has no elements of Arrow's type {found}: cast them to bool, an integer or a float first"
    )]
    Type {
        /// Arrow's name of their type.
        found: String,
    },
    /// A single element.
    #[error("a tensor without dimensions is no array: give it the shape [1]")]
    NoDimensions,
    /// More items in each list than Arrow's have.
    #[error(
        "the shape {shape:?} has an extent of {extent} after its first, Arrow's lists have {limit} items at \
         most: give it another shape, with one dimension say"
    )]
    Extent {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The extent that is too large.
        extent: usize,
        /// The most that it can be.
        limit: usize,
    },
    /// A shape that no tensor has.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A structure of the C data interface that somebody has released already.
    #[error("the {what} was released, or moved from, before: each can be taken once")]
    Released {
        /// Which of the two.
        what: &'static str,
    },
    /// What Arrow itself says.
    #[error("Arrow says: {reason}")]
    Arrow {
        /// Its words.
        reason: String,
    },
}

/// A task that was not accepted. Nothing has happened to it, and nothing will.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// All slots are taken by tasks that run, wait, or are answered and not retrieved yet.
    #[error("all {slots} slots are taken: retrieve answers, try again later, or raise slots")]
    Full {
        /// How many slots the engine has.
        slots: u32,
    },
    /// The task does not fit the signature.
    #[error(transparent)]
    Mismatch(#[from] TaskMismatch),
    /// These reserved tensors have had their task.
    #[error(
        "a task was submitted with these reserved tensors already: reserve others for the next"
    )]
    Submitted,
    /// A tensor was to be reserved that cannot be one.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The task is larger than any can be.
    #[error(
        "the task takes {needed} bytes, there is room for {room}: raise payload_bytes or send less"
    )]
    TooLarge {
        /// Bytes that the encoded task takes.
        needed: usize,
        /// Bytes that the largest can have.
        room: usize,
    },
    /// The task does not fit a slot, and there is no shared memory left for it.
    #[error(
        "the task takes {needed} bytes of shared memory, /dev/shm has {available} of {total} bytes free: \
         try again when other large tasks have ended, or give the container more (docker run --shm-size)"
    )]
    NoSharedMemory {
        /// Bytes that the encoded task takes.
        needed: usize,
        /// Bytes that were free.
        available: u64,
        /// Bytes that /dev/shm has in all.
        total: u64,
    },
    /// The system refused something.
    #[error("could not {action}: {reason}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        reason: String,
    },
    /// The engine was shut down, or has given up.
    #[error("the engine takes no tasks: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
    /// No worker can be had: those that were started last died or could not start, one after the
    /// other. The engine goes on trying, ever more slowly; this ends when a worker is ready.
    #[error("no worker can be had at the moment: {reason}")]
    Unavailable {
        /// What became of the last one.
        reason: String,
    },
    /// This process is a fork of the one that started the engine.
    #[error(
        "this process was forked from the one that started the engine, which still owns it: \
         start an engine after the fork, in the child"
    )]
    ForkedChild,
}

impl SubmitError {
    /// The seed's code: 1 = full, try again; 2 and up = an error.
    pub fn flag(&self) -> i32 {
        match self {
            Self::Full { .. } => 1,
            _ => 2,
        }
    }
}

/// Why an accepted task has no answer. The task is over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The model raised.
    #[error("{}", .0.in_full())]
    Python(#[source] PythonError),
    /// The model returned what an answer cannot carry.
    #[error("{0}")]
    Refused(Refusal),
    /// The worker that ran the task died. The task may have run in part.
    #[error("the worker that ran the task (pid {pid}) died: {exit}{report}")]
    Died {
        /// The worker's process id.
        pid: u32,
        /// How it ended.
        exit: Exit,
        /// What else is known.
        report: Box<DeathReport>,
    },
    /// The task was not done by its deadline. If it was running, its worker is killed, unless it ends
    /// in this very moment; it may have run in part.
    #[error("the task was not done by its deadline: it was ended")]
    DeadlinePassed,
    /// Somebody has cancelled the task ([`Engine::cancel`](crate::Engine::cancel)). It may have run in
    /// part.
    #[error("the task was cancelled")]
    Cancelled,
    /// The task was waiting when it turned out that no worker can be had.
    #[error("no worker can be had: {reason}")]
    Unavailable {
        /// What became of those that were started last.
        reason: String,
    },
    /// The engine was closed before the task was done.
    #[error("the engine was closed before the task was done")]
    Closed,
    /// A worker wrote what is no answer, or overwrote what the task's words said. It is being
    /// replaced, or all of them are. The task may have run.
    #[error("a worker has written what no worker writes: {detail}; it is being replaced")]
    Corrupt {
        /// What was wrong.
        detail: &'static str,
    },
}

/// A worker's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Its process id.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
}

/// What is known of the death of a worker beyond how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeathReport {
    /// Whether the kernel killed for lack of memory: the counter of such kills (`oom_kill`) of this
    /// process' cgroup has risen since the last death. `None`: the counter cannot be read.
    pub out_of_memory: Option<bool>,
    /// Why the engine itself killed the worker, if it did.
    pub killed_for: Option<&'static str>,
    /// The last that the worker wrote to its stderr, at most 4 KiB.
    pub last_words: String,
    /// The workers that died of this task before, the first one first: it was tried again as often
    /// as [`Builder::retries`](crate::Builder::retries) allows.
    pub earlier: Vec<Death>,
}

impl DeathReport {
    /// The Python stacks that the death has left: what `faulthandler` wrote among the
    /// [last words](Self::last_words).
    pub fn python_stack(&self) -> Option<&str> {
        let start = self.last_words.find("Fatal Python error")?;
        self.last_words.get(start..)
    }
}

impl fmt::Display for DeathReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.out_of_memory == Some(true) {
            f.write_str("; the kernel has killed for lack of memory")?;
        }
        if let Some(reason) = self.killed_for {
            write!(f, "; the engine killed it: {reason}")?;
        }
        if !self.earlier.is_empty() {
            f.write_str("; before it the task had killed")?;
            for (index, death) in self.earlier.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                write!(f, "{comma} pid {} ({})", death.pid, death.exit)?;
            }
        }
        if !self.last_words.is_empty() {
            write!(f, "; its last words:\n{}", self.last_words.trim_end())?;
        }
        Ok(())
    }
}

/// Why there is nothing to retrieve, now or ever, under a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RetrieveError {
    /// The task has ended without an answer. Its key is used up now.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The answer was retrieved before, or the task was abandoned.
    #[error("the task of key {key} was retrieved or abandoned before")]
    AlreadyRetrieved {
        /// The key.
        key: Key,
    },
    /// This engine never gave that key.
    #[error("this engine never gave the key {key}")]
    Unknown {
        /// The key.
        key: Key,
    },
    /// This process is a fork of the one that started the engine.
    #[error("this process was forked from the one that started the engine, which still owns it")]
    ForkedChild,
}

impl RetrieveError {
    /// The seed's code: 2 and up = an error. "Not finished", its 1, is no error here but
    /// `Ok(None)`.
    pub fn flag(&self) -> i32 {
        match self {
            Self::Task(TaskError::Python(_)) => 2,
            Self::Task(TaskError::Refused(_)) => 3,
            Self::Task(TaskError::Died { .. }) => 4,
            Self::Task(TaskError::Closed) => 5,
            Self::Task(TaskError::Corrupt { .. }) => 6,
            Self::AlreadyRetrieved { .. } => 7,
            Self::Unknown { .. } => 8,
            Self::ForkedChild => 9,
            Self::Task(TaskError::DeadlinePassed) => 10,
            Self::Task(TaskError::Cancelled) => 11,
            Self::Task(TaskError::Unavailable { .. }) => 12,
        }
    }
}

/// A wait without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline of the wait has passed. The task goes on, and its key stays good, unless the
    /// ticket itself was handed over: that one is dropped, which abandons the task.
    #[error("no answer before the deadline; the task goes on")]
    TimedOut,
    /// There will be no answer.
    #[error(transparent)]
    Retrieve(#[from] RetrieveError),
}

impl WaitError {
    /// The seed's code: 1 = not finished, try again; 2 and up = an error.
    pub fn flag(&self) -> i32 {
        match self {
            Self::TimedOut => 1,
            Self::Retrieve(error) => error.flag(),
        }
    }
}

impl From<TaskError> for WaitError {
    fn from(error: TaskError) -> Self {
        Self::Retrieve(RetrieveError::Task(error))
    }
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The task was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The task was accepted and has no answer. If the deadline has passed, the task was ended:
    /// [`TaskError::DeadlinePassed`].
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// An answer that is not what the caller took it for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the answer has {found} at position {index}, not {expected}")]
pub struct AnswerError {
    /// The position asked for.
    pub index: usize,
    /// The type asked for.
    pub expected: &'static str,
    /// The type found, or "nothing".
    pub found: &'static str,
}

/// A value that does not go in, or does not come out, as the type that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
#[non_exhaustive]
pub struct ValueError {
    /// Where in the value, as Python would write it: `answer['scores'][2]`.
    pub place: String,
    /// What is wrong there.
    pub problem: ValueProblem,
}

/// What is wrong at a place of a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValueProblem {
    /// A value of another type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the Rust type takes.
        expected: String,
        /// What was there, by Python's name.
        found: String,
    },
    /// A value of the right type that the Rust type does not hold.
    #[error("expected {expected}, found {found}")]
    Value {
        /// What the Rust type takes.
        expected: String,
        /// What was there.
        found: String,
    },
    /// More or fewer items than the Rust type takes.
    #[error("expected {expected}, found a length of {found}")]
    Length {
        /// What the Rust type takes.
        expected: String,
        /// How many items were there.
        found: usize,
    },
    /// A dict without a key that the Rust type needs.
    #[error("the key {key:?} is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The answer has no such position.
    #[error("nothing is there")]
    Absent,
    /// An integer that does not fit 64 signed bits, as an `int` must.
    #[error("{number} does not fit an int of 64 signed bits")]
    IntRange {
        /// The integer.
        number: String,
    },
    /// A map's key that is no string, as keys must be.
    #[error("a key is {found}: keys must be str")]
    Key {
        /// What the key is, by Python's name.
        found: &'static str,
    },
    /// More containers inside each other than there may be.
    #[error("more than {limit} containers inside each other")]
    Deep {
        /// How many there may be.
        limit: usize,
    },
    /// What the type itself says.
    #[error("{0}")]
    Other(String),
}

/// A Rust value that cannot be a model's keyword arguments.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgumentsError {
    /// A field that cannot be a value.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Neither a struct nor a map with string keys.
    #[error("arguments must be a struct or a map, to have names: found {found}")]
    NotNamed {
        /// What was found, by Python's name.
        found: &'static str,
    },
    /// A parameter without a field of its name.
    #[error("no field for the parameter {name:?}: the fields are {fields}")]
    Missing {
        /// The parameter.
        name: String,
        /// The fields that there are.
        fields: String,
    },
    /// A field that is no parameter.
    #[error("the field {name:?} is no parameter of the model: these are {parameters}")]
    Unknown {
        /// The field.
        name: String,
        /// The signature's names.
        parameters: String,
    },
    /// A name given more than once.
    #[error("the argument {name:?} is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A field of another type than its parameter.
    #[error("{place}: found {found}, the signature says {expected}")]
    Type {
        /// Where, as Python would write it: `arguments['scores'][2]`.
        place: String,
        /// The parameter's type.
        expected: Kind,
        /// The type given.
        found: &'static str,
    },
    /// An integer for a `float`, and no float is exactly that.
    #[error("{place}: no float is exactly {number}, the signature says {expected}")]
    Inexact {
        /// Where, as Python would write it: `arguments['scores'][2]`.
        place: String,
        /// The parameter's type.
        expected: Kind,
        /// The integer.
        number: i64,
    },
}

/// A call with Rust types at both ends that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallAsError {
    /// The arguments do not fit the signature. No slot was touched.
    #[error(transparent)]
    Arguments(#[from] ArgumentsError),
    /// There is no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer is not what the caller took it for. It is gone.
    #[error(transparent)]
    Answer(#[from] ValueError),
}

/// A task whose bytes do not fit the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the task's bytes do not fit the signature")]
pub struct MalformedTask;

/// A worker's half of the engine that could not start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The segment that was handed over is not one of this version.
    #[error("the segment is not one that this worker knows: {reason}")]
    Segment {
        /// What does not fit.
        reason: &'static str,
    },
    /// A process that the model has forked came back from its call.
    #[error(
        "the model has forked in its call, and the child has returned from it: a child must leave by \
         os._exit(), the answer is its parent's to give"
    )]
    Forked,
    /// The model keeps arrays of its tasks, whose memory is needed for others.
    #[error(
        "the model keeps more arrays of its tasks beyond their calls than there is memory for: this \
         worker ends, with the task at hand"
    )]
    Hoarding,
    /// The host has said something that it must not say, or is gone.
    #[error("the control socket failed: {reason}")]
    Control {
        /// What does not fit.
        reason: &'static str,
    },
    /// The system refused something.
    #[error("could not {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
