//! The crash matrix of the workers: each way to die or stop, at each named point, with one worker
//! and with four, with an empty ring and with a full one.
//!
//! In each case the first worker of place 0 meets its fate. Then every task that was accepted ends,
//! exactly the one that was in its hands with an error that names it and the way it went, the others
//! with the right answer; the engine is whole again and serves; nothing is left behind.
//!
//! An *empty* ring has as many tasks at a time as there are workers, and they sleep before; a *full*
//! engine has a task in every slot. `tests/crash_others.rs` has the fork server and the host,
//! `tests/python.rs` what only Python can do.
//!
//! Left out, because it is the same code or takes long: workers that start from scratch; rings of more
//! than eight tasks; a fate of the first worker before the start is over, with tasks (there are none).
//! Cases of SIGSTOP, which wait for the audits or a deadline, run many at a time, and so are not
//! probed for leaks one by one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use common::crash::{
    AT_ONCE, Numbered, Told, Watch, Way, all_at_once, death, deaths, each_alone, serves, start,
    start_with_fate, submit, until_whole_without,
};
use common::{Bench, PATIENCE, process_state, signal, wait_until};
use nearcall::error::{StartError, WaitError};
use nearcall::{Builder, Engine, Exit, Signature};
use nix::sys::signal::Signal;

const SLOTS: usize = 8;

/// What a worker has at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    /// No task, or one whose answer is published. Stopped, it is replaced.
    Nothing,
    /// No task, but the lock. Stopped, it is replaced, and so may be those that wait for the lock. What
    /// one of them has claimed at that very moment ends with it.
    Lock,
    /// A task, and the lock. Stopped, it is killed: the others need the lock.
    TaskAndLock,
    /// A task. Stopped, it keeps the task until somebody kills it.
    Task,
    /// No task, but something else to do. Stopped, it stays so until somebody kills it.
    Chore,
}

/// The points that a worker comes to again and again, and what it has there.
const POINTS: [(&str, Has); 22] = [
    ("claim.pending", Has::Nothing),
    ("claim.locked", Has::Lock),
    ("claim.before", Has::Lock),
    ("claim.claimed", Has::TaskAndLock),
    ("serve.claimed", Has::Task),
    ("serve.copied", Has::Task),
    ("model.decoding", Has::Task),
    ("model.calling", Has::Task),
    ("model.encoding", Has::Task),
    ("serve.called", Has::Task),
    ("serve.encoding", Has::Task),
    ("serve.finished", Has::Task),
    ("serve.written", Has::Task),
    ("serve.completed", Has::Nothing),
    ("serve.waking", Has::Nothing),
    ("model.tidying", Has::Chore),
    ("serve.tidied", Has::Nothing),
    ("serve.searching", Has::Nothing),
    ("serve.idle", Has::Nothing),
    ("model.idling", Has::Chore),
    ("serve.parked", Has::Nothing),
    ("serve.woken", Has::Nothing),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ring {
    Empty,
    Full,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    point: &'static str,
    way: Way,
    workers: usize,
    ring: Ring,
}

fn cases(point: &'static str, ways: &[Way]) -> Vec<Case> {
    let mut cases = Vec::new();
    for way in ways.iter().copied() {
        for workers in [1, 4] {
            for ring in [Ring::Empty, Ring::Full] {
                cases.push(Case { point, way, workers, ring });
            }
        }
    }
    cases
}

impl Case {
    /// An engine whose model takes a millisecond and gives back its argument. The worker of place 0
    /// with this number has the fault.
    fn builder(&self, bench: &Bench, told: &Told, incarnation: u32) -> Builder {
        let builder = bench.builder("slow_echo").signature(Signature::new().int("x"));
        let fault = format!("{}={}@0.{incarnation}", self.point, self.way.action());
        told.arm(builder.workers(self.workers).slots(SLOTS), &fault)
    }

    /// As many tasks as the case wants at a time.
    fn submit(&self, engine: &Engine, numbers: &mut i64) -> Vec<Numbered> {
        submit(engine, numbers, if self.ring == Ring::Full { SLOTS } else { self.workers })
    }
}

/// How tasks died, where a worker that stops keeps its task, or its colleagues from nothing, until it is
/// killed: which happens here, once the others have done all that they can.
fn deaths_by_our_hand(
    engine: &Engine,
    told: &Told,
    has: Has,
    tasks: &[Numbered],
    killed: &mut bool,
) -> Vec<(u32, Exit)> {
    let (mut left, mut deaths) = (tasks.to_vec(), Vec::new());
    wait_until("over", || {
        left.retain(|(key, number)| match engine.retrieve(*key).transpose() {
            None => true,
            Some(outcome) => {
                deaths.extend(death(outcome.map_err(WaitError::from), *number));
                false
            }
        });
        let held = usize::from(has == Has::Task);
        let alone = engine.workers() == 1;
        if !*killed && told.first().is_some() && (alone || left.len() == held) {
            assert!(left.len() >= held, "somebody ended the task of one that was only stopped");
            signal(told.stopped(), Signal::SIGKILL);
            *killed = true;
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    deaths
}

/// Waits until all workers sleep, so that the next task wakes the first of them.
fn until_asleep(engine: &Engine) {
    wait_until("asleep", || {
        let pids = engine.worker_pids();
        let awake = pids.into_iter().find(|pid| process_state(*pid) == Some('R'));
        awake.map_or(Ok(()), |pid| Err(format!("{pid} is awake")))
    });
}

/// One case. Tells how long it took from the worker's fate to the end of all tasks.
fn meet_fate(bench: &Bench, watch: &Watch, case: &Case, has: Has) -> Duration {
    let told = Told::new();
    let engine = watch.over(case.builder(bench, &told, 1).start().unwrap());
    let stops = case.way == Way::Stop;
    let by_our_hand = stops && matches!(has, Has::Task | Has::Chore);
    let mut numbers = 0;
    // The audits, which find one that is stopped, look only while there is a task or an answer.
    let kept = submit(&engine, &mut numbers, usize::from(stops && !by_our_hand));
    let (mut died, mut killed) = (Vec::new(), false);
    let (fate, settled) = loop {
        let tasks = case.submit(&engine, &mut numbers);
        died.extend(if by_our_hand {
            deaths_by_our_hand(&engine, &told, has, &tasks, &mut killed)
        } else {
            deaths(&engine, &tasks)
        });
        let now = SystemTime::now();
        until_asleep(&engine);
        if let Some(fate) = told.first() {
            break (fate, now.duration_since(fate.at).unwrap_or_default());
        }
    };
    if by_our_hand && !killed {
        // All tasks were over when it stopped.
        signal(told.stopped(), Signal::SIGKILL);
    }
    match case.way {
        Way::Thread => assert!(engine.worker_pids().contains(&fate.pid), "it had to live on"),
        _ => until_whole_without(&engine, fate.pid),
    }
    died.extend(deaths(&engine, &kept));
    let expected = case.way.exit().filter(|_| matches!(has, Has::Task | Has::TaskAndLock));
    assert_eq!(died, expected.map(|exit| (fate.pid, exit)).as_slice());
    serves(&engine, &mut numbers);
    assert_eq!(told.all(), [fate], "one worker only");
    settled
}

/// A sleeping host thread looks again by itself after 100 ms, and the audits come as rarely: when it
/// usually takes less, nobody had to. (Promised are 1 ms until the host is told of a death, and 10 ms
/// until there is another worker.)
const TOLD_AT_ONCE: Duration = Duration::from_millis(50);

/// All cases of a point, but for those in which the worker stops.
fn matrix(point: &'static str) {
    let (_, has) = *POINTS.iter().find(|(name, _)| *name == point).unwrap();
    let settled = Mutex::new(Vec::new());
    each_alone(cases(point, &AT_ONCE), |bench, watch, case| {
        let after = meet_fate(bench, watch, case, has);
        settled.lock().unwrap().push(after);
    });
    let mut settled = settled.into_inner().unwrap();
    settled.sort();
    let median = settled[settled.len() / 2];
    assert!(median < TOLD_AT_ONCE, "{point}: tasks ended {median:?} after the worker");
}

/// All cases of a worker that stops where it has this, some at a time: they wait for the audits.
fn stops_having(wanted: &[Has]) {
    let points = POINTS.iter().filter(|(_, has)| wanted.contains(has));
    let cases: Vec<(Case, Has)> = points
        .flat_map(|(point, has)| cases(point, &[Way::Stop]).into_iter().map(|case| (case, *has)))
        .collect();
    for cases in cases.chunks(12) {
        all_at_once(cases, |bench, watch, (case, has)| {
            meet_fate(bench, watch, case, *has);
        });
    }
}

#[test]
fn one_that_stops_without_a_task_or_in_the_lock_is_replaced() {
    stops_having(&[Has::Nothing, Has::Lock, Has::TaskAndLock]);
}

#[test]
fn one_that_stops_in_a_task_keeps_it_and_nothing_else_until_it_is_killed() {
    stops_having(&[Has::Task, Has::Chore]);
}

#[test]
fn one_that_ends_before_the_lock_takes_no_task_with_it() {
    matrix("claim.pending");
}

#[test]
fn one_that_ends_in_the_lock_leaves_it_to_the_next() {
    matrix("claim.locked");
}

#[test]
fn one_that_ends_with_an_entry_that_it_has_not_claimed_leaves_it_to_the_next() {
    matrix("claim.before");
}

#[test]
fn one_that_ends_in_the_lock_with_a_claim_takes_that_task_with_it_and_no_other() {
    matrix("claim.claimed");
}

#[test]
fn one_that_ends_after_the_lock_takes_its_task_with_it_and_no_other() {
    matrix("serve.claimed");
}

#[test]
fn one_that_ends_before_it_has_decoded_takes_its_task_with_it_and_no_other() {
    matrix("serve.copied");
    matrix("model.decoding");
}

#[test]
fn one_that_ends_in_the_call_takes_its_task_with_it_and_no_other() {
    matrix("model.calling");
}

#[test]
fn one_that_ends_after_the_call_takes_its_task_with_it_and_no_other() {
    matrix("serve.called");
}

#[test]
fn one_that_ends_while_it_encodes_takes_its_task_with_it_and_no_other() {
    matrix("model.encoding");
    matrix("serve.encoding");
}

#[test]
fn one_that_ends_before_it_has_written_takes_its_task_with_it_and_no_other() {
    matrix("serve.finished");
}

#[test]
fn one_that_ends_before_it_has_published_takes_its_task_with_it_and_no_other() {
    matrix("serve.written");
}

#[test]
fn one_that_ends_when_it_has_published_leaves_its_answer() {
    matrix("serve.completed");
}

#[test]
fn one_that_ends_before_it_wakes_the_host_leaves_its_answer_and_the_host_hears_of_it() {
    matrix("serve.waking");
}

#[test]
fn one_that_ends_while_or_after_it_frees_what_a_call_has_left_takes_no_task_with_it() {
    matrix("model.tidying");
    matrix("serve.tidied");
}

#[test]
fn one_that_ends_while_it_searches_keeps_nobody_asleep() {
    matrix("serve.searching");
}

#[test]
fn one_that_ends_while_idle_takes_no_task_with_it() {
    matrix("serve.idle");
    matrix("model.idling");
}

#[test]
fn one_that_ends_before_it_sleeps_takes_no_task_with_it() {
    matrix("serve.parked");
}

#[test]
fn one_that_ends_when_it_was_woken_leaves_the_task_to_the_others() {
    matrix("serve.woken");
}

/// A worker of four dies with a wake that was meant for a task, or with the word that it searches. The
/// one that is to replace it stops at its start: the others must do the task. Tells how long it took.
fn pass_on(bench: &Bench, watch: &Watch, point: &str) -> Duration {
    let told = Told::new();
    let builder = bench.builder("slow_echo").signature(Signature::new().int("x")).workers(4);
    // The first worker searches before the start is over: there it is the second.
    let searches = point == "serve.searching";
    let (who, next) = if searches { (2, 3) } else { (1, 2) };
    let faults = format!("{point}=kill@0.{who},start.forked=stop@0.{next}");
    let engine = watch.over(told.arm(builder, &faults).start().unwrap());
    if searches {
        signal(engine.worker_pids()[0], Signal::SIGKILL);
        let dead = told.wait().pid;
        wait_until("noticed", || match engine.worker_pids() {
            pids if pids.len() == 3 && !pids.contains(&dead) => Ok(()),
            pids => Err(format!("{pids:?}")),
        });
    }
    let mut numbers = 0;
    loop {
        until_asleep(&engine);
        let since = SystemTime::now();
        let task = submit(&engine, &mut numbers, 1);
        assert_eq!(deaths(&engine, &task), []);
        let now = SystemTime::now();
        if let Some(fate) = told.first() {
            break now.duration_since(since.max(fate.at)).unwrap_or_default();
        }
    }
}

#[test]
fn a_wake_that_a_dead_worker_has_used_up_is_passed_on_before_there_is_another() {
    let points =
        ["serve.woken", "serve.searching", "claim.pending", "claim.locked", "claim.before"];
    let taken = Mutex::new(Vec::new());
    for point in points {
        all_at_once(&[point; 3], |bench, watch, point| {
            let after = pass_on(bench, watch, point);
            taken.lock().unwrap().push((*point, after));
        });
    }
    let taken = taken.into_inner().unwrap();
    for point in points {
        let best = taken.iter().filter(|(name, _)| *name == point).map(|(_, after)| *after).min();
        assert!(best.unwrap() < TOLD_AT_ONCE, "{taken:?}");
    }
}

/// A start that must fail, or, if the worker lives on, must not.
fn start_and_meet_fate(bench: &Bench, watch: &Watch, case: &Case) {
    let (fate, started) = start_with_fate(case.way, |told| case.builder(bench, told, 1));
    match (started, case.way.exit()) {
        (Ok(engine), None) => serves(&watch.over(engine), &mut 0),
        (Err(StartError::TimedOut { .. }), _) if case.way == Way::Stop => {}
        (Err(StartError::Died { pid, exit, .. }), Some(expected)) => {
            assert_eq!((pid, exit), (fate.pid, expected));
        }
        (started, _) => panic!("{started:?}"),
    }
}

/// The first worker of a place is killed, and the one that is to replace it meets its fate.
fn replace_and_meet_fate(bench: &Bench, watch: &Watch, case: &Case) {
    let (told, engine) = start(case.way, |told| case.builder(bench, told, 2));
    let engine = watch.over(engine);
    let mut numbers = 0;
    let limit = if case.ring == Ring::Full { SLOTS } else { 0 };
    let tasks = submit(&engine, &mut numbers, limit);
    let first = engine.worker_pids()[0];
    signal(first, Signal::SIGKILL);
    let fate = told.wait();
    until_whole_without(&engine, if case.way == Way::Thread { first } else { fate.pid });
    let died = deaths(&engine, &tasks);
    assert!(died.is_empty() || died == [(first, Exit::Signal(9))], "{died:?}");
    serves(&engine, &mut numbers);
}

#[test]
fn one_that_ends_at_the_start_fails_it_and_later_is_replaced_by_the_next() {
    for point in ["start.forked", "start.populated", "start.initialised"] {
        let without_tasks = |case: &Case| case.ring == Ring::Empty;
        let first = cases(point, &AT_ONCE).into_iter().filter(without_tasks);
        each_alone(first, start_and_meet_fate);
        each_alone(cases(point, &AT_ONCE), replace_and_meet_fate);
        let stop = cases(point, &[Way::Stop]);
        all_at_once(&stop, replace_and_meet_fate);
        let first: Vec<Case> = stop.into_iter().filter(without_tasks).collect();
        all_at_once(&first, start_and_meet_fate);
    }
}

/// A shutdown; place 0's worker meets its fate in it.
fn shut_down_and_meet_fate(bench: &Bench, watch: &Watch, case: &Case) {
    let told = Told::new();
    let engine = watch.over(case.builder(bench, &told, 1).start().unwrap());
    let limit = if case.ring == Ring::Full { SLOTS } else { 0 };
    let tasks = submit(&engine, &mut 0, limit);
    let stops = case.way == Way::Stop;
    let report = engine.shutdown(if stops { Duration::from_secs(1) } else { PATIENCE });
    assert!(told.first().is_some(), "it did not come to the point");
    // One that is stopped is killed by the audits, or at the deadline.
    assert!(stops || report.drained && report.killed == 0, "{report:?}");
    assert_eq!(deaths(&engine, &tasks), []);
}

#[test]
fn one_that_ends_while_it_finalises_takes_no_task_with_it_and_keeps_no_shutdown() {
    for point in ["end.finalize", "model.finalizing"] {
        each_alone(cases(point, &AT_ONCE), shut_down_and_meet_fate);
        all_at_once(&cases(point, &[Way::Stop]), shut_down_and_meet_fate);
    }
}
