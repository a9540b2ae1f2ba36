//! The engine with Python: each promise about models, for every environment in
//! `$NEARCALL_TEST_PYTHONS` (see `scripts/test`, which sets it).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::python::{Python, each, python_error, pythons, refusal};
use common::{Bench, PATIENCE, death, leak_free, signal, wait_until};
use nearcall::error::{CallError, RetrieveError, StartError, TaskError, WaitError};
use nearcall::{
    Builder, DType, Engine, Exit, Refusal, Signature, Task, Tensor, Value, ValueRef, WorkerHealth,
    WorkerState,
};
use nix::sys::signal::Signal;

fn one_str() -> Signature {
    Signature::new().str("how")
}

#[test]
fn a_worker_has_the_packages_of_its_environment_and_the_python_it_was_built_for() {
    each(|bench, python| {
        let engine = python.builder(bench, "promises:environment").start().unwrap();
        let answer = engine.call(&Task::new(), PATIENCE).unwrap();
        assert_eq!(Path::new(answer.str(0).unwrap()), python.environment);
        assert_eq!(answer.str(2), Ok(python.minor.as_str()));
        let engine = python
            .builder(bench, "with_numpy:total")
            .signature(Signature::new().floats("values", ..))
            .start()
            .unwrap();
        assert!(engine.start_report().unwrap().forked, "numpy starts no thread by our leave");
        let answer = engine.call(&Task::new().floats(&[1.0, 2.5]), PATIENCE).unwrap();
        assert_eq!(answer.float(0), Ok(3.5));
    });
}

#[test]
fn a_python_of_another_minor_version_than_the_workers_is_refused() {
    let pythons = pythons();
    if let [first, second, ..] = pythons.as_slice() {
        leak_free(|bench| {
            let builder = first.builder(bench, "promises:echo").python(&second.environment);
            let error = builder.start().unwrap_err();
            let StartError::PythonVersion { found, built_for, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((found, built_for), (second.minor.clone(), first.minor.clone()));
        });
    }
}

#[test]
fn all_workers_draw_different_random_numbers() {
    each(|bench, python| {
        let engine = python.builder(bench, "with_numpy:draws").workers(4).start().unwrap();
        let (mut pids, mut numbers) = (HashSet::new(), HashSet::new());
        let mut calls = 0;
        while pids.len() < 4 {
            let tickets: Vec<_> = (0..8).map(|_| engine.submit(&Task::new()).unwrap()).collect();
            for ticket in tickets {
                let answer = engine.wait(ticket, PATIENCE).unwrap();
                let ValueRef::List(drawn) = answer.value() else { panic!("{answer:?}") };
                let drawn: Vec<_> = drawn.iter().collect();
                let [ValueRef::Int(pid), ValueRef::Float(a), ValueRef::Float(b)] = drawn[..] else {
                    panic!("{drawn:?}")
                };
                pids.insert(pid);
                numbers.extend([a.to_bits(), b.to_bits()]);
                calls += 1;
            }
            assert!(calls < 1_000_000, "only {pids:?} take tasks");
        }
        assert_eq!(numbers.len(), 2 * calls, "numbers drawn twice");
    });
}

/// With `$NEARCALL_TEST_WEIGHTS_MIB`, and `--nocapture`, the figures of docs/memory.md.
#[test]
fn workers_have_one_copy_of_what_the_model_has_preloaded() {
    let mib = std::env::var("NEARCALL_TEST_WEIGHTS_MIB").map_or(128, |mib| mib.parse().unwrap());
    each(|bench, python| {
        // What all processes of an engine take together, once each worker has seen all weights.
        let total = |workers: usize| {
            let builder = python.builder(bench, "shared_weights:Weights").method("pages");
            let builder = builder.env("WEIGHTS_MIB", mib.to_string());
            let engine = builder.workers(workers).start().unwrap();
            let mut seen = HashSet::new();
            wait_until("all have looked", || {
                let tickets: Vec<_> =
                    (0..workers).map(|_| engine.submit(&Task::new()).unwrap()).collect();
                for ticket in tickets {
                    let answer = engine.wait(ticket, PATIENCE).unwrap();
                    assert_eq!(answer.int(0), Ok(mib << 8));
                    seen.insert(answer.int(1).unwrap());
                }
                if seen.len() == workers { Ok(()) } else { Err(format!("{seen:?}")) }
            });
            let memory = engine.memory();
            assert_eq!(memory.len(), workers);
            for worker in &memory {
                assert!(seen.contains(&worker.pid.into()));
                assert!(worker.resident > (mib << 20).cast_unsigned(), "{worker:?}");
                assert!(worker.private < 32 << 20, "its own copy: {worker:?}");
                assert!(worker.private < worker.proportional, "{worker:?}");
            }
            let of_server: u64 = bench
                .processes()
                .into_iter()
                .filter(|pid| !memory.iter().any(|worker| worker.pid == *pid))
                .map(proportional_kilobytes)
                .sum();
            memory.iter().map(|worker| worker.proportional).sum::<u64>() + (of_server << 10)
        };
        let (one, eight) = (total(1), total(8));
        let ratio = eight as f64 / one as f64;
        println!(
            "{mib} MiB preloaded: 1 worker {} MiB, 8 workers {} MiB, {ratio:.3} times",
            one >> 20,
            eight >> 20
        );
        assert!(eight < one + (128 << 20), "{ratio}");
    });
}

/// What a process takes of the machine's memory (PSS).
fn proportional_kilobytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_class_is_constructed_initialised_called_and_finalised_in_each_worker_and_preloaded_once() {
    each(|bench, python| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join(format!("finalized-{}-{}", python.minor, std::process::id()));
        let _ = fs::remove_file(&file);
        let kwargs = format!(r#"{{"finalized": {:?}, "a": [1, null]}}"#, file.to_str().unwrap());
        let engine = python
            .builder(bench, "promises:Recorder")
            .method("run")
            .init_kwargs_json(kwargs)
            .signature(Signature::new().int("x"))
            .start()
            .unwrap();
        let answer = engine.call(&Task::new().int(7), PATIENCE).unwrap();
        let ValueRef::Dict(answer) = answer.value() else { panic!("{answer:?}") };
        assert_eq!(answer.get("x"), Some(ValueRef::Int(7)));
        assert_eq!(answer.get("preloaded_elsewhere"), Some(ValueRef::Bool(true)));
        let texts = |texts: &[&str]| {
            Value::List(texts.iter().map(|text| Value::Str((*text).to_owned())).collect())
        };
        let log = answer.get("log").unwrap().to_owned();
        assert_eq!(log, texts(&["constructed", "initialized"]));
        let ValueRef::Dict(kwargs) = answer.get("kwargs").unwrap() else { panic!() };
        let a = kwargs.get("a").unwrap().to_owned();
        assert_eq!(a, Value::List(vec![Value::Int(1), Value::None]));
        engine.shutdown(PATIENCE);
        let finalized = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(finalized.lines().count(), 2, "each worker once");
    });
}

#[test]
fn every_kind_of_value_goes_in_and_comes_out_unchanged() {
    each(|bench, python| {
        let signature = Signature::new()
            .bool("flag")
            .int("whole")
            .float("real")
            .str("text")
            .bools("flags", ..)
            .ints("wholes", ..)
            .floats("reals", ..)
            .strs("texts", ..);
        let engine = python.builder(bench, "promises:echo").signature(signature).start().unwrap();
        let odd_nan = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
        for real in [f64::NAN, odd_nan, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324] {
            let task = Task::new()
                .bool(true)
                .int(i64::MIN)
                .float(real)
                .str("a\0ü")
                .bools(&[])
                .ints(&[i64::MAX])
                .floats(&[])
                .strs(&["", "日本"]);
            let answer = engine.call(&task, PATIENCE).unwrap();
            assert_eq!(answer.bool(0), Ok(true));
            assert_eq!(answer.int(1), Ok(i64::MIN));
            assert_eq!(answer.float(2).unwrap().to_bits(), real.to_bits());
            assert_eq!(answer.str(3), Ok("a\0ü"));
            let list = |index| answer.get(index).unwrap().to_owned();
            assert_eq!(list(4), Value::List(vec![]));
            assert_eq!(list(5), Value::List(vec![Value::Int(i64::MAX)]));
            assert_eq!(list(6), Value::List(vec![]));
            let texts = ["", "日本"].map(|text| Value::Str(text.to_owned()));
            assert_eq!(list(7), Value::List(texts.to_vec()));
        }
        let engine = python.builder(bench, "promises:kinds").start().unwrap();
        let answer = engine.call(&Task::new(), PATIENCE).unwrap();
        let nested = Value::Dict(vec![("b".to_owned(), Value::Tuple(vec![]))]);
        let expected = Value::Tuple(vec![
            Value::None,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::Float(1.5),
            Value::Str("tëxt\0".to_owned()),
            Value::Bytes(vec![0, 255]),
            Value::List(vec![Value::Int(1), Value::List(vec![Value::Int(2)])]),
            Value::Dict(vec![("a".to_owned(), nested)]),
        ]);
        assert_eq!(answer.value().to_owned(), expected);
    });
}

#[test]
fn a_value_of_any_type_goes_in_and_comes_out_unchanged() {
    each(|bench, python| {
        let signature = Signature::new().value("value");
        let builder = python.builder(bench, "promises:echo_value").signature(signature);
        let engine = builder.start().unwrap();
        let dict = |items: &[(&str, Value)]| {
            Value::Dict(items.iter().map(|(key, item)| ((*key).into(), item.clone())).collect())
        };
        let values = [
            Value::None,
            true.into(),
            i64::MIN.into(),
            "a\0ü".into(),
            vec![0_u8, 255].into(),
            Value::List(vec![]),
            Value::Tuple(vec![]),
            dict(&[]),
            dict(&[
                ("z", Value::List(vec![Value::Tuple(vec![1.into()]), dict(&[("", 0.5.into())])])),
                ("ü\0", Tensor::new(&[2, 1], &[1.5_f32, -0.0]).unwrap().into()),
                ("a", vec![Value::None, "".into()].into()),
            ]),
        ];
        for value in &values {
            let answer = engine.call(&Task::new().value(value), PATIENCE).unwrap();
            assert_eq!(answer.value().to_owned(), *value);
        }
        for bits in [0x7FF8_0000_DEAD_BEEF_u64, 0xFFF0_0000_0000_0001, 1 << 63] {
            let sent = f64::from_bits(bits);
            let answer = engine.call(&Task::new().value(&sent.into()), PATIENCE).unwrap();
            let ValueRef::Float(found) = answer.value() else { panic!("{answer:?}") };
            assert_eq!(found.to_bits(), bits);
        }
    });
}

#[test]
fn a_tensor_of_each_type_is_an_array_in_the_model_and_comes_back_unchanged() {
    each(|bench, python| {
        let engine = |model| {
            let signature = Signature::new().value("value");
            python.builder(bench, model).signature(signature).start().unwrap()
        };
        // The one has imported numpy, the other gets it with the first tensor.
        let (describe, echo) = (engine("with_numpy:describe"), engine("promises:echo_value"));
        for &dtype in DType::ALL {
            for shape in [&[][..], &[2, 3], &[3, 0, 5], &[1; 32]] {
                let len = shape.iter().product::<usize>() * dtype.size();
                let bytes: Vec<_> = (0..len).map(|index| (index % 2) as u8).collect();
                let tensor = Tensor::from_bytes(dtype, shape, bytes.clone()).unwrap();
                let value = Value::from(tensor);
                let task = Task::new().value(&value);
                let extents = shape.iter().map(|extent| Value::Int(*extent as i64)).collect();
                let expected = Value::List(vec![
                    true.into(),
                    dtype.name().into(),
                    Value::Tuple(extents),
                    bytes.into(),
                ]);
                assert_eq!(describe.call(&task, PATIENCE).unwrap().value().to_owned(), expected);
                assert_eq!(echo.call(&task, PATIENCE).unwrap().value().to_owned(), value);
            }
        }
    });
}

#[test]
fn an_array_comes_out_in_c_order_and_a_number_of_numpys_as_a_number() {
    each(|bench, python| {
        let signature = Signature::new().str("which");
        let builder = python.builder(bench, "with_numpy:arrays").signature(signature);
        let engine = builder.start().unwrap();
        let tensor = |shape: &[usize], elements: &[i32]| {
            Value::Tensor(Tensor::new(shape, elements).unwrap())
        };
        for (which, expected) in [
            ("transposed", tensor(&[4, 3], &[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])),
            ("reversed", tensor(&[3, 2], &[11, 9, 7, 5, 3, 1])),
            ("broadcast", tensor(&[2, 4], &[0, 1, 2, 3, 0, 1, 2, 3])),
            ("scalar", Value::Float(1.5)),
            ("rank 0", Tensor::new(&[], &[7_u8]).unwrap().into()),
        ] {
            let answer = engine.call(&Task::new().str(which), PATIENCE).unwrap();
            let expected = Value::Dict(vec![("x".to_owned(), Value::List(vec![expected]))]);
            assert_eq!(answer.value().to_owned(), expected, "{which}");
        }
    });
}

#[test]
fn an_array_that_an_answer_cannot_carry_is_named_with_its_place_and_the_reason() {
    each(|bench, python| {
        let signature = Signature::new().str("which");
        let builder = python.builder(bench, "with_numpy:arrays").signature(signature);
        let engine = builder.start().unwrap();
        let refusal =
            |which: &str| refusal(engine.call(&Task::new().str(which), PATIENCE).unwrap_err());
        let dtype = |dtype| {
            format!(
                "a numpy.ndarray: its dtype is {dtype}, an array's elements are bool, int8 to \
                 int64, uint8 to uint64 or float16 to float64, in this machine's byte order"
            )
        };
        let date =
            "a numpy.ndarray: its memory cannot be read: cannot include dtype 'M' in a buffer";
        for (which, reason) in [
            ("object", dtype("object")),
            ("record", dtype("[('a', '<i4'), ('b', '<f8')]")),
            ("text", dtype("<U2")),
            ("date", date.to_owned()),
            ("big-endian", dtype(">f4")),
            ("complex", dtype("complex64")),
        ] {
            assert_eq!(refusal(which).to_string(), format!("answer['x'][0] is {reason}"));
        }
        // The type's name has changed with numpy's versions.
        for (which, reason) in [
            ("masked", "an answer has no masks: return its filled(), or data and mask apart"),
            (
                "long double",
                "an answer carries None, bool, int, float, str, bytes, arrays of numbers (numpy's, \
                 and all that have the buffer protocol), and lists, tuples and str-keyed dicts of \
                 these",
            ),
        ] {
            let Refusal::Unsupported { reason: found, place, .. } = refusal(which) else {
                panic!("{which}")
            };
            assert_eq!((&*found, &*place), (reason, "answer['x'][0]"));
        }
        let Refusal::TooLarge { needed, .. } = refusal("large") else { panic!() };
        assert!(needed > 1 << 40, "{needed}");
    });
}

#[test]
fn what_a_model_raises_is_an_error_of_that_task_and_the_worker_goes_on() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:misbehave").workers(1);
        let engine = builder.signature(one_str()).start().unwrap();
        let pids = engine.worker_pids();
        for (how, kind, message) in [
            ("raise", "ValueError", "as asked"),
            ("exit", "SystemExit", "3"),
            ("sys.exit", "SystemExit", "bye"),
            ("interrupt", "KeyboardInterrupt", ""),
        ] {
            let error = engine.call(&Task::new().str(how), PATIENCE).unwrap_err();
            let error = python_error(error);
            assert_eq!((error.kind.as_str(), error.message.as_str()), (kind, message));
            assert!(error.traceback.contains("in misbehave"), "{}", error.traceback);
            assert!(error.traceback.contains("promises.py"), "{}", error.traceback);
        }
        for how in ["chdir", "nothing"] {
            let answer = engine.call(&Task::new().str(how), PATIENCE).unwrap();
            assert_eq!(answer.str(0), Ok("fine"), "{how}");
        }
        assert_eq!(engine.worker_pids(), pids, "still the same worker");
    });
}

#[test]
fn what_a_thread_of_the_model_raises_and_memory_that_it_cannot_have_cost_no_worker() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:misbehave").signature(one_str());
        let engine = builder.workers(1).memory_limit(2 << 30).start().unwrap();
        let pids = engine.worker_pids();
        for _ in 0..3 {
            let task = Task::new().str("raise in a thread");
            assert_eq!(engine.call(&task, PATIENCE).unwrap().str(0), Ok("fine"));
            let error = engine.call(&Task::new().str("memory"), PATIENCE).unwrap_err();
            assert_eq!(python_error(error).kind, "MemoryError");
        }
        assert_eq!(engine.worker_pids(), pids, "still the same worker");
    });
}

/// Not a test by itself: run by the next one, which throws the megabytes away.
#[test]
#[ignore = "prints megabytes: run by another test"]
fn megabytes() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:misbehave");
        let engine = builder.signature(one_str()).start().unwrap();
        for _ in 0..4 {
            let answer = engine.call(&Task::new().str("print"), PATIENCE).unwrap();
            assert_eq!(answer.str(0), Ok("fine"));
        }
    });
}

#[test]
fn a_model_that_prints_megabytes_to_stdout_and_stderr_answers_and_stdout_stays_the_hosts() {
    if pythons().is_empty() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "megabytes", "--ignored", "--test-threads=1"]);
    let output = command.stderr(Stdio::null()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{out}");
    assert!(out.len() < 10_000, "the model's output is among the host's");
}

#[test]
fn what_an_answer_cannot_carry_is_named_with_its_type_and_place() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:misbehave").payload_bytes(0);
        let engine = builder.signature(one_str()).start().unwrap();
        let refusal =
            |how: &str| refusal(engine.call(&Task::new().str(how), PATIENCE).unwrap_err());
        for (how, wanted_type, wanted_place) in [
            ("set", "set", "answer[1]"),
            ("big int", "int", "answer[0]"),
            ("surrogate", "str", "answer['x']"),
            ("key", "dict", "answer"),
        ] {
            let Refusal::Unsupported { type_name, reason, place } = refusal(how) else {
                panic!("{how}")
            };
            assert_eq!(type_name, wanted_type, "{how}: {reason}");
            assert!(place.starts_with(wanted_place), "{how}: {place}");
        }
        assert!(matches!(refusal("cycle"), Refusal::Unsupported { .. }));
        assert!(matches!(refusal("large"), Refusal::TooLarge { needed: 5000.., room: 4096 }));
    });
}

#[test]
fn a_model_that_ends_its_process_is_told_with_its_exit_and_replaced() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:misbehave");
        let engine = builder.signature(one_str()).start().unwrap();
        for (how, wanted) in [
            ("os._exit", Exit::Code(7)),
            ("os._exit in a thread", Exit::Code(7)),
            ("os.abort", Exit::Signal(6)),
            ("kill", Exit::Signal(9)),
        ] {
            let error = engine.call(&Task::new().str(how), PATIENCE).unwrap_err();
            let CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Died {
                exit,
                ..
            }))) = error
            else {
                panic!("{error:?}")
            };
            assert_eq!(exit, wanted);
            let answer = engine.call(&Task::new().str("nothing"), PATIENCE).unwrap();
            assert_eq!(answer.str(0), Ok("fine"));
        }
    });
}

#[test]
fn a_model_that_cannot_be_had_fails_the_start_with_pythons_reason() {
    each(|bench, python| {
        let start = |builder: Builder| match builder.start() {
            Err(StartError::Import { error } | StartError::Initialize { error, .. }) => error,
            other => panic!("{other:?}"),
        };
        let model = |model: &str| start(python.builder(bench, model));
        let missing = model("no_such_module:f");
        assert_eq!(missing.kind, "ModuleNotFoundError", "{missing}");
        assert!(missing.message.contains("no_such_module"), "{missing}");
        let missing = model("promises:NoSuchClass");
        assert!(missing.message.contains("NoSuchClass"), "{missing}");
        let missing = start(python.builder(bench, "promises:Recorder").method("no_such_method"));
        assert!(missing.message.contains("no_such_method"), "{missing}");
        let broken = model("broken_module:f");
        assert_eq!((broken.kind.as_str(), broken.message.as_str()), ("OSError", "no such device"));
        assert!(broken.traceback.contains("broken_module.py"), "{}", broken.traceback);
        let raising = start(python.builder(bench, "promises:BadInit").method("run"));
        assert_eq!(raising.message, "no database");
        assert!(raising.traceback.contains("in initialize"), "{}", raising.traceback);
        let not_json = python.builder(bench, "promises:BadInit").method("run");
        let not_json = start(not_json.init_kwargs_json("[1]"));
        assert!(!not_json.message.contains("no database"), "{not_json}");
        // Keywords that the model does not take.
        let wrong = python.builder(bench, "promises:Strict").method("run");
        let wrong = start(wrong.signature(Signature::new().floats("other_features", 3)));
        assert_eq!(wrong.kind, "TypeError");
        assert!(wrong.message.contains("other_features"), "{wrong}");
    });
}

#[test]
fn a_class_without_initialize_finalize_or_method_is_called_itself() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:NoFinalize");
        let engine = builder.signature(Signature::new().int("x")).start().unwrap();
        assert_eq!(engine.call(&Task::new().int(1), PATIENCE).unwrap().int(0), Ok(2));
    });
}

#[test]
fn what_the_import_has_registered_for_the_exit_runs_once_and_in_the_fork_server() {
    each(|bench, python| {
        let engine = python.builder(bench, "promises:leave_behind").workers(1).start().unwrap();
        let folder = engine.call(&Task::new(), PATIENCE).unwrap().str(0).unwrap().to_owned();
        engine.shutdown(PATIENCE);
        assert!(!Path::new(&folder).exists(), "{folder} is left behind");
    });
}

#[test]
fn a_module_that_starts_threads_is_named_and_each_worker_starts_from_scratch() {
    each(|bench, python| {
        let builder = python.builder(bench, "busybody:echo");
        let engine = builder.signature(Signature::new().int("x")).start().unwrap();
        let report = engine.start_report().unwrap();
        assert!(!report.forked && report.import_threads == 2, "{report:?}");
        assert_eq!(report.suspect.as_deref(), Some("busybody"));
        assert_eq!(engine.call(&Task::new().int(3), PATIENCE).unwrap().int(0), Ok(3));
    });
}

#[test]
fn the_seeds_model_runs_unchanged() {
    let seed = std::env::var("NEARCALL_SEED").unwrap_or_else(|_| "../shared/seed".to_owned());
    if !Path::new(&seed).join("py4cc1/py4cc.py").exists() {
        return eprintln!("SKIPPED: the seed's files are not in {seed}; set NEARCALL_SEED");
    }
    each(|bench, python| {
        let engine = python
            .builder(bench, "py4cc1.py4cc:Engine")
            .python_path(&seed)
            .method("run_big_model")
            .signature(
                Signature::new()
                    .floats("float_features", 3)
                    .strs("str_features", 2)
                    .int("int_feature"),
            )
            .start()
            .unwrap();
        let task = Task::new().floats(&[1.1, 11.2, 0.3]).strs(&["abc", "cdavfdv"]).int(27);
        let answer = engine.call(&task, PATIENCE).unwrap();
        assert_eq!((answer.int(0), answer.str(1)), (Ok(12 + 10 + 27), Ok("")));
    });
}

/// A builder for a model that runs for ever in a way that the task names, and can be interrupted.
fn endless(bench: &Bench, python: &Python, model: &str) -> Builder {
    let signature = Signature::new().str("how").str("there");
    python.builder(bench, model).signature(signature).workers(1).interrupt(PATIENCE)
}

/// A task that comes back, whatever it is for.
fn other(how: &str) -> Task<'_> {
    Task::new().str(how).str("")
}

/// Runs a task until it is where it stays for ever, acts, and cancels it.
fn cancel(engine: &Engine, how: &str, act: impl FnOnce()) {
    let there = std::env::temp_dir().join(format!("nearcall-there-{}", std::process::id()));
    let task = Task::new().str(how).str(there.to_str().unwrap());
    let key = engine.submit(&task).unwrap().into_key();
    wait_until("there", || there.exists().then_some(()).ok_or(how.to_owned()));
    act();
    assert!(engine.cancel(key));
    fs::remove_file(&there).unwrap();
}

#[test]
fn a_call_that_is_over_is_interrupted_wherever_python_waits_and_its_worker_lives() {
    each(|bench, python| {
        let engine = endless(bench, python, "promises:endless").start().unwrap();
        let pid = i64::from(engine.worker_pids()[0]);
        let mut cleaned = 0;
        for how in ["loop", "sleep", "lock", "asyncio", "cleaning up", "beside a thread", "sleep"] {
            cancel(&engine, how, || {});
            cleaned += i64::from(how == "cleaning up");
            let answer = engine.call(&other(""), PATIENCE).unwrap();
            assert_eq!((answer.int(0), answer.int(1)), (Ok(pid), Ok(cleaned)), "{how}");
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}

#[test]
fn interrupts_at_any_moment_hit_no_other_task() {
    each(|bench, python| {
        let engine = endless(bench, python, "promises:endless").start().unwrap();
        let pid = i64::from(engine.worker_pids()[0]);
        for round in 0..1000 {
            let deadline = Duration::from_micros(500 + round % 1000);
            let passing = engine.submit_by(&other("short"), deadline).unwrap();
            let answer = engine.call(&other("short"), PATIENCE).unwrap();
            assert_eq!(answer.int(0), Ok(pid));
            drop(passing);
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}

#[test]
fn a_call_that_does_not_heed_the_interrupt_is_killed_after_its_grace() {
    each(|bench, python| {
        let builder = endless(bench, python, "promises:endless");
        let engine = builder.interrupt(Duration::from_millis(100)).start().unwrap();
        let pid = i64::from(engine.worker_pids()[0]);
        cancel(&engine, "stubborn", || {});
        let answer = engine.call(&other(""), PATIENCE).unwrap();
        assert_ne!(answer.int(0), Ok(pid));
    });
}

#[test]
fn a_model_that_handles_sigint_itself_is_interrupted_in_its_own_way() {
    each(|bench, python| {
        let engine = endless(bench, python, "promises:Minded").start().unwrap();
        cancel(&engine, "sleep", || {});
        assert_eq!(engine.call(&other(""), PATIENCE).unwrap().int(0), Ok(1));
    });
}

#[test]
fn a_model_that_can_be_interrupted_still_ignores_sigint_from_others() {
    each(|bench, python| {
        let engine = endless(bench, python, "promises:endless").start().unwrap();
        let pid = engine.worker_pids()[0];
        cancel(&engine, "cleaning up", || {
            signal(pid, Signal::SIGINT);
            let ignored = |status: &str| {
                let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
                u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (libc::SIGINT - 1)) != 0
            };
            assert!(ignored(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap()));
        });
        assert_eq!(engine.call(&other(""), PATIENCE).unwrap().int(0), Ok(pid.into()));
    });
}

#[test]
fn a_crash_in_c_leaves_the_python_stacks_of_all_threads_in_the_error() {
    each(|bench, python| {
        let engine = python
            .builder(bench, "promises:crash")
            .signature(one_str())
            .workers(1)
            .start()
            .unwrap();
        for (how, number, what) in [
            ("null", libc::SIGSEGV, "Segmentation fault"),
            ("SIGSEGV", libc::SIGSEGV, "Segmentation fault"),
            ("SIGABRT", libc::SIGABRT, "Aborted"),
            ("SIGFPE", libc::SIGFPE, "Floating"),
            ("SIGBUS", libc::SIGBUS, "Bus error"),
        ] {
            let (exit, report) = death(&engine, &Task::new().str(how));
            assert_eq!(exit, Exit::Signal(number), "{how}: {report:?}");
            let stack = report.python_stack().unwrap();
            for part in [what, "in crash", "in bystander"] {
                assert!(stack.contains(part), "{how}: {stack}");
            }
        }
        // A model that has its own wish gets it.
        let (exit, report) = death(&engine, &Task::new().str("elsewhere"));
        assert_eq!((exit, report.python_stack()), (Exit::Signal(libc::SIGSEGV), None));
    });
}

#[test]
fn a_call_that_holds_the_gil_in_c_for_ever_ends_at_its_deadline_and_so_does_a_deadlock() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:misbehave").signature(one_str());
        let engine = builder.start().unwrap();
        for how in ["loop_in_c", "deadlock", "loop"] {
            let before = engine.worker_pids();
            let error = engine.call(&Task::new().str(how), Duration::from_millis(100)).unwrap_err();
            let CallError::Wait(WaitError::Retrieve(RetrieveError::Task(error))) = error else {
                panic!("{how}: {error}")
            };
            assert_eq!(error, TaskError::DeadlinePassed, "{how}");
            wait_until("replaced", || {
                let pids = engine.worker_pids();
                let whole = pids.len() == 2 && pids != before;
                whole.then_some(()).ok_or(format!("{how}: {pids:?}"))
            });
            let answer = engine.call(&Task::new().str("nothing"), PATIENCE).unwrap();
            assert_eq!(answer.str(0), Ok("fine"));
        }
    });
}

#[test]
fn a_reload_brings_the_code_that_is_on_disk_and_a_broken_one_is_told_with_its_traceback() {
    each(|bench, python| {
        let name = format!("nearcall-models-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let say = |body: &str| {
            // Python's caches go by the second and the size; so each version has a size of its own.
            fs::write(folder.join("reloaded.py"), format!("def answer():\n    {body}\n")).unwrap();
        };
        say("return 1");
        let builder = python.builder(bench, "reloaded:answer").python_path(&folder);
        let engine = builder.env("PYTHONDONTWRITEBYTECODE", "1").start().unwrap();
        let answer = || engine.call(&Task::new(), PATIENCE).unwrap().int(0).unwrap();
        assert_eq!(answer(), 1);
        say("return 20");
        engine.reload(PATIENCE).unwrap();
        assert_eq!(answer(), 20);
        say("return (");
        let error = engine.reload(PATIENCE).unwrap_err().to_string();
        assert!(error.contains("SyntaxError") && error.contains("reloaded.py"), "{error}");
        assert_eq!(answer(), 20);
        drop(engine);
        fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn a_pool_with_numpy_is_whole_again_within_milliseconds_of_a_death() {
    each(|bench, python| {
        for spare in [false, true] {
            let builder = python.builder(bench, "with_numpy:total").workers(8).spare(spare);
            let builder = builder.signature(Signature::new().floats("values", ..));
            let engine = builder.start().unwrap();
            let mut times = Vec::new();
            // Each of the first eight once: a second short life would be waited for.
            for died in engine.worker_pids() {
                wait_until("standing by", || {
                    let health = engine.health().unwrap();
                    let stands = |w: &WorkerHealth| w.state == WorkerState::Standby;
                    let ready = !spare || health.workers.iter().any(stands);
                    ready.then_some(()).ok_or(format!("{health:?}"))
                });
                signal(died, Signal::SIGKILL);
                let killed = Instant::now();
                wait_until("whole", || {
                    let pids = engine.worker_pids();
                    let whole = pids.len() == 8 && !pids.contains(&died);
                    std::thread::sleep(Duration::from_micros(20));
                    whole.then_some(()).ok_or(format!("{pids:?}"))
                });
                times.push(killed.elapsed());
            }
            times.sort_unstable();
            let median = times[times.len() / 2];
            eprintln!("numpy {}, spare {spare}: whole again after {median:?}", python.minor);
            // Promised are 10 ms, where a CPU is free.
            assert!(median < Duration::from_millis(100), "{times:?}");
        }
    });
}
