//! What `submit`, `retrieve`, `wait`, `call` and `shutdown` promise: one test a sentence.
//!
//! Each runs over worker processes (without Python) and over the test double, which promise the
//! same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Bench, PATIENCE, leak_free, wait_until};
use nearcall::error::{
    CallError, ConfigError, RetrieveError, SignatureError, StartError, SubmitError, TaskError,
    TaskMismatch, WaitError,
};
use nearcall::{
    Answer, Args, Builder, Deadline, Engine, Key, PythonError, Refusal, Signature, Task, Value,
    ValueRef,
};

/// Starts a builder for the model "echo", over processes or over threads.
type Start = fn(Builder) -> Engine;

fn processes(builder: Builder) -> Engine {
    builder.start().unwrap()
}

fn double(builder: Builder) -> Engine {
    builder.start_with(|args: &Args<'_>| Ok(Value::Tuple(args.values().to_vec()))).unwrap()
}

/// Runs a test over both kinds of engines.
fn both(test: impl Fn(&Bench, Start)) {
    for start in [processes, double] {
        leak_free(|bench| test(bench, start));
    }
}

fn one_int() -> Signature {
    Signature::new().int("x")
}

fn seeds_signature() -> Signature {
    Signature::new().floats("float_features", 3).strs("str_features", 2).int("int_feature")
}

/// A double whose tasks wait until the test lets them go on, one by one, and that counts them.
fn gated(bench: &Bench, slots: usize, workers: usize) -> (Engine, Sender<()>, Arc<AtomicUsize>) {
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let started = Arc::new(AtomicUsize::new(0));
    let engine = {
        let started = started.clone();
        bench.builder("echo").signature(one_int()).slots(slots).workers(workers).start_with(
            move |args: &Args<'_>| {
                started.fetch_add(1, Ordering::SeqCst);
                // An error means that the test is over.
                let _ = gate.lock().unwrap().recv();
                Ok(args.values()[0].clone())
            },
        )
    };
    (engine.unwrap(), open, started)
}

fn until_started(started: &AtomicUsize, count: usize) {
    wait_until("started", || {
        let now = started.load(Ordering::SeqCst);
        if now == count { Ok(()) } else { Err(format!("{now} of {count}")) }
    });
}

#[test]
fn an_answer_holds_what_the_model_returned_to_the_last_bit() {
    both(|bench, start| {
        let signature = Signature::new()
            .bool("a")
            .int("b")
            .float("c")
            .str("d")
            .bools("e", ..)
            .ints("f", ..)
            .floats("g", ..)
            .strs("h", ..);
        let engine = start(bench.builder("echo").signature(signature));
        let odd_nan = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
        let ints = [i64::MIN, -1, 0, 250, 251, 65_536, i64::MAX];
        let floats = [f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE, odd_nan];
        let long = "ü".repeat(400);
        for (int, float, text) in [(i64::MIN, odd_nan, ""), (-3, -0.0, "a\0b"), (251, 1.5, &long)] {
            let strs = ["", "\0", "日本", text];
            let task = Task::new()
                .bool(true)
                .int(int)
                .float(float)
                .str(text)
                .bools(&[true, false])
                .ints(&ints)
                .floats(&floats)
                .strs(&strs);
            let answer = engine.call(&task, PATIENCE).unwrap();
            assert_eq!(answer.bool(0), Ok(true));
            assert_eq!(answer.int(1), Ok(int));
            assert_eq!(answer.float(2).unwrap().to_bits(), float.to_bits());
            assert_eq!(answer.str(3), Ok(text));
            let Some(ValueRef::List(items)) = answer.get(5) else { panic!("{answer:?}") };
            assert!(items.iter().eq(ints.map(ValueRef::Int)));
            let Some(ValueRef::List(items)) = answer.get(6) else { panic!("{answer:?}") };
            for (found, given) in items.iter().zip(floats) {
                let ValueRef::Float(found) = found else { panic!("{found:?}") };
                assert_eq!(found.to_bits(), given.to_bits());
            }
            let Some(ValueRef::List(items)) = answer.get(7) else { panic!("{answer:?}") };
            assert!(items.iter().eq(strs.map(ValueRef::Str)));
        }
        let empty = Task::new()
            .bool(false)
            .int(0)
            .float(0.0)
            .str("")
            .bools(&[])
            .ints(&[])
            .floats(&[])
            .strs(&[]);
        let answer = engine.call(&empty, PATIENCE).unwrap();
        let Some(ValueRef::List(items)) = answer.get(4) else { panic!("{answer:?}") };
        assert!(items.is_empty());
    });
}

#[test]
fn an_answer_that_is_not_what_the_caller_took_it_for_is_an_error_that_says_so() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(one_int()));
        let answer = engine.call(&Task::new().int(5), PATIENCE).unwrap();
        let error = answer.str(0).unwrap_err();
        assert_eq!((error.index, error.expected, error.found), (0, "str", "int"));
        assert_eq!(answer.int(1).unwrap_err().found, "nothing");
    });
}

#[test]
fn submit_says_full_at_capacity_and_takes_tasks_again_when_an_answer_was_retrieved() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(one_int()).slots(3));
        let task = Task::new().int(1);
        let keys: Vec<Key> = (0..3).map(|_| engine.submit(&task).unwrap().into_key()).collect();
        // Answered or not: only retrieving makes room.
        let full = engine.submit(&task).unwrap_err();
        assert_eq!(full, SubmitError::Full { slots: 3 });
        assert_eq!(full.flag(), 1);
        engine.wait(keys[1], PATIENCE).unwrap();
        let again = engine.submit(&task).unwrap().into_key();
        assert!(matches!(engine.submit(&task), Err(SubmitError::Full { .. })));
        for key in [keys[0], keys[2], again] {
            engine.wait(key, PATIENCE).unwrap();
        }
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn retrieve_says_none_until_the_task_is_done() {
    leak_free(|bench| {
        let (engine, open, started) = gated(bench, 4, 1);
        let ticket = engine.submit(&Task::new().int(3)).unwrap();
        assert_eq!(engine.retrieve(&ticket), Ok(None));
        until_started(&started, 1);
        assert_eq!(engine.retrieve(&ticket), Ok(None));
        open.send(()).unwrap();
        let answer = wait_until("answered", || {
            engine.retrieve(&ticket).unwrap().ok_or_else(|| "not yet".to_owned())
        });
        assert_eq!(answer.int(0), Ok(3));
    });
}

#[test]
fn a_key_gives_its_answer_once_and_is_told_from_keys_never_given() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(one_int()).slots(2));
        let other = start(bench.builder("echo").signature(one_int()).slots(2));
        let key = engine.submit(&Task::new().int(1)).unwrap().into_key();
        assert!(i64::from(key) > 0);
        engine.wait(key, PATIENCE).unwrap();
        let gone = RetrieveError::AlreadyRetrieved { key };
        assert_eq!(engine.retrieve(key), Err(gone.clone()));
        assert_eq!(engine.wait(key, PATIENCE), Err(WaitError::Retrieve(gone.clone())));
        // The slot has a new task now: a late key must not fetch it.
        let next = engine.submit(&Task::new().int(2)).unwrap().into_key();
        assert_eq!(next.get() & 0xFFFF, key.get() & 0xFFFF, "the slot freed last is used next");
        assert_eq!(engine.retrieve(key), Err(gone));
        let never = Key::from_number(key.get() + (1000 << 16)).unwrap();
        assert_eq!(engine.retrieve(never), Err(RetrieveError::Unknown { key: never }));
        let no_such_slot = Key::from_number(key.get() | 0xFFFF).unwrap();
        assert!(matches!(engine.retrieve(no_such_slot), Err(RetrieveError::Unknown { .. })));
        assert_eq!(other.retrieve(next), Err(RetrieveError::Unknown { key: next }));
        assert_eq!(engine.wait(next, PATIENCE).unwrap().int(0), Ok(2));
    });
}

#[test]
fn a_task_that_does_not_fit_the_signature_is_named_and_touches_no_slot() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(seeds_signature()));
        let (three, two) = ([1.0, 2.0, 3.0], ["a", "b"]);
        let count = engine.submit(&Task::new().floats(&three)).unwrap_err().to_string();
        assert!(count.contains("1 arguments") && count.contains("str_features"), "{count}");
        let length = engine.submit(&Task::new().floats(&[1.0]).strs(&two).int(1)).unwrap_err();
        assert!(matches!(
            &length,
            SubmitError::Mismatch(TaskMismatch::Length { name, found: 1, .. }) if name == "float_features"
        ));
        let kind = engine.submit(&Task::new().floats(&three).strs(&two).float(1.0)).unwrap_err();
        let text = kind.to_string();
        assert!(text.contains("\"int_feature\" is a float"), "{text}");
        assert!(text.contains("the signature says int"), "{text}");
        assert_eq!(kind.flag(), 2);
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn a_task_as_large_as_a_slot_fits_and_a_larger_one_is_told_both_sizes() {
    both(|bench, start| {
        let builder = bench.builder("echo").signature(Signature::new().str("text"));
        let engine = start(builder.slot_bytes(1024).payload_bytes(0));
        assert_eq!(engine.slot_bytes(), 1024);
        // Two bytes of outcome and tuple, one tag, and three of length come back with the text.
        let fits = "x".repeat(1024 - 3 - 3 - 1);
        assert_eq!(engine.call(&Task::new().str(&fits), PATIENCE).unwrap().str(0), Ok(&*fits));
        let largest = "x".repeat(1024 - 3);
        let answer = engine.call(&Task::new().str(&largest), PATIENCE).unwrap_err();
        let CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Refused(refusal)))) =
            answer
        else {
            panic!("{answer:?}")
        };
        assert!(matches!(refusal, Refusal::TooLarge { needed, room: 1024 } if needed > 1024));
        let large = "x".repeat(1024 - 2);
        let error = engine.submit(&Task::new().str(&large)).unwrap_err();
        assert_eq!(error, SubmitError::TooLarge { needed: 1025, room: 1024 });
        assert!(error.to_string().contains("1025") && error.to_string().contains("1024"));
        let huge = "x".repeat(10 << 20);
        assert!(matches!(
            engine.submit(&Task::new().str(&huge)),
            Err(SubmitError::TooLarge { room: 1024, .. })
        ));
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn an_error_of_the_model_comes_with_its_type_and_message() {
    leak_free(|bench| {
        let engine =
            bench.builder("raise").signature(Signature::new().str("kind")).start().unwrap();
        let error = engine.call(&Task::new().str("KeyError"), PATIENCE).unwrap_err();
        let CallError::Wait(WaitError::Retrieve(retrieve)) = error else { panic!("{error:?}") };
        assert_eq!(retrieve.flag(), 2);
        let RetrieveError::Task(TaskError::Python(error)) = retrieve else {
            panic!("{retrieve:?}")
        };
        assert_eq!(error, PythonError::new("KeyError", "as asked"));
        // Whatever the length, the error fits and says what it can.
        let long = "e".repeat(4000);
        let error = engine.call(&Task::new().str(&long), PATIENCE).unwrap_err();
        assert!(error.to_string().starts_with("eee"), "{error}");
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn a_panic_of_the_double_is_an_error_of_that_task_only() {
    leak_free(|bench| {
        let engine = bench
            .builder("echo")
            .signature(one_int())
            .start_with(|args: &Args<'_>| match args.get("x") {
                Some(Value::Int(0)) => panic!("zero"),
                other => Ok(other.unwrap().clone()),
            })
            .unwrap();
        let error = engine.call(&Task::new().int(0), PATIENCE).unwrap_err();
        assert!(error.to_string().contains("panic: zero"), "{error}");
        assert_eq!(engine.call(&Task::new().int(1), PATIENCE).unwrap().int(0), Ok(1));
    });
}

#[test]
fn a_wait_ends_at_its_deadline_and_the_task_goes_on() {
    leak_free(|bench| {
        let (engine, open, started) = gated(bench, 4, 1);
        let ticket = engine.submit(&Task::new().int(8)).unwrap();
        until_started(&started, 1);
        let begun = Instant::now();
        let error = engine.wait(&ticket, Duration::from_millis(20)).unwrap_err();
        assert_eq!((&error, error.flag()), (&WaitError::TimedOut, 1));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        assert_eq!(engine.wait(&ticket, Instant::now()), Err(WaitError::TimedOut));
        open.send(()).unwrap();
        assert_eq!(engine.wait(&ticket, Deadline::NEVER).unwrap().int(0), Ok(8));
    });
}

#[test]
fn deadlines_of_any_size_are_waited_for() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(one_int()));
        for deadline in [Deadline::NEVER, Duration::MAX.into(), PATIENCE.into()] {
            assert_eq!(engine.call(&Task::new().int(8), deadline).unwrap().int(0), Ok(8));
        }
    });
}

#[test]
fn a_dropped_ticket_abandons_its_task_and_a_queued_one_never_runs() {
    leak_free(|bench| {
        let (engine, open, started) = gated(bench, 2, 1);
        let running = engine.submit(&Task::new().int(1)).unwrap();
        until_started(&started, 1);
        let queued = engine.submit(&Task::new().int(2)).unwrap();
        let key = queued.key();
        drop(queued);
        assert_eq!(engine.retrieve(key), Err(RetrieveError::AlreadyRetrieved { key }));
        // Its entry is still in the ring, so its slot is not free yet.
        assert!(matches!(engine.submit(&Task::new().int(3)), Err(SubmitError::Full { .. })));
        open.send(()).unwrap();
        engine.wait(running, PATIENCE).unwrap();
        let third = engine.submit(&Task::new().int(3)).unwrap();
        until_started(&started, 2);
        open.send(()).unwrap();
        assert_eq!(engine.wait(third, PATIENCE).unwrap().int(0), Ok(3));
        assert_eq!(started.load(Ordering::SeqCst), 2, "the abandoned task has not run");
        // A running task that is abandoned gives its slot back when it is done.
        drop(engine.submit(&Task::new().int(4)).unwrap());
        open.send(()).unwrap();
        wait_until("free again", || match engine.in_use() {
            0 => Ok(()),
            used => Err(format!("{used} in use")),
        });
    });
}

#[test]
fn a_call_that_times_out_leaves_its_slot_to_others() {
    leak_free(|bench| {
        let (engine, open, started) = gated(bench, 1, 1);
        let error = engine.call(&Task::new().int(1), Duration::from_millis(5)).unwrap_err();
        let ended = WaitError::Retrieve(RetrieveError::Task(TaskError::DeadlinePassed));
        assert_eq!(error, CallError::Wait(ended));
        // It may have been cancelled before it was taken up; if it runs, it ends here.
        drop(open);
        wait_until("free again", || match engine.submit(&Task::new().int(2)) {
            Ok(ticket) => Ok(engine.wait(ticket, PATIENCE).unwrap()),
            Err(error) => Err(error.to_string()),
        });
        assert!(started.load(Ordering::SeqCst) <= 2);
    });
}

#[test]
fn every_task_of_many_threads_is_answered_once_and_right() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(seeds_signature()).slots(24));
        std::thread::scope(|scope| {
            for thread in 0..8_i64 {
                let engine = &engine;
                scope.spawn(move || {
                    let mut answer = Answer::new();
                    for number in 0..500_i64 {
                        let id = thread << 32 | number;
                        let text = format!("{id}").repeat(1 + number as usize % 40);
                        let floats = [id as f64, -1.0, 0.5];
                        let strs = [text.as_str(), "x"];
                        let task = Task::new().floats(&floats).strs(&strs).int(id);
                        let ticket = loop {
                            match engine.submit(&task) {
                                Ok(ticket) => break ticket,
                                Err(SubmitError::Full { .. }) => std::thread::yield_now(),
                                Err(error) => panic!("{error}"),
                            }
                        };
                        if number % 3 == 0 {
                            answer = engine.wait(&ticket, PATIENCE).unwrap();
                        } else {
                            while !engine.retrieve_into(&ticket, &mut answer).unwrap() {
                                std::thread::yield_now();
                            }
                        }
                        assert_eq!(answer.int(2), Ok(id));
                        let Some(ValueRef::List(strs)) = answer.get(1) else { panic!() };
                        assert_eq!(strs.get(0), Some(ValueRef::Str(&text)));
                    }
                });
            }
        });
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn the_largest_number_of_slots_can_be_held_at_once() {
    both(|bench, start| {
        let builder = bench.builder("echo").signature(one_int()).slot_bytes(256);
        let engine = start(builder.slots(65_535));
        let mut keys: Vec<(i64, Key)> = Vec::new();
        for number in 0..65_535 {
            keys.push((number, engine.submit(&Task::new().int(number)).unwrap().into_key()));
        }
        assert!(matches!(engine.submit(&Task::new().int(0)), Err(SubmitError::Full { .. })));
        for (number, key) in keys {
            assert_eq!(engine.wait(key, PATIENCE).unwrap().int(0), Ok(number));
        }
    });
}

#[test]
fn shutdown_lets_accepted_tasks_end_and_takes_no_new_ones() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(one_int()));
        let keys: Vec<Key> =
            (0..64).map(|n| engine.submit(&Task::new().int(n)).unwrap().into_key()).collect();
        let report = engine.shutdown(PATIENCE);
        assert!(report.drained && report.killed == 0, "{report:?}");
        let closed = engine.submit(&Task::new().int(1)).unwrap_err();
        assert!(matches!(closed, SubmitError::Closed { .. }), "{closed:?}");
        assert!(closed.to_string().contains("shut down"));
        // Answers stay.
        for (number, key) in (0..).zip(keys) {
            assert_eq!(engine.retrieve(key).unwrap().unwrap().int(0), Ok(number));
        }
        engine.shutdown(PATIENCE);
    });
}

#[test]
fn shutdown_ends_what_is_not_done_at_its_deadline() {
    leak_free(|bench| {
        let engine = bench.builder("sleep").signature(one_int()).workers(1).start().unwrap();
        let running = engine.submit(&Task::new().int(60_000)).unwrap();
        let queued = engine.submit(&Task::new().int(0)).unwrap();
        let begun = Instant::now();
        let report = engine.shutdown(Duration::from_millis(50));
        // Promised: the deadline and a second.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(!report.drained && report.killed == 1, "{report:?}");
        for ticket in [running, queued] {
            let error = engine.retrieve(&ticket).unwrap_err();
            assert!(matches!(error, RetrieveError::Task(_)), "{error:?}");
        }
    });
}

#[test]
fn abandoning_a_task_while_its_worker_dies_gives_its_slot_back() {
    leak_free(|bench| {
        let builder = bench.builder("die").signature(Signature::new().int("how"));
        let engine = builder.workers(1).slots(4).start().unwrap();
        for round in 0..40_u64 {
            // The deadline comes at about the time of the death.
            let deadline = Duration::from_micros(100 * (round % 20));
            let _ = engine.call(&Task::new().int(9), deadline);
        }
        wait_until("free again", || match engine.in_use() {
            0 => Ok(()),
            used => Err(format!("{used} in use")),
        });
    });
}

#[test]
fn nothing_is_left_in_use_by_tasks_that_were_abandoned_before_the_shutdown() {
    leak_free(|bench| {
        let engine = bench.builder("sleep").signature(one_int()).workers(1).start().unwrap();
        for _ in 0..5 {
            drop(engine.submit(&Task::new().int(60_000)).unwrap());
        }
        engine.shutdown(Duration::ZERO);
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn a_start_deadline_of_any_length_is_waited_for() {
    leak_free(|bench| {
        drop(bench.builder("echo").start_deadline(Duration::MAX).start().unwrap());
    });
}

#[test]
fn an_answer_is_waited_for_into_one_that_is_used_again() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(Signature::new().str("text")));
        let mut answer = Answer::new();
        for len in [0, 30, 3000, 7, 300_000] {
            let text = "x".repeat(len);
            let ticket = engine.submit(&Task::new().str(&text)).unwrap();
            engine.wait_into(ticket, PATIENCE, &mut answer).unwrap();
            assert_eq!(answer.str(0), Ok(text.as_str()));
        }
        let large = answer.str(0).unwrap().as_ptr();
        let ticket = engine.submit(&Task::new().str(&"y".repeat(200_000))).unwrap();
        engine.wait_into(&ticket, PATIENCE, &mut answer).unwrap();
        assert_eq!(answer.str(0).unwrap().as_ptr(), large, "the same memory");
        let gone = RetrieveError::AlreadyRetrieved { key: ticket.key() };
        let error = engine.wait_into(&ticket, PATIENCE, &mut answer);
        assert_eq!(error, Err(WaitError::Retrieve(gone)));
        assert_eq!(answer.value(), ValueRef::None, "empty after an error");
    });
}

#[test]
fn an_answer_that_is_waited_for_in_vain_is_as_it_was() {
    leak_free(|bench| {
        let engine = bench.builder("sleep").signature(one_int()).workers(1).start().unwrap();
        let first = engine.submit(&Task::new().int(1)).unwrap();
        let mut answer = engine.wait(first, PATIENCE).unwrap();
        let before = answer.clone();
        let ticket = engine.submit(&Task::new().int(60_000)).unwrap();
        let late = engine.wait_into(&ticket, Duration::from_millis(20), &mut answer);
        assert_eq!(late, Err(WaitError::TimedOut));
        assert_eq!(answer.value(), before.value());
    });
}

#[test]
fn an_answer_that_is_used_again_is_empty_after_an_error() {
    both(|bench, start| {
        let engine = start(bench.builder("echo").signature(one_int()));
        let key = engine.submit(&Task::new().int(42)).unwrap().into_key();
        let mut answer = engine.wait(key, PATIENCE).unwrap();
        assert!(engine.retrieve_into(key, &mut answer).is_err());
        assert_eq!(answer.value(), ValueRef::None);
    });
}

#[test]
fn a_thread_that_waits_is_told_when_the_engine_is_closed() {
    leak_free(|bench| {
        let engine = bench.builder("sleep").signature(one_int()).workers(1).start().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| engine.call(&Task::new().int(60_000), Deadline::NEVER));
            wait_until(
                "submitted",
                || if engine.in_use() == 1 { Ok(()) } else { Err(String::new()) },
            );
            engine.shutdown(Duration::ZERO);
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error, CallError::Wait(WaitError::Retrieve(RetrieveError::Task(_)))));
        });
    });
}

#[test]
fn an_engine_that_is_dropped_with_tasks_in_it_leaves_nothing() {
    leak_free(|bench| {
        let engine = bench.builder("sleep").signature(one_int()).start().unwrap();
        for _ in 0..10 {
            let _ = engine.submit(&Task::new().int(60_000)).unwrap().into_key();
        }
        drop(engine);
    });
}

#[test]
fn a_hundred_engines_one_after_the_other_leave_nothing() {
    leak_free(|bench| {
        for number in 0..100 {
            let engine = bench.builder("echo").signature(one_int()).start().unwrap();
            assert_eq!(engine.call(&Task::new().int(number), PATIENCE).unwrap().int(0), Ok(number));
        }
    });
}

#[test]
fn configurations_that_cannot_run_are_told_with_their_limits() {
    leak_free(|bench| {
        let out_of_range = |builder: Builder, setting: &str| match builder.start() {
            Err(StartError::Config(ConfigError::OutOfRange { what, .. })) => {
                assert_eq!(what, setting);
            }
            other => panic!("{other:?}"),
        };
        out_of_range(bench.builder("echo").workers(0), "workers");
        out_of_range(bench.builder("echo").workers(1025), "workers");
        out_of_range(bench.builder("echo").slots(0), "slots");
        out_of_range(bench.builder("echo").slots(65_536), "slots");
        out_of_range(bench.builder("echo").slot_bytes(255), "slot_bytes");
        out_of_range(bench.builder("echo").slot_bytes(usize::MAX), "slot_bytes");
        let text = bench.builder("echo").slots(65_536).start().unwrap_err().to_string();
        assert!(text.contains("65536") && text.contains("65535"), "{text}");

        let config = |builder: Builder| match builder.start() {
            Err(StartError::Config(error)) => error,
            other => panic!("{other:?}"),
        };
        let signature = |signature| config(bench.builder("echo").signature(signature));
        let twice = signature(Signature::new().int("x").float("x"));
        assert_eq!(twice, SignatureError::Twice { name: "x".into() }.into());
        let name = signature(Signature::new().int("1x"));
        assert_eq!(name, SignatureError::NotAnIdentifier { name: "1x".into() }.into());
        #[expect(clippy::reversed_empty_ranges)]
        let range = signature(Signature::new().ints("x", 3..=2));
        assert!(matches!(range, ConfigError::Signature(SignatureError::EmptyRange { .. })));
        for model in ["", "module", ":f", "module:"] {
            let error = Engine::builder(model).start().unwrap_err();
            assert!(matches!(error, StartError::Config(ConfigError::Model { .. })), "{model:?}");
        }
        assert!(matches!(config(bench.builder("a\0b")), ConfigError::NotText { .. }));
        assert!(matches!(
            config(bench.builder("echo").init_kwargs_json("x".repeat(1 << 20))),
            ConfigError::TooLong { .. }
        ));
    });
}
