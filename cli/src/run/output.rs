//! Answers and errors as lines of JSON.

use nearcall::ValueRef;
use nearcall::error::{RetrieveError, SubmitError, TaskError};
use serde::Serialize;

use super::numbers::{self, put};
use super::problem::Problem;

/// An error as it goes into a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Failure {
    kind: String,
    message: String,
    /// Empty when no Python code raised anything.
    traceback: String,
}

impl Failure {
    fn new(kind: &str, message: impl ToString) -> Self {
        Self { kind: kind.to_owned(), message: message.to_string(), traceback: String::new() }
    }

    /// A line that is no task.
    pub(crate) fn invalid_task(line: u64, problem: &str) -> Self {
        Self::new("InvalidTask", format!("line {line}: {problem}"))
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        let kind = match error {
            SubmitError::TooLarge { .. } => "TaskTooLarge",
            SubmitError::Mismatch(_) => "InvalidTask",
            SubmitError::Unavailable { .. } => "NoWorker",
            SubmitError::NoSharedMemory { .. } => "NoSharedMemory",
            SubmitError::System { .. } => "EngineError",
            _ => "EngineClosed",
        };
        Self::new(kind, error)
    }
}

impl From<RetrieveError> for Failure {
    fn from(error: RetrieveError) -> Self {
        match error {
            RetrieveError::Task(TaskError::Python(raised)) => {
                Self { kind: raised.kind, message: raised.message, traceback: raised.traceback }
            }
            RetrieveError::Task(TaskError::Refused(refusal)) => Self::new("AnswerRefused", refusal),
            RetrieveError::Task(error @ TaskError::Died { .. }) => Self::new("WorkerDied", error),
            RetrieveError::Task(error @ TaskError::Unavailable { .. }) => {
                Self::new("NoWorker", error)
            }
            RetrieveError::Task(error @ TaskError::Closed) => Self::new("EngineClosed", error),
            error => Self::new("EngineError", error),
        }
    }
}

/// The line of an answer, its end included; an answer that JSON cannot carry is a failure.
pub(crate) fn answer(value: ValueRef<'_>) -> Result<Vec<u8>, Failure> {
    let mut line = b"{\"answer\":".to_vec();
    write(&mut line, value).map_err(|Problem { place, what }| {
        Failure::new("NotJson", format!("answer{place} is {what}, which JSON cannot carry"))
    })?;
    line.extend_from_slice(b"}\n");
    Ok(line)
}

/// The line of an error, its end included.
pub(crate) fn error(failure: &Failure) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        error: &'a Failure,
    }
    let mut line = Vec::new();
    put(&mut line, &Line { error: failure });
    line.push(b'\n');
    line
}

/// Appends a value.
fn write(line: &mut Vec<u8>, value: ValueRef<'_>) -> Result<(), Problem> {
    match value {
        ValueRef::None => line.extend_from_slice(b"null"),
        ValueRef::Bool(value) => put(line, &value),
        ValueRef::Int(value) => put(line, &value),
        ValueRef::Float(value) => numbers::float(line, value)?,
        ValueRef::Str(value) => put(line, value),
        ValueRef::Bytes(_) => return Err(Problem::new("bytes")),
        ValueRef::List(items) | ValueRef::Tuple(items) => {
            line.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    line.push(b',');
                }
                write(line, item).map_err(|problem| problem.in_list(index))?;
            }
            line.push(b']');
        }
        ValueRef::Dict(items) => {
            line.push(b'{');
            for (index, (key, item)) in items.iter().enumerate() {
                if index > 0 {
                    line.push(b',');
                }
                put(line, key);
                line.push(b':');
                write(line, item).map_err(|problem| problem.in_dict(key))?;
            }
            line.push(b'}');
        }
        ValueRef::Tensor(tensor) => numbers::tensor(line, tensor)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nearcall::{DType, Engine, PythonError, Task, Tensor, Value};

    use super::*;

    /// The line for a value as an engine hands it out.
    fn line(value: Value) -> Result<String, Failure> {
        let model = move |_: &nearcall::Args<'_>| Ok::<_, PythonError>(value.clone());
        let engine = Engine::builder("m:f").workers(1).start_with(model).unwrap();
        let given = engine.call(&Task::new(), Duration::from_secs(30)).unwrap();
        answer(given.value()).map(|line| String::from_utf8(line).unwrap())
    }

    fn text(value: &str) -> Value {
        Value::Str(value.to_owned())
    }

    #[test]
    fn answers_become_json() {
        let value = Value::Tuple(vec![
            Value::Int(i64::MIN),
            Value::Float(1.0),
            text("a\"\n\0é"),
            Value::None,
            Value::List(vec![]),
            Value::Dict(vec![("k".to_owned(), Value::Bool(true)), ("l".to_owned(), Value::Int(0))]),
        ]);
        assert_eq!(
            line(value).unwrap(),
            "{\"answer\":[-9223372036854775808,1.0,\"a\\\"\\n\\u0000é\",null,[],{\"k\":true,\"l\":0}]}\n"
        );
    }

    fn tensor<T: nearcall::Element>(shape: &[usize], elements: &[T]) -> Value {
        Tensor::new(shape, elements).unwrap().into()
    }

    fn halves(shape: &[usize], halves: &[u16]) -> Value {
        let bytes = halves.iter().flat_map(|half| half.to_ne_bytes()).collect();
        Tensor::from_bytes(DType::F16, shape, bytes).unwrap().into()
    }

    #[test]
    fn tensors_become_nested_lists_of_numbers() {
        for (value, expected) in [
            (tensor(&[2, 3], &[1_i32, -2, 3, 4, 5, 6]), "[[1,-2,3],[4,5,6]]"),
            (tensor(&[2, 1, 2], &[true, false, false, true]), "[[[true,false]],[[false,true]]]"),
            (tensor(&[2], &[i8::MIN, 127]), "[-128,127]"),
            (tensor(&[1], &[i16::MIN]), "[-32768]"),
            (tensor(&[1], &[i64::MIN]), "[-9223372036854775808]"),
            (tensor(&[1], &[u8::MAX]), "[255]"),
            (tensor(&[1], &[u16::MAX]), "[65535]"),
            (tensor(&[1], &[u32::MAX]), "[4294967295]"),
            (tensor(&[1], &[u64::MAX]), "[18446744073709551615]"),
            (
                halves(&[2, 2], &[0x3C00, 0xC000, 0x0001, 0x7BFF]),
                "[[1.0,-2.0],[5.960464477539063e-8,65504.0]]",
            ),
            (tensor(&[2], &[0.1_f32, 1.0]), "[0.10000000149011612,1.0]"),
            (tensor(&[2], &[0.1_f64, -0.0]), "[0.1,-0.0]"),
            (tensor(&[], &[1.5_f64]), "1.5"),
            (tensor::<u8>(&[0], &[]), "[]"),
            (tensor::<u8>(&[2, 0, 1 << 40], &[]), "[[],[]]"),
        ] {
            assert_eq!(line(value).unwrap(), format!("{{\"answer\":{expected}}}\n"));
        }
    }

    #[test]
    fn what_json_cannot_carry_is_told_with_its_place() {
        for (value, place) in [
            (Value::Float(f64::NAN), "answer is"),
            (Value::Tuple(vec![Value::Int(1), Value::Float(f64::INFINITY)]), "answer[1] is"),
            (
                Value::List(vec![Value::Dict(vec![("x".to_owned(), Value::Bytes(vec![1]))])]),
                "answer[0][\"x\"] is bytes",
            ),
            (
                Value::List(vec![tensor(&[2, 2], &[0.0, 1.0, 2.0, f32::NEG_INFINITY])]),
                "answer[0][1][1] is the float -inf",
            ),
            (halves(&[2], &[0, 0x7E00]), "answer[1] is the float NaN"),
            (tensor::<u8>(&[1 << 20, 1 << 20, 0], &[]), "answer is a tensor with the shape"),
        ] {
            let failure = line(value).unwrap_err();
            assert_eq!(failure.kind, "NotJson");
            assert!(failure.message.starts_with(place), "{failure:?}");
        }
    }

    #[test]
    fn errors_have_kind_message_and_traceback() {
        let python = PythonError {
            kind: "ValueError".to_owned(),
            message: "no".to_owned(),
            traceback: "Traceback...\n".to_owned(),
        };
        let failure = Failure::from(RetrieveError::Task(TaskError::Python(python)));
        assert_eq!(
            String::from_utf8(error(&failure)).unwrap(),
            "{\"error\":{\"kind\":\"ValueError\",\"message\":\"no\",\"traceback\":\"Traceback...\\n\"}}\n"
        );
        let invalid = Failure::invalid_task(7, "it is blank");
        assert_eq!(
            (invalid.kind.as_str(), invalid.message.as_str()),
            ("InvalidTask", "line 7: it is blank")
        );
    }
}
