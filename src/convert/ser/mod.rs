//! A Rust value as a [`Value`].

mod containers;

use std::fmt::Display;

use serde::ser::{Serialize, Serializer};

use containers::{Form, ItemsSink, PairsSink};

use super::{TRUSTED_LEN, foreign, mark, one_more, tensor};
use crate::error::{ValueError, ValueProblem};
use crate::wire::{MAX_DEPTH, Value};

/// Makes a [`Value`] of anything that serde can serialise.
///
/// | Rust | Python |
/// |---|---|
/// | `()`, `None`, unit structs | `None` |
/// | `bool`, integers, `f32` and `f64`, `str` and `char` | `bool`, `int`, `float`, `str` |
/// | sequences | `list` |
/// | tuples, tuple structs, arrays | `tuple` |
/// | structs, maps with string keys | `dict`, in their order |
/// | `Some(x)`, newtypes | what is inside |
/// | bytes (`serialize_bytes`, as of the crate `serde_bytes`) | `bytes` |
/// | [`Tensor`](crate::Tensor), [`Value`] | themselves |
/// | enums | `"Variant"`, or `{"Variant": …}`, unless the type says otherwise |
///
/// Serde does not tell a `Vec<u8>` from other sequences: it is a `list` of `int`. What serde's
/// attributes say holds here too.
///
/// ```
/// use nearcall::{Tensor, Value, to_value};
///
/// #[derive(serde::Serialize)]
/// struct Features<'a> {
///     name: &'a str,
///     image: Tensor,
/// }
///
/// let image = Tensor::new(&[1, 2], &[0.5_f32, 1.0])?;
/// let value = to_value(&Features { name: "cat", image: image.clone() })?;
/// let expected = vec![("name".to_owned(), "cat".into()), ("image".to_owned(), image.into())];
/// assert_eq!(value, Value::Dict(expected));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// By place, as in `value['a'][2]`: an integer outside 64 signed bits, a map's key that is no string,
/// more than [`MAX_DEPTH`] containers inside each other, and whatever the type itself says.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    value.serialize(Sink::new(MAX_DEPTH)).map_err(|error| error.in_root("value"))
}

/// Where one value goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sink {
    /// Containers that may still stand inside each other.
    room: usize,
    /// Options and newtypes around the value and its containers.
    wrappers: usize,
    /// Inside a tensor, which gives its bytes to those who do not read.
    compact: bool,
}

impl Sink {
    pub(super) fn new(room: usize) -> Self {
        Self { room, wrappers: 0, compact: false }
    }

    /// For a container's items.
    fn inside(self) -> Result<Self, ValueError> {
        match self.room.checked_sub(1) {
            Some(room) => Ok(Self { room, ..self }),
            None => Err(ValueError::here(ValueProblem::Deep { limit: MAX_DEPTH })),
        }
    }

    /// For what is in an option or a newtype.
    fn wrapped(self) -> Result<Self, ValueError> {
        Ok(Self { wrappers: one_more(self.wrappers)?, ..self })
    }

    fn items(self, len: Option<usize>, form: Form) -> Result<ItemsSink, ValueError> {
        // A variant's dict is one container, its content another.
        let outside = if let Form::Variant(_) = form { self.inside()? } else { self };
        let items = Vec::with_capacity(len.unwrap_or_default().min(TRUSTED_LEN));
        Ok(ItemsSink { items, form, inside: outside.inside()? })
    }

    fn pairs(
        self,
        len: Option<usize>,
        variant: Option<&'static str>,
    ) -> Result<PairsSink, ValueError> {
        let outside = if variant.is_some() { self.inside()? } else { self };
        let pairs = Vec::with_capacity(len.unwrap_or_default().min(TRUSTED_LEN));
        Ok(PairsSink { pairs, key: String::new(), variant, inside: outside.inside()? })
    }
}

fn int<T: TryInto<i64> + Display + Copy>(number: T) -> Result<Value, ValueError> {
    let in_range = number.try_into().map(Value::Int);
    in_range.map_err(|_| ValueError::here(ValueProblem::IntRange { number: number.to_string() }))
}

/// An enum's variant that holds something.
fn variant(name: &'static str, content: Value) -> Value {
    Value::Dict(vec![(name.to_owned(), content)])
}

macro_rules! ints {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<Value, ValueError> {
            int(value)
        }
    )*};
}

impl Serializer for Sink {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = ItemsSink;
    type SerializeTuple = ItemsSink;
    type SerializeTupleStruct = ItemsSink;
    type SerializeTupleVariant = ItemsSink;
    type SerializeMap = PairsSink;
    type SerializeStruct = PairsSink;
    type SerializeStructVariant = PairsSink;

    ints! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_i128: i128, serialize_u128: u128,
    }

    fn serialize_bool(self, value: bool) -> Result<Value, ValueError> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Value, ValueError> {
        Ok(Value::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Value, ValueError> {
        Ok(Value::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<Value, ValueError> {
        Ok(Value::Str(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, ValueError> {
        Ok(value.into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, ValueError> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn serialize_none(self) -> Result<Value, ValueError> {
        Ok(Value::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, ValueError> {
        value.serialize(self.wrapped()?)
    }

    fn serialize_unit(self) -> Result<Value, ValueError> {
        Ok(Value::None)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, ValueError> {
        Ok(Value::None)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Value, ValueError> {
        Ok(name.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        if name == mark::TENSOR {
            // A tensor is no container: its parts are not counted.
            let parts = value.serialize(Self { compact: true, ..Self::new(MAX_DEPTH) })?;
            return tensor::of_parts(parts).map(Value::Tensor);
        }
        value.serialize(self.wrapped()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        let content = value.serialize(self.inside()?).map_err(|error| error.in_key(name))?;
        Ok(variant(name, content))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ItemsSink, ValueError> {
        self.items(len, Form::List)
    }

    fn serialize_tuple(self, len: usize) -> Result<ItemsSink, ValueError> {
        self.items(Some(len), Form::Tuple)
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<ItemsSink, ValueError> {
        self.items(Some(len), Form::Tuple)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<ItemsSink, ValueError> {
        self.items(Some(len), Form::Variant(name))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<PairsSink, ValueError> {
        self.pairs(len, None)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<PairsSink, ValueError> {
        if foreign::is_one(name) {
            let text =
                "a number of serde_json's `arbitrary_precision`, or a raw text of its, is no value";
            return Err(ValueError::here(ValueProblem::Other(text.to_owned())));
        }
        self.pairs(Some(len), None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<PairsSink, ValueError> {
        self.pairs(Some(len), Some(name))
    }

    fn is_human_readable(&self) -> bool {
        !self.compact
    }
}
