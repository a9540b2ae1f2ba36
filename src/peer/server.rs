//! The fork server (being written).
use super::Runtime;
use std::process::ExitCode;

/// What `nearcall-worker --version` tells about its language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language {
    /// Python's minor version, as in `3.11`.
    pub python: String,
    /// The libpython that the worker runs, as the dynamic linker found it.
    pub libpython: String,
}

/// The whole program of a worker binary: reads the process' arguments, answers `--version`,
/// or serves as fork server or as a worker that was started from scratch.
///
/// `language` is `None` for a worker without Python.
pub fn run<R: Runtime>(language: Option<&Language>, runtime: impl FnOnce() -> R) -> ExitCode {
    let _ = (language, runtime);
    unimplemented!()
}
