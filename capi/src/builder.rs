//! `nearcall_builder`: what an engine is started with.

use std::ffi::{c_char, c_int};
use std::mem::{self, MaybeUninit};
use std::time::Duration;

use engine::{Builder as Settings, Kind, Len, Scalar, Signature};

use crate::codes::{self, Type};
use crate::engine::Engine;
use crate::error::Error;
use crate::failure::{Failure, guard, shielded};
use crate::input;

/// The settings of an engine. The caller's. Not to be used by two threads at once.
///
/// Each function that sets something copies what it is given, and returns a nearcall_flag. There is no
/// need to look at those: nearcall_start() reports the first setting that could not be one.
#[derive(Debug)]
pub struct Builder {
    settings: Settings,
    signature: Signature,
    /// What was wrong first.
    misuse: Option<String>,
}

/// Changes something, and keeps in mind what was wrong.
fn change(
    builder: Option<&mut Builder>,
    change: impl FnOnce(&mut Builder) -> Result<(), Failure>,
) -> c_int {
    guard(None, || {
        let builder = builder.ok_or_else(|| Failure::null("the builder"))?;
        change(builder).inspect_err(|failure| {
            builder.misuse.get_or_insert_with(|| failure.message());
        })
    })
}

/// The same for the engine's own settings, each of which takes a builder and gives another.
fn set(builder: Option<&mut Builder>, set: impl FnOnce(Settings) -> Settings) -> c_int {
    change(builder, |builder| {
        builder.apply(set);
        Ok(())
    })
}

impl Builder {
    fn apply(&mut self, set: impl FnOnce(Settings) -> Settings) {
        self.settings = set(mem::replace(&mut self.settings, engine::Engine::builder("")));
    }
}

fn nanoseconds(what: &'static str, ns: i64) -> Result<Duration, Failure> {
    let ns = u64::try_from(ns)
        .map_err(|_| Failure::Misuse(format!("{what}: {ns} ns are no length of time").into()))?;
    Ok(Duration::from_nanos(ns))
}

/// Makes a builder for a model, "module:Class" or "module:function", to be freed with
/// nearcall_builder_free(). A model that cannot be one is reported by nearcall_start().
///
/// # Safety
/// The pointer is as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_new(model: *const c_char) -> Option<Box<Builder>> {
    shielded(None, || {
        // SAFETY: the caller's promise.
        let model = unsafe { input::word("the model", model) };
        let (model, misuse) = match model {
            Ok(model) => (model, None),
            Err(failure) => ("", Some(failure.message())),
        };
        let settings = engine::Engine::builder(model);
        Some(Box::new(Builder { settings, signature: Signature::new(), misuse }))
    })
}

/// Frees a builder. NULL is nothing to free. Engines that it started are not concerned.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_free(builder: Option<Box<Builder>>) {
    shielded((), || drop(builder));
}

/// The method of the class' instance to call. Default: the instance itself, or the function.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_method(
    builder: Option<&mut Builder>,
    method: *const c_char,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let method = unsafe { input::word("the method", method) }?;
        builder.apply(|settings| settings.method(method));
        Ok(())
    })
}

/// Keyword arguments for the model's initialize(): a JSON object. Default: none.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_init_kwargs_json(
    builder: Option<&mut Builder>,
    json: *const c_char,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let json = unsafe { input::word("init_kwargs_json", json) }?;
        builder.apply(|settings| settings.init_kwargs_json(json));
        Ok(())
    })
}

/// The Python environment: a virtual environment's folder, or an interpreter. Default: $VIRTUAL_ENV, else
/// python3 on $PATH.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_python(
    builder: Option<&mut Builder>,
    environment_or_interpreter: *const c_char,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let python = unsafe { input::name("python", environment_or_interpreter) }?;
        builder.apply(|settings| settings.python(python));
        Ok(())
    })
}

/// Adds a folder to search for modules, before all that Python searches by itself. The first one added is
/// searched first.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_python_path(
    builder: Option<&mut Builder>,
    folder: *const c_char,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let folder = unsafe { input::name("python_path", folder) }?;
        builder.apply(|settings| settings.python_path(folder));
        Ok(())
    })
}

/// The nearcall-worker binary. Default: $NEARCALL_WORKER, else beside this executable, else on $PATH.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_worker(
    builder: Option<&mut Builder>,
    binary: *const c_char,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let binary = unsafe { input::name("worker", binary) }?;
        builder.apply(|settings| settings.worker(binary));
        Ok(())
    })
}

/// Sets an environment variable for the Python processes, which otherwise have this process'.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_env(
    builder: Option<&mut Builder>,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let name = unsafe { input::name("the variable's name", name) }?;
        // SAFETY: as above.
        let value = unsafe { input::name("the variable's value", value) }?;
        builder.apply(|settings| settings.env(name, value));
        Ok(())
    })
}

/// Whether the Python processes start without this process' environment variables. Default: no.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_clear_env(builder: Option<&mut Builder>, clear: bool) -> c_int {
    set(builder, |settings| settings.clear_env(clear))
}

/// Threads that numeric libraries may use in each worker (OMP_NUM_THREADS and its kin); 0 leaves the
/// variables as they are. Default: 1.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_compute_threads(
    builder: Option<&mut Builder>,
    threads: u32,
) -> c_int {
    set(builder, |settings| settings.compute_threads(threads))
}

/// Declares the model's next keyword argument. `type` is a nearcall_type; a list may have any length.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_parameter(
    builder: Option<&mut Builder>,
    name: *const c_char,
    r#type: i32,
) -> c_int {
    // SAFETY: passed on.
    unsafe { nearcall_builder_list(builder, name, r#type, 0, u32::MAX) }
}

/// As nearcall_builder_parameter(), for a list of `min` to `max` items, both ends included. Types that are no
/// lists have no use for the two.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_builder_list(
    builder: Option<&mut Builder>,
    name: *const c_char,
    r#type: i32,
    min: u32,
    max: u32,
) -> c_int {
    change(builder, |builder| {
        // SAFETY: the caller's promise.
        let name = unsafe { input::word("the parameter's name", name) }?;
        let list = |scalar| Kind::List(scalar, Len::from(min..=max));
        let kind = match r#type {
            number if number == Type::Bool as i32 => Kind::One(Scalar::Bool),
            number if number == Type::Int as i32 => Kind::One(Scalar::Int),
            number if number == Type::Float as i32 => Kind::One(Scalar::Float),
            number if number == Type::Str as i32 => Kind::One(Scalar::Str),
            number if number == Type::Bools as i32 => list(Scalar::Bool),
            number if number == Type::Ints as i32 => list(Scalar::Int),
            number if number == Type::Floats as i32 => list(Scalar::Float),
            number if number == Type::Strs as i32 => list(Scalar::Str),
            number if number == Type::Value as i32 => Kind::Any,
            number => {
                let text = format!("parameter {name:?}: {number} is no nearcall_type");
                return Err(Failure::Misuse(text.into()));
            }
        };
        builder.signature = mem::take(&mut builder.signature).parameter(name, kind);
        Ok(())
    })
}

/// How workers come to be: a nearcall_start_method.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_start_method(
    builder: Option<&mut Builder>,
    method: i32,
) -> c_int {
    change(builder, |builder| {
        let method = codes::start_method(method).ok_or_else(|| {
            Failure::Misuse(format!("{method} is no nearcall_start_method").into())
        })?;
        builder.apply(|settings| settings.start_method(method));
        Ok(())
    })
}

/// Worker processes, 1 to 1,024. Default: the CPUs available to this process.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_workers(builder: Option<&mut Builder>, workers: usize) -> c_int {
    set(builder, |settings| settings.workers(workers))
}

/// Tasks that the engine holds at once, waiting, running, and answered but not retrieved yet: 1 to 65,535.
/// Default: 64.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_slots(builder: Option<&mut Builder>, slots: usize) -> c_int {
    set(builder, |settings| settings.slots(slots))
}

/// Room of a slot, in bytes: 256 to 16 MiB. Tasks and answers up to this size make no system call. Default:
/// 4,096.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_slot_bytes(
    builder: Option<&mut Builder>,
    bytes: usize,
) -> c_int {
    set(builder, |settings| settings.slot_bytes(bytes))
}

/// The largest task or answer, in bytes: up to 2 GiB. 0: all must fit their slots. Default: 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_payload_bytes(
    builder: Option<&mut Builder>,
    bytes: usize,
) -> c_int {
    set(builder, |settings| settings.payload_bytes(bytes))
}

/// Whether reserved tensors of 2 MiB and more get huge pages. Default: no.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_huge_pages(builder: Option<&mut Builder>, huge: bool) -> c_int {
    set(builder, |settings| settings.huge_pages(huge))
}

/// How threads that wait for an answer, and workers that wait for a task, pass the time: a
/// nearcall_wait_policy.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_wait_policy(
    builder: Option<&mut Builder>,
    policy: i32,
) -> c_int {
    change(builder, |builder| {
        let policy = codes::wait_policy(policy).ok_or_else(|| {
            Failure::Misuse(format!("{policy} is no nearcall_wait_policy").into())
        })?;
        builder.apply(|settings| settings.wait_policy(policy));
        Ok(())
    })
}

/// Whether Python's garbage collector runs in the pauses between calls. Default: yes.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_collect_garbage_between_calls(
    builder: Option<&mut Builder>,
    between_calls: bool,
) -> c_int {
    set(builder, |settings| settings.collect_garbage_between_calls(between_calls))
}

/// How often a task whose worker died is done once more. Anything but 0, the default, declares that the
/// model may be called several times with the same task.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_retries(builder: Option<&mut Builder>, retries: u32) -> c_int {
    set(builder, |settings| settings.retries(retries))
}

/// Interrupts a call that is past its deadline, or was cancelled, with a KeyboardInterrupt, and kills its
/// worker only if the call has not ended after so long. Default: kill at once.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_interrupt(
    builder: Option<&mut Builder>,
    grace_ns: i64,
) -> c_int {
    change(builder, |builder| {
        let grace = nanoseconds("interrupt", grace_ns)?;
        builder.apply(|settings| settings.interrupt(grace));
        Ok(())
    })
}

/// Whether there is one worker more, ready to take over at once when another ends. Default: no.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_spare(builder: Option<&mut Builder>, spare: bool) -> c_int {
    set(builder, |settings| settings.spare(spare))
}

/// After how long in the same task a worker is reported as one that hangs. Default: 10 s.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_hung_after(builder: Option<&mut Builder>, ns: i64) -> c_int {
    change(builder, |builder| {
        let time = nanoseconds("hung_after", ns)?;
        builder.apply(|settings| settings.hung_after(time));
        Ok(())
    })
}

/// Replaces each worker after so many tasks, less up to a fifth by chance. Default: never.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_max_tasks(builder: Option<&mut Builder>, tasks: u64) -> c_int {
    set(builder, |settings| settings.max_tasks(tasks))
}

/// Replaces each worker that has served for so long, less up to a fifth by chance. Default: never.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_max_age(builder: Option<&mut Builder>, ns: i64) -> c_int {
    change(builder, |builder| {
        let age = nanoseconds("max_age", ns)?;
        builder.apply(|settings| settings.max_age(age));
        Ok(())
    })
}

/// Replaces each worker that has so many bytes of memory resident. Default: never.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_max_rss(builder: Option<&mut Builder>, bytes: u64) -> c_int {
    set(builder, |settings| settings.max_rss(bytes))
}

/// The most bytes of private memory that a worker can have (RLIMIT_DATA). Default: no limit but this process'
/// own.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_memory_limit(
    builder: Option<&mut Builder>,
    bytes: u64,
) -> c_int {
    set(builder, |settings| settings.memory_limit(bytes))
}

/// The most descriptors that a worker can have open (RLIMIT_NOFILE). Default: this process' own.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_descriptor_limit(
    builder: Option<&mut Builder>,
    descriptors: u64,
) -> c_int {
    set(builder, |settings| settings.descriptor_limit(descriptors))
}

/// The most CPU time that a worker can use in its life, in seconds (RLIMIT_CPU). Default: this process' own.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_cpu_limit(builder: Option<&mut Builder>, seconds: u64) -> c_int {
    set(builder, |settings| settings.cpu_limit(seconds))
}

/// How long nearcall_start() may take until all workers are ready. Default: 60 s.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_builder_start_deadline(builder: Option<&mut Builder>, ns: i64) -> c_int {
    change(builder, |builder| {
        let deadline = nanoseconds("start_deadline", ns)?;
        builder.apply(|settings| settings.start_deadline(deadline));
        Ok(())
    })
}

/// Starts an engine: imports the model, forks the workers, returns once all are ready. The engine is the
/// caller's, to be freed with nearcall_engine_free(); it is NULL if there is none. The builder stays as it
/// is, and can start others.
///
/// The error's code is NEARCALL_CODE_START, or NEARCALL_CODE_MISUSE for a setting that could not be one; its
/// traceback is that of the model's import or initialize(). What was begun is ended again.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_start(
    builder: Option<&Builder>,
    engine: Option<&mut MaybeUninit<Option<Box<Engine>>>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let engine = engine.ok_or_else(|| Failure::null("the place for the engine"))?;
        engine.write(None);
        let builder = builder.ok_or_else(|| Failure::null("the builder"))?;
        if let Some(misuse) = &builder.misuse {
            return Err(Failure::Misuse(misuse.clone().into()));
        }
        let settings = builder.settings.clone().signature(builder.signature.clone());
        let started = settings.start().map_err(Failure::Start)?;
        engine.write(Some(Box::new(Engine::new(started))));
        Ok(())
    })
}
