//! What an engine is started with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::double;
use super::engine::Engine;
use super::patience::WaitPolicy;
use super::supervisor;
use crate::error::{ConfigError, StartError};
use crate::shm::{
    MAX_PAYLOAD_BYTES, MAX_SLOT_BYTES, MAX_SLOTS, MAX_WORKERS, MIN_SLOT_BYTES, MIN_SLOTS,
    MIN_WORKERS, Sizes, extent_unit,
};
use crate::sys::cpus;
use crate::wire::{
    Args, Limits, ModelSpec, PythonError, Setup, Signature, StartMethod, ToServer, Value,
    encode_message,
};

/// The configuration of an [`Engine`]. Made by [`Engine::builder`].
///
/// Every setting has a default but the model. Nothing is checked before
/// [`start`](Builder::start).
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing before start()"]
pub struct Builder {
    model: String,
    method: Option<String>,
    init_kwargs_json: Option<String>,
    python: Option<PathBuf>,
    python_path: Vec<PathBuf>,
    worker: Worker,
    interpreter_options: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    compute_threads: u32,
    signature: Signature,
    start_method: StartMethod,
    workers: Option<usize>,
    slots: usize,
    slot_bytes: usize,
    payload_bytes: usize,
    huge_pages: bool,
    wait_policy: WaitPolicy,
    poll_spin: Duration,
    collect_between_calls: bool,
    start_deadline: Duration,
    clear_environment: bool,
    retries: u32,
    interrupt: Option<Duration>,
    spare: bool,
    hung_after: Duration,
    retirement: Retirement,
    limits: Limits,
}

/// The longest time that a future spins, in nanoseconds.
const MAX_POLL_SPIN: u32 = 100_000;

/// Which program the workers are.
#[derive(Debug, Clone, Default)]
pub(crate) enum Worker {
    /// A `nearcall-worker` that has to be found.
    #[default]
    Found,
    /// This `nearcall-worker`.
    Binary(PathBuf),
    /// The interpreter of the environment.
    Python,
}

/// When a worker is replaced although nothing is wrong with it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Retirement {
    pub(crate) tasks: Option<u64>,
    pub(crate) age: Option<Duration>,
    /// Resident bytes.
    pub(crate) memory: Option<u64>,
}

impl Builder {
    pub(crate) fn new(model: String) -> Self {
        Self {
            model,
            method: None,
            init_kwargs_json: None,
            python: None,
            python_path: Vec::new(),
            worker: Worker::default(),
            interpreter_options: Vec::new(),
            environment: Vec::new(),
            compute_threads: 1,
            signature: Signature::new(),
            start_method: StartMethod::Auto,
            workers: None,
            slots: 64,
            slot_bytes: 4096,
            payload_bytes: 64 << 20,
            huge_pages: false,
            wait_policy: WaitPolicy::default(),
            poll_spin: Duration::ZERO,
            collect_between_calls: true,
            start_deadline: Duration::from_secs(60),
            clear_environment: false,
            retries: 0,
            interrupt: None,
            spare: false,
            hung_after: Duration::from_secs(10),
            retirement: Retirement::default(),
            limits: Limits::default(),
        }
    }

    /// The method of the class' instance to call. Default: the instance itself (`__call__`), or
    /// the function.
    pub fn method(mut self, name: impl Into<String>) -> Self {
        self.method = Some(name.into());
        self
    }

    /// Keyword arguments for the model's `initialize`: a JSON object. Default: none.
    pub fn init_kwargs_json(mut self, json: impl Into<String>) -> Self {
        self.init_kwargs_json = Some(json.into());
        self
    }

    /// The environment: a virtual environment's folder, or an interpreter. It must be of the
    /// minor version that the worker was built for. Default: `$VIRTUAL_ENV`, else `python3` on
    /// `PATH`.
    pub fn python(mut self, environment_or_interpreter: impl Into<PathBuf>) -> Self {
        self.python = Some(environment_or_interpreter.into());
        self
    }

    /// Adds a folder to search for modules, before all that Python searches by itself. The first
    /// one added is searched first.
    pub fn python_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.python_path.push(folder.into());
        self
    }

    /// The `nearcall-worker` binary. Default: `$NEARCALL_WORKER`, else beside this executable,
    /// else on `PATH`.
    pub fn worker(mut self, binary: impl Into<PathBuf>) -> Self {
        self.worker = Worker::Binary(binary.into());
        self
    }

    /// Has the interpreter of the environment itself ([`python`](Builder::python)) be the worker, by the
    /// package `nearcall` that is installed there (`pip install nearcall`), instead of a
    /// `nearcall-worker` binary. No libpython is needed, and nothing has to be built: the package is
    /// there for every minor version of Python. It must be of this library's version.
    ///
    /// The last one called of this and [`worker`](Builder::worker) counts; `$NEARCALL_WORKER` does not.
    pub fn worker_from_python(mut self) -> Self {
        self.worker = Worker::Python;
        self
    }

    /// Options for an interpreter that is the worker ([`worker_from_python`](Self::worker_from_python)), as
    /// they stand on its command line: `-I`, `-X dev`. Default: none.
    pub fn interpreter_options<O: Into<OsString>>(
        mut self,
        options: impl IntoIterator<Item = O>,
    ) -> Self {
        self.interpreter_options = options.into_iter().map(O::into).collect();
        self
    }

    /// Sets an environment variable for the Python processes, which otherwise have this process'.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Whether the Python processes start without this process' environment variables, with those of
    /// [`env`](Builder::env) alone (and those of [`compute_threads`](Builder::compute_threads)).
    /// Default: no.
    pub fn clear_env(mut self, clear: bool) -> Self {
        self.clear_environment = clear;
        self
    }

    /// Threads that numeric libraries may use in each worker (`OMP_NUM_THREADS` and its kin).
    /// Default: 1, because the workers share the CPUs already, and because a library that starts
    /// threads at import cannot be forked. 0 leaves the variables as they are.
    pub fn compute_threads(mut self, threads: u32) -> Self {
        self.compute_threads = threads;
        self
    }

    /// The model's keyword arguments. Default: none.
    pub fn signature(mut self, signature: Signature) -> Self {
        self.signature = signature;
        self
    }

    /// How workers come to be. Default: [`StartMethod::Auto`].
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = method;
        self
    }

    /// Worker processes, 1 to 1,024. Default: the CPUs available to this process (its affinity
    /// and its cgroup's quota).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Tasks that the engine holds at once, waiting, running, and answered but not retrieved yet:
    /// 1 to 65,535. Default: 64.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Room of a slot, in bytes: 256 to 16 MiB, rounded up to a multiple of 64. Encoded tasks and
    /// answers up to this size pass through memory that is reserved at start, without a system call.
    /// Default: 4,096.
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.slot_bytes = bytes;
        self
    }

    /// The largest encoded task or answer, in bytes: up to 2 GiB, rounded up to a multiple of 64 KiB, or of
    /// 2 MiB from there on. What is larger than [`slot_bytes`](Builder::slot_bytes) takes shared memory while it is
    /// there, and gives it back when its answer was taken. If there is none left then, that is an
    /// error of this task alone. 0 for none. Default: 64 MiB.
    pub fn payload_bytes(mut self, bytes: usize) -> Self {
        self.payload_bytes = bytes;
        self
    }

    /// Whether tensors in place ([`Engine::reserve`]) get huge pages, of 2 MiB, where a task's inputs, or
    /// its outputs, have as many bytes. Default: no.
    ///
    /// A model goes through a large array faster then: numpy's own arrays have such pages, too. But
    /// whoever reserves the first so large in a slot, or a larger one than ever, waits for the kernel to
    /// make them: about 1 ms for each MiB, once, as long as the pages stay reserved. It is for
    /// services that call again and again. Where the kernel gives none (before Linux 6.1, or when it has
    /// none left, or `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says `deny`), pages are as they
    /// always are; a tracing event of level debug says so.
    pub fn huge_pages(mut self, huge: bool) -> Self {
        self.huge_pages = huge;
        self
    }

    /// How threads that wait for an answer, and workers that wait for a task, pass the time.
    /// Default: [`WaitPolicy::Adaptive`].
    pub fn wait_policy(mut self, policy: WaitPolicy) -> Self {
        self.wait_policy = policy;
        self
    }

    /// For how long a future ([`Engine::call_async`]) spins when it is polled for the first time, at most
    /// 0.1 ms. Default: not at all.
    ///
    /// A model that takes a few microseconds is answered then before its future has to be woken, which
    /// takes tens of them. Meanwhile the runtime's thread does nothing else: it is for threads that
    /// have nothing else to do. [`Engine::poll_spins`] tells how often it paid. Not where there is one CPU.
    pub fn poll_spin(mut self, bound: Duration) -> Self {
        self.poll_spin = bound;
        self
    }

    /// Whether Python's garbage collector runs in the pauses between calls, instead of in the
    /// middle of one. Default: yes.
    ///
    /// Then a call triggers a collection only after 20 times as many new objects as Python
    /// otherwise waits for (`gc.get_threshold()` when the model has been initialised), and a worker
    /// without a task collects what has come together. A model that switches the collector off is
    /// left alone. The pauses are used for as much as Python's own rules ask for, and for at most 1 %
    /// of the time for collections of everything.
    pub fn collect_garbage_between_calls(mut self, between_calls: bool) -> Self {
        self.collect_between_calls = between_calls;
        self
    }

    /// How often a task whose worker died is done once more. Default: 0, so that a task is run at most
    /// once.
    ///
    /// Anything else declares that the model may be called several times with the same task: its
    /// worker may have died at any point, also after all that the call does was done. A task that has
    /// killed one worker more than this ends with [`TaskError::Died`](crate::error::TaskError::Died),
    /// which tells of all of them. A task that was ended by a deadline or cancelled is not done again.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Interrupts a call that is past its deadline, or was cancelled, instead of killing its worker at
    /// once: the model gets a `KeyboardInterrupt`, and `grace` to end the call. Only if it has not by
    /// then is the worker killed. Default: no.
    ///
    /// Python looks for an interrupt between two bytecodes: a long call into C is not interrupted. The
    /// model must be able to be left at any point.
    pub fn interrupt(mut self, grace: Duration) -> Self {
        self.interrupt = Some(grace);
        self
    }

    /// Whether there is one worker more, ready and without tasks, that takes over at once when
    /// another ends. It does not count as one of [`workers`](Builder::workers), and costs the memory
    /// of one. Default: no.
    pub fn spare(mut self, spare: bool) -> Self {
        self.spare = spare;
        self
    }

    /// After how long in the same task a worker is reported as one that hangs, by
    /// [`Engine::health`] and a warning: at least 0.1 s, in steps of 0.1 s. It is not killed for
    /// that. Default: 10 s.
    pub fn hung_after(mut self, time: Duration) -> Self {
        self.hung_after = time;
        self
    }

    /// Replaces each worker after so many tasks, less up to a fifth by chance. Its successor is ready
    /// before it ends. Looked at ten times a second, and only while there are tasks; so for the other
    /// two. Default: never.
    pub fn max_tasks(mut self, tasks: u64) -> Self {
        self.retirement.tasks = Some(tasks);
        self
    }

    /// Replaces each worker that has served for this long, less up to a fifth by chance. Default:
    /// never.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.retirement.age = Some(age);
        self
    }

    /// Replaces each worker that has so many bytes of memory resident, those it shares with others
    /// included, shared memory not (`VmRSS` without `RssShmem`). Default: never.
    pub fn max_rss(mut self, bytes: u64) -> Self {
        self.retirement.memory = Some(bytes);
        self
    }

    /// The most bytes of private memory that a worker can have (`RLIMIT_DATA`: heap and private
    /// mappings; the segment does not count). Python raises `MemoryError` when it gets no more.
    /// Default: no limit but the host's own.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.limits.memory = Some(bytes);
        self
    }

    /// The most descriptors that a worker can have open (`RLIMIT_NOFILE`). Default: the host's own.
    pub fn descriptor_limit(mut self, descriptors: u64) -> Self {
        self.limits.descriptors = Some(descriptors);
        self
    }

    /// The most CPU time that a worker can use in its life, in seconds (`RLIMIT_CPU`); then it is
    /// killed. Default: the host's own.
    pub fn cpu_limit(mut self, seconds: u64) -> Self {
        self.limits.cpu_seconds = Some(seconds);
        self
    }

    /// How long [`start`](Builder::start) may take until all workers are ready. A worker or fork server
    /// that is started later and is not ready by then is killed and tried again. Default: 60 s.
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    /// Starts the engine: imports the model, forks the workers, returns once all are ready.
    ///
    /// # Errors
    /// Whatever keeps a single worker from being ready. All that was started is ended again.
    pub fn start(self) -> Result<Engine, StartError> {
        supervisor::start(self.validate()?)
    }

    /// Starts an engine that answers from a Rust closure instead of a Python model, for unit
    /// tests of a service on a machine without Python.
    ///
    /// Everything else is real: the signature and its errors, slots and capacity, keys, the ring,
    /// waiting, shutdown. The closure runs on [`workers`](Builder::workers) threads of this
    /// process; its error, and its panic, come out as a Python error would. Settings that are
    /// about Python are ignored.
    ///
    /// ```
    /// use nearcall::{Args, Engine, PythonError, Signature, Task, Value};
    /// use std::time::Duration;
    ///
    /// let engine = Engine::builder("scores:Model")
    ///     .signature(Signature::new().str("text"))
    ///     .start_with(|args: &Args<'_>| match args.get("text") {
    ///         Some(Value::Str(text)) => Ok(Value::Int(text.len() as i64)),
    ///         _ => Err(PythonError::new("TypeError", "no text")),
    ///     })?;
    /// let answer = engine.call(&Task::new().str("four"), Duration::from_secs(10))?;
    /// assert_eq!(answer.int(0)?, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A configuration that cannot be run, or what the system refused.
    pub fn start_with<F>(self, model: F) -> Result<Engine, StartError>
    where
        F: Fn(&Args<'_>) -> Result<Value, PythonError> + Send + Sync + 'static,
    {
        double::start(self.validate()?, model)
    }

    pub(crate) fn validate(self) -> Result<Config, ConfigError> {
        let workers = self.workers.unwrap_or_else(|| cpus::available().min(MAX_WORKERS as usize));
        let payload_bytes = within("payload_bytes", self.payload_bytes, 0, MAX_PAYLOAD_BYTES)?;
        let sizes = Sizes {
            slots: within("slots", self.slots, MIN_SLOTS, MAX_SLOTS)?,
            slot_bytes: within("slot_bytes", self.slot_bytes, MIN_SLOT_BYTES, MAX_SLOT_BYTES)?
                .next_multiple_of(64),
            workers: within("workers", workers, MIN_WORKERS, MAX_WORKERS)?,
            payload_bytes: payload_bytes.next_multiple_of(extent_unit(payload_bytes)),
        };
        within("poll_spin, in nanoseconds,", self.poll_spin.as_nanos(), 0, MAX_POLL_SPIN)?;
        self.signature.validate()?;
        let (module, callable) = match self.model.split_once(':') {
            Some((module, callable)) if !module.is_empty() && !callable.is_empty() => {
                (module.to_owned(), callable.to_owned())
            }
            _ => return Err(ConfigError::Model { found: self.model }),
        };
        let text = |what, text: &str| {
            if text.contains('\0') {
                Err(ConfigError::NotText { what, found: text.to_owned() })
            } else {
                Ok(())
            }
        };
        text("the model", &self.model)?;
        text("the method", self.method.as_deref().unwrap_or_default())?;
        text("init_kwargs_json", self.init_kwargs_json.as_deref().unwrap_or_default())?;
        let python_path = self.python_path.iter().map(|folder| absolute(folder));
        let setup = Setup {
            model: ModelSpec {
                module,
                callable,
                method: self.method,
                init_kwargs_json: self.init_kwargs_json,
                python_path: python_path.collect::<Result<_, _>>()?,
            },
            signature: self.signature,
            executable: String::new(),
            start_method: self.start_method,
            collect_between_calls: self.collect_between_calls,
            interrupts: self.interrupt.is_some(),
            patience: self.wait_policy.patience(cpus::available()),
            limits: self.limits,
        };
        // The executable's path, found later, has a page's worth of room beside it.
        let limit = crate::wire::MAX_MESSAGE - 4096;
        let packet = encode_message(ToServer::Setup(setup.clone()));
        if packet.is_none_or(|packet| packet.len() > limit) {
            return Err(ConfigError::TooLong { limit });
        }
        Ok(Config {
            sizes,
            huge_pages: self.huge_pages,
            setup,
            wait_policy: self.wait_policy,
            poll_spin: self.poll_spin,
            python: self.python,
            worker: self.worker,
            interpreter_options: self.interpreter_options,
            environment: self.environment,
            compute_threads: self.compute_threads,
            start_deadline: self.start_deadline,
            clear_environment: self.clear_environment,
            retries: self.retries,
            interrupt: self.interrupt,
            spare: self.spare,
            hung_ticks: supervisor::ticks(self.hung_after),
            retirement: self.retirement,
        })
    }
}

fn within<T>(what: &'static str, found: T, min: u32, max: u32) -> Result<u32, ConfigError>
where
    T: Copy + TryInto<u32> + TryInto<u64>,
{
    match found.try_into() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(ConfigError::OutOfRange {
            what,
            found: found.try_into().unwrap_or(u64::MAX),
            min: min.into(),
            max: max.into(),
        }),
    }
}

/// The folder as Python will see it: its workers may change their working directory.
fn absolute(folder: &Path) -> Result<String, ConfigError> {
    let not_text = || ConfigError::NotText {
        what: "python_path",
        found: folder.to_string_lossy().into_owned(),
    };
    let absolute = std::path::absolute(folder).map_err(|_| not_text())?;
    let text = absolute.into_os_string().into_string().map_err(|_| not_text())?;
    if text.contains('\0') { Err(not_text()) } else { Ok(text) }
}

/// A configuration that was checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) sizes: Sizes,
    /// Whether tensors in place get huge pages.
    pub(crate) huge_pages: bool,
    /// Complete but for the executable.
    pub(crate) setup: Setup,
    pub(crate) wait_policy: WaitPolicy,
    pub(crate) poll_spin: Duration,
    pub(crate) python: Option<PathBuf>,
    pub(crate) worker: Worker,
    pub(crate) interpreter_options: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) compute_threads: u32,
    pub(crate) start_deadline: Duration,
    pub(crate) clear_environment: bool,
    pub(crate) retries: u32,
    pub(crate) interrupt: Option<Duration>,
    pub(crate) spare: bool,
    /// Audits after which a worker hangs that is still at the same task.
    pub(crate) hung_ticks: u32,
    pub(crate) retirement: Retirement,
}
