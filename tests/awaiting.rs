//! What futures promise, on any runtime: one test a sentence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use common::awaiting::{Counted, echo, gated, poll_once};
use common::crash::{Told, Way};
use common::{Bench, PATIENCE, leak_free, signal, wait_until};
use nearcall::error::{
    CallError, Code, ConfigError, RetrieveError, StartError, SubmitError, TaskError, WaitError,
};
use nearcall::{
    Answer, Args, Builder, Completions, Deadline, Engine, Key, Signature, Task, TensorSpec, Value,
    WaitPolicy, WorkerState,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Starts a builder for the model "echo", over processes or over threads.
type Start = fn(Builder) -> Engine;

fn processes(builder: Builder) -> Engine {
    builder.start().unwrap()
}

fn double(builder: Builder) -> Engine {
    builder.start_with(|args: &Args<'_>| Ok(Value::Tuple(args.values().to_vec()))).unwrap()
}

fn both(test: impl Fn(&Bench, Start)) {
    for start in [processes as Start, double] {
        leak_free(|bench| test(bench, start));
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The least runtime there can be: this thread, which sleeps in between.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

fn within_tokio<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let limited = async { tokio::time::timeout(PATIENCE, future).await };
    let output = runtime.block_on(limited).unwrap();
    // When its time is over, tokio polls it once more, and finds what nobody has told.
    assert!(start.elapsed() < PATIENCE / 2, "it was not woken");
    output
}

async fn wake(completions: Completions) -> Vec<Key> {
    // SAFETY: a `Completions` has the same open descriptor for life.
    let completions = unsafe { AsyncFd::register_with_interest(completions, Interest::READABLE) };
    let completions = completions.unwrap();
    let mut keys = Vec::new();
    loop {
        completions.readable().await.unwrap().clear_ready();
        if !completions.get_ref().dispatch(&mut keys) {
            return keys;
        }
    }
}

async fn calls(engine: Arc<Engine>, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let answer = loop {
            match engine.call_async(&Task::new().int(number), PATIENCE).await {
                Err(CallError::Submit(SubmitError::Full { .. })) => tokio::task::yield_now().await,
                answer => break answer.unwrap(),
            }
        };
        assert_eq!(answer.int(0), Ok(number));
    }
}

#[test]
fn an_awaited_call_is_answered_without_any_runtime() {
    both(|bench, start| {
        let engine = start(echo(bench));
        for number in 0..200 {
            let answer = block_on(engine.call_async(&Task::new().int(number), PATIENCE));
            assert_eq!(answer.unwrap().int(0), Ok(number));
            let ticket = engine.submit(&Task::new().int(number)).unwrap();
            assert_eq!(block_on(ticket.into_future_now()).unwrap().int(0), Ok(number));
        }
        assert_eq!(engine.in_use(), 0);
    });
}

/// An audit, ten times a second, mends what was not told: so a thousand of them take longer than this.
#[test]
fn awaited_calls_are_answered_when_they_are_and_not_by_an_audit() {
    const BOUND: Duration = Duration::from_secs(20);
    for policy in [WaitPolicy::Park, WaitPolicy::Adaptive] {
        leak_free(|bench| {
            let engine = echo(bench).wait_policy(policy).workers(1).start().unwrap();
            let start = Instant::now();
            for number in 0..1_000 {
                let answer = block_on(engine.call_async(&Task::new().int(number), PATIENCE));
                assert_eq!(answer.unwrap().int(0), Ok(number));
                assert!(start.elapsed() < BOUND, "{number} calls took {BOUND:?}");
            }
        });
    }
}

/// `IntoFuture` by its own name, which is what `.await` calls.
trait IntoFutureNow: IntoFuture + Sized {
    fn into_future_now(self) -> Self::IntoFuture {
        self.into_future()
    }
}

impl<T: IntoFuture> IntoFutureNow for T {}

#[test]
fn many_calls_on_tokio_are_each_answered_once_and_right_whoever_wakes_them() {
    const TASKS: i64 = 40;
    const CALLS: i64 = 100;
    both(|bench, start| {
        for (threads, watched) in [(1, true), (1, false), (3, true), (3, false)] {
            let engine = Arc::new(start(echo(bench).slots(16)));
            let mut runtime = match threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = runtime.worker_threads(threads).enable_all().build().unwrap();
            runtime.block_on(async {
                let waking = watched.then(|| tokio::spawn(wake(engine.completions())));
                let all = (0..TASKS).map(|task| {
                    tokio::spawn(calls(engine.clone(), task * CALLS..(task + 1) * CALLS))
                });
                for task in all.collect::<Vec<_>>() {
                    tokio::time::timeout(PATIENCE, task).await.expect("it is woken").unwrap();
                }
                assert_eq!(engine.in_use(), 0);
                drop(engine);
                if let Some(waking) = waking {
                    assert_eq!(waking.await.unwrap(), [], "futures, not keys");
                }
            });
        }
    });
}

#[test]
fn a_plain_event_loop_learns_of_the_keys_that_it_has_asked_for() {
    const TASKS: i64 = 500;
    both(|bench, start| {
        let engine = start(echo(bench).slots(64));
        let completions = engine.completions();
        let mut poll = mio::Poll::new().unwrap();
        let descriptor = completions.as_raw_fd();
        let mut source = mio::unix::SourceFd(&descriptor);
        let readable = mio::Interest::READABLE;
        poll.registry().register(&mut source, mio::Token(7), readable).unwrap();
        let mut events = mio::Events::with_capacity(8);
        let (mut submitted, mut answered, mut over) = (0, BTreeSet::new(), Vec::new());
        while answered.len() < TASKS as usize {
            while submitted < TASKS {
                match engine.submit(&Task::new().int(submitted)) {
                    Ok(ticket) => {
                        let key = ticket.into_key();
                        if engine.notify(key).unwrap() {
                            over.push(key);
                        }
                        submitted += 1;
                    }
                    Err(SubmitError::Full { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if over.is_empty() {
                poll.poll(&mut events, Some(PATIENCE)).unwrap();
                assert!(events.iter().any(|event| event.token() == mio::Token(7)), "it hangs");
                assert!(completions.dispatch(&mut over));
            }
            for key in over.drain(..) {
                let answer = engine.retrieve(key).unwrap().expect("over means over");
                assert!(answered.insert(answer.int(0).unwrap()), "reported once");
            }
        }
        assert_eq!(answered, (0..TASKS).collect());
    });
}

#[test]
fn a_key_is_reported_only_when_its_task_is_over_and_asked_for_in_vain_when_there_is_none() {
    both(|bench, start| {
        let engine = start(echo(bench));
        let key = engine.submit(&Task::new().int(1)).unwrap().into_key();
        wait_until("over", || match engine.notify(key) {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(engine.wait(key, PATIENCE).unwrap().int(0), Ok(1));
        let gone = RetrieveError::AlreadyRetrieved { key };
        assert_eq!(engine.notify(key), Err(gone));
        let never = Key::from_number(9 << 16).unwrap();
        assert_eq!(engine.notify(never), Err(RetrieveError::Unknown { key: never }));
    });
}

#[test]
fn a_full_engine_is_the_futures_error_at_once() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 2);
        let held = [(); 2].map(|()| engine.call_async(&Task::new().int(1), PATIENCE));
        let refused = engine.call_async(&Task::new().int(1), PATIENCE);
        assert_eq!(refused.key(), None);
        let error = block_on(refused).unwrap_err();
        assert_eq!(
            (error.code(), error.clone()),
            (Code::Full, SubmitError::Full { slots: 2 }.into())
        );
        open.send(()).unwrap();
        open.send(()).unwrap();
        for future in held {
            assert_eq!(block_on(future).unwrap().int(0), Ok(1));
        }
    });
}

#[test]
fn the_waker_of_the_last_poll_is_the_one_that_is_woken_and_only_when_the_task_is_over() {
    leak_free(|wakers| {
        for watched in [true, false] {
            let (engine, open) = gated(wakers, 2);
            let completions = watched.then(|| engine.completions());
            let mut future = engine.call_async(&Task::new().int(5), PATIENCE);
            let (first, last) = (Arc::<Counted>::default(), Arc::<Counted>::default());
            assert!(poll_once(&mut future, &first).is_pending());
            assert!(poll_once(&mut future, &last).is_pending());
            if let Some(completions) = &completions {
                assert!(completions.dispatch(&mut Vec::new()));
            }
            assert_eq!((first.times(), last.times()), (0, 0));
            open.send(()).unwrap();
            wait_until("woken", || {
                if let Some(completions) = &completions {
                    completions.dispatch(&mut Vec::new());
                }
                if last.times() > 0 { Ok(()) } else { Err(String::new()) }
            });
            assert_eq!((first.times(), last.times()), (0, 1));
            let Poll::Ready(answer) = poll_once(&mut future, &last) else { panic!("not ready") };
            assert_eq!(answer.unwrap().int(0), Ok(5));
            assert_eq!(Arc::strong_count(&last), 1, "no waker is kept");
        }
    });
}

#[test]
fn a_future_that_is_dropped_leaves_its_slot_to_others_and_a_queued_task_never_runs() {
    leak_free(|bench| {
        let (open, gate): (Sender<()>, Receiver<()>) = channel();
        let gate = Mutex::new(gate);
        let ran = Arc::new(Mutex::new(Vec::new()));
        let engine = {
            let ran = ran.clone();
            echo(bench).slots(2).workers(1).start_with(move |args: &Args<'_>| {
                let _ = gate.lock().unwrap().recv();
                ran.lock().unwrap().push(args.values().to_vec());
                Ok(Value::None)
            })
        }
        .unwrap();
        let running = engine.call_async(&Task::new().int(0), PATIENCE);
        let mut queued = engine.call_async(&Task::new().int(1), PATIENCE);
        let waker = Arc::<Counted>::default();
        assert!(poll_once(&mut queued, &waker).is_pending());
        drop(queued);
        assert_eq!(Arc::strong_count(&waker), 1, "no waker is kept");
        open.send(()).unwrap();
        assert!(block_on(running).is_ok());
        wait_until("free", || match engine.in_use() {
            0 => Ok(()),
            n => Err(n.to_string()),
        });
        open.send(()).unwrap();
        assert!(block_on(engine.call_async(&Task::new().int(2), PATIENCE)).is_ok());
        let ran = ran.lock().unwrap().clone();
        assert_eq!(ran, [vec![Value::Int(0)], vec![Value::Int(2)]]);
        assert_eq!(waker.times(), 0);
    });
}

/// Waits until the only worker runs a task.
fn until_running(engine: &Engine) {
    wait_until("running", || {
        let health = engine.health().unwrap();
        let states: Vec<_> = health.workers.iter().map(|worker| worker.state).collect();
        if states == [WorkerState::Running] { Ok(()) } else { Err(format!("{states:?}")) }
    });
}

#[test]
fn dropped_a_running_call_goes_on_and_is_stopped_only_if_that_was_asked_for() {
    for kill in [false, true] {
        leak_free(|bench| {
            let sleep = bench.builder("sleep").signature(Signature::new().int("ms"));
            let engine = sleep.workers(1).start().unwrap();
            let pid = engine.worker_pids()[0];
            let time = if kill { 100_000 } else { 200 };
            let future = engine.call_async(&Task::new().int(time), PATIENCE).kill_on_drop(kill);
            until_running(&engine);
            drop(future);
            let next = block_on(engine.call_async(&Task::new().int(0), PATIENCE)).unwrap();
            assert_eq!(next.int(0).unwrap() == i64::from(pid), !kill);
        });
    }
}

#[test]
fn the_deadline_of_an_awaited_call_ends_it() {
    let ends_in_time = |engine: &Engine, watched: bool| {
        let error = within_tokio(async {
            let waking = watched.then(|| tokio::spawn(wake(engine.completions())));
            let task = Task::new().int(100_000);
            let error = engine.call_async(&task, Duration::from_millis(20)).await.unwrap_err();
            if let Some(waking) = waking {
                waking.abort();
            }
            error
        });
        assert_eq!(error, TaskError::DeadlinePassed.into());
    };
    for watched in [true, false] {
        leak_free(|bench| {
            let sleep = bench.builder("sleep").signature(Signature::new().int("ms"));
            ends_in_time(&sleep.workers(1).start().unwrap(), watched);
        });
        leak_free(|bench| {
            let (engine, open) = gated(bench, 2);
            ends_in_time(&engine, watched);
            drop(open);
        });
    }
}

#[test]
fn a_future_learns_of_the_death_of_its_worker_at_once_and_others_are_answered() {
    leak_free(|bench| {
        let die = bench.builder("die").signature(Signature::new().int("how"));
        let engine = die.workers(1).start().unwrap();
        let (dead, alive) = within_tokio(async {
            let waking = tokio::spawn(wake(engine.completions()));
            let dies = engine.call_async(&Task::new().int(9), PATIENCE);
            let lives = engine.call_async(&Task::new().int(0), PATIENCE);
            let both = (dies.await, lives.await);
            waking.abort();
            both
        });
        assert_eq!(dead.unwrap_err().code(), Code::Died);
        assert_eq!(alive.unwrap().int(0), Ok(0));
    });
}

/// A worker that ends, or stops, between the publication of its answer and the bell.
#[test]
fn a_worker_that_ends_before_it_rings_leaves_its_answer_and_the_future_hears_of_it() {
    for point in ["serve.completed", "serve.waking", "serve.marked"] {
        for way in [Way::Kill, Way::Abort, Way::Stop] {
            leak_free(|bench| {
                let told = Told::new();
                let fault = format!("{point}={}@0.1", way.action());
                let slow = bench.builder("slow_echo").signature(Signature::new().int("x"));
                let engine = told.arm(slow.workers(1), &fault).start().unwrap();
                within_tokio(async {
                    let waking = tokio::spawn(wake(engine.completions()));
                    // On a busy machine an answer may be there before anybody awaits it.
                    for number in 0.. {
                        let was_told = told.first().is_some();
                        let answer = engine.call_async(&Task::new().int(number), PATIENCE).await;
                        assert_eq!(answer.unwrap().int(0), Ok(number), "{point} {way:?}");
                        if was_told {
                            break;
                        }
                        assert!(number < 1_000, "{point} {way:?}: nobody came by");
                    }
                    waking.abort();
                });
            });
        }
    }
}

#[test]
fn a_model_that_closes_the_bell_costs_time_and_no_answer() {
    leak_free(|bench| {
        let file = std::env::temp_dir().join(format!("nearcall-bell-{}", std::process::id()));
        std::fs::write(&file, "mine").unwrap();
        let careless = bench.builder("careless").signature(Signature::new().int("len").str("file"));
        let engine = careless.workers(1).start().unwrap();
        let name = file.to_str().unwrap();
        for _ in 0..3 {
            let answer = within_tokio(async {
                let waking = tokio::spawn(wake(engine.completions()));
                let answer = engine.call_async(&Task::new().int(2).str(name), PATIENCE).await;
                waking.abort();
                answer
            });
            assert_eq!(answer.unwrap().bytes(0), Ok(&[7, 7][..]));
        }
        let content = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(content, "mine", "nothing was written to what it has opened");
    });
}

#[test]
fn a_thread_that_waits_and_a_future_that_awaits_the_same_task_both_hear_of_its_end() {
    leak_free(|bench| {
        for turn in 0..20 {
            let slow = bench.builder("slow_echo").signature(Signature::new().int("x"));
            let engine = slow.wait_policy(WaitPolicy::Park).workers(1).start().unwrap();
            let future = engine.call_async(&Task::new().int(turn), PATIENCE);
            let key = future.key().unwrap();
            let (waited, awaited) = thread::scope(|scope| {
                let waits = scope.spawn(|| engine.wait(key, PATIENCE));
                let awaited = block_on(future);
                (waits.join().unwrap(), awaited)
            });
            let gone = RetrieveError::AlreadyRetrieved { key };
            match (waited, awaited) {
                (Ok(answer), Err(error)) => {
                    assert_eq!((answer.int(0), error), (Ok(turn), gone.into()));
                }
                (Err(error), Ok(answer)) => {
                    assert_eq!((answer.int(0), error), (Ok(turn), WaitError::from(gone)));
                }
                both => panic!("{both:?}"),
            }
        }
    });
}

#[test]
fn a_shutdown_ends_what_is_awaited() {
    both(|bench, start| {
        let engine = start(echo(bench));
        let answer = block_on(engine.call_async(&Task::new().int(1), PATIENCE)).unwrap();
        assert_eq!(answer.int(0), Ok(1));
        let sleep = bench.builder("sleep").signature(Signature::new().int("ms")).workers(1);
        let sleeping = sleep.start().unwrap();
        let futures = [(); 3].map(|()| sleeping.call_async(&Task::new().int(100_000), PATIENCE));
        until_running(&sleeping);
        thread::scope(|scope| {
            scope.spawn(|| sleeping.shutdown(Duration::ZERO));
            let codes = futures.map(|future| block_on(future).unwrap_err().code());
            assert_eq!(codes, [Code::Died, Code::Closed, Code::Closed]);
        });
        let late = block_on(sleeping.call_async(&Task::new().int(0), PATIENCE)).unwrap_err();
        assert_eq!(late.code(), Code::Closed);
    });
}

#[test]
fn the_last_handle_of_an_engine_may_be_dropped_by_the_thread_that_wakes() {
    /// Has the last handle, and drops it when it is woken.
    struct Holder(Mutex<Option<Arc<Engine>>>);
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    leak_free(|bench| {
        let (engine, open) = gated(bench, 2);
        let engine = Arc::new(engine);
        let (done, is_done) = channel();
        let holder = Arc::new(Holder(Mutex::new(Some(engine.clone()))));
        let mut future = engine.call_async(&Task::new().int(1), PATIENCE);
        let waker = Waker::from(holder.clone());
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        // Who forgets a future can drop its engine.
        std::mem::forget(future);
        drop(engine);
        thread::spawn(move || {
            open.send(()).unwrap();
            wait_until("dropped", || match holder.0.try_lock() {
                Ok(held) if held.is_none() => Ok(()),
                _ => Err(String::new()),
            });
            done.send(()).unwrap();
        });
        is_done.recv_timeout(PATIENCE).expect("it waits for itself");
    });
}

#[test]
fn a_waker_that_panics_takes_no_other_along() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as asked");
        }
    }
    leak_free(|bench| {
        let (engine, open) = gated(bench, 2);
        let completions = engine.completions();
        let mut first = pin!(engine.call_async(&Task::new().int(1), PATIENCE));
        let waker = Waker::from(Arc::new(Panics));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let mut second = engine.call_async(&Task::new().int(2), PATIENCE);
        let counted = Arc::<Counted>::default();
        assert!(poll_once(&mut second, &counted).is_pending());
        open.send(()).unwrap();
        open.send(()).unwrap();
        wait_until("woken", || {
            completions.dispatch(&mut Vec::new());
            if counted.times() == 1 { Ok(()) } else { Err(String::new()) }
        });
    });
}

#[test]
fn in_a_forked_child_futures_are_errors_and_the_parents_are_answered() {
    leak_free(|bench| {
        let engine = bench.builder("slow_echo").signature(Signature::new().int("x"));
        let engine = engine.workers(1).start().unwrap();
        let completions = engine.completions();
        let mut future = engine.call_async(&Task::new().int(7), PATIENCE);
        let counted = Arc::<Counted>::default();
        assert!(poll_once(&mut future, &counted).is_pending());
        // SAFETY: the child calls the engine, whose calls must end before they touch anything that
        // another thread may have held, and leaves by `_exit`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let right = catch_unwind(AssertUnwindSafe(|| {
                    let is_forked = |answer: Result<Answer, CallError>| {
                        answer.is_err_and(|error| error.code() == Code::ForkedChild)
                    };
                    // Until there is something to steal.
                    let bell = PollFd::new(completions.as_fd(), PollFlags::POLLIN);
                    let is_rung = poll(&mut [bell], PollTimeout::from(10_000_u16)) == Ok(1);
                    let key = future.key().unwrap();
                    let right = is_rung
                        && !completions.dispatch(&mut Vec::new())
                        && match poll_once(&mut future, &counted) {
                            Poll::Ready(answer) => is_forked(answer),
                            Poll::Pending => false,
                        }
                        && is_forked(block_on(engine.call_async(&Task::new().int(1), PATIENCE)))
                        && engine.notify(key) == Err(RetrieveError::ForkedChild);
                    drop(completions);
                    drop(engine.completions());
                    right
                }));
                let gone = catch_unwind(AssertUnwindSafe(|| drop(future))).is_ok();
                let gone = gone && catch_unwind(AssertUnwindSafe(|| drop(engine))).is_ok();
                let status = i32::from(!(gone && right.unwrap_or(false)));
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
        }
        wait_until("woken", || {
            completions.dispatch(&mut Vec::new());
            if counted.times() == 1 { Ok(()) } else { Err(String::new()) }
        });
        assert_eq!(block_on(future).unwrap().int(0), Ok(7));
    });
}

#[test]
fn a_completions_that_goes_leaves_its_futures_to_the_librarys_thread() {
    both(|bench, start| {
        let engine = start(echo(bench));
        let completions = engine.completions();
        let mut future = engine.call_async(&Task::new().int(3), PATIENCE);
        let counted = Arc::<Counted>::default();
        let answered = poll_once(&mut future, &counted);
        drop(completions);
        let answer = match answered {
            Poll::Ready(answer) => answer,
            Poll::Pending => block_on(future),
        };
        assert_eq!(answer.unwrap().int(0), Ok(3));
    });
}

#[test]
fn whoever_watches_an_engine_that_is_gone_is_told_so() {
    both(|bench, start| {
        let engine = start(echo(bench));
        let completions = engine.completions();
        assert!(completions.dispatch(&mut Vec::new()));
        drop(engine);
        assert!(!completions.dispatch(&mut Vec::new()));
        assert_eq!(within_tokio(wake(completions)), []);
    });
}

#[test]
fn a_future_spins_only_if_it_is_told_to_and_says_how_often() {
    both(|bench, start| {
        let engine = start(echo(bench));
        block_on(engine.call_async(&Task::new().int(1), PATIENCE)).unwrap();
        assert_eq!((engine.poll_spins().bound, engine.poll_spins().spins), (Duration::ZERO, 0));
        let bound = Duration::from_micros(100);
        let engine = start(echo(bench).poll_spin(bound));
        for number in 0..100 {
            block_on(engine.call_async(&Task::new().int(number), PATIENCE)).unwrap();
        }
        let report = engine.poll_spins();
        if nearcall::available_cpus() == 1 {
            assert_eq!((report.bound, report.spins), (Duration::ZERO, 0));
        } else {
            assert_eq!(report.bound, bound);
            assert!(report.spins <= 100 && report.answered <= report.spins, "{report:?}");
            assert!(report.spins > 0, "{report:?}");
        }
    });
    leak_free(|bench| {
        let error = echo(bench).poll_spin(Duration::from_micros(101)).start().unwrap_err();
        let out_of_range = matches!(
            error,
            StartError::Config(ConfigError::OutOfRange { found: 101_000, max: 100_000, .. })
        );
        assert!(out_of_range, "{error}");
    });
}

#[test]
fn tasks_with_tensors_in_place_are_awaited_too() {
    leak_free(|bench| {
        let engine = bench.builder("double").signature(Signature::new().value("x").value("out"));
        let engine = engine.start().unwrap();
        let bytes = nearcall::DType::U8;
        let mut reserved = engine
            .reserve(&[TensorSpec::input(bytes, &[3]), TensorSpec::output(bytes, &[3])])
            .unwrap();
        reserved.write(0, 0, &[1_u8, 2, 3]).unwrap();
        let ticket = reserved.submit(&Task::new().reserved(0).reserved(1)).unwrap();
        let answer = within_tokio(ticket.into_future_now()).unwrap();
        let Some(nearcall::ValueRef::Tensor(tensor)) = answer.get(0) else { panic!() };
        assert_eq!(tensor.bytes(), [2, 4, 6]);
    });
}

#[test]
fn a_worker_that_was_stopped_answers_what_is_awaited_when_it_goes_on() {
    leak_free(|bench| {
        let engine = echo(bench).workers(1).start().unwrap();
        let pid = engine.worker_pids()[0];
        signal(pid, Signal::SIGSTOP);
        let mut future = engine.call_async(&Task::new().int(1), Deadline::NEVER);
        let counted = Arc::<Counted>::default();
        assert!(poll_once(&mut future, &counted).is_pending());
        signal(pid, Signal::SIGCONT);
        assert_eq!(block_on(future).unwrap().int(0), Ok(1));
    });
}
