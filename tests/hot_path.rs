//! A hot call allocates nothing on the host, and makes no system call on either side.
//!
//! Only the thread that a test looks at is counted: the harness and the supervisor go on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;
#[path = "common/witness.rs"]
mod witness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{Bench, PATIENCE, leak_free};
use nearcall::{
    Answer, Args, Builder, DType, Engine, PythonError, Signature, Task, TensorSpec, Value,
    ValueRef, WaitPolicy,
};

const POLICIES: [WaitPolicy; 3] = [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Park];

type Outcome = Result<Value, PythonError>;

/// Starts a builder for a model of the worker, with processes or as a double with this closure.
type Start = fn(Builder, fn(&Args<'_>) -> Outcome) -> Engine;

fn processes(builder: Builder, _: fn(&Args<'_>) -> Outcome) -> Engine {
    builder.start().unwrap()
}

fn double(builder: Builder, model: fn(&Args<'_>) -> Outcome) -> Engine {
    builder.start_with(model).unwrap()
}

/// Runs a test over both kinds of engines, under these policies.
fn everywhere(policies: &[WaitPolicy], test: impl Fn(&Bench, Start, WaitPolicy)) {
    for start in [processes as Start, double] {
        for policy in policies {
            leak_free(|bench| test(bench, start, *policy));
        }
    }
}

fn echo(args: &Args<'_>) -> Outcome {
    Ok(Value::Tuple(args.values().to_vec()))
}

/// The worker's model "bytes".
fn bytes(args: &Args<'_>) -> Outcome {
    let Some(Value::Int(len)) = args.get("len") else { panic!("no length") };
    Ok(Value::Bytes(vec![7; usize::try_from(*len).unwrap()]))
}

// --- Allocations ---

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
struct Counting;

impl Counting {
    fn count() {
        // A thread that ends has no count any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: all is passed on to the system's allocator; the count allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: passed on from the caller; so below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates in `part`.
fn allocations<T>(part: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = part();
    (ALLOCATIONS.get() - before, result)
}

/// Retrieves by asking again and again.
fn poll(engine: &Engine, key: nearcall::Key, answer: &mut Answer) {
    while !engine.retrieve_into(key, answer).unwrap() {
        std::thread::yield_now();
    }
}

#[test]
fn the_counter_sees_an_allocation() {
    let (count, text) = allocations(|| std::hint::black_box("text").to_owned());
    assert_eq!((count, &*text), (1, "text"));
}

#[test]
fn submit_and_the_retrieval_of_a_small_answer_allocate_nothing() {
    everywhere(&POLICIES, |bench, start, policy| {
        let signature = Signature::new().int("number").float("share").str("text");
        let builder = bench.builder("echo").signature(signature).wait_policy(policy);
        let engine = start(builder, echo);
        // An outcome of 112 bytes still stands beside the slot's words.
        let text = "x".repeat(94);
        let right = |answer: &Answer, number| {
            answer.int(0) == Ok(number) && answer.float(1) == Ok(0.5) && answer.str(2) == Ok(&text)
        };
        let (count, ()) = allocations(|| {
            for number in 0..300 {
                let task = Task::new().int(number).float(0.5).str(&text);
                assert!(right(&engine.call(&task, PATIENCE).unwrap(), number));
                let ticket = engine.submit(&task).unwrap();
                assert!(right(&engine.wait(&ticket, PATIENCE).unwrap(), number));
                drop(ticket);
                let key = engine.submit(&task).unwrap().into_key();
                let answer = loop {
                    if let Some(answer) = engine.retrieve(key).unwrap() {
                        break answer;
                    }
                    std::thread::yield_now();
                };
                assert!(right(&answer, number));
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    });
}

#[test]
fn a_scalar_answer_and_many_tasks_at_once_allocate_nothing() {
    everywhere(&POLICIES, |bench, start, policy| {
        // The worker's model "sleep" answers with a number; so does the double.
        let builder = bench.builder("sleep").signature(Signature::new().int("ms"));
        let engine = start(builder.wait_policy(policy), |args| Ok(args.values()[0].clone()));
        let mut keys = [None; 64];
        let (count, ()) = allocations(|| {
            for _ in 0..10 {
                keys = std::array::from_fn(|_| {
                    Some(engine.submit(&Task::new().int(0)).unwrap().into_key())
                });
                for key in keys.into_iter().flatten() {
                    let answer = engine.wait(key, PATIENCE).unwrap();
                    assert!(matches!(answer.value(), ValueRef::Int(_)));
                }
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    });
}

#[test]
fn an_answer_of_any_size_into_one_that_is_used_again_allocates_nothing() {
    everywhere(&POLICIES, |bench, start, policy| {
        let builder = bench.builder("bytes").signature(Signature::new().int("len"));
        let engine = start(builder.slot_bytes(16 * 1024).wait_policy(policy), bytes);
        let fetch = |len: i64, answer: &mut Answer| {
            let key = engine.submit(&Task::new().int(len)).unwrap().into_key();
            poll(&engine, key, answer);
            assert!(answer.bytes(0).unwrap().len() as i64 == len);
        };
        let mut answer = Answer::new();
        let (first, ()) = allocations(|| fetch(10_000, &mut answer));
        assert!(first > 0, "the counter is blind");
        let (count, ()) = allocations(|| {
            for round in 0..100 {
                for len in [round, 3_000 + round, 10_000 - round] {
                    fetch(len, &mut answer);
                }
            }
        });
        assert_eq!(count, 0, "{policy:?}");
    });
}

#[test]
fn a_large_task_allocates_nothing_when_it_is_submitted() {
    everywhere(&[WaitPolicy::Adaptive], |bench, start, _| {
        let signature = Signature::new().floats("numbers", ..).strs("words", ..);
        let engine = start(bench.builder("echo").signature(signature), echo);
        let (numbers, words) = ([0.25; 300], ["word"; 200]);
        for _ in 0..100 {
            let (count, ticket) =
                allocations(|| engine.submit(&Task::new().floats(&numbers).strs(&words)).unwrap());
            assert_eq!(count, 0);
            engine.wait(ticket, PATIENCE).unwrap();
        }
    });
}

// --- System calls ---

/// Calls one after the other of which none made a system call, at the longest.
#[derive(Default)]
struct Clean {
    now: usize,
    longest: usize,
}

impl Clean {
    fn count(&mut self, clean: bool) {
        self.now = if clean { self.now + 1 } else { 0 };
        self.longest = self.longest.max(self.now);
    }
}

/// Calls that are looked at, and those in a row that must be clean: in between, a thread that was
/// preempted may cost one, and the supervisor be told that there is work again.
const CALLS: usize = 2_000;
const IN_A_ROW: usize = 250;

/// An engine whose calls are hot on a busy machine too: nobody sleeps.
fn hot_engine(bench: &Bench) -> Builder {
    let builder = bench.builder("echo").signature(Signature::new().int("x")).workers(1);
    builder.wait_policy(WaitPolicy::Spin)
}

/// Whether this machine can show a hot call; says so if it cannot.
fn can_be_seen(engine: &Engine) -> bool {
    if engine.wait_policy() == WaitPolicy::Park {
        println!("SKIPPED: with one CPU each call sleeps");
        return false;
    }
    let seen = witness::begin();
    if seen {
        witness::forbid();
        let _ = std::process::id();
        assert!(!witness::allow(), "the witness is blind");
        witness::forbid();
        assert!(witness::allow(), "the witness sees what is not there");
        witness::end();
    } else {
        println!("SKIPPED: this kernel does not tell of system calls");
    }
    seen
}

#[test]
fn a_hot_call_makes_no_system_call_on_the_host() {
    everywhere(&[WaitPolicy::Spin], |bench, start, _| {
        let engine = start(hot_engine(bench), echo);
        if !can_be_seen(&engine) {
            return;
        }
        let mut clean = Clean::default();
        assert!(witness::begin());
        for number in 0..CALLS as i64 {
            let task = Task::new().int(number);
            witness::forbid();
            let answer = engine.call(&task, PATIENCE);
            clean.count(witness::allow());
            assert_eq!(answer.unwrap().int(0), Ok(number));
        }
        witness::end();
        assert!(clean.longest >= IN_A_ROW, "{} at the longest", clean.longest);
    });
}

#[test]
fn a_call_with_tensors_in_place_makes_no_system_call_on_the_host_once_their_pages_are_there() {
    leak_free(|bench| {
        const BYTES: usize = 5_000;
        let signature = Signature::new().value("x").value("out");
        let builder = bench.builder("double").signature(signature).workers(1);
        let engine = builder.wait_policy(WaitPolicy::Spin).start().unwrap();
        if !can_be_seen(&engine) {
            return;
        }
        let shape = [BYTES];
        let specs = [TensorSpec::input(DType::U8, &shape), TensorSpec::output(DType::U8, &shape)];
        let (mut clean, mut answer) = (Clean::default(), Answer::new());
        assert!(witness::begin());
        for number in 0..CALLS {
            let input = [number as u8; BYTES];
            witness::forbid();
            let mut place = engine.reserve(&specs).unwrap();
            place.write(0, 0, &input).unwrap();
            let ticket = place.submit(&Task::new().reserved(0).reserved(1)).unwrap();
            engine.wait_into(ticket, PATIENCE, &mut answer).unwrap();
            clean.count(witness::allow());
            let Some(ValueRef::Tensor(output)) = answer.get(0) else { panic!("{answer:?}") };
            assert!(output.bytes().iter().all(|byte| *byte == (number as u8).wrapping_mul(2)));
        }
        witness::end();
        assert!(clean.longest >= IN_A_ROW, "{} at the longest", clean.longest);
    });
}

#[test]
fn a_hot_call_makes_no_system_call_in_the_worker() {
    leak_free(|bench| {
        let clean = Arc::new(Mutex::new(Clean::default()));
        let calls = AtomicUsize::new(0);
        let model = {
            let clean = clean.clone();
            // Runs on the worker's thread: from the end of one call to the next is the worker's
            // own part.
            move |args: &Args<'_>| {
                let without = witness::allow();
                let answer = args.values()[0].clone();
                match calls.fetch_add(1, Ordering::Relaxed) {
                    0 if !witness::begin() => panic!("the kernel has told of the host"),
                    0 => {}
                    CALLS => {
                        witness::end();
                        return Ok(answer);
                    }
                    _ => clean.lock().unwrap().count(without),
                }
                witness::forbid();
                Ok(answer)
            }
        };
        let engine = hot_engine(bench).start_with(model).unwrap();
        if !can_be_seen(&engine) {
            return;
        }
        for number in 0..=CALLS as i64 {
            let answer = engine.call(&Task::new().int(number), PATIENCE);
            assert_eq!(answer.unwrap().int(0), Ok(number));
        }
        let longest = clean.lock().unwrap().longest;
        assert!(longest >= IN_A_ROW, "{longest} at the longest");
    });
}
