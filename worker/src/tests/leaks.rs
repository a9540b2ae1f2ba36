//! Nothing is kept of a call: neither of one that ends well nor of one that does not.

use nearcall::TensorSpec;

use super::*;

/// Live blocks of Python's allocator: grows by one for each object that is not given back.
fn blocks() -> i64 {
    Python::attach(|py| {
        py.import("gc").unwrap().call_method0("collect").unwrap();
        let sys = py.import("sys").unwrap();
        sys.call_method0("getallocatedblocks").unwrap().extract().unwrap()
    })
}

/// Repeats something; what it keeps must be far less than one block each time.
#[track_caller]
fn assert_keeps_nothing(what: &str, step: impl FnMut()) {
    assert_keeps_nothing_of(what, 20_000, step);
}

#[track_caller]
fn assert_keeps_nothing_of(what: &str, times: i64, mut step: impl FnMut()) {
    // Caches fill at first.
    (0..200).for_each(|_| step());
    let before = blocks();
    (0..times).for_each(|_| step());
    let kept = blocks() - before;
    assert!(kept < times / 20, "{what}: {kept} blocks kept by {times} calls");
}

const SOURCE: &str = "
cyclic = []
cyclic.append(cyclic)
def f(what, floats, strs):
    if what == 'raise': raise ValueError(strs)
    return {
        'fine': [len(floats), 10.5, 'text', b'bytes', ('a', {'k': 2**40})],
        'type': [strs, {'k': object()}],
        'wide': (floats, 2**70),
        'text': [strs, '\\udc80'],
        'key': {1: strs},
        'key text': {'\\udc80': strs},
        'cyclic': cyclic,
    }[what]
";

fn signature() -> Signature {
    Signature::new().str("what").floats("floats", ..).strs("strs", ..)
}

#[test]
fn no_call_keeps_anything_however_it_ends() {
    on_python(|| {
        let mut model = case(SOURCE, "f").signature(signature()).start().unwrap();
        let mut answer = AnswerBuf::new(4096);
        for what in ["fine", "type", "wide", "text", "key", "key text", "cyclic", "raise"] {
            let bytes = task((what, vec![1e300, 2.5, 0.1], vec!["one", "ä", ""]));
            assert_keeps_nothing(what, || handle_into(&mut model, &bytes, &mut answer));
        }
    });
}

#[test]
fn a_task_that_cannot_be_read_keeps_nothing() {
    on_python(|| {
        let mut model = case(SOURCE, "f").signature(signature()).start().unwrap();
        let mut answer = AnswerBuf::new(4096);
        let mut bytes = task(("fine", vec![1e300, 2.5, 0.1], vec!["one", "two", "three"]));
        bytes.pop();
        assert_keeps_nothing("cut", || handle_into(&mut model, &bytes, &mut answer));
        bytes.extend(b"e!");
        assert_keeps_nothing("longer", || handle_into(&mut model, &bytes, &mut answer));
    });
}

#[test]
fn no_array_is_kept_whichever_way_it_goes_and_however_its_call_ends() {
    on_python(|| {
        let source = "
import array, sys
try:
    import numpy as np
except ImportError:
    np = None
ours = array.array('d', range(8))
released = memoryview(b'x')
released.release()
def f(what, x):
    if what == 'raise': raise ValueError(x)
    if what == 'echo': return [x, {'k': x}]
    if what == 'own': return [ours, memoryview(ours)[::2], bytearray(b'x')]
    if what == 'released': return [x, released]
    if what == 'format': return [x, memoryview(ours).cast('B').cast('c')]
    if what == 'numpy': return [np.float32(1), np.arange(6).reshape(2, 3).T, np.array(1.5)]
    if what == 'object': return np.array([{}])
    if what == 'datetime': return [x, np.zeros(2, 'M8[s]')]
    if what == 'masked': return [x, np.ma.masked_array([1, 2])]
    if what == 'wide': return [np.uint64(2**64 - 1)]
    if what == 'too large': return np.zeros(10_000)
";
        let signature = Signature::new().str("what").value("x");
        let mut model = case(source, "f").signature(signature).start().unwrap();
        let mut answer = AnswerBuf::new(4096);
        let tensor = Value::from(Tensor::new(&[2, 3], &[0.5_f32; 6]).unwrap());
        let pairs = vec![("a".to_owned(), tensor), ("b".to_owned(), Value::None)];
        let x = any(Value::Tuple(vec![pairs.into(), "text".into(), vec![7_u8].into()]));
        let mut all = vec!["raise", "echo", "own", "released", "format"];
        if !lacks_numpy() {
            all.extend(["numpy", "object", "datetime", "masked", "wide", "too large"]);
        }
        for what in all {
            let bytes = [task(what), x.clone()].concat();
            assert_keeps_nothing(what, || {
                handle_into(&mut model, &bytes, &mut answer);
                model.tidy();
            });
        }
        let cut = [task("echo"), x].concat();
        assert_keeps_nothing("cut", || handle_into(&mut model, &cut[..cut.len() - 1], &mut answer));
    });
}

#[test]
fn no_tensor_in_place_keeps_anything_however_its_call_ends() {
    on_python(|| {
        let source = "
kept = []
def f(x, out):
    what = bytes(x).decode()
    if what == 'raise': raise ValueError(x)
    if what == 'views': return [memoryview(x)[1:], out, memoryview(out)[::2]]
    if what == 'type': return [x, {out}]
    if what == 'large': return [x, bytearray(10), memoryview(bytes(1000))]
    if what == 'keep':
        kept[:] = [out]
        return x
";
        let signature = Signature::new().value("x").value("out");
        let mut model = case(source, "f").signature(signature).start().unwrap();
        let (mut in_place, mut answer) = (slot().in_place(), slot().answer());
        for what in ["raise", "views", "type", "large", "keep", "none"] {
            let shape = [what.len()];
            let tensors: [(TensorSpec, &[u8]); 2] = [
                (TensorSpec::input(DType::U8, &shape), what.as_bytes()),
                (TensorSpec::output(DType::U8, &[8]), &[]),
            ];
            let task = slot().begin(&mut in_place, &tensors).unwrap().concat();
            assert_keeps_nothing_of(what, 2000, || {
                slot().begin(&mut in_place, &tensors).unwrap();
                model.handle(&task, &mut in_place, &mut answer);
                model.tidy();
            });
        }
    });
}

#[test]
fn the_arguments_die_with_the_call() {
    on_python(|| {
        let source = "
import sys
class Engine:
    def __call__(self, words):
        # The list is held by the caller, by the parameter, and by getrefcount's own.
        return sys.getrefcount(words)
";
        let signature = Signature::new().strs("words", ..);
        let mut model = case(source, "Engine").signature(signature).start().unwrap();
        let Value::Int(count) = value(&mut model, &task(vec!["a"])) else { panic!() };
        assert!(count <= 3, "{count} references");
    });
}

#[test]
fn a_model_that_is_dropped_frees_its_instance() {
    on_python(|| {
        let source = "
alive = 0
class Engine:
    def __init__(self):
        global alive
        alive += 1
    def __del__(self):
        global alive
        alive -= 1
    def __call__(self):
        return alive
";
        let (mut runtime, _) = case(source, "Engine").import().unwrap();
        for _ in 0..3 {
            let mut model = runtime.instantiate().unwrap();
            assert_eq!(value(&mut model, &[]), Value::Int(1));
            Python::attach(|_| drop(model));
        }
    });
}
