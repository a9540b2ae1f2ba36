//! How to unit-test a service that calls a model, on a machine without Python: the engine is
//! real, a Rust closure stands where the model would.
//!
//! `cargo run --example test_double` needs no worker.

use std::error::Error;
use std::time::Duration;

use nearcall::error::{CallError, RetrieveError, StartError, TaskError, TaskMismatch, WaitError};
use nearcall::{Args, Builder, Engine, PythonError, Signature, Task, Value};

/// The service. It is given its engine, so a test can give it another.
struct Screening {
    engine: Engine,
}

/// What it decides.
#[derive(Debug, PartialEq)]
enum Verdict {
    Accept,
    /// With the model's score.
    Reject(f64),
    /// The model could not tell, and why: a person has to look.
    AskSomebody(String),
}

impl Screening {
    const PATIENCE: Duration = Duration::from_millis(500);

    /// What production and tests have in common. The signature belongs here: a test that did not
    /// check it would pass with arguments that the model does not take.
    fn engine() -> Builder {
        Engine::builder("screening:Model")
            .method("score")
            .signature(Signature::new().str("text").floats("history", 2))
            .workers(1)
    }

    fn decide(&self, text: &str, history: &[f64]) -> Result<Verdict, Box<dyn Error>> {
        let task = Task::new().str(text).floats(history);
        match self.engine.call(&task, Self::PATIENCE) {
            Ok(answer) => match answer.float(0)? {
                score if score < 0.5 => Ok(Verdict::Accept),
                score => Ok(Verdict::Reject(score)),
            },
            Err(CallError::Wait(WaitError::Retrieve(RetrieveError::Task(error)))) => match error {
                TaskError::DeadlinePassed => {
                    Ok(Verdict::AskSomebody("the model took too long".to_owned()))
                }
                TaskError::Python(error) => Ok(Verdict::AskSomebody(error.to_string())),
                error => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// The model's place in a test: each text makes it do something else.
fn stand_in(args: &Args<'_>) -> Result<Value, PythonError> {
    match args.get("text") {
        Some(Value::Str(text)) if text == "slow" => {
            std::thread::sleep(2 * Screening::PATIENCE);
            Ok(Value::Float(0.0))
        }
        Some(Value::Str(text)) if text == "broken" => {
            Err(PythonError::new("ValueError", "no such language"))
        }
        Some(Value::Str(text)) if text == "bad" => Ok(Value::Float(0.9)),
        _ => Ok(Value::Float(0.1)),
    }
}

fn screening() -> Result<Screening, StartError> {
    // In production: `.start()`.
    Ok(Screening { engine: Screening::engine().start_with(stand_in)? })
}

// In a service, each of these blocks would be a #[test].
fn main() -> Result<(), Box<dyn Error>> {
    let service = screening()?;
    let history = [0.0, 1.0];
    assert_eq!(service.decide("good", &history)?, Verdict::Accept);
    assert_eq!(service.decide("bad", &history)?, Verdict::Reject(0.9));

    let why = "ValueError: no such language".to_owned();
    assert_eq!(service.decide("broken", &history)?, Verdict::AskSomebody(why));

    let why = "the model took too long".to_owned();
    assert_eq!(service.decide("slow", &history)?, Verdict::AskSomebody(why));

    // The signature is held against each task, as it is with a real model.
    let mismatch = service.engine.submit(&Task::new().str("good").floats(&[0.0]));
    let Err(nearcall::error::SubmitError::Mismatch(TaskMismatch::Length { name, .. })) = mismatch
    else {
        return Err("a history of one item was accepted".into());
    };
    assert_eq!(name, "history");
    println!("all as expected");
    Ok(())
}
