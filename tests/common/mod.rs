//! What the tests of the engine share: the worker without Python, a probe for leaks, a time limit.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

pub(crate) mod awaiting;
pub(crate) mod crash;
pub(crate) mod python;
pub(crate) mod table;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nearcall::error::{CallError, DeathReport, RetrieveError, TaskError, WaitError};
use nearcall::{Builder, Engine, Exit, Task};

/// Long enough for anything that ends at all on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A test that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The variable by which processes of one test are told from all others.
const MARK: &str = "NEARCALL_TEST_MARK";

/// One test's surroundings.
pub(crate) struct Bench {
    mark: String,
}

impl Bench {
    /// A builder for the Rust worker's model of this name, with two workers.
    pub(crate) fn builder(&self, model: &str) -> Builder {
        Engine::builder(format!("test:{model}"))
            .worker(env!("CARGO_BIN_EXE_nearcall-test-worker"))
            .env(MARK, &self.mark)
            .workers(2)
            .start_deadline(PATIENCE)
    }

    /// The bench of the test that has started this process with [`Bench::mark_host`].
    pub(crate) fn of_parent() -> Self {
        Self { mark: std::env::var(MARK).unwrap() }
    }

    /// Marks a host that a test starts; the processes of its engines have the mark from it.
    pub(crate) fn mark_host(&self, host: &mut process::Command) {
        host.env(MARK, &self.mark);
    }

    /// Marks the processes of an engine that another builder starts.
    pub(crate) fn mark(&self, builder: Builder) -> Builder {
        builder.env(MARK, &self.mark)
    }

    /// The processes that this test has started and that have not ended; zombies count.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let wanted = format!("{MARK}={}", self.mark);
        numbers_in("/proc")
            .filter(|pid| {
                fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                    environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
                })
            })
            .chain(zombie_children())
            .collect()
    }
}

pub(crate) fn numbers_in(folder: &str) -> impl Iterator<Item = u32> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn zombie_children() -> impl Iterator<Item = u32> {
    let own = process::id().to_string();
    numbers_in("/proc").filter(move |pid| {
        // "pid (comm) state ppid …"; the comm may hold anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&own)
    })
}

/// The state letter of a process (`T` = stopped, `Z` = zombie), if it exists.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

#[derive(Debug, PartialEq, Eq)]
struct Possessions {
    descriptors: usize,
    threads: usize,
    shared_memory: Vec<String>,
}

fn possessions() -> Possessions {
    let mut shared_memory: Vec<String> = fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("nearcall-"))
        .collect();
    shared_memory.sort();
    Possessions {
        descriptors: numbers_in("/proc/self/fd").count(),
        // Those of the engine, by name: the test harness starts threads of its own at any time.
        threads: numbers_in("/proc/self/task")
            .filter(|thread| {
                fs::read_to_string(format!("/proc/self/task/{thread}/comm"))
                    .is_ok_and(|name| name.starts_with("nearcall"))
            })
            .count(),
        shared_memory,
    }
}

/// Runs a test alone in this process, with a time limit, and fails it if it leaves behind a
/// process, a descriptor, a thread, or a name in /dev/shm.
pub(crate) fn leak_free(test: impl FnOnce(&Bench)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let bench = Bench { mark };

    let before = possessions();
    let (done, watch) = sync_channel::<()>(1);
    let name = thread::current().name().unwrap_or("?").to_owned();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(TIME_LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the test {name:?} hangs: more than {TIME_LIMIT:?}");
            process::abort();
        }
    });
    let result = catch_unwind(AssertUnwindSafe(|| test(&bench)));
    drop(done);
    watchdog.join().unwrap();
    if let Err(panic) = result {
        resume_unwind(panic);
    }
    let nothing = BTreeSet::new();
    wait_until("nothing is left behind", || {
        let (processes, after) = (bench.processes(), possessions());
        // Fewer is fine: the harness may have had descriptors open at the first look, or another
        // program's engine its name for a moment.
        let clean = processes == nothing
            && after.descriptors <= before.descriptors
            && after.threads <= before.threads
            && after.shared_memory.iter().all(|name| before.shared_memory.contains(name));
        clean.then_some(()).ok_or(format!("before {before:?}, after {after:?}, {processes:?}"))
    });
}

/// Waits until a condition holds; panics with its last complaint if it never does.
pub(crate) fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() >= deadline => panic!("not {what}: {complaint}"),
            Err(_) => thread::yield_now(),
        }
    }
}

/// Sends a signal to one process that the test has started.
pub(crate) fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// How the worker died that ran this task.
pub(crate) fn death(engine: &Engine, task: &Task<'_>) -> (Exit, DeathReport) {
    match engine.call(task, PATIENCE) {
        Err(CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Died {
            exit,
            report,
            ..
        })))) => (exit, *report),
        other => panic!("no death: {other:?}"),
    }
}

/// Runs an ignored test of this program in a mount namespace whose /dev/shm has this size, or says that
/// there can be none here.
pub(crate) fn with_small_shared_memory(size: &str, test: &str) {
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs /dev/shm && exec \"$0\" \
         --exact {test} --ignored --test-threads=1"
    );
    let mut command = process::Command::new("unshare");
    // A user namespace too, for who is not root.
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    let output = match command.arg(std::env::current_exe().unwrap()).output() {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: there is no unshare: {error}"),
    };
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.contains("unshare failed") || err.contains("mount:") {
        return eprintln!("SKIPPED: mount namespaces are not permitted here: {err}");
    }
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}
