//! From `module:callable` to a model that answers tasks: found and checked in the fork server,
//! constructed in the worker. The crate's documentation has the protocol.

use nearcall::peer::{Kind, ModelSpec, Signature};
use pyo3::exceptions::{PyAttributeError, PyModuleNotFoundError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyTuple, PyType};

use crate::arguments::Arguments;
use crate::callee::Callee;
use crate::garbage::Collector;
use crate::handler::PythonModel;
use crate::numpy::Numpy;
use crate::{forks, in_place, signature};

/// A model that was found, and can be called as far as could be checked without doing it.
pub(crate) struct Blueprint {
    target: Target,
    signature: Signature,
    collect_between_calls: bool,
}

enum Target {
    /// Called as it is.
    Callable(Py<PyAny>),
    /// Constructed in each worker.
    Class(Class),
}

struct Class {
    class: Py<PyType>,
    method: String,
    /// The arguments of `initialize`, if the class has one.
    initialize: Option<Py<PyDict>>,
    /// Whether the class has a `finalize`.
    finalize: bool,
}

impl Blueprint {
    /// Imports the module, finds the callable, checks all that can be checked before there is a
    /// worker, and preloads.
    ///
    /// # Errors
    /// What the model's code raises, or what Python would for what is missing.
    pub(crate) fn import(
        py: Python<'_>,
        spec: &ModelSpec,
        signature: &Signature,
        collect_between_calls: bool,
    ) -> PyResult<Self> {
        let module = import_module(py, spec)?;
        let callable = find_callable(&module, spec)?;
        let init_kwargs = init_kwargs(py, spec)?;
        let name = format!("{}:{}", spec.module, spec.callable);
        let target = match callable.cast::<PyType>() {
            Ok(class) => {
                let target = Class::check(class, &name, spec, init_kwargs, signature)?;
                if !preload_class(class, &name)? {
                    preload_module(&module)?;
                }
                Target::Class(target)
            }
            Err(_) => {
                let target = check_callable(callable, &name, spec, &init_kwargs, signature)?;
                preload_module(&module)?;
                Target::Callable(target.unbind())
            }
        };
        let this = Self { target, signature: signature.clone(), collect_between_calls };
        if this.takes_tensors() {
            // For tensors: here it is shared, and no task's deadline or interrupt can come in between. A
            // numpy that cannot be imported is told to the task that needs it.
            drop(Numpy::import(py));
            in_place::prepare(py);
        }
        Ok(this)
    }

    /// Whether a task may have tensors.
    fn takes_tensors(&self) -> bool {
        self.signature.parameters().iter().any(|parameter| parameter.kind == Kind::Any)
    }

    /// Makes the model in a worker.
    ///
    /// # Errors
    /// What its constructor or `initialize` raises.
    pub(crate) fn instantiate(&self, py: Python<'_>) -> PyResult<PythonModel> {
        let arguments = Arguments::new(py, &self.signature)?;
        if self.takes_tensors() {
            // Here, so that the fork server's own forks do not call it.
            forks::watch(py)?;
        }
        let (callable, finalize) = match &self.target {
            Target::Callable(callable) => (callable.bind(py).clone(), None),
            Target::Class(target) => target.instantiate(py)?,
        };
        // After the model's own code, which may have set the collector up as it likes.
        let collector = self.collect_between_calls.then(|| Collector::take_over(py)).flatten();
        Ok(PythonModel::new(py, Callee::new(callable)?, arguments, finalize, collector))
    }
}

/// Imports the model's module. If it is not there, says where it was looked for.
fn import_module<'py>(py: Python<'py>, spec: &ModelSpec) -> PyResult<Bound<'py, PyModule>> {
    let wanted = spec.module.as_str();
    py.import(wanted).map_err(|error| {
        // Or is it that something which the module imports is missing?
        let missing = error.value(py).getattr("name").and_then(|name| name.extract::<String>());
        let is_wanted = missing.is_ok_and(|missing| {
            wanted
                .strip_prefix(&missing)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if !is_wanted || !error.is_instance_of::<PyModuleNotFoundError>(py) {
            return error;
        }
        let places = match spec.python_path.as_slice() {
            [] => "on Python's own path only: no python_path is configured".to_owned(),
            folders => format!("in {}, then on Python's own path", folders.join(", ")),
        };
        let reason = error.value(py);
        PyModuleNotFoundError::new_err(format!("{reason} (looked for {wanted:?} {places})"))
    })
}

/// Follows the dotted name into the module.
fn find_callable<'py>(
    module: &Bound<'py, PyModule>,
    spec: &ModelSpec,
) -> PyResult<Bound<'py, PyAny>> {
    let py = module.py();
    let mut found = module.as_any().clone();
    let mut place = match module.filename() {
        Ok(file) => format!("module {} ({})", spec.module, file.to_string_lossy()),
        Err(_) => format!("module {}", spec.module),
    };
    for name in spec.callable.split('.') {
        found = found.getattr(name).map_err(|error| {
            if !error.is_instance_of::<PyAttributeError>(py) {
                return error;
            }
            PyAttributeError::new_err(format!("{place} has no {name:?}"))
        })?;
        place = format!("{name} of {place}");
    }
    Ok(found)
}

/// The configured arguments of `initialize`; empty if there are none.
fn init_kwargs<'py>(py: Python<'py>, spec: &ModelSpec) -> PyResult<Bound<'py, PyDict>> {
    let Some(json) = &spec.init_kwargs_json else { return Ok(PyDict::new(py)) };
    let value = py.import("json")?.call_method1("loads", (json,)).map_err(|error| {
        let reason = error.value(py);
        PyValueError::new_err(format!("init_kwargs_json is not valid JSON: {reason}"))
    })?;
    value.cast_into().map_err(|error| {
        let class = error.into_inner().get_type();
        PyTypeError::new_err(format!(
            "init_kwargs_json must be a JSON object, as in {{\"name\": value}}, not a {class}"
        ))
    })
}

impl Class {
    fn check(
        class: &Bound<'_, PyType>,
        name: &str,
        spec: &ModelSpec,
        init_kwargs: Bound<'_, PyDict>,
        signature: &Signature,
    ) -> PyResult<Self> {
        let method = spec.method.as_deref().unwrap_or("__call__");
        let Some(attribute) = defined(class, method)? else {
            let hint = if spec.method.is_none() { ": name the method to call" } else { "" };
            return Err(PyAttributeError::new_err(format!("class {name} has no {method:?}{hint}")));
        };
        let what = format!("{name}.{method}");
        let takes_self = takes_self(&attribute)?;
        signature::check(&class.getattr(method)?, takes_self, signature, &what)?;
        let initialize = defined(class, "initialize")?.is_some();
        if !initialize && !init_kwargs.is_empty() {
            return Err(no_init_kwargs(&format!("class {name} has no initialize(**kwargs)")));
        }
        Ok(Self {
            class: class.clone().unbind(),
            method: method.to_owned(),
            initialize: initialize.then(|| init_kwargs.unbind()),
            finalize: defined(class, "finalize")?.is_some(),
        })
    }

    /// The method to call, and the one to end with, of a new instance.
    fn instantiate<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
        let instance = self.class.bind(py).call0()?;
        if let Some(kwargs) = &self.initialize {
            instance.call_method("initialize", (), Some(kwargs.bind(py)))?;
        }
        let finalize = if self.finalize { Some(instance.getattr("finalize")?) } else { None };
        Ok((instance.getattr(&*self.method)?, finalize))
    }
}

/// Whether an attribute of a class gets the instance as its first argument: what has `__get__`
/// does, these two excepted.
fn takes_self(attribute: &Bound<'_, PyAny>) -> PyResult<bool> {
    let builtins = attribute.py().import("builtins")?;
    let unbound = [builtins.getattr("staticmethod")?, builtins.getattr("classmethod")?];
    let unbound = PyTuple::new(attribute.py(), unbound)?;
    Ok(attribute.get_type().hasattr("__get__")? && !attribute.is_instance(&unbound)?)
}

/// Whatever is not a class: the object to call.
fn check_callable<'py>(
    object: Bound<'py, PyAny>,
    name: &str,
    spec: &ModelSpec,
    init_kwargs: &Bound<'py, PyDict>,
    signature: &Signature,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if !init_kwargs.is_empty() {
        return Err(no_init_kwargs(&format!("{name} is no class, so it has no initialize")));
    }
    let (callable, what) = match &spec.method {
        None => (object, name.to_owned()),
        Some(method) => {
            let callable = object.getattr(&**method).map_err(|error| {
                if !error.is_instance_of::<PyAttributeError>(py) {
                    return error;
                }
                PyAttributeError::new_err(format!("{name} has no {method:?}"))
            })?;
            (callable, format!("{name}.{method}"))
        }
    };
    if !callable.is_callable() {
        let class = callable.get_type();
        return Err(PyTypeError::new_err(format!("{what} cannot be called: it is a {class}")));
    }
    signature::check(&callable, false, signature, &what)?;
    Ok(callable)
}

fn no_init_kwargs(reason: &str) -> PyErr {
    PyTypeError::new_err(format!("init_kwargs_json is given, but {reason}"))
}

/// Preloads what workers of this class share. `false`: the class has no `preload`.
fn preload_class(class: &Bound<'_, PyType>, name: &str) -> PyResult<bool> {
    let Some(attribute) = defined(class, "preload")? else { return Ok(false) };
    if attribute.is_instance_of::<PyFunction>() {
        return Err(PyTypeError::new_err(format!(
            "{name}.preload runs before there is an instance: make it a @classmethod (or a \
             @staticmethod)"
        )));
    }
    class.call_method0("preload")?;
    Ok(true)
}

fn preload_module(module: &Bound<'_, PyModule>) -> PyResult<()> {
    match module.getattr("preload") {
        Ok(preload) if preload.is_callable() => preload.call0().map(drop),
        // Some other thing of that name, or none.
        _ => Ok(()),
    }
}

/// What a class or one of its bases says under this name, as it stands there. (`getattr` would
/// also look into the metaclass, and bind what it finds.)
fn defined<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in class.mro() {
        let attributes = base.getattr("__dict__")?;
        if attributes.contains(name)? {
            return attributes.get_item(name).map(Some);
        }
    }
    Ok(None)
}
