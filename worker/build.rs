//! Links the worker to the libpython of the interpreter that `PYO3_PYTHON` names (else of the
//! `python3` on PATH), and makes the program find that very library when it runs.

use std::path::Path;
use std::process::ExitCode;

use pyo3_build_config::{InterpreterConfig, PythonImplementation};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={EXTENSION}");
    let python = pyo3_build_config::get();
    // The tests start the interpreter they were built for.
    println!("cargo::rustc-env=NEARCALL_BUILT_FOR={}", executable(python));
    if std::env::var_os(EXTENSION).is_some() {
        // A part of the package's extension module: the interpreter that loads it is there already.
        return ExitCode::SUCCESS;
    }
    if let Err(problem) = check(python) {
        println!("cargo::error={problem}");
        return ExitCode::FAILURE;
    }
    // Without this the loader takes the first libpython of that minor version it finds, which may
    // be another build than the one the worker was compiled for.
    pyo3_build_config::add_libpython_rpath_link_args();
    ExitCode::SUCCESS
}

/// Set by maturin, for PyO3 too: an extension module is linked to no libpython.
const EXTENSION: &str = "PYO3_BUILD_EXTENSION_MODULE";

/// Says what is missing before the linker does it in its own words.
fn check(python: &InterpreterConfig) -> Result<(), String> {
    let who = executable(python);
    let version = python.version();
    if python.implementation() != PythonImplementation::CPython || python.is_free_threaded() {
        return Err(format!("{who} is no CPython with a GIL, the only kind that nearcall embeds"));
    }
    if !python.shared() {
        return Err(format!(
            "{who} was built without a shared libpython, which extension modules need in an \
             embedding program. Install one that has it (with pyenv: \
             PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {version}) and name it in \
             PYO3_PYTHON"
        ));
    }
    if let (Some(folder), Some(name)) = (python.lib_dir(), python.lib_name())
        && !Path::new(folder).join(format!("lib{name}.so")).exists()
    {
        return Err(format!(
            "{who} has no lib{name}.so in {folder}. Install its development files (Debian, \
             Ubuntu: apt-get install libpython{version}-dev; Fedora: dnf install \
             python{version}-devel) or name another Python in PYO3_PYTHON"
        ));
    }
    Ok(())
}

fn executable(python: &InterpreterConfig) -> &str {
    python.executable().unwrap_or("the configured Python")
}
