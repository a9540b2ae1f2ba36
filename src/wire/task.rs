//! A task as the host gives it: borrowed arguments, in the order of the signature.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use smallvec::SmallVec;

use super::codec::{EncodeTo, put, put_bytes, put_int, put_len};
use super::placed::Placement;
use super::signature::{Kind, Len, Scalar};
use super::value::{self, Value};

/// Arguments that fit without an allocation.
const INLINE_ARGS: usize = 8;

/// One argument, borrowed from the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Arg<'a> {
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(&'a str),
    /// A list of `bool`.
    Bools(&'a [bool]),
    /// A list of `int`.
    Ints(&'a [i64]),
    /// A list of `float`.
    Floats(&'a [f64]),
    /// A list of `str`, given as slices.
    Strs(&'a [&'a str]),
    /// A list of `str`, given as strings.
    Strings(&'a [String]),
    /// Any value.
    Value(&'a Value),
    /// The reserved tensor of this number ([`crate::Reserved::submit`]).
    Reserved(usize),
}

impl Arg<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) => Kind::One(Scalar::Bool),
            Self::Int(_) => Kind::One(Scalar::Int),
            Self::Float(_) => Kind::One(Scalar::Float),
            Self::Str(_) => Kind::One(Scalar::Str),
            Self::Bools(_) => Kind::List(Scalar::Bool, Len::ANY),
            Self::Ints(_) => Kind::List(Scalar::Int, Len::ANY),
            Self::Floats(_) => Kind::List(Scalar::Float, Len::ANY),
            Self::Strs(_) | Self::Strings(_) => Kind::List(Scalar::Str, Len::ANY),
            Self::Value(_) | Self::Reserved(_) => Kind::Any,
        }
    }
}

/// The arguments of one call, in the order of the engine's [`Signature`](crate::Signature).
///
/// A task borrows its lists and strings; up to 8 arguments it allocates nothing.
///
/// ```
/// let task = nearcall::Task::new()
///     .floats(&[1.1, 11.2, 0.3])
///     .strs(&["abc", "cdavfdv"])
///     .int(27);
/// assert_eq!(task.args().len(), 3);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Task<'a> {
    args: SmallVec<[Arg<'a>; INLINE_ARGS]>,
}

impl<'a> Task<'a> {
    /// A task without arguments.
    #[inline]
    pub fn new() -> Self {
        Self { args: SmallVec::new() }
    }

    /// Adds the next argument.
    #[inline]
    #[must_use]
    pub fn arg(mut self, arg: Arg<'a>) -> Self {
        self.args.push(arg);
        self
    }

    /// Adds a `bool`.
    #[inline]
    #[must_use]
    pub fn bool(self, value: bool) -> Self {
        self.arg(Arg::Bool(value))
    }

    /// Adds an `int`.
    #[inline]
    #[must_use]
    pub fn int(self, value: i64) -> Self {
        self.arg(Arg::Int(value))
    }

    /// Adds a `float`.
    #[inline]
    #[must_use]
    pub fn float(self, value: f64) -> Self {
        self.arg(Arg::Float(value))
    }

    /// Adds a `str`.
    #[inline]
    #[must_use]
    pub fn str(self, value: &'a str) -> Self {
        self.arg(Arg::Str(value))
    }

    /// Adds a list of `bool`.
    #[inline]
    #[must_use]
    pub fn bools(self, items: &'a [bool]) -> Self {
        self.arg(Arg::Bools(items))
    }

    /// Adds a list of `int`.
    #[inline]
    #[must_use]
    pub fn ints(self, items: &'a [i64]) -> Self {
        self.arg(Arg::Ints(items))
    }

    /// Adds a list of `float`.
    #[inline]
    #[must_use]
    pub fn floats(self, items: &'a [f64]) -> Self {
        self.arg(Arg::Floats(items))
    }

    /// Adds a list of `str`.
    #[inline]
    #[must_use]
    pub fn strs(self, items: &'a [&'a str]) -> Self {
        self.arg(Arg::Strs(items))
    }

    /// Adds a list of `str` from owned strings.
    #[inline]
    #[must_use]
    pub fn strings(self, items: &'a [String]) -> Self {
        self.arg(Arg::Strings(items))
    }

    /// Adds a value of any type, for a parameter that was declared as one
    /// ([`Signature::value`](crate::Signature::value)).
    #[inline]
    #[must_use]
    pub fn value(self, value: &'a Value) -> Self {
        self.arg(Arg::Value(value))
    }

    /// Adds the tensor at `index` of those that were reserved ([`crate::Engine::reserve`]), for a
    /// parameter that was declared with [`Signature::value`](crate::Signature::value).
    #[inline]
    #[must_use]
    pub fn reserved(self, index: usize) -> Self {
        self.arg(Arg::Reserved(index))
    }

    /// Adds the next argument to a task that stays where it is.
    #[inline]
    pub fn push(&mut self, arg: Arg<'a>) {
        self.args.push(arg);
    }

    /// Takes all arguments away. The memory stays, for the next ones.
    #[inline]
    pub fn clear(&mut self) {
        self.args.clear();
    }

    /// The arguments so far.
    #[inline]
    pub fn args(&self) -> &[Arg<'a>] {
        &self.args
    }
}

/// Appends a list of strings.
#[inline]
fn put_all<W: Writer, T>(
    writer: &mut W,
    items: &[T],
    bytes: impl Fn(&T) -> &[u8],
) -> Result<(), EncodeError> {
    put_len(writer, items.len())?;
    items.iter().try_for_each(|item| put_bytes(writer, bytes(item)))
}

/// A task with the places of the tensors that were reserved for it.
pub(crate) struct PlacedTask<'r, 'a> {
    pub(crate) task: &'r Task<'a>,
    pub(crate) tensors: &'r [Placement],
}

impl EncodeTo for PlacedTask<'_, '_> {
    #[inline]
    fn encode_to<W: Writer>(&self, writer: &mut W) -> Result<(), EncodeError> {
        for arg in &self.task.args {
            match *arg {
                Arg::Bool(value) => put(writer, value)?,
                Arg::Int(value) => put_int(writer, value)?,
                Arg::Float(value) => put(writer, value)?,
                Arg::Str(value) => put_bytes(writer, value.as_bytes())?,
                Arg::Bools(items) => put(writer, items)?,
                Arg::Ints(items) => put(writer, items)?,
                Arg::Floats(items) => {
                    put_len(writer, items.len())?;
                    items.iter().try_for_each(|item| writer.write(&item.to_le_bytes()))?;
                }
                Arg::Strs(items) => put_all(writer, items, |item| item.as_bytes())?,
                Arg::Strings(items) => put_all(writer, items, |item| item.as_bytes())?,
                Arg::Value(value) => value.encode_to(writer)?,
                Arg::Reserved(index) => {
                    let Some(tensor) = self.tensors.get(index) else {
                        return Err(EncodeError::Other("no such tensor is reserved"));
                    };
                    value::write_placed_tag(writer)?;
                    tensor.write(writer)?;
                }
            }
        }
        Ok(())
    }
}

impl EncodeTo for Task<'_> {
    #[inline]
    fn encode_to<W: Writer>(&self, writer: &mut W) -> Result<(), EncodeError> {
        PlacedTask { task: self, tensors: &[] }.encode_to(writer)
    }
}
