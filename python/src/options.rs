//! What an engine is started with: Python's keywords to the builder's settings.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nearcall::{Builder, Engine, Kind, Len, Scalar, Signature, StartMethod, WaitPolicy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// A builder with these settings; those that are `None` stay as they are.
pub(crate) fn builder(
    model: &str,
    signature: Signature,
    options: &Bound<'_, PyDict>,
) -> PyResult<Builder> {
    let mut builder = Engine::builder(model).signature(signature);
    for (name, value) in options {
        if !value.is_none() {
            builder = set(builder, name.cast::<PyString>()?.to_str()?, &value)?;
        }
    }
    Ok(builder)
}

fn set(builder: Builder, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Builder> {
    Ok(match name {
        "method" => builder.method(value.extract::<String>()?),
        "init_kwargs_json" => builder.init_kwargs_json(value.extract::<String>()?),
        "python" => builder.python(value.extract::<PathBuf>()?),
        "python_path" => {
            let folders = value.extract::<Vec<PathBuf>>()?;
            folders.into_iter().fold(builder, Builder::python_path)
        }
        "worker" => builder.worker(value.extract::<PathBuf>()?),
        "worker_from_python" => match value.is_truthy()? {
            true => builder.worker_from_python(),
            false => builder,
        },
        "interpreter_options" => builder.interpreter_options(value.extract::<Vec<OsString>>()?),
        "env" => {
            let variables = value.extract::<Vec<(OsString, OsString)>>()?;
            variables.into_iter().fold(builder, |builder, (name, value)| builder.env(name, value))
        }
        "clear_env" => builder.clear_env(value.is_truthy()?),
        "compute_threads" => builder.compute_threads(value.extract()?),
        "workers" => builder.workers(value.extract()?),
        "slots" => builder.slots(value.extract()?),
        "slot_bytes" => builder.slot_bytes(value.extract()?),
        "payload_bytes" => builder.payload_bytes(value.extract()?),
        "retries" => builder.retries(value.extract()?),
        "interrupt" => builder.interrupt(seconds(name, value)?),
        "spare" => builder.spare(value.is_truthy()?),
        "hung_after" => builder.hung_after(seconds(name, value)?),
        "max_tasks" => builder.max_tasks(value.extract()?),
        "max_age" => builder.max_age(seconds(name, value)?),
        "max_rss" => builder.max_rss(value.extract()?),
        "memory_limit" => builder.memory_limit(value.extract()?),
        "descriptor_limit" => builder.descriptor_limit(value.extract()?),
        "cpu_limit" => builder.cpu_limit(value.extract()?),
        "start_deadline" => builder.start_deadline(seconds(name, value)?),
        "collect_garbage_between_calls" => {
            builder.collect_garbage_between_calls(value.is_truthy()?)
        }
        "wait_policy" => builder.wait_policy(match value.extract::<&str>()? {
            "adaptive" => WaitPolicy::Adaptive,
            "spin" => WaitPolicy::Spin,
            "park" => WaitPolicy::Park,
            other => return Err(unknown(name, other, "\"adaptive\", \"spin\" or \"park\"")),
        }),
        "start_method" => builder.start_method(match value.extract::<&str>()? {
            "auto" => StartMethod::Auto,
            "fork" => StartMethod::Fork,
            "spawn" => StartMethod::Spawn,
            other => return Err(unknown(name, other, "\"auto\", \"fork\" or \"spawn\"")),
        }),
        _ => return Err(PyTypeError::new_err(format!("there is no setting {name:?}"))),
    })
}

fn unknown(name: &str, found: &str, known: &str) -> PyErr {
    PyValueError::new_err(format!("{name} is {known}, not {found:?}"))
}

fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{name} = {seconds} is no time in seconds")))
}

/// A signature of `{"name": kind}`, where a kind is `"int"`, `"floats"`, and so on, or
/// `("floats", 3)`, `("floats", 1, 3)` for so many items.
pub(crate) fn signature(kinds: &Bound<'_, PyDict>) -> PyResult<Signature> {
    let mut signature = Signature::new();
    for (name, kind) in kinds {
        let name = name.extract::<String>()?;
        let kind = self::kind(&name, &kind)?;
        signature = signature.parameter(name, kind);
    }
    Ok(signature)
}

fn kind(name: &str, kind: &Bound<'_, PyAny>) -> PyResult<Kind> {
    let no_kind = || {
        let shown = kind.repr().map(|shown| shown.to_string()).unwrap_or_default();
        PyValueError::new_err(format!(
            "parameter {name:?}: {shown} is no kind of parameter; there are \"bool\", \"int\", \"float\", \
             \"str\", \"bools\", \"ints\", \"floats\", \"strs\" (lists; (\"floats\", 3) for exactly three, \
             (\"floats\", 1, 3) for one to three) and \"value\""
        ))
    };
    if let Ok(word) = kind.cast::<PyString>() {
        return named(word.to_str()?, Len::ANY).ok_or_else(no_kind);
    }
    let parts = kind.cast::<PyTuple>().map_err(|_| no_kind())?;
    let word: String = parts.get_item(0).and_then(|word| word.extract()).map_err(|_| no_kind())?;
    let len = match parts.len() {
        2 => parts.get_item(1)?.extract::<u32>().map(Len::from),
        3 => parts.extract::<(String, u32, u32)>().map(|(_, min, max)| Len::from(min..=max)),
        _ => return Err(no_kind()),
    };
    match named(&word, len.map_err(|_| no_kind())?) {
        Some(kind @ Kind::List(..)) => Ok(kind),
        _ => Err(no_kind()),
    }
}

fn named(word: &str, len: Len) -> Option<Kind> {
    Some(match word {
        "bool" => Kind::One(Scalar::Bool),
        "int" => Kind::One(Scalar::Int),
        "float" => Kind::One(Scalar::Float),
        "str" => Kind::One(Scalar::Str),
        "bools" => Kind::List(Scalar::Bool, len),
        "ints" => Kind::List(Scalar::Int, len),
        "floats" => Kind::List(Scalar::Float, len),
        "strs" => Kind::List(Scalar::Str, len),
        "value" => Kind::Any,
        _ => return None,
    })
}
