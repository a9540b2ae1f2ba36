//! A line held against the signature: its values as the engine takes them.

use nearcall::{Arg, Kind, Parameter, Scalar, Signature, Task};

use super::object::{self, Object, Shape};

/// An argument that owns its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Argument {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Strs(Vec<String>),
}

impl Argument {
    fn as_arg(&self) -> Arg<'_> {
        match self {
            Self::Bool(value) => Arg::Bool(*value),
            Self::Int(value) => Arg::Int(*value),
            Self::Float(value) => Arg::Float(*value),
            Self::Str(value) => Arg::Str(value),
            Self::Bools(items) => Arg::Bools(items),
            Self::Ints(items) => Arg::Ints(items),
            Self::Floats(items) => Arg::Floats(items),
            Self::Strs(items) => Arg::Strings(items),
        }
    }
}

/// The arguments as a task.
pub(crate) fn task(arguments: &[Argument]) -> Task<'_> {
    arguments.iter().fold(Task::new(), |task, argument| task.arg(argument.as_arg()))
}

/// A line's arguments, in the order of the signature. The error is for the line's author.
pub(crate) fn arguments(signature: &Signature, line: &[u8]) -> Result<Vec<Argument>, String> {
    let object = Object::parse(line)?;
    let parameters = signature.parameters();
    let arguments = parameters
        .iter()
        .enumerate()
        .map(|(index, Parameter { name, kind, .. })| {
            let text = object.get(name, index).ok_or_else(|| format!("{name:?} is missing"))?;
            argument(*kind, text).map_err(|problem| format!("{name:?} {problem}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if object.len() > parameters.len() {
        let known = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        if let Some((name, _)) = object.items().find(|(name, _)| !known(name)) {
            return Err(format!("{name:?} is not in the signature, which line 1 gives"));
        }
    }
    Ok(arguments)
}

fn argument(kind: Kind, text: &str) -> Result<Argument, String> {
    match kind {
        Kind::One(Scalar::Bool) => bool(text).map(Argument::Bool),
        Kind::One(Scalar::Int) => int(text).map(Argument::Int),
        Kind::One(Scalar::Float) => float(text).map(Argument::Float),
        Kind::One(Scalar::Str) => string(text).map(Argument::Str),
        Kind::List(Scalar::Bool, _) => list(text, bool).map(Argument::Bools),
        Kind::List(Scalar::Int, _) => list(text, int).map(Argument::Ints),
        Kind::List(Scalar::Float, _) => list(text, float).map(Argument::Floats),
        Kind::List(Scalar::Str, _) => list(text, string).map(Argument::Strs),
    }
}

fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    match Shape::of(text) {
        Shape::List => object::list(text)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| {
                item(raw.get()).map_err(|problem| format!("at [{index}] {problem}"))
            })
            .collect(),
        other => Err(format!("is {other}; it is a list in line 1")),
    }
}

fn bool(text: &str) -> Result<bool, String> {
    match Shape::of(text) {
        Shape::Scalar(Scalar::Bool) => Ok(text == "true"),
        other => Err(unlike(other, Scalar::Bool)),
    }
}

fn int(text: &str) -> Result<i64, String> {
    match Shape::of(text) {
        Shape::Scalar(Scalar::Int) => {
            text.parse().map_err(|_| format!("is {text}, which is beyond an int of 64 bits"))
        }
        other @ Shape::Scalar(Scalar::Float) => Err(format!(
            "{}: write it there as 1.0 if floats are meant",
            unlike(other, Scalar::Int)
        )),
        other => Err(unlike(other, Scalar::Int)),
    }
}

fn float(text: &str) -> Result<f64, String> {
    match Shape::of(text) {
        Shape::Scalar(Scalar::Float | Scalar::Int) => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(format!("is {text}, which is beyond a float")),
        },
        other => Err(unlike(other, Scalar::Float)),
    }
}

fn string(text: &str) -> Result<String, String> {
    match Shape::of(text) {
        Shape::Scalar(Scalar::Str) => serde_json::from_str(text)
            .map_err(|error| format!("is no text that can be carried: {error}")),
        other => Err(unlike(other, Scalar::Str)),
    }
}

fn unlike(found: Shape, expected: Scalar) -> String {
    format!("is {found}; it is {} in line 1", Shape::Scalar(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature::new().int("i").float("f").str("s").floats("l", ..).bools("b", ..)
    }

    #[test]
    fn a_line_gives_arguments_in_the_signatures_order() {
        let line = br#"{"f": 2, "i": -9223372036854775808, "l": [1, 2.5], "b": [true], "s": "a\u0000\ud83e\udd80"}"#;
        assert_eq!(
            arguments(&signature(), line).unwrap(),
            [
                Argument::Int(i64::MIN),
                Argument::Float(2.0),
                Argument::Str("a\0🦀".to_owned()),
                Argument::Floats(vec![1.0, 2.5]),
                Argument::Bools(vec![true]),
            ]
        );
    }

    #[test]
    fn a_task_has_the_arguments_in_order() {
        let arguments = [Argument::Int(1), Argument::Strs(vec!["x".to_owned()])];
        assert_eq!(task(&arguments).args(), [Arg::Int(1), Arg::Strings(&["x".to_owned()])]);
    }

    #[test]
    fn what_does_not_fit_is_told_by_name() {
        let fitting = [("i", "1"), ("f", "1.0"), ("s", "\"\""), ("l", "[]"), ("b", "[]")];
        for (name, text, expected) in [
            ("i", "1.0", "is a float; it is an int in line 1"),
            ("i", "9223372036854775808", "beyond an int of 64 bits"),
            ("i", "true", "is a bool"),
            ("i", "null", "is null"),
            ("f", "1e999", "beyond a float"),
            ("f", "\"1\"", "is a str"),
            ("s", "1", "is an int"),
            ("s", "\"\\ud800\"", "no text that can be carried"),
            ("l", "1", "is an int; it is a list"),
            ("l", "[1, \"x\"]", "at [1] is a str"),
            ("b", "[0]", "at [0] is an int"),
        ] {
            let items: Vec<_> = fitting
                .iter()
                .map(|(key, fits)| format!("{key:?}: {}", if *key == name { text } else { fits }))
                .collect();
            let line = format!("{{{}}}", items.join(", "));
            let error = arguments(&signature(), line.as_bytes()).unwrap_err();
            let by_name = error.starts_with(&format!("{name:?}"));
            assert!(by_name && error.contains(expected), "{error:?} for {line}");
        }
    }

    #[test]
    fn a_missing_and_an_unknown_keyword_are_told() {
        let signature = Signature::new().int("i");
        assert_eq!(arguments(&signature, b"{}").unwrap_err(), "\"i\" is missing");
        let error = arguments(&signature, br#"{"i": 1, "j": 2}"#).unwrap_err();
        assert!(error.starts_with("\"j\" is not in the signature"), "{error}");
    }
}
