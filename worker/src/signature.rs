//! Whether a model can be called with the keywords that the host declared.

use nearcall::peer::Signature;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// Binds the signature's keywords to what `callable` takes, without calling it. `takes_self`: a
/// function of a class, whose first argument will be the instance. `what` names it in the error.
///
/// What tells nothing about itself (many builtins) is not checked: its calls will tell.
///
/// # Errors
/// A `TypeError` that names the keywords and what the callable takes.
pub(crate) fn check(
    callable: &Bound<'_, PyAny>,
    takes_self: bool,
    signature: &Signature,
    what: &str,
) -> PyResult<()> {
    let py = callable.py();
    let options = PyDict::new(py);
    // A decorated function is called through its wrapper; what it wraps may take other arguments.
    options.set_item("follow_wrapped", false)?;
    let inspect = py.import("inspect")?;
    let Ok(takes) = inspect.call_method("signature", (callable,), Some(&options)) else {
        return Ok(());
    };
    let names = signature.parameters().iter().map(|parameter| parameter.name.as_str());
    let keywords = PyDict::new(py);
    for name in names.clone() {
        keywords.set_item(name, py.None())?;
    }
    let instance: &[Py<PyAny>] = if takes_self { &[py.None()] } else { &[] };
    takes.call_method("bind", PyTuple::new(py, instance)?, Some(&keywords)).map_err(|error| {
        let names = names.collect::<Vec<_>>().join(", ");
        let reason = error.value(py);
        PyTypeError::new_err(format!(
            "{what} does not take the keywords declared in the signature ({names}): {reason}; \
             it takes {takes}"
        ))
    })?;
    Ok(())
}
