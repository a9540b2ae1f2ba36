//! The Python functions that are called, with their arguments and what they must answer.
//!
//! All live in `benches/models/`, and take and return the same things whoever calls them.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// The arguments of `big_model` in every row (`docs/performance.md`).
pub const FLOATS: [f64; 3] = [1.1, 11.2, 0.3];
/// As [`FLOATS`].
pub const STRS: [&str; 2] = ["abc", "cdavfdv"];
/// As [`FLOATS`].
pub const INT: i64 = 27;
/// What `big_model` answers: `(49, "")`.
pub const BIG_MODEL_ANSWER: i64 = 49;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// `noop(number=int) -> int`: returns its argument.
    Noop,
    /// `big_model(float_features=[float; 3], str_features=[str; 2], int_feature=int)` →
    /// `(int, str)`: the seed's model without its sleep.
    BigModel,
    /// `echo(text=str) -> str`: returns its argument, of this many bytes.
    Echo(usize),
    /// `garbage(number=int) -> int`: returns its argument, and leaves cyclic garbage behind.
    Garbage,
}

impl Workload {
    /// Its name in `bench.json`.
    pub fn name(self) -> String {
        match self {
            Self::Noop => "noop".to_owned(),
            Self::BigModel => "big_model".to_owned(),
            Self::Echo(bytes) => format!("echo_{bytes}"),
            Self::Garbage => "garbage".to_owned(),
        }
    }

    /// The method of `bench_model.Model` (and function of `bench_model`).
    pub fn method(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::BigModel => "big_model",
            Self::Echo(_) => "echo",
            Self::Garbage => "garbage",
        }
    }
}

const MODELS: [(&str, &str); 2] = [
    ("bench_model.py", include_str!("../models/bench_model.py")),
    ("tensor_model.py", include_str!("../models/tensor_model.py")),
];

/// A private folder with the models, removed when dropped. The program carries them, so that it
/// runs from anywhere.
pub struct Models(TempDir);

impl Models {
    /// Writes them.
    ///
    /// # Errors
    /// What the system says.
    pub fn unpack() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("nearcall-bench-").tempdir()?;
        for (name, text) in MODELS {
            fs::write(folder.path().join(name), text)?;
        }
        Ok(Self(folder))
    }

    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}
