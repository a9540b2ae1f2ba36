//! Messages between the host's supervisor and the fork server, one packet each.

use std::time::Duration;

use bincode::{Decode, Encode};

use super::codec::{Malformed, from_slice, to_vec};
use super::outcome::PythonError;
use super::signature::Signature;

/// The largest encoded message, in bytes: below what a Unix socket takes as one packet with the
/// kernel's default buffers.
pub(crate) const MAX_MESSAGE: usize = 128 * 1024;

/// How workers come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[non_exhaustive]
pub enum StartMethod {
    /// Fork from the server that has imported the model; if the import has started threads (which
    /// a fork would not copy), start each worker from scratch instead, and say so.
    #[default]
    Auto,
    /// Fork; if the import has started threads, refuse to start.
    Fork,
    /// Start each worker from scratch: nothing is shared, each imports the model itself.
    Spawn,
}

/// What to import and call.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ModelSpec {
    /// The module's dotted name.
    pub module: String,
    /// The class or function in it; dots reach into classes.
    pub callable: String,
    /// The method of the class' instance to call; without one, the instance itself.
    pub method: Option<String>,
    /// Keyword arguments of `initialize`, a JSON object.
    pub init_kwargs_json: Option<String>,
    /// Folders put before everything else on `sys.path`, the first one first.
    pub python_path: Vec<String>,
}

/// All that a fork server has to know.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Setup {
    /// The model.
    pub model: ModelSpec,
    /// The keyword arguments of each call.
    pub signature: Signature,
    /// The Python to look like: `sys.executable`, which decides the environment's packages.
    pub executable: String,
    /// How workers are started.
    pub start_method: StartMethod,
    /// Whether garbage is collected when a worker has no task, instead of during calls.
    pub collect_between_calls: bool,
    /// Whether a call that is past its deadline is interrupted before its worker is killed.
    pub interrupts: bool,
    /// How a worker without a task waits for one.
    pub patience: Patience,
    /// What a worker may use at most.
    pub limits: Limits,
}

/// How somebody who has nothing to do waits until there is something: spins, yields, parks. The
/// host decides, for its threads and for the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Patience {
    /// How long it spins; zero where nobody spins, the maximum for "until there is something".
    pub spin: Duration,
    /// How often it yields where spinning would take a CPU from somebody.
    pub yields: u32,
    /// How many workers may spin at the same time.
    pub searchers: u32,
    /// Whether it parks in the end.
    pub parks: bool,
}

/// What each worker may use at most; `None` leaves what the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Limits {
    /// Bytes of private memory that it may write to (`RLIMIT_DATA`): heap and anonymous mappings,
    /// not the segment.
    pub memory: Option<u64>,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub descriptors: Option<u64>,
    /// Seconds of CPU time in a worker's life (`RLIMIT_CPU`).
    pub cpu_seconds: Option<u64>,
}

/// The threads of the fork server after the import.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct ThreadReport {
    /// How many there are, the main one included: 1 is what a fork needs.
    pub threads: u32,
    /// The module whose import started the first of the others, as far as could be seen.
    pub suspect: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[non_exhaustive]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// Killed with its fork server, which had ended.
    WithServer,
    /// Nobody was left to ask, or the fork server has not said within half a second.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
                Ok(signal) => write!(f, "signal {number} ({})", signal.as_str()),
                Err(_) => write!(f, "signal {number}"),
            },
            Self::WithServer => f.write_str("killed with its fork server, which had ended"),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// From the host to the fork server.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "the large one is made once for each fork server")]
pub(crate) enum ToServer {
    /// The first message: start Python, import the model.
    Setup(Setup),
    /// Start a worker for this place in the worker table.
    Spawn {
        /// The place.
        worker: u16,
        /// Which worker in that place this is, counted from 1.
        incarnation: u32,
    },
    /// End, with all workers.
    Stop,
}

/// From the fork server, or from a worker that starts, to the host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum FromServer {
    /// The server runs; its pidfd comes with it.
    Hello {
        /// Its process id.
        pid: u32,
    },
    /// The model is imported and preloaded.
    Imported(ThreadReport),
    /// The model could not be imported.
    ImportFailed(PythonError),
    /// A worker process exists; its pidfd comes with it.
    Spawned {
        /// Its place.
        worker: u16,
        /// Which one there.
        incarnation: u32,
        /// Its process id.
        pid: u32,
    },
    /// A worker process could not be made.
    SpawnFailed {
        /// Its place.
        worker: u16,
        /// Which one there.
        incarnation: u32,
        /// The kernel's error number.
        errno: i32,
    },
    /// A worker has constructed and initialised its model and takes tasks from now on.
    Ready {
        /// Its place.
        worker: u16,
        /// Which one there.
        incarnation: u32,
    },
    /// A worker's constructor or `initialize` failed; it exits.
    InitializeFailed {
        /// Its place.
        worker: u16,
        /// Which one there.
        incarnation: u32,
        /// What it raised.
        error: PythonError,
    },
    /// A worker process has ended and was reaped.
    Exited {
        /// Its place.
        worker: u16,
        /// Which one there.
        incarnation: u32,
        /// Its process id.
        pid: u32,
        /// How it ended.
        exit: Exit,
        /// The last that it wrote to its stderr, at most [`MAX_LAST_WORDS`] bytes.
        last_words: String,
    },
}

/// How much of what a worker has written is kept for the case of its death, in bytes.
pub(crate) const MAX_LAST_WORDS: usize = 4096;

/// Encodes a message. `None` when it is larger than [`MAX_MESSAGE`].
pub(crate) fn encode_message<T: Encode>(message: T) -> Option<Vec<u8>> {
    to_vec(message).ok().filter(|bytes| bytes.len() <= MAX_MESSAGE)
}

/// Decodes a message.
pub(crate) fn decode_message<T: Decode<()>>(bytes: &[u8]) -> Result<T, Malformed> {
    from_slice(bytes)
}
