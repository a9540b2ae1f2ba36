//! The Python that everything in a run has.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// An interpreter, as it names itself.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Its path: of a virtual environment, if it is one's.
    pub executable: PathBuf,
    /// `3.11.2`.
    pub version: String,
}

impl Interpreter {
    /// The one that is meant by a path: itself, or the one of the environment in that folder.
    /// Without a path, the one that the library takes: of `$VIRTUAL_ENV`, else `python3` on
    /// `PATH`.
    ///
    /// # Errors
    /// It does not run.
    pub fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        let environment = env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty());
        let path = match (given, environment) {
            (Some(given), _) if given.is_dir() => given.join("bin/python"),
            (Some(given), _) => given.to_owned(),
            (None, Some(environment)) => Path::new(&environment).join("bin/python"),
            (None, None) => "python3".into(),
        };
        Self::ask(&path).with_context(|| format!("{} is no usable Python", path.display()))
    }

    /// Shims and links make a path tell little.
    fn ask(path: &Path) -> anyhow::Result<Self> {
        const QUESTION: &str =
            "import sys; print(sys.executable, '%d.%d.%d' % sys.version_info[:3], sep='\\n')";
        let output = Command::new(path)
            .args(["-S", "-c", QUESTION])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "it ended with {}", output.status);
        let said = String::from_utf8(output.stdout)?;
        let (executable, version) = said.trim().split_once('\n').context("it said nothing")?;
        Ok(Self { executable: executable.into(), version: version.to_owned() })
    }
}
