//! The process's one interpreter, and the ways in which a thread can be attached to it.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::addr_of_mut;
use std::sync::OnceLock;

use anyhow::{Context, anyhow, ensure};
use nearcall_bench::order::Order;
use pyo3::ffi;
use pyo3::prelude::*;

/// What the interpreter was started with.
type Environment = (PathBuf, PathBuf);

/// Starts the interpreter of the order, with the folder of its models in front of `sys.path`,
/// unless it runs already. No thread is attached afterwards.
///
/// # Errors
/// It cannot start; or it runs already, and was started for another Python or other models.
pub(crate) fn start(order: &Order) -> anyhow::Result<()> {
    // A process has one interpreter for life; so a start that failed is not tried again.
    static STARTED: OnceLock<Result<Environment, String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        boot(&order.python, &order.models).map_err(|error| format!("{error:#}"))?;
        Ok((order.python.clone(), order.models.clone()))
    });
    let (python, models) = started.as_ref().map_err(|error| anyhow!("{error}"))?;
    ensure!(
        (python, models) == (&order.python, &order.models),
        "this process has an interpreter already: {} with {}",
        python.display(),
        models.display()
    );
    Ok(())
}

fn boot(python: &Path, models: &Path) -> anyhow::Result<()> {
    let mut config = Config::new();
    config.0.isolated = 0; // $PYTHONPATH and the like count, as for `python3`
    config.0.parse_argv = 0; // the arguments are this program's, not Python's
    config.0.install_signal_handlers = 0; // it can be interrupted at any time
    config.0.write_bytecode = 0; // the models' folder stays as it is
    config.set_executable(&CString::new(python.as_os_str().as_bytes())?)?;
    // SAFETY: `config` is initialised; CPython copies what it keeps.
    let status = unsafe { ffi::Py_InitializeFromConfig(&raw const config.0) };
    checked(status).with_context(|| format!("CPython could not start as {}", python.display()))?;
    let extended = Python::attach(|py| {
        let path = py.import("sys")?.getattr("path")?;
        path.call_method1("insert", (0, models.as_os_str())).map(drop)
    });
    // SAFETY: the start has attached this thread, and `attach` has left it so. Its state stays
    // with it: `PyGILState_Ensure` finds it there.
    unsafe { ffi::PyEval_SaveThread() };
    Ok(extended?)
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

    fn set_executable(&mut self, path: &CStr) -> anyhow::Result<()> {
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

fn checked(status: ffi::PyStatus) -> anyhow::Result<()> {
    // SAFETY: takes the status by value.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    ensure!(!status.err_msg.is_null(), "it exited with status {}", status.exitcode);
    // SAFETY: not null, and then a static string.
    Err(anyhow!(unsafe { CStr::from_ptr(status.err_msg) }.to_string_lossy().into_owned()))
}

/// The calling thread, attached for as long as this lives.
///
/// PyO3's own count of attachments knows nothing of it, which costs nothing here: a `Py` that is
/// dropped meanwhile is put aside until the next [`Python::attach`].
///
/// # Invariants
/// The thread holds the GIL (but for [`Kept`], which has one inside); the marker keeps this on it.
pub(crate) struct Attached(ffi::PyGILState_STATE, PhantomData<*const ()>);

impl Attached {
    /// Attaches this thread.
    ///
    /// # Errors
    /// The interpreter has not been started.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // SAFETY: may be called at any time.
        ensure!(unsafe { ffi::Py_IsInitialized() } != 0, "no interpreter runs");
        // SAFETY: the interpreter runs, and is never ended.
        Ok(Self(unsafe { ffi::PyGILState_Ensure() }, PhantomData))
    }

    /// The proof.
    #[inline]
    pub(crate) fn py(&self) -> Python<'_> {
        // SAFETY: the type's invariant, for the lifetime of the borrow.
        unsafe { Python::assume_attached() }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: what `PyGILState_Ensure` gave to this thread, which is attached as then.
        unsafe { ffi::PyGILState_Release(self.0) };
    }
}

/// The calling thread's state, made once and kept while the thread is not attached.
///
/// # Invariants
/// `state` is this thread's own; the thread is attached during [`attached`](Self::attached) only.
pub(crate) struct Kept {
    state: Cell<*mut ffi::PyThreadState>,
    /// What made the state, and unmakes it.
    _attached: Attached,
}

impl Kept {
    /// Makes a state for this thread.
    ///
    /// # Errors
    /// As [`Attached::new`].
    pub(crate) fn new() -> anyhow::Result<Self> {
        let attached = Attached::new()?;
        // SAFETY: the thread is attached, just now.
        let state = unsafe { ffi::PyEval_SaveThread() };
        Ok(Self { state: Cell::new(state), _attached: attached })
    }

    /// Runs `work` with this thread attached. Not to be nested, hence `mut`.
    #[inline]
    pub(crate) fn attached<T>(&mut self, work: impl FnOnce(Python<'_>) -> T) -> T {
        struct Leave<'a>(&'a Cell<*mut ffi::PyThreadState>);
        impl Drop for Leave<'_> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: attached by `attached`, which has made this.
                self.0.set(unsafe { ffi::PyEval_SaveThread() });
            }
        }
        // SAFETY: this thread's own state, which is not attached: the type's invariant.
        unsafe { ffi::PyEval_RestoreThread(self.state.get()) };
        let _leave = Leave(&self.state);
        // SAFETY: attached until `_leave` is dropped; the token cannot leave `work`.
        work(unsafe { Python::assume_attached() })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Attached again for the drop of `_attached`.
        // SAFETY: this thread's own state, which is not attached: the type's invariant.
        unsafe { ffi::PyEval_RestoreThread(self.state.get()) };
    }
}

/// Starts the interpreter that the tests were built for.
#[cfg(test)]
pub(crate) fn start_for_tests() -> Order {
    use nearcall_bench::measure::Span;

    let span = Span { warm_up: 0.0, measured: 0.01 };
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models").into();
    let order = Order::new("test", span, env!("NEARCALL_BUILT_FOR").into(), models);
    start(&order).unwrap();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_interpreter_and_one_folder_of_models() {
        let order = start_for_tests();
        start(&order).unwrap();
        let other = Order { models: "/elsewhere".into(), ..order };
        assert!(start(&other).unwrap_err().to_string().contains("has an interpreter already"));
    }

    #[test]
    fn a_kept_state_is_the_same_in_each_call_and_gone_afterwards() {
        start_for_tests();
        // On a thread that has no state yet.
        std::thread::spawn(|| {
            let current = |_: Python<'_>| {
                // SAFETY: the token proves that the thread is attached.
                unsafe { ffi::PyThreadState_Get() }
            };
            // SAFETY: may be called at any time.
            let own = || unsafe { ffi::PyGILState_GetThisThreadState() };
            let mut kept = Kept::new().unwrap();
            let first = kept.attached(current);
            assert!(first == kept.attached(current) && first == own());
            drop(kept);
            assert!(own().is_null());
            let attached = Attached::new().unwrap();
            assert_eq!(current(attached.py()), own());
            drop(attached);
            assert!(own().is_null());
        })
        .join()
        .unwrap();
    }
}
