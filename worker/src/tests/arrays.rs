//! Arrays of numbers as answers, with numpy and without.

use super::tensors::{model, shape_of, tensor};
use super::*;

/// A model that returns the value of a Python expression of `x`.
fn returning(expression: &str) -> PythonModel {
    let source = format!(
        "
import array, ctypes, sys
def released():
    view = memoryview(b'x')
    view.release()
    return view
class Shy:
    def __buffer__(self, flags):
        raise KeyError('shy')
class Open:
    def __buffer__(self, flags):
        return memoryview(array.array('h', [1, 2]))
def f(x):
    return {expression}
"
    );
    model(&source)
}

/// As `returning`, with numpy.
fn returning_numpy(expression: &str) -> PythonModel {
    model(&format!("import numpy as np\ndef f(x):\n return {expression}"))
}

#[test]
fn arrays_of_pythons_own_library_are_carried() {
    on_python(|| {
        let good = [
            ("array.array('b', [-1, 2])", tensor(&[2], &[-1_i8, 2])),
            ("array.array('B', [255])", tensor(&[1], &[255_u8])),
            ("array.array('h', [-2])", tensor(&[1], &[-2_i16])),
            ("array.array('H', [2])", tensor(&[1], &[2_u16])),
            ("array.array('i', [-2])", tensor(&[1], &[-2_i32])),
            ("array.array('I', [2])", tensor(&[1], &[2_u32])),
            ("array.array('l', [-2])", tensor(&[1], &[-2_i64])),
            ("array.array('L', [2])", tensor(&[1], &[2_u64])),
            ("array.array('q', [-2])", tensor(&[1], &[-2_i64])),
            ("array.array('Q', [2**64 - 1])", tensor(&[1], &[u64::MAX])),
            ("array.array('f', [0.5])", tensor(&[1], &[0.5_f32])),
            ("array.array('d', [0.1])", tensor(&[1], &[0.1_f64])),
            ("array.array('d')", tensor::<f64>(&[0], &[])),
            ("(ctypes.c_float * 2 * 1)((1, 2))", tensor(&[1, 2], &[1_f32, 2.0])),
            ("ctypes.c_int16(-3)", tensor(&[], &[-3_i16])),
            ("memoryview(b'ab')", tensor(&[2], b"ab")),
            ("memoryview(b'abcdef')[::-2]", tensor(&[3], b"fdb")),
            ("memoryview(b'\\1\\0').cast('?')", tensor(&[2], &[true, false])),
            ("memoryview(array.array('i', range(6)))[1::2]", tensor(&[3], &[1_i32, 3, 5])),
            ("memoryview(b'abcdef').cast('B', (3, 2))[::-1]", tensor(&[3, 2], b"efcdab")),
            ("memoryview(b'a').cast('B', ())", tensor(&[], b"a")),
            ("bytearray(b'a\\0')", Value::Bytes(b"a\0".to_vec())),
            ("bytearray()", Value::Bytes(vec![])),
            (
                "sys.version_info < (3, 12) or Open()",
                match newer_than_3_11() {
                    true => tensor(&[2], &[1_i16, 2]),
                    false => true.into(),
                },
            ),
        ];
        for (expression, expected) in good {
            // Within others, to see that it is whole.
            let answer = value(&mut returning(&format!("({expression}, 7)")), &any(Value::None));
            assert_eq!(answer, Value::Tuple(vec![expected, 7.into()]), "{expression}");
        }
    });
}

fn newer_than_3_11() -> bool {
    Python::attach(|py| py.version_info() >= (3, 12))
}

/// What an array's elements can be, as a refusal says it.
const ELEMENTS: &str = "an array's elements are bool, int8 to int64, uint8 to uint64 or float16 \
                        to float64, in this machine's byte order";

#[test]
fn memory_that_is_no_array_of_numbers_is_refused_by_its_place() {
    on_python(|| {
        let elements = |format| format!("the format of its elements is '{format}', {ELEMENTS}");
        let huge = "no memory holds an array of its shape".to_owned();
        let bad = [
            ("(ctypes.c_float.__ctype_be__ * 2)()", elements(">f")),
            ("(ctypes.c_char * 2)()", elements("<c")),
            ("array.array('u', 'ab')", elements("w")),
            ("memoryview(b'1').cast('B', [1] * 33)", {
                "it has 33 dimensions, an array has 32 at most".to_owned()
            }),
            ("(ctypes.c_double * 0 * (1 << 62) * (1 << 62))()", huge),
            ("released()", {
                "its memory cannot be read: operation forbidden on released memoryview object"
                    .to_owned()
            }),
        ];
        for (expression, reason) in bad {
            let mut model = returning(&format!("[1, {{'x': {expression}}}]"));
            let found = refused(&mut model, &any(Value::None));
            assert_eq!((found.1, &*found.2), (reason, "answer[1]['x']"), "{expression}");
        }
        if newer_than_3_11() {
            let error = exception(&mut returning("[Shy()]"), &any(Value::None));
            assert_eq!((&*error.kind, &*error.message), ("KeyError", "'shy'"));
        }
    });
}

#[test]
fn an_array_beyond_its_room_is_refused_with_both_sizes_and_not_copied() {
    on_python(|| {
        let task = any(Value::None);
        let mut model = returning("[memoryview(bytes(10_000)), 1]");
        let ended = handle_in(&mut model, &task, 4096);
        // The tags, the list's length, the rank, the extent, and the last item with its tag.
        let needed = 1 + 2 + (3 + 8 + 10_000) + 2;
        assert_eq!(ended, Ended::Refused(Refusal::TooLarge { needed, room: 4096 }));
        if lacks_numpy() {
            return;
        }
        // Copying that would take hours.
        for view in ["np.broadcast_to(np.uint8(1), 1 << 60)", "np.broadcast_to(1.5, (9, 1 << 40))"]
        {
            let mut model = returning_numpy(view);
            let ended = handle_in(&mut model, &task, 4096);
            let too_large = matches!(
                ended,
                Ended::Refused(Refusal::TooLarge { needed, room: 4096 }) if needed > 1 << 40
            );
            assert!(too_large, "{view}: {ended:?}");
        }
    });
}

#[test]
fn arrays_with_any_strides_are_written_in_c_order() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let views = [
            "a.T",
            "a[::-1]",
            "a[:, ::-1]",
            "a[::-1, ::-2]",
            "a[::2, 1::2]",
            "a[:, :2]",
            "a[1]",
            "a[:, 1]",
            "a[..., None, :].swapaxes(0, 2)",
            "np.broadcast_to(a[0], (3, *a[0].shape))",
            "np.broadcast_to(a[0, 0], (2, 3))",
            "np.asfortranarray(a)",
            "a[5:]",
            "a[:, 5:].T",
            "np.stack([a, a, a]).transpose(2, 0, 1)",
            "np.stack([a, a, a]).transpose(1, 0, 2)",
            // More than are gathered at once; and as many.
            "np.arange(1200).reshape(40, 30).astype(a.dtype).T",
            "np.arange(1024).reshape(32, 32).astype(a.dtype).T",
            // Elements at odd addresses.
            "np.frombuffer(b'x' + a.tobytes(), a.dtype, offset=1).reshape(a.shape)",
            "np.frombuffer(b'x' + a.tobytes(), a.dtype, offset=1).reshape(a.shape).T",
        ];
        for &dtype in DType::ALL {
            for view in views {
                let source = format!(
                    "
import numpy as np
def f(x):
    a = np.arange(12).reshape(3, 4).astype('{dtype}')
    v = {view}
    return [v, v.shape, v.tobytes()]
"
                );
                let Value::List(answer) = value(&mut model(&source), &any(Value::None)) else {
                    panic!()
                };
                let Value::Tensor(found) = &answer[0] else { panic!("{answer:?}") };
                assert_eq!(found.dtype(), dtype, "{view}");
                let expected = [shape_of(found), Value::Bytes(found.bytes().to_vec())];
                assert_eq!(answer[1..], expected, "{view} of {dtype}");
            }
        }
    });
}

#[test]
fn numpys_scalars_count_as_the_numbers_they_stand_for_and_arrays_of_rank_0_stay_arrays() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let good = [
            ("np.float32(1.5)", Value::Float(1.5)),
            ("np.float64(-0.1)", Value::Float(-0.1)),
            ("np.float16(-0.5)", Value::Float(-0.5)),
            ("np.int8(-5)", Value::Int(-5)),
            ("np.int16(-5)", Value::Int(-5)),
            ("np.int32(-5)", Value::Int(-5)),
            ("np.int64(-2**63)", Value::Int(i64::MIN)),
            ("np.uint8(255)", Value::Int(255)),
            ("np.uint16(65535)", Value::Int(65535)),
            ("np.uint32(2**32 - 1)", Value::Int(u32::MAX.into())),
            ("np.uint64(2**63 - 1)", Value::Int(i64::MAX)),
            ("np.longlong(-1)", Value::Int(-1)),
            ("np.bool_(True)", Value::Bool(true)),
            ("np.bool_(False)", Value::Bool(false)),
            ("np.str_('ä')", Value::Str("ä".into())),
            ("np.bytes_(b'a')", Value::Bytes(b"a".to_vec())),
            ("np.array(1.5, 'f')", tensor(&[], &[1.5_f32])),
            ("np.array(True)", tensor(&[], &[true])),
            ("np.matrix([[1.0, 2.0]])", tensor(&[1, 2], &[1_f64, 2.0])),
            ("np.array([1, 2], '<i2')", tensor(&[2], &[1_i16, 2])),
        ];
        for (expression, expected) in good {
            let answer = value(&mut returning_numpy(expression), &any(Value::None));
            assert_eq!(answer, expected, "{expression}");
        }
    });
}

#[test]
fn every_float16_is_the_float_that_numpy_makes_of_it() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let all = "np.arange(0x10000, dtype='u2').view('e')";
        let mut model = returning_numpy(&format!("[list({all}), {all}.astype('d')]"));
        let ended = handle_in(&mut model, &any(Value::None), 2 << 20);
        let Ended::Value(Value::List(answer)) = ended else { panic!("{ended:?}") };
        let [Value::List(found), Value::Tensor(expected)] = &answer[..] else { panic!() };
        let expected = expected.to_vec::<f64>().unwrap();
        assert_eq!((found.len(), expected.len()), (0x10000, 0x10000));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let Value::Float(found) = found else { panic!("{found:?}") };
            // What is made of the first bit of a NaN is the machine's business.
            const QUIET: u64 = 1 << 51;
            let bits =
                |value: f64| if value.is_nan() { value.to_bits() | QUIET } else { value.to_bits() };
            assert_eq!(bits(*found), bits(expected), "{index:#x}");
        }
    });
}

#[test]
fn arrays_of_what_is_no_number_of_this_machine_are_refused_by_type_and_place() {
    on_python(|| {
        if lacks_numpy() {
            return;
        }
        let dtype = |name| format!("its dtype is {name}, {ELEMENTS}");
        let mut bad = vec![
            ("np.array([{}])", "numpy.ndarray", dtype("object")),
            ("np.zeros(2, [('a', 'i4')])", "numpy.ndarray", dtype("[('a', '<i4')]")),
            ("np.array(['ab'])", "numpy.ndarray", dtype("<U2")),
            ("np.array([b'ab'])", "numpy.ndarray", dtype("|S2")),
            ("np.zeros(2, 'V3')", "numpy.ndarray", dtype("|V3")),
            ("np.zeros(2, '>f4')", "numpy.ndarray", dtype(">f4")),
            ("np.zeros(2, 'F')", "numpy.ndarray", dtype("complex64")),
            ("np.zeros(2, 'D')", "numpy.ndarray", dtype("complex128")),
            ("np.uint64(2**63)", "numpy.uint64", "it takes more than 64 bits".to_owned()),
        ];
        for (unit, kind) in [('M', "datetime64"), ('m', "timedelta64")] {
            let expression = format!("np.zeros(2, '{kind}[s]')").leak();
            let reason =
                format!("its memory cannot be read: cannot include dtype '{unit}' in a buffer");
            bad.push((expression, "numpy.ndarray", reason));
        }
        let masked = "an answer has no masks: return its filled(), or data and mask apart";
        for expression in ["np.ma.masked_array([1, 2], [0, 1])", "np.ma.masked"] {
            let mut model = returning_numpy(&format!("({expression},)"));
            let (type_name, reason, place) = refused(&mut model, &any(Value::None));
            assert!(type_name.starts_with("numpy.ma."), "{type_name}");
            assert_eq!((&*reason, &*place), (masked, "answer[0]"));
        }
        for (expression, type_name, reason) in bad {
            let mut model = returning_numpy(&format!("[0, {{'x': {expression}}}]"));
            let expected = (type_name.to_owned(), reason, "answer[1]['x']".to_owned());
            assert_eq!(refused(&mut model, &any(Value::None)), expected, "{expression}");
        }
        for expression in [
            "np.longdouble(1)",
            "np.complex64(1)",
            "np.complex128(1)",
            "np.datetime64('2020-01-01')",
            "np.timedelta64(1, 's')",
            "np.zeros(1, [('a', 'i4')])[0]",
            "np.zeros(1, 'V3')[0]",
        ] {
            let (_, reason, _) = refused(&mut returning_numpy(expression), &any(Value::None));
            assert!(reason.starts_with("an answer carries None, bool"), "{expression}: {reason}");
        }
        // Its name and its size depend on the machine and on numpy.
        let (_, reason, _) = refused(&mut returning_numpy("np.zeros(2, 'g')"), &any(Value::None));
        assert!(reason.starts_with("its dtype is float128, an"), "{reason}");
        let mut model =
            returning_numpy("np.lib.NumpyVersion(np.__version__).major < 2 or np.zeros([1] * 33)");
        if let Ended::Refused(Refusal::Unsupported { reason, .. }) =
            handle(&mut model, &any(Value::None))
        {
            assert_eq!(reason, "it has 33 dimensions, an array has 32 at most");
        }
    });
}

#[test]
fn an_answer_that_an_array_of_its_own_empties_while_it_is_read_is_refused() {
    on_python(|| {
        if !newer_than_3_11() {
            return eprintln!("SKIPPED: only from Python 3.12 on has a class a __buffer__");
        }
        let source = "
class Vandal:
    def __init__(self, around):
        self.around = around
    def __buffer__(self, flags):
        self.around.clear()
        return memoryview(b'x')
def f(x):
    if x == 'list':
        answer = ['text' * 2]
        answer += [Vandal(answer), 'text' * 3]
    else:
        answer = {'a' * 2: 'text' * 2}
        answer |= {'b' * 2: Vandal(answer), 'c' * 2: 'text' * 3}
    return answer
";
        let mut model = model(source);
        for around in ["list", "dict"] {
            let (type_name, reason, _) = refused(&mut model, &any(around));
            assert_eq!((&*type_name, &*reason), (around, "it changed while it was read"));
        }
    });
}
