//! Writes real encodings, for the fuzzer to start from: `seeds FOLDER`, a folder for each target.

use std::path::Path;
use std::{env, fs, io};

use nearcall::peer::{AnswerBuf, MAX_RANK};
use nearcall::{DType, PythonError, Refusal, Signature, Task, Tensor, TensorSpec, Value, fuzzing};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).expect("usage: seeds FOLDER");
    for (target, seeds) in [("task", tasks()), ("outcome", outcomes()), ("control", packets())] {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:02}")), seed)?;
        }
    }
    Ok(())
}

/// One parameter of each kind, then some together.
fn tasks() -> Vec<Vec<u8>> {
    let new = Signature::new;
    let strings = ["abc", "", "ü\0"];
    let reserved = [
        TensorSpec::input(DType::F64, &[2, 3]),
        TensorSpec::output(DType::U8, &[7]),
        TensorSpec::input(DType::Bool, &[0, 3]),
    ];
    // With as many dimensions as there may be; and one more.
    let most = TensorSpec::input(DType::I8, &[1; MAX_RANK]);
    let value = new().value("a");
    let most = fuzzing::encode_task(&value, &Task::new().reserved(0), &[most]).unwrap_or_default();
    let mut beyond = most.clone();
    beyond[2] += 1;
    beyond.splice(3..3, 1_u64.to_le_bytes());
    let one = |kind: u8, signature: Signature, task: &Task<'_>| {
        let task = fuzzing::encode_task(&signature, task, &reserved).unwrap_or_default();
        [&[1, kind][..], &task].concat()
    };
    let three = new().floats("a", ..).strs("b", ..).int("c");
    let task = Task::new().floats(&[1.1, -0.0, f64::NAN]).strs(&strings).int(-27);
    let task = fuzzing::encode_task(&three, &task, &[]).unwrap_or_default();
    let values = new().value("a").value("b").value("c");
    let placed = Task::new().reserved(2).reserved(0).reserved(1);
    let placed = fuzzing::encode_task(&values, &placed, &reserved).unwrap_or_default();
    let nested = Value::Dict(vec![
        ("".to_owned(), Value::List(vec![Value::None, tensor(&[2, 0, 3]), tensor(&[1, 2])])),
        ("b".to_owned(), Value::Tuple(vec![Value::Bytes(vec![0, 255]), tensor(&[])])),
    ]);
    vec![
        one(0, new().bool("a"), &Task::new().bool(true)),
        one(1, new().int("a"), &Task::new().int(i64::MIN)),
        one(2, new().float("a"), &Task::new().float(1.5)),
        one(3, new().str("a"), &Task::new().str(&"x".repeat(300))),
        one(4, new().bools("a", ..), &Task::new().bools(&[true, false])),
        one(5, new().ints("a", ..), &Task::new().ints(&[0, 250, 251, 70_000, 1 << 40])),
        one(6, new().floats("a", ..), &Task::new().floats(&[1.0])),
        one(7, new().strs("a", ..), &Task::new().strs(&strings)),
        one(8, new().value("a"), &Task::new().value(&nested)),
        one(8, new().value("a"), &Task::new().reserved(1)),
        [&[3, 6, 7, 1][..], &task].concat(),
        [&[3, 8, 8, 8][..], &placed].concat(),
        [&[1, 8][..], &most].concat(),
        [&[1, 8][..], &beyond].concat(),
    ]
}

/// One of 16-bit numbers.
fn tensor(shape: &[usize]) -> Value {
    let elements = vec![-2_i16; shape.iter().product()];
    Tensor::new(shape, &elements).map_or(Value::None, Value::Tensor)
}

fn outcomes() -> Vec<Vec<u8>> {
    let text = |text: &str| text.to_owned();
    let scalars = vec![
        Value::None,
        Value::Bool(true),
        Value::Bool(false),
        Value::Int(-77_777),
        Value::Float(0.5),
        Value::Str(text("ü\0")),
        Value::Bytes(vec![0, 255]),
    ];
    let dict = vec![(text("a"), Value::List(scalars.clone())), (text(""), Value::Dict(Vec::new()))];
    let deep = (0..64).fold(Value::None, |inside, _| Value::List(vec![inside]));
    let long = Value::Str("x".repeat(300));
    let mut seeds = Vec::new();
    let mut buffer = AnswerBuf::new(4096);
    for value in [
        Value::Tuple(scalars.clone()),
        Value::Dict(dict),
        deep,
        long,
        Value::Int(1),
        tensor(&[3, 1]),
    ] {
        buffer.start_value();
        buffer.value(&value);
        seeds.push(buffer.finish().to_vec());
    }
    // Tensors in place: as many bytes as there may be, and one more.
    for last in [128, 129] {
        buffer.start_value();
        buffer.tuple(2);
        buffer.placed(DType::I64, &[4, 4], 8);
        buffer.placed(DType::I8, &[1, last], 0);
        seeds.push(buffer.finish().to_vec());
    }
    // As far as they may reach, and a byte further.
    for last in [4, 5] {
        buffer.start_value();
        buffer.dict(2);
        buffer.key("a");
        buffer.placed(DType::F32, &[2, 8], 192);
        buffer.key("");
        buffer.list(3);
        buffer.placed(DType::U8, &[last], 296);
        buffer.placed(DType::Bool, &[3, 0], 0);
        buffer.int(7);
        seeds.push(buffer.finish().to_vec());
    }
    let traceback = text("Traceback (most recent call last):\n  ValueError: no\n");
    buffer.python_error(PythonError { traceback, ..PythonError::new("ValueError", "no") });
    seeds.push(buffer.finish().to_vec());
    for refusal in [
        Refusal::MalformedTask,
        Refusal::TooLarge { needed: 5000, room: 4096 },
        Refusal::NoSharedMemory { needed: 5000, available: 0, total: 1 << 40 },
        Refusal::Unsupported {
            type_name: text("set"),
            reason: text("it has no place"),
            place: text("answer[0]"),
        },
    ] {
        buffer.refuse(refusal);
        seeds.push(buffer.finish().to_vec());
    }
    seeds.iter().map(|seed| [&[0][..], seed].concat()).collect()
}

fn packets() -> Vec<Vec<u8>> {
    fuzzing::packets()
}
