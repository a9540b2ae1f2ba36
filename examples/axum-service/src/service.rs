//! The endpoints: `POST /score`, `GET /ready`, `GET /health`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use nearcall::{Engine, Health, Task, WorkerState};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::refusal::Refusal;
use crate::settings::Settings;

/// The header in which a client says for how many milliseconds an answer is of use.
const DEADLINE: &str = "x-deadline-ms";

pub(crate) struct Service {
    engine: Arc<Engine>,
    deadline: Duration,
    max_deadline: Duration,
    leaving: AtomicBool,
}

impl Service {
    pub(crate) fn new(engine: Arc<Engine>, settings: &Settings) -> Self {
        let Settings { deadline, max_deadline, .. } = *settings;
        Self { engine, deadline, max_deadline, leaving: AtomicBool::new(false) }
    }

    /// From now on it is not ready, and answers all the same.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn deadline_of(&self, headers: &HeaderMap) -> Result<Duration, Refusal> {
        let Some(header) = headers.get(DEADLINE) else { return Ok(self.deadline) };
        let ms = header.to_str().ok().and_then(|text| text.parse().ok());
        let ms = ms.ok_or_else(|| Refusal::of_deadline(DEADLINE))?;
        Ok(Duration::from_millis(ms).min(self.max_deadline))
    }

    /// Asks the supervisor's thread, for up to 0.2 s, and the kernel: not for a thread of the runtime.
    async fn health(&self) -> Option<Health> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || engine.health()).await.ok().flatten()
    }
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/score", post(score))
        .route("/ready", get(ready))
        .route("/health", get(health))
        .with_state(service)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Features {
    float_features: Vec<f64>,
    str_features: Vec<String>,
    int_feature: i64,
}

#[derive(Serialize)]
struct Score {
    value: i64,
    message: String,
}

async fn score(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    features: Result<Json<Features>, JsonRejection>,
) -> Result<Json<Score>, Refusal> {
    let deadline = service.deadline_of(&headers)?;
    let Json(features) = features?;
    let answer = {
        let strings: Vec<&str> = features.str_features.iter().map(String::as_str).collect();
        let task =
            Task::new().floats(&features.float_features).strs(&strings).int(features.int_feature);
        // Submitted here and now, or refused. A client that goes away drops this future, and with it
        // goes the task, whether it waits or runs.
        service.engine.call_async(&task, deadline).kill_on_drop(true)
    }
    .await?;
    Ok(Json(Score { value: answer.int(0)?, message: answer.str(1)?.to_owned() }))
}

/// Whether to send requests here.
async fn ready(State(service): State<Arc<Service>>) -> (StatusCode, &'static str) {
    if service.leaving.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "leaving");
    }
    // Not `is_well`, for which one slow call is enough: that is for alerts.
    let serves =
        |state| matches!(state, WorkerState::Idle | WorkerState::Running | WorkerState::Computing);
    match service.health().await {
        Some(health)
            if health.takes_tasks && health.workers.iter().any(|worker| serves(worker.state)) =>
        {
            (StatusCode::OK, "ready")
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "no worker serves"),
    }
}

/// Whether to start the process anew: only when this says no several times in a row.
async fn health(State(service): State<Arc<Service>>) -> (StatusCode, Json<serde_json::Value>) {
    let Some(health) = service.health().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "is_well": false })));
    };
    let states: Vec<_> =
        health.workers.iter().map(|worker| format!("{:?}", worker.state)).collect();
    let status =
        if health.supervisor_responds { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let report = json!({
        "is_well": health.is_well,
        "takes_tasks": health.takes_tasks,
        "supervisor_responds": health.supervisor_responds,
        "workers": states,
        "in_use": health.in_use,
        "deaths": health.deaths,
    });
    (status, Json(report))
}
