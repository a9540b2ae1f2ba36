//! A process that a model has forked is no worker: it must not answer its parent's task, nor take others.
//!
//! It has a copy of the worker's memory, but not of all that was mapped, so it leaves at once, without
//! dropping anything.

use std::io;
use std::sync::OnceLock;

use crate::error::PeerError;
use crate::sys::memory::ForkWitness;
use crate::sys::process;

/// What tells this worker from its children. None in a host, whose double has workers too.
static WITNESS: OnceLock<ForkWitness> = OnceLock::new();

/// From here on this process is a worker, and those that it forks are not. To be called before any code of
/// the model runs in it.
///
/// # Errors
/// What the system said.
pub(super) fn watch() -> io::Result<()> {
    let witness = ForkWitness::new()?;
    // It was not set before: a process becomes a worker once.
    let _ = WITNESS.set(witness);
    Ok(())
}

/// Ends this process if a worker's model has forked it. For whenever the model's code has run.
#[inline]
pub(super) fn leave_if_forked() {
    if WITNESS.get().is_some_and(ForkWitness::in_forked_child) {
        leave();
    }
}

#[cold]
fn leave() -> ! {
    eprintln!("nearcall-worker (pid {}): {}", process::own_pid(), PeerError::Forked);
    process::exit_now(1)
}
