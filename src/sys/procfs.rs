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

    /// What it has of the machine's memory. `None` if it has ended, or where the kernel does not say
    /// (before 4.14, or to another user).
    pub(crate) fn shares_of_memory(&self) -> Option<MemoryShares> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        // As in `state`.
        if self.has_ended_by(Instant::now()) {
            return None;
        }
        MemoryShares::parse(&rollup)
    }

    /// Bytes of its memory that are resident, those that it shares with others included; but not shared
    /// memory, which is the segment: how much of that it has looked at is not its own doing.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(&fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?)
    }
}

/// A process' resident memory, in bytes, by whom it shares it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    /// All of it.
    pub(crate) resident: u64,
    /// Its proportional part: a page that n processes have counts 1/n.
    pub(crate) proportional: u64,
    /// What nobody else has.
    pub(crate) private: u64,
}

fn resident_bytes(status: &str) -> Option<u64> {
    let shared = kilobytes(status, "RssShmem:").unwrap_or(0);
    Some(kilobytes(status, "VmRSS:")?.saturating_sub(shared))
}

/// What the line of this name says, as "name: number kB", in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

impl MemoryShares {
    fn parse(rollup: &str) -> Option<Self> {
        let bytes = |name| kilobytes(rollup, name);
        Some(Self {
            resident: bytes("Rss:")?,
            proportional: bytes("Pss:")?,
            private: bytes("Private_Clean:")?.checked_add(bytes("Private_Dirty:")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "55d0c0000000-7ffd00000000 ---p 00000000 00:00 0    [rollup]\n\
        Rss:                2000 kB\nPss:                1000 kB\nPss_Anon:            400 kB\n\
        Shared_Clean:       1400 kB\nPrivate_Clean:       100 kB\nPrivate_Dirty:       500 kB\n";

    #[test]
    fn shared_memory_does_not_count_as_resident() {
        let status = "Name:\tVmRSS: 1 kB\nVmRSS:\t    5000 kB\nRssAnon:\t    3000 kB\n\
                      RssFile:\t     500 kB\nRssShmem:\t    1500 kB\n";
        assert_eq!(resident_bytes(status), Some(3500 << 10));
        // Before Linux 4.5.
        assert_eq!(resident_bytes("VmRSS:\t 5000 kB\n"), Some(5000 << 10));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn the_shares_of_memory_are_read_as_the_kernel_writes_them_or_not_at_all() {
        let shares = MemoryShares::parse(ROLLUP).unwrap();
        assert_eq!(shares.resident, 2000 << 10);
        assert_eq!(shares.proportional, 1000 << 10);
        assert_eq!(shares.private, 600 << 10);
        for broken in ["", "Rss: 5 kB", &ROLLUP.replace("kB", "MB"), &ROLLUP.replace("1000", "-1")]
        {
            assert_eq!(MemoryShares::parse(broken), None, "{broken}");
        }
    }
}
