//! Containers on their way to be values.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{Sink, variant};
use crate::convert::view::View;
use crate::error::{ValueError, ValueProblem};
use crate::wire::{MAX_DEPTH, Value};

/// What becomes of items.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    List,
    Tuple,
    Variant(&'static str),
}

/// Where the items of a list or tuple go.
#[derive(Debug)]
pub(in super::super) struct ItemsSink {
    pub(super) items: Vec<Value>,
    pub(super) form: Form,
    pub(super) inside: Sink,
}

impl ItemsSink {
    fn add<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), ValueError> {
        let index = self.items.len();
        let item = item.serialize(self.inside).map_err(|error| match self.form {
            Form::List | Form::Tuple => error.in_item(index),
            Form::Variant(name) => error.in_item(index).in_key(name),
        })?;
        self.items.push(item);
        Ok(())
    }

    fn finish(self) -> Value {
        match self.form {
            Form::List => Value::List(self.items),
            Form::Tuple => Value::Tuple(self.items),
            Form::Variant(name) => variant(name, Value::Tuple(self.items)),
        }
    }
}

macro_rules! items_sink {
    ($($trait:ident::$method:ident),* $(,)?) => {$(
        impl $trait for ItemsSink {
            type Ok = Value;
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), ValueError> {
                self.add(item)
            }

            fn end(self) -> Result<Value, ValueError> {
                Ok(self.finish())
            }
        }
    )*};
}

items_sink! {
    SerializeSeq::serialize_element, SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field,
}

/// Where the pairs of a dict go.
#[derive(Debug)]
pub(in super::super) struct PairsSink {
    pub(super) pairs: Vec<(String, Value)>,
    /// The key whose value comes next.
    pub(super) key: String,
    pub(super) variant: Option<&'static str>,
    pub(super) inside: Sink,
}

impl PairsSink {
    fn add<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), ValueError> {
        match value.serialize(self.inside) {
            Ok(value) => self.pairs.push((key, value)),
            Err(error) => return Err(self.in_variant(error.in_key(&key))),
        }
        Ok(())
    }

    #[cold]
    fn in_variant(&self, error: ValueError) -> ValueError {
        match self.variant {
            Some(name) => error.in_key(name),
            None => error,
        }
    }

    fn finish(self) -> Value {
        let pairs = Value::Dict(self.pairs);
        match self.variant {
            Some(name) => variant(name, pairs),
            None => pairs,
        }
    }
}

impl SerializeMap for PairsSink {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key = match key.serialize(Sink::new(MAX_DEPTH))? {
            Value::Str(key) => key,
            other => {
                let found = View::from(&other).type_name();
                return Err(ValueError::here(ValueProblem::Key { found }));
            }
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        let key = std::mem::take(&mut self.key);
        self.add(key, value)
    }

    fn end(self) -> Result<Value, ValueError> {
        Ok(self.finish())
    }
}

macro_rules! pairs_sink {
    ($($trait:ident),* $(,)?) => {$(
        impl $trait for PairsSink {
            type Ok = Value;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), ValueError> {
                self.add(key.to_owned(), value)
            }

            fn end(self) -> Result<Value, ValueError> {
                Ok(self.finish())
            }
        }
    )*};
}

pairs_sink!(SerializeStruct, SerializeStructVariant);
