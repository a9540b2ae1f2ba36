//! Forks by the model, while it has tensors in place.
//!
//! A worker's mappings of them are not inherited. What is forked with CPython's knowledge (`os.fork`,
//! `multiprocessing`) gets a copy at the same addresses: of the moment right before the fork, as of all
//! other memory. What C code forks does not.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nearcall::peer::{ForkCopy, TensorMemory};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// What a fork now would be about. Only who has the GIL locks it, and nobody waits with it locked: so it
/// is free at every fork.
static AT_HAND: Mutex<AtHand> =
    Mutex::new(AtHand { spans: [None; 2], forks: 0, copies: Vec::new() });

/// # Invariants
/// The spans reach from the first to the last of the inputs, and of the outputs, that the task at hand
/// has and that have bytes; `copies` are of the same task.
struct AtHand {
    spans: [Option<TensorMemory>; 2],
    /// Forks that have begun and not ended: several threads may be at one.
    forks: usize,
    copies: Vec<ForkCopy>,
}

// SAFETY: addresses, and what is done with them is sound on every thread.
unsafe impl Send for AtHand {}

fn at_hand() -> MutexGuard<'static, AtHand> {
    AT_HAND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on until [`end_task`], children get this memory of the task's.
pub(crate) fn add(_attached: Python<'_>, memory: TensorMemory) {
    if memory.bytes == 0 {
        return;
    }
    let [inputs, outputs] = &mut at_hand().spans;
    let span = if memory.writable { outputs } else { inputs };
    *span = Some(span.map_or(memory, |span| joined(span, memory)));
}

/// What reaches from the first to the last byte of both.
fn joined(one: TensorMemory, other: TensorMemory) -> TensorMemory {
    let end = |memory: TensorMemory| memory.start.addr().get() + memory.bytes;
    let start = one.start.min(other.start);
    TensorMemory { start, bytes: end(one).max(end(other)) - start.addr().get(), ..one }
}

/// The task's memory is about to be another's, or the model's own (which children inherit). Comes
/// before that.
pub(crate) fn end_task(_attached: Python<'_>) {
    let mut at_hand = at_hand();
    at_hand.spans = [None; 2];
    at_hand.copies.clear();
}

/// Has CPython call us at forks from now on; once in a process.
///
/// # Errors
/// What Python raises.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    static WATCHING: PyOnceLock<()> = PyOnceLock::new();
    let register = || {
        let hooks = PyDict::new(py);
        hooks.set_item("before", wrap_pyfunction!(before, py)?)?;
        hooks.set_item("after_in_parent", wrap_pyfunction!(after_in_parent, py)?)?;
        hooks.set_item("after_in_child", wrap_pyfunction!(after_in_child, py)?)?;
        py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
    };
    WATCHING.get_or_try_init(py, register).map(drop)
}

#[pyfunction]
fn before() -> PyResult<()> {
    // CPython prints it, and forks all the same.
    copy().map_err(|error| {
        PyMemoryError::new_err(format!(
            "a child that is forked now does not have the task's arrays, and must not use them: {error}"
        ))
    })
}

fn copy() -> io::Result<()> {
    let mut at_hand = at_hand();
    at_hand.forks += 1;
    for memory in at_hand.spans.into_iter().flatten() {
        // SAFETY: the invariants; `end_task` drops it before the task is over.
        at_hand.copies.push(unsafe { ForkCopy::new(memory) }?);
    }
    Ok(())
}

#[pyfunction]
fn after_in_parent() {
    let mut at_hand = at_hand();
    at_hand.forks = at_hand.forks.saturating_sub(1);
    if at_hand.forks == 0 {
        at_hand.copies.clear();
    }
}

#[pyfunction]
fn after_in_child() {
    let mut at_hand = at_hand();
    // They are this process' own now, and its children inherit them as they are.
    at_hand.forks = 0;
    at_hand.spans = [None; 2];
    for copy in at_hand.copies.drain(..) {
        // SAFETY: this is the child, and it has run nothing but hooks that were registered before ours,
        // by an import. The newest is the last.
        unsafe { copy.take_their_place() };
    }
}
