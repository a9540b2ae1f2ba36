//! Rust types as arguments and as answers: one test a promise. The model is a closure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use nearcall::error::{
    ArgumentsError, CallAsError, CallError, RetrieveError, SubmitError, TaskError, TaskMismatch,
    ValueError, ValueProblem, WaitError,
};
use nearcall::{
    Answer, Args, Arguments, DType, Engine, MAX_DEPTH, PythonError, Signature, Task, Tensor, Value,
    ValueRef, from_value, to_value,
};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(30);

/// An engine whose model answers with what it was given: its only argument, or a dict of all.
fn echo(signature: Signature) -> Engine {
    let names: Vec<String> = signature.parameters().iter().map(|p| p.name.clone()).collect();
    let model = move |args: &Args<'_>| {
        Ok(match args.values() {
            [value] => value.clone(),
            values => Value::Dict(names.iter().cloned().zip(values.iter().cloned()).collect()),
        })
    };
    Engine::builder("test:echo").signature(signature).workers(1).start_with(model).unwrap()
}

fn through(engine: &Engine, value: &Value) -> Answer {
    engine.call(&Task::new().value(value), PATIENCE).unwrap()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Metres(f32);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(i8, String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Rect(u16, u16),
    Named { name: String, inner: Option<Box<Shape>> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    unit: (),
    unit_struct: Unit,
    yes: bool,
    bytes_wide: (i8, i16, i32, i64, u8, u16, u32, u64),
    widest: (i128, u128),
    float: f64,
    metres: Metres,
    letter: char,
    text: String,
    none: Option<String>,
    some: Option<Vec<u32>>,
    array: [u8; 3],
    pair: Pair,
    map: BTreeMap<String, Vec<Option<bool>>>,
    shapes: Vec<Shape>,
    empty: (Vec<u8>, BTreeMap<String, u8>, String),
    #[serde(flatten)]
    more: HashMap<String, i32>,
    value: Value,
    tensor: Tensor,
    tensors: Vec<Option<Tensor>>,
}

fn everything() -> Everything {
    Everything {
        unit: (),
        unit_struct: Unit,
        yes: true,
        bytes_wide: (-1, i16::MIN, i32::MAX, i64::MIN, 255, 65_535, u32::MAX, i64::MAX as u64),
        widest: (i64::MIN.into(), 1 << 62),
        float: 0.1,
        metres: Metres(1.5),
        letter: 'ß',
        text: "ü\0".to_owned(),
        none: None,
        some: Some(vec![1, 2]),
        array: [1, 2, 3],
        pair: Pair(-3, "x".to_owned()),
        map: [("a".to_owned(), vec![None, Some(true)]), (String::new(), Vec::new())].into(),
        shapes: vec![
            Shape::Empty,
            Shape::Circle(2.5),
            Shape::Rect(3, 4),
            Shape::Named { name: "n".to_owned(), inner: Some(Box::new(Shape::Empty)) },
        ],
        empty: (Vec::new(), BTreeMap::new(), String::new()),
        more: [("extra".to_owned(), 5)].into(),
        value: Value::Tuple(vec![Value::None, Value::Bytes(vec![1, 2]), tensor().into()]),
        tensor: tensor(),
        tensors: vec![None, Some(tensor())],
    }
}

fn tensor() -> Tensor {
    Tensor::new(&[2, 1, 2], &[1_i16, -2, 3, 4]).unwrap()
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let engine = echo(Signature::new().value("v"));
    let before = everything();
    // A flattened field's struct keeps what is not flattened whole.
    let value = to_value(&before).unwrap();
    assert_eq!(value.to::<Everything>().unwrap(), before, "from an owned value");
    let answer = through(&engine, &value);
    assert_eq!(answer.to::<Everything>().unwrap(), before, "from an answer");
    let after: Everything =
        engine.call_as(&BTreeMap::from([("v", before.clone())]), PATIENCE).unwrap();
    assert_eq!(after, before);
}

#[test]
fn each_type_is_what_python_would_take_for_it() {
    let dict = |key: &str, value: Value| Value::Dict(vec![(key.to_owned(), value)]);
    let (none, int) = (Value::None, |number| Value::Int(number));
    assert_eq!(to_value(&()).unwrap(), none);
    assert_eq!(to_value(&Unit).unwrap(), none);
    assert_eq!(to_value(&None::<u8>).unwrap(), none);
    assert_eq!(to_value(&Some(1_u8)).unwrap(), int(1));
    assert_eq!(to_value(&Metres(0.5)).unwrap(), Value::Float(0.5));
    assert_eq!(to_value(&'x').unwrap(), "x".into());
    assert_eq!(to_value("text").unwrap(), "text".into());
    assert_eq!(to_value(&[1_u8][..]).unwrap(), Value::List(vec![int(1)]));
    assert_eq!(to_value(&(1, "a")).unwrap(), Value::Tuple(vec![int(1), "a".into()]));
    assert_eq!(to_value(&Pair(1, String::new())).unwrap(), Value::Tuple(vec![int(1), "".into()]));
    assert_eq!(to_value(&Shape::Empty).unwrap(), "Empty".into());
    assert_eq!(to_value(&Shape::Circle(1.0)).unwrap(), dict("Circle", Value::Float(1.0)));
    let rect = dict("Rect", Value::Tuple(vec![int(1), int(2)]));
    assert_eq!(to_value(&Shape::Rect(1, 2)).unwrap(), rect);
    let named = Shape::Named { name: String::new(), inner: None };
    let fields = vec![("name".to_owned(), "".into()), ("inner".to_owned(), none)];
    assert_eq!(to_value(&named).unwrap(), dict("Named", Value::Dict(fields)));
    assert_eq!(to_value(&BTreeMap::from([('k', 1)])).unwrap(), dict("k", int(1)));
    assert_eq!(to_value(&Value::Bytes(vec![7])).unwrap(), Value::Bytes(vec![7]));
}

#[test]
fn floats_keep_every_bit_and_integers_are_taken_for_floats() {
    let engine = echo(Signature::new().value("v"));
    for bits in [0x7FF0_0000_0000_0001_u64, 0xFFF8_0000_0000_0123, 1 << 63, 1] {
        let value = to_value(&(f64::from_bits(bits),)).unwrap();
        let (found,): (f64,) = through(&engine, &value).to().unwrap();
        assert_eq!(found.to_bits(), bits);
        let Value::Tuple(items) = through(&engine, &value).to::<Value>().unwrap() else { panic!() };
        let [Value::Float(found)] = items[..] else { panic!() };
        assert_eq!(found.to_bits(), bits);
    }
    let value = Value::List(vec![Value::Int(1), Value::Float(0.5)]);
    assert_eq!(through(&engine, &value).to::<Vec<f64>>().unwrap(), [1.0, 0.5]);
    assert_eq!(through(&engine, &value).to::<[f32; 2]>().unwrap(), [1.0, 0.5]);
}

#[derive(Debug, Deserialize, PartialEq)]
struct Borrowed<'a> {
    text: &'a str,
    #[serde(borrow)]
    bytes: Option<&'a [u8]>,
}

#[test]
fn text_and_bytes_are_borrowed_from_the_answer() {
    let engine = echo(Signature::new().value("v"));
    let value = Value::Dict(vec![
        ("text".to_owned(), "somewhere".into()),
        ("bytes".to_owned(), Value::Bytes(vec![1, 2])),
    ]);
    let answer = through(&engine, &value);
    let found: Borrowed<'_> = answer.to().unwrap();
    assert_eq!(found, Borrowed { text: "somewhere", bytes: Some(&[1, 2]) });
    let ValueRef::Dict(dict) = answer.value() else { panic!() };
    let Some(ValueRef::Str(text)) = dict.get("text") else { panic!() };
    assert_eq!(found.text.as_ptr(), text.as_ptr(), "the very same bytes");
}

#[test]
fn bytes_are_taken_for_a_vector_of_them() {
    let value = Value::Bytes(vec![1, 255]);
    assert_eq!(value.to::<Vec<u8>>().unwrap(), [1, 255]);
    assert_eq!(value.to::<(u8, i64)>().unwrap(), (1, 255));
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Point {
    x: f64,
    y: f64,
}

#[test]
fn a_struct_is_taken_from_a_list_and_a_tuple_too() {
    for value in [to_value(&[1, 2][..]).unwrap(), to_value(&(1, 2)).unwrap()] {
        assert_eq!(value.to::<Point>().unwrap(), Point { x: 1.0, y: 2.0 });
    }
    let nobody: Option<Point> = from_value(ValueRef::None).unwrap();
    assert_eq!(nobody, None);
}

/// What is said of a value that is no `T`.
fn refusal<'a, T: Deserialize<'a> + std::fmt::Debug>(value: &'a Value) -> String {
    value.to::<T>().unwrap_err().to_string()
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only read into")]
struct Score {
    label: String,
    scores: Vec<f64>,
    shape: Option<Shape>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only read into")]
struct Strict {
    x: u8,
}

#[test]
fn an_error_says_which_place_does_not_fit_and_why() {
    let engine = echo(Signature::new().value("v"));
    let dict = |pairs: &[(&str, Value)]| {
        Value::Dict(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    };
    let list = |items: &[Value]| Value::List(items.to_vec());
    let label = ("label", Value::from("cat"));
    let scores = list(&[1.5.into(), Value::Int(1), "much".into()]);
    let wrong = dict(&[label.clone(), ("scores", scores)]);
    let answer = through(&engine, &wrong);
    let error = answer.to::<Score>().unwrap_err();
    assert_eq!(error.to_string(), "answer['scores'][2]: expected f64, found str");
    assert_eq!(error.place, "answer['scores'][2]");
    let (expected, found) = ("f64".to_owned(), "str".to_owned());
    assert_eq!(error.problem, ValueProblem::Type { expected, found });

    assert_eq!(
        refusal::<Score>(&dict(std::slice::from_ref(&label))),
        r#"value: the key "scores" is missing"#
    );
    let shape = |shape: Value| dict(&[label.clone(), ("scores", list(&[])), ("shape", shape)]);
    let rect = dict(&[("Rect", Value::Tuple(vec![Value::Int(1), Value::Int(-1)]))]);
    let expected = "value['shape']['Rect'][1]: expected u16, found integer `-1`";
    assert_eq!(refusal::<Score>(&shape(rect)), expected);
    let expected = "value['shape']: unknown variant `Line`, expected one of `Empty`, `Circle`, \
                    `Rect`, `Named`";
    assert_eq!(refusal::<Score>(&shape("Line".into())), expected);
    let expected = "value['shape']: expected enum Shape, found int";
    assert_eq!(refusal::<Score>(&shape(Value::Int(1))), expected);
    let expected =
        "value['shape']: expected a variant of enum Shape as the only key, found a length of 0";
    assert_eq!(refusal::<Score>(&shape(dict(&[]))), expected);

    for (value, expected) in [
        (Value::None, "value: expected i64, found NoneType"),
        (Value::Bool(true), "value: expected i64, found bool"),
        (Value::Float(1.0), "value: expected i64, found float"),
        (Value::Bytes(vec![]), "value: expected i64, found bytes"),
        (list(&[]), "value: expected i64, found list"),
        (Value::Tuple(vec![]), "value: expected i64, found tuple"),
        (dict(&[]), "value: expected i64, found dict"),
        (tensor().into(), "value: expected i64, found ndarray"),
    ] {
        assert_eq!(refusal::<i64>(&value), expected);
    }
    let extra = dict(&[("x", Value::Int(1)), ("it's", Value::Int(2))]);
    assert_eq!(refusal::<Strict>(&extra), "value: unknown field `it's`, expected `x`");
    let nested = dict(&[("it's\n", list(&["".into()]))]);
    let expected = r"value['it\'s\n'][0]: expected u8, found str";
    assert_eq!(refusal::<BTreeMap<String, Vec<u8>>>(&nested), expected);
    let three = Value::Tuple(vec![Value::Int(1); 3]);
    let expected = "value: expected a length of 2, found a length of 3";
    assert_eq!(refusal::<(u8, u8)>(&three), expected);
    assert_eq!(refusal::<Point>(&three), expected);
    let expected = "value: expected a tuple of size 4, found a length of 3";
    assert_eq!(refusal::<(u8, u8, u8, u8)>(&three), expected);
    assert_eq!(refusal::<u8>(&Value::Int(256)), "value: expected u8, found integer `256`");
}

#[test]
fn the_values_of_a_returned_tuple_are_had_by_position() {
    let engine = echo(Signature::new().value("v"));
    let value = Value::Tuple(vec![Value::Int(1), vec![Value::from("a")].into()]);
    let answer = through(&engine, &value);
    assert_eq!(answer.get_as::<f64>(0).unwrap(), 1.0);
    assert_eq!(answer.get_as::<Vec<&str>>(1).unwrap(), ["a"]);
    let error = |error: ValueError| error.to_string();
    let expected = "answer[1][0]: expected u8, found str";
    assert_eq!(error(answer.get_as::<Vec<u8>>(1).unwrap_err()), expected);
    assert_eq!(error(answer.get_as::<u8>(2).unwrap_err()), "answer[2]: nothing is there");
    let answer = through(&engine, &Value::List(vec![Value::None]));
    let expected = "answer[0]: expected u8, found NoneType";
    assert_eq!(error(answer.get_as::<Vec<u8>>(0).unwrap_err()), expected);
    assert_eq!(error(answer.get_as::<u8>(1).unwrap_err()), "answer[1]: nothing is there");
}

#[test]
fn what_no_value_can_be_is_refused_by_its_place() {
    #[derive(Serialize)]
    struct Holder<T> {
        items: Vec<T>,
    }
    fn said<T: Serialize>(item: T) -> String {
        to_value(&Holder { items: vec![item] }).unwrap_err().to_string()
    }
    let too_large = "value['items'][0]: 9223372036854775808 does not fit an int of 64 signed bits";
    assert_eq!(said(1_u64 << 63), too_large);
    assert_eq!(said(1_u128 << 63), too_large);
    let expected = "value['items'][0]: -9223372036854775809 does not fit an int of 64 signed bits";
    assert_eq!(said(i128::from(i64::MIN) - 1), expected);
    let key = |found| format!("value['items'][0]: a key is {found}: keys must be str");
    assert_eq!(said(BTreeMap::from([(1, 1)])), key("int"));
    assert_eq!(said(BTreeMap::from([(true, 1)])), key("bool"));
    assert_eq!(said(BTreeMap::from([(None::<u8>, 1)])), key("NoneType"));

    #[derive(Serialize)]
    enum Wide {
        New(u64),
        Pair(u8, u64),
        Fields { n: u64 },
    }
    for (item, place) in [
        (Wide::New(u64::MAX), "['New']"),
        (Wide::Pair(0, u64::MAX), "['Pair'][1]"),
        (Wide::Fields { n: u64::MAX }, "['Fields']['n']"),
    ] {
        let text = "18446744073709551615 does not fit an int of 64 signed bits";
        assert_eq!(said(item), format!("value['items'][0]{place}: {text}"));
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Options(Option<Box<Options>>);

#[derive(Debug, Serialize)]
struct Mixed(Inside);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Inside {
    End,
    One(Box<Mixed>),
    List(Vec<Mixed>),
}

#[derive(Debug, Serialize)]
enum Nest {
    Leaf,
    New((Box<Nest>,)),
    Pair(u8, Box<Nest>),
    Fields { inner: Box<Nest> },
}

#[test]
fn what_is_nested_too_deep_is_an_error_and_not_the_end_of_the_stack() {
    let nested = |depth| (0..depth).fold(Value::Int(1), |value, _| Value::List(vec![value]));
    assert_eq!(to_value(&nested(MAX_DEPTH)).unwrap(), nested(MAX_DEPTH));
    assert_eq!(nested(MAX_DEPTH).to::<Value>().unwrap(), nested(MAX_DEPTH));
    let error = to_value(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(error.problem, ValueProblem::Deep { limit: MAX_DEPTH });
    assert!(error.to_string().ends_with("[0]: more than 64 containers inside each other"));
    let expected = "value: more than 64 containers inside each other";
    assert_eq!(refusal::<Value>(&nested(MAX_DEPTH + 1)), expected);
    // A dict for the variant and a tuple or a dict in it: two each.
    let forms: [fn(Box<Nest>) -> Nest; 3] =
        [|inner| Nest::New((inner,)), |inner| Nest::Pair(0, inner), |inner| Nest::Fields { inner }];
    for form in forms {
        let nest = |depth| (0..depth).fold(Nest::Leaf, |nest, _| form(Box::new(nest)));
        let value = to_value(&nest(MAX_DEPTH / 2)).unwrap();
        assert_eq!(value.to::<Value>().unwrap(), value);
        let error = to_value(&nest(MAX_DEPTH / 2 + 1)).unwrap_err();
        assert_eq!(error.problem, ValueProblem::Deep { limit: MAX_DEPTH });
    }
    // A tensor is no container.
    let deepest = (0..MAX_DEPTH).fold(tensor().into(), |value, _| Value::Tuple(vec![value]));
    assert_eq!(to_value(&deepest).unwrap().to::<Value>().unwrap(), deepest);

    let mut chain = Chain(None);
    for _ in 0..10_000 {
        chain = Chain(Some(Box::new(chain)));
    }
    let expected = "value: more than 256 options and newtypes around one value";
    assert_eq!(to_value(&chain).unwrap_err().to_string(), expected);
    assert_eq!(refusal::<Chain>(&Value::Int(1)), expected);
    assert_eq!(refusal::<Options>(&Value::Int(1)), expected);
    let numbers = Tensor::new(&[1], &[1_u8]).unwrap().into();
    let expected = "value[0]: more than 256 options and newtypes around one value";
    assert_eq!(refusal::<Vec<Chain>>(&numbers), expected);
    assert_eq!(refusal::<Vec<Options>>(&numbers), expected);
    let mixed = (0..300).fold(Mixed(Inside::End), |mixed, level| match level % 10 {
        0 => Mixed(Inside::List(vec![mixed])),
        _ => Mixed(Inside::One(Box::new(mixed))),
    });
    let error = to_value(&mixed).unwrap_err().to_string();
    assert!(error.ends_with("more than 256 options and newtypes around one value"), "{error}");
    // Taken apart without recursion, as its own drop is not.
    let mut next = Some(Box::new(chain));
    while let Some(chain) = next {
        next = chain.0;
    }
}

#[test]
fn a_tensor_is_itself_in_a_struct_and_numbers_for_whoever_wants_them() {
    let engine = echo(Signature::new().value("v"));
    for &dtype in DType::ALL {
        let bytes = (0..4 * dtype.size() as u8).map(|byte| byte & 1).collect();
        let tensor = Tensor::from_bytes(dtype, &[2, 2], bytes).unwrap();
        let value = to_value(&Some(&tensor)).unwrap();
        assert_eq!(value, Value::Tensor(tensor.clone()));
        assert_eq!(through(&engine, &value).to::<Tensor>().unwrap(), tensor);
        if dtype != DType::Bool {
            let numbers: Vec<Vec<f64>> = through(&engine, &value).to().unwrap();
            assert_eq!((numbers.len(), numbers[1].len()), (2, 2), "{dtype}");
        }
    }
    let ints = Value::from(tensor());
    assert_eq!(ints.to::<Vec<[Vec<i64>; 1]>>().unwrap(), [[vec![1, -2]], [vec![3, 4]]]);
    let expected = "value[0][0]: expected i64, found list";
    assert_eq!(refusal::<Vec<Vec<i64>>>(&ints), expected);
    let expected = "value[0][0][1]: expected u8, found integer `-2`";
    assert_eq!(refusal::<Vec<Vec<Vec<u8>>>>(&ints), expected);
    let halves = Tensor::from_bytes(DType::F16, &[2], vec![0, 0x3C, 0, 0xC0]).unwrap();
    assert_eq!(Value::from(halves).to::<Vec<f32>>().unwrap(), [1.0, -2.0]);
    let one = Value::from(Tensor::new(&[], &[u64::MAX]).unwrap());
    assert_eq!(one.to::<u64>().unwrap(), u64::MAX);
    let empty = Value::from(Tensor::new::<f32>(&[1 << 40, 0], &[]).unwrap());
    assert_eq!(empty.to::<Vec<Vec<f32>>>().unwrap(), [[0.0; 0]; 0]);
    assert_eq!(empty.to::<Tensor>().unwrap().shape(), [1 << 40, 0]);
}

#[test]
fn numbers_are_the_tensor_that_numpy_would_make_of_them() {
    let made = |json: &str| serde_json::from_str::<Tensor>(json).map_err(|error| error.to_string());
    assert_eq!(made("[[1, 2], [3, -4]]"), Ok(Tensor::new(&[2, 2], &[1_i64, 2, 3, -4]).unwrap()));
    assert_eq!(made("[1, 2.5]"), Ok(Tensor::new(&[2], &[1.0, 2.5]).unwrap()));
    let unsigned = Tensor::new(&[2], &[u64::MAX, 0]).unwrap();
    assert_eq!(made("[18446744073709551615, 0]"), Ok(unsigned));
    assert_eq!(made("[[true], [false]]"), Ok(Tensor::new(&[2, 1], &[true, false]).unwrap()));
    assert_eq!(made("7"), Ok(Tensor::new(&[], &[7_i64]).unwrap()));
    assert_eq!(made("[]"), Ok(Tensor::new::<f64>(&[0], &[]).unwrap()));
    assert_eq!(made("[[], []]"), Ok(Tensor::new::<f64>(&[2, 0], &[]).unwrap()));
    for (json, expected) in [
        ("[[1], [2, 3]]", "one length at each level"),
        ("[[1], 2]", "one length at each level"),
        ("[1, [2]]", "one length at each level"),
        ("[[], [[]]]", "one length at each level"),
        ("[true, 1]", "either bool or numbers"),
        ("[18446744073709551615, -1]", "neither int64 nor uint64"),
        (r#"[1, "2"]"#, "a tensor's numbers"),
        ("null", "a tensor"),
        (&format!("{}{}", "[".repeat(33), "]".repeat(33)), "at most 32 dimensions"),
    ] {
        let error = made(json).unwrap_err();
        assert!(error.contains(expected), "{json}: {error}");
    }
    let list = Value::List(vec![Value::Float(1.0), Value::Int(2)]);
    assert_eq!(list.to::<Tensor>().unwrap(), Tensor::new(&[2], &[1.0, 2.0]).unwrap());
    let tensor = Tensor::new(&[2, 2], &[0.1_f32, 1.0, 2.0, 3.0]).unwrap();
    assert_eq!(serde_json::to_string(&tensor).unwrap(), "[[0.1,1.0],[2.0,3.0]]");
}

#[test]
fn values_go_in_and_out_of_other_formats() {
    let json = r#"{"b":[null,true,-1,1.5,"x",[]],"a":{}}"#;
    let value: Value = serde_json::from_str(json).unwrap();
    let items = vec![
        Value::None,
        true.into(),
        Value::Int(-1),
        1.5.into(),
        "x".into(),
        Value::List(Vec::new()),
    ];
    let expected = vec![("b".to_owned(), items.into()), ("a".to_owned(), Value::Dict(Vec::new()))];
    assert_eq!(value, Value::Dict(expected));
    assert_eq!(serde_json::to_string(&value).unwrap(), json);

    let engine = echo(Signature::new().value("v"));
    let value = Value::Tuple(vec![Value::Bytes(vec![1]), tensor().into()]);
    let expected = "[[1],[[[1,-2]],[[3,4]]]]";
    assert_eq!(serde_json::to_string(&value).unwrap(), expected);
    assert_eq!(serde_json::to_string(&through(&engine, &value).value()).unwrap(), expected);

    let error = serde_json::from_str::<Value>("[9223372036854775808]").unwrap_err().to_string();
    assert!(error.starts_with("9223372036854775808 does not fit an int"), "{error}");
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deepest: Value = serde_json::from_str(&nested(MAX_DEPTH)).unwrap();
    assert_eq!(serde_json::to_string(&deepest).unwrap(), nested(MAX_DEPTH));
    let error = serde_json::from_str::<Value>(&nested(MAX_DEPTH + 1)).unwrap_err().to_string();
    assert!(error.starts_with("more than 64 containers"), "{error}");
    let error = serde_json::to_string(&Value::List(vec![deepest])).unwrap_err().to_string();
    assert!(error.starts_with("more than 64 containers"), "{error}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Features {
    // Not in the signature's order.
    any: Option<Value>,
    int: u32,
    floats: Vec<f32>,
    bool: bool,
    ints: [i64; 2],
    str: String,
    bools: (bool, bool),
    float: f64,
    strs: Vec<String>,
}

fn all_kinds() -> Signature {
    Signature::new()
        .bool("bool")
        .int("int")
        .float("float")
        .str("str")
        .bools("bools", ..)
        .ints("ints", ..)
        .floats("floats", 1..=3)
        .strs("strs", ..)
        .value("any")
}

fn features() -> Features {
    Features {
        any: Some(tensor().into()),
        int: 7,
        floats: vec![0.5, 1.0],
        bool: true,
        ints: [1, -1],
        str: "s".to_owned(),
        bools: (true, false),
        float: -0.0,
        strs: vec!["a".to_owned(), String::new()],
    }
}

#[test]
fn fields_are_matched_with_parameters_by_name_and_become_what_the_signature_says() {
    let engine = echo(all_kinds());
    let after: Features = engine.call_as(&features(), PATIENCE).unwrap();
    assert_eq!(after, features());
    assert!(after.float.is_sign_negative());
    let arguments = Arguments::of(engine.signature(), &features()).unwrap();
    let ticket = engine.submit(&arguments.as_task()).unwrap();
    assert_eq!(engine.wait(ticket, PATIENCE).unwrap().to::<Features>().unwrap(), features());
}

#[test]
fn an_integer_is_taken_for_a_float_if_it_is_exactly_one() {
    let signature = Signature::new().float("one").floats("more", ..);
    let engine = echo(signature.clone());
    let arguments = |one: i64, more: &[i64]| {
        to_value(&BTreeMap::from([
            ("one", to_value(&one).unwrap()),
            ("more", to_value(more).unwrap()),
        ]))
        .unwrap()
    };
    let answer: BTreeMap<String, Value> =
        engine.call_as(&arguments(1 << 53, &[i64::MIN]), PATIENCE).unwrap();
    assert_eq!(answer["one"], Value::Float(9_007_199_254_740_992.0));
    assert_eq!(answer["more"], Value::List(vec![Value::Float(i64::MIN as f64)]));
    let said = |arguments: Value| Arguments::of(&signature, &arguments).unwrap_err().to_string();
    let expected =
        "arguments['one']: no float is exactly 9007199254740993, the signature says float";
    assert_eq!(said(arguments((1 << 53) + 1, &[])), expected);
    let expected = "arguments['more'][1]: no float is exactly 9223372036854775807, \
                    the signature says list of float";
    assert_eq!(said(arguments(1, &[0, i64::MAX])), expected);
}

#[test]
fn arguments_that_do_not_fit_are_refused_by_name() {
    let signature = Signature::new().int("x").strs("names", 2);
    let said = |arguments: &dyn Fn() -> Result<Arguments, ArgumentsError>| {
        arguments().unwrap_err().to_string()
    };
    macro_rules! said {
        ($json:tt) => {
            said(&|| Arguments::of(&signature, &serde_json::json!($json)))
        };
    }
    let expected = r#"no field for the parameter "names": the fields are x"#;
    assert_eq!(said!({"x": 1}), expected);
    assert_eq!(said!({}), r#"no field for the parameter "x": the fields are none"#);
    let expected = r#"the field "y" is no parameter of the model: these are x, names"#;
    assert_eq!(said!({"x": 1, "names": [], "y": 2}), expected);
    assert_eq!(
        said!({"x": true, "names": []}),
        "arguments['x']: found bool, the signature says int"
    );
    let expected = "arguments['names']: found str, the signature says list of str";
    assert_eq!(said!({"x": 1, "names": "ab"}), expected);
    let expected = "arguments['names'][1]: found NoneType, the signature says list of str";
    assert_eq!(said!({"x": 1, "names": ["a", null]}), expected);
    let expected = "arguments must be a struct or a map, to have names: found list";
    assert_eq!(said!([1, []]), expected);
    let expected = "arguments must be a struct or a map, to have names: found NoneType";
    assert_eq!(said!(null), expected);
    let expected = "arguments['x']: 9223372036854775808 does not fit an int of 64 signed bits";
    assert_eq!(said!({"x": 9_223_372_036_854_775_808_u64, "names": []}), expected);
    let twice = Value::Dict(vec![
        ("x".to_owned(), Value::Int(1)),
        ("names".to_owned(), Value::List(Vec::new())),
        ("x".to_owned(), Value::Int(2)),
    ]);
    let error = Arguments::of(&signature, &twice).unwrap_err();
    assert_eq!(error, ArgumentsError::Twice { name: "x".to_owned() });

    // The signature's lengths are looked at when the task is submitted, as for every task.
    let engine = echo(signature);
    let error = engine.call_as::<_, Value>(&serde_json::json!({"x": 1, "names": []}), PATIENCE);
    let CallAsError::Call(CallError::Submit(SubmitError::Mismatch(error))) = error.unwrap_err()
    else {
        panic!()
    };
    assert!(matches!(error, TaskMismatch::Length { name, .. } if name == "names"));
}

#[test]
fn a_model_without_parameters_takes_nothing() {
    let engine = echo(Signature::new());
    let answer: BTreeMap<String, u8> = engine.call_as(&(), PATIENCE).unwrap();
    assert!(answer.is_empty());
    assert_eq!(engine.call_as::<_, Value>(&Unit, PATIENCE), Ok(Value::Dict(Vec::new())));
}

#[test]
fn an_argument_may_be_as_deep_as_a_value_that_is_given_itself() {
    let engine = echo(Signature::new().value("v"));
    let nested = |depth| (0..depth).fold(Value::Int(1), |value, _| Value::List(vec![value]));
    let call = |value: Value| engine.call_as::<_, Value>(&BTreeMap::from([("v", value)]), PATIENCE);
    assert_eq!(call(nested(MAX_DEPTH)).unwrap(), nested(MAX_DEPTH));
    let error = call(nested(MAX_DEPTH + 1)).unwrap_err();
    let CallAsError::Arguments(ArgumentsError::Value(error)) = error else { panic!("{error}") };
    assert_eq!(error.problem, ValueProblem::Deep { limit: MAX_DEPTH });
    assert!(error.place.starts_with("arguments['v'][0][0]"), "{}", error.place);
}

#[test]
fn a_call_that_fails_says_at_which_end() {
    let engine = Engine::builder("test:raises")
        .signature(Signature::new().int("x"))
        .workers(1)
        .start_with(|args: &Args<'_>| match args.get("x") {
            Some(Value::Int(0)) => Err(PythonError::new("ValueError", "zero")),
            _ => Ok(Value::Dict(vec![("y".to_owned(), "text".into())])),
        })
        .unwrap();
    let call = |x: Value| {
        engine
            .call_as::<_, BTreeMap<String, f64>>(&Value::Dict(vec![("x".to_owned(), x)]), PATIENCE)
    };
    let error = call("".into()).unwrap_err();
    assert!(matches!(error, CallAsError::Arguments(ArgumentsError::Type { .. })), "{error}");
    let error = call(Value::Int(0)).unwrap_err();
    assert!(matches!(error, CallAsError::Call(_)), "{error}");
    assert!(error.to_string().contains("ValueError: zero"), "{error}");
    let error = call(Value::Int(1)).unwrap_err();
    assert!(matches!(error, CallAsError::Answer(_)), "{error}");
    assert_eq!(error.to_string(), "answer['y']: expected f64, found str");
    assert_eq!(engine.in_use(), 0, "the slots are free again");
}

/// Takes its time.
struct Slow(Duration);

impl Serialize for Slow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        std::thread::sleep(self.0);
        serializer.collect_map([("x", 1)])
    }
}

#[test]
fn the_deadline_counts_from_the_call_with_the_arguments_not_from_the_task() {
    let deadline = Duration::from_millis(600);
    let engine = Engine::builder("test:slow")
        .signature(Signature::new().int("x"))
        .workers(1)
        .start_with(move |_: &Args<'_>| {
            // In time, had the task been the begin.
            std::thread::sleep(deadline / 2);
            Ok(Value::None)
        })
        .unwrap();
    let error = engine.call_as::<_, Value>(&Slow(deadline), deadline).unwrap_err();
    let passed = WaitError::Retrieve(RetrieveError::Task(TaskError::DeadlinePassed));
    assert_eq!(error, CallAsError::Call(CallError::Wait(passed)));
}

#[test]
fn numbers_that_serde_json_keeps_as_text_are_numbers_and_no_dicts() {
    // What each number is where some package has turned `arbitrary_precision` on.
    let number = |text: &str| {
        let json = format!(r#"{{"$serde_json::private::Number": "{text}"}}"#);
        serde_json::from_str::<Value>(&json).map_err(|error| error.to_string())
    };
    assert_eq!(number("1.5"), Ok(Value::Float(1.5)));
    assert_eq!(number("-12"), Ok(Value::Int(-12)));
    assert_eq!(number("1e2"), Ok(Value::Float(100.0)));
    let error = number("18446744073709551616").unwrap_err();
    assert!(error.contains("fits neither 64 bits of an int nor a float"), "{error}");
    let raw = r#"{"$serde_json::private::RawValue": "[1]"}"#;
    let error = serde_json::from_str::<Value>(raw).unwrap_err().to_string();
    assert!(error.contains("a raw text of serde_json's is no value"), "{error}");
    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::Number")]
    struct Number {
        #[serde(rename = "$serde_json::private::Number")]
        text: &'static str,
    }
    let error = to_value(&Number { text: "1.5" }).unwrap_err().to_string();
    assert!(error.contains("`arbitrary_precision`"), "{error}");
}
