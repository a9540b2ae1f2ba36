//! What a model gets.

use super::*;
use nearcall::peer::{Kind, Len, Scalar};

/// Gives back the bits of each argument, in a form in which nothing is lost on the way.
const ECHO: &str = "
import struct

def show(value):
    if type(value) is float:
        return struct.pack('<d', value)
    if type(value) is list:
        return [show(item) for item in value]
    assert type(value) in (bool, int, str), value
    return value

def echo(**kwargs):
    return {name: show(value) for name, value in kwargs.items()}
";

fn bits(value: f64) -> Value {
    Value::Bytes(value.to_le_bytes().to_vec())
}

fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

#[test]
fn each_kind_of_argument_arrives_with_every_bit() {
    on_python(|| {
        let signature = Signature::new()
            .bools("bools", ..)
            .ints("ints", ..)
            .floats("floats", ..)
            .strs("strs", ..)
            .bool("no")
            .int("least")
            .float("zero")
            .str("text");
        let mut model = case(ECHO, "echo").signature(signature).start().unwrap();
        let nan = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
        let signalling = f64::from_bits(0xFFF0_0000_0000_0001);
        let floats =
            vec![nan, signalling, -0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX];
        let ints = vec![i64::MIN, -1, 0, 1, 250, 251, 1 << 30, i64::MAX];
        let strs = vec!["", "a\0b", "ä€😀", "\u{10FFFF}"];
        let bools = vec![true, false];
        let arguments = (&bools, &ints, &floats, &strs, false, i64::MIN, -0.0, "ä\0");
        assert_eq!(
            value(&mut model, &task(arguments)),
            Value::Dict(vec![
                ("bools".into(), Value::List(bools.into_iter().map(Value::Bool).collect())),
                ("ints".into(), Value::List(ints.into_iter().map(Value::Int).collect())),
                ("floats".into(), Value::List(floats.into_iter().map(bits).collect())),
                ("strs".into(), Value::List(strs.into_iter().map(text).collect())),
                ("no".into(), Value::Bool(false)),
                ("least".into(), Value::Int(i64::MIN)),
                ("zero".into(), bits(-0.0)),
                ("text".into(), text("ä\0")),
            ])
        );
    });
}

#[test]
fn empty_lists_and_strings_arrive_as_such() {
    on_python(|| {
        let signature = Signature::new().floats("f", ..).strs("s", ..).str("t");
        let mut model = case(ECHO, "echo").signature(signature).start().unwrap();
        let arguments = (Vec::<f64>::new(), Vec::<&str>::new(), "");
        assert_eq!(
            value(&mut model, &task(arguments)),
            Value::Dict(vec![
                ("f".into(), Value::List(vec![])),
                ("s".into(), Value::List(vec![])),
                ("t".into(), text("")),
            ])
        );
    });
}

#[test]
fn a_model_without_parameters_is_called_without_arguments() {
    on_python(|| {
        let mut model = case("def f():\n return 'called'", "f").start().unwrap();
        assert_eq!(value(&mut model, &[]), text("called"));
    });
}

#[test]
fn more_arguments_than_most_models_have_are_no_different() {
    on_python(|| {
        let names: Vec<_> = (0..1024).map(|index| format!("p{index}")).collect();
        let signature = names.iter().fold(Signature::new(), |all, name| all.int(name));
        let source = format!("def f({}):\n return p0 * 10000 + p1023", names.join(", "));
        let mut model = case(&source, "f").signature(signature).start().unwrap();
        let arguments: Vec<u8> = (0..1024_i64).flat_map(|index| task(index + 1)).collect();
        assert_eq!(value(&mut model, &arguments), Value::Int(11024));
    });
}

#[test]
fn what_a_model_does_to_its_arguments_harms_no_other_call() {
    on_python(|| {
        let source = "
kept = []
def f(numbers, words):
    kept.append(numbers)
    numbers.append('mine')
    words.clear()
    return [len(kept), len(numbers), len(kept[0])]
";
        let signature = Signature::new().floats("numbers", ..).strs("words", ..);
        let mut model = case(source, "f").signature(signature).start().unwrap();
        for call in 1..=3 {
            let answer = value(&mut model, &task((vec![1.5, 2.5], vec!["a"])));
            let expected = [call, 3, 3].map(Value::Int);
            assert_eq!(answer, Value::List(expected.to_vec()));
        }
    });
}

#[test]
fn keywords_need_not_be_ascii() {
    on_python(|| {
        let signature = Signature::new().int("größe");
        let mut model =
            case("def f(*, größe):\n return größe + 1", "f").signature(signature).start().unwrap();
        assert_eq!(value(&mut model, &task(41_i64)), Value::Int(42));
    });
}

#[test]
fn bytes_that_do_not_fit_the_signature_are_refused_and_harm_no_other_call() {
    on_python(|| {
        let one = |scalar| Kind::One(scalar);
        let list = |scalar| Kind::List(scalar, Len::ANY);
        let bad: [(Kind, &[u8]); 9] = [
            (one(Scalar::Bool), &[2]),
            (one(Scalar::Int), &[]),
            (one(Scalar::Int), &[251, 0]),
            (one(Scalar::Float), &[0; 7]),
            (one(Scalar::Str), &[1, 0xFF]),
            (one(Scalar::Str), &[253, 255, 255, 255, 255, 255, 255, 255, 255]),
            // A length that no bytes follow, and items that end half-way.
            (list(Scalar::Float), &[253, 255, 255, 255, 255, 255, 255, 255, 127]),
            (list(Scalar::Float), &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (list(Scalar::Str), &[2, 1, b'a', 1, 0x80]),
        ];
        for (kind, bytes) in bad {
            // After an argument that is good and must be given back.
            let signature = Signature::new().strs("good", ..).parameter("bad", kind);
            let source = "def f(good, bad):\n return 'called'";
            let mut model = case(source, "f").signature(signature).start().unwrap();
            let mut arguments = task(vec!["a string", "another"]);
            arguments.extend(bytes);
            for _ in 0..2 {
                let ended = handle(&mut model, &arguments);
                assert_eq!(ended, Ended::Refused(Refusal::MalformedTask), "{kind:?} {bytes:?}");
            }
        }
        let mut model =
            case("def f(x):\n return x", "f").signature(Signature::new().int("x")).start().unwrap();
        // Something left over.
        assert_eq!(handle(&mut model, &[0, 0]), Ended::Refused(Refusal::MalformedTask));
        assert_eq!(value(&mut model, &task(7_i64)), Value::Int(7));
    });
}
