//! The names, order and types of a model's keyword arguments.

use std::fmt;
use std::ops::{RangeFull, RangeInclusive};

use bincode::{Decode, Encode};

use super::codec::{bytes_len, signed_len, unsigned_len};
use super::placed::Placement;
use super::task::{Arg, Task};
use super::value::{MAX_DEPTH, Value};
use crate::error::{SignatureError, TaskMismatch};

/// The most parameters a signature can have.
const MAX_PARAMETERS: usize = 1024;

/// A single value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Scalar {
    /// Python's `bool`.
    Bool,
    /// Python's `int`, 64 bits, signed.
    Int,
    /// Python's `float`, every bit of it (NaN payloads and -0.0 included).
    Float,
    /// Python's `str`, any UTF-8 text, embedded NUL included.
    Str,
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Str => "str",
        })
    }
}

/// How many items a list may have, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Len {
    min: u32,
    max: u32,
}

impl Len {
    /// Any number of items, none included.
    pub const ANY: Self = Self { min: 0, max: u32::MAX };

    fn admits(self, len: usize) -> bool {
        u32::try_from(len).is_ok_and(|len| (self.min..=self.max).contains(&len))
    }
}

impl From<u32> for Len {
    fn from(exactly: u32) -> Self {
        Self { min: exactly, max: exactly }
    }
}

impl From<RangeFull> for Len {
    fn from(_: RangeFull) -> Self {
        Self::ANY
    }
}

impl From<RangeInclusive<u32>> for Len {
    fn from(range: RangeInclusive<u32>) -> Self {
        Self { min: *range.start(), max: *range.end() }
    }
}

impl fmt::Display for Len {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ANY => f.write_str("any number of"),
            Self { min, max } if min == max => write!(f, "exactly {min}"),
            Self { min, max: u32::MAX } => write!(f, "at least {min}"),
            Self { min, max } => write!(f, "{min} to {max}"),
        }
    }
}

/// A parameter's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kind {
    /// One value.
    One(Scalar),
    /// A list of values of one type.
    List(Scalar, Len),
    /// Any [`Value`](crate::Value).
    Any,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(scalar) => write!(f, "{scalar}"),
            Self::List(scalar, _) => write!(f, "list of {scalar}"),
            Self::Any => f.write_str("value"),
        }
    }
}

/// One keyword argument.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Parameter {
    /// The keyword.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// The keyword arguments of a model, in the order in which a [`Task`] gives them.
///
/// ```
/// use nearcall::Signature;
///
/// let signature = Signature::new()
///     .floats("float_features", 3) // exactly three
///     .strs("str_features", ..)    // any number
///     .int("int_feature");
/// assert_eq!(signature.parameters().len(), 3);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Signature {
    parameters: Vec<Parameter>,
}

impl Signature {
    /// A signature without parameters: the model is called with no arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter of any kind.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, kind: Kind) -> Self {
        self.parameters.push(Parameter { name: name.into(), kind });
        self
    }

    /// Adds a `bool`.
    #[must_use]
    pub fn bool(self, name: impl Into<String>) -> Self {
        self.parameter(name, Kind::One(Scalar::Bool))
    }

    /// Adds an `int` of 64 bits.
    #[must_use]
    pub fn int(self, name: impl Into<String>) -> Self {
        self.parameter(name, Kind::One(Scalar::Int))
    }

    /// Adds a `float`.
    #[must_use]
    pub fn float(self, name: impl Into<String>) -> Self {
        self.parameter(name, Kind::One(Scalar::Float))
    }

    /// Adds a `str`.
    #[must_use]
    pub fn str(self, name: impl Into<String>) -> Self {
        self.parameter(name, Kind::One(Scalar::Str))
    }

    /// Adds a list of `bool`: `3` for exactly three, `1..=3` for one to three, `..` for any number.
    #[must_use]
    pub fn bools(self, name: impl Into<String>, len: impl Into<Len>) -> Self {
        self.parameter(name, Kind::List(Scalar::Bool, len.into()))
    }

    /// Adds a list of `int`; lengths as in [`Signature::bools`].
    #[must_use]
    pub fn ints(self, name: impl Into<String>, len: impl Into<Len>) -> Self {
        self.parameter(name, Kind::List(Scalar::Int, len.into()))
    }

    /// Adds a list of `float`; lengths as in [`Signature::bools`].
    #[must_use]
    pub fn floats(self, name: impl Into<String>, len: impl Into<Len>) -> Self {
        self.parameter(name, Kind::List(Scalar::Float, len.into()))
    }

    /// Adds a list of `str`; lengths as in [`Signature::bools`].
    #[must_use]
    pub fn strs(self, name: impl Into<String>, len: impl Into<Len>) -> Self {
        self.parameter(name, Kind::List(Scalar::Str, len.into()))
    }

    /// Adds one of any type: `None`, dicts, bytes, nested lists, tensors. What has a type of its own
    /// above is quicker with it.
    #[must_use]
    pub fn value(self, name: impl Into<String>) -> Self {
        self.parameter(name, Kind::Any)
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Checks the signature itself; the engine does it at start.
    ///
    /// # Errors
    /// A name that cannot be a keyword, a name given twice, a length range that nothing fits,
    /// or more than 1,024 parameters.
    pub fn validate(&self) -> Result<(), SignatureError> {
        if self.parameters.len() > MAX_PARAMETERS {
            return Err(SignatureError::TooMany {
                found: self.parameters.len(),
                limit: MAX_PARAMETERS,
            });
        }
        for (index, parameter) in self.parameters.iter().enumerate() {
            let name = &parameter.name;
            let mut chars = name.chars();
            let starts = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            if !starts || !chars.all(|c| c == '_' || c.is_alphanumeric()) {
                return Err(SignatureError::NotAnIdentifier { name: name.clone() });
            }
            if self.parameters[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(SignatureError::Twice { name: name.clone() });
            }
            if let Kind::List(_, len) = parameter.kind
                && len.min > len.max
            {
                return Err(SignatureError::EmptyRange {
                    name: name.clone(),
                    min: len.min,
                    max: len.max,
                });
            }
        }
        Ok(())
    }

    /// Holds a task against the signature. Says how many bytes its encoding has.
    ///
    /// # Errors
    /// The first argument that does not fit, by name.
    #[inline]
    pub(crate) fn check(
        &self,
        task: &Task<'_>,
        reserved: &[Placement],
    ) -> Result<usize, TaskMismatch> {
        let args = task.args();
        if args.len() != self.parameters.len() {
            return Err(self.wrong_count(args.len()));
        }
        let mut bytes = 0;
        for (parameter, arg) in self.parameters.iter().zip(args) {
            bytes += match (parameter.kind, arg) {
                (Kind::One(Scalar::Bool), Arg::Bool(_)) => 1,
                (Kind::One(Scalar::Int), Arg::Int(value)) => signed_len(*value),
                (Kind::One(Scalar::Float), Arg::Float(_)) => 8,
                (Kind::One(Scalar::Str), Arg::Str(value)) => bytes_len(value.len()),
                (Kind::List(Scalar::Bool, len), Arg::Bools(items)) => {
                    list_len(parameter, len, items.len())? + items.len()
                }
                (Kind::List(Scalar::Int, len), Arg::Ints(items)) => {
                    list_len(parameter, len, items.len())?
                        + items.iter().map(|item| signed_len(*item)).sum::<usize>()
                }
                (Kind::List(Scalar::Float, len), Arg::Floats(items)) => {
                    list_len(parameter, len, items.len())? + 8 * items.len()
                }
                (Kind::List(Scalar::Str, len), Arg::Strs(items)) => {
                    list_len(parameter, len, items.len())?
                        + items.iter().map(|item| bytes_len(item.len())).sum::<usize>()
                }
                (Kind::List(Scalar::Str, len), Arg::Strings(items)) => {
                    list_len(parameter, len, items.len())?
                        + items.iter().map(|item| bytes_len(item.len())).sum::<usize>()
                }
                (Kind::Any, Arg::Value(value)) => value_len(parameter, value)?,
                (Kind::Any, Arg::Reserved(index)) => reserved_len(parameter, *index, reserved)?,
                (expected, found) => return Err(wrong_type(parameter, expected, found)),
            };
        }
        Ok(bytes)
    }

    #[cold]
    fn wrong_count(&self, found: usize) -> TaskMismatch {
        TaskMismatch::Count {
            expected: self.parameters.len(),
            found,
            names: self.parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", "),
        }
    }
}

#[inline]
fn list_len(parameter: &Parameter, len: Len, found: usize) -> Result<usize, TaskMismatch> {
    if len.admits(found) {
        Ok(unsigned_len(found as u64))
    } else {
        Err(wrong_length(parameter, len, found))
    }
}

fn value_len(parameter: &Parameter, value: &Value) -> Result<usize, TaskMismatch> {
    if value.is_deeper_than(MAX_DEPTH) {
        return Err(TaskMismatch::Deep { name: parameter.name.clone(), limit: MAX_DEPTH });
    }
    Ok(value.encoded_len())
}

fn reserved_len(
    parameter: &Parameter,
    index: usize,
    reserved: &[Placement],
) -> Result<usize, TaskMismatch> {
    let Some(tensor) = reserved.get(index) else {
        let name = parameter.name.clone();
        return Err(TaskMismatch::NotReserved { name, index, reserved: reserved.len() });
    };
    Ok(1 + tensor.encoded_len())
}

#[cold]
fn wrong_length(parameter: &Parameter, expected: Len, found: usize) -> TaskMismatch {
    TaskMismatch::Length { name: parameter.name.clone(), expected, found }
}

#[cold]
fn wrong_type(parameter: &Parameter, expected: Kind, found: &Arg<'_>) -> TaskMismatch {
    TaskMismatch::Type { name: parameter.name.clone(), expected, found: found.kind() }
}
