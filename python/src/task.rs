//! Python's keyword arguments to a task, straight into what the engine encodes.

use nearcall::{DType, Kind, Scalar, Signature, Task, Tensor, Value};
use nearcall_worker::convert;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use smallvec::SmallVec;

use crate::errors;

/// A signature as calls need it.
pub(crate) struct Parameters(Box<[(Py<PyString>, Kind)]>);

/// An argument, out of reach of whatever Python code the next one's conversion runs.
enum Item<'py> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Bound<'py, PyString>),
    Bools(SmallVec<[bool; 8]>),
    Ints(SmallVec<[i64; 8]>),
    Floats(SmallVec<[f64; 8]>),
    Strs(SmallVec<[Bound<'py, PyString>; 8]>),
    Value(Value),
}

type Texts<'a> = SmallVec<[&'a str; 8]>;

impl Parameters {
    pub(crate) fn new(py: Python<'_>, signature: &Signature) -> Self {
        let parameters = signature.parameters().iter();
        let name = |name: &str| PyString::intern(py, name).unbind();
        Self(parameters.map(|parameter| (name(&parameter.name), parameter.kind)).collect())
    }

    /// Makes a task of keyword arguments, and calls `submit` with it.
    ///
    /// # Errors
    /// What does not fit the signature, by name.
    #[inline]
    pub(crate) fn with_task<T>(
        &self,
        py: Python<'_>,
        arguments: Option<&Bound<'_, PyDict>>,
        submit: impl FnOnce(&Task<'_>) -> T,
    ) -> PyResult<T> {
        let mut items: SmallVec<[Item<'_>; 8]> = SmallVec::new();
        for (name, kind) in &self.0 {
            let found = arguments.map(|arguments| arguments.get_item(name)).transpose()?.flatten();
            let Some(argument) = found else { return Err(self.misnamed(py, arguments)) };
            let item = item(*kind, &argument).map_err(|wrong| wrong.told(py, name, *kind))?;
            items.push(item);
        }
        if arguments.is_some_and(|arguments| arguments.len() != self.0.len()) {
            return Err(self.misnamed(py, arguments));
        }
        // From here on no code of Python's runs.
        let mut texts: SmallVec<[Texts<'_>; 2]> = SmallVec::new();
        for (item, (name, kind)) in items.iter().zip(&self.0) {
            if let Item::Strs(strings) = item {
                let read = strings.iter().map(|string| string.to_str());
                texts.push(read.collect::<PyResult<_>>().map_err(|_| surrogate(py, name, *kind))?);
            }
        }
        let mut texts = texts.iter();
        let mut task = Task::new();
        for (item, (name, kind)) in items.iter().zip(&self.0) {
            task = match item {
                Item::Bool(value) => task.bool(*value),
                Item::Int(value) => task.int(*value),
                Item::Float(value) => task.float(*value),
                Item::Str(value) => {
                    task.str(value.to_str().map_err(|_| surrogate(py, name, *kind))?)
                }
                Item::Bools(items) => task.bools(items),
                Item::Ints(items) => task.ints(items),
                Item::Floats(items) => task.floats(items),
                Item::Strs(_) => task.strs(texts.next().map_or(&[][..], |texts| texts)),
                Item::Value(value) => task.value(value),
            };
        }
        Ok(submit(&task))
    }

    /// Says which arguments are missing, or too many.
    #[cold]
    fn misnamed(&self, py: Python<'_>, arguments: Option<&Bound<'_, PyDict>>) -> PyErr {
        let has = |name: &Py<PyString>| {
            arguments.is_some_and(|arguments| arguments.contains(name).unwrap_or(false))
        };
        let missing: Vec<_> =
            self.0.iter().map(|(name, _)| name).filter(|name| !has(name)).collect();
        let known = |name: &Bound<'_, PyAny>| {
            self.0.iter().any(|(known, _)| name.eq(known).unwrap_or(false))
        };
        let strange: Vec<_> = arguments
            .map(|arguments| arguments.keys().iter().filter(|name| !known(name)).collect())
            .unwrap_or_default();
        let quoted = |names: &[String]| names.join(", ");
        let mut message = String::new();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|name| format!("'{name}'")).collect();
            message.push_str(&format!("no argument for {}; ", quoted(&names)));
        }
        if !strange.is_empty() {
            let names: Vec<_> = strange.iter().map(|name| format!("'{name}'")).collect();
            message.push_str(&format!("no parameter is called {}; ", quoted(&names)));
        }
        let names: Vec<_> = self.0.iter().map(|(name, kind)| format!("{name} ({kind})")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { quoted(&names) };
        errors::mismatch(py, &format_args!("{message}the parameters are: {names}"))
    }
}

/// Why an argument is none of its kind.
enum Wrong {
    /// It raised, or is another type.
    Type { found: String, place: String },
    /// Said in whole.
    Said(String),
    /// No error of the argument's: an interrupt, no memory.
    Raised(PyErr),
}

impl Wrong {
    #[cold]
    fn told(self, py: Python<'_>, name: &Py<PyString>, kind: Kind) -> PyErr {
        match self {
            Self::Type { found, place } => errors::mismatch(
                py,
                &format_args!("argument '{name}'{place} is a {found}, the signature says {kind}"),
            ),
            Self::Said(reason) => {
                errors::mismatch(py, &format_args!("argument '{name}' ({kind}): {reason}"))
            }
            Self::Raised(error) => error,
        }
    }
}

#[cold]
fn wrong_type(object: &Bound<'_, PyAny>) -> Wrong {
    let found = object.get_type().fully_qualified_name();
    Wrong::Type {
        found: found.map_or_else(|_| "?".to_owned(), |name| name.to_string()),
        place: String::new(),
    }
}

#[cold]
fn at(wrong: Wrong, index: usize) -> Wrong {
    match wrong {
        Wrong::Type { found, .. } => Wrong::Type { found, place: format!("[{index}]") },
        Wrong::Said(reason) => Wrong::Said(format!("[{index}]: {reason}")),
        raised @ Wrong::Raised(_) => raised,
    }
}

#[cold]
fn surrogate(py: Python<'_>, name: &Py<PyString>, kind: Kind) -> PyErr {
    Wrong::Said("it has a lone surrogate, UTF-8 does not".to_owned()).told(py, name, kind)
}

#[inline]
fn item<'py>(kind: Kind, object: &Bound<'py, PyAny>) -> Result<Item<'py>, Wrong> {
    Ok(match kind {
        Kind::One(Scalar::Bool) => Item::Bool(bool(object)?),
        Kind::One(Scalar::Int) => Item::Int(int(object)?),
        Kind::One(Scalar::Float) => Item::Float(float(object)?),
        Kind::One(Scalar::Str) => Item::Str(string(object)?),
        Kind::List(Scalar::Bool, _) => {
            Item::Bools(list(object, bool, &|tensor| match tensor.dtype() {
                DType::Bool => tensor.to_vec::<bool>().ok(),
                _ => None,
            })?)
        }
        Kind::List(Scalar::Int, _) => Item::Ints(list(object, int, &ints)?),
        Kind::List(Scalar::Float, _) => Item::Floats(list(object, float, &floats)?),
        Kind::List(Scalar::Str, _) => Item::Strs(list(object, string, &|_| None)?),
        Kind::Any => Item::Value(value(object)?),
    })
}

#[inline]
fn bool(object: &Bound<'_, PyAny>) -> Result<bool, Wrong> {
    match object.cast::<PyBool>() {
        Ok(value) => Ok(value.is_true()),
        // One of numpy's, perhaps.
        Err(_) => match convert::value_of(object) {
            Ok(Value::Bool(value)) => Ok(value),
            _ => Err(wrong_type(object)),
        },
    }
}

#[inline]
fn int(object: &Bound<'_, PyAny>) -> Result<i64, Wrong> {
    let wide = |_| Wrong::Said("it takes more than 64 bits".to_owned());
    if let Ok(value) = object.cast::<PyInt>() {
        return value.extract().map_err(wide);
    }
    // What has `__index__` is an integer, as in Python's own functions.
    // SAFETY: an object; the thread is attached (`object`).
    let index = unsafe { ffi::PyNumber_Index(object.as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    match unsafe { Bound::from_owned_ptr_or_err(object.py(), index) } {
        Ok(index) => index.extract().map_err(wide),
        Err(error) => Err(converted(object, error)),
    }
}

#[inline]
fn float(object: &Bound<'_, PyAny>) -> Result<f64, Wrong> {
    if let Ok(value) = object.cast_exact::<PyFloat>() {
        return Ok(value.value());
    }
    // What has `__float__` or `__index__`, as in Python's own functions.
    object.extract().map_err(|error| converted(object, error))
}

/// What is another type says so by a `TypeError`.
#[cold]
fn converted(object: &Bound<'_, PyAny>, error: PyErr) -> Wrong {
    let py = object.py();
    if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) {
        wrong_type(object)
    } else if error.is_instance_of::<pyo3::exceptions::PyException>(py) {
        Wrong::Said(error.value(py).to_string())
    } else {
        Wrong::Raised(error)
    }
}

#[inline]
fn string<'py>(object: &Bound<'py, PyAny>) -> Result<Bound<'py, PyString>, Wrong> {
    object.cast::<PyString>().cloned().map_err(|_| wrong_type(object))
}

fn value(object: &Bound<'_, PyAny>) -> Result<Value, Wrong> {
    convert::value_of(object).map_err(|misfit| {
        let at =
            if misfit.place.is_empty() { String::new() } else { format!("{}: ", misfit.place) };
        Wrong::Said(format!("{at}a {} cannot be carried: {}", misfit.type_name, misfit.reason))
    })
}

/// The items of a list, a tuple, or a flat array of numbers.
#[inline]
fn list<'py, T, const N: usize>(
    object: &Bound<'py, PyAny>,
    one: impl Fn(&Bound<'py, PyAny>) -> Result<T, Wrong>,
    numbers: &dyn Fn(&Tensor) -> Option<Vec<T>>,
) -> Result<SmallVec<[T; N]>, Wrong>
where
    [T; N]: smallvec::Array<Item = T>,
{
    let mut items = SmallVec::new();
    if let Ok(list) = object.cast::<PyList>() {
        // Its length may change while an item is converted.
        for (index, item) in list.iter().enumerate() {
            items.push(one(&item).map_err(|wrong| at(wrong, index))?);
        }
    } else if let Ok(tuple) = object.cast::<PyTuple>() {
        for (index, item) in tuple.iter_borrowed().enumerate() {
            items.push(one(&item).map_err(|wrong| at(wrong, index))?);
        }
    } else {
        let array = convert::value_of(object);
        let Ok(Value::Tensor(tensor)) = array else { return Err(wrong_type(object)) };
        if tensor.shape().len() != 1 {
            return Err(Wrong::Said(format!("an array of shape {:?} is no list", tensor.shape())));
        }
        let Some(all) = numbers(&tensor) else {
            return Err(Wrong::Said(format!("an array of {} is no such list", tensor.dtype())));
        };
        items.extend(all);
    }
    Ok(items)
}

/// The elements of an array of whole numbers, if all are such as an `int` has.
fn ints(tensor: &Tensor) -> Option<Vec<i64>> {
    fn wide<T: nearcall::Element>(tensor: &Tensor) -> Option<Vec<i64>>
    where
        i64: TryFrom<T>,
    {
        tensor.to_vec::<T>().ok()?.into_iter().map(|item| i64::try_from(item).ok()).collect()
    }
    match tensor.dtype() {
        DType::I8 => wide::<i8>(tensor),
        DType::I16 => wide::<i16>(tensor),
        DType::I32 => wide::<i32>(tensor),
        DType::I64 => wide::<i64>(tensor),
        DType::U8 => wide::<u8>(tensor),
        DType::U16 => wide::<u16>(tensor),
        DType::U32 => wide::<u32>(tensor),
        DType::U64 => wide::<u64>(tensor),
        _ => None,
    }
}

/// The elements of an array of floats; of whole numbers those that every float can be.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    fn wide<T: nearcall::Element>(tensor: &Tensor) -> Option<Vec<f64>>
    where
        f64: From<T>,
    {
        Some(tensor.to_vec::<T>().ok()?.into_iter().map(f64::from).collect())
    }
    match tensor.dtype() {
        DType::F64 => tensor.to_vec::<f64>().ok(),
        DType::F32 => wide::<f32>(tensor),
        DType::I8 => wide::<i8>(tensor),
        DType::I16 => wide::<i16>(tensor),
        DType::I32 => wide::<i32>(tensor),
        DType::U8 => wide::<u8>(tensor),
        DType::U16 => wide::<u16>(tensor),
        DType::U32 => wide::<u32>(tensor),
        _ => None,
    }
}
