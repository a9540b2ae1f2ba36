//! JSON text as a value, the one that Python's `json.loads` makes of it.
//!
//! The text is valid JSON: `Object` has found it to be. It is walked through here, and not by
//! serde_json, because that takes `-0` and every int beyond 64 bits for a float, and some floats for
//! their neighbours.

use std::collections::HashMap;

use nearcall::{MAX_DEPTH, Value};

use super::object::twice;
use super::problem::Problem;

/// How much of a number an error shows.
const MAX_SHOWN: usize = 40;

/// Reads the text of one value.
///
/// `room` is how many values there may be, and is reduced by those that are here. It bounds the
/// memory: `[0,0,…]` takes many times as much as a value as it does as text.
pub(crate) fn value(text: &str, room: &mut usize) -> Result<Value, Problem> {
    Walk { rest: text, room }.value(0)
}

/// Text from the front to the back.
struct Walk<'a> {
    rest: &'a str,
    room: &'a mut usize,
}

impl<'a> Walk<'a> {
    /// Takes a value that stands in `depth` containers.
    fn value(&mut self, depth: usize) -> Result<Value, Problem> {
        *self.room = self.room.checked_sub(1).ok_or_else(|| {
            Problem::new("is one value too many for a task: raise --payload-bytes")
        })?;
        self.skip_blanks();
        match self.rest.as_bytes().first() {
            Some(b'[' | b'{') if depth == MAX_DEPTH => Err(Problem::new(format!(
                "is nested too deep: {MAX_DEPTH} lists and objects can stand inside each other"
            ))),
            Some(b'[') => self.list(depth),
            Some(b'{') => self.dict(depth),
            Some(b'"') => self
                .string()
                .map(Value::Str)
                .map_err(|error| Problem::new(format!("is no text that can be carried: {error}"))),
            _ => scalar(self.take_scalar()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        while self.has_another() {
            let item = self.value(depth + 1).map_err(|problem| problem.in_list(items.len()))?;
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn dict(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        while self.has_another() {
            let key = self.string().map_err(|error| {
                Problem::new(format!("has a key that cannot be carried: {error}"))
            })?;
            self.skip_blanks();
            self.next(); // the colon
            let item = self.value(depth + 1).map_err(|problem| problem.in_dict(&key))?;
            items.push((key, item));
        }
        Ok(Value::Dict(last_of_each(items)))
    }

    /// Passes what stands before a container's next item, or behind its last one, and tells which
    /// it was.
    fn has_another(&mut self) -> bool {
        self.skip_blanks();
        // The opening bracket, a comma, or the closing bracket.
        if matches!(self.next(), None | Some(']' | '}')) {
            return false;
        }
        self.skip_blanks();
        let is_empty = self.rest.starts_with([']', '}']);
        if is_empty {
            self.next();
        }
        !is_empty
    }

    /// Takes a string. The error is what is wrong with its escapes: lone surrogates are valid JSON,
    /// but no text.
    fn string(&mut self) -> Result<String, String> {
        let mut is_escaped = false;
        let mut is_last = |byte: u8| {
            let is_last = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_last
        };
        let inner = self.rest.bytes().skip(1).position(&mut is_last);
        let text = self.take(inner.map_or(self.rest.len(), |inner| inner + 2));
        serde_json::from_str(text).map_err(|error| {
            let error = error.to_string();
            error.split_once(" at line ").map_or(error.as_str(), |(what, _)| what).to_owned()
        })
    }

    /// Takes up to what follows a number, `true`, `false` or `null`.
    fn take_scalar(&mut self) -> &'a str {
        let is_behind = |byte: u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
        let len = self.rest.bytes().position(is_behind).unwrap_or(self.rest.len());
        self.take(len)
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

fn scalar(text: &str) -> Result<Value, Problem> {
    match text {
        "null" => Ok(Value::None),
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        _ if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => match text.parse() {
            Ok(value) if f64::is_finite(value) => Ok(Value::Float(value)),
            _ => Err(beyond(text, "a float")),
        },
        _ => text.parse().map(Value::Int).map_err(|_| beyond(text, "an int of 64 bits")),
    }
}

fn beyond(text: &str, what: &str) -> Problem {
    let shown = match text.split_at_checked(MAX_SHOWN) {
        Some((start, rest)) if !rest.is_empty() => &format!("{start}…"),
        _ => text,
    };
    Problem::new(format!("is {shown}, which is beyond {what}"))
}

/// As in Python, a key that comes again keeps its place and has its last value.
fn last_of_each(items: Vec<(String, Value)>) -> Vec<(String, Value)> {
    if twice(&items).is_none() {
        return items;
    }
    let mut places = HashMap::new();
    let mut merged: Vec<(String, Value)> = Vec::new();
    for (key, value) in items {
        match places.get(&key).and_then(|place: &usize| merged.get_mut(*place)) {
            Some(known) => known.1 = value,
            None => {
                places.insert(key.clone(), merged.len());
                merged.push((key, value));
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        value(text, &mut 1000).unwrap()
    }

    fn refuse(text: &str) -> (String, String) {
        let Problem { place, what } = value(text, &mut 1000).unwrap_err();
        (place, what)
    }

    fn text(text: &str) -> Value {
        Value::Str(text.to_owned())
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn numbers_are_what_they_are_written_as_and_floats_are_the_nearest() {
        for (text, expected) in [
            ("1", Value::Int(1)),
            ("-0", Value::Int(0)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("1.0", Value::Float(1.0)),
            ("1e3", Value::Float(1000.0)),
            ("-2E-1", Value::Float(-0.2)),
            ("1e-999", Value::Float(0.0)),
            // One at which a parser that is not exact is off by a bit.
            ("122.416294033786585", Value::Float(122.416_294_033_786_58)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        let Value::Float(zero) = read("-0.0") else { panic!("no float") };
        assert!(zero.is_sign_negative());
    }

    #[test]
    fn any_json_is_a_value_with_its_order_and_its_nesting() {
        let found = read(
            "{ \"z\" : [ null ,true,\t\"x\" , 1, 1.0, [ ] , { } ] , \"a\":{\"b\":[[1],[2]]},\r\"\":false }",
        );
        let mixed = vec![
            Value::None,
            Value::Bool(true),
            text("x"),
            Value::Int(1),
            Value::Float(1.0),
            Value::List(vec![]),
            Value::Dict(vec![]),
        ];
        let inner = Value::List(vec![Value::List(vec![1.into()]), Value::List(vec![2.into()])]);
        let expected = Value::Dict(vec![
            ("z".to_owned(), Value::List(mixed)),
            ("a".to_owned(), Value::Dict(vec![("b".to_owned(), inner)])),
            (String::new(), Value::Bool(false)),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn strings_end_where_they_end_whatever_is_in_them() {
        let found = read(r#"["a\"]", "\\", "\\\"", ",]}", "\u0000\ud83e\udd80", "straße", ""]"#);
        let expected = ["a\"]", "\\", "\\\"", ",]}", "\0🦀", "straße", ""].map(text);
        assert_eq!(found, Value::List(expected.to_vec()));
    }

    #[test]
    fn a_key_that_comes_again_keeps_its_place_and_has_its_last_value() {
        let found = read(r#"{"a": 1, "b": 2, "\u0061": 3, "c": 4, "b": null}"#);
        let expected = [("a", Value::Int(3)), ("b", Value::None), ("c", Value::Int(4))];
        assert_eq!(found, Value::Dict(expected.map(|(key, item)| (key.to_owned(), item)).into()));
    }

    #[test]
    fn what_cannot_be_carried_is_told_with_its_place() {
        for (text, place, what) in [
            (
                "9223372036854775808",
                "",
                "is 9223372036854775808, which is beyond an int of 64 bits",
            ),
            ("[1, {\"k\": [-9223372036854775809]}]", "[1][\"k\"][0]", "beyond an int of 64 bits"),
            ("{\"a\": 1, \"b\": 1e999}", "[\"b\"]", "is 1e999, which is beyond a float"),
            ("[\"\", \"\\ud800\"]", "[1]", "no text that can be carried: "),
            ("[\"\\ude00x\"]", "[0]", "no text that can be carried: lone"),
            ("[{\"\\ud800\": 1}]", "[0]", "has a key that cannot be carried: "),
        ] {
            let found = refuse(text);
            assert!(found.0 == place && found.1.contains(what), "{found:?} for {text}");
            assert!(!found.1.contains("at line"), "{found:?} names the parser's own line");
        }
        assert_eq!(refuse(&"9".repeat(5000)).1.len(), refuse(&"9".repeat(50)).1.len());
    }

    #[test]
    fn values_nest_as_deep_as_they_can_travel_and_no_deeper() {
        assert!(value(&nested(MAX_DEPTH), &mut 1000).is_ok());
        for depth in [MAX_DEPTH + 1, 129, 1_000_000] {
            let (place, what) = refuse(&nested(depth));
            assert_eq!(place, "[0]".repeat(MAX_DEPTH));
            assert!(what.contains("too deep: 64 "), "{what}");
        }
        let objects = "{\"k\":".repeat(65) + "{}" + &"}".repeat(65);
        assert_eq!(refuse(&objects).0, "[\"k\"]".repeat(MAX_DEPTH));
    }

    #[test]
    fn no_more_values_are_made_than_there_is_room_for() {
        let mut room = 10;
        assert!(value("[0,{\"a\":0},[]]", &mut room).is_ok());
        assert_eq!(room, 5);
        assert!(value("[0,0,0,0]", &mut room).is_ok());
        assert_eq!(room, 0);
        let problem = value("[0,0,0,0]", &mut 4).unwrap_err();
        assert_eq!(
            (problem.place.as_str(), problem.what.contains("--payload-bytes")),
            ("[3]", true)
        );
    }
}
