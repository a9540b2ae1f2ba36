//! The signature that the first line gives.

use std::collections::VecDeque;
use std::io::BufRead;

use anyhow::{Context, anyhow};
use nearcall::{Kind, Len, Scalar, Signature};

use super::lines::{Line, Lines};
use super::object::{self, Object, Shape};

/// How many bytes of later lines are looked at, and kept, for the kinds of lists that are empty in
/// the first.
const LOOK_AHEAD: u64 = 16 << 20;

/// All lines, those included that were looked at already.
pub(crate) type Replayed<R> = std::iter::Chain<
    std::iter::Map<std::collections::vec_deque::IntoIter<Line>, fn(Line) -> std::io::Result<Line>>,
    Lines<R>,
>;

/// The signature and all lines, the first included; `None` without any line.
pub(crate) fn signature<R: BufRead>(
    mut lines: Lines<R>,
) -> anyhow::Result<Option<(Signature, Replayed<R>)>> {
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut draft = parse(&first)
        .and_then(|object| Draft::of(&object))
        .map_err(|problem| anyhow!("line 1 gives no signature: {problem}"))
        .context("the first line must be a task, as the signature is taken from it")?;
    let mut seen = VecDeque::from([first]);
    while !draft.is_complete() && seen.back().is_some_and(|line| line.end < LOOK_AHEAD) {
        let Some(line) = lines.next().transpose()? else { break };
        // What is wrong with this line is told when it is its turn.
        if let Ok(object) = parse(&line) {
            draft.complete(&object);
        }
        seen.push_back(line);
    }
    let signature = draft.into_signature();
    signature.validate().context("line 1 gives no signature")?;
    let seen = seen.into_iter().map(Ok as fn(Line) -> std::io::Result<Line>);
    Ok(Some((signature, seen.chain(lines))))
}

fn parse(line: &Line) -> Result<Object<'_>, String> {
    match &line.text {
        Ok(text) => Object::parse(text),
        Err(long) => Err(format!("it is longer than {} bytes: raise --slot-bytes", long.limit)),
    }
}

/// A signature with lists whose items nobody has seen yet.
#[derive(Debug)]
struct Draft(Vec<(String, Guess)>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Guess {
    One(Scalar),
    List(Option<Scalar>),
}

impl Draft {
    fn of(object: &Object<'_>) -> Result<Self, String> {
        let guess = |(name, text): (&str, &str)| match guess(text) {
            Ok(guess) => Ok((name.to_owned(), guess)),
            Err(found) => Err(format!(
                "{name:?} is {found}; a task is made of bool, int, float, str, and lists of one of them"
            )),
        };
        object.items().map(guess).collect::<Result<_, _>>().map(Self)
    }

    fn is_complete(&self) -> bool {
        !self.0.iter().any(|(_, guess)| *guess == Guess::List(None))
    }

    /// Takes from a later line what the first left open.
    fn complete(&mut self, later: &Object<'_>) {
        for (index, (name, open)) in self.0.iter_mut().enumerate() {
            if *open == Guess::List(None)
                && let Some(Ok(found @ Guess::List(_))) = later.get(name, index).map(guess)
            {
                *open = found;
            }
        }
    }

    fn into_signature(self) -> Signature {
        self.0.into_iter().fold(Signature::new(), |signature, (name, guess)| {
            let kind = match guess {
                Guess::One(scalar) => Kind::One(scalar),
                Guess::List(scalar) => Kind::List(scalar.unwrap_or(Scalar::Float), Len::ANY),
            };
            signature.parameter(name, kind)
        })
    }
}

/// The kind of a value; the error says what it is instead.
fn guess(text: &str) -> Result<Guess, String> {
    match Shape::of(text) {
        Shape::Scalar(scalar) => Ok(Guess::One(scalar)),
        Shape::Other(name) => Err(name.to_owned()),
        Shape::List => {
            let mut common = None;
            for item in object::list(text)? {
                common = Some(match (common, Shape::of(item.get())) {
                    (None, Shape::Scalar(scalar)) => scalar,
                    (Some(common), Shape::Scalar(scalar)) if common == scalar => common,
                    (
                        Some(Scalar::Int | Scalar::Float),
                        Shape::Scalar(Scalar::Int | Scalar::Float),
                    ) => Scalar::Float,
                    (None, other) => return Err(format!("a list with {other} in it")),
                    (Some(common), other) => {
                        return Err(format!("a list of {common} with {other} in it"));
                    }
                });
            }
            Ok(Guess::List(common))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(input: &str) -> Signature {
        signature(Lines::new(input.as_bytes(), 1000)).unwrap().unwrap().0
    }

    fn refuse(input: &str) -> String {
        match signature(Lines::new(input.as_bytes(), 1000)) {
            Err(error) => format!("{error:#}"),
            Ok(_) => panic!("{input} gives a signature"),
        }
    }

    #[test]
    fn kinds_and_order_are_those_of_the_first_line() {
        let found =
            infer(r#"{"z": true, "a": 1, "f": 1.0, "s": "", "l": [1], "m": [1, 2.5], "n": ["x"]}"#);
        let expected = Signature::new()
            .bool("z")
            .int("a")
            .float("f")
            .str("s")
            .ints("l", ..)
            .floats("m", ..)
            .strs("n", ..);
        assert_eq!(found, expected);
        assert_eq!(infer("{}"), Signature::new());
    }

    #[test]
    fn an_empty_list_has_the_kind_of_the_first_that_is_not() {
        let later =
            "{\"l\": [], \"m\": []}\nnonsense\n{\"l\": [], \"m\": [true]}\n{\"l\": [\"x\"]}\n";
        assert_eq!(infer(later), Signature::new().strs("l", ..).bools("m", ..));
        assert_eq!(infer("{\"l\": []}\n{\"l\": []}"), Signature::new().floats("l", ..));
    }

    #[test]
    fn lines_that_were_looked_at_come_again() {
        let input = "{\"l\": []}\n{\"l\": []}\n{\"l\": [1]}\n{\"l\": [2]}\n";
        let (_, lines) = signature(Lines::new(input.as_bytes(), 1000)).unwrap().unwrap();
        let numbers: Vec<_> = lines.map(|line| line.unwrap().number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    #[test]
    fn no_line_is_no_signature_and_no_error() {
        assert!(signature(Lines::new(&b""[..], 1000)).unwrap().is_none());
    }

    #[test]
    fn a_first_line_without_a_signature_is_refused_with_the_reason() {
        for (input, expected) in [
            ("\n{}", "it is blank"),
            ("[1]", "expected an object"),
            ("{\"a\": null}", "\"a\" is null"),
            ("{\"a\": {}}", "\"a\" is an object"),
            ("{\"a\": [[1]]}", "a list with a list in it"),
            ("{\"a\": [1, \"x\"]}", "a list of int with a str in it"),
            ("{\"a\": [true, 1]}", "a list of bool with an int in it"),
            ("{\"not a name\": 1}", "identifier"),
        ] {
            let error = refuse(input);
            assert!(error.contains(expected) && error.contains("line 1"), "{error:?} for {input}");
        }
    }
}
