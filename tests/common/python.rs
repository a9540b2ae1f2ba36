//! Pythons to test with, and how their tasks end.

use std::path::PathBuf;

use nearcall::error::{CallError, RetrieveError, TaskError, WaitError};
use nearcall::{Builder, Engine, PythonError, Refusal};

use super::{Bench, PATIENCE, leak_free};

/// A Python to test with.
pub(crate) struct Python {
    pub(crate) minor: String,
    pub(crate) environment: PathBuf,
    pub(crate) worker: PathBuf,
}

impl Python {
    pub(crate) fn builder(&self, bench: &Bench, model: &str) -> Builder {
        bench
            .mark(Engine::builder(model))
            .worker(&self.worker)
            .python(&self.environment)
            .python_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models"))
            // A fork server that is killed leaves its model's temporary folder.
            .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
            .workers(2)
            .start_deadline(PATIENCE)
    }
}

/// Those in `$NEARCALL_TEST_PYTHONS` (see `scripts/test`, which sets it).
pub(crate) fn pythons() -> Vec<Python> {
    let Ok(pythons) = std::env::var("NEARCALL_TEST_PYTHONS") else {
        eprintln!("SKIPPED: no $NEARCALL_TEST_PYTHONS; `make test` sets it");
        return Vec::new();
    };
    pythons
        .split(';')
        .map(|python| {
            let mut parts = python.split('=');
            let mut next = || parts.next().unwrap().to_owned();
            Python { minor: next(), environment: next().into(), worker: next().into() }
        })
        .collect()
}

/// Runs a test with each Python.
pub(crate) fn each(test: impl Fn(&Bench, &Python)) {
    for python in pythons() {
        leak_free(|bench| test(bench, &python));
    }
}

pub(crate) fn python_error(error: CallError) -> PythonError {
    match error {
        CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Python(error)))) => {
            error
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn refusal(error: CallError) -> Refusal {
    match error {
        CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Refused(refusal)))) => {
            refusal
        }
        other => panic!("{other:?}"),
    }
}
