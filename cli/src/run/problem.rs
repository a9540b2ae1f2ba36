//! What is wrong inside a value, and where.

/// What is wrong with one part of a value. The way to it is put together where it is left: a value
/// without a problem pays nothing for it.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    /// From the value to the part, as Python has it: `[1]["x"]`. Empty for the value itself.
    pub(crate) place: String,
    pub(crate) what: String,
}

impl Problem {
    /// One of the value itself.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { place: String::new(), what: what.into() }
    }

    /// The same as seen from the list whose item this value is.
    pub(crate) fn in_list(self, index: usize) -> Self {
        Self { place: format!("[{index}]{}", self.place), ..self }
    }

    /// The same as seen from the dict whose item this value is.
    pub(crate) fn in_dict(self, key: &str) -> Self {
        Self { place: format!("[{key:?}]{}", self.place), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_expression_in_python() {
        let problem = Problem::new("is wrong").in_list(1).in_dict("a\"b").in_list(0);
        let expected =
            Problem { place: r#"[0]["a\"b"][1]"#.to_owned(), what: "is wrong".to_owned() };
        assert_eq!(problem, expected);
    }
}
