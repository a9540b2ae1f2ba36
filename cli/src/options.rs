//! What the subcommands say about the engine, and what to do when it does not start.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use nearcall::error::StartError;
use nearcall::{Builder, Engine, PythonError};

/// How long an engine may take to end after its last task.
pub(crate) const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Worker processes [default: the CPUs available to this process]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,

    /// Virtual environment (or interpreter) of the model [default: $VIRTUAL_ENV, else python3 on
    /// PATH]
    #[arg(long, value_name = "VENV")]
    pub(crate) python: Option<PathBuf>,

    /// The nearcall-worker program, built for that Python's minor version [default:
    /// $NEARCALL_WORKER, else beside this program, else on PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) worker: Option<PathBuf>,

    /// Seconds that the model may take to import and initialise
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) start_deadline: u64,
}

impl EngineArgs {
    /// An engine's configuration with these settings.
    pub(crate) fn builder(&self, model: &str) -> Builder {
        let mut builder =
            Engine::builder(model).start_deadline(Duration::from_secs(self.start_deadline));
        if let Some(workers) = self.workers {
            builder = builder.workers(workers.get());
        }
        if let Some(python) = &self.python {
            builder = builder.python(python);
        }
        if let Some(worker) = &self.worker {
            builder = builder.worker(worker);
        }
        builder
    }

    /// How many workers that makes.
    pub(crate) fn worker_count(&self) -> usize {
        self.workers.map_or_else(nearcall::available_cpus, NonZeroUsize::get)
    }
}

/// The start error with what to do about it in terms of this command, where the library's own
/// advice is about its Rust interface.
pub(crate) fn explain(error: StartError, model: &str, python_path: &[PathBuf]) -> anyhow::Error {
    let (problem, advice) = match &error {
        StartError::Import { error } => (
            raised(&format!("{model} could not be imported"), error),
            if is_import_error(&error.kind) {
                format!(
                    "modules are looked for in {}, then in the environment: add a folder with \
                     --python-path, or choose the environment with --python",
                    folders(python_path)
                )
            } else {
                "correct the model, or the name of it; a class whose instances cannot be called \
                 needs --method"
                    .to_owned()
            },
        ),
        StartError::Initialize { error, .. } => (
            raised(&format!("{model} could not be initialised"), error),
            "initialize() gets the keywords of --init, a JSON object".to_owned(),
        ),
        StartError::WorkerNotFound { .. } | StartError::WorkerVersion { .. } => (
            error.to_string(),
            "name the program with --worker FILE; `make demo` builds one".to_owned(),
        ),
        StartError::PythonNotFound { .. } | StartError::PythonVersion { .. } => (
            error.to_string(),
            "choose the environment with --python VENV, the worker with --worker FILE".to_owned(),
        ),
        StartError::TimedOut { .. } => {
            (error.to_string(), "give it longer with --start-deadline SECONDS".to_owned())
        }
        _ => return error.into(),
    };
    anyhow!("{problem}\n\nWhat to do: {advice}")
}

/// What Python says itself, which ends with the exception.
fn raised(what: &str, error: &PythonError) -> String {
    match error.traceback.trim_end() {
        "" => format!("{what}: {error}"),
        traceback => format!("{what}\n{traceback}"),
    }
}

fn is_import_error(kind: &str) -> bool {
    matches!(kind, "ModuleNotFoundError" | "ImportError")
}

fn folders(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}

/// The path from the root, as processes with another working directory need it.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    // It fails for an empty path only, and then the library says so better.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
