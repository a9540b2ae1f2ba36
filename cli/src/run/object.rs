//! A line as a JSON object whose values are still text.
//!
//! They are found to be valid JSON here, however deep they are nested, and read in `value`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Keywords and values, in the order of the line.
#[derive(Debug)]
pub(crate) struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads a line. The error is for its author.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        if text.trim_ascii().is_empty() {
            return Err("it is blank".to_owned());
        }
        let object: Self = serde_json::from_str(text).map_err(|error| problem(text, &error))?;
        match twice(&object.0) {
            Some(name) => Err(format!("{name:?} is in it twice")),
            None => Ok(object),
        }
    }

    /// The keywords.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// How many keywords there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The text of a keyword's value, looked for at `likely` first.
    pub(crate) fn get(&self, name: &str, likely: usize) -> Option<&'a str> {
        let found = match self.0.get(likely) {
            Some(item) if item.0 == name => Some(item),
            _ => self.0.iter().find(|item| item.0 == name),
        };
        found.map(|(_, value)| value.get())
    }
}

/// A name that is there twice.
pub(crate) fn twice<T>(items: &[(String, T)]) -> Option<&str> {
    let mut names: Vec<_> = items.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// What is wrong with a line that is no object.
fn problem(text: &str, error: &serde_json::Error) -> String {
    let wrong = error.to_string();
    // The line's number is told elsewhere; to the parser it is always the first.
    let wrong = wrong.replace(" at line 1 column ", " at column ");
    let rest = text.get(error.column().saturating_sub(1)..).unwrap_or_default();
    let hint =
        if ["N", "I", "-I"].iter().any(|start| rest.starts_with(start)) || rest.contains("NaN") {
            " (JSON has no NaN and no Infinity)"
        } else {
            ""
        };
    if error.is_data() { wrong } else { format!("it is not JSON: {wrong}{hint}") }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of keyword arguments")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = map.next_entry()? {
                    items.push(item);
                }
                Ok(Object(items))
            }
        }
        deserializer.deserialize_map(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_order_and_the_text_of_its_values() {
        let object = Object::parse(br#" {"b": 1.0, "a": [1, "x"], "c" : "\u00e9"} "#).unwrap();
        assert_eq!(object.names().collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(object.get("b", 0), Some("1.0"));
        assert_eq!(object.get("a", 1), Some("[1, \"x\"]"));
        assert_eq!(object.get("c", 0), Some("\"\\u00e9\""));
        assert_eq!(object.get("d", 0), None);
    }

    #[test]
    fn what_is_no_object_is_told_so() {
        for (line, expected) in [
            (&b""[..], "blank"),
            (b" \r", "blank"),
            (b"\xFF", "UTF-8"),
            (b"[1]", "expected an object of keyword arguments"),
            (b"7", "expected an object of keyword arguments"),
            (b"{\"a\": 1", "not JSON"),
            (b"{\"a\": 1} x", "not JSON"),
            (b"{\"a\": NaN}", "no NaN"),
            (b"{\"a\": -Infinity}", "no Infinity"),
            (b"{\"a\": 1, \"a\": 2}", "\"a\" is in it twice"),
        ] {
            let error = Object::parse(line).unwrap_err();
            assert!(error.contains(expected), "{error:?} for {line:?}");
        }
    }
}
