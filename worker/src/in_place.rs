//! Tensors in place: what the model's arrays over them lean on, and which of them it keeps.
//!
//! An array takes its memory from an object of ours by the buffer protocol. A `memoryview` holds the
//! export until it dies; numpy gives it back at once and keeps a mere reference to the object, as
//! does whatever it hands on by DLPack. So what tells whether anything of an array is left is
//! how often our object is referenced.

use std::ffi::c_int;
use std::ptr;
use std::sync::{Arc, OnceLock};

use nearcall::peer::{InPlace, KeptTensors, TensorMemory};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::forks;

/// The memory of a tensor in place.
///
/// # Invariants
/// The memory is there while this is referenced by others than [`Tensors`]: because the task is at
/// hand; or because of `kept`; or because there was no memory to keep it, which leaves it mapped and
/// ends the process.
#[pyclass(frozen, module = "nearcall", name = "TensorMemory")]
pub(crate) struct Exporter {
    memory: TensorMemory,
    /// What keeps the memory beyond the task.
    kept: OnceLock<Arc<KeptTensors>>,
}

// SAFETY: an address, and nothing is done with what is there but to show it, with the GIL held.
unsafe impl Send for Exporter {}
// SAFETY: as for `Send`.
unsafe impl Sync for Exporter {}

#[pymethods]
impl Exporter {
    /// # Safety
    /// Called by CPython alone, with a place for what is shown.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let TensorMemory { start, bytes, writable } = slf.get().memory;
        let (start, bytes) = (start.as_ptr().cast(), bytes.cast_signed());
        let (object, is_read_only) = (slf.as_ptr(), c_int::from(!writable));
        // SAFETY: the caller's promise. It has the view hold the object, and the type's invariant the
        // memory.
        match unsafe { ffi::PyBuffer_FillInfo(view, object, start, bytes, is_read_only, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// Makes the class of these objects, which the first of them would else do in each worker.
pub(crate) fn prepare(py: Python<'_>) {
    py.get_type::<Exporter>();
}

/// The tensors in place of one task.
#[derive(Default)]
pub(crate) struct Tensors(Vec<Shown>);

/// One that the model sees.
struct Shown {
    /// The argument's number.
    argument: usize,
    exporter: Py<Exporter>,
}

impl Shown {
    /// Whether anybody else has it. Only as long as the GIL is held does the answer hold.
    fn is_referenced(&self) -> bool {
        // SAFETY: an object; all who have these hold the GIL when they ask.
        unsafe { ffi::Py_REFCNT(self.exporter.as_ptr()) != 1 }
    }
}

impl Tensors {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An object that shows the memory of a tensor which is the argument of this number.
    ///
    /// # Errors
    /// What Python raises when there is no memory left.
    pub(crate) fn show<'py>(
        &mut self,
        py: Python<'py>,
        argument: usize,
        memory: TensorMemory,
    ) -> PyResult<Bound<'py, Exporter>> {
        let exporter = Bound::new(py, Exporter { memory, kept: OnceLock::new() })?;
        forks::add(py, memory);
        self.0.push(Shown { argument, exporter: exporter.clone().unbind() });
        Ok(exporter)
    }

    /// Whether an address is in one of them.
    pub(crate) fn contain(&self, address: ptr::NonNull<u8>) -> bool {
        self.0.iter().any(|shown| {
            let TensorMemory { start, bytes, .. } = shown.exporter.get().memory;
            address.addr().get().wrapping_sub(start.addr().get()) < bytes
        })
    }

    /// Whether anything but this has one of them.
    pub(crate) fn are_referenced(&self, _attached: Python<'_>) -> bool {
        self.0.iter().any(Shown::is_referenced)
    }

    /// Lets the model keep those that it has, and gives the numbers of these arguments.
    pub(crate) fn keep(&self, attached: Python<'_>, in_place: &mut InPlace<'_>) -> Vec<usize> {
        forks::end_task(attached);
        // `None`: the memory stays as it is, and the process ends.
        let memory = in_place.keep().map(Arc::new);
        let referenced = self.0.iter().filter(|shown| shown.is_referenced());
        let keep = |shown: &Shown| {
            if let Some(memory) = &memory {
                // Never set before: an exporter is of one task.
                let _ = shown.exporter.get().kept.set(Arc::clone(memory));
            }
            shown.argument
        };
        referenced.map(keep).collect()
    }

    /// The task is over. To be called where PyO3 counts as attached, so that objects go at once.
    pub(crate) fn forget(&mut self, attached: Python<'_>) {
        forks::end_task(attached);
        self.0.clear();
    }
}
