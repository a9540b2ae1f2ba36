//! What is called for each task, in the way that costs CPython the least.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyTuple};

/// A callable, taken apart once.
///
/// A method of a Python class is called as the function that it is, with the instance for its
/// first argument: the bound method does nothing else, one call deeper.
pub(crate) struct Callee {
    callable: Py<PyAny>,
    instance: Option<Py<PyAny>>,
    /// The function's own entry, if it is one written in Python. (Others are called through
    /// `PyObject_Vectorcall`, which also checks that what they do makes sense.)
    entry: Option<ffi::vectorcallfunc>,
}

/// Places in front of the keyword arguments: one for the callee's own use, one for the instance.
pub(crate) const IN_FRONT: usize = 2;

impl Callee {
    pub(crate) fn new(callable: Bound<'_, PyAny>) -> PyResult<Self> {
        let py = callable.py();
        let method = py.import("types")?.getattr("MethodType")?;
        let (callable, instance) = if callable.get_type().is(&method) {
            (callable.getattr("__func__")?, Some(callable.getattr("__self__")?))
        } else {
            (callable, None)
        };
        let entry = if callable.is_exact_instance_of::<PyFunction>() {
            // SAFETY: the token proves that the thread is attached; it is an object.
            unsafe { ffi::PyVectorcall_Function(callable.as_ptr()) }
        } else {
            None
        };
        Ok(Self { callable: callable.unbind(), instance: instance.map(Bound::unbind), entry })
    }

    /// Calls it with the keyword arguments in `slots[IN_FRONT..]`, named by `names`. `None`: it
    /// raised; the exception is set.
    ///
    /// # Safety
    /// `slots[IN_FRONT..]` starts with as many objects as `names` has names, which stay alive
    /// during the call.
    #[inline]
    pub(crate) unsafe fn call<'py>(
        &self,
        py: Python<'py>,
        slots: &mut [*mut ffi::PyObject],
        names: &Py<PyTuple>,
    ) -> Option<Bound<'py, PyAny>> {
        // The flag lets the callee write to the place in front of its first argument while it
        // runs: a bound method puts its `self` there instead of copying everything.
        let (first, count) = match &self.instance {
            None => (IN_FRONT, ffi::PY_VECTORCALL_ARGUMENTS_OFFSET),
            Some(instance) => {
                slots[IN_FRONT - 1] = instance.as_ptr();
                (IN_FRONT - 1, 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET)
            }
        };
        // Derived from the whole array, because the callee reaches in front of it.
        let arguments = slots.as_mut_ptr().wrapping_add(first).cast_const();
        let (callable, names) = (self.callable.as_ptr(), names.as_ptr());
        let result = match self.entry {
            // SAFETY: the thread is attached (`py`), and this is the callable's own entry. From
            // `arguments` on stand the instance, if it is counted, and what the caller has
            // promised, with a writable place in front.
            Some(entry) => unsafe { entry(callable, arguments, count, names) },
            // SAFETY: as above.
            None => unsafe { ffi::PyObject_Vectorcall(callable, arguments, count, names) },
        };
        // The instance is not the array's to keep.
        slots[IN_FRONT - 1] = ptr::null_mut();
        // SAFETY: a call gives a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_opt(py, result) }
    }
}
