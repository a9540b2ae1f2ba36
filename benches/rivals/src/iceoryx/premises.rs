//! A place of its own for each turn, and its clearing: iceoryx2 keeps files under a root folder
//! and in `/dev/shm`, and leaves some of them there.

use std::fs;
use std::path::Path;
use std::process;

use anyhow::{Context, anyhow};
use iceoryx2::config::Config;
use iceoryx2::prelude::{FileName, Path as IceoryxPath, SemanticString};
use tempfile::TempDir;

const SHARED_MEMORY: &str = "/dev/shm";

/// What the files of all turns begin with.
const PREFIX: &str = "nearcall-rivals-";

/// The place. Dropped last, when no process uses it any more.
pub(super) struct Premises {
    root: TempDir,
    prefix: String,
}

impl Premises {
    /// A new one. Clears those of programs that were killed.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new() -> anyhow::Result<Self> {
        clear(|rest| {
            let pid = rest.split('_').next().unwrap_or_default();
            !pid.is_empty() && !Path::new("/proc").join(pid).exists()
        });
        let prefix = format!("{PREFIX}{}_", process::id());
        Ok(Self { root: tempfile::Builder::new().prefix(PREFIX).tempdir()?, prefix })
    }

    /// The root folder.
    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// What the names in `/dev/shm` begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Tells iceoryx2 about it.
    ///
    /// # Errors
    /// When the folder for temporary files has a name that iceoryx2 cannot take.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::default();
        let root = self.root().as_os_str().as_encoded_bytes();
        let root = IceoryxPath::new(root).map_err(|why| anyhow!("{why:?}"));
        config.global.set_root_path(&root.context("a root folder of iceoryx2")?);
        config.global.prefix =
            FileName::new(self.prefix.as_bytes()).map_err(|why| anyhow!("{why:?}"))?;
        Ok(config)
    }
}

impl Drop for Premises {
    fn drop(&mut self) {
        let own = format!("{}_", process::id());
        clear(|rest| rest.starts_with(&own));
    }
}

/// Removes the entries of `/dev/shm` whose name, behind the prefix, is of this kind.
fn clear(kind: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(&kind)
        {
            // Another turn may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}
