//! The engine's errors as the exceptions of `nearcall.errors`.

use std::fmt::Display;

use nearcall::error::{
    Code, ReloadError, RetrieveError, StartError, SubmitError, TaskError, WaitError,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception for this code. Cold: whoever gets one has time for an import.
#[cold]
fn exception<'py>(
    py: Python<'py>,
    code: &str,
    message: &dyn Display,
    fill: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<()>,
) -> PyErr {
    let make = || {
        let details = PyDict::new(py);
        fill(&details)?;
        let arguments = (code, message.to_string(), details);
        py.import("nearcall.errors")?.call_method1("_make", arguments)
    };
    make().map_or_else(|error| error, PyErr::from_value)
}

fn bare(py: Python<'_>, code: Code, message: &dyn Display) -> PyErr {
    exception(py, code.as_str(), message, |_| Ok(()))
}

/// An argument that does not fit the signature.
#[cold]
pub(crate) fn mismatch(py: Python<'_>, message: &dyn Display) -> PyErr {
    bare(py, Code::Mismatch, message)
}

pub(crate) fn start(py: Python<'_>, error: &StartError) -> PyErr {
    let kind = match error {
        StartError::Config(_) => "config",
        StartError::WorkerNotFound { .. } => "worker_not_found",
        StartError::WorkerUnusable { .. } => "worker_unusable",
        StartError::WorkerVersion { .. } => "worker_version",
        StartError::PythonNotFound { .. } => "python_not_found",
        StartError::PythonUnusable { .. } => "python_unusable",
        StartError::PythonVersion { .. } => "python_version",
        StartError::PackageNotFound { .. } => "package_not_found",
        StartError::PackageVersion { .. } => "package_version",
        StartError::NoSharedMemory { .. } => "no_shared_memory",
        StartError::FileSizeLimit { .. } => "file_size_limit",
        StartError::Import { .. } => "import",
        StartError::Initialize { .. } => "initialize",
        StartError::Threads { .. } => "threads",
        StartError::Died { .. } => "died",
        StartError::TimedOut { .. } => "timed_out",
        _ => "system",
    };
    exception(py, "start", error, |details| {
        details.set_item("kind", kind)?;
        if let StartError::Import { error } | StartError::Initialize { error, .. } = error {
            details.set_item("traceback", error.in_full())?;
        }
        Ok(())
    })
}

pub(crate) fn submit(py: Python<'_>, error: &SubmitError) -> PyErr {
    bare(py, error.code(), error)
}

fn task(py: Python<'_>, error: &TaskError) -> PyErr {
    let code = error.code().as_str();
    match error {
        TaskError::Python(raised) => exception(py, code, raised, |details| {
            details.set_item("kind", &raised.kind)?;
            details.set_item("message", &raised.message)?;
            details.set_item("traceback", raised.in_full())
        }),
        TaskError::Died { pid, exit, report } => exception(py, code, error, |details| {
            details.set_item("pid", pid)?;
            details.set_item("exit", exit.to_string())?;
            details.set_item("out_of_memory", report.out_of_memory)?;
            details.set_item("killed_for", report.killed_for)?;
            details.set_item("last_words", &report.last_words)?;
            let earlier = report.earlier.iter().map(|death| (death.pid, death.exit.to_string()));
            details.set_item("earlier", earlier.collect::<Vec<_>>())
        }),
        _ => bare(py, error.code(), error),
    }
}

pub(crate) fn retrieve(py: Python<'_>, error: &RetrieveError) -> PyErr {
    match error {
        RetrieveError::Task(error) => task(py, error),
        _ => bare(py, error.code(), error),
    }
}

pub(crate) fn wait(py: Python<'_>, error: &WaitError) -> PyErr {
    match error {
        WaitError::Retrieve(error) => retrieve(py, error),
        _ => bare(py, error.code(), error),
    }
}

pub(crate) fn reload(py: Python<'_>, error: &ReloadError) -> PyErr {
    match error {
        ReloadError::Start(error) => start(py, error),
        ReloadError::ForkedChild => bare(py, Code::ForkedChild, error),
        ReloadError::Closed => bare(py, Code::Closed, error),
        ReloadError::TimedOut { .. } => bare(py, Code::TimedOut, error),
        _ => exception(py, "reload", error, |_| Ok(())),
    }
}
