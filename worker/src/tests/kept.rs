//! Tensors in place that a model keeps: what is found out, and what becomes of them.

use nearcall::TensorSpec;

use super::in_place::{Place, bytes, kept, mapping_of, u8s};
use super::*;

/// A model that keeps something of `x` in its own way, once; then it sums `x`. `tell` gives what it
/// keeps, `drop` lets that go.
fn keeper(way: &str) -> Place {
    let source = format!(
        "
import gc, sys, threading
import numpy as np
class Holder: pass
holder, kept = Holder(), []
def raise_it(x):
    raise ValueError('kept')
def remember(x):
    try:
        raise_it(x)
    except ValueError as error:
        kept.append(error)
        return lambda: kept[0].__traceback__.tb_next.tb_frame.f_locals['x']
class Array(np.ndarray): pass
def generated(x):
    def generate():
        while True: yield x
    generator = generate()
    next(generator)
    return generator
def started(x):
    ready, go = threading.Event(), threading.Event()
    def run(x):
        ready.set()
        go.wait()
    thread = threading.Thread(target=run, args=[x], daemon=True)
    thread.start()
    ready.wait()
    kept.append(go)
    kept.append(thread)
    return lambda: thread._args[0] if hasattr(thread, '_args') else x
get = None
def f(x):
    global get
    if isinstance(x, str):
        if x == 'tell': return bytes(memoryview(get()).cast('B'))
        for item in kept:
            if hasattr(item, 'set'): item.set()
            if hasattr(item, 'join'): item.join()
        kept.clear()
        holder.__dict__.clear()
        get = None
        gc.collect()
        return
    if get is None:
        {way}
    return int(x.sum())
"
    );
    Place::new(&source, &["x"])
}

/// Ways to keep an array, or a part of it from its byte 16 on.
const WAYS: [(&str, usize); 12] = [
    ("holder.x = x; get = lambda: holder.x", 0),
    ("kept.append(x); get = lambda: kept[0]", 0),
    ("kept.append(x[16:]); get = lambda: kept[0]", 16),
    ("kept.append(x[16:][None].view('u2')); get = lambda: kept[0]", 16),
    ("kept.append(memoryview(x)[16:]); get = lambda: kept[0]", 16),
    ("kept.append(x.base); get = lambda: kept[0]", 0),
    ("kept.append(x.view(Array)); get = lambda: kept[0]", 0),
    ("kept.append(np.frombuffer(x, 'u4')); get = lambda: kept[0]", 0),
    ("get = lambda: x", 0),
    ("get = remember(x)", 0),
    ("get = started(x)", 0),
    ("kept.append(generated(x)); get = lambda: next(kept[0])", 0),
];

#[test]
fn an_array_that_the_model_keeps_ends_its_task_and_stays_what_it_was() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        for (way, from) in WAYS {
            let before = SlotDouble::kept_bytes();
            let mut place = keeper(way);
            let sent = bytes(10_000, 1);
            assert_eq!(place.one(&sent), kept("\"x\""), "{way}");
            assert_eq!(SlotDouble::kept_bytes() - before, 12_288, "whole pages: {way}");
            // The slot's next tasks have other numbers, and go well.
            for seed in 2..5 {
                let sent = bytes(10_000, seed);
                let sum: i64 = sent.iter().map(|byte| i64::from(*byte)).sum();
                assert_eq!(place.value(&sent), Value::Int(sum), "{way}");
            }
            let told = Value::Bytes(sent[from..].to_vec());
            assert_eq!(place.tell("tell"), Ended::Value(told), "{way}");
            place.model.tidy();
            assert_eq!(place.tell("drop"), Ended::Value(Value::None), "{way}");
            place.model.tidy();
            assert_eq!(SlotDouble::kept_bytes(), before, "{way}");
        }
    });
}

#[test]
fn the_memory_of_a_kept_array_is_there_as_long_as_it_and_no_longer() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
kept = []
def f(x):
    if isinstance(x, str):
        array = kept.pop()
        return [array.__array_interface__['data'][0], int(array[0])]
    kept.append(x)
    kept.append(x[1:])
";
        let mut place = Place::new(source, &["x"]);
        assert_eq!(place.one(&bytes(100_000, 0)), kept("\"x\""));
        for first in [1, 0] {
            let Ended::Value(Value::List(told)) = place.tell("pop") else { panic!() };
            let [Value::Int(address), Value::Int(found)] = told[..] else { panic!() };
            assert_eq!(found, first);
            let mapping = mapping_of(address as usize);
            // Private while the other is left, and not mapped at all afterwards.
            assert!(!mapping.contains("nearcall-"), "{mapping}");
            assert_eq!(mapping.is_empty(), first == 0, "{mapping}");
        }
    });
}

#[test]
fn dlpack_shares_the_memory_and_what_it_keeps_is_found() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import numpy as np
new = np.lib.NumpyVersion(np.__version__) >= '2.1.0'
kept = []
def f(x, out):
    out[:] = 7
    theirs = np.from_dlpack(out)
    same = np.shares_memory(theirs, out)
    if new:
        theirs = np.from_dlpack(x)
        same = same and np.shares_memory(theirs, x) and not theirs.flags.writeable
    if kept == []:
        kept.append(theirs)
    return [bool(same), out, new]
";
        let mut place = Place::new(source, &["x", "out"]);
        let tensors: [(TensorSpec, &[u8]); 2] = [
            (TensorSpec::input(DType::F32, &[2, 2]), &bytes(16, 1)),
            (TensorSpec::output(DType::U8, &[2]), &[]),
        ];
        let (ended, _) = place.run(&tensors);
        let (second, _) = place.run(&tensors);
        let Ended::Value(Value::List(found)) = second else { panic!("{second:?}") };
        assert_eq!(found[..2], [true.into(), u8s(&[7, 7])]);
        let name = if found[2] == Value::Bool(true) { "\"x\"" } else { "\"out\"" };
        assert_eq!(ended, kept(name));
    });
}

#[test]
fn the_error_names_the_arguments_that_are_kept_and_no_other() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
kept = []
def f(a, b, c):
    which = a[0]
    if which & 1: kept.append(a)
    if which & 2: kept.append(b[1:])
    if which & 4: kept.append(c)
    return {'c': c}
";
        let mut place = Place::new(source, &["a", "b", "c"]);
        for (which, names) in [
            (1, "\"a\""),
            (2, "\"b\""),
            (4, "\"c\""),
            (5, "\"a\", \"c\""),
            (7, "\"a\", \"b\", \"c\""),
        ] {
            let (ended, _) = place.run(&[
                (TensorSpec::input(DType::U8, &[1]), &[which]),
                (TensorSpec::input(DType::U8, &[2]), &[1, 2]),
                (TensorSpec::output(DType::U8, &[2]), &[]),
            ]);
            assert_eq!(ended, kept(names));
        }
    });
}

#[test]
fn what_garbage_alone_keeps_is_no_error() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import gc
gc.disable()
class Node: pass
def f(x):
    node = Node()
    node.self, node.x = node, x[1:]
    if x[0] == 1:
        error = ValueError('fails')
        raise error  # Its frame has it.
    return len(node.x)
";
        let mut place = Place::new(source, &["x"]);
        let before = SlotDouble::kept_bytes();
        assert_eq!(place.value(&[0, 1, 2]), Value::Int(2));
        let Ended::Python(error) = place.one(&[1, 2]) else { panic!() };
        assert_eq!((&*error.kind, &*error.message), ("ValueError", "fails"));
        assert_eq!(SlotDouble::kept_bytes(), before);
        Python::attach(|py| drop(py.import("gc").unwrap().call_method0("enable").unwrap()));
    });
}

#[test]
fn a_thread_that_is_about_to_let_go_is_waited_for() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import threading
def hold(x, ready, go):
    ready.set()
    go.wait()
def f(x):
    ready, go = threading.Event(), threading.Event()
    threading.Thread(target=hold, args=[x, ready, go]).start()
    ready.wait()
    # The thread needs the GIL to take notice, and has it only when this call is over.
    go.set()
    return int(x.sum())
";
        let mut place = Place::new(source, &["x"]);
        let mut answers = 0;
        for seed in 0..20 {
            let sent = bytes(100, seed);
            let sum = sent.iter().map(|byte| i64::from(*byte)).sum();
            let ended = place.one(&sent);
            // On a machine with much else to do, not for ever.
            if ended != kept("\"x\"") {
                assert_eq!(ended, Ended::Value(Value::Int(sum)));
                answers += 1;
            }
        }
        assert!(answers > 10, "{answers} of 20");
    });
}

#[test]
fn an_exception_that_is_kept_with_its_frames_is_the_answer_and_its_array_stays() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
errors = []
def fail(x):
    raise KeyError(int(x[0]))
def f(x):
    if isinstance(x, str):
        frame = errors.pop(0).__traceback__.tb_next.tb_frame
        return bytes(frame.f_locals['x'])
    try:
        fail(x)
    except KeyError as error:
        errors.append(error)
        raise
";
        let mut place = Place::new(source, &["x"]);
        let before = SlotDouble::kept_bytes();
        for sent in [b"abc", b"def"] {
            let Ended::Python(error) = place.one(sent) else { panic!() };
            assert_eq!((&*error.kind, error.message), ("KeyError", sent[0].to_string()));
        }
        assert_eq!(SlotDouble::kept_bytes(), before + 2 * 4096);
        for sent in [b"abc", b"def"] {
            assert_eq!(place.tell("tell"), Ended::Value(Value::Bytes(sent.to_vec())));
            place.model.tidy();
        }
        assert_eq!(SlotDouble::kept_bytes(), before);
    });
}

/// A model that notes which generations are collected.
const NOTES: &str = "
import gc, sys, threading
collected, ran = [], []
def note(phase, info):
    if phase == 'start':
        collected.append((info['generation'], len(ran)))
gc.callbacks.append(note)
def cycle(x):
    try:
        raise ValueError('of no matter')
    except ValueError as error:
        # The frame has it, and it has the frame.
        found = error
    # It is older then.
    if x[0] >= 1: gc.collect(0)
    if x[0] >= 2: gc.collect(1)
";

#[test]
fn a_young_cycle_is_found_without_a_collection_of_everything_and_an_old_one_by_it() {
    in_own_process(
        "tests::kept::a_young_cycle_is_found_without_a_collection_of_everything_and_an_old_one_by_it",
        || {
            if lacks_numpy() {
                return;
            }
            let source = format!(
                "{NOTES}
def f(x):
    if isinstance(x, str): return [generation for generation, _ in collected]
    collected.clear()
    cycle(x)
    return 1
"
            );
            let mut place = Place::new(&source, &["x"]);
            for (age, of_everything) in [(0, false), (1, false), (2, true)] {
                assert_eq!(place.value(&[age]), Value::Int(1));
                let Ended::Value(Value::List(generations)) = place.tell("tell") else { panic!() };
                let found = generations.contains(&Value::Int(2));
                assert_eq!(found, of_everything, "{age}: {generations:?}");
            }
        },
    );
}

#[test]
fn young_garbage_is_looked_for_before_other_threads_are_waited_for() {
    in_own_process(
        "tests::kept::young_garbage_is_looked_for_before_other_threads_are_waited_for",
        || {
            if lacks_numpy() {
                return;
            }
            // The thread runs when somebody waits for it, and not before.
            let source = format!(
                "{NOTES}
sys.setswitchinterval(1000)
go = threading.Semaphore(0)
def run():
    go.acquire()
    ran.append(True)
def f(x):
    if isinstance(x, str): return [list(both) for both in collected]
    threading.Thread(target=run).start()
    collected.clear()
    cycle(x)
    go.release()
    return 1
"
            );
            let mut place = Place::new(&source, &["x"]);
            assert_eq!(place.value(&[0]), Value::Int(1));
            let only = Value::List(vec![0.into(), 0.into()]);
            assert_eq!(place.tell("tell"), Ended::Value(Value::List(vec![only])));
        },
    );
}
