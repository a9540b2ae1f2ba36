//! A worker's model: the hot path from task bytes to answer bytes.

use std::marker::PhantomData;

use nearcall::peer::{AnswerBuf, Handler, Refusal};
use pyo3::prelude::*;

use crate::arguments::{Arguments, Unreadable};
use crate::callee::Callee;
use crate::garbage::Collector;
use crate::interpreter::{self, ThreadState};
use crate::{answer, exception};

/// A model that was constructed and initialised.
///
/// # Invariants
/// The thread that has it is attached (see [`interpreter`]); the marker keeps it there.
pub(crate) struct PythonModel {
    callee: Callee,
    arguments: Arguments,
    /// What the last call returned, until it is tidied away.
    result: Option<Py<PyAny>>,
    finalize: Option<Py<PyAny>>,
    /// `None`: garbage is collected when Python sees fit.
    collector: Option<Collector>,
    thread: ThreadState,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl PythonModel {
    /// A model that answers by calling `callee` with `arguments`.
    ///
    /// The token must be that of the thread that started the interpreter.
    pub(crate) fn new(
        py: Python<'_>,
        callee: Callee,
        arguments: Arguments,
        finalize: Option<Bound<'_, PyAny>>,
        collector: Option<Collector>,
    ) -> Self {
        Self {
            thread: ThreadState::current(py),
            callee,
            arguments,
            result: None,
            finalize: finalize.map(Bound::unbind),
            collector,
            _stays_on_its_thread: PhantomData,
        }
    }
}

impl Handler for PythonModel {
    fn handle(&mut self, task: &[u8], answer: &mut AnswerBuf) {
        // SAFETY: the type's invariant. The token does not leave this call.
        let py = unsafe { Python::assume_attached() };
        let result = match self.arguments.place(py, task) {
            Ok(()) => self.arguments.call(py, &self.callee),
            Err(Unreadable::Malformed) => return answer.refuse(Refusal::MalformedTask),
            Err(Unreadable::Raised) => None,
        };
        match result {
            Some(result) => {
                answer::write(&result, answer);
                self.result = Some(result.unbind());
            }
            None => raised(answer),
        }
    }

    fn interrupter(&mut self) -> Option<fn()> {
        Python::attach(|py| match interpreter::heed_interrupts(py) {
            Ok(()) => Some(interpreter::interrupt as fn()),
            Err(error) => {
                exception::print(py, "preparing for interrupts", &error);
                None
            }
        })
    }

    fn forget_interrupt(&mut self) {
        // SAFETY: as in `handle`.
        let py = unsafe { Python::assume_attached() };
        interpreter::forget_interrupt(py);
    }

    fn tidy(&mut self) {
        // SAFETY: as in `handle`.
        let py = unsafe { Python::assume_attached() };
        self.arguments.release(py);
        if let Some(result) = self.result.take() {
            // As `Bound`, whose drop releases at once.
            drop(result.into_bound(py));
        }
    }

    fn idle(&mut self) {
        if let Some(collector) = &mut self.collector {
            collector.collect();
        }
    }

    fn alone(&mut self) -> bool {
        // SAFETY: the type's invariant.
        unsafe { self.thread.is_alone() }
    }

    fn while_detached(&mut self, wait: &mut dyn FnMut()) {
        // SAFETY: the type's invariant; the serve loop's waits know no Python.
        unsafe { interpreter::detached(wait) };
    }

    fn finalize(self) {
        Python::attach(|py| {
            if let Some(finalize) = &self.finalize
                && let Err(error) = finalize.call0(py)
            {
                exception::print(py, "finalize()", &error);
            }
            interpreter::wind_down(py);
            drop(self);
        });
    }
}

/// Turns the exception that is set into the answer.
#[cold]
fn raised(answer: &mut AnswerBuf) {
    Python::attach(|py| answer.python_error(exception::describe(py, &PyErr::fetch(py))));
}
