//! A service with many threads, as the engine is meant to be used: each thread submits, does
//! something else, and comes back for the answer. Nobody waits for Python.
//!
//! Run it from the top of a checkout, with a worker where the engine finds it (README.md, "The
//! worker"): `cargo run --example service_threads`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use nearcall::error::{RetrieveError, SubmitError, TaskError};
use nearcall::{Engine, Signature, Task, Ticket};

const THREADS: i64 = 8;
const REQUESTS: i64 = 1_000;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let engine = Engine::builder("big_model:big_model")
        .python_path("python/models")
        .signature(
            Signature::new()
                .floats("float_features", ..)
                .strs("str_features", ..)
                .int("int_feature"),
        )
        .slots(64) // waiting, running, and answered but not retrieved: all count
        .start()?;

    let engine = &engine;
    thread::scope(|scope| -> Result<(), Failure> {
        let threads: Vec<_> =
            (0..THREADS).map(|number| scope.spawn(move || serve(engine, number))).collect();
        for thread in threads {
            let failed = thread.join().map_err(|_| "a thread panicked")??;
            println!("{REQUESTS} requests, {failed} of them failed");
        }
        Ok(())
    })?;

    // Tasks that were accepted are done before this returns, at most 5 seconds later.
    println!("{:?}", engine.shutdown(Duration::from_secs(5)));
    Ok(())
}

/// One thread of the service: how many of its requests had no answer.
fn serve(engine: &Engine, thread: i64) -> Result<i64, Failure> {
    let mut failed = 0;
    for request in 0..REQUESTS {
        let text = format!("request {request} of thread {thread}");
        let strings = [text.as_str()];
        let task = Task::new().floats(&[0.5]).strs(&strings).int(request % 10);
        let ticket = submit(engine, &task)?;
        match retrieve(engine, ticket) {
            Ok(value) if value == text.len() as i64 + request % 10 => {}
            Ok(value) => return Err(format!("{text:?} was answered with {value}").into()),
            // What happens to one task says nothing about the next: a worker that died is
            // replaced, a model that raised goes on.
            Err(error) => {
                eprintln!("{text}: {error}");
                failed += 1;
            }
        }
    }
    Ok(failed)
}

/// Submits; when the engine is full, comes back a little later.
fn submit<'e>(engine: &'e Engine, task: &Task<'_>) -> Result<Ticket<'e>, SubmitError> {
    loop {
        match engine.submit(task) {
            Err(SubmitError::Full { .. }) => do_something_else(),
            result => return result,
        }
    }
}

/// Looks for the answer every now and then. `engine.wait(ticket, deadline)` would sleep instead.
fn retrieve(engine: &Engine, ticket: Ticket<'_>) -> Result<i64, Failure> {
    loop {
        match engine.retrieve(&ticket) {
            Ok(None) => do_something_else(),
            Ok(Some(answer)) => return Ok(answer.int(0)?),
            Err(RetrieveError::Task(TaskError::Python(error))) => {
                return Err(format!("the model raised {error}").into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where a service would see to its sockets.
fn do_something_else() {
    thread::yield_now();
}
