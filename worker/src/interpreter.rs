//! CPython's life in this process: which library, start, forks, end.
//!
//! # Invariants
//! *Attached*: the thread that called [`start`], or in an interpreter that was there before, [`adopt`],
//! holds the GIL from then on, all the time but for [`detached`]. Nothing attaches and detaches per call:
//! that would cost more than small models do.
//!
//! PyO3 keeps its own count of attachments per thread, which knows nothing of this (in an interpreter
//! that was adopted it is one higher, and nothing here minds); so
//! - code off the hot path enters [`Python::attach`], which finds the GIL held, takes no lock and
//!   only counts. Inside it PyO3 is used as everywhere.
//! - the hot path takes its token from [`Python::assume_attached`] and owns objects as [`Bound`]
//!   only, whose drop releases at once. (A [`Py`] dropped there would be put aside until
//!   the next `attach`: late, but not lost.)
//! - a fork copies the forking thread's count, as it copies its GIL. PyO3's list of postponed
//!   releases has a lock that no other thread can hold then: the fork server has one thread.

use std::ffi::{CStr, CString};
use std::fs;
use std::mem::MaybeUninit;
use std::ptr::{self, addr_of_mut};

use nearcall::peer::{Language, PythonError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::exception;

/// The Python that this program is linked to, and the libpython that the loader gave it.
pub(crate) fn language() -> Language {
    // SAFETY: may be called at any time, before the start too; returns a static string.
    let version = unsafe { ffi::Py_GetVersion() };
    // SAFETY: as above: a NUL-terminated string that is never freed or changed again.
    let version = unsafe { CStr::from_ptr(version) }.to_string_lossy();
    // "3.11.7 (main, ...": up to the second dot.
    let minor = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let libpython = match loaded_libpython() {
        // It is linked into the interpreter itself.
        loaded if loaded.is_empty() => fs::read_link("/proc/self/exe")
            .map(|executable| executable.to_string_lossy().into_owned())
            .unwrap_or_default(),
        loaded => loaded,
    };
    Language { python: minor, libpython }
}

/// The file that libpython was mapped from. At this point nobody but the loader has mapped one.
fn loaded_libpython() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let is_libpython = |path: &&str| {
        path.rsplit('/').next().is_some_and(|file_name| file_name.starts_with("libpython"))
    };
    // A line is "range rights offset device inode   path"; the path may hold blanks.
    let paths = maps.lines().filter_map(|line| line.find('/').and_then(|start| line.get(start..)));
    paths.into_iter().find(is_libpython).unwrap_or_default().to_owned()
}

/// Starts the interpreter as if `executable` had been started, so that it finds the packages of
/// that environment. A process has one interpreter for life: a second start does nothing.
///
/// From here on the calling thread is attached.
///
/// Where the interpreter was running before ([`adopt`]), this does the rest of what the start would have
/// done: it comes after the signals were set.
///
/// # Errors
/// What CPython says when it cannot start.
pub(crate) fn start(executable: &str) -> Result<(), PythonError> {
    // SAFETY: may be called at any time.
    if unsafe { ffi::Py_IsInitialized() } != 0 {
        return Python::attach(|py| {
            watch_for_crashes(py).map_err(|error| exception::describe(py, &error))
        });
    }
    let path = CString::new(executable)
        .map_err(|_| cannot_start(executable, "its path holds a NUL byte"))?;
    let mut config = Config::new();
    config.0.isolated = 0; // $PYTHONPATH and the like count, as for `python3`
    config.0.parse_argv = 0; // the arguments are the worker's, not Python's
    config.0.install_signal_handlers = 0; // signals are the engine's; an ignored one stays so
    config.0.buffered_stdio = 0; // a killed worker loses no output
    config.0.faulthandler = 1; // a crash leaves Python's stacks on stderr; a model's own call wins
    config.set_executable(&path).map_err(|reason| cannot_start(executable, &reason))?;
    // SAFETY: `config` is initialised; CPython copies what it keeps.
    let status = unsafe { ffi::Py_InitializeFromConfig(&raw const config.0) };
    checked(status).map_err(|reason| cannot_start(executable, &reason))
}

/// Makes an interpreter that was started as a Python script's look as [`start`] makes one: no arguments,
/// and an interrupt that nobody has asked for does nothing. (Unbuffered output and the folders on
/// `sys.path` are the command line's business.)
///
/// From here on the calling thread counts as attached.
///
/// # Errors
/// What Python raises where this is not its main thread.
pub(crate) fn adopt(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    signal.call_method1("signal", (signal.getattr("SIGINT")?, signal.getattr("SIG_IGN")?))?;
    py.import("sys")?.setattr("argv", [""])
}

/// Has a crash leave Python's stacks on stderr; a model's own call wins. Anew, if it was so already: the
/// engine has set the signals since.
fn watch_for_crashes(py: Python<'_>) -> PyResult<()> {
    let faulthandler = py.import("faulthandler")?;
    faulthandler.call_method0("disable")?;
    faulthandler.call_method1("enable", (2,)).map(drop)
}

#[cold]
fn cannot_start(executable: &str, reason: &str) -> PythonError {
    PythonError {
        kind: "RuntimeError".to_owned(),
        message: format!("CPython could not start as {executable}: {reason}"),
        traceback: String::new(),
    }
}

/// A `PyConfig` that is cleared in the end.
struct Config(ffi::PyConfig);

impl Config {
    /// What a plain `python3` starts with.
    fn new() -> Self {
        let mut config = MaybeUninit::uninit();
        // SAFETY: writes the whole of the memory it is given.
        unsafe { ffi::PyConfig_InitPythonConfig(config.as_mut_ptr()) };
        // SAFETY: initialised just now; the struct may be moved, nothing points into it yet.
        Self(unsafe { config.assume_init() })
    }

    /// Decodes the path as the locale says, so that any file name works.
    fn set_executable(&mut self, path: &CStr) -> Result<(), String> {
        let config = &raw mut self.0;
        // SAFETY: `config` points to an initialised struct.
        let field = unsafe { addr_of_mut!((*config).executable) };
        // SAFETY: `field` is a string of that very config, `path` ends with NUL.
        checked(unsafe { ffi::PyConfig_SetBytesString(config, field, path.as_ptr()) })
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`; not used again.
        unsafe { ffi::PyConfig_Clear(&raw mut self.0) };
    }
}

fn checked(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: takes the status by value.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    if status.err_msg.is_null() {
        return Err(format!("it exited with status {}", status.exitcode));
    }
    // SAFETY: not null, and then a static string.
    Err(unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy().into_owned())
}

/// Puts folders in front of everything else on `sys.path`, the first one first.
///
/// # Errors
/// What Python raises when `sys.path` is not what it should be.
pub(crate) fn extend_path(py: Python<'_>, folders: &[String]) -> PyResult<()> {
    let path = py.import("sys")?.getattr("path")?;
    for (index, folder) in folders.iter().enumerate() {
        // Absolute, so that a model may change its working directory.
        let folder = std::path::absolute(folder)?;
        path.call_method1("insert", (index, folder.as_os_str()))?;
    }
    Ok(())
}

/// Runs the `before` hooks and takes the locks that a fork must not find taken.
///
/// # Safety
/// The calling thread is attached; so for the other two.
pub(crate) unsafe fn before_fork() {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyOS_BeforeFork() };
}

/// Gives back the locks and runs the `after_in_parent` hooks.
///
/// # Safety
/// After [`before_fork`], in the same process.
pub(crate) unsafe fn after_fork_parent() {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyOS_AfterFork_Parent() };
}

/// Makes CPython whole in a forked process: its locks, its only thread, the `after_in_child` hooks
/// (which reseed `random`), and what CPython leaves to others (see `child.py`).
///
/// # Safety
/// In the child of a fork that came after [`before_fork`].
pub(crate) unsafe fn after_fork_child() {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyOS_AfterFork_Child() };
    Python::attach(|py| {
        for step in ["disown_cleanup", "reseed_numpy"] {
            if let Err(error) = py.import(CHILD_MODULE).and_then(|child| child.call_method0(step)) {
                exception::print(py, step, &error);
            }
        }
    });
}

/// The name under which `child.py` is loaded.
const CHILD_MODULE: &str = "_nearcall_child";

/// Imports ahead of the fork what workers would otherwise each import, or no longer could when
/// they need it: what a worker does after the fork (written in Python, being about Python's
/// library), and `traceback`, which is needed at the worst of times.
///
/// # Errors
/// What the imports raise.
pub(crate) fn prepare_children(py: Python<'_>) -> PyResult<()> {
    const SOURCE: &CStr = ffi::c_str!(include_str!("child.py"));
    let name = CString::new(CHILD_MODULE)?;
    PyModule::from_code(py, SOURCE, c"<nearcall: child.py>", &name)?;
    py.import("traceback")?;
    Ok(())
}

/// Moves all that was imported out of the garbage collector's sight: it will not go away, and
/// looking at it in each worker would copy the pages that the fork shares.
///
/// # Errors
/// What the collector raises.
pub(crate) fn freeze_heap(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    // Garbage that is frozen stays for ever.
    gc.call_method0("collect")?;
    gc.call_method0("freeze")?;
    Ok(())
}

/// Runs the exit functions and flushes the streams. The interpreter itself is left standing: the
/// process leaves by `_exit`, and a finalisation can hang on what a model has left running.
pub(crate) fn wind_down(py: Python<'_>) {
    let run = || py.import("atexit")?.call_method0("_run_exitfuncs");
    if let Err(error) = run() {
        exception::print(py, "an exit function", &error);
    }
    for stream in ["stdout", "stderr"] {
        // A stream that is closed or None has nothing left to flush.
        let _ = py.import("sys").and_then(|sys| sys.getattr(stream)?.call_method0("flush"));
    }
}

/// Calls `wait` without the GIL, which is taken again before this returns, in a panic too.
///
/// # Safety
/// The calling thread is attached, and `wait` does not touch Python.
pub(crate) unsafe fn detached(wait: &mut dyn FnMut()) {
    struct Detached(*mut ffi::PyThreadState);
    impl Drop for Detached {
        fn drop(&mut self) {
            // SAFETY: the state that `PyEval_SaveThread` gave to this thread, restored once.
            unsafe { ffi::PyEval_RestoreThread(self.0) };
        }
    }
    // SAFETY: the caller's promise.
    let _detached = Detached(unsafe { ffi::PyEval_SaveThread() });
    wait();
}

/// Has an [`interrupt`] raise `KeyboardInterrupt` in the model's code; or do what the model itself
/// has SIGINT do, if it has set a handler.
///
/// # Errors
/// What Python raises where this is not its main thread.
pub(crate) fn heed_interrupts(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let number = signal.getattr("SIGINT")?;
    // "Ignored" and "default" are no functions.
    if !signal.call_method1("getsignal", (&number,))?.is_callable() {
        signal.call_method1("signal", (number, signal.getattr("default_int_handler")?))?;
    }
    Ok(())
}

/// Interrupts the Python code that the main thread runs, as SIGINT would, at its next step. May be
/// called at any time, in a signal handler too.
pub(crate) fn interrupt() {
    // SAFETY: callable without the GIL and in a signal handler, says its documentation.
    unsafe { ffi::PyErr_SetInterrupt() };
}

/// Takes an [`interrupt`] back that has found no Python code.
pub(crate) fn forget_interrupt(_: Python<'_>) {
    /// More than there are signals, each of which may have a handler that raises first.
    const ATTEMPTS: u32 = 65;
    for _ in 0..ATTEMPTS {
        // SAFETY: the token proves that the thread is attached; no exception is set between calls.
        if unsafe { ffi::PyErr_CheckSignals() } == 0 {
            return;
        }
        // SAFETY: as above.
        unsafe { ffi::PyErr_Clear() };
    }
}

/// A thread of the interpreter, to ask whether it is the only one.
pub(crate) struct ThreadState {
    interpreter: *mut ffi::PyInterpreterState,
    thread: *mut ffi::PyThreadState,
}

impl ThreadState {
    /// The calling thread. (The pointers stay good over a fork: the child has the same memory.)
    pub(crate) fn current(_: Python<'_>) -> Self {
        Self {
            // SAFETY: the token proves that the thread is attached.
            interpreter: unsafe { ffi::PyInterpreterState_Get() },
            // SAFETY: as above.
            thread: unsafe { ffi::PyThreadState_Get() },
        }
    }

    /// Whether no other thread has been in the interpreter and not left it for good. Costs two
    /// loads.
    ///
    /// # Safety
    /// The thread is still attached.
    #[inline]
    pub(crate) unsafe fn is_alone(&self) -> bool {
        // SAFETY: the interpreter lives as long as the process.
        let newest = unsafe { ffi::PyInterpreterState_ThreadHead(self.interpreter) };
        // Only our own state is looked into: another one may be freed at any time.
        // SAFETY: `self.thread` is the calling thread's own state, alive while it is attached.
        ptr::eq(newest, self.thread) && unsafe { ffi::PyThreadState_Next(self.thread) }.is_null()
    }
}
