//! Owned and borrowed values, looked at alike.

use std::borrow::Cow;

use super::numbers::Array;
use crate::wire::{Map, Seq, Value, ValueRef};

/// A value, wherever it lies; its containers are taken apart item by item.
#[derive(Debug, Clone)]
pub(super) enum View<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    List(Items<'a>),
    Tuple(Items<'a>),
    Dict(Pairs<'a>),
    Tensor(Array<'a>),
}

impl View<'_> {
    /// Python's name of the value's type.
    pub(super) fn type_name(&self) -> &'static str {
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
}

impl<'a> From<ValueRef<'a>> for View<'a> {
    fn from(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::None => Self::None,
            ValueRef::Bool(value) => Self::Bool(value),
            ValueRef::Int(value) => Self::Int(value),
            ValueRef::Float(value) => Self::Float(value),
            ValueRef::Str(value) => Self::Str(value),
            ValueRef::Bytes(value) => Self::Bytes(value),
            ValueRef::List(items) => Self::List(Items::Encoded(items)),
            ValueRef::Tuple(items) => Self::Tuple(Items::Encoded(items)),
            ValueRef::Dict(pairs) => Self::Dict(Pairs::Encoded(pairs)),
            ValueRef::Tensor(tensor) => Self::Tensor(Array {
                dtype: tensor.dtype(),
                shape: Cow::Owned(tensor.shape()),
                bytes: tensor.bytes(),
            }),
        }
    }
}

impl<'a> From<&'a Value> for View<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::None => Self::None,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Str(value) => Self::Str(value),
            Value::Bytes(value) => Self::Bytes(value),
            Value::List(items) => Self::List(Items::Owned(items)),
            Value::Tuple(items) => Self::Tuple(Items::Owned(items)),
            Value::Dict(pairs) => Self::Dict(Pairs::Owned(pairs)),
            Value::Tensor(tensor) => Self::Tensor(tensor.into()),
        }
    }
}

/// What is left of a list or tuple.
#[derive(Debug, Clone)]
pub(super) enum Items<'a> {
    Encoded(Seq<'a>),
    Owned(&'a [Value]),
}

impl<'a> Iterator for Items<'a> {
    type Item = View<'a>;

    fn next(&mut self) -> Option<View<'a>> {
        match self {
            Self::Encoded(items) => items.take_first().map(View::from),
            Self::Owned(items) => {
                let (first, rest) = items.split_first()?;
                *items = rest;
                Some(first.into())
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self {
            Self::Encoded(items) => items.len(),
            Self::Owned(items) => items.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// What is left of a dict.
#[derive(Debug, Clone)]
pub(super) enum Pairs<'a> {
    Encoded(Map<'a>),
    Owned(&'a [(String, Value)]),
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, View<'a>);

    fn next(&mut self) -> Option<(&'a str, View<'a>)> {
        match self {
            Self::Encoded(pairs) => pairs.take_first().map(|(key, value)| (key, value.into())),
            Self::Owned(pairs) => {
                let ((key, value), rest) = pairs.split_first()?;
                *pairs = rest;
                Some((key, value.into()))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match self {
            Self::Encoded(pairs) => pairs.len(),
            Self::Owned(pairs) => pairs.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Pairs<'_> {}
