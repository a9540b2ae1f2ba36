//! Values of a task or an answer: owned ([`Value`]) and borrowed from its bytes ([`ValueRef`]).

use std::fmt;

use bincode::enc::write::Writer;
use bincode::error::EncodeError;

use super::codec::{
    EncodeTo, Malformed, Reader, bytes_len, put, put_bytes, put_int, put_len, signed_len,
    unsigned_len,
};
use super::tensor::{self, DType, Tensor, TensorRef};

/// How deep containers may stand inside each other. A scalar has depth 0, `[1]` depth 1.
pub const MAX_DEPTH: usize = 64;

/// The first byte of each encoded value.
mod tag {
    pub(super) const NONE: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const STR: u8 = 5;
    pub(super) const BYTES: u8 = 6;
    pub(super) const LIST: u8 = 7;
    pub(super) const TUPLE: u8 = 8;
    pub(super) const DICT: u8 = 9;
    pub(super) const TENSOR: u8 = 10;
    /// A tensor in place ([`super::super::placed`]): an argument of a task by itself, and anywhere in
    /// an answer that the host has not put together yet.
    pub(super) const PLACED: u8 = 11;
}

/// A Python value, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` of at most 64 bits.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(String),
    /// A `bytes`.
    Bytes(Vec<u8>),
    /// A `list`.
    List(Vec<Value>),
    /// A `tuple`.
    Tuple(Vec<Value>),
    /// A `dict` with string keys, in its order.
    Dict(Vec<(String, Value)>),
    /// A numpy array; see [`Tensor`].
    Tensor(Tensor),
}

impl Value {
    /// Whether containers stand deeper inside each other than `limit`.
    pub(crate) fn is_deeper_than(&self, limit: usize) -> bool {
        let inside = |item: &Value| limit == 0 || item.is_deeper_than(limit - 1);
        match self {
            Self::List(items) | Self::Tuple(items) => limit == 0 || items.iter().any(inside),
            Self::Dict(items) => limit == 0 || items.iter().any(|(_, item)| inside(item)),
            _ => false,
        }
    }

    /// Bytes that its encoding has.
    pub(crate) fn encoded_len(&self) -> usize {
        let items = |items: &[Value]| {
            unsigned_len(items.len() as u64) + items.iter().map(Self::encoded_len).sum::<usize>()
        };
        1 + match self {
            Self::None | Self::Bool(_) => 0,
            Self::Int(value) => signed_len(*value),
            Self::Float(_) => 8,
            Self::Str(value) => bytes_len(value.len()),
            Self::Bytes(value) => bytes_len(value.len()),
            Self::List(values) | Self::Tuple(values) => items(values),
            Self::Dict(pairs) => {
                let pair = |(key, item): &(String, Self)| bytes_len(key.len()) + item.encoded_len();
                unsigned_len(pairs.len() as u64) + pairs.iter().map(pair).sum::<usize>()
            }
            Self::Tensor(tensor) => tensor.encoded_len(),
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from! {
    bool => Bool, i32 => Int, i64 => Int, u32 => Int, f32 => Float, f64 => Float, &str => Str,
    String => Str, Vec<u8> => Bytes, Vec<Value> => List, Vec<(String, Value)> => Dict,
    Tensor => Tensor,
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

impl EncodeTo for Value {
    fn encode_to<W: Writer>(&self, writer: &mut W) -> Result<(), EncodeError> {
        match self {
            Self::None => put(writer, tag::NONE),
            Self::Bool(value) => write_bool(writer, *value),
            Self::Int(value) => write_int(writer, *value),
            Self::Float(value) => write_float(writer, *value),
            Self::Str(value) => write_str(writer, value),
            Self::Bytes(value) => write_bytes(writer, value),
            Self::List(items) => {
                write_list(writer, items.len())?;
                items.iter().try_for_each(|item| item.encode_to(writer))
            }
            Self::Tuple(items) => {
                write_tuple(writer, items.len())?;
                items.iter().try_for_each(|item| item.encode_to(writer))
            }
            Self::Dict(items) => {
                write_dict(writer, items.len())?;
                items.iter().try_for_each(|(key, item)| {
                    write_key(writer, key)?;
                    item.encode_to(writer)
                })
            }
            Self::Tensor(tensor) => {
                put(writer, tag::TENSOR)?;
                tensor.write(writer)
            }
        }
    }
}

#[inline]
pub(crate) fn write_none<W: Writer>(writer: &mut W) -> Result<(), EncodeError> {
    put(writer, tag::NONE)
}

#[inline]
pub(crate) fn write_bool<W: Writer>(writer: &mut W, value: bool) -> Result<(), EncodeError> {
    put(writer, if value { tag::TRUE } else { tag::FALSE })
}

#[inline]
pub(crate) fn write_int<W: Writer>(writer: &mut W, value: i64) -> Result<(), EncodeError> {
    put(writer, tag::INT)?;
    put_int(writer, value)
}

#[inline]
pub(crate) fn write_float<W: Writer>(writer: &mut W, value: f64) -> Result<(), EncodeError> {
    put(writer, tag::FLOAT)?;
    put(writer, value)
}

#[inline]
pub(crate) fn write_str<W: Writer>(writer: &mut W, value: &str) -> Result<(), EncodeError> {
    put(writer, tag::STR)?;
    put_bytes(writer, value.as_bytes())
}

#[inline]
pub(crate) fn write_bytes<W: Writer>(writer: &mut W, value: &[u8]) -> Result<(), EncodeError> {
    put(writer, tag::BYTES)?;
    put_bytes(writer, value)
}

/// Starts a list of `len` values, which must follow.
#[inline]
pub(crate) fn write_list<W: Writer>(writer: &mut W, len: usize) -> Result<(), EncodeError> {
    put(writer, tag::LIST)?;
    put_len(writer, len)
}

/// Starts a tuple of `len` values, which must follow.
#[inline]
pub(crate) fn write_tuple<W: Writer>(writer: &mut W, len: usize) -> Result<(), EncodeError> {
    put(writer, tag::TUPLE)?;
    put_len(writer, len)
}

/// Starts a dict of `len` pairs (a key from [`write_key`], then a value), which must follow.
#[inline]
pub(crate) fn write_dict<W: Writer>(writer: &mut W, len: usize) -> Result<(), EncodeError> {
    put(writer, tag::DICT)?;
    put_len(writer, len)
}

/// Writes a dict's key.
#[inline]
pub(crate) fn write_key<W: Writer>(writer: &mut W, key: &str) -> Result<(), EncodeError> {
    put_bytes(writer, key.as_bytes())
}

/// Starts a tensor: its elements must follow, as many bytes as type and shape say.
#[inline]
pub(crate) fn write_tensor<W: Writer>(
    writer: &mut W,
    dtype: DType,
    shape: &[usize],
) -> Result<(), EncodeError> {
    put(writer, tag::TENSOR)?;
    tensor::write_head(writer, dtype, shape)
}

/// Writes the tag of a tensor in place; what [`super::placed::write`] writes must follow.
pub(crate) fn write_placed_tag<W: Writer>(writer: &mut W) -> Result<(), EncodeError> {
    put(writer, tag::PLACED)
}

/// How an encoded value starts, as far as those need it who look for tensors in place.
pub(super) enum Start {
    /// A list or tuple: so many values follow.
    Items(usize),
    /// A dict: so many keys, each with its value, follow.
    Pairs(usize),
    /// A tensor in place: its head follows.
    Placed,
    /// Any other. Nothing but its tag was taken.
    Other,
}

/// Takes a value's start off the front.
pub(super) fn start(reader: &mut Reader<'_>) -> Result<Start, Malformed> {
    Ok(match reader.take_byte()? {
        tag::LIST | tag::TUPLE => Start::Items(reader.take_len()?),
        tag::DICT => Start::Pairs(reader.take_len()?),
        tag::PLACED => Start::Placed,
        _ => Start::Other,
    })
}

/// A Python value whose text and bytes are borrowed from the answer, or the task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` of at most 64 bits.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(&'a str),
    /// A `bytes`.
    Bytes(&'a [u8]),
    /// A `list`.
    List(Seq<'a>),
    /// A `tuple`.
    Tuple(Seq<'a>),
    /// A `dict` with string keys.
    Dict(Map<'a>),
    /// A numpy array.
    Tensor(TensorRef<'a>),
}

impl<'a> ValueRef<'a> {
    /// Decodes bytes that hold exactly one value, checking all of it.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader, 0)?;
        reader.finish()?;
        Ok(value)
    }

    /// The value in bytes that [`decode`](Self::decode) has accepted, without walking through the
    /// items of a tuple again: they are all there is behind its length.
    #[inline]
    pub(crate) fn decode_again(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.take_byte()? != tag::TUPLE {
            return Self::decode(bytes);
        }
        let len = reader.take_len()?;
        Ok(Self::Tuple(Seq { bytes: reader.rest(), len }))
    }

    /// Takes a value, which stands in `depth` containers, off the front.
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>, depth: usize) -> Result<Self, Malformed> {
        Ok(match reader.take_byte()? {
            tag::NONE => Self::None,
            tag::FALSE => Self::Bool(false),
            tag::TRUE => Self::Bool(true),
            tag::INT => Self::Int(reader.take_int()?),
            tag::FLOAT => Self::Float(reader.take_float()?),
            tag::STR => Self::Str(reader.take_str()?),
            tag::BYTES => Self::Bytes(reader.take_bytes()?),
            tag::LIST => Self::List(Seq::read(reader, depth)?),
            tag::TUPLE => Self::Tuple(Seq::read(reader, depth)?),
            tag::DICT => Self::Dict(Map::read(reader, depth)?),
            tag::TENSOR => Self::Tensor(TensorRef::read(reader)?),
            _ => return Err(Malformed),
        })
    }

    /// Python's name of the value's type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Tensor(_) => "ndarray",
        }
    }

    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> Value {
        match self {
            Self::None => Value::None,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Str(value) => Value::Str((*value).to_owned()),
            Self::Bytes(value) => Value::Bytes((*value).to_vec()),
            Self::List(items) => Value::List(items.iter().map(|item| item.to_owned()).collect()),
            Self::Tuple(items) => Value::Tuple(items.iter().map(|item| item.to_owned()).collect()),
            Self::Dict(items) => Value::Dict(
                items.iter().map(|(key, item)| (key.to_owned(), item.to_owned())).collect(),
            ),
            Self::Tensor(tensor) => Value::Tensor(tensor.to_owned()),
        }
    }
}

/// The items of a list or tuple.
///
/// # Invariants
/// `bytes` holds exactly `len` encoded values; `read` checked it.
#[derive(Clone, Copy, PartialEq)]
pub struct Seq<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Seq<'a> {
    fn read(reader: &mut Reader<'a>, depth: usize) -> Result<Self, Malformed> {
        if depth == MAX_DEPTH {
            return Err(Malformed);
        }
        let len = reader.take_len()?;
        let start = *reader;
        for _ in 0..len {
            ValueRef::read(reader, depth + 1)?;
        }
        Ok(Self { bytes: start.up_to(reader), len })
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items, in order.
    pub fn iter(&self) -> impl Iterator<Item = ValueRef<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.len).map_while(move |_| ValueRef::read(&mut reader, 0).ok())
    }

    /// Takes the first item off the front.
    pub(crate) fn take_first(&mut self) -> Option<ValueRef<'a>> {
        let len = self.len.checked_sub(1)?;
        let mut reader = Reader::new(self.bytes);
        let first = ValueRef::read(&mut reader, 0).ok()?;
        *self = Self { bytes: reader.rest(), len };
        Some(first)
    }

    /// The item at `index`, found by walking from the first.
    pub fn get(&self, index: usize) -> Option<ValueRef<'a>> {
        self.iter().nth(index)
    }
}

impl fmt::Debug for Seq<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The pairs of a dict.
///
/// # Invariants
/// `bytes` holds exactly `len` encoded pairs; `read` checked it.
#[derive(Clone, Copy, PartialEq)]
pub struct Map<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Map<'a> {
    fn read(reader: &mut Reader<'a>, depth: usize) -> Result<Self, Malformed> {
        if depth == MAX_DEPTH {
            return Err(Malformed);
        }
        let len = reader.take_len()?;
        let start = *reader;
        for _ in 0..len {
            reader.take_str()?;
            ValueRef::read(reader, depth + 1)?;
        }
        Ok(Self { bytes: start.up_to(reader), len })
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pairs, in the dict's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.len).map_while(move |_| {
            let key = reader.take_str().ok()?;
            Some((key, ValueRef::read(&mut reader, 0).ok()?))
        })
    }

    /// Takes the first pair off the front.
    pub(crate) fn take_first(&mut self) -> Option<(&'a str, ValueRef<'a>)> {
        let len = self.len.checked_sub(1)?;
        let mut reader = Reader::new(self.bytes);
        let key = reader.take_str().ok()?;
        let value = ValueRef::read(&mut reader, 0).ok()?;
        *self = Self { bytes: reader.rest(), len };
        Some((key, value))
    }

    /// The value of `key`, found by walking from the first pair.
    pub fn get(&self, key: &str) -> Option<ValueRef<'a>> {
        self.iter().find_map(|(found, value)| (found == key).then_some(value))
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
