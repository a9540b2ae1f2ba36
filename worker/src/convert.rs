//! Values between a host that is Python and the engine: the same in both directions as between a worker
//! and its model. For the package `nearcall`, whose extension module is built of this crate.

use nearcall::peer::{MAX_DEPTH, Value, ValueRef};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::answer::{Step, next};
use crate::arguments::Unreadable;
use crate::tensor::Unfit;
use crate::{exception, tensor, value};

/// An answer's value as new Python objects. Arrays are numpy's where it can be imported, else
/// `memoryview`s; they are the caller's own, and writable.
///
/// # Errors
/// What Python raises when there is no memory left.
pub fn object<'py>(py: Python<'py>, value: &ValueRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    value::object_with(py, value, tensor::writable).map_err(|unreadable| match unreadable {
        Unreadable::Raised => PyErr::fetch(py),
        // An answer was checked before it was given out.
        Unreadable::Malformed | Unreadable::Unmapped(_) => {
            PyMemoryError::new_err("an answer's value could not be read")
        }
    })
}

/// An object that a task cannot carry.
#[derive(Debug)]
pub struct Misfit {
    /// The name of its type.
    pub type_name: String,
    /// What is wrong with it.
    pub reason: String,
    /// Where it stands in the argument, as in `[1]['x']`; empty for the argument itself.
    pub place: String,
}

const WHAT_THERE_IS: &str = "a value is None, bool, int, float, str, bytes, an array of numbers (numpy's, \
     and all that have the buffer protocol), or a list, tuple or str-keyed dict of these";

/// A copy of an object, for a parameter that takes any value. What it can be is what an answer can be
/// (see this crate's documentation).
///
/// # Errors
/// The first place that does not fit.
pub fn value_of(object: &Bound<'_, PyAny>) -> Result<Value, Box<Misfit>> {
    read(object, 0)
}

fn read(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Box<Misfit>> {
    Ok(if object.is_none() {
        Value::None
    } else if let Ok(value) = object.cast::<PyBool>() {
        // Before `int`, which it inherits from.
        Value::Bool(value.is_true())
    } else if let Ok(value) = object.cast::<PyInt>() {
        Value::Int(value.extract().map_err(|_| misfit(object, "it takes more than 64 bits"))?)
    } else if let Ok(value) = object.cast_exact::<PyFloat>() {
        Value::Float(value.value())
    } else if let Ok(value) = object.cast::<PyString>() {
        Value::Str(text(object, value)?.to_owned())
    } else if let Ok(value) = object.cast::<PyBytes>() {
        Value::Bytes(value.as_bytes().to_vec())
    } else if let Ok(items) = object.cast::<PyTuple>() {
        let depth = enter(object, depth)?;
        let items = items.iter_borrowed().enumerate();
        Value::Tuple(
            items.map(|(index, item)| at(index, read(&item, depth))).collect::<Result<_, _>>()?,
        )
    } else if let Ok(items) = object.cast::<PyList>() {
        let depth = enter(object, depth)?;
        let items = items.iter().enumerate();
        Value::List(
            items.map(|(index, item)| at(index, read(&item, depth))).collect::<Result<_, _>>()?,
        )
    } else if let Ok(items) = object.cast::<PyDict>() {
        dict(items, enter(object, depth)?)?
    } else if let Ok(value) = object.cast::<PyFloat>() {
        Value::Float(value.value())
    } else {
        return tensor::value(object).map_err(|unfit| {
            if matches!(unfit, Unfit::Type) {
                return misfit(object, WHAT_THERE_IS);
            }
            let py = object.py();
            let reason = unfit.reason(py, object);
            misfit(object, &reason.unwrap_or_else(|error| exception::describe(py, &error).message))
        });
    })
}

fn dict(items: &Bound<'_, PyDict>, depth: usize) -> Result<Value, Box<Misfit>> {
    let mut pairs = Vec::with_capacity(items.len());
    let mut position = 0;
    // Reading an array may run code that changes the dict, even for ever.
    while pairs.len() <= items.len()
        && let Some((key, item)) = next(items, &mut position)
    {
        let Ok(key) = key.cast::<PyString>() else {
            let class = exception::type_name(&key.get_type());
            return Err(misfit(items, &format!("it has a key of type {class}, keys must be str")));
        };
        let key = text(items, key)?;
        let value = read(&item, depth).map_err(|misfit| misfit.within(&Step::key(key)))?;
        pairs.push((key.to_owned(), value));
    }
    Ok(Value::Dict(pairs))
}

fn at<T>(index: usize, read: Result<T, Box<Misfit>>) -> Result<T, Box<Misfit>> {
    read.map_err(|misfit| misfit.within(&Step::Index(index)))
}

/// A string's text; `holder` is what is to blame if it has none.
fn text<'a>(
    holder: &Bound<'_, PyAny>,
    string: &'a Bound<'_, PyString>,
) -> Result<&'a str, Box<Misfit>> {
    string.to_str().map_err(|error| {
        let index = exception::surrogate_at(string.py(), &error);
        let reason = index.map_or_else(
            || exception::describe(string.py(), &error).message,
            |index| format!("it has a lone surrogate at index {index}, UTF-8 does not"),
        );
        misfit(holder, &reason)
    })
}

/// The depth of a container's items, if it may have any.
fn enter(container: &Bound<'_, PyAny>, depth: usize) -> Result<usize, Box<Misfit>> {
    if depth < MAX_DEPTH {
        return Ok(depth + 1);
    }
    let reason =
        format!("it stands in {MAX_DEPTH} others, the most there may be (or contains itself)");
    Err(misfit(container, &reason))
}

#[cold]
fn misfit(object: &Bound<'_, PyAny>, reason: &str) -> Box<Misfit> {
    let type_name = exception::type_name(&object.get_type());
    Box::new(Misfit { type_name, reason: reason.to_owned(), place: String::new() })
}

impl Misfit {
    #[cold]
    fn within(mut self: Box<Self>, step: &Step) -> Box<Self> {
        self.place.insert_str(0, &step.to_string());
        self
    }
}
