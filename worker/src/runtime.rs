//! The fork server's side of the worker: what `nearcall::peer` asks of a language.

use std::marker::PhantomData;

use nearcall::peer::{PythonError, Runtime, Setup, ThreadReport};
use pyo3::prelude::*;

use crate::exception;
use crate::handler::PythonModel;
use crate::interpreter;
use crate::model::Blueprint;
use crate::threads::ImportWatch;

/// CPython, from the start of the interpreter to a model in each worker.
///
/// # Invariants
/// If there is a blueprint, then this thread has started the interpreter, and is attached (see
/// [`interpreter`]); the marker keeps `self` there.
pub(crate) struct PythonRuntime {
    blueprint: Option<Blueprint>,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl PythonRuntime {
    pub(crate) fn new() -> Self {
        Self { blueprint: None, _stays_on_its_thread: PhantomData }
    }
}

impl Runtime for PythonRuntime {
    type Model = PythonModel;

    fn import(&mut self, setup: &Setup) -> Result<ThreadReport, PythonError> {
        interpreter::start(&setup.executable)?;
        Python::attach(|py| {
            let (blueprint, report) =
                import(py, setup).map_err(|error| exception::describe(py, &error))?;
            self.blueprint = Some(blueprint);
            Ok(report)
        })
    }

    fn before_fork(&mut self) {
        if self.blueprint.is_some() {
            // SAFETY: attached, by the type's invariant; so below.
            unsafe { interpreter::before_fork() };
        }
    }

    fn after_fork_parent(&mut self) {
        if self.blueprint.is_some() {
            // SAFETY: as above, and the trait has `before_fork` called first.
            unsafe { interpreter::after_fork_parent() };
        }
    }

    fn after_fork_child(&mut self) {
        if self.blueprint.is_some() {
            // SAFETY: as above, in the child.
            unsafe { interpreter::after_fork_child() };
        }
    }

    fn instantiate(&mut self) -> Result<PythonModel, PythonError> {
        let Some(blueprint) = &self.blueprint else {
            return Err(PythonError {
                kind: "RuntimeError".to_owned(),
                message: "the model was not imported".to_owned(),
                traceback: String::new(),
            });
        };
        Python::attach(|py| {
            blueprint.instantiate(py).map_err(|error| exception::describe(py, &error))
        })
    }

    fn end(&mut self) {
        if self.blueprint.is_some() {
            Python::attach(interpreter::wind_down);
        }
    }
}

fn import(py: Python<'_>, setup: &Setup) -> PyResult<(Blueprint, ThreadReport)> {
    interpreter::extend_path(py, &setup.model.python_path)?;
    interpreter::prepare_children(py)?;
    let watch = ImportWatch::start(py)?;
    let blueprint =
        Blueprint::import(py, &setup.model, &setup.signature, setup.collect_between_calls)?;
    interpreter::freeze_heap(py)?;
    let report = watch.finish(&format!("{}, in preload()", setup.model.module));
    Ok((blueprint, report))
}
