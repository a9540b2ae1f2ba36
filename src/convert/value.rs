//! Values in other data formats, and whole inside other types.

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::ser::{self, Serialize, SerializeMap, SerializeSeq, SerializeTuple, Serializer};

use super::view::View;
use super::{TRUSTED_LEN, foreign, mark};
use crate::error::ValueProblem;
use crate::wire::{MAX_DEPTH, Tensor, Value, ValueRef};

/// `None` is null; lists and tuples are sequences; `bytes` is what the format has for bytes (in JSON a
/// sequence of numbers); a dict is a map, in its order; a tensor is what
/// [`Tensor`](crate::Tensor#impl-Serialize-for-Tensor) says.
///
/// More than [`MAX_DEPTH`] containers inside each other are an error.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AtDepth { view: self.into(), depth: 0 }.serialize(serializer)
    }
}

/// As [`Value`]'s: an answer can be written as it lies there.
impl Serialize for ValueRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AtDepth { view: (*self).into(), depth: 0 }.serialize(serializer)
    }
}

fn too_deep() -> ValueProblem {
    ValueProblem::Deep { limit: MAX_DEPTH }
}

/// A value that stands in so many containers.
struct AtDepth<'a> {
    view: View<'a>,
    depth: usize,
}

impl<'a> AtDepth<'a> {
    /// For a container's items. Asked for behind the container's begin: [`to_value`](crate::to_value)
    /// counts too, and says it by type.
    fn inside<E: ser::Error>(&self) -> Result<impl Fn(View<'a>) -> Self + use<'a, E>, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(too_deep()));
        }
        let depth = self.depth + 1;
        Ok(move |view| AtDepth { view, depth })
    }
}

impl Serialize for AtDepth<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.view {
            View::None => serializer.serialize_unit(),
            View::Bool(value) => serializer.serialize_bool(*value),
            View::Int(value) => serializer.serialize_i64(*value),
            View::Float(value) => serializer.serialize_f64(*value),
            View::Str(value) => serializer.serialize_str(value),
            View::Bytes(value) => serializer.serialize_bytes(value),
            View::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                let mut items = items.clone().map(self.inside()?);
                items.try_for_each(|item| list.serialize_element(&item))?;
                list.end()
            }
            View::Tuple(items) => {
                let mut tuple = serializer.serialize_tuple(items.len())?;
                let mut items = items.clone().map(self.inside()?);
                items.try_for_each(|item| tuple.serialize_element(&item))?;
                tuple.end()
            }
            View::Dict(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                let inside = self.inside()?;
                let mut pairs = pairs.clone();
                pairs.try_for_each(|(key, value)| map.serialize_entry(key, &inside(value)))?;
                map.end()
            }
            View::Tensor(array) => array.serialize(serializer),
        }
    }
}

/// From an answer it is a copy of what is there. From other formats: null is `None`, a sequence a list,
/// a map a dict in its order, keys are strings; an integer outside 64 signed bits and more than
/// [`MAX_DEPTH`] containers inside each other are errors. The format has to say itself what comes next,
/// as JSON does. No format says that a sequence was a tuple or a tensor.
///
/// `#[serde(flatten)]`, untagged and internally tagged enums take everything apart before it is asked
/// for: through them a tuple comes as a list, and a tensor as lists of numbers.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reading { depth: 0 }.deserialize(deserializer)
    }
}

/// Reads a value that stands in so many containers.
#[derive(Debug, Clone, Copy)]
struct Reading {
    depth: usize,
}

impl Reading {
    fn inside<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(too_deep()));
        }
        Ok(Self { depth: self.depth + 1 })
    }

    fn out_of_range<E: de::Error>(number: impl fmt::Display) -> E {
        E::custom(ValueProblem::IntRange { number: number.to_string() })
    }
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_newtype_struct(mark::VALUE, self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        value.try_into().map(Value::Int).map_err(|_| Self::out_of_range(value))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        value.try_into().map(Value::Int).map_err(|_| Self::out_of_range(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        value.try_into().map(Value::Int).map_err(|_| Self::out_of_range(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Str(value))
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::with_capacity(items.size_hint().unwrap_or_default().min(TRUSTED_LEN));
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut dict = Vec::with_capacity(pairs.size_hint().unwrap_or_default().min(TRUSTED_LEN));
        while let Some(key) = pairs.next_key::<String>()? {
            if foreign::is_one(&key) {
                // serde_json with `arbitrary_precision`: each number is such a map.
                return match (key.as_str(), pairs.next_value::<String>()?) {
                    (foreign::NUMBER, text) => number(&text).map_err(de::Error::custom),
                    _ => Err(de::Error::custom("a raw text of serde_json's is no value")),
                };
            }
            dict.push((key, pairs.next_value_seed(inside)?));
        }
        Ok(Value::Dict(dict))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (name, content) = data.variant::<String>()?;
        match name.as_str() {
            mark::A_TUPLE => match content.newtype_variant_seed(self)? {
                Value::List(items) => Ok(Value::Tuple(items)),
                other => Ok(other),
            },
            mark::A_TENSOR => content.newtype_variant::<Tensor>().map(Value::Tensor),
            _ => Err(de::Error::invalid_type(de::Unexpected::Enum, &self)),
        }
    }
}
/// A number in digits.
pub(super) fn number(text: &str) -> Result<Value, String> {
    let is_float = text.contains(['.', 'e', 'E']);
    let value = if is_float {
        text.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Float)
    } else {
        text.parse().ok().map(Value::Int)
    };
    value.ok_or_else(|| format!("{text} fits neither 64 bits of an int nor a float"))
}
