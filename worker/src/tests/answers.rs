//! What a model may return, and what not.

use super::*;
use nearcall::peer::MAX_DEPTH;

/// A model that returns the value of a Python expression.
fn returning(expression: &str) -> PythonModel {
    let source = format!(
        "
import collections, enum, sys
class Float(float): pass
class Text(str):
    def __str__(self): raise RuntimeError
    def __repr__(self): raise RuntimeError
    def encode(self, *_): raise RuntimeError
class Bytes(bytes): pass
class List(list):
    def __iter__(self): raise RuntimeError
    def __len__(self): raise RuntimeError
    def __getitem__(self, _): raise RuntimeError
class Dict(dict):
    def __iter__(self): raise RuntimeError
    def items(self): raise RuntimeError
    def __getitem__(self, _): raise RuntimeError
Pair = collections.namedtuple('Pair', 'a b')
Colour = enum.IntEnum('Colour', 'RED GREEN')
class Outer:
    class Inner: pass
cyclic_list = [1]; cyclic_list.append([cyclic_list])
cyclic_dict = {{}}; cyclic_dict['me'] = cyclic_dict
branch = ['leaf', []]; branch[1] += [[['x']], branch]
def nest(depth):
    value = 7
    for _ in range(depth):
        value = [value]
    return value
result = {expression}
def f():
    return result
"
    );
    case(&source, "f").start().unwrap()
}

fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

fn dict<const N: usize>(items: [(&str, Value); N]) -> Value {
    Value::Dict(items.map(|(key, value)| (key.to_owned(), value)).to_vec())
}

#[test]
fn an_answer_may_be_any_of_the_kinds_with_every_bit() {
    on_python(|| {
        let good = [
            ("None", Value::None),
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("0", Value::Int(0)),
            ("-2**63", Value::Int(i64::MIN)),
            ("2**63 - 1", Value::Int(i64::MAX)),
            ("0.1", Value::Float(0.1)),
            ("''", text("")),
            ("'a\\0b'", text("a\0b")),
            ("'ä€😀'", text("ä€😀")),
            ("b''", Value::Bytes(vec![])),
            ("b'\\x00\\xff'", Value::Bytes(vec![0, 255])),
            ("[]", Value::List(vec![])),
            ("()", Value::Tuple(vec![])),
            ("{}", Value::Dict(vec![])),
            ("(-1, '')", Value::Tuple(vec![Value::Int(-1), text("")])),
            (
                "{'z': [1, (2.5, None)], 'a': {'': b'x'}}",
                dict([
                    (
                        "z",
                        Value::List(vec![
                            Value::Int(1),
                            Value::Tuple(vec![Value::Float(2.5), Value::None]),
                        ]),
                    ),
                    ("a", dict([("", Value::Bytes(vec![b'x']))])),
                ]),
            ),
        ];
        for (expression, expected) in good {
            assert_eq!(value(&mut returning(expression), &[]), expected, "{expression}");
        }
    });
}

#[test]
fn every_bit_of_a_float_comes_back() {
    on_python(|| {
        let source = "def f(x):\n return x";
        let mut model = case(source, "f").signature(Signature::new().float("x")).start().unwrap();
        let nan = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
        for sent in [nan, -0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324] {
            let Value::Float(received) = value(&mut model, &task(sent)) else { panic!() };
            assert_eq!(received.to_bits(), sent.to_bits());
        }
    });
}

#[test]
fn subclasses_count_as_what_they_inherit_from_and_none_of_their_methods_runs() {
    on_python(|| {
        let good = [
            ("Float(2.5)", Value::Float(2.5)),
            ("Colour.GREEN", Value::Int(2)),
            ("Text('ä')", text("ä")),
            ("Bytes(b'x')", Value::Bytes(vec![b'x'])),
            ("List([1])", Value::List(vec![Value::Int(1)])),
            ("Dict(x=1)", dict([("x", Value::Int(1))])),
            ("{Text('k'): 1}", dict([("k", Value::Int(1))])),
            ("Pair(1, 2)", Value::Tuple(vec![Value::Int(1), Value::Int(2)])),
            (
                "collections.OrderedDict(b=1, a=2)",
                dict([("b", Value::Int(1)), ("a", Value::Int(2))]),
            ),
        ];
        for (expression, expected) in good {
            assert_eq!(value(&mut returning(expression), &[]), expected, "{expression}");
        }
    });
}

/// The type, the reason and the place of an answer that must be refused.
#[track_caller]
fn refused(expression: &str) -> (String, String, String) {
    super::refused(&mut returning(expression), &[])
}

#[test]
fn what_cannot_be_carried_is_refused_by_its_type_and_place() {
    on_python(|| {
        let kinds = "an answer carries";
        let bad = [
            ("{1, 2}", "set", kinds, "answer"),
            ("[1, {'x': object()}]", "object", kinds, "answer[1]['x']"),
            ("(0, [0, 1j])", "complex", kinds, "answer[1][1]"),
            ("{'a': {'b c': range(2)}}", "range", kinds, "answer['a']['b c']"),
            ("{\"it's\\n\": set()}", "set", kinds, "answer['it\\'s\\n']"),
            ("{Text('k'): set()}", "set", kinds, "answer['k']"),
            ("[len]", "builtin_function_or_method", kinds, "answer[0]"),
            ("[int]", "type", kinds, "answer[0]"),
            ("[2**63]", "int", "more than 64 bits", "answer[0]"),
            ("-2**63 - 1", "int", "more than 64 bits", "answer"),
            ("2**100000", "int", "more than 64 bits", "answer"),
            ("['ab\\udc80']", "str", "a lone surrogate at index 2", "answer[0]"),
            ("[{'\\ud800': 1}]", "dict", "a key with a lone surrogate at index 0", "answer[0]"),
            ("[{'a': 1, 2: 3}]", "dict", "a key of type int", "answer[0]"),
            ("{b'k': 1}", "dict", "a key of type bytes", "answer"),
            ("cyclic_list", "list", "it contains itself", "answer[1][0]"),
            ("(0, cyclic_list)", "list", "it contains itself", "answer[1][1][0]"),
            ("cyclic_dict", "dict", "it contains itself", "answer['me']"),
            ("branch", "list", "it contains itself", "answer[1][1]"),
        ];
        for (expression, type_name, reason, place) in bad {
            let found = refused(expression);
            assert_eq!((&*found.0, &*found.2), (type_name, place), "{expression}");
            assert!(found.1.contains(reason), "{expression}: {}", found.1);
        }
        // With its module, and within its class.
        assert!(refused("Outer.Inner()").0.ends_with(".Outer.Inner"));
        assert_eq!(refused("collections.deque()").0, "collections.deque");
    });
}

#[test]
fn containers_may_stand_in_one_another_up_to_the_limit() {
    on_python(|| {
        assert!(matches!(
            handle(&mut returning(&format!("nest({MAX_DEPTH})")), &[]),
            Ended::Value(_)
        ));
        let (type_name, reason, place) = refused(&format!("nest({})", MAX_DEPTH + 1));
        assert_eq!(type_name, "list");
        assert_eq!(reason, "it stands in 64 others, the most there may be");
        assert_eq!(place, format!("answer{}", "[0]".repeat(MAX_DEPTH)));
    });
}

#[test]
fn a_long_key_is_shortened_in_the_place() {
    on_python(|| {
        let (_, _, place) = refused("{'é' * 5000: object()}");
        assert_eq!(place, format!("answer['{}...']", "é".repeat(60)));
    });
}

#[test]
fn an_answer_beyond_its_room_is_refused_with_both_sizes() {
    on_python(|| {
        let mut model = returning("'x' * 10_000_000");
        let ended = handle_in(&mut model, &[], 4096);
        // Two tags, and a length of five bytes.
        assert_eq!(ended, Ended::Refused(Refusal::TooLarge { needed: 10_000_007, room: 4096 }));
        let mut model = returning("[0.0] * 1000");
        let Ended::Value(Value::List(items)) = handle_in(&mut model, &[], 9_005) else { panic!() };
        assert_eq!(items.len(), 1000);
        let ended = handle_in(&mut model, &[], 9_004);
        assert_eq!(ended, Ended::Refused(Refusal::TooLarge { needed: 9_005, room: 4_004 + 5_000 }));
    });
}

#[test]
fn a_refusal_after_half_an_answer_leaves_nothing_of_it() {
    on_python(|| {
        let mut model = returning("['x' * 100_000, {'a': object()}]");
        let Ended::Refused(Refusal::Unsupported { place, .. }) = handle_in(&mut model, &[], 1024)
        else {
            panic!()
        };
        assert_eq!(place, "answer[1]['a']");
    });
}

#[test]
fn an_answer_that_vanishes_while_it_is_read_is_refused_all_the_same() {
    in_own_process(
        "tests::answers::an_answer_that_vanishes_while_it_is_read_is_refused_all_the_same",
        || {
            // The only Python code that can run meanwhile: the collector's callbacks, if it runs
            // when an exception about a bad item is made (until Python 3.11 it may).
            let source = "
import gc
answers = {}
def vanish(*_):
    for answer in answers.values(): answer[1].clear()
gc.callbacks.append(vanish)
def f(what):
    gc.set_threshold(0)
    items = [2**70] if what == 'int' else ['\\udc80'] if what == 'str' else {'\\udc80': 1}
    answers[what] = [0, items]
    gc.set_threshold(1)
    return answers[what]
";
            let signature = Signature::new().str("what");
            let mut model = case(source, "f").signature(signature).start().unwrap();
            for what in ["int", "str", "key"] {
                let ended = handle(&mut model, &task(what));
                assert!(matches!(ended, Ended::Refused(Refusal::Unsupported { .. })), "{ended:?}");
            }
        },
    );
}
