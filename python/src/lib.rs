//! `nearcall._native`: what the Python package `nearcall` is made of.
//!
//! # Layout
//! - `engine`: the class that `nearcall.Engine` inherits from
//! - `ticket`: a task as Python has it
//! - `completions`: what an event loop watches
//! - `report`: what an engine tells of itself
//! - `options`: what an engine is started with
//! - `task`: Python's keyword arguments to a task
//! - `waiting`: waits without the GIL, which signals end
//! - `errors`: the engine's errors as Python exceptions
//!
//! Answers and values are `nearcall_worker::convert`'s, so that a host sees what a model sees. The
//! worker is all in `nearcall_worker`: `_native` has its door.

mod completions;
mod engine;
mod errors;
mod options;
mod report;
mod task;
mod ticket;
mod waiting;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::completions::Completions;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::ticket::Ticket;

    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// Makes this process, whose interpreter has just been started, a worker's. Gives its exit status.
    #[pyfunction]
    fn worker_main(
        py: Python<'_>,
        arguments: Vec<String>,
        interpreter: Vec<OsString>,
    ) -> PyResult<u8> {
        nearcall_worker::run_in_python(py, arguments, interpreter)
    }

    /// What `nearcall-worker --version --json` prints.
    #[pyfunction]
    fn worker_version() -> String {
        nearcall_worker::version()
    }

    /// CPUs that this process may use.
    #[pyfunction]
    fn available_cpus() -> usize {
        nearcall::available_cpus()
    }
}
