//! What the kernel counts for this process' cgroup.

use std::fs;
use std::path::{Path, PathBuf};

/// The kernel's count of kills for lack of memory in this process' cgroup.
#[derive(Debug)]
pub(crate) struct OomCounter {
    file: Option<PathBuf>,
    seen: Option<u64>,
}

impl OomCounter {
    pub(crate) fn new() -> Self {
        let file = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| find(&text));
        let seen = file.as_deref().and_then(read);
        Self { file, seen }
    }

    /// Whether there was a kill that was not asked for yet; `None` if the count cannot be read. So of
    /// two deaths with two kills each gets one.
    pub(crate) fn take_kill(&mut self) -> Option<bool> {
        let now = read(self.file.as_deref()?)?;
        let seen = self.seen.as_mut()?;
        let is_new = now > *seen;
        *seen += u64::from(is_new);
        Some(is_new)
    }
}

/// The file that has the counter, by what /proc/self/cgroup says.
fn find(cgroups: &str) -> Option<PathBuf> {
    const ROOT: &str = "/sys/fs/cgroup";
    let candidates = cgroups.lines().filter_map(|line| {
        // "number:controllers:path"; version 2 has no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        match controllers {
            "" => Some(Path::new(ROOT).join(path).join("memory.events")),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                Some(Path::new(ROOT).join("memory").join(path).join("memory.oom_control"))
            }
            _ => None,
        }
    });
    // In a container the path may be the host's: then its own cgroup is mounted as the root.
    let mounted = ["memory.events", "memory/memory.oom_control"].map(|f| Path::new(ROOT).join(f));
    candidates.chain(mounted).find(|file| read(file).is_some())
}

fn read(file: &Path) -> Option<u64> {
    count(&fs::read_to_string(file).ok()?)
}

/// The number in the line `oom_kill`, which both versions have.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_from_the_files_of_both_versions() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(count(events), Some(2));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn a_rise_is_told_once_and_a_counter_that_is_not_there_is_unknown() {
        let file = std::env::temp_dir().join(format!("nearcall-oom-{}", std::process::id()));
        fs::write(&file, "oom_kill 1\n").unwrap();
        let mut counter = OomCounter { file: Some(file.clone()), seen: Some(1) };
        assert_eq!(counter.take_kill(), Some(false));
        fs::write(&file, "oom_kill 3\n").unwrap();
        assert_eq!(counter.take_kill(), Some(true));
        assert_eq!(counter.take_kill(), Some(true), "one for each kill");
        assert_eq!(counter.take_kill(), Some(false));
        fs::remove_file(&file).unwrap();
        assert_eq!(counter.take_kill(), None);
        assert_eq!(OomCounter { file: None, seen: None }.take_kill(), None);
    }
}
