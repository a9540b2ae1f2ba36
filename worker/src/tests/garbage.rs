//! When garbage is collected. The collector belongs to the whole process, hence one for each test.

use super::*;

/// A model that leaves `garbage` objects which only the collector frees, and tells: how often
/// garbage was collected since the import, in which generations, and whether what it left last is
/// still there.
const SOURCE: &str = "
import gc, weakref

collected = []
last = lambda: None

def note(phase, info):
    if phase == 'start':
        collected.append(info['generation'])
gc.callbacks.append(note)

class Node:
    pass

def leave(count):
    for _ in range(count):
        cycle = []
        cycle.append(cycle)
    node = Node()
    node.itself = node
    return weakref.ref(node)

def f(garbage):
    global last
    before = len(collected)
    if garbage:
        last = leave(garbage)
    return [len(collected) - before, last() is not None, *collected]
";

/// Python's settings of the collector: the three thresholds, and whether it is on.
fn settings() -> ((i64, i64, i64), bool) {
    Python::attach(|py| {
        let gc = py.import("gc").unwrap();
        let thresholds = gc.call_method0("get_threshold").unwrap().extract().unwrap();
        (thresholds, gc.call_method0("isenabled").unwrap().extract().unwrap())
    })
}

/// The model, after more source of its module.
fn start(more: &str, between_calls: bool) -> PythonModel {
    let signature = Signature::new().int("garbage");
    let mut case = case(&format!("{SOURCE}{more}"), "f").signature(signature);
    case.setup.collect_between_calls = between_calls;
    case.start().unwrap()
}

/// What a call tells.
#[derive(Debug, PartialEq)]
struct Told {
    /// Collections during the call.
    during: i64,
    /// Whether its garbage, or that of the last call which left some, is there at its end.
    there: bool,
    /// The generations collected since the import.
    generations: Vec<i64>,
}

fn call(model: &mut PythonModel, garbage: i64) -> Told {
    let Value::List(told) = value(model, &task(garbage)) else { panic!() };
    model.tidy();
    let numbers = told.iter().filter_map(|value| match value {
        Value::Int(number) => Some(*number),
        _ => None,
    });
    let mut numbers = numbers.collect::<Vec<_>>().into_iter();
    Told {
        during: numbers.next().unwrap(),
        there: told[1] == Value::Bool(true),
        generations: numbers.collect(),
    }
}

#[test]
fn no_call_is_interrupted_before_it_leaves_twenty_times_what_is_usual() {
    in_own_process(
        "tests::garbage::no_call_is_interrupted_before_it_leaves_twenty_times_what_is_usual",
        || {
            let ((usual, _, _), _) = settings();
            let mut model = start("", true);
            for _ in 0..5 {
                // Starts without garbage: what there was is collected in the pause.
                model.idle();
                let told = call(&mut model, 19 * usual);
                assert_eq!((told.during, told.there), (0, true));
            }
            // What there may be at most without a pause.
            let told = call(&mut model, 25 * usual);
            assert!(told.during > 0, "{told:?}");
        },
    );
}

#[test]
fn a_pause_collects_what_python_would_have_collected_by_then() {
    in_own_process(
        "tests::garbage::a_pause_collects_what_python_would_have_collected_by_then",
        || {
            let ((usual, _, _), _) = settings();
            let mut model = start("", true);
            model.idle();
            let before = call(&mut model, 0).generations.len();
            // Too little to be worth it.
            assert!(call(&mut model, usual / 2).there);
            model.idle();
            let told = call(&mut model, 0);
            assert_eq!((told.there, told.generations.len()), (true, before));
            assert!(call(&mut model, usual).there);
            model.idle();
            let told = call(&mut model, 0);
            assert_eq!((told.there, told.generations.len()), (false, before + 1));
            // Nothing has come together since.
            model.idle();
            assert_eq!(call(&mut model, 0).generations.len(), before + 1);
        },
    );
}

#[test]
fn what_survives_is_collected_less_often_as_python_does() {
    in_own_process("tests::garbage::what_survives_is_collected_less_often_as_python_does", || {
        let source = "gc.set_threshold(100, 2, 2)";
        let mut model = start(source, true);
        let mut generations = Vec::new();
        for _ in 0..30 {
            let told = call(&mut model, 150);
            assert_eq!(told.during, 0);
            generations = told.generations;
            model.idle();
        }
        let count = |wanted| generations.iter().filter(|found| **found == wanted).count();
        assert!(count(0) > count(1) && count(1) > count(2), "{generations:?}");
        assert!(count(2) > 0, "{generations:?}");
    });
}

#[test]
fn the_limit_is_twenty_times_what_the_model_has_set() {
    in_own_process("tests::garbage::the_limit_is_twenty_times_what_the_model_has_set", || {
        start("gc.set_threshold(123, 4, 5)", true);
        assert_eq!(settings(), ((2460, 4, 5), true));
        // "Hardly ever", as some models put it; Python knows no larger number than the last.
        for large in [1_000_000_000, i32::MAX] {
            start(&format!("gc.set_threshold({large}, 4, 5)"), true);
            assert_eq!(settings(), ((i32::MAX.into(), 4, 5), true));
        }
    });
}

#[test]
fn a_model_that_has_switched_the_collector_off_is_left_alone() {
    in_own_process(
        "tests::garbage::a_model_that_has_switched_the_collector_off_is_left_alone",
        || {
            let (usual, _) = settings();
            for (switch, expected) in
                [("gc.disable()", (usual, false)), ("gc.set_threshold(0)", ((0, 10, 10), true))]
            {
                let source = format!("gc.set_threshold{usual:?}\n{switch}");
                let mut model = start(&source, true);
                let found = settings();
                assert_eq!((found.0.0, found.1), (expected.0.0, expected.1), "{switch}");
                let told = call(&mut model, 100_000);
                assert_eq!((told.during, told.there), (0, true), "{switch}");
                model.idle();
                assert!(call(&mut model, 0).there, "{switch}");
                Python::attach(|py| drop(py.import("gc").unwrap().call_method0("enable").unwrap()));
            }
        },
    );
}

#[test]
fn a_model_may_switch_the_collector_off_later_too() {
    in_own_process("tests::garbage::a_model_may_switch_the_collector_off_later_too", || {
        let ((usual, _, _), _) = settings();
        let switch = |function: &str| {
            Python::attach(|py| drop(py.import("gc").unwrap().call_method0(function).unwrap()));
        };
        let mut model = start("", true);
        for (function, there) in [("disable", true), ("enable", false)] {
            switch(function);
            call(&mut model, 2 * usual);
            model.idle();
            assert_eq!(call(&mut model, 0).there, there, "{function}");
        }
    });
}

#[test]
fn without_the_option_python_collects_as_ever() {
    in_own_process("tests::garbage::without_the_option_python_collects_as_ever", || {
        let before = settings();
        let mut model = start("", false);
        assert_eq!(settings(), before);
        let told = call(&mut model, 5 * before.0.0);
        assert!(told.during >= 4, "{told:?}");
        let generations = call(&mut model, before.0.0 / 2).generations;
        model.idle();
        assert_eq!(call(&mut model, 0).generations, generations);
    });
}

#[test]
fn an_exception_of_the_collectors_is_not_the_models() {
    in_own_process("tests::garbage::an_exception_of_the_collectors_is_not_the_models", || {
        // Python's own collections do not propagate what a callback raises either.
        let source = "
def fail(phase, info):
    raise ValueError(phase)
gc.callbacks.append(fail)
";
        let ((usual, _, _), _) = settings();
        let mut model = start(source, true);
        for _ in 0..3 {
            call(&mut model, 2 * usual);
            model.idle();
            assert!(!call(&mut model, 0).there);
        }
    });
}
