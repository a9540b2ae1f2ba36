//! Interrupts: a call that is past its deadline, or cancelled, is broken off, and no other one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::time::Duration;

use common::{Bench, PATIENCE, leak_free, process_state, signal, wait_until};
use nearcall::error::{RetrieveError, TaskError, WaitError};
use nearcall::{Builder, Engine, Key, Signature, StartMethod, Task};
use nix::sys::signal::Signal;

/// Longer than any test waits.
const FOR_EVER: i64 = 1_000_000;

/// A builder for a model that sleeps until it is interrupted, `elsewhere` on another thread; then
/// tells its process id and how often it was interrupted.
fn interruptible(bench: &Bench) -> Builder {
    let signature = Signature::new().int("ms").bool("elsewhere");
    bench.builder("interruptible").signature(signature).workers(1).interrupt(PATIENCE)
}

fn task(ms: i64) -> Task<'static> {
    Task::new().int(ms).bool(false)
}

/// The worker's process id, and how often it was interrupted.
fn ask(engine: &Engine) -> (u32, i64) {
    let answer = engine.call(&task(0), PATIENCE).unwrap();
    (u32::try_from(answer.int(0).unwrap()).unwrap(), answer.int(1).unwrap())
}

fn until_running(engine: &Engine, key: Key) {
    wait_until("running", || {
        let health = engine.health().unwrap();
        let runs = |worker: &nearcall::WorkerHealth| worker.running.is_some_and(|r| r.0 == key);
        health.workers.iter().any(runs).then_some(()).ok_or(format!("{health:?}"))
    });
}

fn until_stopped(pid: u32) {
    wait_until("stopped", || match process_state(pid) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    });
}

/// Waits until a stopped process has a signal to come.
fn until_pending(pid: u32) {
    wait_until("pending", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
        pending
            .contains(|digit: char| digit != '0' && digit.is_ascii_hexdigit())
            .then_some(())
            .ok_or(status)
    });
}

fn until_free(engine: &Engine) {
    wait_until("free", || match engine.in_use() {
        0 => Ok(()),
        used => Err(format!("{used} slots in use")),
    });
}

fn ended(engine: &Engine, key: Key) -> TaskError {
    match engine.wait(key, PATIENCE) {
        Err(WaitError::Retrieve(RetrieveError::Task(error))) => error,
        other => panic!("no error of a task: {other:?}"),
    }
}

#[test]
fn a_call_past_its_deadline_is_interrupted_and_its_worker_lives() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        leak_free(|bench| {
            let engine = interruptible(bench).start_method(method).start().unwrap();
            let (pid, _) = ask(&engine);
            let mut struck = 0;
            while struck < 20 {
                let task = Task::new().int(FOR_EVER).bool(struck % 4 == 0);
                let ticket = engine.submit_by(&task, Duration::from_millis(5)).unwrap();
                assert_eq!(ended(&engine, ticket.into_key()), TaskError::DeadlinePassed);
                let (after, strikes) = ask(&engine);
                // It may have passed before the task was begun.
                assert!(after == pid && (struck..=struck + 1).contains(&strikes));
                struck = strikes;
            }
            assert_eq!(engine.health().unwrap().deaths, 0);
            until_free(&engine);
        });
    }
}

#[test]
fn a_call_that_is_cancelled_is_interrupted_and_its_worker_lives() {
    leak_free(|bench| {
        let engine = interruptible(bench).start().unwrap();
        let (pid, _) = ask(&engine);
        let key = engine.submit(&task(FOR_EVER)).unwrap().into_key();
        until_running(&engine, key);
        assert!(engine.cancel(key));
        assert_eq!(ended(&engine, key), TaskError::Cancelled);
        assert_eq!(ask(&engine), (pid, 1));
    });
}

#[test]
fn an_interrupt_that_comes_right_before_a_system_call_ends_that_too() {
    leak_free(|bench| {
        let signature = Signature::new().bool("wait");
        let builder = bench.builder("waits_when_struck").signature(signature).workers(1);
        let engine = builder.interrupt(PATIENCE).start().unwrap();
        let before = engine.worker_pids();
        for _ in 0..10 {
            let key = engine.submit(&Task::new().bool(true)).unwrap().into_key();
            until_running(&engine, key);
            assert!(engine.cancel(key));
            engine.call(&Task::new().bool(false), PATIENCE).unwrap();
            assert_eq!(engine.worker_pids(), before);
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}

#[test]
fn a_call_that_does_not_heed_the_interrupt_is_killed_after_its_grace() {
    leak_free(|bench| {
        let builder = bench.builder("work").signature(Signature::new().int("ms")).workers(1);
        let engine = builder.interrupt(Duration::from_millis(50)).start().unwrap();
        let before = engine.worker_pids();
        let key = engine.submit(&Task::new().int(FOR_EVER)).unwrap().into_key();
        until_running(&engine, key);
        assert!(engine.cancel(key));
        assert_eq!(ended(&engine, key), TaskError::Cancelled);
        engine.call(&Task::new().int(0), PATIENCE).unwrap();
        assert_ne!(engine.worker_pids(), before);
    });
}

#[test]
fn an_interrupt_that_comes_after_the_call_hits_nothing() {
    for point in ["serve.called", "serve.finished", "serve.completed", "serve.tidied"] {
        leak_free(|bench| {
            let builder = interruptible(bench).env("NEARCALL_FAULTS", format!("{point}=stop@1"));
            let engine = builder.start().unwrap();
            let pid = engine.worker_pids()[0];
            let ticket = engine.submit(&task(0)).unwrap();
            until_stopped(pid);
            let key = ticket.into_key();
            // Where it is published, it is too late for that too.
            let cancelled = engine.cancel(key);
            assert_eq!(cancelled, matches!(point, "serve.called" | "serve.finished"), "{point}");
            if cancelled {
                until_pending(pid);
            }
            signal(pid, Signal::SIGCONT);
            if cancelled {
                assert_eq!(ended(&engine, key), TaskError::Cancelled);
            } else {
                engine.wait(key, PATIENCE).unwrap();
            }
            for _ in 0..10 {
                assert_eq!(ask(&engine), (pid, 0), "{point}");
            }
        });
    }
}

#[test]
fn an_interrupt_that_comes_before_the_call_begins_breaks_it_off() {
    for point in ["serve.claimed", "serve.copied"] {
        leak_free(|bench| {
            let builder = interruptible(bench).env("NEARCALL_FAULTS", format!("{point}=stop@1"));
            let engine = builder.start().unwrap();
            let pid = engine.worker_pids()[0];
            let key = engine.submit(&task(FOR_EVER)).unwrap().into_key();
            until_stopped(pid);
            assert!(engine.cancel(key));
            until_pending(pid);
            signal(pid, Signal::SIGCONT);
            assert_eq!(ask(&engine), (pid, 1), "{point}");
        });
    }
}

#[test]
fn interrupts_at_any_moment_hit_no_other_task() {
    leak_free(|bench| {
        let engine = interruptible(bench).start().unwrap();
        let (pid, _) = ask(&engine);
        let mut struck = 0;
        for round in 0..2000 {
            let ms = Duration::from_micros(500 + round % 1000);
            let passing = engine.submit_by(&task(1), ms).unwrap().into_key();
            // Right behind it, and without a deadline.
            let (after, strikes) = ask(&engine);
            assert_eq!(after, pid);
            assert!((struck..=struck + 1).contains(&strikes));
            struck = strikes;
            match engine.wait(passing, PATIENCE) {
                Ok(_) => {}
                Err(WaitError::Retrieve(RetrieveError::Task(TaskError::DeadlinePassed))) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(struck > 0, "none was interrupted");
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}

#[test]
fn a_stray_signal_ends_neither_call_nor_worker() {
    leak_free(|bench| {
        let engine = interruptible(bench).start().unwrap();
        let (pid, _) = ask(&engine);
        let ticket = engine.submit(&task(50)).unwrap();
        until_running(&engine, ticket.key());
        signal(pid, Signal::SIGINT);
        // SAFETY: a signal to a process that this test has started: the interrupt's, from nobody.
        assert_eq!(unsafe { libc::kill(pid.cast_signed(), 50) }, 0);
        engine.wait(ticket, PATIENCE).unwrap();
        assert_eq!(ask(&engine), (pid, 0));
    });
}
