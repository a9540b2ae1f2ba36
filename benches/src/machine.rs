//! What is told about the machine and about what was measured.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rows::Machine;

/// What is said when the system does not say.
const UNKNOWN: &str = "unknown";

/// How long the machine is looked at before a run, to see whether it is idle.
const LOOK: Duration = Duration::from_millis(500);

impl Machine {
    /// This machine, now. `python` is the version. Takes half a second.
    pub fn here(python: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let before = CpuTime::now();
        thread::sleep(LOOK);
        let busy = before.zip(CpuTime::now()).map(|(before, now)| now.busy_since(before));
        Self {
            cpu: cpu(&read("/proc/cpuinfo")).unwrap_or(UNKNOWN).to_owned(),
            cpus: nearcall::available_cpus(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            python: python.to_owned(),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
            busy_percent: busy.unwrap_or(0.0),
            steal_percent: 0.0,
        }
    }
}

/// The first CPU's name. Some architectures have none.
fn cpu(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// The time of all CPUs so far, and what of it a hypervisor gave to others, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl CpuTime {
    /// Now; `None` if the system does not say.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// "cpu  user nice system idle iowait irq softirq steal guest guest_nice", and guests are
    /// counted in user and nice already.
    fn parse(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let numbers: Vec<u64> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let idle = numbers.get(3)? + numbers.get(4)?;
        Some(Self { all: numbers.iter().sum(), idle, stolen: *numbers.get(7)? })
    }

    /// How much of the time since `earlier` was used, in per cent.
    fn busy_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        100.0 - self.idle.saturating_sub(earlier.idle) as f64 / all as f64 * 100.0
    }

    /// How much of the time since `earlier` was stolen, in per cent.
    pub fn stolen_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64 * 100.0
    }
}

/// The commit of the sources that this was built from, `-dirty` if files have been changed.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["--no-optional-locks", "-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return UNKNOWN.to_owned() };
    let clean = git(&["status", "--porcelain"]).is_some_and(|changed| changed.is_empty());
    if clean { commit } else { commit + "-dirty" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all_time() {
        let earlier = CpuTime::parse("cpu  10 0 10 80 0 0 0 0 7 0\ncpu0 1\n").unwrap();
        let later = CpuTime::parse("cpu  60 0 20 100 0 0 0 20 9 0\ncpu0 1\n").unwrap();
        assert_eq!(later.stolen_since(earlier), 20.0);
        assert_eq!(later.stolen_since(later), 0.0);
        assert_eq!(later.busy_since(earlier), 80.0);
        assert_eq!(CpuTime::parse("intr 1 2 3\n"), None);
        assert!(CpuTime::now().is_some());
    }

    #[test]
    fn a_cpu_has_its_name_or_none() {
        let x86 = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9B14\n";
        assert_eq!((cpu(x86), cpu("processor\t: 0\n")), (Some("AMD EPYC 9B14"), None));
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let machine = Machine::here("3.11.2");
        assert!(machine.cpus > 0 && machine.unix_time > 1_700_000_000, "{machine:?}");
        assert!(machine.kernel.contains('.') && !commit().is_empty(), "{machine:?}");
    }
}
