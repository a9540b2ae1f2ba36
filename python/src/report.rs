//! What an engine tells of itself, as dicts.

use std::time::Duration;

use nearcall::{Health, Key, StartReport, WorkerMemory, WorkerState};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

pub(crate) fn health(py: Python<'_>, health: Health) -> PyResult<Bound<'_, PyDict>> {
    let told = PyDict::new(py);
    told.set_item("is_well", health.is_well)?;
    told.set_item("takes_tasks", health.takes_tasks)?;
    told.set_item("supervisor_responds", health.supervisor_responds)?;
    told.set_item("wanted", health.wanted)?;
    told.set_item("in_use", health.in_use)?;
    told.set_item("deaths", health.deaths)?;
    let workers = PyList::empty(py);
    for worker in health.workers {
        let one = PyDict::new(py);
        one.set_item("place", worker.place)?;
        one.set_item("pid", worker.pid)?;
        one.set_item("state", state(worker.state))?;
        one.set_item("running", worker.running.map(|(key, _)| key.get()))?;
        let seconds = worker.running.map(|(_, time): (Key, Duration)| time.as_secs_f64());
        one.set_item("running_for", seconds)?;
        one.set_item("tasks", worker.tasks)?;
        workers.append(one)?;
    }
    told.set_item("workers", workers)?;
    Ok(told)
}

pub(crate) fn memory(py: Python<'_>, worker: WorkerMemory) -> PyResult<Bound<'_, PyDict>> {
    let one = PyDict::new(py);
    one.set_item("pid", worker.pid)?;
    one.set_item("resident", worker.resident)?;
    one.set_item("proportional", worker.proportional)?;
    one.set_item("private", worker.private)?;
    Ok(one)
}

pub(crate) fn start<'py>(py: Python<'py>, report: &StartReport) -> PyResult<Bound<'py, PyDict>> {
    let told = PyDict::new(py);
    told.set_item("worker", report.worker.as_os_str())?;
    told.set_item("python", report.python.as_ref().map(|python| python.as_os_str()))?;
    told.set_item("forked", report.forked)?;
    told.set_item("import_threads", report.import_threads)?;
    told.set_item("suspect", &report.suspect)?;
    Ok(told)
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Standby => "standby",
        WorkerState::Idle => "idle",
        WorkerState::Running => "running",
        WorkerState::Computing => "computing",
        WorkerState::Stuck => "stuck",
        WorkerState::Stopped => "stopped",
        WorkerState::Leaving => "leaving",
        WorkerState::Ended => "ended",
        _ => "unknown",
    }
}
