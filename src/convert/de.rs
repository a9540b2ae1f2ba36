//! A [`Value`] as a Rust value.

use serde::de::value::{BorrowedBytesDeserializer, BorrowedStrDeserializer, SeqDeserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::numbers::{Array, Level, Number, Part};
use super::view::{Pairs, View};
use super::{mark, one_more, tensor, value::variant};
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
/// let pair: (f64, Option<&str>) = Value::Tuple(vec![Value::Int(1), Value::None]).to()?;
/// assert_eq!(pair, (1.0, None));
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
            View::Dict(pairs) => {
                let len = pairs.len();
                let mut pairs = PairsSource { pairs, at: None };
                let value = visitor.visit_map(&mut pairs)?;
                all_taken(len, pairs.pairs.len())?;
                Ok(value)
            }
            View::Tensor(array) => NumbersSource::new(array.level()).deserialize_any(visitor),
        }
    }
}

/// Gives all items to a visitor, which has to take them all.
fn in_whole<'de, I, V>(items: I, visitor: V) -> Result<V::Value, ValueError>
where
    I: ExactSizeIterator,
    I::Item: Deserializer<'de, Error = ValueError>,
    V: Visitor<'de>,
{
    let len = items.len();
    let mut items = ItemsSource { items, index: 0 };
    let value = visitor.visit_seq(&mut items)?;
    all_taken(len, items.items.len())?;
    Ok(value)
}

fn all_taken(len: usize, left: usize) -> Result<(), ValueError> {
    if left == 0 {
        return Ok(());
    }
    let expected = format!("a length of {}", len - left);
    Err(ValueError::here(ValueProblem::Length { expected, found: len }))
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
            (mark::TENSOR, View::Tensor(array)) => visitor.visit_newtype_struct(PartsSource(array)),
            (mark::VALUE, View::Tensor(array)) => {
                visitor.visit_enum(VariantSource::new(variant::TENSOR, View::Tensor(array)))
            }
            (mark::VALUE, View::Tuple(items)) => {
                visitor.visit_enum(VariantSource::new(variant::TUPLE, View::List(items)))
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
                Some((variant, content)) => {
                    visitor.visit_enum(VariantSource { variant, content, is_key: true })
                }
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

/// The items of a sequence.
struct ItemsSource<I> {
    items: I,
    index: usize,
}

impl<'de, I> SeqAccess<'de> for ItemsSource<I>
where
    I: ExactSizeIterator,
    I::Item: Deserializer<'de, Error = ValueError>,
{
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.in_item(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The pairs of a dict.
struct PairsSource<'de> {
    pairs: Pairs<'de>,
    /// The pair whose key was taken.
    at: Option<(&'de str, View<'de>)>,
}

impl<'de> MapAccess<'de> for PairsSource<'de> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        let Some((key, value)) = self.pairs.next() else { return Ok(None) };
        self.at = Some((key, value));
        let key = Source::new(View::Str(key));
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        let Some((key, value)) = self.at.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Source::new(value)).map_err(|error| error.in_key(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.pairs.len())
    }
}

/// An enum's variant, and what it holds.
struct VariantSource<'de> {
    variant: &'de str,
    content: View<'de>,
    /// Whether the variant is a key of the value, and so a part of the place.
    is_key: bool,
}

impl<'de> VariantSource<'de> {
    fn new(variant: &'static str, content: View<'de>) -> Self {
        Self { variant, content, is_key: false }
    }

    fn give<T>(
        self,
        take: impl FnOnce(Source<'de>) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        let Self { variant, content, is_key } = self;
        take(Source::new(content))
            .map_err(|error| if is_key { error.in_key(variant) } else { error })
    }
}

impl<'de> EnumAccess<'de> for VariantSource<'de> {
    type Error = ValueError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), ValueError> {
        let variant = seed.deserialize(BorrowedStrDeserializer::new(self.variant))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for VariantSource<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        self.give(<()>::deserialize)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ValueError> {
        self.give(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.give(|content| content.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.give(|content| content.deserialize_struct("", fields, visitor))
    }
}

/// A tensor, or a part of one, as its numbers.
struct NumbersSource<'s, 'de> {
    level: Level<'s, 'de>,
    /// As a [`Source`]'s.
    wrappers: usize,
}

impl<'s, 'de> NumbersSource<'s, 'de> {
    fn new(level: Level<'s, 'de>) -> Self {
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
struct PartsSource<'de>(Array<'de>);

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
