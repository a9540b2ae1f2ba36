//! Tensors inside other types, and in other data formats.
//!
//! Under its mark a tensor has two forms. Whoever says that it is not read by people gets the type's
//! name, the shape and the bytes; so do this room's own serializer and deserializer, which say it for
//! a tensor alone. All others get numbers.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::mark;
use super::numbers::{Array, Collected, Number};
use crate::error::ValueError;
use crate::wire::{DType, Tensor, Value};

/// Type, shape, bytes.
pub(super) const PARTS: usize = 3;

/// In [`to_value`](crate::to_value) a tensor stays one, wherever it is. In formats for people (JSON,
/// YAML, TOML) it is its numbers in nested sequences, as with numpy's `tolist`; a `float16` is written
/// as the number it is, and a tensor without elements is an empty sequence. In others (MessagePack,
/// bincode, postcard) it is its type's name, its shape and its bytes, little-endian.
impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Array::from(self).serialize(serializer)
    }
}

impl Serialize for Array<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(mark::TENSOR, &Marked(self))
    }
}

/// What is under the mark.
struct Marked<'a, 'b>(&'b Array<'a>);

impl Serialize for Marked<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(array) = self;
        if serializer.is_human_readable() {
            return array.level().serialize(serializer);
        }
        let mut parts = serializer.serialize_tuple(PARTS)?;
        parts.serialize_element(array.dtype.name())?;
        parts.serialize_element(&array.shape)?;
        parts.serialize_element(&Bytes(array.bytes))?;
        parts.end()
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// The tensor whose parts went into a [`Value`].
pub(super) fn of_parts(parts: Value) -> Result<Tensor, ValueError> {
    let no_tensor = || <ValueError as serde::ser::Error>::custom("no tensor is made of that");
    let Value::Tuple(parts) = parts else { return Err(no_tensor()) };
    let parts = <[Value; PARTS]>::try_from(parts).map_err(|_| no_tensor())?;
    let [Value::Str(name), Value::List(extents), Value::Bytes(bytes)] = parts else {
        return Err(no_tensor());
    };
    let mut shape = Vec::with_capacity(extents.len());
    for extent in extents {
        let Value::Int(extent) = extent else { return Err(no_tensor()) };
        shape.push(usize::try_from(extent).map_err(|_| no_tensor())?);
    }
    let dtype = dtype_named(&name).ok_or_else(no_tensor)?;
    Tensor::from_bytes(dtype, &shape, bytes).map_err(<ValueError as serde::ser::Error>::custom)
}

fn dtype_named(name: &str) -> Option<DType> {
    DType::ALL.iter().copied().find(|dtype| dtype.name() == name)
}

/// From an answer's tensor it is that tensor. From a list of numbers, or of such lists, which is also
/// what formats for people have, it is what numpy's `array` makes of them: `int64` or `uint64`, `float64`
/// if one of them has a fraction, `bool`; `float64` if there are none; and an error where numpy would mix
/// `bool` with numbers, or ints that no 64 bits hold with others. From other formats it is what
/// was written to them.
///
/// `#[serde(flatten)]`, untagged and internally tagged enums take everything apart before it is asked
/// for: through them a tensor comes as its numbers.
impl<'de> Deserialize<'de> for Tensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut collected = Collected::default();
        let level = AtDepth { collected: &mut collected, depth: 0 };
        match deserializer.deserialize_newtype_struct(mark::TENSOR, level)? {
            Some(tensor) => Ok(tensor),
            None => collected.into_tensor().map_err(de::Error::custom),
        }
    }
}

/// Numbers that stand in so many sequences. What it reads it collects, unless that is a whole tensor.
struct AtDepth<'c> {
    collected: &'c mut Collected,
    depth: usize,
}

impl AtDepth<'_> {
    fn number<E: de::Error>(self, number: Number) -> Result<Option<Tensor>, E> {
        self.collected.number(number, self.depth).map_err(E::custom)?;
        Ok(None)
    }
}

impl<'de> DeserializeSeed<'de> for AtDepth<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Only ever a number or a sequence: a whole tensor comes under its mark alone.
        deserializer.deserialize_any(self).map(drop)
    }
}

impl<'de> Visitor<'de> for AtDepth<'_> {
    type Value = Option<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.depth == 0 { "a tensor" } else { "a tensor's numbers" })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Option<Tensor>, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_tuple(PARTS, Parts).map(Some)
        }
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Option<Tensor>, E> {
        self.number(Number::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Option<Tensor>, E> {
        self.number(Number::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Option<Tensor>, E> {
        self.number(Number::Unsigned(value))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<Option<Tensor>, E> {
        self.number(Number::Single(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Option<Tensor>, E> {
        self.number(Number::Float(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<Tensor>, A::Error> {
        let Self { collected, depth } = self;
        collected.begin(depth).map_err(de::Error::custom)?;
        let mut len = 0;
        while let Some(()) =
            items.next_element_seed(AtDepth { collected: &mut *collected, depth: depth + 1 })?
        {
            len += 1;
        }
        collected.end(len, depth).map_err(de::Error::custom)?;
        Ok(None)
    }
}

/// Type, shape, bytes.
struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Tensor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor's type, shape and bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Tensor, A::Error> {
        let missing = |found| de::Error::invalid_length(found, &Self);
        let dtype = parts.next_element_seed(Named)?.ok_or_else(|| missing(0))?;
        let shape: Vec<usize> = parts.next_element()?.ok_or_else(|| missing(1))?;
        let bytes = parts.next_element_seed(Raw)?.ok_or_else(|| missing(2))?;
        Tensor::from_bytes(dtype, &shape, bytes).map_err(de::Error::custom)
    }
}

/// A type by its name.
struct Named;

impl<'de> DeserializeSeed<'de> for Named {
    type Value = DType;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DType, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Named {
    type Value = DType;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type of a tensor's elements")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<DType, E> {
        dtype_named(name).ok_or_else(|| E::invalid_value(de::Unexpected::Str(name), &self))
    }
}

/// A tensor's bytes.
struct Raw;

impl<'de> DeserializeSeed<'de> for Raw {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(self)
    }
}

impl<'de> Visitor<'de> for Raw {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor's bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
