//! Awaits answers of `python/models/big_model.py` on tokio: many at once, from few threads.
//!
//! Run it from the top of a checkout, with a worker where the engine finds it (README.md, "The
//! worker"): `cargo run --example awaited`.

use std::sync::Arc;
use std::time::Duration;

use nearcall::error::{CallError, SubmitError};
use nearcall::{Completions, Engine, Signature, Task};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let features = Signature::new().floats("float_features", 3).strs("str_features", 2);
    let engine = Engine::builder("big_model:big_model")
        .python_path("python/models")
        .signature(features.int("int_feature"))
        .workers(2)
        .slots(16) // waiting, running, and answered but not taken: all count
        .start()?; // blocks: before the runtime has anything else to do
    let engine = Arc::new(engine);
    let driver = tokio::spawn(drive(engine.completions()));

    let requests: Vec<_> =
        (0..100).map(|number| tokio::spawn(score(engine.clone(), number))).collect();
    let mut sum = 0;
    for request in requests {
        sum += request.await??;
    }
    println!("{sum}");

    // Blocks, too: it lets those that were accepted end, and waits for the workers.
    let ending = engine.clone();
    tokio::task::spawn_blocking(move || ending.shutdown(Duration::from_secs(5))).await?;
    drop(engine); // the last one: with it the driver ends
    driver.await??;
    Ok(())
}

/// Wakes the futures of tasks that are over. One for each engine.
async fn drive(completions: Completions) -> std::io::Result<()> {
    // SAFETY: a `Completions` has the same open descriptor for life.
    let completions = unsafe { AsyncFd::register_with_interest(completions, Interest::READABLE) }?;
    let mut keys = Vec::new(); // of `Engine::notify`, which futures do not need
    loop {
        // Cleared before the dispatch: what ends in between makes it readable again.
        completions.readable().await?.clear_ready();
        if !completions.get_ref().dispatch(&mut keys) {
            return Ok(()); // the engine is gone
        }
    }
}

async fn score(engine: Arc<Engine>, number: i64) -> Result<i64, Failure> {
    let task = Task::new().floats(&[1.1, 11.2, 0.3]).strs(&["abc", "cdavfdv"]).int(number);
    loop {
        match engine.call_async(&task, Duration::from_secs(5)).await {
            Ok(answer) => return Ok(answer.int(0)?),
            // Nothing is queued beyond the slots. A service passes that on (503, Retry-After); a job
            // that has time comes again.
            Err(CallError::Submit(SubmitError::Full { .. })) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
