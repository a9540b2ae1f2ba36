//! A task's bytes as Python objects, placed as a vectorcall wants them.

use nearcall::peer::{Kind, MalformedTask, Scalar, Signature, TaskReader};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// Why a task could not be read.
pub(crate) enum Unreadable {
    /// Its bytes do not fit the signature.
    Malformed,
    /// Python could not make an object (there is no memory left); its exception is set.
    Raised,
}

impl From<MalformedTask> for Unreadable {
    fn from(_: MalformedTask) -> Self {
        Self::Malformed
    }
}

/// The room for one call's arguments, used again for each call.
///
/// # Invariants
/// `slots[1..=placed]` each own one reference; nothing else in `slots` does.
pub(crate) struct Arguments {
    kinds: Box<[Kind]>,
    /// The keywords: interned once, so that Python compares them by address.
    names: Py<PyTuple>,
    /// One slot for the callee's own use (see [`Arguments::call`]), then one for each argument.
    slots: Box<[*mut ffi::PyObject]>,
    placed: usize,
}

impl Arguments {
    pub(crate) fn new(py: Python<'_>, signature: &Signature) -> PyResult<Self> {
        let parameters = signature.parameters();
        let names = parameters.iter().map(|parameter| PyString::intern(py, &parameter.name));
        Ok(Self {
            kinds: parameters.iter().map(|parameter| parameter.kind).collect(),
            names: PyTuple::new(py, names.collect::<Vec<_>>())?.unbind(),
            slots: vec![std::ptr::null_mut(); parameters.len() + 1].into(),
            placed: 0,
        })
    }

    /// Makes the arguments of one call. They are new objects: whatever the callee keeps of them or
    /// changes in them is its own. Ours live until [`release`](Self::release), also after an
    /// error.
    #[inline]
    pub(crate) fn place(&mut self, py: Python<'_>, task: &[u8]) -> Result<(), Unreadable> {
        self.release(py);
        let mut reader = TaskReader::new(task);
        for kind in &self.kinds {
            let argument = match *kind {
                Kind::One(scalar) => one(py, &mut reader, scalar)?,
                Kind::List(scalar, _) => list(py, &mut reader, scalar)?,
            };
            self.placed += 1;
            self.slots[self.placed] = argument.into_ptr();
        }
        Ok(reader.finish()?)
    }

    /// Calls `callable` with the placed arguments as keywords. `None`: it raised; the exception is
    /// set.
    #[inline]
    pub(crate) fn call<'py>(
        &mut self,
        py: Python<'py>,
        callable: &Py<PyAny>,
    ) -> Option<Bound<'py, PyAny>> {
        // All arguments are keywords, so the number of positional ones is 0. The flag lets the
        // callee write to the slot before the first argument while it runs: a bound method puts
        // its `self` there instead of copying everything.
        const NO_POSITIONAL: usize = ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // Derived from the whole array, because the callee reaches in front of it.
        let first = self.slots.as_mut_ptr().wrapping_add(1);
        // SAFETY: the thread is attached (`py`). `first` has as many objects as `names` has names,
        // all alive until `release`, and one writable slot in front.
        let result = unsafe {
            ffi::PyObject_Vectorcall(callable.as_ptr(), first, NO_POSITIONAL, self.names.as_ptr())
        };
        // SAFETY: a call gives a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_opt(py, result) }
    }

    /// Gives the arguments up. May run whatever Python code their deaths set off.
    #[inline]
    pub(crate) fn release(&mut self, py: Python<'_>) {
        while self.placed > 0 {
            let argument = self.slots[self.placed];
            // First, so that code which this sets off finds the invariant kept.
            self.placed -= 1;
            // SAFETY: the type's invariant: the reference is ours, and given up here, once.
            drop(unsafe { Bound::from_owned_ptr(py, argument) });
        }
    }
}

/// One scalar.
#[inline]
fn one<'py>(
    py: Python<'py>,
    reader: &mut TaskReader<'_>,
    scalar: Scalar,
) -> Result<Bound<'py, PyAny>, Unreadable> {
    let object = match scalar {
        Scalar::Bool => {
            let value = reader.bool()?;
            // SAFETY: the thread is attached (`py`); so below.
            unsafe { ffi::PyBool_FromLong(value.into()) }
        }
        Scalar::Int => {
            let value = reader.int()?;
            // SAFETY: as above.
            unsafe { ffi::PyLong_FromLongLong(value) }
        }
        Scalar::Float => {
            let value = reader.float()?;
            // SAFETY: as above.
            unsafe { ffi::PyFloat_FromDouble(value) }
        }
        Scalar::Str => {
            let value = reader.str()?;
            // SAFETY: as above; `value` is that many bytes of UTF-8, and they are copied. A slice
            // is never longer than `isize::MAX`.
            unsafe {
                ffi::PyUnicode_FromStringAndSize(value.as_ptr().cast(), value.len().cast_signed())
            }
        }
    };
    // SAFETY: each of these gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_opt(py, object) }.ok_or(Unreadable::Raised)
}

/// A list of scalars.
#[inline]
fn list<'py>(
    py: Python<'py>,
    reader: &mut TaskReader<'_>,
    scalar: Scalar,
) -> Result<Bound<'py, PyAny>, Unreadable> {
    // Never longer than the task's bytes, so its conversions below lose nothing.
    let len = reader.list()?.cast_signed();
    // SAFETY: the thread is attached (`py`).
    let list = unsafe { ffi::PyList_New(len) };
    // SAFETY: a new reference, or null with an exception set.
    let list = unsafe { Bound::from_owned_ptr_or_opt(py, list) }.ok_or(Unreadable::Raised)?;
    for index in 0..len {
        let item = one(py, reader, scalar)?;
        // SAFETY: a new list of `len` empty places that nobody else has; `index` is one of them,
        // and it takes the reference over. Dropped half full, a list skips its empty places.
        unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), index, item.into_ptr()) };
    }
    Ok(list)
}
