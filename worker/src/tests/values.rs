//! Arguments of any type.

use super::*;
use nearcall::peer::MAX_DEPTH;

fn text(value: &str) -> Value {
    value.into()
}

fn dict(pairs: &[(&str, Value)]) -> Value {
    Value::Dict(pairs.iter().map(|(key, item)| ((*key).to_owned(), item.clone())).collect())
}

fn model(source: &str) -> PythonModel {
    case(source, "f").signature(Signature::new().value("x")).start().unwrap()
}

#[test]
fn any_value_arrives_as_the_type_it_is_and_comes_back_unchanged() {
    on_python(|| {
        let nested = dict(&[
            ("z", Value::List(vec![Value::None, Value::Tuple(vec![]), dict(&[])])),
            ("a", dict(&[("", Value::Bytes(vec![0])), ("ü\0", Value::Bool(true))])),
        ]);
        let good = [
            ("None", Value::None),
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("-2**63", Value::Int(i64::MIN)),
            ("2**63 - 1", Value::Int(i64::MAX)),
            ("0.1", Value::Float(0.1)),
            ("''", text("")),
            ("'a\\0ä€😀'", text("a\0ä€😀")),
            ("b''", Value::Bytes(vec![])),
            ("b'\\0\\xff'", Value::Bytes(vec![0, 255])),
            ("[]", Value::List(vec![])),
            ("()", Value::Tuple(vec![])),
            ("{}", dict(&[])),
            ("[1, (2.0, ['x'])]", {
                let inner = Value::Tuple(vec![2.0.into(), Value::List(vec![text("x")])]);
                Value::List(vec![1.into(), inner])
            }),
            ("{'z': [None, (), {}], 'a': {'': b'\\0', 'ü\\0': True}}", nested),
        ];
        for (expression, sent) in good {
            let source = format!(
                "
def same(a, b):
    if type(a) is not type(b):
        return False
    if type(a) is dict:
        # In the same order too.
        return same(list(a.items()), list(b.items()))
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
def f(x):
    return same(x, {expression}), x
"
            );
            let answer = value(&mut model(&source), &any(sent.clone()));
            assert_eq!(answer, Value::Tuple(vec![true.into(), sent]), "{expression}");
        }
    });
}

#[test]
fn every_bit_of_a_float_in_a_value_arrives() {
    on_python(|| {
        let source = "import struct\ndef f(x):\n return struct.pack('<d', x[0])";
        let mut model = model(source);
        for bits in [0x7FF8_0000_DEAD_BEEF, 0xFFF0_0000_0000_0001, 1 << 63, 1_u64] {
            let sent = Value::List(vec![f64::from_bits(bits).into()]);
            let expected = Value::Bytes(bits.to_le_bytes().to_vec());
            assert_eq!(value(&mut model, &any(sent)), expected);
        }
    });
}

#[test]
fn of_a_key_that_is_given_twice_the_last_value_counts() {
    on_python(|| {
        let sent = dict(&[("a", 1.into()), ("b", 2.into()), ("a", 3.into())]);
        let answer = value(&mut model("def f(x):\n return x"), &any(sent));
        assert_eq!(answer, dict(&[("a", 3.into()), ("b", 2.into())]));
    });
}

#[test]
fn what_a_model_does_to_a_value_harms_no_other_call() {
    on_python(|| {
        let source = "
kept = []
def f(x):
    kept.append(x)
    x['mine'] = kept
    x['list'].clear()
    return [len(x), len(kept)]
";
        let mut model = model(source);
        let sent = dict(&[("list", Value::List(vec![1.into()]))]);
        for call in 1..=3 {
            let answer = value(&mut model, &any(sent.clone()));
            assert_eq!(answer, Value::List(vec![2.into(), call.into()]));
        }
    });
}

#[test]
fn a_value_that_is_no_value_is_refused_wherever_it_breaks_off() {
    on_python(|| {
        let tensor = Tensor::new(&[2], &[1.5_f32, 2.5]).unwrap();
        let sent = Value::Tuple(vec![
            dict(&[("key", text("text")), ("tensor", tensor.into())]),
            Value::List(vec![Value::Bytes(vec![1, 2]), 300.into(), 0.5.into()]),
        ]);
        let bytes = any(sent.clone());
        let mut model = model("def f(x):\n return 'called'");
        let malformed = Ended::Refused(Refusal::MalformedTask);
        for cut in 0..bytes.len() {
            assert_eq!(handle(&mut model, &bytes[..cut]), malformed, "{cut}");
        }
        assert_eq!(value(&mut model, &bytes), text("called"));
        // An unknown tag, a key and a text that are no UTF-8, something left over.
        for bytes in [&[99][..], &[9, 1, 1, 0xFF, 0], &[5, 1, 0x80], &[0, 0]] {
            assert_eq!(handle(&mut model, bytes), malformed, "{bytes:?}");
        }
        let nested = |depth| [[7, 1].repeat(depth), vec![0]].concat();
        assert_eq!(value(&mut model, &nested(MAX_DEPTH)), text("called"));
        assert_eq!(handle(&mut model, &nested(MAX_DEPTH + 1)), malformed);
    });
}
