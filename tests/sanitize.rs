//! Many threads, many workers, every way that a task can go: what the sanitizers watch
//! (`scripts/sanitize`). Without them it is a test like any other.
//!
//! The workers are threads of this process. Nothing here is handed from thread to thread by the
//! standard library's locks or channels: it comes compiled, so the thread sanitizer does not see
//! that they order anything. Scoped threads are joined by hand, for the same reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nearcall::error::{CallError, RetrieveError, SubmitError, TaskError, WaitError};
use nearcall::{
    Answer, Args, Deadline, Engine, Key, PythonError, Signature, Task, Value, ValueRef, WaitPolicy,
};

/// Long enough for anything that ends at all on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

const POLICIES: [WaitPolicy; 3] = [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Park];

/// One each for what travels in the ring's entry, beside the slot's words, in its body.
const LENGTHS: [usize; 3] = [20, 90, 1500];

const SUBMITTERS: u64 = 4;
const TASKS: u64 = 2000;

/// Fewer slots than tasks that wait, so that they are used again and again, and are full at times.
fn engine(policy: WaitPolicy) -> Engine {
    Engine::builder("test:echo")
        .signature(Signature::new().int("x").str("text"))
        .workers(3)
        .slots(6)
        .slot_bytes(2048)
        .wait_policy(policy)
        .start_with(|args: &Args<'_>| match args.get("x") {
            Some(Value::Int(number)) if *number < 0 => Err(PythonError::new("ValueError", "no")),
            _ => Ok(Value::Tuple(args.values().to_vec())),
        })
        .unwrap()
}

/// The text of the task of this number.
fn text(number: u64) -> String {
    let letter = char::from(b'a' + (number % 26) as u8);
    letter.to_string().repeat(LENGTHS[number as usize % LENGTHS.len()])
}

fn is_answer_of(number: u64, answer: &Answer) {
    assert_eq!(answer.get(0), Some(ValueRef::Int(number.cast_signed())));
    assert_eq!(answer.str(1), Ok(&*text(number)));
}

/// Whether a submit that has failed may be tried again; panics if it failed for a bad reason.
fn goes_on(error: &SubmitError) -> bool {
    match error {
        SubmitError::Full { .. } => {
            thread::yield_now();
            true
        }
        SubmitError::Closed { .. } => false,
        other => panic!("{other}"),
    }
}

/// A key on its way to the next thread; 0: none.
#[derive(Default)]
struct Mail(AtomicU64);

impl Mail {
    /// Leaves a key, and takes the one that was there.
    fn swap(&self, key: Option<Key>) -> Option<Key> {
        Key::from_number(self.0.swap(key.map_or(0, Key::get), Ordering::AcqRel))
    }
}

/// Takes what somebody else has submitted. The number is in the answer.
fn take_foreign(engine: &Engine, key: Key) {
    match engine.wait(key, PATIENCE) {
        Ok(answer) => is_answer_of(u64::try_from(answer.int(0).unwrap()).unwrap(), &answer),
        Err(WaitError::Retrieve(RetrieveError::Task(TaskError::Closed))) => {}
        Err(error) => panic!("{error}"),
    }
}

/// One thread's tasks, until all are done or the engine is closed: each in another way.
fn submit_all(engine: &Engine, submitter: u64, mail: &Mail) {
    let mut answer = Answer::new();
    for number in (submitter..).step_by(SUBMITTERS as usize).take(TASKS as usize) {
        let text = text(number);
        let way = number / SUBMITTERS % 7;
        let int = if way == 6 { -1 } else { number.cast_signed() };
        let task = Task::new().int(int).str(&text);
        let ticket = loop {
            match engine.submit(&task) {
                Ok(ticket) => break ticket,
                Err(error) if goes_on(&error) => {}
                Err(_) => return,
            }
        };
        let ended = match way {
            0 => engine.wait(ticket, PATIENCE),
            1 => loop {
                match engine.retrieve(&ticket) {
                    Ok(Some(answer)) => break Ok(answer),
                    Ok(None) => thread::yield_now(),
                    Err(error) => break Err(error.into()),
                }
            },
            2 => loop {
                match engine.retrieve_into(&ticket, &mut answer) {
                    Ok(true) => break Ok(answer.clone()),
                    Ok(false) => std::hint::spin_loop(),
                    Err(error) => break Err(error.into()),
                }
            },
            3 => {
                // Nobody wants it any more, whether a worker has it or not.
                drop(ticket);
                continue;
            }
            4 => match engine.wait(ticket, Duration::ZERO) {
                Err(WaitError::TimedOut) => continue,
                ended => ended,
            },
            5 => {
                if let Some(key) = mail.swap(Some(ticket.into_key())) {
                    take_foreign(engine, key);
                }
                continue;
            }
            _ => {
                assert!(engine.in_use() <= engine.slots());
                match engine.wait(ticket, Deadline::NEVER) {
                    Err(WaitError::Retrieve(RetrieveError::Task(TaskError::Python(error)))) => {
                        assert_eq!(error.kind, "ValueError");
                        continue;
                    }
                    ended => ended,
                }
            }
        };
        match ended {
            Ok(answer) => is_answer_of(number, &answer),
            Err(WaitError::Retrieve(RetrieveError::Task(TaskError::Closed))) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs all submitters, and `meanwhile` beside them.
fn run(engine: &Engine, meanwhile: impl FnOnce()) {
    let mail = Mail::default();
    thread::scope(|scope| {
        let mail = &mail;
        let threads: Vec<_> = (0..SUBMITTERS)
            .map(|submitter| scope.spawn(move || submit_all(engine, submitter, mail)))
            .collect();
        meanwhile();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    if let Some(key) = mail.swap(None) {
        take_foreign(engine, key);
    }
}

#[test]
fn every_task_of_many_threads_ends_as_it_should_under_every_policy() {
    for policy in POLICIES {
        let engine = engine(policy);
        run(&engine, || {});
        let shutdown = engine.shutdown(PATIENCE);
        assert_eq!((shutdown.drained, shutdown.killed), (true, 0));
        assert_eq!(engine.in_use(), 0);
    }
}

#[test]
fn an_engine_that_is_shut_down_while_many_threads_submit_ends_every_task() {
    for policy in POLICIES {
        for deadline in [Duration::ZERO, PATIENCE] {
            let engine = engine(policy);
            let first = engine.submit(&Task::new().int(0).str(&text(0))).unwrap();
            run(&engine, || {
                take_foreign(&engine, first.into_key());
                assert_eq!(engine.shutdown(deadline).killed, 0);
            });
            let late = engine.call(&Task::new().int(0).str(""), PATIENCE);
            assert!(matches!(late, Err(CallError::Submit(SubmitError::Closed { .. }))));
            assert_eq!(engine.in_use(), 0);
        }
    }
}
