//! What is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use crate::tally::Record;

/// The variable by which the storm's processes are told from all others.
pub(crate) const MARK: &str = "NEARCALL_STORM_MARK";

/// The kernel takes a moment to end what was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a process can leave behind.
pub(crate) struct Possessions {
    descriptors: usize,
    threads: usize,
    names: BTreeSet<String>,
}

impl Possessions {
    pub(crate) fn now() -> Self {
        Self {
            descriptors: numbers_in("/proc/self/fd").count(),
            threads: numbers_in("/proc/self/task").count(),
            names: fs::read_dir("/dev/shm")
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name.starts_with("nearcall-"))
                .collect(),
        }
    }

    /// Records what is there now and was not there then.
    pub(crate) fn compare(&self, record: &Record) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::now();
            let processes = processes();
            let names: Vec<_> = now.names.difference(&self.names).collect();
            let leaked = processes.len()
                + names.len()
                + now.descriptors.saturating_sub(self.descriptors)
                + now.threads.saturating_sub(self.threads);
            if leaked == 0 {
                return;
            }
            if Instant::now() >= deadline {
                record.find(format!(
                    "leaked: processes {processes:?}, names {names:?}, descriptors {} → {}, \
                     threads {} → {}",
                    self.descriptors, now.descriptors, self.threads, now.threads
                ));
                record.sheet(crate::plan::DIRECTOR).tally().leaked += leaked as u64;
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Bytes of shared memory that this process' engine has. (Blocks are of 512 bytes.)
pub(crate) fn shared_bytes() -> u64 {
    let segments = numbers_in("/proc/self/fd").filter_map(|number| {
        let descriptor = format!("/proc/self/fd/{number}");
        let is_segment =
            fs::read_link(&descriptor).ok()?.to_str()?.starts_with("/dev/shm/nearcall-");
        is_segment.then(|| fs::metadata(descriptor).map_or(0, |file| file.blocks() * 512))
    });
    segments.max().unwrap_or(0)
}

/// The processes that this storm has started and that have not ended; zombies count.
pub(crate) fn processes() -> BTreeSet<u32> {
    let wanted = format!("{MARK}={}", process::id());
    let own = process::id().to_string();
    numbers_in("/proc")
        .filter(|pid| {
            let marked = fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
            });
            marked || {
                let (state, parent) = state_and_parent(*pid).unwrap_or_default();
                state == 'Z' && parent == own
            }
        })
        .collect()
}

/// The state letter of a process, and its parent.
pub(crate) fn state_and_parent(pid: u32) -> Option<(char, String)> {
    // "pid (comm) state ppid …"; the comm may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.to_owned()))
}

fn numbers_in(folder: &str) -> impl Iterator<Item = u32> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
