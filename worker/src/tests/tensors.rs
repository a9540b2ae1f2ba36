//! Arrays of numbers as arguments, with numpy and without.

use super::*;

/// A model with a parameter of any type.
pub(super) fn model(source: &str) -> PythonModel {
    case(source, "f").signature(Signature::new().value("x")).start().unwrap()
}

pub(super) fn tensor<T: nearcall::Element>(shape: &[usize], elements: &[T]) -> Value {
    Tensor::new(shape, elements).unwrap().into()
}

/// Tensors of each type and of the shapes that are unlike others.
fn tensors() -> Vec<Tensor> {
    let shapes: [&[usize]; 6] = [&[], &[0], &[2, 3], &[3, 0, 5], &[1; 32], &[4, 1, 2]];
    let mut tensors = Vec::new();
    for &dtype in DType::ALL {
        for shape in shapes {
            let len = shape.iter().product::<usize>() * dtype.size();
            // Any bytes are a number; a bool is 0 or 1.
            let bytes = (0..len).map(|index| match dtype {
                DType::Bool => (index % 2) as u8,
                _ => (index * 89 + 7) as u8,
            });
            tensors.push(Tensor::from_bytes(dtype, shape, bytes.collect()).unwrap());
        }
    }
    tensors
}

/// An array's shape, as Python has it.
pub(super) fn shape_of(tensor: &Tensor) -> Value {
    Value::Tuple(tensor.shape().iter().map(|extent| Value::Int(*extent as i64)).collect())
}

#[test]
fn with_numpy_a_tensor_is_an_array_that_is_read_only_and_contiguous_and_aligned() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
import numpy
def f(x):
    flags = x.flags
    try:
        x.flags.writeable = True
    except ValueError:
        stays = True
    return [type(x) is numpy.ndarray, stays and not flags.writeable, flags.c_contiguous,
            flags.aligned, x.dtype.isnative, x.dtype.name, x.shape, x.tobytes()]
";
        let mut model = model(source);
        for sent in tensors() {
            let yes = || Value::Bool(true);
            let expected = Value::List(vec![
                yes(),
                yes(),
                yes(),
                yes(),
                yes(),
                sent.dtype().name().into(),
                shape_of(&sent),
                sent.bytes().to_vec().into(),
            ]);
            assert_eq!(value(&mut model, &any(sent.clone())), expected, "{sent:?}");
        }
    });
}

#[test]
fn an_array_comes_back_as_it_went_in_whatever_its_type_and_shape() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let mut model = model("def f(x):\n return {'x': [x]}");
        for sent in tensors() {
            let sent = Value::Tensor(sent);
            let expected = Value::Dict(vec![("x".to_owned(), Value::List(vec![sent.clone()]))]);
            assert_eq!(value(&mut model, &any(sent)), expected);
        }
    });
}

#[test]
fn an_array_may_be_kept_and_what_is_made_of_it_is_the_models_own() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let source = "
kept = []
def f(x):
    kept.append(x)
    mine = x.copy()
    mine += 1
    return [mine, *kept]
";
        let mut model = model(source);
        let of = |number: f32| tensor(&[2], &[number, number * 2.0]);
        let mut expected = vec![tensor(&[2], &[2.0_f32, 3.0]), of(1.0)];
        assert_eq!(value(&mut model, &any(of(1.0))), Value::List(expected.clone()));
        model.tidy();
        expected[0] = tensor(&[2], &[6.0_f32, 11.0]);
        expected.push(of(5.0));
        assert_eq!(value(&mut model, &any(of(5.0))), Value::List(expected));
    });
}

#[test]
fn without_numpy_a_tensor_is_a_read_only_view_of_its_type_and_shape_where_views_can() {
    in_own_process(
        "tests::tensors::without_numpy_a_tensor_is_a_read_only_view_of_its_type_and_shape_where_views_can",
        || {
            let source = "
import sys
sys.modules['numpy'] = None  # As if there were none.
def f(x):
    return [type(x).__name__, x.readonly, x.format, x.shape, x.tobytes(),
            sys.version_info >= (3, 12)]
";
            let mut shows = model(source);
            for sent in tensors() {
                let Value::List(answer) = value(&mut shows, &any(sent.clone())) else { panic!() };
                let format = match sent.dtype() {
                    DType::Bool => "?",
                    DType::I8 => "b",
                    DType::I16 => "h",
                    DType::I32 => "i",
                    DType::I64 => "q",
                    DType::U8 => "B",
                    DType::U16 => "H",
                    DType::U32 => "I",
                    DType::U64 => "Q",
                    DType::F16 => "e",
                    DType::F32 => "f",
                    DType::F64 => "d",
                    other => panic!("{other}"),
                };
                let len = sent.bytes().len();
                let (format, shape) = match (sent.dtype(), &answer[5]) {
                    (DType::F16, Value::Bool(false)) => ("B", vec![len]),
                    _ if len == 0 => (format, vec![0]),
                    _ => (format, sent.shape().to_vec()),
                };
                let shape = shape.iter().map(|extent| Value::Int(*extent as i64)).collect();
                let expected = [
                    "memoryview".into(),
                    true.into(),
                    format.into(),
                    Value::Tuple(shape),
                    sent.bytes().to_vec().into(),
                ];
                assert_eq!(answer[..5], expected, "{sent:?}");
            }
            // And goes back as an array.
            let mut returns = model("def f(x):\n return [x]");
            let sent = tensor(&[2, 2], &[1_i32, -2, 3, -4]);
            assert_eq!(value(&mut returns, &any(sent.clone())), Value::List(vec![sent]));
        },
    );
}

/// Counts how often numpy is looked for, tensors or not; `find` is what the search does then.
fn count_searches(find: &str) {
    let source = format!(
        "
import sys
tried = []
class Finder:
    def find_spec(name, path=None, target=None):
        if name == 'numpy':
            tried.append(name)
            {find}
sys.meta_path.insert(0, Finder)
def f(x):
    return len(tried)
"
    );
    let mut model = model(&source);
    let mut tried = |sent: Value| value(&mut model, &any(sent));
    assert_eq!(tried(Value::List(vec![0.5.into(), Value::None])), Value::Int(1));
    for _ in 0..3 {
        assert_eq!(tried(tensor(&[1], &[0_u8])), Value::Int(1));
    }
}

#[test]
fn numpy_is_imported_with_a_model_that_may_get_tensors_and_with_no_other() {
    in_own_process(
        "tests::tensors::numpy_is_imported_with_a_model_that_may_get_tensors_and_with_no_other",
        || {
            let source = "import sys\ndef f():\n return 'numpy' in sys.modules";
            let mut typed = case(source, "f").start().unwrap();
            assert_eq!(value(&mut typed, &[]), Value::Bool(false));
            count_searches("pass");
        },
    );
}

#[test]
fn a_numpy_that_is_not_there_is_looked_for_once() {
    in_own_process("tests::tensors::a_numpy_that_is_not_there_is_looked_for_once", || {
        count_searches("raise ModuleNotFoundError(name=name)");
    });
}

#[test]
fn a_numpy_that_cannot_be_imported_is_told_and_not_taken_for_none() {
    in_own_process(
        "tests::tensors::a_numpy_that_cannot_be_imported_is_told_and_not_taken_for_none",
        || {
            let folder = Folder::new(&[("numpy.py", "import no_such_part_of_numpy")]);
            let source = "def f(x):\n return 'called'";
            let signature = Signature::new().value("x");
            let case = case(source, "f").signature(signature).path(folder.path());
            let mut model = case.start().unwrap();
            for _ in 0..2 {
                let error = exception(&mut model, &any(tensor(&[1], &[0_u8])));
                assert_eq!(error.message, "No module named 'no_such_part_of_numpy'");
            }
            assert_eq!(value(&mut model, &any(Value::None)), "called".into());
        },
    );
}
