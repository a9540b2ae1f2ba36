//! Arrays of numbers: a task's as the model's own, and the model's into its answer.

use nearcall::peer::{AnswerBuf, DType, InPlace, MAX_RANK, Placed, Tensor, TensorRef, Value};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyMemoryView};

use crate::arguments::Unreadable;
use crate::buffer::{self, Buffer, Held};
use crate::exception;
use crate::in_place::{Exporter, Tensors};
use crate::numpy::Numpy;
use crate::value::{self, Made};

/// A task's tensor: a numpy array, or else a `memoryview`. Read-only, and over a copy of its own.
pub(crate) fn object<'py>(py: Python<'py>, tensor: &TensorRef<'_>) -> Made<'py> {
    // A `bytes` has its characters at a multiple of 16, which aligns any element.
    let bytes = value::bytes(py, tensor.bytes())?;
    array(tensor.dtype(), tensor.shape().into_iter().map(|extent| extent as u64), bytes)
}

/// As [`object`], but the caller's own to write into: an answer's, in a host.
pub(crate) fn writable<'py>(py: Python<'py>, tensor: &TensorRef<'_>) -> Made<'py> {
    // What CPython's allocator gives for as many bytes is aligned for any element, too.
    let bytes = PyByteArray::new(py, tensor.bytes()).into_any();
    array(tensor.dtype(), tensor.shape().into_iter().map(|extent| extent as u64), bytes)
}

/// A copy of an object that shows its memory, as a host gives it to a task.
pub(crate) fn value(object: &Bound<'_, PyAny>) -> Result<Value, Unfit> {
    if !buffer::has_memory(object) {
        return Err(Unfit::Type);
    }
    if let Ok(bytes) = object.cast::<PyByteArray>() {
        return Ok(Value::Bytes(bytes.to_vec()));
    }
    let numpy = Numpy::loaded(object.py());
    let buffer = Buffer::of(object).map_err(Unfit::Raised)?;
    match numpy {
        Some(numpy) if numpy.is_scalar(object) => {
            return match number(&buffer)? {
                Number::Bool(value) => Ok(Value::Bool(value)),
                Number::Int(value) => Ok(Value::Int(value)),
                Number::Float(value) => Ok(Value::Float(value)),
            };
        }
        Some(numpy) if numpy.is_masked(object) => return Err(Unfit::Masked),
        _ => {}
    }
    let len = buffer.len().ok_or(Unfit::Huge)?;
    let format = || Unfit::Elements(buffer.format().to_string_lossy().into_owned());
    let dtype = buffer.dtype().ok_or_else(format)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Unfit::Huge)?;
    buffer.elements(|elements| bytes.extend_from_slice(elements));
    match Tensor::from_bytes(dtype, buffer.shape(), bytes) {
        Ok(tensor) => Ok(Value::Tensor(tensor)),
        Err(_) => Err(Unfit::Rank(buffer.rank())),
    }
}

/// A tensor in place: as [`object`], over its memory itself, which `exporter` shows. An output is
/// writable.
#[cold]
pub(crate) fn in_place<'py>(tensor: &Placed<'_>, exporter: Bound<'py, Exporter>) -> Made<'py> {
    array(tensor.dtype(), tensor.shape(), exporter.into_any())
}

/// The array of this type and shape over the bytes that `memory` shows.
fn array<'py>(
    dtype: DType,
    mut shape: impl ExactSizeIterator<Item = u64>,
    memory: Bound<'py, PyAny>,
) -> Made<'py> {
    let py = memory.py();
    let shape = value::tuple(py, shape.len(), || {
        let extent = shape.next().ok_or(Unreadable::Malformed)?;
        // No extent is beyond `i64::MAX`; the reader has checked it.
        value::int(py, extent.cast_signed())
    })?;
    let array = Numpy::import(py).and_then(|numpy| match numpy {
        Some(numpy) => numpy.array(dtype, shape, memory),
        None => view(dtype, shape, memory),
    });
    array.map_err(|error| {
        error.restore(py);
        Unreadable::Raised
    })
}

/// The `memoryview` of this shape over the elements in `memory`; flat if there are none, and of the
/// bytes if this Python's views have no such elements.
fn view<'py>(
    dtype: DType,
    shape: Bound<'py, PyAny>,
    memory: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = memory.py();
    let view = PyMemoryView::from(&memory)?.into_any();
    let Some(format) = format_of(dtype) else { return Ok(view) };
    let cast = match view.len()? {
        0 => view.call_method1("cast", (format,)),
        _ => view.call_method1("cast", (format, shape)),
    };
    // Attached as PyO3 counts it: an exception is dropped here.
    Python::attach(|_| match cast {
        Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(view),
        cast => cast,
    })
}

/// A `memoryview`'s name of a type; `float16` has one from Python 3.12 on.
fn format_of(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "?",
        DType::I8 => "b",
        DType::I16 => "h",
        DType::I32 => "i",
        DType::I64 => "q",
        DType::U8 => "B",
        DType::U16 => "H",
        DType::U32 => "I",
        DType::U64 => "Q",
        DType::F16 => "e",
        DType::F32 => "f",
        DType::F64 => "d",
        _ => return None,
    })
}

/// Why an object is no array that an answer can carry.
pub(crate) enum Unfit {
    /// It shows no memory, or is a scalar of numpy's that Python has no like of.
    Type,
    /// A scalar of numpy's that is too large for an `int`.
    Wide,
    /// Its memory could not be had.
    Raised(PyErr),
    /// A numpy array with a mask.
    Masked,
    /// Elements of a type that tensors do not have: its format.
    Elements(String),
    /// So many dimensions.
    Rank(usize),
    /// A shape that no memory holds.
    Huge,
}

/// What the arrays of an answer may be spared copies by.
pub(crate) struct Arrays<'a, 'p> {
    pub(crate) in_place: &'a mut InPlace<'p>,
    /// The task's.
    pub(crate) tensors: &'a Tensors,
    /// What was lent to the answer, which stays until that is with the host.
    pub(crate) lent: &'a mut Vec<Held>,
}

/// Writes an object that shows its memory; see the crate's documentation for which.
pub(crate) fn write(
    object: &Bound<'_, PyAny>,
    arrays: &mut Arrays<'_, '_>,
    answer: &mut AnswerBuf,
) -> Result<(), Unfit> {
    if !buffer::has_memory(object) {
        return Err(Unfit::Type);
    }
    if let Ok(bytes) = object.cast::<PyByteArray>() {
        // SAFETY: the GIL is held, and nothing runs that could change it, until it is copied.
        answer.bytes(unsafe { bytes.as_bytes() });
        return Ok(());
    }
    let numpy = Numpy::loaded(object.py());
    let buffer = Buffer::of(object).map_err(Unfit::Raised)?;
    match numpy {
        Some(numpy) if numpy.is_scalar(object) => {
            match number(&buffer)? {
                Number::Bool(value) => answer.bool(value),
                Number::Int(value) => answer.int(value),
                Number::Float(value) => answer.float(value),
            }
            return Ok(());
        }
        Some(numpy) if numpy.is_masked(object) => return Err(Unfit::Masked),
        _ => {}
    }
    if buffer.rank() > MAX_RANK {
        return Err(Unfit::Rank(buffer.rank()));
    }
    let len = buffer.len().ok_or(Unfit::Huge)?;
    let format = || Unfit::Elements(buffer.format().to_string_lossy().into_owned());
    let dtype = buffer.dtype().ok_or_else(format)?;
    if let Some(whole) = buffer.whole() {
        if let Some(offset) = arrays.in_place.output_at(whole.cast().as_ptr(), len) {
            answer.placed(dtype, buffer.shape(), offset);
            return Ok(());
        }
        // One that is the task's own goes with the task, before the answer is handed over.
        if answer.lends(len) && !arrays.tensors.contain(whole.cast()) {
            answer.tensor(dtype, buffer.shape());
            // SAFETY: the buffer's memory, which is held until the handler tidies up.
            unsafe { answer.lend(whole) };
            arrays.lent.push(buffer.hold());
            return Ok(());
        }
    }
    answer.tensor(dtype, buffer.shape());
    if answer.reserve(len) {
        buffer.elements(|bytes| answer.elements(bytes));
    }
    Ok(())
}

/// What Python has instead of numpy's scalars.
enum Number {
    Bool(bool),
    Int(i64),
    Float(f64),
}

/// One of numpy's scalars.
fn number(buffer: &Buffer<'_>) -> Result<Number, Unfit> {
    // `datetime64` shows its bytes, in one dimension.
    let dtype = buffer.dtype().filter(|_| buffer.rank() == 0).ok_or(Unfit::Type)?;
    let mut element = [0; 8];
    buffer.elements(|bytes| element[..bytes.len()].copy_from_slice(bytes));
    let bits = u64::from_le_bytes(element);
    Ok(match dtype {
        DType::Bool => Number::Bool(bits != 0),
        DType::I8 => Number::Int((bits as i8).into()),
        DType::I16 => Number::Int((bits as i16).into()),
        DType::I32 => Number::Int((bits as i32).into()),
        DType::I64 => Number::Int(bits.cast_signed()),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => {
            Number::Int(i64::try_from(bits).map_err(|_| Unfit::Wide)?)
        }
        DType::F16 => Number::Float(float_of_half(bits as u16)),
        DType::F32 => Number::Float(f32::from_bits(bits as u32).into()),
        DType::F64 => Number::Float(f64::from_bits(bits)),
        _ => return Err(Unfit::Type),
    })
}

/// The value of a `float16`, which Rust does not have.
fn float_of_half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), bits & 0x3FF);
    let size = match exponent {
        // Without the leading 1.
        0 => f64::from(fraction) * 2_f64.powi(-24),
        // Infinity, or NaN with its bits.
        31 => f64::from_bits(0x7FF << 52 | u64::from(fraction) << 42),
        _ => f64::from(fraction | 0x400) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

impl Unfit {
    /// What is wrong with the object.
    ///
    /// # Errors
    /// What it raised, if that was no answer to the question for its memory.
    #[cold]
    pub(crate) fn reason(self, py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<String> {
        Ok(match self {
            Self::Type => {
                "an answer carries None, bool, int, float, str, bytes, arrays of numbers \
                           (numpy's, and all that have the buffer protocol), and lists, tuples and \
                           str-keyed dicts of these"
                    .to_owned()
            }
            Self::Wide => "it takes more than 64 bits".to_owned(),
            Self::Raised(error) => {
                let told = error.is_instance_of::<PyBufferError>(py)
                    || error.is_instance_of::<PyValueError>(py)
                    || error.is_instance_of::<PyTypeError>(py);
                if !told {
                    return Err(error);
                }
                format!("its memory cannot be read: {}", exception::describe(py, &error).message)
            }
            Self::Masked => {
                "an answer has no masks: return its filled(), or data and mask apart".to_owned()
            }
            Self::Elements(format) => {
                let found = match dtype_name(py, object) {
                    Some(name) => format!("its dtype is {name}"),
                    None => format!("the format of its elements is '{format}'"),
                };
                format!(
                    "{found}, an array's elements are bool, int8 to int64, uint8 to uint64 or \
                     float16 to float64, in this machine's byte order"
                )
            }
            Self::Rank(rank) => {
                format!("it has {rank} dimensions, an array has {MAX_RANK} at most")
            }
            Self::Huge => "no memory holds an array of its shape".to_owned(),
        })
    }
}

/// numpy's name for the type of an array's elements.
fn dtype_name(py: Python<'_>, object: &Bound<'_, PyAny>) -> Option<String> {
    if !Numpy::loaded(py)?.is_array(object) {
        return None;
    }
    Some(exception::text(&object.getattr("dtype").ok()?.str().ok()?))
}
