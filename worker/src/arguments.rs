//! A task's bytes as Python objects, placed as a vectorcall wants them.

use nearcall::peer::{Kind, MalformedTask, Scalar, Signature, TaskReader};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::callee::{Callee, IN_FRONT};

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
/// The first `placed` of `slots[IN_FRONT..]` each own one reference; nothing else in `slots` does.
pub(crate) struct Arguments {
    kinds: Box<[Kind]>,
    /// The keywords: interned once, so that Python compares them by address.
    names: Py<PyTuple>,
    /// Those in front are the callee's; then one for each argument.
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
            slots: vec![std::ptr::null_mut(); IN_FRONT + parameters.len()].into(),
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
            self.slots[IN_FRONT + self.placed] = argument.into_ptr();
            self.placed += 1;
        }
        Ok(reader.finish()?)
    }

    /// Calls `callee` with the placed arguments as keywords. `None`: it raised; the exception is
    /// set.
    #[inline]
    pub(crate) fn call<'py>(
        &mut self,
        py: Python<'py>,
        callee: &Callee,
    ) -> Option<Bound<'py, PyAny>> {
        debug_assert_eq!(self.placed, self.kinds.len(), "called before all are placed");
        // SAFETY: `names` has a name for each of the kinds, and `place` has put an object there for
        // each; they live until `release`.
        unsafe { callee.call(py, &mut self.slots, &self.names) }
    }

    /// Gives the arguments up. May run whatever Python code their deaths set off.
    #[inline]
    pub(crate) fn release(&mut self, py: Python<'_>) {
        while self.placed > 0 {
            // First, so that code which this sets off finds the invariant kept.
            self.placed -= 1;
            let argument = self.slots[IN_FRONT + self.placed];
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
            // `long` has 64 bits on Linux, and CPython is quickest with it.
            // SAFETY: as above.
            unsafe { ffi::PyLong_FromLong(value) }
        }
        Scalar::Float => {
            let value = reader.float()?;
            // SAFETY: as above.
            unsafe { ffi::PyFloat_FromDouble(value) }
        }
        Scalar::Str => return text(py, reader.str_bytes()?),
    };
    // SAFETY: each of these gives a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_opt(py, object) }.ok_or(Unreadable::Raised)
}

/// A `str` of UTF-8, which is checked here.
#[inline]
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Result<Bound<'py, PyAny>, Unreadable> {
    /// The highest character of ASCII.
    const ASCII: ffi::Py_UCS4 = 127;
    // CPython decodes UTF-8 eight bytes at a time; what is ASCII can be copied as it is.
    if !bytes.is_ascii() {
        let text = str::from_utf8(bytes).map_err(|_| Unreadable::Malformed)?;
        let (start, len) = (text.as_ptr().cast(), text.len().cast_signed());
        // SAFETY: the thread is attached (`py`); that many bytes of UTF-8, which are copied.
        let object = unsafe { ffi::PyUnicode_FromStringAndSize(start, len) };
        // SAFETY: a new reference, or null with an exception set.
        return unsafe { Bound::from_owned_ptr_or_opt(py, object) }.ok_or(Unreadable::Raised);
    }
    // SAFETY: the thread is attached (`py`). A slice is never longer than `isize::MAX`.
    let object = unsafe { ffi::PyUnicode_New(bytes.len().cast_signed(), ASCII) };
    // SAFETY: a new reference, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_opt(py, object) }.ok_or(Unreadable::Raised)?;
    // SAFETY: a str that was made for ASCII keeps a byte for each character.
    let characters = unsafe { ffi::PyUnicode_DATA(object.as_ptr()) };
    // SAFETY: room for as many characters as there are bytes, all of them ASCII, in a str that
    // nobody has read yet (the empty one alone is everybody's, and there is nothing to copy then).
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), characters.cast(), bytes.len()) };
    Ok(object)
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
