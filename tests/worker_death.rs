//! Workers that die or stop at every named step, the fork server's death, the host's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::time::Duration;

use common::{Bench, PATIENCE, leak_free, process_state, signal, wait_until};
use nearcall::error::{RetrieveError, SubmitError, TaskError, WaitError};
use nearcall::{Answer, Builder, Engine, Exit, Key, Signature, Task};
use nix::sys::signal::Signal;

/// A builder for a model that sleeps and then tells its process id, with faults for its workers.
fn faulty(bench: &Bench, workers: usize, faults: &str) -> Builder {
    bench
        .builder("sleep")
        .signature(Signature::new().int("ms"))
        .workers(workers)
        .env("NEARCALL_FAULTS", faults)
}

fn submit(engine: &Engine, ms: i64) -> Key {
    engine.submit(&Task::new().int(ms)).unwrap().into_key()
}

/// The worker that died and how, for a task that was in its hands; `None` for an answer.
fn death(outcome: Result<Answer, WaitError>) -> Option<(u32, Exit)> {
    match outcome {
        Ok(_) => None,
        Err(WaitError::Retrieve(RetrieveError::Task(TaskError::Died { pid, exit, .. }))) => {
            Some((pid, exit))
        }
        Err(error) => panic!("{error}"),
    }
}

fn until_whole(engine: &Engine, dead: &[u32]) {
    wait_until("whole again", || {
        let pids = engine.worker_pids();
        let whole = pids.len() == engine.workers() && !dead.iter().any(|pid| pids.contains(pid));
        if whole { Ok(()) } else { Err(format!("{pids:?}")) }
    });
}

fn until_stopped(bench: &Bench) -> u32 {
    wait_until("stopped", || {
        let mut processes = bench.processes().into_iter();
        processes
            .find(|pid| process_state(*pid) == Some('T'))
            .ok_or_else(|| "no process is stopped".to_owned())
    })
}

/// Points at which a worker has no task, or has completed it: nobody's task is lost.
const OWNING_NOTHING: [&str; 4] =
    ["claim.locked", "claim.before", "serve.completed", "serve.parked"];

/// Points at which a worker has a task that it has not completed.
const OWNING_A_TASK: [&str; 5] =
    ["claim.claimed", "serve.claimed", "serve.called", "serve.finished", "serve.written"];

#[test]
fn a_worker_killed_while_it_has_no_task_takes_none_with_it() {
    for point in OWNING_NOTHING {
        for workers in [1, 2] {
            leak_free(|bench| {
                let engine = faulty(bench, workers, &format!("{point}=kill@1")).start().unwrap();
                let before = engine.worker_pids();
                for _ in 0..10 {
                    let keys: Vec<Key> = (0..20).map(|_| submit(&engine, 0)).collect();
                    for key in keys {
                        assert_eq!(death(engine.wait(key, PATIENCE)), None, "{point}");
                    }
                }
                if point == "serve.parked" {
                    // They died before anybody asked for their process ids.
                    return until_whole(&engine, &[]);
                }
                // With two workers the second may have been idle all the time.
                let dead = wait_until("dead", || {
                    let now = engine.worker_pids();
                    let dead = before.iter().copied().find(|pid| !now.contains(pid));
                    dead.ok_or_else(|| format!("{now:?} at {point}"))
                });
                until_whole(&engine, &[dead]);
                assert_eq!(engine.in_use(), 0);
            });
        }
    }
}

#[test]
fn a_task_in_the_hands_of_a_killed_worker_ends_with_its_pid_and_signal_and_the_others_are_answered()
{
    for point in OWNING_A_TASK {
        for workers in [1, 2] {
            leak_free(|bench| {
                let engine = faulty(bench, workers, &format!("{point}=kill@1")).start().unwrap();
                let before = engine.worker_pids();
                let keys: Vec<Key> = (0..40).map(|_| submit(&engine, 1)).collect();
                let deaths: Vec<_> =
                    keys.into_iter().filter_map(|key| death(engine.wait(key, PATIENCE))).collect();
                // Each first worker that had a task died in it, and took no other.
                assert!((1..=workers).contains(&deaths.len()), "{point}: {deaths:?}");
                for (pid, exit) in &deaths {
                    assert!(before.contains(pid), "{point}");
                    assert_eq!(*exit, Exit::Signal(9), "{point}");
                }
                let dead: Vec<u32> = deaths.iter().map(|(pid, _)| *pid).collect();
                until_whole(&engine, &dead);
                assert_eq!(death(engine.wait(submit(&engine, 0), PATIENCE)), None);
            });
        }
    }
}

#[test]
fn the_error_of_a_dead_worker_tells_every_kind_of_end() {
    for (how, exit, text) in [
        (6, Exit::Signal(6), "signal 6 (SIGABRT)"),
        (9, Exit::Signal(9), "signal 9 (SIGKILL)"),
        (11, Exit::Signal(11), "signal 11 (SIGSEGV)"),
        (-3, Exit::Code(3), "exit status 3"),
    ] {
        leak_free(|bench| {
            let builder = bench.builder("die").signature(Signature::new().int("how"));
            let engine = builder.workers(1).start().unwrap();
            let pid = engine.worker_pids()[0];
            let key = engine.submit(&Task::new().int(how)).unwrap().into_key();
            let error = engine.wait(key, PATIENCE).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.to_string().contains(&pid.to_string()), "{error}");
            assert_eq!(death(Err(error)), Some((pid, exit)));
            let after = engine.call(&Task::new().int(0), PATIENCE);
            assert_eq!(after.unwrap().int(0), Ok(0));
        });
    }
}

#[test]
fn an_idle_worker_that_is_killed_is_replaced_and_no_task_notices() {
    leak_free(|bench| {
        let engine = faulty(bench, 2, "").start().unwrap();
        let pids = engine.worker_pids();
        for pid in &pids {
            signal(*pid, Signal::SIGKILL);
        }
        let keys: Vec<Key> = (0..20).map(|_| submit(&engine, 0)).collect();
        for key in keys {
            // A task may have been claimed before the signal came.
            let _ = death(engine.wait(key, PATIENCE));
        }
        until_whole(&engine, &pids);
        for _ in 0..20 {
            assert_eq!(death(engine.wait(submit(&engine, 0), PATIENCE)), None);
        }
    });
}

#[test]
fn a_worker_stopped_in_the_lock_stalls_neither_submit_nor_for_long_the_others() {
    for (workers, point) in
        [(1, "claim.locked"), (2, "claim.locked"), (1, "claim.claimed"), (2, "claim.claimed")]
    {
        leak_free(|bench| {
            let engine = faulty(bench, workers, &format!("{point}=stop@1")).start().unwrap();
            let first = submit(&engine, 0);
            let stopped = until_stopped(bench);
            // Up to capacity, and then a refusal, all at once.
            let mut keys = vec![first];
            loop {
                match engine.submit(&Task::new().int(0)) {
                    Ok(ticket) => keys.push(ticket.into_key()),
                    Err(SubmitError::Full { slots }) => break assert_eq!(slots, 64),
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(keys.len(), 64);
            // After the claim the task is in the hands of who stopped, and ends with it.
            let deaths: Vec<_> =
                keys.into_iter().filter_map(|key| death(engine.wait(key, PATIENCE))).collect();
            let claimed = if point == "claim.claimed" { 1..=workers } else { 0..=0 };
            assert!(claimed.contains(&deaths.len()), "{point}: {deaths:?}");
            until_whole(&engine, &[stopped]);
        });
    }
}

#[test]
fn a_worker_stopped_while_idle_keeps_no_task_from_the_others() {
    for workers in [1, 2] {
        leak_free(|bench| {
            let engine = faulty(bench, workers, "serve.parked=stop@1").start().unwrap();
            let stopped = until_stopped(bench);
            let keys: Vec<Key> = (0..20).map(|_| submit(&engine, 0)).collect();
            // The audits run while there is a task or an answer: one stays until the end.
            let (last, keys) = keys.split_last().unwrap();
            for key in keys {
                assert_eq!(death(engine.wait(*key, PATIENCE)), None);
            }
            until_whole(&engine, &[stopped]);
            assert_eq!(death(engine.wait(*last, PATIENCE)), None);
        });
    }
}

#[test]
fn a_worker_stopped_in_a_task_holds_that_task_only_until_it_is_killed() {
    for point in ["serve.claimed", "serve.called"] {
        leak_free(|bench| {
            let engine = faulty(bench, 2, &format!("{point}=stop@1")).start().unwrap();
            let before = engine.worker_pids();
            let keys = [submit(&engine, 0), submit(&engine, 0)];
            // Both first workers may stop, each in its task.
            let stopped = until_stopped(bench);
            assert!(before.contains(&stopped));
            signal(stopped, Signal::SIGKILL);
            // The other first worker stops as well, whenever it gets its first task.
            let end = |key| loop {
                match engine.wait(key, Duration::from_millis(50)) {
                    Err(WaitError::TimedOut) => signal(until_stopped(bench), Signal::SIGKILL),
                    outcome => break death(outcome),
                }
            };
            let mut deaths: Vec<_> = keys.into_iter().filter_map(end).collect();
            assert!(deaths.contains(&(stopped, Exit::Signal(9))), "{point}: {deaths:?}");
            deaths.extend((0..20).filter_map(|_| end(submit(&engine, 0))));
            assert!(deaths.len() <= 2, "{point}: {deaths:?}");
            let dead: Vec<u32> = deaths.iter().map(|(pid, _)| *pid).collect();
            until_whole(&engine, &dead);
        });
    }
}

#[test]
fn a_stopped_worker_that_goes_on_answers_its_task() {
    leak_free(|bench| {
        let engine = faulty(bench, 1, "serve.claimed=stop@1").start().unwrap();
        let key = submit(&engine, 0);
        let stopped = until_stopped(bench);
        assert_eq!(engine.retrieve(key), Ok(None));
        signal(stopped, Signal::SIGCONT);
        assert_eq!(engine.wait(key, PATIENCE).unwrap().int(0), Ok(stopped.into()));
    });
}

#[test]
fn the_death_of_the_fork_server_ends_running_tasks_and_loses_no_queued_one() {
    leak_free(|bench| {
        let engine = faulty(bench, 1, "serve.claimed=stop@1").start().unwrap();
        let before = engine.worker_pids();
        let running = submit(&engine, 0);
        // Stopped in the task: it has been taken up, and is not done.
        until_stopped(bench);
        let queued: Vec<Key> = (0..10).map(|_| submit(&engine, 0)).collect();
        let server = bench.processes().into_iter().find(|pid| !before.contains(pid)).unwrap();
        signal(server, Signal::SIGKILL);
        let (pid, _) = death(engine.wait(running, PATIENCE)).unwrap();
        assert!(before.contains(&pid));
        for key in queued {
            assert_eq!(death(engine.wait(key, PATIENCE)), None);
        }
        until_whole(&engine, &before);
    });
}

#[test]
fn a_fork_server_that_is_stopped_is_replaced_when_a_worker_is_needed() {
    leak_free(|bench| {
        let builder = faulty(bench, 1, "").start_deadline(Duration::from_secs(1));
        let engine = builder.start().unwrap();
        let before = engine.worker_pids();
        let server = bench.processes().into_iter().find(|pid| !before.contains(pid)).unwrap();
        signal(server, Signal::SIGSTOP);
        signal(before[0], Signal::SIGKILL);
        let key = submit(&engine, 0);
        // Answered by a worker of the next server, unless the dying one had taken it.
        let _ = death(engine.wait(key, PATIENCE));
        until_whole(&engine, &before);
        assert_eq!(death(engine.wait(submit(&engine, 0), PATIENCE)), None);
    });
}

#[test]
fn workers_that_die_again_and_again_are_replaced_again_and_again() {
    leak_free(|bench| {
        let builder = bench.builder("die").signature(Signature::new().int("how")).slots(8);
        let engine = builder.start().unwrap();
        let mut died = 0;
        for _ in 0..10 {
            let deadly = engine.submit(&Task::new().int(9)).unwrap().into_key();
            let harmless: Vec<Key> =
                (0..7).map(|_| engine.submit(&Task::new().int(0)).unwrap().into_key()).collect();
            died += usize::from(death(engine.wait(deadly, PATIENCE)).is_some());
            for key in harmless {
                assert_eq!(death(engine.wait(key, PATIENCE)), None);
            }
        }
        assert_eq!(died, 10);
        until_whole(&engine, &[]);
    });
}

#[test]
fn a_worker_that_frees_for_long_what_a_call_has_left_is_no_idle_one() {
    leak_free(|bench| {
        let engine = bench.builder("slow_tidy").workers(1).start().unwrap();
        let before = engine.worker_pids();
        engine.call(&Task::new(), PATIENCE).unwrap();
        // Waits for a worker that has no task, takes none, and must be left alone.
        engine.call(&Task::new(), PATIENCE).unwrap();
        assert_eq!(engine.worker_pids(), before);
    });
}

#[test]
fn a_process_that_a_model_forks_answers_nothing_and_serves_nothing() {
    leak_free(|bench| {
        let engine = bench.builder("fork").workers(1).start().unwrap();
        for _ in 0..10 {
            let answer = engine.call(&Task::new(), PATIENCE).unwrap();
            assert_eq!(answer.int(0), Ok(1), "the child's exit status");
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}
