//! The program as a child process in a place of its own, and what can be seen of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nearcall_bench::measure::Span;
use nearcall_bench::order::Order;
use nearcall_bench::workload::Workload;
use serde_json::Value;
use tempfile::TempDir;

/// All systems.
pub(crate) const ALL: [&str; 6] = [
    "multiprocessing.Pool",
    "ProcessPoolExecutor",
    "unix socket + msgpack",
    "zeromq ipc",
    "iceoryx2, spinning",
    "iceoryx2, blocking",
];

/// Those that many calls may be on their way in.
pub(crate) const PIPELINED: &[&str] = ALL.split_at(2).1;

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// An order for two workers.
pub(crate) fn order(
    system: &str,
    workload: Workload,
    submitters: usize,
    span: Span,
    models: &Path,
) -> Order {
    let python = std::env::var_os("NEARCALL_RIVALS_PYTHON").unwrap_or_else(|| "python3".into());
    Order {
        workload: Some(workload),
        submitters,
        workers: 2,
        ..Order::new(system, span, PathBuf::from(python), models.to_owned())
    }
}

/// The program, with a folder for temporary files that only it has.
pub(crate) struct Rivals {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    temporary: TempDir,
}

impl Rivals {
    pub(crate) fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_nearcall-rivals"))
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Self { child, to, from, temporary }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn begin(&mut self, order: &Order) {
        writeln!(self.to, "{}", serde_json::to_string(order).unwrap()).unwrap();
    }

    pub(crate) fn run(&mut self, order: &Order) -> Value {
        self.begin(order);
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// All processes below the program, once so many call a model; none if the system is not here.
    pub(crate) fn wait_for_workers(&mut self, workers: usize) -> Option<Vec<u32>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen: Vec<u32> = Vec::new();
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            let below = processes_below(self.pid());
            // Not the short look whether a package is there.
            if below.len() >= workers && below == seen {
                return Some(below);
            }
            seen = below;
            sleep(Duration::from_millis(200));
            if self.answered() {
                return None;
            }
        }
        panic!("no workers were started");
    }

    /// Whether there is something to read.
    fn answered(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let from = PollFd::new(self.from.get_ref().as_fd(), PollFlags::POLLIN);
        poll(&mut [from], PollTimeout::ZERO).unwrap() > 0
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// No process, no file, nothing in the shared memory.
    pub(crate) fn assert_nothing_left(&self, system: &str) {
        let below = processes_below(self.pid());
        assert!(below.is_empty(), "{system} left processes: {below:?}");
        let files: Vec<_> = fs::read_dir(self.temporary.path()).unwrap().collect();
        assert!(files.is_empty(), "{system} left {files:?}");
        let shared = shared_memory_of(self.pid());
        assert!(shared.is_empty(), "{system} left {shared:?}");
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program with this number has in the shared memory under its name.
pub(crate) fn shared_memory_of(program: u32) -> Vec<String> {
    let names = fs::read_dir("/dev/shm").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&format!("nearcall-rivals-{program}_"))).collect()
}

/// Parent and state of a process.
fn parent_and_state(pid: u32) -> Option<(u32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// Children, their children, and so on, that have not ended.
pub(crate) fn processes_below(pid: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_and_state(pid)?)))
        .filter(|(_, (_, state))| *state != 'Z')
        .map(|(pid, (parent, _))| (pid, parent))
        .collect();
    let mut below = vec![pid];
    let mut at = 0;
    while let Some(of) = below.get(at).copied() {
        below.extend(all.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        at += 1;
    }
    below.remove(0);
    below
}

/// Waits until all these processes have ended, whoever is their parent now.
pub(crate) fn wait_until_ended(pids: &[u32], system: &str) {
    let deadline = Instant::now() + PATIENCE;
    let lives = |pid: &&u32| parent_and_state(**pid).is_some_and(|(_, state)| state != 'Z');
    while let Some(pid) = pids.iter().find(lives) {
        assert!(Instant::now() < deadline, "process {pid} of {system} lives on");
        sleep(Duration::from_millis(10));
    }
}
