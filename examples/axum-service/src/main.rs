//! A scoring service over HTTP, with axum: how to serve a model with nearcall from async Rust.
//!
//! ```console
//! $ cargo run -p nearcall-axum-service &
//! listening on http://127.0.0.1:8080
//! $ curl -d '{"float_features": [1.1, 11.2, 0.3], "str_features": ["abc", "cdavfdv"], "int_feature": 27}' \
//!       -H 'Content-Type: application/json' -H 'X-Deadline-Ms: 250' http://127.0.0.1:8080/score
//! {"value":49,"message":""}
//! ```
//!
//! - `settings`: what the environment says
//! - `driver`: wakes the futures of tasks that are over
//! - `service`: the endpoints
//! - `refusal`: what clients are told of errors, and how
//!
//! From the top of a checkout, with a worker where the engine finds it (README.md, "The worker").

mod driver;
mod refusal;
mod service;
mod settings;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use nearcall::{Engine, Signature};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use service::Service;
use settings::Settings;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        // In words: a start that fails says what to do.
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let settings = Settings::from_environment()?;
    // From here on: a signal that comes while the model is being imported is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Blocks, and nobody is served meanwhile: a service that cannot answer listens to nobody.
    let engine = Arc::new(start(&settings)?);
    let driver = tokio::spawn(driver::drive(engine.completions()));
    let service = Arc::new(Service::new(engine.clone(), &settings));

    let listener = TcpListener::bind(&settings.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (end, ended) = oneshot::channel::<()>();
    let serve = axum::serve(listener, service::router(service.clone()));
    let server = tokio::spawn(async move {
        let end = async { drop(ended.await) };
        serve.with_graceful_shutdown(end).await
    });

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // First nobody sends new requests, then nobody may, then those that are left get their answers.
    service.leave();
    sleep(settings.notice).await;
    drop(end);
    let deadline = Instant::now() + settings.drain;
    match timeout_at(deadline, server).await {
        Ok(served) => served??,
        Err(_) => eprintln!("cut off: requests that were not done after {:?}", settings.drain),
    }
    let shutdown = move || engine.shutdown(deadline.into_std());
    let report = tokio::task::spawn_blocking(shutdown).await?;
    println!("drained: {}, workers killed: {}", report.drained, report.killed);
    // Nothing ends any more that it could tell of.
    driver.abort();
    Ok(())
}

fn start(settings: &Settings) -> Result<Engine, Failure> {
    let mut builder = Engine::builder(&settings.model)
        .method("run_big_model")
        .signature(
            Signature::new().floats("float_features", 3).strs("str_features", 2).int("int_feature"),
        )
        // Requests that wait for a worker count, too. More than can be done by their deadlines would
        // only be work for nobody: those beyond are told at once to come again.
        .slots(settings.slots);
    for folder in &settings.python_path {
        builder = builder.python_path(folder);
    }
    if let Some(workers) = settings.workers {
        builder = builder.workers(workers);
    }
    if let Some(kwargs) = &settings.init_kwargs {
        builder = builder.init_kwargs_json(kwargs);
    }
    Ok(builder.start()?)
}
