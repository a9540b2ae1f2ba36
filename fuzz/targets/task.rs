//! A task's bytes, under any signature, as a worker reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nearcall::peer::{Argument, MAX_RANK, TaskReader};
use nearcall::{Kind, Signature, Task, Value, fuzzing};
use nearcall_fuzz::{Input, within};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let kinds: Vec<u8> = (0..input.below(6)).map(|_| input.byte() % 9).collect();
    let bytes = input.0;
    by_signature(&signature(&kinds), bytes);
    in_any_order(&kinds, bytes);
});

fn signature(kinds: &[u8]) -> Signature {
    kinds.iter().enumerate().fold(Signature::new(), |signature, (index, kind)| {
        let name = format!("p{index}");
        match kind {
            0 => signature.bool(name),
            1 => signature.int(name),
            2 => signature.float(name),
            3 => signature.str(name),
            4 => signature.bools(name, ..),
            5 => signature.ints(name, ..),
            6 => signature.floats(name, ..),
            7 => signature.strs(name, ..),
            _ => signature.value(name),
        }
    })
}

/// What decodes, encodes to something that decodes to the same.
fn by_signature(signature: &Signature, bytes: &[u8]) {
    // A `bool` takes a byte in the task and 32 here, in vectors that double.
    let most = 256 * (bytes.len() + 8);
    let decoded = within(most, || fuzzing::decode_task(signature, bytes));
    let Some((values, in_place)) = decoded else { return };
    let again = encode(signature, &values);
    // What stood elsewhere stands in it now.
    assert!(again.len() <= bytes.len() + in_place, "the encoding is the shortest");
    let (decoded, elsewhere) =
        fuzzing::decode_task(signature, &again).expect("what was encoded decodes");
    assert_eq!(elsewhere, 0);
    // As text and as bytes, because NaN is not itself.
    assert_eq!(format!("{decoded:?}"), format!("{values:?}"));
    assert_eq!(encode(signature, &decoded), again);
    let longer = [&again[..], &[0]].concat();
    assert_eq!(fuzzing::decode_task(signature, &longer), None, "a byte is left over");
}

#[derive(Default)]
struct Lists {
    bools: Vec<bool>,
    ints: Vec<i64>,
    floats: Vec<f64>,
    strings: Vec<String>,
}

fn encode(signature: &Signature, values: &[Value]) -> Vec<u8> {
    let lists: Vec<Lists> = values.iter().map(lists).collect();
    let mut task = Task::new();
    for ((value, lists), parameter) in values.iter().zip(&lists).zip(signature.parameters()) {
        if parameter.kind == Kind::Any {
            task = task.value(value);
            continue;
        }
        task = match value {
            Value::Bool(value) => task.bool(*value),
            Value::Int(value) => task.int(*value),
            Value::Float(value) => task.float(*value),
            Value::Str(value) => task.str(value),
            _ => match parameter.kind.to_string().as_str() {
                "list of bool" => task.bools(&lists.bools),
                "list of int" => task.ints(&lists.ints),
                "list of float" => task.floats(&lists.floats),
                _ => task.strings(&lists.strings),
            },
        }
    }
    fuzzing::encode_task(signature, &task, &[]).expect("it fits the signature that it came from")
}

fn lists(value: &Value) -> Lists {
    let mut lists = Lists::default();
    let Value::List(items) = value else { return lists };
    for item in items {
        match item {
            Value::Bool(item) => lists.bools.push(*item),
            Value::Int(item) => lists.ints.push(*item),
            Value::Float(item) => lists.floats.push(*item),
            Value::Str(item) => lists.strings.push(item.clone()),
            // In a value of any type, which is not made of this.
            _ => {}
        }
    }
    lists
}

/// A reader does not care what is asked for: it answers from the bytes it was given, and allocates
/// nothing.
fn in_any_order(kinds: &[u8], bytes: &[u8]) {
    within(0, || {
        let mut reader = TaskReader::new(bytes);
        for kind in kinds {
            let taken = match kind {
                0 => reader.bool().map(|_| 1),
                1 => reader.int().map(|_| 1),
                2 => reader.float().map(|_| 8),
                3 => reader.str().map(str::len),
                4 => reader.str_bytes().map(<[u8]>::len),
                8 => reader.argument().map(|argument| argument_len(&argument)),
                _ => reader.list(),
            };
            let Ok(taken) = taken else { return };
            assert!(taken <= bytes.len(), "more than there is");
        }
        let _ = reader.finish();
    });
}

/// Looks at an argument, and says how many bytes it takes at least.
fn argument_len(argument: &Argument<'_>) -> usize {
    let Argument::Placed(tensor) = argument else { return 1 };
    let (bytes, rank) = (tensor.bytes(), tensor.shape().len());
    assert!(bytes <= i64::MAX as u64 && rank <= MAX_RANK);
    assert_eq!(bytes % tensor.dtype().size() as u64, 0);
    assert_eq!(tensor.shape().any(|extent| extent == 0), bytes == 0);
    8 * (rank + 1)
}
