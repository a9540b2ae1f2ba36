//! Tensors without copies, with Python: for every environment in `$NEARCALL_TEST_PYTHONS` (see
//! `scripts/test`, which sets it).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;

use common::python::{Python, each, python_error, refusal};
use common::{Bench, PATIENCE};
use nearcall::error::{CallError, RetrieveError, TaskError, WaitError};
use nearcall::{
    Answer, DType, Engine, Exit, Refusal, Signature, Task, TensorSpec, Value, ValueRef,
};

/// A call of a model with one tensor, and what says how in front of it.
fn call(engine: &Engine, how: &str, bytes: &[u8]) -> Result<Answer, CallError> {
    let shape = [bytes.len()];
    let mut place = engine.reserve(&[TensorSpec::input(DType::U8, &shape)]).unwrap();
    place.write(0, 0, bytes).unwrap();
    place.call(&Task::new().str(how).reserved(0), PATIENCE)
}

fn keeper(bench: &Bench, python: &Python) -> Engine {
    let builder = python.builder(bench, "in_place:Keeper").method("run").workers(1).slots(1);
    let builder = builder.signature(Signature::new().str("how").value("x"));
    // Only what is large has any.
    builder.huge_pages(true).start().unwrap()
}

fn ints(answer: &Answer) -> Vec<i64> {
    let ValueRef::List(items) = answer.value() else { panic!("{answer:?}") };
    let int = |item| match item {
        ValueRef::Int(int) => int,
        other => panic!("{other:?}"),
    };
    items.iter().map(int).collect()
}

fn kept() -> Refusal {
    Refusal::Kept { arguments: "\"x\"".to_owned() }
}

#[test]
fn a_reserved_tensor_is_a_read_only_array_over_shared_memory() {
    each(|bench, python| {
        let signature = Signature::new().value("x");
        let builder = python.builder(bench, "in_place:describe").signature(signature);
        let engine = builder.start().unwrap();
        let shapes: [&[usize]; 5] = [&[], &[0], &[2, 3], &[3, 0, 5], &[100, 100]];
        for &dtype in DType::ALL {
            for shape in shapes {
                let mut place = engine.reserve(&[TensorSpec::input(dtype, shape)]).unwrap();
                let len = shape.iter().product::<usize>() * dtype.size();
                let sent: Vec<u8> = (0..len).map(|index| (index % 2) as u8).collect();
                place.write_bytes(0, 0, &sent).unwrap();
                let answer = place.call(&Task::new().reserved(0), PATIENCE).unwrap();
                let Value::List(found) = answer.value().to_owned() else { panic!() };
                let yes = Value::Bool(true);
                assert_eq!(found[..3], [yes.clone(), yes.clone(), yes], "{dtype} {shape:?}");
                let extents = shape.iter().map(|extent| Value::Int(*extent as i64)).collect();
                assert_eq!(found[3..5], [dtype.name().into(), Value::Tuple(extents)]);
                let Value::Tensor(tensor) = &found[5] else { panic!("{found:?}") };
                assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape));
                assert_eq!(tensor.bytes(), sent);
            }
        }
    });
}

/// Something that one worker alone is to do; says whether that was so. One that has kept anything for two
/// seconds is replaced, which a busy machine can make of this.
fn with_one_worker(engine: &Engine, mut step: impl FnMut() -> Vec<Result<(), String>>) {
    let pid = || ints(&call(engine, "sum", &[0]).unwrap())[0];
    for _ in 0..20 {
        let before = pid();
        let results = step();
        // A worker that was replaced takes no more tasks, so there was no other in between.
        if pid() == before {
            return results.into_iter().for_each(Result::unwrap);
        }
    }
    panic!("no worker lives long enough");
}

fn is<T: PartialEq>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: not what was kept")) }
}

/// A call without a tensor.
fn tell(engine: &Engine, how: &str) -> Answer {
    engine.call(&Task::new().str(how).value(&Value::None), PATIENCE).unwrap()
}

#[test]
fn what_a_model_keeps_of_a_tensor_ends_the_task_and_stays_as_it_was_while_others_use_the_slot() {
    stays_as_it_was(100_000);
}

#[test]
fn what_a_model_keeps_of_a_tensor_in_huge_pages_stays_as_it_was_while_others_use_the_slot() {
    // Two huge pages, and a part of what could be a third.
    stays_as_it_was((5 << 20) - 1);
}

fn stays_as_it_was(bytes: usize) {
    each(|bench, python| {
        let engine = keeper(bench, python);
        let sent = |seed: u8| -> Vec<u8> { (0..bytes).map(|i| (i % 251) as u8 ^ seed).collect() };
        with_one_worker(&engine, || {
            for (seed, how) in [(1, "keep"), (2, "slice"), (3, "view")] {
                assert_eq!(refusal(call(&engine, how, &sent(seed)).unwrap_err()), kept(), "{how}");
            }
            let error = python_error(call(&engine, "traceback", &sent(4)).unwrap_err());
            assert_eq!((&*error.kind, &*error.message), ("ValueError", "traceback"));
            // The slot's next tasks.
            for seed in 5..9 {
                let sum = sent(seed).iter().map(|byte| i64::from(*byte)).sum::<i64>();
                for how in ["sum", "cycle"] {
                    let answer = call(&engine, how, &sent(seed)).unwrap();
                    assert_eq!(ints(&answer)[1], sum, "{how}");
                }
            }
            let told = tell(&engine, "tell").value().to_owned();
            drop(tell(&engine, "drop"));
            let views = [sent(1), sent(2)[1..].to_vec(), sent(3), sent(4)];
            // Not the bytes: there may be millions.
            let is_right = told == Value::List(views.map(Value::Bytes).to_vec());
            vec![is("views", &is_right, &true)]
        });
    });
}

#[test]
fn a_model_that_lets_go_later_gives_the_memory_back() {
    each(|bench, python| {
        let engine = keeper(bench, python);
        let sent = vec![1; 50 << 20];
        // More than may be kept, in all.
        for _ in 0..4 {
            with_one_worker(&engine, || {
                for _ in 0..2 {
                    assert_eq!(refusal(call(&engine, "keep", &sent).unwrap_err()), kept());
                }
                let told = ints(&tell(&engine, "where"));
                let (pid, kept) = (told[0], &told[1..]);
                let are_mapped = || -> Vec<bool> {
                    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
                    kept.iter().map(|address| is_private_at(&maps, *address)).collect()
                };
                let before = are_mapped();
                drop(tell(&engine, "drop"));
                // Freed before the next task is taken.
                drop(tell(&engine, "sum"));
                vec![
                    is("kept", &before, &vec![true, true]),
                    is("let go", &are_mapped(), &vec![false, false]),
                ]
            });
        }
    });
}

/// Whether something that is not the segment is mapped at an address.
fn is_private_at(maps: &str, address: i64) -> bool {
    maps.lines().filter(|line| !line.contains("nearcall-")).any(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        let number = |hex| i64::from_str_radix(hex, 16).unwrap_or(i64::MAX);
        (number(start)..number(end)).contains(&address)
    })
}

#[test]
fn a_worker_whose_model_keeps_everything_ends_and_another_takes_over() {
    each(|bench, python| {
        let engine = keeper(bench, python);
        let sent = vec![1; 60 << 20];
        let mut refused = 0;
        let (exit, report) =
            loop {
                match call(&engine, "keep", &sent).unwrap_err() {
                    CallError::Wait(WaitError::Retrieve(RetrieveError::Task(
                        TaskError::Died { exit, report, .. },
                    ))) => break (exit, report),
                    error => assert_eq!(refusal(error), kept()),
                }
                refused += 1;
                assert!(refused < 100);
            };
        // 256 MiB may be kept; more tasks end so if the worker was replaced in between, for having kept
        // something for two seconds.
        assert!(refused >= 4, "{refused}");
        assert!(matches!(exit, Exit::Code(code) if code != 0), "{exit:?}");
        assert!(report.to_string().contains("keeps more arrays of its tasks"), "{report}");
        let answer = call(&engine, "sum", &sent).unwrap();
        assert_eq!(ints(&answer)[1], 60 << 20);
    });
}

#[test]
fn an_output_that_the_model_has_written_is_the_answer_wherever_it_stands_in_it() {
    each(|bench, python| {
        let signature = Signature::new().str("how").value("x").value("out");
        let builder = python.builder(bench, "in_place:outputs").signature(signature);
        let engine = builder.start().unwrap();
        // 16 MiB each way.
        let (rows, columns) = (2, 1 << 20);
        let shape = [rows, columns];
        let sent: Vec<f64> = (0..rows * columns).map(|index| index as f64).collect();
        let call = |how| {
            let (input, output) =
                (TensorSpec::input(DType::F64, &shape), TensorSpec::output(DType::F64, &shape));
            let mut place = engine.reserve(&[input, output]).unwrap();
            place.write(0, 0, &sent).unwrap();
            place.call(&Task::new().str(how).reserved(0).reserved(1), PATIENCE).unwrap()
        };
        let is = |value: ValueRef<'_>, shape: &[usize], expected: &[f64]| {
            let ValueRef::Tensor(tensor) = value else { panic!("no tensor") };
            // Not by `assert_eq!`, which would print all.
            tensor.shape() == shape && tensor.to_vec::<f64>().unwrap() == expected
        };
        let of =
            |number: fn(f64) -> f64| -> Vec<f64> { sent.iter().copied().map(number).collect() };
        let doubled = of(|number| 2.0 * number);
        for _ in 0..2 {
            assert!(is(call("whole").value(), &shape, &doubled));
            assert!(is(call("part").value(), &[1, columns], &doubled[columns..]));
            let apart: Vec<f64> = doubled.iter().copied().step_by(2).collect();
            assert!(is(call("apart").value(), &[rows, columns / 2], &apart));
            assert!(is(call("ignored").value(), &shape, &of(|number| number + 1.0)));
            let answer = call("among others");
            let ValueRef::Dict(pairs) = answer.value() else { panic!() };
            assert_eq!(pairs.get("a"), Some(ValueRef::Int(1)));
            let Some(ValueRef::List(list)) = pairs.get("out") else { panic!() };
            assert!(is(list.get(0).unwrap(), &shape, &doubled));
            assert_eq!(list.get(1), Some(ValueRef::Str("text")));
            for (how, expected) in [
                ("twice", [(&shape[..], &doubled[..]), (&shape, &doubled), (&[], &[])]),
                ("input", [(&shape, &sent), (&[1, columns], &sent[columns..]), (&shape, &doubled)]),
            ] {
                let answer = call(how);
                let ValueRef::List(list) = answer.value() else { panic!() };
                for (found, (shape, elements)) in list.iter().zip(expected) {
                    assert!(is(found, shape, elements), "{how}");
                }
            }
        }
    });
}

#[test]
fn large_arrays_of_an_answer_arrive_whole_wherever_they_stand_in_it() {
    each(|bench, python| {
        let signature = Signature::new().str("how");
        let builder = python.builder(bench, "in_place:large").signature(signature).workers(1);
        let engine = builder.start().unwrap();
        let call = |how| engine.call(&Task::new().str(how), PATIENCE);
        let is = |value: Option<ValueRef<'_>>, expected: std::ops::Range<i64>| {
            let Some(ValueRef::Tensor(tensor)) = value else { panic!("no tensor") };
            let found = tensor.to_vec::<i64>().unwrap();
            found.len() == expected.clone().count() && found.into_iter().eq(expected)
        };
        for _ in 0..3 {
            assert!(is(Some(call("alone").unwrap().value()), 0..1 << 21));
            let answer = call("two").unwrap();
            let ValueRef::Dict(pairs) = answer.value() else { panic!() };
            assert_eq!(pairs.get("a"), Some(ValueRef::Int(1)));
            assert!(is(pairs.get("first"), 0..1 << 21));
            let Some(ValueRef::List(list)) = pairs.get("b") else { panic!() };
            assert_eq!(list.get(0), Some(ValueRef::Int(2)));
            assert!(is(list.get(1), 1..1 << 21));
            assert_eq!(pairs.get("c"), Some(ValueRef::None));
            let Refusal::Unsupported { type_name, place, .. } =
                refusal(call("then none").unwrap_err())
            else {
                panic!()
            };
            assert_eq!((&*type_name, &*place), ("set", "answer['b']"));
        }
    });
}

#[test]
fn children_that_a_model_forks_have_their_own_tasks_arrays_and_change_nobodys() {
    each(|bench, python| {
        let signature = Signature::new().str("how").value("x").value("out");
        let builder = python.builder(bench, "in_place:Parent").method("run").signature(signature);
        // The first task's slot is the second's, too.
        let engine = builder.workers(1).slots(1).start().unwrap();
        let call = |how: &str, seed: u8| {
            let shape = [50_000];
            let (input, output) =
                (TensorSpec::input(DType::U8, &shape), TensorSpec::output(DType::U8, &shape));
            let mut place = engine.reserve(&[input, output]).unwrap();
            place.write(0, 0, &[seed; 50_000]).unwrap();
            let answer =
                place.call(&Task::new().str(how).reserved(0).reserved(1), PATIENCE).unwrap();
            let Value::List(found) = answer.value().to_owned() else { panic!() };
            let Value::Tensor(out) = &found[0] else { panic!() };
            assert!(out.bytes() == [seed; 50_000], "{how}: the answer is the task's own");
            found.get(1).cloned()
        };
        let all = |seed| Some(Value::Bytes(vec![seed; 50_000]));
        for round in [0, 100] {
            assert!(call("at once", round + 1) == all(round + 1));
            for (number, how) in [(2, "fork"), (5, "fork a writer")] {
                call(how, round + number);
                call("", round + number + 1);
                // The child writes, if at all, during the call of another task in the same slot.
                assert!(call("tell", round + number + 2) == all(round + number), "{how}");
            }
            // A child that comes back from the call is no second worker, wherever it does so.
            for how in ["leave by return", "leave by SystemExit"] {
                assert_eq!(call(how, round + 8), Some(Value::Int(1)), "{how}");
            }
            assert_eq!(call("leave a destructor", round + 9), Some(Value::List(vec![])));
            assert!(call("at once", round + 10) == all(round + 10));
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}
