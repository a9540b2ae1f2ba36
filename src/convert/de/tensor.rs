//! Tensors, in whole or as numbers.

use serde::de::value::{BorrowedBytesDeserializer, BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::containers::in_whole;
use crate::convert::numbers::{Array, Level, Number, Part};
use crate::convert::{one_more, tensor};
use crate::error::ValueError;

/// A tensor, or a part of one, as its numbers.
pub(super) struct NumbersSource<'s, 'de> {
    level: Level<'s, 'de>,
    /// As a [`Source`]'s.
    wrappers: usize,
}

impl<'s, 'de> NumbersSource<'s, 'de> {
    pub(super) fn new(level: Level<'s, 'de>) -> Self {
        Self { level, wrappers: 0 }
    }

    fn wrapped(self) -> Result<Self, ValueError> {
        Ok(Self { wrappers: one_more(self.wrappers)?, ..self })
    }
}

impl<'de> Deserializer<'de> for NumbersSource<'_, 'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.level.part() {
            Part::Rows(rows) => in_whole(rows.map(NumbersSource::new), visitor),
            Part::Number(Number::Bool(value)) => visitor.visit_bool(value),
            Part::Number(Number::Int(value)) => visitor.visit_i64(value),
            Part::Number(Number::Unsigned(value)) => visitor.visit_u64(value),
            Part::Number(Number::Single(value)) => visitor.visit_f32(value),
            Part::Number(Number::Float(value)) => visitor.visit_f64(value),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self.wrapped()?)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self.wrapped()?)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A tensor in whole: to nobody else do we say that we are not read by people.
pub(super) struct PartsSource<'de>(Array<'de>);

impl<'de> PartsSource<'de> {
    pub(super) fn new(array: Array<'de>) -> Self {
        Self(array)
    }
}

impl<'de> Deserializer<'de> for PartsSource<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_seq(Parts { array: self.0, next: 0 })
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Type, shape, bytes.
struct Parts<'de> {
    array: Array<'de>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        self.next += 1;
        let Array { dtype, shape, bytes } = &self.array;
        match self.next {
            1 => seed.deserialize(BorrowedStrDeserializer::new(dtype.name())),
            2 => seed.deserialize(SeqDeserializer::new(shape.iter().copied())),
            tensor::PARTS => seed.deserialize(BorrowedBytesDeserializer::new(bytes)),
            _ => return Ok(None),
        }
        .map(Some)
    }
}
