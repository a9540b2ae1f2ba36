//! What an event loop watches.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nearcall::Key;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// A descriptor that is readable when a task that was asked for is over, and how to hear which.
#[pyclass(frozen, module = "nearcall._native")]
pub(crate) struct Completions {
    completions: nearcall::Completions,
    /// For the next dispatch: its memory is used again.
    keys: Mutex<Vec<Key>>,
}

#[pymethods]
impl Completions {
    fn fileno(&self) -> RawFd {
        self.completions.as_raw_fd()
    }

    /// The keys of tasks that are over since the last call; `None`: the engine is over, and so is this.
    fn dispatch<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        // Nobody waits with it locked, but for the GIL.
        let mut keys = std::mem::take(&mut *self.keys());
        let goes_on = self.completions.dispatch(&mut keys);
        let told = PyList::new(py, keys.iter().map(|key| key.get()))?;
        keys.clear();
        *self.keys() = keys;
        Ok(goes_on.then_some(told))
    }
}

impl Completions {
    pub(crate) fn new(completions: nearcall::Completions) -> Self {
        Self { completions, keys: Mutex::default() }
    }

    fn keys(&self) -> MutexGuard<'_, Vec<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
