//! Waits without the GIL. Now and then they look whether a signal has come, whose handler may raise
//! (`KeyboardInterrupt`), which ends the wait.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nearcall::error::WaitError;
use nearcall::{Answer, AsKey};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::errors;

/// How long a signal may have to wait.
const LOOK: Duration = Duration::from_millis(50);

/// A time limit as Python gives it: seconds, or `None` for ever.
#[derive(Clone, Copy)]
pub(crate) struct Limit(Option<Duration>);

impl Limit {
    pub(crate) fn new(seconds: Option<f64>) -> PyResult<Self> {
        match seconds {
            None => Ok(Self(None)),
            Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("a timeout of NaN")),
            // One that no clock can express never comes.
            Some(seconds) => Ok(Self(Duration::try_from_secs_f64(seconds.max(0.0)).ok())),
        }
    }

    /// Counted from now.
    pub(crate) fn deadline(self) -> Option<Instant> {
        Instant::now().checked_add(self.0?)
    }
}

/// Waits for the answer of a task. `None`: the limit has passed, and the task goes on.
pub(crate) fn wait(
    py: Python<'_>,
    engine: &nearcall::Engine,
    task: impl AsKey + Copy + Sync,
    limit: Limit,
) -> PyResult<Option<Answer>> {
    // One that is answered within the first look reads no clock.
    let first = limit.0.map_or(LOOK, |limit| limit.min(LOOK));
    let deadline = limit.0.is_some_and(|limit| limit > LOOK).then(|| limit.deadline()).flatten();
    let is_short = limit.0.is_some_and(|limit| limit <= LOOK);
    let mut slice = first;
    loop {
        match py.detach(|| engine.wait(task, slice)) {
            Ok(answer) => return Ok(Some(answer)),
            Err(WaitError::TimedOut) => {}
            Err(error) => return Err(errors::wait(py, &error)),
        }
        py.check_signals()?;
        if is_short {
            return Ok(None);
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            slice = left.min(LOOK);
        }
    }
}

/// Does what may take long on a thread of its own, and waits for it; a signal ends the wait, not what is
/// done: its result is dropped there.
pub(crate) fn aside<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (done, mut result) = sync_channel(1);
    let thread = thread::Builder::new().name("nearcall-wait".to_owned());
    thread.spawn(move || done.send(work()))?;
    loop {
        // Borrowed as for itself alone: it may go to another thread, but not be shared with one.
        let result = &mut result;
        match py.detach(move || result.recv_timeout(LOOK)) {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("a thread of nearcall's has panicked"));
            }
        }
    }
}
