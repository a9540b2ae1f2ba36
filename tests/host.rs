//! Hosts that fork, ignore or reap children, close descriptors, start from passing threads, die.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Bench, PATIENCE, leak_free, signal, wait_until};
use nearcall::error::{
    ReloadError, ReservedError, RetrieveError, SubmitError, TaskError, WaitError,
};
use nearcall::{DType, Deadline, Engine, Exit, Signature, Task, TensorSpec, WorkerState};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

fn echo(bench: &Bench) -> Engine {
    bench.builder("echo").signature(Signature::new().int("x")).start().unwrap()
}

fn works(engine: &Engine) {
    for number in 0..50 {
        let answer = engine.call(&Task::new().int(number), PATIENCE).unwrap();
        assert_eq!(answer.int(0), Ok(number));
    }
}

#[test]
fn in_a_forked_child_every_call_is_an_error_and_nothing_of_the_parents_is_harmed() {
    leak_free(|bench| {
        let engine = echo(bench);
        let ticket = engine.submit(&Task::new().int(7)).unwrap();
        let tensor = [TensorSpec::input(DType::U8, &[2])];
        let mut place = engine.reserve(&tensor).unwrap();
        place.write(0, 0, &[1_u8, 2]).unwrap();
        // SAFETY: the child calls the engine, whose calls must end before they touch anything
        // that another thread may have held, and leaves by `_exit`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // A panic must not end the child's only thread, and so the child, with status 0.
                let all = catch_unwind(AssertUnwindSafe(|| {
                    let task = Task::new().int(1);
                    let all = matches!(engine.submit(&task), Err(SubmitError::ForkedChild))
                        && matches!(engine.retrieve(&ticket), Err(RetrieveError::ForkedChild))
                        && matches!(
                            engine.wait(&ticket, Deadline::NEVER),
                            Err(WaitError::Retrieve(RetrieveError::ForkedChild))
                        )
                        && engine.call(&task, Deadline::NEVER).is_err()
                        && engine.submit_by(&task, Deadline::NEVER).is_err()
                        && !engine.cancel(&ticket)
                        && engine.health().is_none()
                        && matches!(engine.reserve(&tensor), Err(SubmitError::ForkedChild))
                        && place.write(0, 0, &[3_u8]) == Err(ReservedError::ForkedChild)
                        && matches!(place.submit(&task), Err(SubmitError::ForkedChild))
                        && matches!(engine.reload(PATIENCE), Err(ReloadError::ForkedChild));
                    engine.shutdown(PATIENCE);
                    drop(ticket);
                    all
                }));
                drop(place);
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(engine))).is_ok();
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(i32::from(!(dropped && all.unwrap_or(false)))) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
        }
        assert_eq!(engine.wait(ticket, PATIENCE).unwrap().int(0), Ok(7));
        // SAFETY: the workers are this test's own, and map nothing else.
        assert_eq!(unsafe { place.bytes_mut(0) }, Ok(&mut [1, 2][..]));
        drop(place);
        works(&engine);
    });
}

#[test]
fn an_engine_outlives_the_thread_that_started_it() {
    leak_free(|bench| {
        let engine = thread::scope(|scope| scope.spawn(|| echo(bench)).join().unwrap());
        works(&engine);
    });
}

#[test]
fn a_host_that_ignores_its_children_loses_nothing() {
    leak_free(|bench| {
        // SAFETY: ignoring a signal runs no handler.
        let before = unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) };
        let engine = echo(bench);
        works(&engine);
        let pid = engine.worker_pids()[0];
        signal(pid, Signal::SIGKILL);
        wait_until("replaced", || {
            let pids = engine.worker_pids();
            if pids.len() == 2 && !pids.contains(&pid) { Ok(()) } else { Err(format!("{pids:?}")) }
        });
        works(&engine);
        drop(engine);
        // SAFETY: back to what it was.
        unsafe { nix::sys::signal::signal(Signal::SIGCHLD, before.unwrap()) }.unwrap();
    });
}

#[test]
fn a_host_that_reaps_every_child_itself_gets_exit_statuses_all_the_same() {
    leak_free(|bench| {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reaper = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = waitpid(None, Some(WaitPidFlag::WNOHANG));
                    thread::yield_now();
                }
            });
            let builder = bench.builder("die").signature(Signature::new().int("how"));
            // A start asks programs for their versions; the reaper may take their status away.
            let engine = builder.start().unwrap();
            let key = engine.submit(&Task::new().int(11)).unwrap().into_key();
            let error = engine.wait(key, PATIENCE).unwrap_err();
            assert!(
                matches!(
                    error,
                    WaitError::Retrieve(RetrieveError::Task(TaskError::Died {
                        exit: Exit::Signal(11),
                        ..
                    }))
                ),
                "{error}"
            );
            engine.call(&Task::new().int(0), PATIENCE).unwrap();
            drop(engine);
            over.store(true, Ordering::Relaxed);
            reaper.join().unwrap();
        });
    });
}

/// Not a test by itself: run by the next one, with some of its standard descriptors closed.
#[test]
#[ignore = "needs closed descriptors: run by another test"]
fn with_closed_descriptors() {
    leak_free(|bench| {
        let builder = bench.builder("descriptors").workers(1);
        let engine = builder.start().unwrap();
        let answer = engine.call(&Task::new(), PATIENCE).unwrap();
        for index in 0..3 {
            let target = answer.str(index).unwrap();
            assert!(!target.contains("nearcall"), "the worker's descriptor {index} is {target}");
        }
    });
}

#[test]
fn a_host_without_standard_descriptors_does_not_make_the_segment_one() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let own = std::env::current_exe().unwrap();
        let script = format!("exec \"$0\" --exact with_closed_descriptors --ignored {closed}");
        let status = std::process::Command::new("sh").args(["-c", &script]).arg(own).status();
        assert!(status.unwrap().success(), "with {closed}");
    }
}

#[test]
fn engines_do_not_disturb_each_other() {
    leak_free(|bench| {
        let (first, second) = (echo(bench), echo(bench));
        thread::scope(|scope| {
            scope.spawn(|| works(&first));
            scope.spawn(|| works(&second));
        });
        drop(first);
        works(&second);
    });
}

#[test]
fn the_death_of_the_host_ends_all_its_processes() {
    leak_free(|bench| {
        // SAFETY: the child only starts an engine of its own, in a process whose other threads,
        // which the fork has not copied, hold no lock that this needs, and never returns.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let engine = echo(bench);
                works(&engine);
                std::mem::forget(engine);
                loop {
                    thread::park();
                }
            }
            ForkResult::Parent { child } => {
                let pid = u32::try_from(child.as_raw()).unwrap();
                // Fork server and two workers.
                wait_until("started", || match bench.processes().len() {
                    3.. => Ok(()),
                    count => Err(format!("{count} processes")),
                });
                signal(pid, Signal::SIGKILL);
                waitpid(child, None).unwrap();
                // `leak_free` sees the rest.
            }
        }
    });
}

/// Since some time ago, for all processes alike.
fn milliseconds() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[test]
fn after_a_pause_of_the_host_a_task_gets_a_moment_to_end_although_its_deadline_has_passed() {
    leak_free(|bench| {
        let (stopped, told) = nix::unistd::pipe().unwrap();
        // A host of its own, because it is stopped.
        // SAFETY: as in the test above.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // The worker stops when it has called the model, and has the answer to write.
                let builder = bench.builder("echo").env("NEARCALL_FAULTS", "serve.called=stop@1");
                let engine = builder.workers(1).start().unwrap();
                let ticket = engine.submit_by(&Task::new(), Duration::from_millis(500)).unwrap();
                let state = || engine.health().unwrap().workers[0].state;
                wait_until("stopped", || match state() {
                    WorkerState::Stopped => Ok(()),
                    state => Err(format!("{state:?}")),
                });
                nix::unistd::write(&told, &engine.worker_pids()[0].to_ne_bytes()).unwrap();
                let over = AtomicBool::new(false);
                let answered = thread::scope(|scope| {
                    // When the supervisor was asked for each sign of life that it has given.
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            let asked = milliseconds();
                            if engine.health().unwrap().supervisor_responds {
                                nix::unistd::write(&told, &asked.to_ne_bytes()).unwrap();
                            }
                            thread::sleep(Duration::from_millis(1));
                        }
                    });
                    let answered = engine.wait(ticket, PATIENCE).is_ok();
                    over.store(true, Ordering::Relaxed);
                    answered
                });
                drop(engine);
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(i32::from(!answered)) }
            }
            ForkResult::Parent { child } => {
                let mut worker = [0; 4];
                nix::unistd::read(&stopped, &mut worker).unwrap();
                let host = u32::try_from(child.as_raw()).unwrap();
                signal(host, Signal::SIGSTOP);
                // Longer than the deadline, and than the supervisor can be late by itself.
                thread::sleep(Duration::from_millis(1500));
                let resumed = milliseconds();
                signal(host, Signal::SIGCONT);
                // The supervisor comes to its senses before the worker does.
                let mut asked = [0; 8];
                while u64::from_ne_bytes(asked) <= resumed {
                    nix::unistd::read(&stopped, &mut asked).unwrap();
                }
                signal(u32::from_ne_bytes(worker), Signal::SIGCONT);
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
        }
    });
}
