//! Children that a model forks while it has tensors in place: what they have of them, and what becomes
//! of the task.

use nearcall::TensorSpec;

use super::in_place::{Place, bytes, kept, u8s};
use super::*;

/// A child waits for a word, then tells what it has found. Nobody sleeps.
const CHILDREN: &str = "
import ctypes, gc, os, threading
import numpy as np

class Child:
    def __init__(self, act, fork=os.fork):
        read, self.go = os.pipe()
        self.told, write = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            os.close(self.go)
            os.read(read, 1)
            try:
                told = act()
            except BaseException as error:
                told = repr(error).encode()
            os.write(write, told)
            os._exit(0)
        os.close(read)
        os.close(write)
    def tell(self):
        os.write(self.go, b'.')
        told = b''
        while more := os.read(self.told, 1 << 16):
            told += more
        os.close(self.go)
        os.close(self.told)
        return told if os.waitpid(self.pid, 0)[1] == 0 else b'killed'

def mapping(address):
    with open('/proc/self/maps') as maps:
        for line in maps:
            start, end = (int(number, 16) for number in line.split()[0].split('-'))
            if start <= address < end:
                return line.encode()
    return b''

def address(x):
    return x.__array_interface__['data'][0]

child = None
";

fn place(source: &str, parameters: &[&str]) -> Place {
    Place::new(&format!("{CHILDREN}{source}"), parameters)
}

/// A test with numpy, in a process of its own: forks copy only the thread that forks.
fn forking(name: &str, test: impl FnOnce() + Send + 'static) {
    in_own_process(&format!("tests::forks::{name}"), || {
        if !lacks_numpy() {
            test();
        }
    });
}

/// What a model tells on its own, as bytes.
#[track_caller]
fn told(place: &mut Place, what: &str) -> Vec<u8> {
    match place.tell(what) {
        Ended::Value(Value::Bytes(told)) => told,
        other => panic!("{other:?}"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The value in place of a task's end.
#[track_caller]
fn answered((ended, written): (Ended, usize)) -> (Value, usize) {
    match ended {
        Ended::Value(value) => (value, written),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_child_has_the_numbers_of_its_own_task_for_as_long_as_it_lives() {
    forking("a_child_has_the_numbers_of_its_own_task_for_as_long_as_it_lives", || {
        let source = "
def f(x):
    global child
    if isinstance(x, str): return child.tell()
    if child is None:
        child = Child(lambda: x.tobytes() + mapping(address(x)))
    return int(x[0])
";
        // Less than a page, a page, more.
        for len in [10, 4096, 50_000] {
            let mut place = place(source, &["x"]);
            let before = SlotDouble::kept_bytes();
            let sent = bytes(len, 1);
            assert_eq!(place.value(&sent), Value::Int(sent[0].into()));
            for seed in 2..5 {
                let next = bytes(len, seed);
                assert_eq!(place.value(&next), Value::Int(next[0].into()), "the slot's next task");
            }
            let told = told(&mut place, "tell");
            assert_eq!(told[..len], sent);
            let mapping = text(told[len..].to_vec());
            assert!(mapping.contains(" r--p ") && !mapping.contains("nearcall"), "{mapping}");
            assert_eq!(SlotDouble::kept_bytes(), before, "nothing is kept by a fork");
        }
    });
}

#[test]
fn what_a_child_writes_is_in_nobodys_answer() {
    forking("what_a_child_writes_is_in_nobodys_answer", || {
        let source = "
def scribble(out):
    before = out.tobytes()
    out[:] = 99
    return before + out.tobytes()
def f(how, out):
    global child, last
    how = bytes(how)
    if how != b'next':
        out[:] = 1
        child = Child(lambda: scribble(out))
        if how == b'at once': last = child.tell()
        out[1:] = 2
    else:
        out[:] = 3
        last = child.tell()
    return [out, last if how != b'fork' else None]
";
        let mut place = place(source, &["how", "out"]);
        let mut run = |how: &str| {
            let (value, written) = answered(place.run(&[
                (TensorSpec::input(DType::U8, &[how.len()]), how.as_bytes()),
                (TensorSpec::output(DType::U8, &[5000]), &[]),
            ]));
            let Value::List(items) = value else { panic!() };
            (items[0].clone(), items[1].clone(), written)
        };
        let ours = [vec![1], vec![2; 4999]].concat();
        let seen = Value::Bytes([vec![1; 5000], vec![99; 5000]].concat());
        let (out, _, written) = run("fork");
        assert_eq!(out, u8s(&ours));
        assert!(written < 200, "an output is still in place after a fork: {written}");
        let (out, told, _) = run("next");
        assert_eq!((out, told), (u8s(&[3; 5000]), seen.clone()), "another task's");
        let (out, told, _) = run("at once");
        assert_eq!((out, told), (u8s(&ours), seen), "the task's own");
    });
}

#[test]
fn a_child_has_all_tensors_of_the_task_and_may_fork_as_well() {
    forking("a_child_has_all_tensors_of_the_task_and_may_fork_as_well", || {
        let source = "
def f(a, b, none, c, d):
    c[:], d[:] = 3, 4
    tell = lambda: b''.join(x.tobytes() for x in (a, b, none, c, d))
    grandchild = lambda: Child(tell).tell()
    children = [Child(tell), Child(grandchild), Child(tell)]
    c[:] = 5
    return [child.tell() for child in children]
";
        let mut place = place(source, &["a", "b", "none", "c", "d"]);
        let (first, second) = (bytes(10_000, 1), bytes(3, 2));
        let (value, _) = answered(place.run(&[
            (TensorSpec::input(DType::U8, &[10_000]), &first),
            (TensorSpec::input(DType::U8, &[3]), &second),
            (TensorSpec::input(DType::U8, &[0]), &[]),
            (TensorSpec::output(DType::U8, &[7000]), &[]),
            (TensorSpec::output(DType::U8, &[5]), &[]),
        ]));
        let all = Value::Bytes([first, second, vec![3; 7000], vec![4; 5]].concat());
        assert_eq!(value, Value::List(vec![all; 3]));
    });
}

#[test]
fn a_thread_of_the_model_may_fork_during_a_call() {
    forking("a_thread_of_the_model_may_fork_during_a_call", || {
        let source = "
def f(x, out):
    global child
    if isinstance(x, str): return child.tell()
    out[:] = x
    if child is None:
        def fork():
            global child
            child = Child(lambda: x.tobytes() + out.tobytes())
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    return out
";
        let mut place = place(source, &["x", "out"]);
        for seed in 1..4 {
            let sent = bytes(6000, seed);
            let (value, written) = answered(place.run(&[
                (TensorSpec::input(DType::U8, &[6000]), &sent),
                (TensorSpec::output(DType::U8, &[6000]), &[]),
            ]));
            assert_eq!(value, u8s(&sent));
            assert!(written < 200, "{written}");
        }
        let task = [any("tell"), any(Value::None)].concat();
        let Ended::Value(Value::Bytes(found)) = handle(&mut place.model, &task) else { panic!() };
        assert_eq!(found, bytes(6000, 1).repeat(2));
    });
}

#[test]
fn what_is_written_while_a_fork_goes_on_is_not_lost() {
    forking("what_is_written_while_a_fork_goes_on_is_not_lost", || {
        // The hooks of others run between ours and the fork; a thread without the GIL would write there,
        // or in the middle of ours, as well.
        let source = "
writes = None
def before():
    if writes: writes()
# What is registered first is called last.
os.register_at_fork(before=before)
def f(out):
    global writes
    out[:] = 1
    writes = lambda: out.__setitem__(slice(0, 100), 2)
    child = Child(lambda: out.tobytes())
    writes = None
    return [child.tell(), out]
";
        let mut place = place(source, &["out"]);
        let (value, _) = answered(place.run(&[(TensorSpec::output(DType::U8, &[5000]), &[])]));
        let Value::List(found) = value else { panic!() };
        assert_eq!(found[1], u8s(&[vec![2; 100], vec![1; 4900]].concat()));
    });
}

#[test]
fn a_child_that_c_code_forks_has_none_of_the_memory() {
    forking("a_child_that_c_code_forks_has_none_of_the_memory", || {
        let source = "
last = 0
fork = ctypes.PyDLL(None).fork
def f(x, out):
    global child, last
    if isinstance(x, str):
        if x == 'tell': return child.tell()
        # In a task without tensors.
        return b'|'.join(Child(lambda: mapping(last), fork).tell() for fork in (os.fork, fork))
    # After a fork with CPython's knowledge too.
    if x[0] == 1: Child(lambda: b'').tell()
    here, there = address(x), address(out)
    child = Child(lambda: mapping(here) + b'|' + mapping(there), fork)
    last = here
    return mapping(here)
";
        let mut place = place(source, &["x", "out"]);
        for first in [0, 1] {
            let (value, _) = answered(place.run(&[
                (TensorSpec::input(DType::U8, &[2]), &[first, 5]),
                (TensorSpec::output(DType::U8, &[2]), &[]),
            ]));
            let Value::Bytes(ours) = value else { panic!() };
            assert!(text(ours).contains("/dev/shm/nearcall-"), "where an input is");
            for what in ["tell", "fork"] {
                let task = [any(what), any(Value::None)].concat();
                let Ended::Value(found) = handle(&mut place.model, &task) else { panic!() };
                place.model.tidy();
                assert_eq!(found, Value::Bytes(b"|".to_vec()), "{what}: nothing there, twice");
            }
        }
    });
}

#[test]
fn a_child_of_a_later_task_has_what_the_model_has_kept() {
    forking("a_child_of_a_later_task_has_what_the_model_has_kept", || {
        let source = "
keeps = None
def f(x):
    global child, keeps
    if isinstance(x, str): return child.tell()
    if keeps is None: keeps = x
    else: child = Child(lambda: keeps.tobytes() + x.tobytes())
    return 1
";
        let mut place = place(source, &["x"]);
        let (first, second) = (bytes(5000, 1), bytes(5000, 2));
        assert_eq!(place.one(&first), kept("\"x\""));
        assert_eq!(place.value(&second), Value::Int(1));
        assert_eq!(place.value(&bytes(5000, 3)), Value::Int(1));
        drop(told(&mut place, "tell"));
        assert_eq!(place.value(&second), Value::Int(1));
        assert_eq!(told(&mut place, "tell"), [first, second].concat());
    });
}

/// A thread that is at its fork, behind our hook, until it is told to go on.
const SLOW: &str = "
thread, reached, go = None, threading.Event(), threading.Event()
def before():
    if threading.current_thread() is thread:
        reached.set()
        go.wait()
# What is registered first is called last.
os.register_at_fork(before=before)
def begin(act):
    global thread
    def fork():
        global child
        child = Child(act)
    thread = threading.Thread(target=fork)
    thread.start()
    reached.wait()
def end():
    go.set()
    thread.join()
    return child.tell()
";

#[test]
fn a_fork_that_ends_after_its_task_gives_nothing_of_the_next() {
    forking("a_fork_that_ends_after_its_task_gives_nothing_of_the_next", || {
        let source = "
def f(x):
    if thread is None:
        here = address(x)
        begin(lambda: mapping(here))
        return None
    return end()
";
        let mut place = place(&format!("{SLOW}{source}"), &["x"]);
        assert_eq!(place.value(&bytes(5000, 1)), Value::None);
        assert_eq!(place.value(&bytes(5000, 2)), Value::Bytes(Vec::new()));
    });
}

#[test]
fn a_fork_that_ends_after_its_task_has_what_the_model_keeps_of_it() {
    forking("a_fork_that_ends_after_its_task_has_what_the_model_keeps_of_it", || {
        let source = "
def f(x):
    if isinstance(x, str): return end()
    begin(lambda: x.tobytes())
";
        let mut place = place(&format!("{SLOW}{source}"), &["x"]);
        assert_eq!(place.one(&bytes(5000, 1)), kept("\"x\""));
        assert_eq!(told(&mut place, "end"), bytes(5000, 1));
    });
}

#[test]
fn two_threads_may_fork_at_once() {
    forking("two_threads_may_fork_at_once", || {
        let source = "
def f(x):
    begin(lambda: x.tobytes())
    return [Child(lambda: x.tobytes()).tell(), end()]
";
        let mut place = place(&format!("{SLOW}{source}"), &["x"]);
        let sent = Value::Bytes(bytes(5000, 1));
        assert_eq!(place.value(&bytes(5000, 1)), Value::List(vec![sent.clone(), sent]));
    });
}

#[test]
fn where_there_is_no_memory_for_copies_the_child_has_none_and_the_call_goes_on() {
    forking("where_there_is_no_memory_for_copies_the_child_has_none_and_the_call_goes_on", || {
        let source = "
import resource
def f(x):
    with open('/proc/self/statm') as statm:
        used = int(statm.read().split()[0]) * 4096
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), limits[1]))
    try:
        child = Child(lambda: mapping(address(x)))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return [child.tell(), int(x[-1])]
";
        let mut place = place(source, &["x"]);
        let sent = bytes(20 << 20, 1);
        let last = i64::from(*sent.last().unwrap());
        for _ in 0..2 {
            let found = place.value(&sent);
            assert_eq!(found, Value::List(vec![Value::Bytes(Vec::new()), last.into()]));
        }
    });
}

#[test]
fn a_task_without_tensors_may_fork_as_ever() {
    forking("a_task_without_tensors_may_fork_as_ever", || {
        let source = "
def f(x):
    return Child(lambda: x.encode()).tell()
";
        let mut place = place(source, &["x"]);
        assert_eq!(told(&mut place, "some text"), b"some text");
    });
}
