//! A task's bytes on the worker's side.

use super::codec::{Malformed, Reader};
use super::placed::{Argument, Placed};
use super::signature::{Kind, Scalar, Signature};
use super::tensor::Tensor;
use super::value::{self, Value, ValueRef};
use crate::error::MalformedTask;

/// Takes a task's arguments off the front of its bytes, in the order of the signature.
///
/// The bytes must be private to this process (the serve loop copies them out of the slot once).
#[derive(Debug)]
pub struct TaskReader<'a>(Reader<'a>);

impl<'a> TaskReader<'a> {
    /// Starts at the first argument.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// The next `bool`.
    ///
    /// # Errors
    /// When the bytes are not a `bool`; so for the other methods.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, MalformedTask> {
        self.0.take().map_err(MalformedTask::from)
    }

    /// The next `int`.
    ///
    /// # Errors
    /// See [`TaskReader::bool`].
    #[inline]
    pub fn int(&mut self) -> Result<i64, MalformedTask> {
        self.0.take_int().map_err(MalformedTask::from)
    }

    /// The next `float`.
    ///
    /// # Errors
    /// See [`TaskReader::bool`].
    #[inline]
    pub fn float(&mut self) -> Result<f64, MalformedTask> {
        self.0.take_float().map_err(MalformedTask::from)
    }

    /// The next `str`.
    ///
    /// # Errors
    /// See [`TaskReader::bool`].
    #[inline]
    pub fn str(&mut self) -> Result<&'a str, MalformedTask> {
        self.0.take_str().map_err(MalformedTask::from)
    }

    /// The next `str`, as bytes that nobody has held against UTF-8 yet.
    ///
    /// # Errors
    /// When fewer bytes are there than it says.
    #[inline]
    pub fn str_bytes(&mut self) -> Result<&'a [u8], MalformedTask> {
        self.0.take_bytes().map_err(MalformedTask::from)
    }

    /// The length of the next list; its items follow.
    ///
    /// # Errors
    /// See [`TaskReader::bool`]; also a length that the remaining bytes cannot hold.
    #[inline]
    pub fn list(&mut self) -> Result<usize, MalformedTask> {
        self.0.take_len().map_err(MalformedTask::from)
    }

    /// The next argument of a parameter that takes any value.
    ///
    /// # Errors
    /// See [`TaskReader::bool`].
    pub fn argument(&mut self) -> Result<Argument<'a>, MalformedTask> {
        let start = self.0;
        if matches!(value::start(&mut self.0)?, value::Start::Placed) {
            return Ok(Argument::Placed(Placed::read(&mut self.0)?));
        }
        self.0 = start;
        self.value().map(Argument::Value)
    }

    /// The next value of any type, checked in whole; a tensor in place is none.
    ///
    /// # Errors
    /// See [`TaskReader::bool`].
    pub fn value(&mut self) -> Result<ValueRef<'a>, MalformedTask> {
        ValueRef::read(&mut self.0, 0).map_err(MalformedTask::from)
    }

    /// Whether all bytes were taken.
    ///
    /// # Errors
    /// When some are left over.
    #[inline]
    pub fn finish(self) -> Result<(), MalformedTask> {
        self.0.finish().map_err(MalformedTask::from)
    }
}

impl From<Malformed> for MalformedTask {
    fn from(_: Malformed) -> Self {
        Self
    }
}

/// The decoded arguments that a Rust handler gets (the test double, [`crate::Builder::start_with`]).
#[derive(Debug)]
pub struct Args<'a> {
    signature: &'a Signature,
    values: Vec<Value>,
}

impl<'a> Args<'a> {
    /// Decodes a whole task. `placed` copies a tensor in place.
    pub(crate) fn decode(
        signature: &'a Signature,
        bytes: &[u8],
        mut placed: impl FnMut(&Placed<'_>) -> Option<Tensor>,
    ) -> Result<Self, MalformedTask> {
        let mut reader = TaskReader::new(bytes);
        let mut values = Vec::with_capacity(signature.parameters().len());
        for parameter in signature.parameters() {
            values.push(match parameter.kind {
                Kind::One(scalar) => one(&mut reader, scalar)?,
                Kind::List(scalar, _) => {
                    let len = reader.list()?;
                    let items: Result<_, _> = (0..len).map(|_| one(&mut reader, scalar)).collect();
                    Value::List(items?)
                }
                Kind::Any => match reader.argument()? {
                    Argument::Value(value) => value.to_owned(),
                    Argument::Placed(tensor) => {
                        Value::Tensor(placed(&tensor).ok_or(MalformedTask)?)
                    }
                },
            });
        }
        reader.finish()?;
        Ok(Self { signature, values })
    }

    /// The argument with this keyword.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let index = self.signature.parameters().iter().position(|p| p.name == name)?;
        self.values.get(index)
    }

    /// All arguments, in the order of the signature.
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

fn one(reader: &mut TaskReader<'_>, scalar: Scalar) -> Result<Value, MalformedTask> {
    Ok(match scalar {
        Scalar::Bool => Value::Bool(reader.bool()?),
        Scalar::Int => Value::Int(reader.int()?),
        Scalar::Float => Value::Float(reader.float()?),
        Scalar::Str => Value::Str(reader.str()?.to_owned()),
    })
}
