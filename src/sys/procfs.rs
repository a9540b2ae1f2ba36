//! What /proc says of a process that is watched.

use std::fs;
use std::time::Instant;

use super::process::Process;

/// What a process does, in the words of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// It uses a CPU, or would if it got one.
    Runs,
    /// It waits for something.
    Sleeps,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// There is none any more.
    Ended,
}

impl Process {
    /// What it does at this moment.
    pub(crate) fn state(&self) -> ProcessState {
        // "pid (name) state …"; the name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        // Asked afterwards: until it has ended, the number was its own.
        if self.has_ended_by(Instant::now()) {
            return ProcessState::Ended;
        }
        match state {
            Some('T' | 't') => ProcessState::Stopped,
            Some('R') => ProcessState::Runs,
            _ => ProcessState::Sleeps,
        }
    }

    /// Bytes of its memory that are resident, those that it shares with others included.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        // "size resident shared …", in pages.
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}
