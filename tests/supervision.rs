//! Deadlines, cancellation, retries, replacement, reload, health: what the supervisor does about
//! tasks and workers that do not go the usual way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Bench, PATIENCE, leak_free, signal, wait_until};
use nearcall::error::{
    CallError, DeathReport, ReloadError, RetrieveError, StartError, SubmitError, TaskError,
    WaitError,
};
use nearcall::{Builder, Deadline, Engine, Exit, Key, Signature, Task, WorkerState};
use nix::sys::signal::Signal;

/// Longer than any test waits.
const FOR_EVER: i64 = 1_000_000;

/// A builder for a model that sleeps for so many milliseconds, then tells its process id and how
/// many tasks its worker has had.
fn working(bench: &Bench, workers: usize) -> Builder {
    bench.builder("work").signature(Signature::new().int("ms")).workers(workers)
}

fn work(ms: i64) -> Task<'static> {
    Task::new().int(ms)
}

fn task_error<T: std::fmt::Debug>(result: Result<T, WaitError>) -> TaskError {
    match result {
        Err(WaitError::Retrieve(RetrieveError::Task(error))) => error,
        other => panic!("no error of a task: {other:?}"),
    }
}

/// Waits until a worker runs the task of this key.
fn until_running(engine: &Engine, key: Key) {
    wait_until("running", || {
        let health = engine.health().unwrap();
        let runs = |worker: &nearcall::WorkerHealth| worker.running.is_some_and(|r| r.0 == key);
        health.workers.iter().any(runs).then_some(()).ok_or(format!("{health:?}"))
    });
}

/// Waits until all workers serve, none of them one of `before`.
fn until_whole(engine: &Engine, before: &[u32]) -> Vec<u32> {
    wait_until("whole", || {
        let pids = engine.worker_pids();
        let whole = pids.len() == engine.workers() && !pids.iter().any(|pid| before.contains(pid));
        whole.then_some(pids.clone()).ok_or(format!("{pids:?}, before {before:?}"))
    })
}

fn until_free(engine: &Engine) {
    wait_until("free", || match engine.in_use() {
        0 => Ok(()),
        used => Err(format!("{used} slots in use")),
    });
}

/// A file that a test changes, and that goes with it.
struct Code(PathBuf);

impl Code {
    fn new(content: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nearcall-test-{}-{number}", std::process::id());
        let code = Self(std::env::temp_dir().join(name));
        code.say(content);
        code
    }

    fn say(&self, content: &str) {
        // Whole at once: a worker may read it at any time.
        let new = self.0.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    fn builder(&self, bench: &Bench) -> Builder {
        bench.builder("file").env("NEARCALL_TEST_FILE", &self.0)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Ends a task that a worker runs; gives the verdict that is expected.
type End = fn(&Engine) -> (Key, TaskError);

const ENDS: [End; 3] = [
    |engine| {
        let deadline = Duration::from_millis(50);
        let key = engine.submit_by(&work(FOR_EVER), deadline).unwrap().into_key();
        (key, TaskError::DeadlinePassed)
    },
    |engine| {
        let key = engine.submit(&work(FOR_EVER)).unwrap().into_key();
        until_running(engine, key);
        assert!(engine.cancel(key));
        assert!(!engine.cancel(key), "it is over");
        (key, TaskError::Cancelled)
    },
    |engine| {
        let error = engine.call(&work(FOR_EVER), Duration::from_millis(50)).unwrap_err();
        let CallError::Wait(error) = error else { panic!("{error}") };
        assert_eq!(task_error::<()>(Err(error)), TaskError::DeadlinePassed);
        // Something that is over, for the caller to look at.
        let key = engine.submit(&work(FOR_EVER)).unwrap().into_key();
        engine.cancel(key);
        (key, TaskError::Cancelled)
    },
];

#[test]
fn a_running_task_ends_at_its_deadline_or_when_it_is_cancelled_and_takes_no_other_with_it() {
    leak_free(|bench| {
        let engine = working(bench, 2).slots(8).start().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut answered = 0;
                while !over.load(Ordering::Relaxed) {
                    engine.call(&work(1), PATIENCE).unwrap();
                    answered += 1;
                }
                answered
            });
            for end in ENDS.into_iter().cycle().take(9) {
                let (key, wanted) = end(&engine);
                assert_eq!(task_error(engine.wait(key, PATIENCE)), wanted);
                let again = engine.retrieve(key).unwrap_err();
                assert_eq!(again, RetrieveError::AlreadyRetrieved { key });
                until_whole(&engine, &[]);
            }
            over.store(true, Ordering::Relaxed);
            assert!(others.join().unwrap() > 0);
        });
        until_free(&engine);
    });
}

#[test]
fn a_task_that_waits_ends_at_its_deadline_or_when_it_is_cancelled_and_never_runs() {
    leak_free(|bench| {
        let engine = working(bench, 1).slots(4).start().unwrap();
        let running = engine.submit(&work(300)).unwrap();
        until_running(&engine, running.key());
        let late = engine.submit_by(&work(0), Duration::from_millis(10)).unwrap();
        let cancelled = engine.submit(&work(0)).unwrap();
        assert!(engine.cancel(&cancelled));
        assert_eq!(task_error(engine.wait(&cancelled, Duration::ZERO)), TaskError::Cancelled);
        assert_eq!(task_error(engine.wait(&late, PATIENCE)), TaskError::DeadlinePassed);
        let running = engine.wait(running, PATIENCE).unwrap();
        assert!(!engine.cancel(late.key()), "it is over");
        // The same worker, and none of them was its second task.
        let next = engine.call(&work(0), PATIENCE).unwrap();
        assert_eq!(next.int(0).unwrap(), running.int(0).unwrap());
        assert_eq!((running.int(1).unwrap(), next.int(1).unwrap()), (1, 2));
        until_free(&engine);
    });
}

#[test]
fn a_task_that_is_done_is_not_cancelled_and_keeps_its_answer() {
    leak_free(|bench| {
        let engine = working(bench, 1).start().unwrap();
        let ticket = engine.submit_by(&work(0), PATIENCE).unwrap();
        wait_until("done", || match engine.health().unwrap().workers[0] {
            ref worker if worker.tasks == 1 && worker.running.is_none() => Ok(()),
            ref worker => Err(format!("{worker:?}")),
        });
        assert!(!engine.cancel(&ticket));
        assert_eq!(engine.wait(&ticket, PATIENCE).unwrap().int(1), Ok(1));
        assert!(!engine.cancel(&ticket));
        assert!(!engine.cancel(Key::from_number(1 << 16).unwrap()), "never given");
    });
}

#[test]
fn deadlines_that_pass_in_the_moment_of_the_answer_end_in_one_or_the_other() {
    leak_free(|bench| {
        let engine = working(bench, 2).start().unwrap();
        let mut ended = [0, 0];
        for round in 0..150 {
            let deadline = Duration::from_micros(900 + 10 * (round % 40));
            match engine.call(&work(1), deadline) {
                Ok(_) => ended[0] += 1,
                Err(CallError::Wait(error)) => {
                    assert_eq!(task_error::<()>(Err(error)), TaskError::DeadlinePassed);
                    ended[1] += 1;
                }
                // Each slot is held until its worker is dead.
                Err(CallError::Submit(SubmitError::Full { .. })) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(ended[1] > 0, "{ended:?}");
        // No verdict was meant for a task that came later.
        until_whole(&engine, &[]);
        for _ in 0..50 {
            engine.call(&work(0), PATIENCE).unwrap();
        }
        until_free(&engine);
    });
}

#[test]
fn a_deadline_is_kept_without_anybody_who_waits() {
    leak_free(|bench| {
        let engine = working(bench, 1).start().unwrap();
        let before = engine.worker_pids();
        let ticket = engine.submit_by(&work(FOR_EVER), Duration::from_millis(30)).unwrap();
        until_whole(&engine, &before);
        assert_eq!(task_error(engine.wait(ticket, Duration::ZERO)), TaskError::DeadlinePassed);
        // Nor somebody who could.
        let before = engine.worker_pids();
        let ticket = engine.submit_by(&work(FOR_EVER), Duration::from_millis(200)).unwrap();
        until_running(&engine, ticket.key());
        drop(ticket);
        until_whole(&engine, &before);
        // A deadline that has passed before the call, and one that never does.
        let ticket = engine.submit_by(&work(FOR_EVER), Instant::now()).unwrap();
        assert_eq!(task_error(engine.wait(ticket, PATIENCE)), TaskError::DeadlinePassed);
        let ticket = engine.submit_by(&work(1), Deadline::NEVER).unwrap();
        engine.wait(ticket, PATIENCE).unwrap();
    });
}

#[test]
fn deadlines_are_kept_to_the_millisecond_and_not_at_the_next_audit() {
    leak_free(|bench| {
        let engine = working(bench, 1).start().unwrap();
        let running = engine.submit(&work(FOR_EVER)).unwrap();
        until_running(&engine, running.key());
        let mut late = Duration::ZERO;
        for _ in 0..20 {
            let deadline = Instant::now() + Duration::from_millis(5);
            let ticket = engine.submit_by(&work(0), deadline).unwrap();
            assert_eq!(task_error(engine.wait(ticket, PATIENCE)), TaskError::DeadlinePassed);
            late += Instant::now() - deadline;
        }
        // Audits alone would be late by 50 ms each, on average. Tenfold slack for a busy machine.
        assert!(late < Duration::from_millis(20 * 20), "{late:?}");
        engine.cancel(running);
    });
}

#[test]
fn a_double_keeps_deadlines_too_and_gives_the_slot_back_when_its_closure_returns() {
    leak_free(|_| {
        let open = std::sync::Arc::new(AtomicBool::new(false));
        let engine = {
            let open = open.clone();
            let builder = Engine::builder("test:gate").workers(1).slots(2);
            builder.start_with(move |_| {
                while !open.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                Ok(nearcall::Value::Int(1))
            })
        };
        let engine = engine.unwrap();
        let running = engine.submit_by(&Task::new(), Duration::from_millis(10)).unwrap();
        let waiting = engine.submit_by(&Task::new(), Duration::from_millis(10)).unwrap();
        assert_eq!(task_error(engine.wait(running, PATIENCE)), TaskError::DeadlinePassed);
        let error = wait_until("over", || match engine.retrieve(&waiting) {
            Err(error) => Ok(error),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(error, RetrieveError::Task(TaskError::DeadlinePassed));
        drop(waiting);
        assert!(matches!(engine.submit(&Task::new()), Err(SubmitError::Full { .. })));
        open.store(true, Ordering::Relaxed);
        until_free(&engine);
        assert_eq!(engine.call(&Task::new(), PATIENCE).unwrap().int(0), Ok(1));
    });
}

#[test]
fn a_task_that_kills_its_workers_is_done_as_often_as_was_said_and_tells_of_all_deaths() {
    leak_free(|bench| {
        for retries in [0, 1, 3] {
            let builder = bench.builder("die").signature(Signature::new().int("how"));
            let engine = builder.workers(2).retries(retries).start().unwrap();
            let error = task_error(engine.wait(engine.submit(&work(9)).unwrap(), PATIENCE));
            let TaskError::Died { pid, exit: Exit::Signal(9), report } = &error else {
                panic!("{error}")
            };
            assert_eq!(report.earlier.len(), retries as usize);
            let mut pids: BTreeSet<u32> = report.earlier.iter().map(|death| death.pid).collect();
            pids.insert(*pid);
            assert_eq!(pids.len(), retries as usize + 1, "one worker each: {error}");
            assert!(report.earlier.iter().all(|death| death.exit == Exit::Signal(9)));
            engine.call(&work(0), PATIENCE).unwrap();
            until_whole(&engine, &[]);
            assert_eq!(engine.health().unwrap().deaths, u64::from(retries) + 1);
        }
    });
}

#[test]
fn a_task_whose_worker_dies_is_done_by_another_where_retries_allow_it() {
    leak_free(|bench| {
        let points = ["claim.claimed", "serve.claimed", "serve.finished", "serve.written"];
        for point in points {
            // The first worker of each place dies.
            let builder = working(bench, 2).slots(8).retries(2);
            let engine = builder.env("NEARCALL_FAULTS", format!("{point}=kill@1")).start().unwrap();
            let tickets: Vec<_> = (0..8).map(|_| engine.submit(&work(1)).unwrap()).collect();
            for ticket in tickets {
                engine.wait(ticket, PATIENCE).unwrap_or_else(|error| panic!("{point}: {error}"));
            }
            until_free(&engine);
            assert!(engine.health().unwrap().deaths > 0, "{point}");
        }
    });
}

#[test]
fn a_task_of_any_size_that_is_done_once_more_is_still_the_same_task() {
    leak_free(|bench| {
        // In the entry, beside the slot's words, in the slot's body, where the outcome goes too.
        for (point, size) in ["serve.claimed", "serve.finished", "serve.written"]
            .into_iter()
            .flat_map(|point| [10, 90, 1000, 4000].map(|size| (point, size)))
        {
            let builder = bench.builder("echo").signature(Signature::new().str("text")).workers(1);
            let builder = builder.retries(1).env("NEARCALL_FAULTS", format!("{point}=kill@1"));
            let engine = builder.start().unwrap();
            let text = "x".repeat(size);
            let answer = engine.call(&Task::new().str(&text), PATIENCE);
            assert_eq!(answer.unwrap().str(0), Ok(text.as_str()), "{point} {size}");
            assert_eq!(engine.health().unwrap().deaths, 1);
        }
    });
}

#[test]
fn the_fork_servers_death_ends_running_tasks_with_an_error_that_says_so_or_they_run_again() {
    leak_free(|bench| {
        for retries in [0, 1] {
            let engine = working(bench, 1).slots(4).retries(retries).start().unwrap();
            let running = engine.submit(&work(200)).unwrap();
            let waiting = engine.submit(&work(0)).unwrap();
            until_running(&engine, running.key());
            let worker = engine.worker_pids()[0];
            let server = bench.processes().into_iter().find(|pid| *pid != worker).unwrap();
            signal(server, Signal::SIGKILL);
            match (retries, engine.wait(running, PATIENCE)) {
                (0, result) => {
                    let error = task_error(result);
                    let died = matches!(error, TaskError::Died { exit: Exit::WithServer, .. });
                    assert!(died, "{error}");
                }
                (_, result) => assert_ne!(result.unwrap().int(0), Ok(worker.into())),
            }
            assert_ne!(engine.wait(waiting, PATIENCE).unwrap().int(0), Ok(worker.into()));
        }
    });
}

#[test]
fn a_spare_takes_over_and_another_stands_by() {
    leak_free(|bench| {
        let engine = working(bench, 2).spare(true).start().unwrap();
        for _ in 0..3 {
            let spare = wait_until("standing by", || {
                let health = engine.health().unwrap();
                let spare = health.workers.iter().find(|w| w.state == WorkerState::Standby);
                spare.map(|spare| spare.pid).ok_or(format!("{health:?}"))
            });
            let serving = until_whole(&engine, &[]);
            assert!(!serving.contains(&spare));
            let tickets: Vec<_> = (0..16).map(|_| engine.submit(&work(1)).unwrap()).collect();
            for ticket in tickets {
                let pid = engine.wait(ticket, PATIENCE).unwrap().int(0).unwrap();
                assert_ne!(pid, i64::from(spare), "it takes no tasks");
            }
            signal(serving[0], Signal::SIGKILL);
            let now = until_whole(&engine, &serving[..1]);
            assert!(now.contains(&spare) && now.contains(&serving[1]), "{now:?}");
            // It serves.
            let mut answered = BTreeSet::new();
            wait_until("used", || {
                let tickets: Vec<_> = (0..4).map(|_| engine.submit(&work(1)).unwrap()).collect();
                for ticket in tickets {
                    answered.insert(engine.wait(ticket, PATIENCE).unwrap().int(0).unwrap());
                }
                answered.contains(&spare.into()).then_some(()).ok_or(format!("{answered:?}"))
            });
        }
    });
}

/// Calls from a thread until it is told to end; the answers, in order, without repetition.
fn answers_meanwhile(engine: &Engine, act: impl FnOnce()) -> Vec<String> {
    let over = AtomicBool::new(false);
    let begun = std::sync::Barrier::new(2);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let call = || {
                let answer = engine.call(&Task::new(), PATIENCE).unwrap();
                answer.str(0).unwrap().to_owned()
            };
            let mut answers = vec![call()];
            begun.wait();
            let mut last = false;
            while !last {
                last = over.load(Ordering::Relaxed);
                answers.push(call());
                answers.dedup();
            }
            answers
        });
        begun.wait();
        act();
        over.store(true, Ordering::Relaxed);
        caller.join().unwrap()
    })
}

#[test]
fn a_reload_brings_the_new_code_and_no_task_fails_or_sees_the_old_one_again() {
    leak_free(|bench| {
        for (workers, spare) in [(1, false), (2, true), (4, false)] {
            let code = Code::new("one");
            let engine = code.builder(bench).workers(workers).spare(spare).start().unwrap();
            let before = engine.worker_pids();
            let answers = answers_meanwhile(&engine, || {
                for content in ["two", "three"] {
                    code.say(content);
                    let reload = engine.reload(PATIENCE).unwrap();
                    assert_eq!(reload.workers, workers);
                    let answer = engine.call(&Task::new(), PATIENCE).unwrap();
                    assert_eq!(answer.str(0), Ok(content));
                }
            });
            assert_eq!(answers.first().map(String::as_str), Some("one"));
            assert_eq!(answers.last().map(String::as_str), Some("three"));
            until_whole(&engine, &before);
            assert_eq!(engine.health().unwrap().deaths, 0);
            // One fork server, and the workers.
            wait_until("the old ones gone", || {
                let processes = bench.processes();
                let wanted = 1 + workers + usize::from(spare);
                (processes.len() == wanted).then_some(()).ok_or(format!("{processes:?}"))
            });
        }
    });
}

#[test]
fn a_version_that_cannot_start_leaves_the_old_one_serving_and_tells_why() {
    leak_free(|bench| {
        let code = Code::new("one");
        let engine = code.builder(bench).start().unwrap();
        let before = engine.worker_pids();
        let answers = answers_meanwhile(&engine, || {
            for content in ["import_raises", "initialize_raises"] {
                code.say(content);
                let error = engine.reload(PATIENCE).unwrap_err();
                assert!(error.to_string().contains("as the file says"), "{error}");
                let as_at_start = matches!(
                    error,
                    ReloadError::Start(StartError::Import { .. } | StartError::Initialize { .. })
                );
                assert!(as_at_start, "{error:?}");
            }
        });
        assert_eq!(answers, ["one"]);
        assert_eq!(engine.worker_pids(), before);
        code.say("two");
        engine.reload(PATIENCE).unwrap();
        assert_eq!(engine.call(&Task::new(), PATIENCE).unwrap().str(0), Ok("two"));
    });
}

#[test]
fn a_reload_waits_for_tasks_that_run_and_says_so_when_it_is_late() {
    leak_free(|bench| {
        let engine = working(bench, 2).start().unwrap();
        let before = engine.worker_pids();
        let running = engine.submit(&work(500)).unwrap();
        until_running(&engine, running.key());
        let error = engine.reload(Duration::from_millis(300)).unwrap_err();
        let late = matches!(error, ReloadError::TimedOut { replaced: 1..=2, workers: 2 });
        assert!(late, "{error}");
        let answer = engine.wait(running, PATIENCE).unwrap();
        let pid = u32::try_from(answer.int(0).unwrap()).unwrap();
        assert!(before.contains(&pid), "an old worker has answered it");
        until_whole(&engine, &before);
        wait_until("over", || match engine.reload(PATIENCE) {
            Ok(_) => Ok(()),
            Err(error @ ReloadError::Busy) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        });
        engine.shutdown(PATIENCE);
        assert!(matches!(engine.reload(PATIENCE), Err(ReloadError::Closed)));
    });
}

#[test]
fn workers_retire_after_so_many_tasks_or_so_much_time_and_no_task_fails() {
    leak_free(|bench| {
        let builders: [fn(Builder) -> Builder; 2] = [
            |builder| builder.max_tasks(200),
            |builder| builder.max_age(Duration::from_millis(100)),
        ];
        for builder in builders {
            let engine = builder(working(bench, 2)).start().unwrap();
            let before = engine.worker_pids();
            let mut most = 0;
            wait_until("all replaced", || {
                let answer = engine.call(&work(0), PATIENCE).unwrap();
                most = most.max(answer.int(1).unwrap());
                let pids = engine.worker_pids();
                let replaced = !pids.iter().any(|pid| before.contains(pid));
                replaced.then_some(()).ok_or(format!("{pids:?} {before:?}"))
            });
            assert!(most > 0);
            assert_eq!(engine.health().unwrap().deaths, 0);
        }
    });
}

#[test]
fn when_no_worker_can_be_had_submit_says_so_and_why_and_takes_tasks_again_later() {
    leak_free(|bench| {
        let code = Code::new("one");
        let engine = code.builder(bench).workers(1).start().unwrap();
        code.say("initialize_raises");
        let worker = engine.worker_pids()[0];
        signal(worker, Signal::SIGSTOP);
        let waiting = engine.submit(&Task::new()).unwrap();
        signal(worker, Signal::SIGKILL);
        let error = task_error(engine.wait(waiting, PATIENCE));
        match &error {
            TaskError::Unavailable { reason } => assert!(reason.contains("as the file says")),
            // It was claimed in the moment of the stop.
            error => assert!(matches!(error, TaskError::Died { .. }), "{error}"),
        }
        wait_until("unavailable", || match engine.submit(&Task::new()) {
            Err(SubmitError::Unavailable { reason }) => {
                assert!(reason.contains("as the file says"), "{reason}");
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        let health = engine.health().unwrap();
        assert!(!health.takes_tasks && !health.is_well && health.supervisor_responds);
        code.say("two");
        wait_until("available", || match engine.call(&Task::new(), PATIENCE) {
            Ok(answer) => {
                assert_eq!(answer.str(0), Ok("one"), "the import was before");
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        });
        assert!(engine.health().unwrap().takes_tasks);
        until_free(&engine);
    });
}

#[test]
fn health_tells_the_worker_that_is_stopped_from_one_that_computes_or_waits_for_ever() {
    leak_free(|bench| {
        for (model, state) in [("work", WorkerState::Stuck), ("loop", WorkerState::Computing)] {
            let builder = bench.builder(model).signature(Signature::new().int("ms")).workers(1);
            let engine = builder.hung_after(Duration::from_millis(200)).start().unwrap();
            let health = engine.health().unwrap();
            assert!(health.is_well && health.takes_tasks && health.supervisor_responds);
            assert_eq!((health.wanted, health.in_use, health.deaths), (1, 0, 0));
            assert_eq!(health.workers[0].state, WorkerState::Idle);
            let pid = engine.worker_pids()[0];
            assert_eq!(health.workers[0].pid, pid);
            let key = engine.submit(&work(FOR_EVER)).unwrap().into_key();
            let until = |wanted: WorkerState| {
                wait_until("seen", || {
                    let health = engine.health().unwrap();
                    let worker = &health.workers[0];
                    assert_eq!(worker.pid, pid, "it is not killed for that");
                    let seen = worker.state == wanted && worker.running.is_some();
                    seen.then_some(health.clone()).ok_or(format!("{health:?}"))
                })
            };
            until(WorkerState::Running);
            let health = until(state);
            let (running, time) = health.workers[0].running.unwrap();
            assert!(running == key && time >= Duration::from_millis(200));
            assert!(!health.is_well);
            signal(pid, Signal::SIGSTOP);
            until(WorkerState::Stopped);
            signal(pid, Signal::SIGCONT);
            until(state);
            assert!(engine.cancel(key));
            let error = task_error(engine.wait(key, PATIENCE));
            assert_eq!(error, TaskError::Cancelled);
            until_whole(&engine, &[pid]);
            wait_until("well", || {
                let health = engine.health().unwrap();
                health.is_well.then_some(()).ok_or(format!("{health:?}"))
            });
        }
    });
}

#[test]
fn a_report_without_news_says_nothing() {
    assert_eq!(DeathReport::default().to_string(), "");
    assert_eq!(DeathReport::default().python_stack(), None);
}

#[test]
fn workers_have_the_environment_that_was_chosen() {
    leak_free(|bench| {
        let builder = || bench.builder("environment").signature(Signature::new().str("name"));
        for clear in [false, true] {
            let engine =
                builder().workers(1).clear_env(clear).env("CHOSEN", "yes").start().unwrap();
            let has = |name: &'static str| {
                let answer = engine.call(&Task::new().str(name), PATIENCE).unwrap();
                answer.str(0).is_ok()
            };
            assert!(has("CHOSEN") && has("OMP_NUM_THREADS"));
            assert_eq!(has("PATH"), !clear);
        }
    });
}

#[test]
fn a_shutdown_in_the_middle_of_a_replacement_ends_as_soon_as_all_is_done() {
    leak_free(|bench| {
        for spare in [false, true] {
            // Not ready before the shutdown has begun, nor long after.
            let builder = bench.builder("slow_start").workers(2).spare(spare);
            let engine = builder.start().unwrap();
            thread::scope(|scope| {
                let reload = scope.spawn(|| engine.reload(PATIENCE));
                // Workers of the new version are being started.
                wait_until("reloading", || {
                    let health = engine.health().unwrap();
                    let mut states = health.workers.iter().map(|worker| worker.state);
                    let starts = states.any(|state| state == WorkerState::Starting);
                    let others = bench.processes().len() > 2 + 1 + usize::from(spare) + 1;
                    (starts && others).then_some(()).ok_or(format!("{health:?}"))
                });
                let start = Instant::now();
                let shutdown = engine.shutdown(PATIENCE);
                assert!(shutdown.drained, "{shutdown:?}");
                assert!(start.elapsed() < PATIENCE / 3, "{:?}", start.elapsed());
                assert!(matches!(reload.join().unwrap(), Err(ReloadError::Closed)));
            });
        }
    });
}

/// Waits until no tasks are taken, and gives the reason.
fn until_unavailable(engine: &Engine) -> String {
    wait_until("unavailable", || match engine.submit(&Task::new()) {
        Err(SubmitError::Unavailable { reason }) => Ok(reason),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn a_worker_that_never_gets_ready_is_one_that_cannot_be_had() {
    leak_free(|bench| {
        let code = Code::new("one");
        let engine = code.builder(bench).workers(1).start_deadline(Duration::from_secs(2));
        let engine = engine.start().unwrap();
        code.say("initialize_hangs");
        signal(engine.worker_pids()[0], Signal::SIGKILL);
        let reason = until_unavailable(&engine);
        assert!(reason.contains("initialising the workers"), "{reason}");
        code.say("two");
        wait_until("available", || engine.call(&Task::new(), PATIENCE).map_err(|e| e.to_string()));
        until_free(&engine);
    });
}

#[test]
fn a_fork_server_that_cannot_be_had_is_told_by_submit_with_the_reason() {
    leak_free(|bench| {
        let program = Code::new("");
        fs::copy(env!("CARGO_BIN_EXE_nearcall-test-worker"), &program.0).unwrap();
        for (content, expected) in [
            (Some("import_raises"), "as the file says"),
            (Some("initialize_kills_the_server"), "fork server"),
            (None, "start the fork server"),
        ] {
            let code = Code::new("one");
            let engine = code.builder(bench).workers(1).worker(&program.0).start().unwrap();
            let worker = engine.worker_pids()[0];
            let server = bench.processes().into_iter().find(|pid| *pid != worker).unwrap();
            match content {
                Some(content) => code.say(content),
                None => fs::remove_file(&program.0).unwrap(),
            }
            signal(server, Signal::SIGKILL);
            let reason = until_unavailable(&engine);
            assert!(reason.contains(expected), "{content:?}: {reason}");
        }
    });
}

#[test]
fn a_spare_that_never_gets_ready_does_not_keep_a_reload_from_its_end() {
    leak_free(|bench| {
        let code = Code::new("one");
        let engine = code.builder(bench).workers(1).spare(true).start().unwrap();
        let spare = |state: WorkerState| {
            wait_until("a spare", || {
                let health = engine.health().unwrap();
                let spare = health.workers.iter().find(|worker| worker.state == state);
                spare.map(|spare| spare.pid).ok_or(format!("{health:?}"))
            })
        };
        let ready = spare(WorkerState::Standby);
        code.say("initialize_hangs");
        signal(ready, Signal::SIGKILL);
        let hanging = spare(WorkerState::Starting);
        wait_until("hanging", || match common::process_state(hanging) {
            Some('S') => Ok(()),
            state => Err(format!("{state:?}")),
        });
        code.say("two");
        let deaths = engine.health().unwrap().deaths;
        engine.reload(PATIENCE / 2).unwrap();
        assert_eq!(engine.call(&Task::new(), PATIENCE).unwrap().str(0), Ok("two"));
        spare(WorkerState::Standby);
        assert_eq!(engine.health().unwrap().deaths, deaths, "it was replaced in order");
    });
}

#[test]
fn a_worker_that_was_replaced_and_does_not_end_is_killed_and_keeps_no_place() {
    leak_free(|bench| {
        let builder = bench.builder("finalize_hangs").workers(1).max_tasks(1);
        let engine = builder.start_deadline(Duration::from_secs(2)).start().unwrap();
        let mut before = BTreeSet::new();
        // More than there are places.
        wait_until("replaced", || {
            engine.call(&Task::new(), PATIENCE).unwrap();
            before.extend(engine.worker_pids());
            (before.len() >= 6).then_some(()).ok_or(format!("{before:?}"))
        });
    });
}

#[test]
fn times_that_no_clock_gets_to_are_never() {
    leak_free(|bench| {
        let builder = working(bench, 1).interrupt(Duration::MAX).hung_after(Duration::MAX);
        let builder = builder.max_age(Duration::MAX).start_deadline(Duration::MAX);
        let engine = builder.start().unwrap();
        let key = engine.submit_by(&work(FOR_EVER), Duration::MAX).unwrap().into_key();
        until_running(&engine, key);
        assert!(engine.cancel(key));
        assert_eq!(task_error(engine.wait(key, PATIENCE)), TaskError::Cancelled);
        // Of the last of these at least it has taken note.
        for _ in 0..2 {
            wait_until("alive", || {
                let health = engine.health().unwrap();
                (health.supervisor_responds && health.takes_tasks)
                    .then_some(())
                    .ok_or(format!("{health:?}"))
            });
        }
    });
}
