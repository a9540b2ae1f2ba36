//! Python's exceptions as [`PythonError`]: for the host, which must get one whatever a model
//! raises. Nothing here panics, exits, or trusts an exception's own methods.

use std::io::{self, Write};

use nearcall::peer::PythonError;
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyType};

/// Describes an exception as Python would print it.
#[cold]
pub(crate) fn describe(py: Python<'_>, error: &PyErr) -> PythonError {
    let value = error.value(py);
    let kind = type_name(&value.get_type());
    let message = match value.str() {
        Ok(message) => text(&message),
        // `__str__` may raise anything. The words are those of `traceback`.
        Err(_) => "<exception str() failed>".to_owned(),
    };
    let traceback = format(py, error).unwrap_or_else(|problem| {
        let reason = type_name(&problem.get_type(py));
        let frames = error.traceback(py).and_then(|frames| frames.format().ok());
        let frames = frames.unwrap_or_default();
        format!("{frames}{kind}: {message}\n(the traceback module raised {reason})\n")
    });
    PythonError { kind, message, traceback }
}

/// `traceback.format_exception`: with causes, contexts, notes, and the parts of groups.
fn format(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    let arguments = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", arguments)?;
    let mut joined = String::new();
    for line in lines.try_iter()? {
        joined.push_str(&text(line?.cast::<PyString>()?));
    }
    Ok(joined)
}

/// A type's qualified name, with its module unless that is `builtins`.
pub(crate) fn type_name(class: &Bound<'_, PyType>) -> String {
    // Both attributes can be set to anything, and a metaclass can make them raise.
    let attribute = |name: &str| {
        let value = class.getattr(name).ok()?;
        value.cast::<PyString>().ok().map(text)
    };
    let name = attribute("__qualname__").unwrap_or_else(|| "<unnamed type>".to_owned());
    match attribute("__module__") {
        Some(module) if module != "builtins" => format!("{module}.{name}"),
        _ => name,
    }
}

/// A string's text; lone surrogates, which UTF-8 does not have, become `\udc80` and the like.
pub(crate) fn text(string: &Bound<'_, PyString>) -> String {
    let escaped = || {
        let class = string.py().get_type::<PyString>();
        // The type's own method: a subclass may have overridden it.
        let bytes = class.call_method1("encode", (string, "utf-8", "backslashreplace")).ok()?;
        Some(String::from_utf8_lossy(bytes.cast::<PyBytes>().ok()?.as_bytes()).into_owned())
    };
    match string.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => escaped().unwrap_or_else(|| "<unreadable>".to_owned()),
    }
}

/// Tells a person about an exception that nobody waits for. Unlike Python's own printing it does
/// not end the process when that is a `SystemExit`.
#[cold]
pub(crate) fn print(py: Python<'_>, whence: &str, error: &PyErr) {
    let error = describe(py, error);
    // If stderr is gone there is nobody to tell that either.
    let _ = writeln!(io::stderr(), "nearcall-worker: {whence} raised:\n{}", error.traceback);
}

/// The position of a string's first lone surrogate, if that is what `error` is about.
pub(crate) fn surrogate_at(py: Python<'_>, error: &PyErr) -> Option<usize> {
    if !error.is_instance_of::<PyUnicodeEncodeError>(py) {
        return None;
    }
    error.value(py).getattr("start").ok()?.extract().ok()
}
