//! How many threads the process has, and which import has likely started them.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nearcall::peer::ThreadReport;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

/// How often the threads are counted, a millisecond apart, before new ones are believed. A thread
/// that was joined is still listed until the kernel is done with it.
const COUNTS: u32 = 50;

/// The threads of this process, as the kernel lists them: Python's own count would leave out those
/// that libraries start.
fn count() -> u32 {
    // Without /proc nobody can tell; one is what there is if no library started any.
    fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count().try_into().unwrap_or(u32::MAX))
}

/// The threads, once there are no more than `before`, or they do not go away.
fn count_settled(before: u32) -> u32 {
    for _ in 1..COUNTS {
        let threads = count();
        if threads <= before {
            return threads;
        }
        thread::sleep(Duration::from_millis(1));
    }
    count()
}

/// Watches the imports of this process, through `builtins.__import__`, until it is dropped.
pub(crate) struct ImportWatch<'py> {
    builtins: Bound<'py, PyModule>,
    original: Bound<'py, PyAny>,
    watching: Bound<'py, PyCFunction>,
    /// The threads before the first import.
    before: u32,
    seen: Arc<Mutex<Seen>>,
}

/// What the imports so far have shown.
struct Seen {
    /// The first import during which the threads became more. Imports end inside out, so no
    /// import within this one has started them.
    suspect: Option<String>,
    /// Cleared when nobody wants to know any more. A library that has wrapped `__import__` itself
    /// keeps calling the watch.
    active: bool,
}

impl<'py> ImportWatch<'py> {
    /// Starts watching.
    ///
    /// # Errors
    /// What Python raises when `builtins` is not what it should be.
    pub(crate) fn start(py: Python<'py>) -> PyResult<Self> {
        let builtins = py.import("builtins")?;
        let original = builtins.getattr("__import__")?;
        let modules = py.import("sys")?.getattr("modules")?;
        let seen = Arc::new(Mutex::new(Seen { suspect: None, active: true }));
        let watching = {
            let (original, modules) = (original.clone().unbind(), modules.unbind());
            let seen = Arc::clone(&seen);
            PyCFunction::new_closure(py, Some(c"__import__"), None, move |args, kwargs| {
                watched(&original, &modules, &seen, args, kwargs)
            })?
        };
        builtins.setattr("__import__", &watching)?;
        Ok(Self { builtins, original, watching, before: count(), seen })
    }

    /// Stops watching and counts the threads. `otherwise` names what starts threads if no import
    /// does.
    pub(crate) fn finish(self, otherwise: &str) -> ThreadReport {
        let threads = count_settled(self.before);
        // If there are no more than before, whoever has started some has ended them again.
        let suspect = (threads > self.before)
            .then(|| lock(&self.seen).suspect.take().unwrap_or_else(|| otherwise.to_owned()));
        ThreadReport { threads, suspect }
    }
}

impl Drop for ImportWatch<'_> {
    fn drop(&mut self) {
        lock(&self.seen).active = false;
        // Somebody may have put a wrapper of their own around the watch: that one stays.
        let ours = self.builtins.getattr("__import__").is_ok_and(|now| now.is(&self.watching));
        if ours {
            // Fails only if `builtins` takes no attributes, and then the watch stays too.
            let _ = self.builtins.setattr("__import__", &self.original);
        }
    }
}

/// `__import__`, and a look at the threads if it has loaded anything.
fn watched(
    original: &Py<PyAny>,
    modules: &Py<PyAny>,
    seen: &Mutex<Seen>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let py = args.py();
    let original = original.bind(py);
    if !lock(seen).active {
        return original.call(args, kwargs).map(Bound::unbind);
    }
    let modules = modules.bind(py);
    let before = (modules.len()?, count());
    let imported = original.call(args, kwargs)?;
    if modules.len()? > before.0 && count() > before.1 {
        lock(seen).suspect.get_or_insert_with(|| module_name(args, kwargs));
    }
    Ok(imported.unbind())
}

/// The absolute name in a call of `__import__(name, globals, locals, fromlist, level)`.
fn module_name(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> String {
    let argument = |index: usize, keyword: &str| {
        let positional = args.get_item(index).ok();
        positional.or_else(|| kwargs.and_then(|kwargs| kwargs.get_item(keyword).ok().flatten()))
    };
    let name: String = argument(0, "name").and_then(|name| name.extract().ok()).unwrap_or_default();
    let level: usize =
        argument(4, "level").and_then(|level| level.extract().ok()).unwrap_or_default();
    if level == 0 {
        return name;
    }
    // `from ..name import x`: level 1 is the importing module's package, each more its parent.
    let package = argument(1, "globals")
        .and_then(|globals| globals.get_item("__package__").ok())
        .and_then(|package| package.extract::<String>().ok())
        .unwrap_or_default();
    let base = package.rsplitn(level, '.').last().unwrap_or_default();
    if name.is_empty() { base.to_owned() } else { format!("{base}.{name}") }
}

/// No Python runs under this lock, so it cannot be wanted by a thread that waits for the GIL.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
