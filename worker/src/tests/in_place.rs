//! Tensors in place: what a model gets, and what it gives back.

use std::fs;

use nearcall::TensorSpec;
use nearcall::peer::InPlace;

use super::tensors::tensor;
use super::*;

/// A model beside its slot.
pub(super) struct Place {
    pub(super) model: PythonModel,
    pub(super) in_place: InPlace<'static>,
}

impl Place {
    /// Of the function `f`.
    pub(super) fn new(source: &str, parameters: &[&str]) -> Self {
        let signature = parameters.iter().fold(Signature::new(), |all, name| all.value(*name));
        let model = case(source, "f").signature(signature).start().unwrap();
        Self { model, in_place: slot().in_place() }
    }

    /// A task with these tensors as its arguments: how it ends, and how many bytes the worker has
    /// written for it.
    pub(super) fn run(&mut self, tensors: &[(TensorSpec, &[u8])]) -> (Ended, usize) {
        let task = slot().begin(&mut self.in_place, tensors).unwrap().concat();
        let mut answer = slot().answer();
        self.model.handle(&task, &mut self.in_place, &mut answer);
        let written = answer.finish().to_vec();
        self.model.tidy();
        (Ended::decode(&slot().spliced(&written).unwrap()), written.len())
    }

    /// As `run`, for one input.
    pub(super) fn one(&mut self, bytes: &[u8]) -> Ended {
        self.run(&[(TensorSpec::input(DType::U8, &[bytes.len()]), bytes)]).0
    }

    /// The answer to one input.
    #[track_caller]
    pub(super) fn value(&mut self, bytes: &[u8]) -> Value {
        match self.one(bytes) {
            Ended::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    /// What the model does on its own, without tensors.
    pub(super) fn tell(&mut self, what: &str) -> Ended {
        handle(&mut self.model, &any(what))
    }
}

pub(super) fn kept(arguments: &str) -> Ended {
    Ended::Refused(Refusal::Kept { arguments: arguments.to_owned() })
}

pub(super) fn u8s(bytes: &[u8]) -> Value {
    tensor(&[bytes.len()], bytes)
}

/// Bytes unlike those of another seed.
pub(super) fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8 ^ seed).collect()
}

/// Tensors of each type, and of shapes that are unlike others: the last is the longest.
const SHAPES: [&[usize]; 6] = [&[], &[0], &[2, 3], &[3, 0, 5], &[1; 32], &[40, 1, 20]];

fn len_of(dtype: DType, shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * dtype.size()
}

#[test]
fn an_input_is_a_read_only_array_over_the_segment_at_a_multiple_of_64() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import numpy as np
def refuses(change):
    try:
        change()
    except ValueError:
        return True
def f(x):
    flat = x.reshape(-1) if x.ndim == 0 else x
    good = [type(x) is np.ndarray, refuses(lambda: x.setflags(write=True)),
            refuses(lambda: x.__setitem__(..., 1)) or x.size == 0, not x.flags.writeable,
            x.flags.c_contiguous, x.flags.aligned, x.dtype.isnative,
            x.__array_interface__['data'][0] % 64 == 0]
    return [all(good), x.dtype.name, x.shape, x.tobytes(), x.__array_interface__['data'][0]]
";
        let mut place = Place::new(source, &["x"]);
        for &dtype in DType::ALL {
            for shape in SHAPES {
                let sent = match dtype {
                    DType::Bool => vec![1; len_of(dtype, shape)],
                    _ => bytes(len_of(dtype, shape), 7),
                };
                let (ended, _) = place.run(&[(TensorSpec::input(dtype, shape), &sent)]);
                let Ended::Value(Value::List(found)) = ended else { panic!("{ended:?}") };
                let extents = shape.iter().map(|extent| Value::Int(*extent as i64)).collect();
                let expected =
                    [true.into(), dtype.name().into(), Value::Tuple(extents), sent.into()];
                assert_eq!(found[..4], expected, "{dtype} {shape:?}");
                let Value::Int(address) = found[4] else { panic!() };
                assert!(mapping_of(address as usize).contains("/dev/shm/nearcall-"));
            }
        }
    });
}

/// What is mapped at an address; nothing if that is the empty string.
pub(super) fn mapping_of(address: usize) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut lines = maps.lines().filter(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        let number = |hex| usize::from_str_radix(hex, 16).unwrap();
        (number(start)..number(end)).contains(&address)
    });
    lines.next().unwrap_or_default().to_owned()
}

#[test]
fn several_tensors_stand_side_by_side_and_each_is_what_it_is() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
def f(a, b, c, d):
    c[...] = a[:2]
    d[...] = b * 2
    return [a.flags.writeable, b.flags.writeable, c, d, (c.dtype.name, d.shape)]
";
        let mut place = Place::new(source, &["a", "b", "c", "d"]);
        let doubles: Vec<u8> = [0.5_f64, -1.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        let (ended, written) = place.run(&[
            (TensorSpec::input(DType::U8, &[3]), &[1, 2, 3]),
            (TensorSpec::input(DType::F64, &[2, 1]), &doubles),
            (TensorSpec::output(DType::U8, &[2]), &[]),
            (TensorSpec::output(DType::F64, &[2, 1]), &[]),
        ]);
        let names = Value::Tuple(vec!["uint8".into(), Value::Tuple(vec![2.into(), 1.into()])]);
        let expected = Value::List(vec![
            false.into(),
            false.into(),
            u8s(&[1, 2]),
            tensor(&[2, 1], &[1.0_f64, -3.0]),
            names,
        ]);
        assert_eq!(ended, Ended::Value(expected));
        assert!(written < 200);
    });
}

#[test]
fn without_numpy_a_tensor_in_place_is_a_view_of_its_type_and_shape() {
    in_own_process(
        "tests::in_place::without_numpy_a_tensor_in_place_is_a_view_of_its_type_and_shape",
        || {
            let source = "
import sys
sys.modules['numpy'] = None  # As if there were none.
kept = []
def f(x, out):
    if x.format == 'B' and x.nbytes:
        try:
            x[0] = 1
            return 'written'
        except TypeError:
            pass
    for i in range(out.nbytes):
        out.cast('B')[i] = i
    return [type(x).__name__, x.readonly, out.readonly, x.format, x.shape, x.tobytes(), out]
";
            let mut place = Place::new(source, &["x", "out"]);
            for (dtype, format) in [(DType::U8, "B"), (DType::F32, "f"), (DType::I64, "q")] {
                for shape in SHAPES {
                    let sent = bytes(len_of(dtype, shape), 3);
                    let (ended, _) = place.run(&[
                        (TensorSpec::input(dtype, shape), &sent),
                        (TensorSpec::output(DType::U8, &[2]), &[]),
                    ]);
                    let shape = if sent.is_empty() { &[0] } else { shape };
                    let extents = shape.iter().map(|extent| Value::Int(*extent as i64)).collect();
                    let expected = vec![
                        "memoryview".into(),
                        true.into(),
                        false.into(),
                        format.into(),
                        Value::Tuple(extents),
                        sent.into(),
                        u8s(&[0, 1]),
                    ];
                    assert_eq!(ended, Ended::Value(expected.into()));
                }
            }
            // What is kept is found too: a view, and a view of it.
            let source = "
kept = []
def f(x):
    if x == 'tell': return [bytes(view) for view in kept]
    if x == 'drop': return kept.clear()
    if len(kept) < 2: kept.append([x, x[1:]][len(kept)])
";
            let mut place = Place::new(source, &["x"]);
            assert_eq!(place.one(b"abc"), kept("\"x\""));
            assert_eq!(place.one(b"def"), kept("\"x\""));
            assert_eq!(place.value(b"ghi"), Value::None);
            let expected = vec![b"abc".to_vec().into(), b"ef".to_vec().into()];
            assert_eq!(place.tell("tell"), Ended::Value(Value::List(expected)));
            place.tell("drop");
            assert_eq!(SlotDouble::kept_bytes(), 0);
        },
    );
}

#[test]
fn an_input_may_be_returned_in_whole_and_in_part() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let of = |bytes: &[u8], indices: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
            indices.map(|index| bytes[index]).collect()
        };
        // One that fits the slot, and one that is better lent.
        for len in [100, 300_000] {
            let sent = bytes(len, 0);
            let cases = [
                ("x", u8s(&sent)),
                ("x[::2]", u8s(&of(&sent, &mut (0..len).step_by(2)))),
                ("x[10:]", u8s(&sent[10..])),
                ("x[::-1]", u8s(&of(&sent, &mut (0..len).rev()))),
                ("memoryview(x)[10:]", u8s(&sent[10..])),
                ("x.base", u8s(&sent)),
            ];
            for (expression, expected) in cases {
                let source = format!("def f(x):\n return {{'a': [{expression}], 'b': x.copy()}}");
                let mut place = Place::new(&source, &["x"]);
                for _ in 0..2 {
                    let expected = vec![
                        ("a".to_owned(), Value::List(vec![expected.clone()])),
                        ("b".to_owned(), u8s(&sent)),
                    ];
                    assert_eq!(place.value(&sent), Value::Dict(expected), "{expression}");
                }
            }
        }
    });
}

#[test]
fn a_lent_array_that_holds_an_input_beside_its_elements_is_no_view_that_is_kept() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import numpy as np
class Array(np.ndarray): pass
def f(x):
    answer = np.arange(50_000).view(Array)
    answer.source = x
    return [answer, 1]
";
        let expected: Vec<i64> = (0..50_000).collect();
        let expected = Value::List(vec![tensor(&[50_000], &expected), 1.into()]);
        let mut place = Place::new(source, &["x"]);
        assert_eq!(place.value(b"abc"), expected);
        assert_eq!(place.value(b"abc"), expected);
    });
}

/// A model with an output of three rows of 20,000 bytes, which it fills from `x`.
fn with_output(expression: &str) -> (Ended, usize) {
    let source = format!(
        "
kept = []
def keep(out):
    kept.append(out)
    return out
def f(x, out):
    out[...] = x[:, None]
    return {expression}
"
    );
    let mut place = Place::new(&source, &["x", "out"]);
    place.run(&[
        (TensorSpec::input(DType::U8, &[3]), &[5, 6, 7]),
        (TensorSpec::output(DType::U8, &[3, 20_000]), &[]),
    ])
}

#[test]
fn an_output_that_is_returned_is_named_and_not_copied() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let rows = |rows: &[u8]| {
            let bytes: Vec<u8> = rows.iter().flat_map(|row| [*row; 20_000]).collect();
            tensor(&[rows.len(), 20_000], &bytes)
        };
        let list = |items: Vec<Value>| Value::List(items);
        let row = |row: u8| u8s(&[row; 20_000]);
        let columns: Vec<u8> = [5, 6, 7].repeat(20_000);
        let whole = rows(&[5, 6, 7]);
        // How much is written: nothing but names, or also what stands apart or was named before.
        for (expression, expected, copied) in [
            ("out", whole.clone(), 0),
            ("{'a': [out]}", vec![("a".to_owned(), list(vec![whole.clone()]))].into(), 0),
            ("out[1:]", rows(&[6, 7]), 0),
            ("[out[2], out[0], 1]", list(vec![row(7), row(5), 1.into()]), 0),
            ("out[1, 100:200]", u8s(&[6; 100]), 0),
            ("memoryview(out)", whole.clone(), 0),
            ("out.reshape(-1)[:4].view('u4')", tensor(&[1], &[0x0505_0505_u32]), 0),
            ("[out, out]", list(vec![whole.clone(), whole.clone()]), 60_000),
            ("out.T", tensor(&[20_000, 3], &columns), 60_000),
            (
                "out[:, ::20]",
                tensor(&[3, 1000], &[[5_u8; 1000], [6; 1000], [7; 1000]].concat()),
                3000,
            ),
            ("out[1:1]", tensor::<u8>(&[0, 20_000], &[]), 0),
            ("[x, 1]", list(vec![u8s(&[5, 6, 7]), 1.into()]), 3),
            ("out.copy()", whole.clone(), 60_000),
        ] {
            let (ended, written) = with_output(expression);
            assert_eq!(ended, Ended::Value(expected), "{expression}");
            assert!((copied..copied + 100).contains(&written), "{expression}: {written}");
        }
        assert_eq!(with_output("keep(out)").0, kept("\"out\""));
        assert_eq!(with_output("keep(out[1:]) is None").0, kept("\"out\""));
        let (refused, _) = with_output("[out, {1}]");
        let Ended::Refused(Refusal::Unsupported { place, .. }) = refused else { panic!() };
        assert_eq!(place, "answer[1]");
    });
}

#[test]
fn a_task_whose_tensors_are_not_where_it_says_is_malformed_and_the_next_is_served() {
    on_python(|| {
        let mut place = Place::new("def f(a, b):\n return len(a) + len(b)", &["a", "b"]);
        let spec = TensorSpec::input(DType::U8, &[3]);
        let tensors: [(TensorSpec, &[u8]); 2] = [(spec.clone(), b"abc"), (spec, b"def")];
        let mut arguments = slot().begin(&mut place.in_place, &tensors).unwrap();
        // The offset stands last.
        let end = arguments[1].len();
        arguments[1][end - 8..].fill(0x7F);
        let mut answer = slot().answer();
        place.model.handle(&arguments.concat(), &mut place.in_place, &mut answer);
        assert_eq!(Ended::decode(answer.finish()), Ended::Refused(Refusal::MalformedTask));
        place.model.tidy();
        assert_eq!(place.run(&tensors).0, Ended::Value(Value::Int(6)));
    });
}

#[test]
fn an_output_that_two_arguments_name_comes_back_as_both() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
def f(x, out):
    out[:] = 7
    x[0] = 8
    return [x, out]
";
        let mut place = Place::new(source, &["x", "out"]);
        let output = (TensorSpec::output(DType::U8, &[1000]), &[][..]);
        let arguments = slot().begin(&mut place.in_place, &[output]).unwrap();
        let mut answer = slot().answer();
        let task = [&*arguments[0], &*arguments[0]].concat();
        place.model.handle(&task, &mut place.in_place, &mut answer);
        let written = answer.finish().to_vec();
        place.model.tidy();
        let both = vec![u8s(&[vec![8], vec![7; 999]].concat()); 2];
        let spliced = slot().spliced(&written).unwrap();
        assert_eq!(Ended::decode(&spliced), Ended::Value(Value::List(both)));
        assert!((1000..1200).contains(&written.len()), "one is copied: {}", written.len());
    });
}
