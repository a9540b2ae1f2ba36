//! Rust values as Python objects, and back, as fast as CPython's own functions allow.

use std::ptr;

use anyhow::{anyhow, bail, ensure};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// The highest character of ASCII.
const ASCII: ffi::Py_UCS4 = 127;

/// A new reference, or the exception that is set.
///
/// # Safety
/// `object` is a new reference, or null with an exception set.
#[inline]
pub(crate) unsafe fn owned(
    py: Python<'_>,
    object: *mut ffi::PyObject,
) -> anyhow::Result<Bound<'_, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_opt(py, object) }.ok_or_else(raised)
}

/// The exception that is set.
#[cold]
fn raised() -> anyhow::Error {
    // Attached as PyO3 counts it, too.
    Python::attach(|py| PyErr::fetch(py)).into()
}

/// An `int`.
///
/// # Errors
/// No memory is left; so for those below.
#[inline]
pub(crate) fn int(py: Python<'_>, value: i64) -> anyhow::Result<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached (`py`).
    let object = unsafe { ffi::PyLong_FromLong(value) };
    // SAFETY: gives a new reference, or null with an exception set; so below.
    unsafe { owned(py, object) }
}

/// A `float`.
#[inline]
pub(crate) fn float(py: Python<'_>, value: f64) -> anyhow::Result<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached (`py`).
    let object = unsafe { ffi::PyFloat_FromDouble(value) };
    // SAFETY: as in `int`.
    unsafe { owned(py, object) }
}

/// A `str`.
#[inline]
pub(crate) fn str<'py>(py: Python<'py>, value: &str) -> anyhow::Result<Bound<'py, PyAny>> {
    let (start, len) = (value.as_ptr(), value.len());
    if !value.is_ascii() {
        // SAFETY: the thread is attached (`py`); that many bytes of UTF-8, which are copied.
        let object = unsafe { ffi::PyUnicode_FromStringAndSize(start.cast(), len.cast_signed()) };
        // SAFETY: as in `int`.
        return unsafe { owned(py, object) };
    }
    // SAFETY: the thread is attached (`py`).
    let object = unsafe { ffi::PyUnicode_New(len.cast_signed(), ASCII) };
    // SAFETY: as in `int`.
    let object = unsafe { owned(py, object) }?;
    // SAFETY: a str that was made for ASCII: a byte for each character.
    let characters = unsafe { ffi::PyUnicode_DATA(object.as_ptr()) };
    // SAFETY: room for `len` characters, of a new str that nobody has read yet (the empty one
    // alone is everybody's, and has none). All are ASCII, as it was told.
    unsafe { ptr::copy_nonoverlapping(start, characters.cast(), len) };
    Ok(object)
}

/// A list of what `item` makes of the values.
#[inline]
pub(crate) fn list<'py, T, const LEN: usize>(
    py: Python<'py>,
    values: [T; LEN],
    item: impl Fn(Python<'py>, T) -> anyhow::Result<Bound<'py, PyAny>>,
) -> anyhow::Result<Bound<'py, PyAny>> {
    // SAFETY: the thread is attached (`py`).
    let list = unsafe { ffi::PyList_New(LEN.cast_signed()) };
    // SAFETY: as in `int`.
    let list = unsafe { owned(py, list) }?;
    for (index, value) in (0..).zip(values) {
        let item = item(py, value)?.into_ptr();
        // SAFETY: a new list of `LEN` empty places that nobody else has; `index` is one of them,
        // and it takes the reference over. Dropped half full, a list skips its empty places.
        unsafe { ffi::PyList_SET_ITEM(list.as_ptr(), index, item) };
    }
    Ok(list)
}

/// An `int` that fits.
///
/// # Errors
/// It is something else; so for those below.
#[inline]
pub(crate) fn read_int(object: &Bound<'_, PyAny>) -> anyhow::Result<i64> {
    // SAFETY: an object, and its `Bound` proves that the thread is attached; so below.
    let is_int = unsafe { ffi::PyLong_Check(object.as_ptr()) } != 0;
    ensure!(is_int, "{object} instead of an int");
    // SAFETY: as above.
    let value = unsafe { ffi::PyLong_AsLong(object.as_ptr()) };
    // SAFETY: as above.
    if value == -1 && !unsafe { ffi::PyErr_Occurred() }.is_null() {
        return Err(raised());
    }
    Ok(value)
}

/// A `str`.
#[inline]
pub(crate) fn read_str<'a>(object: &'a Bound<'_, PyAny>) -> anyhow::Result<&'a str> {
    match object.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?),
        Err(_) => bail!("{object} instead of a str"),
    }
}

/// The items of a tuple of two.
#[inline]
pub(crate) fn read_pair<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
) -> anyhow::Result<[&'a Bound<'py, PyAny>; 2]> {
    match object.cast::<PyTuple>().map(|tuple| tuple.as_slice()) {
        Ok([first, second]) => Ok([first, second]),
        _ => Err(anyhow!("{object} instead of a pair")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::start_for_tests;

    #[test]
    fn a_text_beyond_ascii_arrives_whole() {
        start_for_tests();
        Python::attach(|py| {
            for text in ["", "a", "grün", "蟒蛇"] {
                assert_eq!(read_str(&str(py, text).unwrap()).unwrap(), text);
            }
        });
    }
}
