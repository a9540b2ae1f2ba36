//! The names that the first line gives, and a line's values under them.

use nearcall::{Signature, Task, Value};

use super::lines::Line;
use super::object::Object;
use super::problem::Problem;
use super::value::value;

/// The signature that a first line gives: its names alone, as every value may be of any type.
pub(crate) fn signature(first: &Line) -> Result<Signature, String> {
    let text = first.text.as_ref().map_err(ToString::to_string)?;
    let object = Object::parse(text)?;
    let signature = object.names().fold(Signature::new(), Signature::value);
    signature.validate().map_err(|error| error.to_string())?;
    Ok(signature)
}

/// A line's values in the order of the signature, `room` of them at most, those inside of others
/// counted. The error is for the line's author.
pub(crate) fn arguments(
    signature: &Signature,
    line: &[u8],
    mut room: usize,
) -> Result<Vec<Value>, String> {
    let object = Object::parse(line)?;
    let parameters = signature.parameters();
    let mut arguments = Vec::with_capacity(parameters.len());
    for (index, name) in parameters.iter().map(|parameter| &parameter.name).enumerate() {
        let text = object.get(name, index).ok_or_else(|| format!("{name:?} is missing"))?;
        let value = value(text, &mut room).map_err(|Problem { place, what }| {
            let at = if place.is_empty() { place } else { format!("at {place} ") };
            format!("{name:?} {at}{what}")
        })?;
        arguments.push(value);
    }
    if object.len() > parameters.len() {
        let known = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        if let Some(name) = object.names().find(|name| !known(name)) {
            return Err(format!("{name:?} is not among the names, which line 1 gives"));
        }
    }
    Ok(arguments)
}

/// The arguments as a task.
pub(crate) fn task(arguments: &[Value]) -> Task<'_> {
    arguments.iter().fold(Task::new(), Task::value)
}

#[cfg(test)]
mod tests {
    use nearcall::Arg;

    use super::super::lines::TooLong;
    use super::*;

    fn first(text: &str) -> Line {
        Line { number: 1, text: Ok(text.as_bytes().to_vec()), end: 0 }
    }

    fn names(signature: &Signature) -> Vec<&str> {
        signature.parameters().iter().map(|parameter| parameter.name.as_str()).collect()
    }

    fn error(signature: &Signature, line: &str) -> String {
        arguments(signature, line.as_bytes(), 1000).unwrap_err()
    }

    #[test]
    fn the_first_line_gives_names_in_its_order_whatever_their_values_are() {
        let line = r#"{"z": null, "a": {"k": [1, "x"]}, "f": [], "big": 99999999999999999999}"#;
        let signature = signature(&first(line)).unwrap();
        assert_eq!(names(&signature), ["z", "a", "f", "big"]);
        assert_eq!(super::signature(&first("{}")).unwrap(), Signature::new());
    }

    #[test]
    fn a_first_line_without_names_is_refused_with_the_reason() {
        for (line, expected) in [
            ("", "it is blank"),
            ("[1]", "expected an object"),
            ("{\"a\": NaN}", "no NaN"),
            ("{\"not a name\": 1}", "identifier"),
            ("{\"a\": 1, \"a\": 2}", "twice"),
        ] {
            let error = signature(&first(line)).unwrap_err();
            assert!(error.contains(expected), "{error:?} for {line}");
        }
        let long = Line { number: 1, text: Err(TooLong { limit: 7 }), end: 9 };
        assert!(signature(&long).unwrap_err().contains("longer than 7 bytes"));
    }

    #[test]
    fn every_line_may_have_any_values_under_the_names_in_any_order() {
        let signature = signature(&first(r#"{"x": 1, "y": 1.5}"#)).unwrap();
        let found = arguments(&signature, br#"{"y": [null, {"x": true}], "x": "1"}"#, 10).unwrap();
        let dict = Value::Dict(vec![("x".to_owned(), true.into())]);
        let expected = [Value::from("1"), Value::List(vec![Value::None, dict])];
        assert_eq!(found, expected);
        assert_eq!(task(&found).args(), expected.each_ref().map(Arg::Value));
    }

    #[test]
    fn what_cannot_be_carried_is_told_by_name_and_place() {
        let signature = signature(&first(r#"{"a": 1, "b": 1}"#)).unwrap();
        for (value, expected) in [
            ("-9223372036854775809", "\"b\" is -9223372036854775809, which is beyond an int"),
            ("{\"k\": [0, 1e999]}", "\"b\" at [\"k\"][1] is 1e999, which is beyond a float"),
        ] {
            let error = error(&signature, &format!("{{\"b\": {value}, \"a\": 0}}"));
            assert!(error.starts_with(expected), "{error:?}");
        }
    }

    #[test]
    fn a_missing_and_an_unknown_name_are_told() {
        let signature = signature(&first(r#"{"i": 1}"#)).unwrap();
        assert_eq!(error(&signature, "{}"), "\"i\" is missing");
        let error = error(&signature, r#"{"i": 1, "j": 2}"#);
        assert!(error.starts_with("\"j\" is not among the names"), "{error}");
    }

    #[test]
    fn all_values_of_a_line_have_one_room() {
        let signature = signature(&first(r#"{"a": 1, "b": 1}"#)).unwrap();
        let line = br#"{"a": [1, 2], "b": [3, 4]}"#;
        assert!(arguments(&signature, line, 6).is_ok());
        let error = arguments(&signature, line, 5).unwrap_err();
        assert!(error.starts_with("\"b\" at [1] is one value too many"), "{error}");
    }
}
