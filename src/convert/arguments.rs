//! A struct as a model's keyword arguments.

use serde::Serialize;

use super::ser::Sink;
use super::view::View;
use crate::error::ArgumentsError;
use crate::wire::{Arg, Kind, MAX_DEPTH, Parameter, Scalar, Signature, Task, Value};

/// What errors call the arguments.
const ROOT: &str = "arguments";

/// The arguments of one call, by name: made of a struct, or of a map with string keys.
///
/// A [`Task`] gives its arguments by position. Here each field goes to the parameter of its name, in
/// whatever order, and becomes what the signature says:
///
/// - for a parameter of any type ([`Signature::value`]) the field is what
///   [`to_value`](crate::to_value) makes of it;
/// - for a `bool`, an `int` or a `str` it has to be one. For a `float` it is one, or an integer that a
///   float holds exactly;
/// - for a list it is a sequence or a tuple of these.
///
/// [`Engine::call_as`](crate::Engine::call_as) does this and all the rest. To submit now and retrieve
/// later:
///
/// ```
/// use nearcall::{Args, Arguments, Engine, Signature, Value};
/// # use std::time::Duration;
///
/// #[derive(serde::Serialize)]
/// struct Features {
///     count: u32,
///     scores: Vec<f32>,
/// }
///
/// # let model = |args: &Args<'_>| Ok(Value::Tuple(args.values().to_vec()));
/// let engine = Engine::builder("m:f")
///     .signature(Signature::new().floats("scores", ..).int("count"))
///     .start_with(model)?;
/// let features = Features { count: 3, scores: vec![0.5] };
/// let arguments = Arguments::of(engine.signature(), &features)?;
/// let ticket = engine.submit(&arguments.as_task())?;
/// # assert_eq!(engine.wait(ticket, Duration::from_secs(10))?.int(1)?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    values: Vec<Owned>,
}

/// An argument that [`Arg`] borrows.
#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Strings(Vec<String>),
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Value(Value),
}

impl Arguments {
    /// Takes each field for the parameter of its name. A model without parameters takes `()` too.
    ///
    /// How long a list may be and whether all fits in a slot is looked at when the task is submitted.
    ///
    /// # Errors
    /// A parameter without a field, a field without a parameter, a field of another type, what no
    /// [`Value`] can be: each by name.
    pub fn of<A>(signature: &Signature, arguments: &A) -> Result<Self, ArgumentsError>
    where
        A: Serialize + ?Sized,
    {
        let parameters = signature.parameters();
        // The arguments themselves are no container of a value's.
        let value = arguments.serialize(Sink::new(MAX_DEPTH + 1));
        let mut fields = match value.map_err(|error| error.in_root(ROOT))? {
            Value::Dict(fields) => Fields::new(fields),
            Value::None if parameters.is_empty() => Fields::new(Vec::new()),
            other => {
                return Err(ArgumentsError::NotNamed { found: View::from(&other).type_name() });
            }
        };
        let mut values = Vec::with_capacity(parameters.len());
        for (index, parameter) in parameters.iter().enumerate() {
            match fields.take(index, &parameter.name) {
                Some(field) => values.push(Place(parameter).argument(field)?),
                None => {
                    let (name, fields) = (parameter.name.clone(), fields.names());
                    return Err(ArgumentsError::Missing { name, fields });
                }
            }
        }
        let Some(name) = fields.left() else { return Ok(Self { values }) };
        if parameters.iter().any(|parameter| parameter.name == name) {
            return Err(ArgumentsError::Twice { name });
        }
        let parameters = joined(parameters.iter().map(|parameter| parameter.name.as_str()));
        Err(ArgumentsError::Unknown { name, parameters })
    }

    /// The task of these arguments, for the engine of that signature.
    pub fn as_task(&self) -> Task<'_> {
        self.values.iter().fold(Task::new(), |task, value| {
            task.arg(match value {
                Owned::Bools(items) => Arg::Bools(items),
                Owned::Ints(items) => Arg::Ints(items),
                Owned::Floats(items) => Arg::Floats(items),
                Owned::Strings(items) => Arg::Strings(items),
                Owned::Bool(value) => Arg::Bool(*value),
                Owned::Int(value) => Arg::Int(*value),
                Owned::Float(value) => Arg::Float(*value),
                Owned::Str(value) => Arg::Str(value),
                Owned::Value(value) => Arg::Value(value),
            })
        })
    }
}

/// The fields of a struct, each to be taken once.
struct Fields {
    fields: Vec<(String, Option<Value>)>,
}

impl Fields {
    fn new(fields: Vec<(String, Value)>) -> Self {
        Self { fields: fields.into_iter().map(|(name, value)| (name, Some(value))).collect() }
    }

    /// The field of this name; most likely it is the one at `index`.
    fn take(&mut self, index: usize, name: &str) -> Option<Value> {
        if let Some((found, value)) = self.fields.get_mut(index)
            && found == name
        {
            return value.take();
        }
        self.fields.iter_mut().find(|(found, _)| found == name)?.1.take()
    }

    /// The first that nobody has taken.
    fn left(self) -> Option<String> {
        self.fields.into_iter().find_map(|(name, value)| value.is_some().then_some(name))
    }

    fn names(&self) -> String {
        joined(self.fields.iter().map(|(name, _)| name.as_str()))
    }
}

fn joined<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    if names.len() == 0 { "none".to_owned() } else { names.collect::<Vec<_>>().join(", ") }
}

/// The parameter that a field is for.
struct Place<'a>(&'a Parameter);

impl Place<'_> {
    fn argument(&self, field: Value) -> Result<Owned, ArgumentsError> {
        Ok(match self.0.kind {
            Kind::Any => Owned::Value(field),
            Kind::One(Scalar::Bool) => Owned::Bool(self.bool(field, None)?),
            Kind::One(Scalar::Int) => Owned::Int(self.int(field, None)?),
            Kind::One(Scalar::Float) => Owned::Float(self.float(field, None)?),
            Kind::One(Scalar::Str) => Owned::Str(self.str(field, None)?),
            Kind::List(Scalar::Bool, _) => Owned::Bools(self.list(field, Self::bool)?),
            Kind::List(Scalar::Int, _) => Owned::Ints(self.list(field, Self::int)?),
            Kind::List(Scalar::Float, _) => Owned::Floats(self.list(field, Self::float)?),
            Kind::List(Scalar::Str, _) => Owned::Strings(self.list(field, Self::str)?),
        })
    }

    fn bool(&self, value: Value, at: Option<usize>) -> Result<bool, ArgumentsError> {
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(self.wrong_type(&other, at)),
        }
    }

    fn int(&self, value: Value, at: Option<usize>) -> Result<i64, ArgumentsError> {
        match value {
            Value::Int(value) => Ok(value),
            other => Err(self.wrong_type(&other, at)),
        }
    }

    fn float(&self, value: Value, at: Option<usize>) -> Result<f64, ArgumentsError> {
        match value {
            Value::Float(value) => Ok(value),
            // Held against each other as 128 bits: the float next to the largest int is beyond it.
            Value::Int(value) if value as f64 as i128 == i128::from(value) => Ok(value as f64),
            Value::Int(number) => Err(ArgumentsError::Inexact {
                place: self.place(at),
                expected: self.0.kind,
                number,
            }),
            other => Err(self.wrong_type(&other, at)),
        }
    }

    fn str(&self, value: Value, at: Option<usize>) -> Result<String, ArgumentsError> {
        match value {
            Value::Str(value) => Ok(value),
            other => Err(self.wrong_type(&other, at)),
        }
    }

    fn list<T>(
        &self,
        value: Value,
        item: impl Fn(&Self, Value, Option<usize>) -> Result<T, ArgumentsError>,
    ) -> Result<Vec<T>, ArgumentsError> {
        let items = match value {
            Value::List(items) | Value::Tuple(items) => items,
            other => return Err(self.wrong_type(&other, None)),
        };
        let items = items.into_iter().enumerate();
        items.map(|(index, value)| item(self, value, Some(index))).collect()
    }

    #[cold]
    fn wrong_type(&self, found: &Value, at: Option<usize>) -> ArgumentsError {
        let found = View::from(found).type_name();
        ArgumentsError::Type { place: self.place(at), expected: self.0.kind, found }
    }

    #[cold]
    fn place(&self, at: Option<usize>) -> String {
        let index = at.map(|index| format!("[{index}]")).unwrap_or_default();
        format!("{ROOT}['{}']{index}", self.0.name)
    }
}
