//! A [`Value`] as a Rust value.

mod containers;
mod tensor;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{Deserialize, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use containers::{VariantSource, in_whole, pairs_in_whole};
use tensor::{NumbersSource, PartsSource};

use super::view::View;
use super::{mark, one_more};
use crate::error::{ValueError, ValueProblem};
use crate::wire::{MAX_DEPTH, Value, ValueRef};

/// Makes a Rust value of what a model returned: anything that serde can deserialise.
///
/// What [`to_value`](crate::to_value) makes of a type is taken back as that type; text and bytes can
/// be borrowed. Python's habits are met half-way:
///
/// - structs, tuples and arrays are taken from a `dict`, a `list` or a `tuple`, whichever serde has for
///   them;
/// - an `int` is taken where a float is asked for, rounded as Python's `float()` does;
/// - a tensor is taken where sequences of numbers are asked for, nested as deep as it has dimensions;
///   without elements it is an empty sequence;
/// - `bytes` is taken where a sequence of numbers is asked for, as for a `Vec<u8>`;
/// - enums are taken from `"Variant"` or `{"Variant": …}`, unless the type says otherwise.
///
/// ```
/// use nearcall::{Value, ValueRef, from_value};
///
/// let value = Value::Tuple(vec![Value::Int(1), "one".into()]);
/// let pair: (f64, Option<&str>) = value.to()?;
/// assert_eq!(pair, (1.0, Some("one")));
///
/// let error = from_value::<f64>(ValueRef::Str("much")).unwrap_err();
/// assert_eq!(error.to_string(), "value: expected f64, found str");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first place that does not fit, as in `value['scores'][2]: expected f64, found str`.
pub fn from_value<'de, T: Deserialize<'de>>(value: ValueRef<'de>) -> Result<T, ValueError> {
    read(value, "value")
}

/// [`from_value`], of something that errors call `root`.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    value: ValueRef<'de>,
    root: &str,
) -> Result<T, ValueError> {
    T::deserialize(Source::new(value.into())).map_err(|error| error.in_root(root))
}

impl Value {
    /// Makes a Rust value of it, as [`from_value`] does.
    ///
    /// # Errors
    /// As for [`from_value`]; also for more than [`MAX_DEPTH`] containers inside each other.
    pub fn to<'de, T: Deserialize<'de>>(&'de self) -> Result<T, ValueError> {
        // What lies in an answer was held against the limit when it came.
        if self.is_deeper_than(MAX_DEPTH) {
            return Err(ValueError::here(ValueProblem::Deep { limit: MAX_DEPTH }).in_root("value"));
        }
        T::deserialize(Source::new(self.into())).map_err(|error| error.in_root("value"))
    }
}

/// Where one value comes from.
#[derive(Debug)]
struct Source<'de> {
    view: View<'de>,
    /// Options and newtypes that were asked for around it.
    wrappers: usize,
}

impl<'de> Source<'de> {
    fn new(view: View<'de>) -> Self {
        Self { view, wrappers: 0 }
    }

    fn wrapped(self) -> Result<Self, ValueError> {
        Ok(Self { wrappers: one_more(self.wrappers)?, ..self })
    }

    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.view {
            View::None => visitor.visit_unit(),
            View::Bool(value) => visitor.visit_bool(value),
            View::Int(value) => visitor.visit_i64(value),
            View::Float(value) => visitor.visit_f64(value),
            View::Str(value) => visitor.visit_borrowed_str(value),
            View::Bytes(value) => visitor.visit_borrowed_bytes(value),
            View::List(items) | View::Tuple(items) => in_whole(items.map(Source::new), visitor),
            View::Dict(pairs) => pairs_in_whole(pairs, visitor),
            View::Tensor(array) => NumbersSource::new(array.level()).deserialize_any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for Source<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let name = self.view.type_name();
        self.visit(visitor).map_err(|error| error.found_at(name))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.view {
            View::None => visitor.visit_none(),
            _ => visitor.visit_some(self.wrapped()?),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match (name, self.view) {
            (mark::TENSOR, View::Tensor(array)) => {
                visitor.visit_newtype_struct(PartsSource::new(array))
            }
            (mark::VALUE, View::Tensor(array)) => {
                visitor.visit_enum(VariantSource::marked(mark::A_TENSOR, View::Tensor(array)))
            }
            (mark::VALUE, View::Tuple(items)) => {
                visitor.visit_enum(VariantSource::marked(mark::A_TUPLE, View::List(items)))
            }
            (_, view) => visitor.visit_newtype_struct(Source { view, ..self }.wrapped()?),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.view {
            View::Bytes(bytes) => {
                in_whole(bytes.iter().map(|byte| (*byte).into_deserializer()), visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let found = self.view.type_name();
        match self.view {
            View::Str(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            View::Dict(mut pairs) if pairs.len() == 1 => match pairs.next() {
                Some(pair) => visitor.visit_enum(VariantSource::of_pair(pair)),
                None => Err(ValueError::wrong_type(format!("enum {name}"), found)),
            },
            View::Dict(pairs) => {
                let expected = format!("a variant of enum {name} as the only key");
                Err(ValueError::here(ValueProblem::Length { expected, found: pairs.len() }))
            }
            _ => Err(ValueError::wrong_type(format!("enum {name}"), found)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple_struct map struct identifier
    }
}
