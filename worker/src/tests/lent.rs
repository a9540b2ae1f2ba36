//! Answers' arrays that are too large for a slot: read where they are, when the answer is handed over.

use super::tensors::{model, tensor};
use super::*;

/// The answer buffer of one task, as it is before the answer is handed over.
fn answer_of(model: &mut PythonModel, task: &[u8]) -> AnswerBuf {
    let mut answer = slot().answer();
    handle_into(model, task, &mut answer);
    answer
}

fn numbers(len: i64) -> Value {
    tensor(&[len as usize], &(0..len).collect::<Vec<_>>())
}

#[test]
fn large_arrays_arrive_whole_with_what_stands_around_them() {
    on_python(|| {
        let source = "
import array
def f(x):
    large = array.array('q', range(100_000))
    if x == 'alone': return large
    if x == 'in others':
        other = array.array('q', range(70_000))
        return {'a': 1, 'b': [large, 'text', array.array('q', [0, 1])], 'c': (other, 2), 'd': other}
    # More than there is room for, in all.
    return [memoryview(bytes(20 << 20)), memoryview(bytes(20 << 20))]
";
        let mut model = model(source);
        for _ in 0..2 {
            let mut answer = answer_of(&mut model, &any("alone"));
            assert_eq!(Ended::decode(answer.finish()), Ended::Value(numbers(100_000)));
            model.tidy();
            let mut answer = answer_of(&mut model, &any("in others"));
            let pair = |key: &str, value| (key.to_owned(), value);
            let expected = Value::Dict(vec![
                pair("a", 1.into()),
                pair("b", vec![numbers(100_000), "text".into(), numbers(2)].into()),
                pair("c", Value::Tuple(vec![numbers(70_000), 2.into()])),
                pair("d", numbers(70_000)),
            ]);
            assert_eq!(Ended::decode(answer.finish()), Ended::Value(expected));
            model.tidy();
            let mut answer = answer_of(&mut model, &any("too large"));
            let ended = Ended::decode(answer.finish());
            assert!(matches!(ended, Ended::Refused(Refusal::TooLarge { .. })), "{ended:?}");
            model.tidy();
        }
    });
}

#[test]
fn a_lent_array_is_held_until_the_answer_is_with_the_host_and_not_longer() {
    on_python(|| {
        let source = "
import array
ours = array.array('q', range(100_000))
def f(x):
    if x == 'small': return ours[:1]
    if x == 'grow': ours.append(1)
    if x == 'large, and no answer': return [ours, {1}]
    if x == 'large, and no text': return [ours, '\\udc80']
    return ours
";
        let mut model = model(source);
        let grow = "
def grow(model):
    try:
        model.ours.append(1)
    except BufferError:
        return False
    model.ours.pop()
    return True
";
        // Whether it could be moved to where there is more room: nobody reads it.
        let is_free = move || {
            Python::attach(|py| {
                let grow = CString::new(grow).unwrap();
                let grow = PyModule::from_code(py, &grow, c"grow.py", c"grow").unwrap();
                let modules = py.import("sys").unwrap().getattr("modules").unwrap();
                let names: Vec<String> = modules
                    .call_method0("keys")
                    .unwrap()
                    .try_iter()
                    .unwrap()
                    .map(|key| key.unwrap().extract().unwrap())
                    .collect();
                let last = names.iter().rev().find(|name| name.starts_with("case_")).unwrap();
                let model = modules.get_item(last).unwrap();
                grow.call_method1("grow", (model,)).unwrap().extract::<bool>().unwrap()
            })
        };
        drop(answer_of(&mut model, &any("small")));
        assert!(is_free(), "a small one is copied");
        for _ in 0..2 {
            model.tidy();
            let mut answer = answer_of(&mut model, &any("large"));
            assert!(!is_free());
            assert_eq!(Ended::decode(answer.finish()), Ended::Value(numbers(100_000)));
            model.tidy();
            assert!(is_free());
            for (what, class) in [("large, and no answer", "set"), ("large, and no text", "str")] {
                let mut answer = answer_of(&mut model, &any(what));
                let ended = Ended::decode(answer.finish());
                let Ended::Refused(Refusal::Unsupported { type_name, place, .. }) = ended else {
                    panic!("{ended:?}")
                };
                assert_eq!((&*type_name, &*place), (class, "answer[1]"));
                model.tidy();
                assert!(is_free());
            }
        }
    });
}

#[test]
fn an_array_that_nobody_else_has_lives_until_its_answer_is_with_the_host() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import numpy as np
import weakref
last = None
def f(x):
    global last
    if x == 'alive': return last() is not None
    a = np.arange(100_000)
    last = weakref.ref(a)
    # Nothing but the answer has it.
    return [a[:50_000], a[1:].reshape(9, -1), np.broadcast_to(a[7], 20_000), a[::2]]
";
        let mut model = model(source);
        let mut answer = answer_of(&mut model, &any("make"));
        let Ended::Value(Value::List(found)) = Ended::decode(answer.finish()) else { panic!() };
        let rest: Vec<i64> = (1..100_000).collect();
        let expected = [
            numbers(50_000),
            tensor(&[9, 11_111], &rest),
            tensor(&[20_000], &[7_i64; 20_000]),
            tensor(&[50_000], &(0..50_000).map(|i| 2 * i).collect::<Vec<i64>>()),
        ];
        assert_eq!(found, expected);
        model.tidy();
        assert_eq!(handle(&mut model, &any("alive")), Ended::Value(false.into()));
    });
}
