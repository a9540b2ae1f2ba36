//! Finds the worker program and the Python, and makes sure that they fit this library and each
//! other, before any process gets the segment.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::builder::Worker;
use crate::error::StartError;
use crate::peer::{PYTHON_ARGUMENTS, Version};
use crate::sys::process::Watched;

const WORKER: &str = "nearcall-worker";
const WORKER_VARIABLE: &str = "NEARCALL_WORKER";

/// A worker of this version.
pub(crate) struct Found {
    pub(crate) worker: PathBuf,
    /// What stands between the program and a worker's own arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The Python to look like, if the worker has one in it.
    pub(crate) python: Option<PathBuf>,
}

/// Finds both. `deadline` bounds the programs that are asked for their versions, `interpreter_options` are
/// for an interpreter that is the worker.
pub(crate) fn discover(
    worker: &Worker,
    interpreter_options: &[OsString],
    python: Option<&Path>,
    deadline: Instant,
) -> Result<Found, StartError> {
    let worker = match worker {
        Worker::Python => {
            return discover_package(find_python(python)?, interpreter_options, deadline);
        }
        Worker::Binary(path) => find_worker(Some(path))?,
        Worker::Found => find_worker(None)?,
    };
    let version = ask_worker(&worker, deadline)?;
    let arguments = Vec::new();
    let Some(language) = version.language else {
        return Ok(Found { worker, arguments, python: None });
    };
    let interpreter = find_python(python)?;
    let answer = ask_python(&interpreter, deadline)?;
    let found = format!("{}.{}", answer.major, answer.minor);
    if found != language.python {
        return Err(StartError::PythonVersion {
            python: interpreter,
            found,
            worker,
            built_for: language.python,
        });
    }
    Ok(Found { worker, arguments, python: Some(answer.executable) })
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Package {
    /// What its `--version --json` says.
    Version(Version),
    /// Why it cannot be imported.
    Missing(String),
}

#[derive(Deserialize)]
struct PackageAnswer {
    executable: PathBuf,
    package: Package,
}

/// An interpreter that is to be the worker itself, by the package in its environment.
fn discover_package(
    python: PathBuf,
    options: &[OsString],
    deadline: Instant,
) -> Result<Found, StartError> {
    // The first lines are those of `PYTHON_ARGUMENTS`: what is found here is what is started.
    const QUESTION: &str = "import sys; sys.path[:1] == [''] and sys.path.pop(0)
import json
try:
    from nearcall.worker import version
    package = {'version': json.loads(version())}
except ImportError as error:
    package = {'missing': str(error)}
print(json.dumps({'executable': sys.executable, 'package': package}))";
    let unusable =
        |python: &Path, reason| StartError::PythonUnusable { python: python.to_owned(), reason };
    let mut command = Command::new(&python);
    command.args(options).args(["-c", QUESTION]);
    let output = run(command, deadline).map_err(|reason| unusable(&python, reason))?;
    let answer: PackageAnswer = serde_json::from_str(&output)
        .map_err(|error| unusable(&python, format!("its answer cannot be read: {error}")))?;
    let version = match answer.package {
        Package::Version(version) => version,
        Package::Missing(reason) => {
            return Err(StartError::PackageNotFound { python: answer.executable, reason });
        }
    };
    let own = Version::own(None);
    if !version.fits(&own) {
        let (found, expected) = (version.to_string(), own.to_string());
        return Err(StartError::PackageVersion { python: answer.executable, found, expected });
    }
    // A shim, or a link, has served its turn: the interpreter itself is started.
    let worker = answer.executable;
    let own = PYTHON_ARGUMENTS.map(OsString::from);
    let arguments = options.iter().cloned().chain(own).collect();
    Ok(Found { python: Some(worker.clone()), arguments, worker })
}

fn find_worker(given: Option<&Path>) -> Result<PathBuf, StartError> {
    let mut tried = Vec::new();
    let mut check = |path: PathBuf, source: &str| {
        let usable = is_executable(&path);
        if !usable {
            tried.push(format!("{} ({source})", path.display()));
        }
        usable.then_some(path)
    };
    let variable = std::env::var_os(WORKER_VARIABLE).filter(|value| !value.is_empty());
    // Who names a worker means that one: there is no second choice then.
    let found = if let Some(given) = given {
        check(given.to_owned(), ".worker(path)")
    } else if let Some(variable) = variable {
        check(variable.into(), "$NEARCALL_WORKER")
    } else {
        std::env::current_exe()
            .ok()
            .and_then(|executable| {
                check(executable.with_file_name(WORKER), "beside the executable")
            })
            .or_else(|| {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path)
                    .map(|folder| folder.join(WORKER))
                    .find(|candidate| is_executable(candidate));
                if found.is_none() {
                    tried.push(format!("{WORKER} on PATH"));
                }
                found
            })
    };
    found.ok_or(StartError::WorkerNotFound { tried })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn ask_worker(worker: &Path, deadline: Instant) -> Result<Version, StartError> {
    let unusable = |reason| StartError::WorkerUnusable { worker: worker.to_owned(), reason };
    let mut command = Command::new(worker);
    command.args(["--version", "--json"]);
    let output = run(command, deadline).map_err(unusable)?;
    let version: Version = serde_json::from_str(&output)
        .map_err(|error| unusable(format!("its --version --json cannot be read: {error}")))?;
    let own = Version::own(None);
    if version.fits(&own) {
        Ok(version)
    } else {
        Err(StartError::WorkerVersion {
            worker: worker.to_owned(),
            found: version.to_string(),
            expected: own.to_string(),
        })
    }
}

fn find_python(given: Option<&Path>) -> Result<PathBuf, StartError> {
    if let Some(given) = given {
        return interpreter_in(given);
    }
    match std::env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty()) {
        Some(environment) => interpreter_in(Path::new(&environment)),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path)
                .map(|folder| folder.join("python3"))
                .find(|candidate| is_executable(candidate))
                .ok_or_else(|| StartError::PythonNotFound {
                    reason: "no $VIRTUAL_ENV, and no python3 on PATH; name one with .python(path)"
                        .to_owned(),
                })
        }
    }
}

/// The interpreter that a path means: itself, or the one of the environment in that folder.
fn interpreter_in(path: &Path) -> Result<PathBuf, StartError> {
    let not_found = |reason| Err(StartError::PythonNotFound { reason });
    if path.is_dir() {
        let interpreter = path.join("bin/python");
        let interpreter =
            if is_executable(&interpreter) { interpreter } else { path.join("bin/python3") };
        if is_executable(&interpreter) {
            Ok(interpreter)
        } else {
            not_found(format!("{} has no bin/python: it is no environment", path.display()))
        }
    } else if is_executable(path) {
        Ok(path.to_owned())
    } else if path.exists() {
        not_found(format!("{} cannot be executed", path.display()))
    } else {
        not_found(format!("{} does not exist", path.display()))
    }
}

#[derive(Deserialize)]
struct PythonAnswer {
    major: u32,
    minor: u32,
    executable: PathBuf,
}

/// Asks the interpreter itself: shims and links make its path tell little.
fn ask_python(python: &Path, deadline: Instant) -> Result<PythonAnswer, StartError> {
    const QUESTION: &str = "import json, sys; print(json.dumps({'major': sys.version_info[0], \
                            'minor': sys.version_info[1], 'executable': sys.executable}))";
    let unusable = |reason| StartError::PythonUnusable { python: python.to_owned(), reason };
    let mut command = Command::new(python);
    command.args([OsString::from("-S"), "-c".into(), QUESTION.into()]);
    let output = run(command, deadline).map_err(unusable)?;
    serde_json::from_str(&output)
        .map_err(|error| unusable(format!("its answer cannot be read: {error}")))
}

/// What a program prints, if it ends well and in time.
fn run(mut command: Command, deadline: Instant) -> Result<String, String> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let patience = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(30));
    let output = Watched::start(command)
        .and_then(|watched| watched.output(patience))
        .map_err(|error| format!("it cannot be run: {error}"))?;
    String::from_utf8(output).map_err(|_| "its output is no text".to_owned())
}
