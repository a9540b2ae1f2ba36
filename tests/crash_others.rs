//! The crash matrix of the fork server and the host. See `tests/crash_matrix.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::crash::{
    AT_ONCE, Told, Watch, Way, all_at_once, deaths, each_alone, serves, start, start_with_fate,
    submit,
};
use common::{Bench, signal, wait_until};
use nearcall::error::{StartError, SubmitError};
use nearcall::{Builder, Deadline, Engine, Exit, Signature, Task, WorkerState};
use nix::sys::signal::{Signal, raise};

const SLOTS: usize = 8;

/// What happens to the fork server, and where.
#[derive(Debug, Clone, Copy)]
struct Case {
    point: &'static str,
    way: Way,
    workers: usize,
    /// Tasks that are there when it happens.
    tasks: usize,
}

fn cases(point: &'static str, ways: &[Way]) -> Vec<Case> {
    let mut cases = Vec::new();
    for way in ways.iter().copied() {
        for workers in [1, 4] {
            cases.extend([0, SLOTS].map(|tasks| Case { point, way, workers, tasks }));
        }
    }
    cases
}

impl Case {
    /// An engine whose fork server has the fault when it comes to the point for the `count`th time.
    fn builder(&self, bench: &Bench, told: &Told, count: usize) -> Builder {
        let builder = bench.builder("slow_echo").signature(Signature::new().int("x"));
        let fault = format!("{}={}#{count}", self.point, self.way.action());
        told.arm(builder.workers(self.workers).slots(SLOTS), &fault)
    }
}

/// Who has forked a process, unless it has ended.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// A worker is killed; the fork server meets its fate when it replaces it.
fn replace_and_meet_fate(bench: &Bench, watch: &Watch, case: &Case, count: usize) {
    let (told, engine) = start(case.way, |told| case.builder(bench, told, count));
    let engine = watch.over(engine);
    let before = engine.worker_pids();
    let mut numbers = 0;
    let tasks = submit(&engine, &mut numbers, case.tasks);
    signal(before[0], Signal::SIGKILL);
    let server = told.wait().pid;
    // The workers of a server that dies die with it; one that only stops has told all by then.
    let survives = case.way == Way::Thread || case.way == Way::Stop && case.point == "server.told";
    let dead = if survives { &before[..1] } else { &before };
    wait_until("whole again", || {
        let pids = engine.worker_pids();
        // Its orphans have another parent too, for a moment: none of ours.
        let ours = bench.processes();
        let lives = |parent: u32| parent != server && ours.contains(&parent);
        let is_new =
            |pid: &u32| !dead.contains(pid) && (survives || parent(*pid).is_some_and(lives));
        let whole = pids.len() == engine.workers() && pids.iter().all(is_new);
        if whole { Ok(()) } else { Err(format!("{pids:?}, {dead:?} are dead")) }
    });
    let mut died = deaths(&engine, &tasks);
    died.sort_unstable_by_key(|(pid, _)| *pid);
    died.dedup_by_key(|(pid, _)| *pid);
    for (pid, exit) in &died {
        // How it ended, a server that stops does not tell.
        let told = *exit == Exit::Signal(9) || case.way == Way::Stop && *exit == Exit::Unknown;
        let by_us = *pid == before[0] && told;
        assert!(
            by_us || !survives && *exit == Exit::WithServer,
            "{died:?}, we killed {}",
            before[0]
        );
        // The new worker may have had a task too, once the server has told of it.
        let is_new = case.point == "server.told" && !before.contains(pid);
        assert!(is_new || dead.contains(pid), "{died:?}, not {dead:?}");
    }
    serves(&engine, &mut numbers);
}

/// A start that must fail, or, if the fork server lives on, must not.
fn start_and_meet_fate(bench: &Bench, watch: &Watch, case: &Case) {
    let (fate, started) = start_with_fate(case.way, |told| case.builder(bench, told, 1));
    match started {
        Ok(engine) if case.way == Way::Thread => serves(&watch.over(engine), &mut 0),
        Err(StartError::TimedOut { .. }) if case.way == Way::Stop => {}
        Err(StartError::Died { who, pid, .. }) if case.way != Way::Thread => {
            assert_eq!((who.as_str(), pid), ("the fork server", fate.pid));
        }
        started => panic!("{started:?}"),
    }
}

/// All cases of a point to which the server comes once for each worker that it makes.
fn making(point: &'static str) {
    let run = |bench: &Bench, watch: &Watch, case: &Case| {
        replace_and_meet_fate(bench, watch, case, case.workers + 1);
    };
    each_alone(cases(point, &AT_ONCE), run);
    all_at_once(&cases(point, &[Way::Stop]), run);
    // When the last worker was told of, the start may be done.
    let first = |ways| {
        let cases = cases(point, ways).into_iter();
        cases.filter(|case| case.tasks == 0 && (point != "server.told" || case.workers > 1))
    };
    each_alone(first(&AT_ONCE), start_and_meet_fate);
    all_at_once(&first(&[Way::Stop]).collect::<Vec<_>>(), start_and_meet_fate);
}

/// All cases of a point to which the server comes when a worker has ended.
fn burying(point: &'static str) {
    let run = |bench: &Bench, watch: &Watch, case: &Case| {
        replace_and_meet_fate(bench, watch, case, 1);
    };
    each_alone(cases(point, &AT_ONCE), run);
    all_at_once(&cases(point, &[Way::Stop]), run);
}

#[test]
fn a_fork_server_that_ends_with_a_request_in_hand_is_replaced_and_fails_a_start() {
    making("server.heard");
}

#[test]
fn a_fork_server_that_ends_before_the_fork_is_replaced_and_fails_a_start() {
    making("server.forking");
}

#[test]
fn a_fork_server_that_ends_after_the_fork_takes_the_new_worker_with_it() {
    making("server.forked");
}

#[test]
fn a_fork_server_that_ends_with_a_worker_that_it_has_not_told_of_takes_it_with_it() {
    making("server.telling");
}

#[test]
fn a_fork_server_that_ends_with_all_told_is_replaced_and_fails_a_start() {
    making("server.told");
}

#[test]
fn a_fork_server_that_ends_with_a_dead_worker_unreaped_is_replaced() {
    burying("server.noticed");
}

#[test]
fn a_fork_server_that_ends_before_it_tells_of_a_death_is_replaced() {
    burying("server.reaped");
}

/// How far the host is when it ends.
const STAGES: [&str; 6] = ["import", "start", "idle", "running", "full", "shutdown"];
/// How it ends, and the status that its parent sees.
const ENDS: [(&str, i32); 5] =
    [("kill", 9), ("segv", 11), ("abort", 6), ("exit", 3 << 8), ("panic", 101 << 8)];

/// Not a test by itself: a host that ends as its environment says.
#[test]
#[ignore = "ends its process: run by the next one"]
fn host() {
    let how = std::env::var("NEARCALL_TEST_END").unwrap();
    let (stage, way) = how.split_once(' ').unwrap();
    let bench = Bench::of_parent();
    let builder = |model| {
        let builder = bench.builder(model).signature(Signature::new().int("ms"));
        builder.slots(SLOTS)
    };
    let submit = |engine: &Engine| engine.submit(&Task::new().int(600_000)).map(|t| t.into_key());
    if stage == "import" {
        // The fork server does not listen: it sees no connection that is closed.
        let builder = builder("import_hangs");
        thread::spawn(move || builder.start());
        Told::of_parent().wait();
        end(way);
    }
    if stage == "start" {
        let builder = builder("initialize_hangs");
        thread::spawn(move || builder.start());
        // This process, the fork server, two workers.
        wait_until("started", || match bench.processes().len() {
            4.. => Ok(()),
            count => Err(format!("{count} processes")),
        });
        end(way);
    }
    let engine = Arc::new(builder("sleep").start().unwrap());
    match stage {
        "running" => {
            submit(&engine).unwrap();
            submit(&engine).unwrap();
        }
        "full" | "shutdown" => while submit(&engine).is_ok() {},
        _ => {}
    }
    if stage != "idle" {
        wait_until("running", || {
            let health = engine.health().unwrap();
            let run = health.workers.iter().all(|worker| worker.state == WorkerState::Running);
            if run { Ok(()) } else { Err(format!("{health:?}")) }
        });
    }
    if stage == "shutdown" {
        let ending = engine.clone();
        thread::spawn(move || ending.shutdown(Deadline::NEVER));
        wait_until("closed", || match submit(&engine) {
            Err(SubmitError::Closed { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    end(way);
}

fn end(way: &str) -> ! {
    let die = |signal| loop {
        // Again and again: the standard library's handler of SIGSEGV lets the first one pass.
        let _ = raise(signal);
    };
    match way {
        "kill" => die(Signal::SIGKILL),
        "segv" => die(Signal::SIGSEGV),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        _ => panic!("as asked"),
    }
}

#[test]
fn a_host_that_ends_in_any_way_at_any_time_ends_all_its_processes_within_a_second() {
    let all = STAGES.into_iter().flat_map(|stage| ENDS.map(|end| (stage, end)));
    each_alone(all, |bench, _, (stage, (way, status))| {
        let mut host = Command::new(std::env::current_exe().unwrap());
        host.args(["--exact", "host", "--ignored", "--test-threads=1"]);
        host.env("NEARCALL_TEST_END", format!("{stage} {way}")).env("RUST_BACKTRACE", "0");
        host.stdout(Stdio::null()).stderr(Stdio::null());
        bench.mark_host(&mut host);
        let told = Told::new();
        told.arm_host(&mut host, "model.importing=thread#1");
        let ended = host.status().unwrap();
        let since = Instant::now();
        assert_eq!(ended.into_raw() & 0xFF7F, *status, "{ended}");
        wait_until("all ended", || {
            let left = bench.processes();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        // Promised: a second.
        assert!(since.elapsed() < Duration::from_secs(10));
    });
}
