//! A task's values as new Python objects.

use nearcall::peer::{TensorRef, ValueRef};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::arguments::Unreadable;
use crate::tensor;

/// A new object, or none.
pub(crate) type Made<'py> = Result<Bound<'py, PyAny>, Unreadable>;

/// Takes over what one of CPython's makers gave.
///
/// # Safety
/// `object` is a new reference, or null with an exception set.
#[inline]
unsafe fn made(py: Python<'_>, object: *mut ffi::PyObject) -> Made<'_> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_opt(py, object) }.ok_or(Unreadable::Raised)
}

/// Any value, with all that is in it; arrays are read-only.
pub(crate) fn object<'py>(py: Python<'py>, value: &ValueRef<'_>) -> Made<'py> {
    object_with(py, value, tensor::object)
}

/// Any value, with all that is in it; `array` makes the arrays.
pub(crate) fn object_with<'py>(
    py: Python<'py>,
    value: &ValueRef<'_>,
    array: fn(Python<'py>, &TensorRef<'_>) -> Made<'py>,
) -> Made<'py> {
    let object = |value: &ValueRef<'_>| object_with(py, value, array);
    // Calls itself no deeper than the limit on containers, which the reader has checked.
    match value {
        ValueRef::None => Ok(py.None().into_bound(py)),
        ValueRef::Bool(value) => bool(py, *value),
        ValueRef::Int(value) => int(py, *value),
        ValueRef::Float(value) => float(py, *value),
        ValueRef::Str(value) => text(py, value.as_bytes()),
        ValueRef::Bytes(value) => bytes(py, value),
        ValueRef::List(items) => {
            let mut left = items.iter();
            list(py, items.len(), || object(&left.next().ok_or(Unreadable::Malformed)?))
        }
        ValueRef::Tuple(items) => {
            let mut left = items.iter();
            tuple(py, items.len(), || object(&left.next().ok_or(Unreadable::Malformed)?))
        }
        ValueRef::Dict(items) => {
            let dict = new_dict(py)?;
            for (key, item) in items.iter() {
                set(&dict, &text(py, key.as_bytes())?, &object(&item)?)?;
            }
            Ok(dict)
        }
        ValueRef::Tensor(value) => array(py, value),
    }
}

/// A `bool`.
#[inline]
pub(crate) fn bool(py: Python<'_>, value: bool) -> Made<'_> {
    // SAFETY: the thread is attached (`py`).
    let object = unsafe { ffi::PyBool_FromLong(value.into()) };
    // SAFETY: gives a new reference, or null with an exception set; so for all the others here.
    unsafe { made(py, object) }
}

/// An `int`.
#[inline]
pub(crate) fn int(py: Python<'_>, value: i64) -> Made<'_> {
    // `long` has 64 bits on Linux, and CPython is quickest with it.
    // SAFETY: the thread is attached (`py`).
    let object = unsafe { ffi::PyLong_FromLong(value) };
    // SAFETY: see `bool`.
    unsafe { made(py, object) }
}

/// A `float`.
#[inline]
pub(crate) fn float(py: Python<'_>, value: f64) -> Made<'_> {
    // SAFETY: the thread is attached (`py`).
    let object = unsafe { ffi::PyFloat_FromDouble(value) };
    // SAFETY: see `bool`.
    unsafe { made(py, object) }
}

/// A `bytes`.
pub(crate) fn bytes<'py>(py: Python<'py>, value: &[u8]) -> Made<'py> {
    let (start, len) = (value.as_ptr().cast(), value.len().cast_signed());
    // SAFETY: the thread is attached (`py`); that many bytes, which are copied.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(start, len) };
    // SAFETY: see `bool`.
    unsafe { made(py, object) }
}

/// A `str` of UTF-8, which is checked here.
#[inline]
pub(crate) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Made<'py> {
    /// The highest character of ASCII.
    const ASCII: ffi::Py_UCS4 = 127;
    // CPython decodes UTF-8 eight bytes at a time; what is ASCII can be copied as it is.
    if !bytes.is_ascii() {
        let text = str::from_utf8(bytes).map_err(|_| Unreadable::Malformed)?;
        let (start, len) = (text.as_ptr().cast(), text.len().cast_signed());
        // SAFETY: the thread is attached (`py`); that many bytes of UTF-8, which are copied.
        let object = unsafe { ffi::PyUnicode_FromStringAndSize(start, len) };
        // SAFETY: see `bool`.
        return unsafe { made(py, object) };
    }
    // SAFETY: the thread is attached (`py`). A slice is never longer than `isize::MAX`.
    let object = unsafe { ffi::PyUnicode_New(bytes.len().cast_signed(), ASCII) };
    // SAFETY: see `bool`.
    let object = unsafe { made(py, object) }?;
    // SAFETY: a str that was made for ASCII keeps a byte for each character.
    let characters = unsafe { ffi::PyUnicode_DATA(object.as_ptr()) };
    // SAFETY: room for as many characters as there are bytes, all of them ASCII, in a str that
    // nobody has read yet (the empty one alone is everybody's, and there is nothing to copy then).
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), characters.cast(), bytes.len()) };
    Ok(object)
}

/// A `list` of `len` items, each from a call of `next`.
#[inline]
pub(crate) fn list<'py>(
    py: Python<'py>,
    len: usize,
    mut next: impl FnMut() -> Made<'py>,
) -> Made<'py> {
    // Never longer than the task's bytes, so its conversions lose nothing.
    let len = len.cast_signed();
    // SAFETY: the thread is attached (`py`).
    let list = unsafe { ffi::PyList_New(len) };
    // SAFETY: see `bool`.
    let list = unsafe { made(py, list) }?;
    for index in 0..len {
        let item = next()?;
        // SAFETY: a new list of `len` empty places that nobody else has; `index` is one of them,
        // and it takes the reference over. Dropped half full, a list skips its empty places.
        unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), index, item.into_ptr()) };
    }
    Ok(list)
}

/// A `tuple` of `len` items, each from a call of `next`.
pub(crate) fn tuple<'py>(
    py: Python<'py>,
    len: usize,
    mut next: impl FnMut() -> Made<'py>,
) -> Made<'py> {
    let len = len.cast_signed();
    // SAFETY: the thread is attached (`py`).
    let tuple = unsafe { ffi::PyTuple_New(len) };
    // SAFETY: see `bool`.
    let tuple = unsafe { made(py, tuple) }?;
    for index in 0..len {
        let item = next()?;
        // SAFETY: as for a list. (The empty tuple is everybody's, but has no places.)
        unsafe { ffi::PyTuple_SET_ITEM(tuple.as_ptr(), index, item.into_ptr()) };
    }
    Ok(tuple)
}

fn new_dict(py: Python<'_>) -> Made<'_> {
    // SAFETY: the thread is attached (`py`).
    let dict = unsafe { ffi::PyDict_New() };
    // SAFETY: see `bool`.
    unsafe { made(py, dict) }
}

/// Puts a pair behind the others of a dict. A key that is there already keeps its place.
fn set(
    dict: &Bound<'_, PyAny>,
    key: &Bound<'_, PyAny>,
    item: &Bound<'_, PyAny>,
) -> Result<(), Unreadable> {
    // SAFETY: the thread is attached, these are objects; what the dict keeps it counts itself.
    match unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), item.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Unreadable::Raised),
    }
}
