//! A task as Python has it: a ticket, or a key.

use std::sync::atomic::{AtomicBool, Ordering};

use nearcall::{AsKey, Key};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::engine::Engine;

/// A task as Python names it: by its ticket or its key.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) key: Key,
    pub(crate) all_slept: bool,
}

impl AsKey for Named {
    fn as_key(&self) -> Key {
        self.key
    }

    fn all_slept(&self) -> bool {
        self.all_slept
    }
}

impl Named {
    #[inline]
    pub(crate) fn read(task: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(ticket) = task.cast::<Ticket>() {
            return Ok(ticket.get().named);
        }
        let number = task.cast::<PyInt>().map_err(|_| {
            PyTypeError::new_err("a task is named by its ticket, or its key (an int)")
        })?;
        let key = number.extract::<u64>().ok().and_then(Key::from_number);
        // Such a number is none that a key could have: nobody has given it.
        let key = key.ok_or_else(|| PyValueError::new_err(format!("{number} is no key")))?;
        Ok(Self { key, all_slept: false })
    }
}

/// An accepted task. When it goes, the task is given up.
#[pyclass(frozen, module = "nearcall")]
pub(crate) struct Ticket {
    engine: Py<Engine>,
    named: Named,
    is_released: AtomicBool,
}

impl Ticket {
    pub(crate) fn new(engine: Py<Engine>, named: Named) -> Self {
        Self { engine, named, is_released: AtomicBool::new(false) }
    }
}

#[pymethods]
impl Ticket {
    /// The key, while the ticket stays responsible for the task.
    #[getter]
    fn key(&self) -> u64 {
        self.named.key.get()
    }

    /// The key alone: the ticket gives the task up no more.
    #[pyo3(name = "into_key")]
    fn release(&self) -> u64 {
        // Relaxed: the GIL orders it.
        self.is_released.store(true, Ordering::Relaxed);
        self.key()
    }

    /// Waits for the answer, at most so many seconds, which do not end the task.
    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(this: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        this.get().engine.get().wait(this.py(), this.as_any(), timeout)
    }

    /// Takes the answer; `pending` while it is not there.
    #[pyo3(signature = (pending=None))]
    fn retrieve<'py>(
        this: &Bound<'py, Self>,
        pending: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        this.get().engine.get().retrieve(this.py(), this.as_any(), pending)
    }

    /// Ends the task if it is not done; whether it was so.
    fn cancel(this: &Bound<'_, Self>) -> PyResult<bool> {
        this.get().engine.get().cancel(this.as_any())
    }

    fn __repr__(&self) -> String {
        format!("<nearcall.Ticket {}>", self.named.key)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Relaxed: as above. For a task that was retrieved this finds nothing to do.
        if !self.is_released.load(Ordering::Relaxed) {
            self.engine.get().engine().abandon(self.named.key);
        }
    }
}
