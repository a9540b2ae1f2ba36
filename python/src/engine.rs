//! The engine as a Python class.

use std::sync::Arc;

use nearcall::{Answer, AsKey, Key, Task, Value, WaitPolicy};
use nearcall_worker::convert;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::completions::Completions;
use crate::task::Parameters;
use crate::ticket::{Named, Ticket};
use crate::waiting::{self, Limit};
use crate::{errors, options, report};

/// What `nearcall.Engine` inherits from.
#[pyclass(frozen, subclass, module = "nearcall._native")]
pub(crate) struct Engine {
    /// `None` from the moment on in which Python lets go of it.
    engine: Option<Arc<nearcall::Engine>>,
    parameters: Parameters,
}

#[inline]
fn object<'py>(py: Python<'py>, answer: &Answer) -> PyResult<Bound<'py, PyAny>> {
    convert::object(py, &answer.value())
}

impl Engine {
    /// Always there while Python can reach it.
    #[inline]
    pub(crate) fn engine(&self) -> &Arc<nearcall::Engine> {
        match &self.engine {
            Some(engine) => engine,
            None => unreachable!("an object that is being dropped was called"),
        }
    }

    #[inline]
    fn submit_named(
        &self,
        py: Python<'_>,
        limit: Limit,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Named> {
        let engine = self.engine();
        let submitted = self.parameters.with_task(py, arguments, |task| {
            let ticket = match limit.deadline() {
                Some(deadline) => engine.submit_by(task, deadline),
                None => engine.submit(task),
            }?;
            let all_slept = AsKey::all_slept(&ticket);
            Ok(Named { key: ticket.into_key(), all_slept })
        })?;
        submitted.map_err(|error| errors::submit(py, &error))
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn new(
        py: Python<'_>,
        model: &str,
        signature: &Bound<'_, PyDict>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let signature = options::signature(signature)?;
        let parameters = Parameters::new(py, &signature);
        let builder = options::builder(model, signature, options)?;
        let started = waiting::aside(py, move || builder.start())?;
        let engine = started.map_err(|error| errors::start(py, &error))?;
        Ok(Self { engine: Some(Arc::new(engine)), parameters })
    }

    /// Accepts a task, and gives its ticket. With a timeout, in seconds, the task itself ends by then.
    #[pyo3(signature = (timeout=None, /, **arguments))]
    fn submit(
        this: &Bound<'_, Self>,
        timeout: Option<f64>,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Ticket> {
        let named = this.get().submit_named(this.py(), Limit::new(timeout)?, arguments)?;
        Ok(Ticket::new(this.clone().unbind(), named))
    }

    /// Accepts a task, and gives its key: a positive number that is the caller's to look after.
    #[pyo3(signature = (timeout=None, /, **arguments))]
    fn submit_key(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        arguments: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        Ok(self.submit_named(py, Limit::new(timeout)?, arguments)?.key.get())
    }

    /// What `submit_key` does, for two arguments that are values, both of them bytes: an executor's.
    fn _submit_bytes(&self, py: Python<'_>, first: &[u8], second: &[u8]) -> PyResult<u64> {
        let first = Value::Bytes(first.to_vec());
        let second = Value::Bytes(second.to_vec());
        let submitted = self.engine().submit(&Task::new().value(&first).value(&second));
        submitted.map(|ticket| ticket.into_key().get()).map_err(|error| errors::submit(py, &error))
    }

    /// Submits a task and waits for its answer. After so many seconds the task is ended.
    #[pyo3(signature = (timeout=None, /, **arguments))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
        arguments: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        struct Abandoned<'e>(&'e nearcall::Engine, Key);
        impl Drop for Abandoned<'_> {
            fn drop(&mut self) {
                self.0.abandon(self.1);
            }
        }
        let limit = Limit::new(timeout)?;
        let named = self.submit_named(py, Limit::new(None)?, arguments)?;
        let engine = self.engine();
        // An interrupt leaves nothing behind.
        let abandoned = Abandoned(engine, named.key);
        let answer = match waiting::wait(py, engine, named, limit)? {
            Some(answer) => answer,
            None => engine.end_late(named).map_err(|error| errors::wait(py, &error))?,
        };
        // Its outcome was taken, and its key is used up.
        std::mem::forget(abandoned);
        object(py, &answer)
    }

    /// Waits for the answer of a task, at most so many seconds, which do not end the task.
    #[pyo3(signature = (task, timeout=None))]
    pub(crate) fn wait<'py>(
        &self,
        py: Python<'py>,
        task: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let waited = waiting::wait(py, self.engine(), Named::read(task)?, Limit::new(timeout)?)?;
        let timed_out = || errors::wait(py, &nearcall::error::WaitError::TimedOut);
        object(py, &waited.ok_or_else(timed_out)?)
    }

    /// Takes the answer of a task; `pending` while it is not done.
    #[pyo3(signature = (task, pending=None))]
    pub(crate) fn retrieve<'py>(
        &self,
        py: Python<'py>,
        task: &Bound<'py, PyAny>,
        pending: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.engine().retrieve(Named::read(task)?) {
            Ok(Some(answer)) => object(py, &answer),
            Ok(None) => Ok(pending.unwrap_or_else(|| py.None().into_bound(py))),
            Err(error) => Err(errors::retrieve(py, &error)),
        }
    }

    /// Ends a task that is not done, waiting or running; whether it was so.
    pub(crate) fn cancel(&self, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.engine().cancel(Named::read(task)?))
    }

    /// Ends a task that no worker has begun; whether it was so.
    fn cancel_waiting(&self, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.engine().cancel_waiting(Named::read(task)?))
    }

    /// Gives a task up: nobody wants its answer.
    fn abandon(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        self.engine().abandon(Named::read(task)?);
        Ok(())
    }

    /// Ends the engine: takes no more tasks, waits at most so many seconds for those accepted. Whether all
    /// were done, and how many workers had to be killed.
    #[pyo3(signature = (timeout=None))]
    fn _shutdown(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<(bool, usize)> {
        let deadline = Limit::new(timeout)?.deadline();
        let engine = Arc::clone(self.engine());
        let shutdown = waiting::aside(py, move || match deadline {
            Some(deadline) => engine.shutdown(deadline),
            None => engine.shutdown(nearcall::Deadline::NEVER),
        })?;
        Ok((shutdown.drained, shutdown.killed))
    }

    /// Replaces all workers by such with the code as it is now. How many, and in how many seconds.
    #[pyo3(signature = (timeout=None))]
    fn _reload(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<(usize, f64)> {
        let deadline = Limit::new(timeout)?.deadline();
        let engine = Arc::clone(self.engine());
        let reloaded = waiting::aside(py, move || match deadline {
            Some(deadline) => engine.reload(deadline),
            None => engine.reload(nearcall::Deadline::NEVER),
        })?;
        let reloaded = reloaded.map_err(|error| errors::reload(py, &error))?;
        Ok((reloaded.workers, reloaded.took.as_secs_f64()))
    }

    /// Has this task's key reported by `Completions.dispatch` once it is over. `True`: it is over already,
    /// and will not be reported.
    fn notify(&self, py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let asked = self.engine().notify(Named::read(task)?.key);
        asked.map_err(|error| errors::retrieve(py, &error))
    }

    /// What an event loop watches to hear of tasks that are over.
    fn completions(&self) -> Completions {
        Completions::new(self.engine().completions())
    }

    /// The process ids of the workers that serve.
    fn worker_pids(&self) -> Vec<u32> {
        self.engine().worker_pids()
    }

    /// How the engine is; `None` in a forked child.
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let engine = Arc::clone(self.engine());
        let Some(health) = py.detach(move || engine.health()) else { return Ok(None) };
        report::health(py, health).map(Some)
    }

    /// What the workers have of the machine's memory, in bytes.
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let engine = Arc::clone(self.engine());
        let memory = py.detach(move || engine.memory());
        memory.into_iter().map(|worker| report::memory(py, worker)).collect()
    }

    /// How the workers came to be.
    #[getter]
    fn start_report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.engine().start_report().map(|started| report::start(py, started)).transpose()
    }

    /// Slots that hold a task or an answer that was not retrieved.
    #[getter]
    fn in_use(&self) -> usize {
        self.engine().in_use()
    }

    /// Workers when the engine is whole.
    #[getter]
    fn workers(&self) -> usize {
        self.engine().workers()
    }

    /// Tasks that the engine holds at once.
    #[getter]
    fn slots(&self) -> usize {
        self.engine().slots()
    }

    /// Room of a slot, in bytes.
    #[getter]
    fn slot_bytes(&self) -> usize {
        self.engine().slot_bytes()
    }

    /// The largest task or answer that does not fit a slot, in bytes.
    #[getter]
    fn payload_bytes(&self) -> usize {
        self.engine().payload_bytes()
    }

    /// The wait policy in force.
    #[getter]
    fn wait_policy(&self) -> &'static str {
        match self.engine().wait_policy() {
            WaitPolicy::Spin => "spin",
            WaitPolicy::Park => "park",
            _ => "adaptive",
        }
    }

    /// The names and kinds of the parameters.
    #[getter]
    fn signature<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let kinds = PyDict::new(py);
        for parameter in self.engine().signature().parameters() {
            kinds.set_item(&parameter.name, parameter.kind.to_string())?;
        }
        Ok(kinds)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may take a third of a second, in which others shall run.
        if let Some(engine) = self.engine.take() {
            Python::attach(|py| py.detach(|| drop(engine)));
        }
    }
}
