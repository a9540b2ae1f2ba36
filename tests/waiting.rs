//! What each wait policy promises: to whoever waits, and to the machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::process;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Bench, PATIENCE, leak_free, process_state, signal, wait_until};
use nearcall::error::{RetrieveError, TaskError, WaitError};
use nearcall::{Args, Builder, Engine, Signature, Task, Value, WaitPolicy};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, gettid};

const POLICIES: [WaitPolicy; 3] = [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Park];

/// Starts a builder, over processes or over threads.
type Start = fn(Builder) -> Engine;

fn processes(builder: Builder) -> Engine {
    builder.start().unwrap()
}

fn double(builder: Builder) -> Engine {
    builder.start_with(|args: &Args<'_>| Ok(Value::Tuple(args.values().to_vec()))).unwrap()
}

/// Runs a test over both kinds of engines, under these policies.
fn everywhere(policies: &[WaitPolicy], test: impl Fn(&Bench, Start, WaitPolicy)) {
    for start in [processes as Start, double] {
        for policy in policies {
            leak_free(|bench| test(bench, start, *policy));
        }
    }
}

fn echo(bench: &Bench, policy: WaitPolicy) -> Builder {
    bench.builder("echo").signature(Signature::new().int("x")).wait_policy(policy)
}

/// Calls from many threads at once; each answer must be that of its own call.
fn call_from(engine: &Engine, submitters: i64, calls: i64) {
    thread::scope(|scope| {
        for submitter in 0..submitters {
            scope.spawn(move || {
                for call in 0..calls {
                    let number = submitter * calls + call;
                    let answer = engine.call(&Task::new().int(number), PATIENCE);
                    assert_eq!(answer.unwrap().int(0), Ok(number));
                }
            });
        }
    });
    assert_eq!(engine.in_use(), 0);
}

/// A thread of this process or of another: the folder in which the kernel tells of it.
fn thread_folder(pid: u32, thread: u32) -> String {
    format!("/proc/{pid}/task/{thread}")
}

/// The threads that serve the engine's tasks.
fn serving(engine: &Engine) -> Vec<String> {
    let pids = engine.worker_pids();
    if !pids.is_empty() {
        return pids.into_iter().map(|pid| thread_folder(pid, pid)).collect();
    }
    // The double's, by their names, which they give themselves.
    let places = 0..engine.workers();
    let names: Vec<_> = places.map(|place| format!("nearcall-{place}\n")).collect();
    wait_until("there", || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let mut folders: Vec<_> =
            tasks.map(|task| task.unwrap().path().to_str().unwrap().to_owned()).collect();
        folders.retain(|folder| {
            fs::read_to_string(format!("{folder}/comm")).is_ok_and(|name| names.contains(&name))
        });
        if folders.len() == names.len() { Ok(folders) } else { Err(format!("{folders:?}")) }
    })
}

fn is_asleep(folder: &str) -> bool {
    let stat = fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

fn until_asleep(folders: &[String]) {
    wait_until("asleep", || match folders.iter().find(|folder| !is_asleep(folder)) {
        None => Ok(()),
        Some(folder) => Err(folder.clone()),
    });
}

/// How long this process has had a CPU.
fn own_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one that there is, and the time is this thread's to write.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// How long a thread has had a CPU.
fn cpu_time(folder: &str) -> Duration {
    let text = fs::read_to_string(format!("{folder}/schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn every_policy_answers_all_calls_of_many_submitters() {
    everywhere(&POLICIES, |bench, start, policy| {
        call_from(&start(echo(bench, policy)), 16, 300);
    });
}

#[test]
fn a_parked_engine_wakes() {
    everywhere(&[WaitPolicy::Adaptive, WaitPolicy::Park], |bench, start, policy| {
        let engine = start(echo(bench, policy));
        let workers = serving(&engine);
        assert_eq!(workers.len(), 2);
        let mut times = Vec::new();
        for round in 0..21 {
            until_asleep(&workers);
            let begun = Instant::now();
            let ticket = engine.submit(&Task::new().int(round)).unwrap();
            let answer = match round % 3 {
                0 => engine.wait(ticket, PATIENCE),
                1 => engine.wait(&ticket, PATIENCE),
                _ => engine.wait(ticket.into_key(), PATIENCE),
            };
            times.push(begun.elapsed());
            assert_eq!(answer.unwrap().int(0), Ok(round));
        }
        // Two wake-ups of some 50 µs: far from the 100 ms after which somebody would look anyway.
        times.sort();
        assert!(times[10] < Duration::from_millis(10), "{policy:?}: {times:?}");
    });
}

#[test]
fn several_tasks_for_a_parked_engine_wake_several_workers() {
    for policy in [WaitPolicy::Adaptive, WaitPolicy::Park] {
        leak_free(|bench| {
            // Each task is over when all are running: no worker may sleep on.
            let barrier = Arc::new(std::sync::Barrier::new(3));
            let builder = echo(bench, policy).workers(3);
            let engine = builder.start_with(move |_: &Args<'_>| {
                barrier.wait();
                Ok(Value::Int(1))
            });
            let engine = engine.unwrap();
            for _ in 0..20 {
                until_asleep(&serving(&engine));
                let keys = [1, 2, 3]
                    .map(|number| engine.submit(&Task::new().int(number)).unwrap().into_key());
                for key in keys {
                    assert_eq!(engine.wait(key, PATIENCE).unwrap().int(0), Ok(1), "{policy:?}");
                }
            }
        });
    }
}

/// What an idle engine is looked at for.
const LOOK: Duration = Duration::from_millis(300);

/// Promised is a hundredth of it, one second after the last call; this is tenfold.
const NOTHING: Duration = Duration::from_millis(30);

#[test]
fn an_idle_engine_uses_no_cpu_unless_it_spins() {
    everywhere(&POLICIES, |bench, start, policy| {
        let engine = start(echo(bench, policy).workers(1));
        call_from(&engine, 4, 50);
        let workers = serving(&engine);
        let spins = engine.wait_policy() == WaitPolicy::Spin;
        if !spins {
            until_asleep(&workers);
        }
        let used = || workers.iter().map(|folder| cpu_time(folder)).sum::<Duration>();
        let (before, host_before) = (used(), own_cpu_time());
        thread::sleep(LOOK);
        let (worker, host) = (used() - before, own_cpu_time() - host_before);
        if spins {
            assert!(worker > NOTHING, "{policy:?}: {worker:?}");
        } else {
            assert!(worker < NOTHING, "{policy:?}: {worker:?}");
            assert!(host < NOTHING, "{policy:?}: {host:?} in the host");
        }
    });
}

#[test]
fn with_one_cpu_nobody_spins_and_all_calls_are_answered() {
    everywhere(&POLICIES, |bench, start, policy| {
        // The mask is the thread's, and that of whatever it starts.
        thread::scope(|scope| {
            scope.spawn(|| {
                let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
                let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap());
                let mut one = CpuSet::new();
                one.set(first.unwrap()).unwrap();
                sched_setaffinity(Pid::from_raw(0), &one).unwrap();
                assert_eq!(nearcall::available_cpus(), 1);
                let engine = start(echo(bench, policy));
                assert_eq!(engine.wait_policy(), WaitPolicy::Park);
                call_from(&engine, 4, 200);
                until_asleep(&serving(&engine));
            });
        });
    });
}

#[test]
fn the_policy_in_force_is_the_chosen_one_where_there_are_several_cpus() {
    everywhere(&POLICIES, |bench, start, policy| {
        let engine = start(echo(bench, policy));
        let expected = if nearcall::available_cpus() > 1 { policy } else { WaitPolicy::Park };
        assert_eq!(engine.wait_policy(), expected);
    });
}

/// A double whose tasks end when the test says so, each with its argument.
fn gated(bench: &Bench, policy: WaitPolicy) -> (Engine, Sender<()>) {
    let (open, gate) = channel();
    let gate = Mutex::new(gate);
    let engine = echo(bench, policy).start_with(move |args: &Args<'_>| {
        // An error means that the test is over.
        let _ = gate.lock().unwrap().recv();
        Ok(args.values()[0].clone())
    });
    (engine.unwrap(), open)
}

/// How much later than at its deadline a wait may end: a few turns of the scheduler among as many
/// threads as there are here, tenfold.
const LATE: Duration = Duration::from_millis(500);

#[test]
fn deadlines_are_kept_while_the_model_hangs_alone_and_in_a_crowd() {
    for policy in POLICIES {
        for threads in [1, 16] {
            leak_free(|bench| {
                let (engine, open) = gated(bench, policy);
                let engine = &engine;
                thread::scope(|scope| {
                    for number in 0..threads {
                        scope.spawn(move || {
                            let task = Task::new().int(number.into());
                            for ms in [0, 1, 20, 150] {
                                let (begun, limit) = (Instant::now(), Duration::from_millis(ms));
                                let ticket = engine.submit(&task).unwrap();
                                let ended = match ms {
                                    20 => engine.wait(&ticket, begun + limit),
                                    _ => engine.wait(ticket, limit),
                                };
                                assert_eq!(ended, Err(WaitError::TimedOut), "{policy:?}");
                                let took = begun.elapsed();
                                assert!((limit..limit + LATE).contains(&took), "{ms}: {took:?}");
                            }
                        });
                    }
                });
                drop(open);
                wait_until("free again", || match engine.in_use() {
                    0 => Ok(()),
                    used => Err(format!("{used} in use")),
                });
            });
        }
    }
}

#[test]
fn a_task_can_be_waited_for_again_by_its_ticket_and_by_its_key() {
    for policy in POLICIES {
        leak_free(|bench| {
            let (engine, open) = gated(bench, policy);
            let soon = Duration::from_millis(5);
            let ticket = engine.submit(&Task::new().int(1)).unwrap();
            let key = engine.submit(&Task::new().int(2)).unwrap().into_key();
            for _ in 0..2 {
                assert_eq!(engine.wait(&ticket, soon), Err(WaitError::TimedOut));
                assert_eq!(engine.wait(ticket.key(), soon), Err(WaitError::TimedOut));
                assert_eq!(engine.wait(key, soon), Err(WaitError::TimedOut));
            }
            drop(open);
            assert_eq!(engine.wait(key, PATIENCE).unwrap().int(0), Ok(2));
            assert_eq!(engine.wait(ticket, PATIENCE).unwrap().int(0), Ok(1));
            let again = engine.wait(key, PATIENCE);
            assert_eq!(again, Err(WaitError::Retrieve(RetrieveError::AlreadyRetrieved { key })));
        });
    }
}

#[test]
fn threads_that_spin_yield_or_sleep_see_the_death_of_their_worker() {
    for policy in POLICIES {
        for threads in [1, 8] {
            leak_free(|bench| {
                let builder = bench.builder("sleep").signature(Signature::new().int("ms"));
                let builder = builder.env("NEARCALL_FAULTS", "serve.claimed=stop@1");
                let engine = builder.workers(1).wait_policy(policy).start().unwrap();
                let worker = engine.worker_pids()[0];
                let (engine, policy) = (&engine, engine.wait_policy());
                let (here, waiting) = channel();
                let ends: Vec<_> = thread::scope(|scope| {
                    let calls: Vec<_> = (0..threads)
                        .map(|_| {
                            let here = here.clone();
                            scope.spawn(move || {
                                here.send(gettid().as_raw().unsigned_abs()).unwrap();
                                engine.call(&Task::new().int(0), PATIENCE)
                            })
                        })
                        .collect();
                    wait_until("stopped", || match process_state(worker) {
                        Some('T') => Ok(()),
                        state => Err(format!("{state:?}")),
                    });
                    // All of them wait: asleep, or awake for longer than it takes to submit.
                    for thread in waiting.iter().take(threads) {
                        let folder = thread_folder(process::id(), thread);
                        match policy {
                            WaitPolicy::Spin => wait_until("waiting", || {
                                let used = cpu_time(&folder);
                                let long = used > Duration::from_millis(5);
                                if long { Ok(()) } else { Err(format!("{used:?}")) }
                            }),
                            _ => until_asleep(&[folder]),
                        }
                    }
                    signal(worker, Signal::SIGKILL);
                    calls.into_iter().map(|call| call.join().unwrap()).collect()
                });
                // One task was in its hands; the next worker has answered the others.
                let died = |end: &Result<_, nearcall::error::CallError>| {
                    let Err(error) = end else { return false };
                    assert!(error.to_string().contains("signal 9 (SIGKILL)"), "{error}");
                    true
                };
                assert_eq!(ends.iter().filter(|end| died(end)).count(), 1, "{policy:?}: {ends:?}");
            });
        }
    }
}

#[test]
fn workers_that_die_under_a_crowd_take_only_their_own_tasks() {
    for policy in POLICIES {
        for point in ["claim.claimed", "serve.called", "serve.completed"] {
            leak_free(|bench| {
                let builder = bench.builder("sleep").signature(Signature::new().int("ms"));
                let builder = builder.env("NEARCALL_FAULTS", format!("{point}=kill@1"));
                let engine = &builder.wait_policy(policy).start().unwrap();
                let deaths: usize = thread::scope(|scope| {
                    let calls: Vec<_> = (0..8)
                        .map(|_| {
                            scope.spawn(move || {
                                let mut deaths = 0;
                                for _ in 0..50 {
                                    let key = engine.submit(&Task::new().int(0)).unwrap();
                                    match engine.wait(key.into_key(), PATIENCE) {
                                        Ok(_) => {}
                                        Err(WaitError::Retrieve(RetrieveError::Task(
                                            TaskError::Died { .. },
                                        ))) => deaths += 1,
                                        Err(error) => panic!("{policy:?} {point}: {error}"),
                                    }
                                }
                                deaths
                            })
                        })
                        .collect();
                    calls.into_iter().map(|call| call.join().unwrap()).sum()
                });
                let expected = if point == "serve.completed" { 0..=0 } else { 1..=2 };
                assert!(expected.contains(&deaths), "{policy:?} {point}: {deaths}");
            });
        }
    }
}
