//! An answer: the model's return value, in memory of the host's own.

use serde::Deserialize;

use crate::convert;
use crate::error::{AnswerError, ValueError, ValueProblem};
use crate::shm::Payload;
use crate::wire::{Outcome, ValueRef};

/// What a model returned.
///
/// The bytes were copied out of the slot once and checked; small answers are kept without an
/// allocation. Text and bytes are borrowed from the answer.
///
/// Positions count the items of the returned tuple. Anything else than a tuple is position 0 of
/// itself, so that a model that returns `7` and one that returns `(7, "")` are read alike.
///
/// ```
/// # use nearcall::{Args, Engine, Signature, Task, Value};
/// # use std::time::Duration;
/// # let engine = Engine::builder("m:f").signature(Signature::new().int("x")).start_with(
/// #     |_: &Args<'_>| Ok(Value::Tuple(vec![Value::Int(42), Value::Str("done".into())])))?;
/// let answer = engine.call(&Task::new().int(1), Duration::from_secs(10))?;
/// assert_eq!(answer.int(0)?, 42);
/// assert_eq!(answer.str(1)?, "done");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// An encoded outcome that [`Outcome::decode`] has accepted as a value, or empty (`None`).
    payload: Payload,
}

impl Answer {
    /// An answer to be filled by [`Engine::wait_into`](crate::Engine::wait_into) or
    /// [`Engine::retrieve_into`](crate::Engine::retrieve_into); until then it holds `None`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where an outcome's bytes go before they are checked. The caller checks them.
    pub(crate) fn payload(&mut self) -> &mut Payload {
        &mut self.payload
    }

    /// The whole value.
    pub fn value(&self) -> ValueRef<'_> {
        Outcome::value_in(&self.payload)
    }

    /// The value at `index` of the returned tuple; the whole value at 0 if it is no tuple.
    pub fn get(&self, index: usize) -> Option<ValueRef<'_>> {
        match self.value() {
            ValueRef::Tuple(items) => items.get(index),
            whole => (index == 0).then_some(whole),
        }
    }

    /// The whole value as a Rust type: a struct, a tuple, anything that serde can deserialise, as
    /// [`from_value`](crate::from_value) says. It can borrow text and bytes from the answer.
    ///
    /// # Errors
    /// The first place that does not fit, as in `answer['scores'][2]: expected f64, found str`.
    pub fn to<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ValueError> {
        convert::read(self.value(), "answer")
    }

    /// The value at `index` as a Rust type; positions are those of [`get`](Self::get).
    ///
    /// # Errors
    /// As for [`to`](Self::to); also when nothing is there.
    pub fn get_as<'a, T: Deserialize<'a>>(&'a self, index: usize) -> Result<T, ValueError> {
        let (whole, found) = (self.value(), self.get(index));
        let root = match (whole, found) {
            (ValueRef::Tuple(_), _) | (_, None) => format!("answer[{index}]"),
            _ => "answer".to_owned(),
        };
        match found {
            Some(value) => convert::read(value, &root),
            None => Err(ValueError { place: root, problem: ValueProblem::Absent }),
        }
    }

    fn pick<'a, T>(
        &'a self,
        index: usize,
        expected: &'static str,
        pick: impl FnOnce(ValueRef<'a>) -> Option<T>,
    ) -> Result<T, AnswerError> {
        let found = self.get(index);
        found.and_then(pick).ok_or(AnswerError {
            index,
            expected,
            found: found.map_or("nothing", |found| found.type_name()),
        })
    }

    /// The `bool` at `index`.
    ///
    /// # Errors
    /// When something else, or nothing, is there; so for the methods below.
    pub fn bool(&self, index: usize) -> Result<bool, AnswerError> {
        self.pick(index, "bool", |value| match value {
            ValueRef::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// The `int` at `index`.
    ///
    /// # Errors
    /// See [`Answer::bool`].
    pub fn int(&self, index: usize) -> Result<i64, AnswerError> {
        self.pick(index, "int", |value| match value {
            ValueRef::Int(value) => Some(value),
            _ => None,
        })
    }

    /// The `float` at `index`.
    ///
    /// # Errors
    /// See [`Answer::bool`].
    pub fn float(&self, index: usize) -> Result<f64, AnswerError> {
        self.pick(index, "float", |value| match value {
            ValueRef::Float(value) => Some(value),
            _ => None,
        })
    }

    /// The `str` at `index`.
    ///
    /// # Errors
    /// See [`Answer::bool`].
    pub fn str(&self, index: usize) -> Result<&str, AnswerError> {
        self.pick(index, "str", |value| match value {
            ValueRef::Str(value) => Some(value),
            _ => None,
        })
    }

    /// The `bytes` at `index`.
    ///
    /// # Errors
    /// See [`Answer::bool`].
    pub fn bytes(&self, index: usize) -> Result<&[u8], AnswerError> {
        self.pick(index, "bytes", |value| match value {
            ValueRef::Bytes(value) => Some(value),
            _ => None,
        })
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}
