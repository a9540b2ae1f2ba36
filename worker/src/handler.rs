//! A worker's model: the hot path from task bytes to answer bytes.

use std::io;
use std::marker::PhantomData;
use std::thread;
use std::time::Duration;

use nearcall::peer::{AnswerBuf, Handler, InPlace, Refusal};
use pyo3::prelude::*;

use crate::arguments::{Arguments, Unreadable};
use crate::buffer::Held;
use crate::callee::Callee;
use crate::garbage::{self, Collector};
use crate::in_place::Tensors;
use crate::interpreter::{self, ThreadState};
use crate::tensor::Arrays;
use crate::{answer, exception};

/// How long, one after the other, the model's other threads get to let go of a task's tensors. One that
/// has computed something for the call may still be about to drop what it was given.
const GRACE: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_micros(100),
    Duration::from_micros(400),
    Duration::from_micros(1600),
    Duration::from_micros(6400),
    Duration::from_micros(25600),
    Duration::from_micros(102_400),
];

/// A model that was constructed and initialised.
///
/// # Invariants
/// The thread that has it is attached (see [`interpreter`]); the marker keeps it there.
pub(crate) struct PythonModel {
    callee: Callee,
    arguments: Arguments,
    /// Those in place of the task at hand; none after [`Handler::handle`].
    tensors: Tensors,
    /// What the last call returned, until it is tidied away.
    result: Option<Py<PyAny>>,
    /// What its answer reads where it is, until it is tidied away.
    lent: Vec<Held>,
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
            tensors: Tensors::default(),
            result: None,
            lent: Vec::new(),
            finalize: finalize.map(Bound::unbind),
            collector,
            _stays_on_its_thread: PhantomData,
        }
    }

    /// Calls the model, and writes what comes of it. Says whether the call has returned anything.
    #[inline]
    fn call(
        &mut self,
        py: Python<'_>,
        task: &[u8],
        in_place: &mut InPlace<'_>,
        answer: &mut AnswerBuf,
    ) -> bool {
        let result = match self.arguments.place(py, task, in_place, &mut self.tensors) {
            Ok(()) => self.arguments.call(py, &self.callee),
            Err(Unreadable::Raised) => None,
            Err(Unreadable::Malformed) => {
                answer.refuse(Refusal::MalformedTask);
                return false;
            }
            Err(Unreadable::Unmapped(error)) => {
                unmapped(&error, answer);
                return false;
            }
        };
        let Some(result) = result else {
            raised(answer);
            return false;
        };
        let (tensors, lent) = (&self.tensors, &mut self.lent);
        answer::write(&result, &mut Arrays { in_place, tensors, lent }, answer);
        self.result = Some(result.unbind());
        true
    }

    /// Frees what the call has left, but for what is lent.
    #[inline]
    fn release(&mut self, py: Python<'_>) {
        self.arguments.release(py);
        if let Some(result) = self.result.take() {
            // As `Bound`, whose drop releases at once.
            drop(result.into_bound(py));
        }
    }

    /// Ends a task with tensors in place: nothing may use their memory when its outcome is handed over.
    /// What the model keeps of them becomes its own; an answer there is then none, because whoever keeps
    /// an array to see the next task's numbers in it sees old ones.
    #[cold]
    #[inline(never)]
    fn settle(&mut self, in_place: &mut InPlace<'_>, has_returned: bool, answer: &mut AnswerBuf) {
        Python::attach(|py| {
            self.release(py);
            if !self.has_let_go(py, answer) {
                let kept = self.tensors.keep(py, in_place);
                if has_returned {
                    let arguments = self.arguments.quoted(py, &kept);
                    answer.refuse(Refusal::Kept { arguments });
                }
            }
            self.tensors.forget(py);
        });
    }

    /// Whether nobody has the task's tensors any more. Does what can be done for it.
    fn has_let_go(&mut self, py: Python<'_>, answer: &mut AnswerBuf) -> bool {
        if !self.tensors.are_referenced(py) {
            return true;
        }
        if !self.lent.is_empty() {
            // An array of a class of its own may hold them beside its elements.
            answer.finish();
            self.lent.clear();
            if !self.tensors.are_referenced(py) {
                return true;
            }
        }
        // A cycle may be all: of an exception and its frame, for instance. One that the call has made is
        // young, and found in microseconds.
        for generation in [0, 1] {
            garbage::collect(py, generation);
            if !self.tensors.are_referenced(py) {
                return true;
            }
        }
        // SAFETY: the type's invariant.
        if !unsafe { self.thread.is_alone() } {
            for pause in GRACE {
                // SAFETY: the type's invariant; a sleep knows no Python.
                unsafe { interpreter::detached(&mut || thread::sleep(pause)) };
                if !self.tensors.are_referenced(py) {
                    return true;
                }
            }
        }
        // It takes as long as the heap is large.
        garbage::collect(py, 2);
        !self.tensors.are_referenced(py)
    }
}

impl Handler for PythonModel {
    fn handle(&mut self, task: &[u8], in_place: &mut InPlace<'_>, answer: &mut AnswerBuf) {
        // SAFETY: the type's invariant. The token does not leave this call.
        let py = unsafe { Python::assume_attached() };
        let has_returned = self.call(py, task, in_place, answer);
        if !self.tensors.is_empty() {
            self.settle(in_place, has_returned, answer);
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
        self.release(py);
        self.lent.clear();
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

#[cold]
fn unmapped(error: &io::Error, answer: &mut AnswerBuf) {
    let action = "map a tensor of the task's".to_owned();
    answer.refuse(Refusal::System { action, reason: error.to_string() });
}

/// Turns the exception that is set into the answer.
#[cold]
fn raised(answer: &mut AnswerBuf) {
    Python::attach(|py| answer.python_error(exception::describe(py, &PyErr::fetch(py))));
}
