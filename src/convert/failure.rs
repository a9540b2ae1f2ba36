//! How an error learns its place: it begins at the value, and each container on its way out puts the
//! key or the index in front.

use std::fmt::Display;

use serde::{de, ser};

use crate::error::{ValueError, ValueProblem};

impl ValueError {
    pub(super) fn here(problem: ValueProblem) -> Self {
        Self { place: String::new(), problem }
    }

    pub(super) fn wrong_type(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::here(ValueProblem::Type { expected: expected.into(), found: found.into() })
    }

    /// The same, of a container's item.
    #[cold]
    pub(super) fn in_item(mut self, index: usize) -> Self {
        self.place.insert_str(0, &format!("[{index}]"));
        self
    }

    /// The same, of a dict's value.
    #[cold]
    pub(super) fn in_key(mut self, key: &str) -> Self {
        self.place.insert_str(0, &format!("['{}']", key.escape_debug()));
        self
    }

    /// The same, once it has left all containers: `root` says what they belong to.
    #[cold]
    pub(crate) fn in_root(mut self, root: &str) -> Self {
        self.place.insert_str(0, root);
        self
    }

    /// Serde knows lists alone; `name` is what was really there.
    #[cold]
    pub(super) fn found_at(mut self, name: &str) -> Self {
        if let ValueProblem::Type { found, .. } = &mut self.problem
            && self.place.is_empty()
            && found == "list"
        {
            name.clone_into(found);
        }
        self
    }
}

impl ser::Error for ValueError {
    fn custom<T: Display>(text: T) -> Self {
        Self::here(ValueProblem::Other(text.to_string()))
    }
}

/// What serde found, by Python's names.
fn python_name(found: &de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Bool(_) => "bool".to_owned(),
        de::Unexpected::Signed(_) | de::Unexpected::Unsigned(_) => "int".to_owned(),
        de::Unexpected::Float(_) => "float".to_owned(),
        de::Unexpected::Str(_) => "str".to_owned(),
        de::Unexpected::Bytes(_) => "bytes".to_owned(),
        de::Unexpected::Unit => "NoneType".to_owned(),
        de::Unexpected::Seq => "list".to_owned(),
        de::Unexpected::Map => "dict".to_owned(),
        other => other.to_string(),
    }
}

impl de::Error for ValueError {
    fn custom<T: Display>(text: T) -> Self {
        Self::here(ValueProblem::Other(text.to_string()))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::wrong_type(expected.to_string(), python_name(&found))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self::here(ValueProblem::Value { expected, found })
    }

    fn invalid_length(found: usize, expected: &dyn de::Expected) -> Self {
        Self::here(ValueProblem::Length { expected: expected.to_string(), found })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::here(ValueProblem::Missing { key })
    }
}
