//! What the environment says; every variable has a default.

use std::env::VarError;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::Failure;

#[derive(Debug)]
pub(crate) struct Settings {
    /// `LISTEN`, 127.0.0.1:8080. Port 0 is any port that is free.
    pub(crate) listen: String,
    /// `MODEL`, big_model:Engine.
    pub(crate) model: String,
    /// `MODEL_PATH`, python/models: folders, with colons between them.
    pub(crate) python_path: Vec<PathBuf>,
    /// `MODEL_INIT`, the model's initial keyword arguments: a JSON object.
    pub(crate) init_kwargs: Option<String>,
    /// `WORKERS`; as many as there are CPUs.
    pub(crate) workers: Option<usize>,
    /// `SLOTS`, 64: requests that run or wait at once. One more is told to come again.
    pub(crate) slots: usize,
    /// `DEADLINE_MS`, 1,000: for requests that name none.
    pub(crate) deadline: Duration,
    /// `MAX_DEADLINE_MS`, 10,000: for requests that name a longer one.
    pub(crate) max_deadline: Duration,
    /// `NOTICE_MS`, 0: how long requests are still taken after SIGTERM, while the readiness probe says
    /// no. As long as a balancer takes to notice.
    pub(crate) notice: Duration,
    /// `DRAIN_MS`, 15,000: how long requests may take after that.
    pub(crate) drain: Duration,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let path: String = variable("MODEL_PATH")?.unwrap_or_else(|| "python/models".to_owned());
        let ms = |name, default| -> Result<Duration, Failure> {
            Ok(Duration::from_millis(variable(name)?.unwrap_or(default)))
        };
        Ok(Self {
            listen: variable("LISTEN")?.unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            model: variable("MODEL")?.unwrap_or_else(|| "big_model:Engine".to_owned()),
            python_path: std::env::split_paths(&path).collect(),
            init_kwargs: variable("MODEL_INIT")?,
            workers: variable("WORKERS")?,
            slots: variable("SLOTS")?.unwrap_or(64),
            deadline: ms("DEADLINE_MS", 1_000)?,
            max_deadline: ms("MAX_DEADLINE_MS", 10_000)?,
            notice: ms("NOTICE_MS", 0)?,
            drain: ms("DRAIN_MS", 15_000)?,
        })
    }
}

fn variable<T: FromStr<Err: Display>>(name: &str) -> Result<Option<T>, Failure> {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("{name}={text}: {error}").into()),
        },
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(format!("{name}: {error}").into()),
    }
}
