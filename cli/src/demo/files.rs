//! The demo's Python files, carried in this program so that it runs from anywhere.

use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

const DRIVER: &str = include_str!("../../../python/pool_driver.py");
const MODEL: &str = include_str!("../../../python/models/big_model.py");

/// A private folder with the files, laid out as in the repository. Removed when dropped.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn unpack() -> io::Result<Self> {
        let files = Self(tempfile::Builder::new().prefix("nearcall-demo-").tempdir()?);
        fs::create_dir(files.models())?;
        fs::write(files.models().join("big_model.py"), MODEL)?;
        fs::write(files.driver(), DRIVER)?;
        Ok(files)
    }

    /// The folder of the model.
    pub(crate) fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    /// The program that runs the pool.
    pub(crate) fn driver(&self) -> PathBuf {
        self.0.path().join("pool_driver.py")
    }
}
