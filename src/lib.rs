//! Call Python models from a Rust service at close to the price of a function call.
//!
//! A latency-sensitive service has many threads; Python has one lock for a process. So the Python
//! runs in worker processes, forked from one that has imported the model, and tasks and answers
//! pass through one segment of shared memory. The service, here the *host*, never links libpython.
//!
//! [`Engine::builder`] configures an engine, [`Builder::start`] starts its workers. From then on any
//! thread can [`submit`](Engine::submit) a [`Task`] and [`retrieve`](Engine::retrieve) its
//! [`Answer`], which both return at once, or [`wait`](Engine::wait) for it, or do it all in one
//! [`call`](Engine::call). A task that was accepted ends exactly once: with an answer, or with an
//! error that says what became of it ([`error::TaskError`]). It ends by its deadline, if it has one
//! ([`call`](Engine::call), [`submit_by`](Engine::submit_by)), whatever the model does. What is
//! promised when something dies, hangs or lies, and what is not, is in `docs/reliability.md`.
//!
//! # Example
//! [`Builder::start_with`] puts a Rust closure where the Python model would be. All else is the
//! real engine, so this is also how a service is tested without Python:
//!
//! ```
//! use nearcall::{Args, Engine, PythonError, Signature, Task, Value};
//! use std::time::Duration;
//!
//! let engine = Engine::builder("big_model:Engine") // module:Class, or module:function
//!     .method("run_big_model")
//!     .signature(Signature::new().floats("float_features", 3).int("int_feature"))
//!     .workers(2)
//!     .start_with(|args: &Args<'_>| match args.get("int_feature") {
//!         Some(Value::Int(number)) if *number >= 0 => Ok(Value::Int(2 * number)),
//!         _ => Err(PythonError::new("ValueError", "a negative feature")),
//!     })?; // with Python: `.start()?`
//!
//! let task = Task::new().floats(&[1.1, 11.2, 0.3]).int(27);
//! let ticket = engine.submit(&task)?; // from any thread; `Full` means: try again later
//! let answer = engine.wait(ticket, Duration::from_secs(10))?;
//! assert_eq!(answer.int(0)?, 54);
//!
//! let task = Task::new().floats(&[1.1, 11.2, 0.3]).int(-1);
//! let error = engine.call(&task, Duration::from_secs(10)).unwrap_err();
//! assert!(error.to_string().contains("ValueError: a negative feature"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With Python there has to be a `nearcall-worker` program too, built for the Python that the
//! model uses: see "The worker" in the README, and [`error::StartError`] for what is said when
//! something does not fit.
//!
//! # Values
//! A [`Task`] and the typed readers of an [`Answer`] are the quickest way in and out. The other way is
//! through `serde`: [`Engine::call_as`] takes a struct, whose fields go to the model's parameters by
//! name, and gives the answer as another:
//!
//! ```
//! use nearcall::{Args, Engine, Signature, Tensor, Value};
//! use std::time::Duration;
//!
//! #[derive(serde::Serialize)]
//! struct Features<'a> {
//!     image: Tensor, // arrives as a numpy array
//!     name: &'a str,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Score {
//!     label: String,
//!     scores: Vec<f64>,
//! }
//!
//! let engine = Engine::builder("cats:Classifier")
//!     .signature(Signature::new().str("name").value("image"))
//!     .start_with(|_: &Args<'_>| Ok(Value::Dict(vec![
//!         ("label".to_owned(), "cat".into()),
//!         ("scores".to_owned(), vec![Value::Float(0.75), Value::Int(0)].into()),
//!     ])))?; // with Python: `return {"label": "cat", "scores": [0.75, 0]}`
//!
//! let image = Tensor::new(&[2, 2], &[0.0_f32, 0.1, 0.2, 0.3])?;
//! let features = Features { image, name: "Tom" };
//! let score: Score = engine.call_as(&features, Duration::from_secs(10))?;
//! assert_eq!((score.label.as_str(), &score.scores[..]), ("cat", &[0.75, 0.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Arrays can be written where the model reads them, without a copy: [`Engine::reserve`].
//!
//! A parameter that [`Signature::value`] declares takes anything that a [`Value`] can be: `None`, dicts,
//! lists, bytes, tensors. [`to_value`] makes one of a Rust type, [`from_value`] and [`Answer::to`] make
//! a Rust type of one and say which place does not fit (`answer['scores'][2]: expected f64, found
//! str`), and [`Arguments`] are what [`submit`](Engine::submit) needs of a struct. Values can also be
//! written and read in whatever format serde has.
//!
//! # Awaiting
//! [`Engine::call_async`] gives a future, and so does a [`Ticket`]. They need no runtime in particular:
//! [`Engine::completions`] says who wakes them.
//!
//! # Layout
//! Each line names only rooms below it, with three exceptions that `docs/architecture.md` tells of.
//!
//! - `host`: the service's half. The [`Engine`] and its [`Builder`], the supervisor thread, the
//!   host's own record of its slots and deadlines, how its threads wait, health, the test double
//! - [`peer`]: the workers' half. The fork server, the serve loop, last words, limits; all but its
//!   Python
//! - `ring`: submit order and sleep. Push, claim, publish, what is repaired after a death
//! - `shm`: the segment. What is where in it, a slot's words (`docs/shm-layout.md`)
//! - `interop`: tensors from and to other crates' arrays; a file, and a feature, for each crate
//! - `convert`: Rust's own types to values and back, through `serde`
//! - `wire`: the bytes of tasks, answers and control messages; the only room that knows `bincode`
//! - [`error`]: one enum for each operation
//! - `sys`: futexes, mappings, processes, pipes, sockets, what /proc and the cgroup say: the thin
//!   layer over the operating system
//! - `key`, `sync`, `faults`: keys and generations; the door to atomics; the tests' points of death
//!
//! # Features
//! - `ndarray` (off): tensors from and to the arrays of the crate `ndarray`, version 0.17:
//!   `Tensor::from_array`, `to_array`.
//! - `arrow` (off): tensors from and to the arrays of arrow-rs, version 60, and others' through Arrow's C
//!   data interface: `Tensor::from_arrow`, `to_arrow`, `from_ffi`, `to_ffi`.
//! - `faults` (off): named points at which tests make workers stop or die. Never for a service.
//! - `fuzzing` (off): doors to inner functions, for the fuzz targets. Never for a service.
//!
//! # Platform
//! Linux with glibc, kernel 5.4 or later, on x86-64 or aarch64. Workers: CPython 3.9 to 3.13 with
//! the GIL and a shared libpython.

// Under a model checker only what it checks is there.
#![cfg_attr(loom, allow(dead_code, unreachable_pub, unused_imports))]

mod convert;
pub mod error;
mod faults;
#[cfg(not(loom))]
mod host;
#[cfg(any(feature = "arrow", feature = "ndarray"))]
mod interop;
mod key;
#[cfg(not(loom))]
pub mod peer;
mod ring;
mod shm;
mod sync;
mod sys;
mod wire;

pub use convert::{Arguments, from_value, to_value};
#[cfg(feature = "faults")]
#[doc(hidden)]
pub use faults::fault_point;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use host::fuzzing;
#[cfg(not(loom))]
pub use host::{
    Answer, AsKey, Builder, CallFuture, Completions, Deadline, Engine, Health, Key, PollSpins,
    Reload, Reserved, Shutdown, StartReport, Ticket, TicketFuture, WaitPolicy, WorkerHealth,
    WorkerMemory, WorkerState,
};
pub use wire::{
    Arg, Args, DType, Element, Exit, Kind, Len, MAX_DEPTH, MAX_RANK, Map, Parameter, PythonError,
    Refusal, Scalar, Seq, Signature, StartMethod, TENSOR_ALIGNMENT, Task, Tensor, TensorRef,
    TensorSpec, Value, ValueRef,
};

/// The examples of the page, which `cargo test` compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/reliability.md")]
struct ReliabilityPage;

/// As above.
#[cfg(doctest)]
#[doc = include_str!("../docs/memory.md")]
struct MemoryPage;

/// As above.
#[cfg(doctest)]
#[doc = include_str!("../docs/host-rust-async.md")]
struct AsyncPage;

/// CPUs that this process may use: its affinity and its cgroup's quota, not the machine's.
pub fn available_cpus() -> usize {
    sys::cpus::available()
}
