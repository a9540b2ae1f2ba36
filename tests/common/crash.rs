//! What the crash matrix is made of: ways to die, what a process told before it did, a watchdog
//! that shows what hangs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearcall::error::{RetrieveError, StartError, SubmitError, TaskError, WaitError};
use nearcall::{Answer, Builder, Engine, Exit, Key, Task};

use super::{Bench, PATIENCE, leak_free, numbers_in, process_state, wait_until};

/// What happens to a process at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Kill,
    Segv,
    Abort,
    Exit,
    /// It asks for more memory than it may have.
    Memory,
    /// A panic of the thread that is at the point.
    Panic,
    /// A panic of another thread: the process lives on.
    Thread,
    Stop,
}

/// Those that end in an instant, and the one that must change nothing.
pub(crate) const AT_ONCE: [Way; 7] =
    [Way::Kill, Way::Segv, Way::Abort, Way::Exit, Way::Memory, Way::Panic, Way::Thread];

impl Way {
    /// Its name in `src/faults.rs`.
    pub(crate) fn action(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// How the process ends; one that is stopped, in the end by SIGKILL. `None`: it does not.
    pub(crate) fn exit(self) -> Option<Exit> {
        Some(match self {
            Self::Kill | Self::Stop => Exit::Signal(9),
            Self::Segv => Exit::Signal(11),
            Self::Abort | Self::Memory => Exit::Signal(6),
            Self::Exit => Exit::Code(3),
            Self::Panic => Exit::Code(101),
            Self::Thread => return None,
        })
    }
}

/// How long a start may take, at the first attempt and at the second. Where something stops, it is
/// given up when a start would be, so that the first is short: too short when the machine is busy.
fn start_deadlines(way: Way) -> &'static [Duration] {
    const SHORT_AND_LONG: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];
    const LONG: [Duration; 1] = [PATIENCE];
    if way == Way::Stop { &SHORT_AND_LONG } else { &LONG }
}

/// Starts an engine whose builder is made for what is told.
pub(crate) fn start(way: Way, builder: impl Fn(&Told) -> Builder) -> (Told, Engine) {
    let attempt = |deadline: &Duration| {
        let told = Told::new();
        match builder(&told).start_deadline(*deadline).start() {
            Err(StartError::TimedOut { .. }) => None,
            started => Some((told, started.unwrap())),
        }
    };
    start_deadlines(way).iter().find_map(attempt).unwrap()
}

/// Starts an engine of which some process meets its fate in the start.
pub(crate) fn start_with_fate(
    way: Way,
    builder: impl Fn(&Told) -> Builder,
) -> (Fate, Result<Engine, StartError>) {
    let attempt = |deadline: &Duration| {
        let told = Told::new();
        let started = builder(&told).start_deadline(*deadline).start();
        told.first().map(|fate| (fate, started))
    };
    start_deadlines(way).iter().find_map(attempt).unwrap()
}

/// The variables that `src/faults.rs` reads.
const FAULTS: &str = "NEARCALL_FAULTS";
const TOLD: &str = "NEARCALL_FAULTS_TOLD";

/// The last words of the processes with faults, in a file.
pub(crate) struct Told {
    path: PathBuf,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) pid: u32,
    pub(crate) at: SystemTime,
}

impl Told {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("told-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { path: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name) }
    }

    /// What is told in the file that [`Told::arm_host`] has named to this process.
    pub(crate) fn of_parent() -> Self {
        Self { path: std::env::var_os(TOLD).unwrap().into() }
    }

    /// As [`Told::arm`], for all engines of a host that is started.
    pub(crate) fn arm_host(&self, host: &mut process::Command, faults: &str) {
        host.env(FAULTS, faults).env(TOLD, &self.path);
    }

    pub(crate) fn arm(&self, builder: Builder, faults: &str) -> Builder {
        builder
            .env(FAULTS, faults)
            .env(TOLD, &self.path)
            // A panic that looks up its names takes 100 ms.
            .env("RUST_BACKTRACE", "0")
    }

    pub(crate) fn all(&self) -> Vec<Fate> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let pid = words.next()?.parse().ok()?;
            let at = UNIX_EPOCH + Duration::from_nanos(words.nth(1)?.parse().ok()?);
            Some(Fate { pid, at })
        };
        // The last line may be one that is being written.
        text.split_inclusive('\n').filter_map(|line| parse(line.strip_suffix('\n')?)).collect()
    }

    /// The first one, if any has come to its point.
    pub(crate) fn first(&self) -> Option<Fate> {
        self.all().first().copied()
    }

    pub(crate) fn wait(&self) -> Fate {
        wait_until("told", || self.first().ok_or_else(|| "nobody came to the point".to_owned()))
    }

    /// The process that has stopped itself, once it has.
    pub(crate) fn stopped(&self) -> u32 {
        let pid = self.wait().pid;
        wait_until("stopped", || match process_state(pid) {
            Some('T') => Ok(pid),
            state => Err(format!("{pid} is in state {state:?}")),
        })
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A case that takes longer hangs. Shorter than the patience of its waits, so that these are seen.
const CASE_LIMIT: Duration = Duration::from_secs(20);

/// What the watchdog can look at.
#[derive(Default)]
pub(crate) struct Watch {
    engine: Mutex<Weak<Engine>>,
}

impl Watch {
    /// Has the watchdog see this engine.
    pub(crate) fn over(&self, engine: Engine) -> Arc<Engine> {
        let engine = Arc::new(engine);
        *self.engine.lock().unwrap() = Arc::downgrade(&engine);
        engine
    }
}

/// Runs one case. If it hangs, says what everybody is doing, and ends the test program.
pub(crate) fn watched<R>(
    bench: &Bench,
    case: &(impl fmt::Debug + Sync),
    run: impl FnOnce(&Watch) -> R,
) -> R {
    let watch = Watch::default();
    let (done, over) = sync_channel::<()>(0);
    thread::scope(|scope| {
        let watch = &watch;
        scope.spawn(move || {
            if over.recv_timeout(CASE_LIMIT) == Err(RecvTimeoutError::Timeout) {
                // Past the test harness, which would keep it to itself.
                let mut stderr = std::io::stderr();
                let _ = writeln!(stderr, "{case:?} hangs: more than {CASE_LIMIT:?}");
                let _ = stderr.write_all(processes(bench).as_bytes());
                dump_engine(&watch.engine.lock().unwrap());
                process::abort();
            }
        });
        // Dropped when the case ends, also by a panic.
        let _done = done;
        run(watch)
    })
}

/// What the engine says of itself, if it can without waiting for whoever hangs.
fn dump_engine(engine: &Weak<Engine>) {
    let Some(engine) = engine.upgrade() else { return };
    let (done, over) = sync_channel::<()>(0);
    thread::spawn(move || {
        let _ = writeln!(std::io::stderr(), "{engine:?}\n{:#?}", engine.health());
        // Never dropped here: that would end it.
        std::mem::forget(engine);
        drop(done);
    });
    let _ = over.recv_timeout(Duration::from_secs(1));
}

/// The threads of this process and of those of the test, and where the kernel has them.
fn processes(bench: &Bench) -> String {
    let mut text = String::new();
    for pid in bench.processes().into_iter().chain([process::id()]) {
        for thread in numbers_in(&format!("/proc/{pid}/task")) {
            let read = |name: &str| {
                let content = fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}"));
                content.map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
            };
            let [stat, wchan, syscall, stack] = ["stat", "wchan", "syscall", "stack"].map(read);
            let _ = writeln!(text, "{pid}/{thread}: {stat}\n  in {wchan}, call {syscall}\n{stack}");
        }
    }
    text
}

/// Runs all cases, each in its own leak probe, and says at the end which have failed.
pub(crate) fn each_alone<C: fmt::Debug + Sync>(
    cases: impl IntoIterator<Item = C>,
    run: impl Fn(&Bench, &Watch, &C),
) {
    let mut failed = Vec::new();
    for case in cases {
        let one = || leak_free(|bench| watched(bench, &case, |watch| run(bench, watch, &case)));
        failed.extend(complaint(&case, catch_unwind(AssertUnwindSafe(one))));
    }
    assert!(failed.is_empty(), "{}", failed.concat());
}

/// Runs all cases at the same time: for those that mostly wait.
pub(crate) fn all_at_once<C: fmt::Debug + Sync>(
    cases: &[C],
    run: impl Fn(&Bench, &Watch, &C) + Sync,
) {
    leak_free(|bench| {
        let run = &run;
        let failed: Vec<String> = thread::scope(|scope| {
            let start = |case| scope.spawn(move || watched(bench, case, |w| run(bench, w, case)));
            let running: Vec<_> = cases.iter().map(start).collect();
            cases
                .iter()
                .zip(running)
                .filter_map(|(case, run)| complaint(case, run.join()))
                .collect()
        });
        assert!(failed.is_empty(), "{}", failed.concat());
    });
}

fn complaint(case: &impl fmt::Debug, result: thread::Result<()>) -> Option<String> {
    let panic = result.err()?;
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    Some(format!("\n{case:?}: {text}"))
}

/// The key of a task, and its number: what its answer must be.
pub(crate) type Numbered = (Key, i64);

/// Submits so many tasks, or as many as there is room for, each with a number of its own.
pub(crate) fn submit(engine: &Engine, numbers: &mut i64, limit: usize) -> Vec<Numbered> {
    let mut tasks = Vec::new();
    while tasks.len() < limit {
        match engine.submit(&Task::new().int(*numbers)) {
            Ok(ticket) => tasks.push((ticket.into_key(), *numbers)),
            Err(SubmitError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        *numbers += 1;
    }
    tasks
}

/// How a task died; `None` if its answer is the right one.
pub(crate) fn death(outcome: Result<Answer, WaitError>, number: i64) -> Option<(u32, Exit)> {
    match outcome {
        Ok(answer) => {
            assert_eq!(answer.int(0), Ok(number), "the answer to another task");
            None
        }
        Err(WaitError::Retrieve(RetrieveError::Task(TaskError::Died { pid, exit, .. }))) => {
            Some((pid, exit))
        }
        Err(error) => panic!("task {number}: {error}"),
    }
}

pub(crate) fn deaths(engine: &Engine, tasks: &[Numbered]) -> Vec<(u32, Exit)> {
    tasks.iter().filter_map(|(key, n)| death(engine.wait(*key, PATIENCE), *n)).collect()
}

pub(crate) fn until_whole_without(engine: &Engine, dead: u32) {
    wait_until("whole again", || {
        let pids = engine.worker_pids();
        let whole = pids.len() == engine.workers() && !pids.contains(&dead);
        if whole { Ok(()) } else { Err(format!("{pids:?}, {dead} is dead")) }
    });
}

/// The engine answers, as many tasks at a time as it takes and one by one, and nothing is left.
pub(crate) fn serves(engine: &Engine, numbers: &mut i64) {
    for limit in [usize::MAX, 1] {
        let tasks = submit(engine, numbers, limit);
        assert_eq!(deaths(engine, &tasks), []);
    }
    assert_eq!(engine.in_use(), 0);
}
