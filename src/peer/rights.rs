//! What a process of the engine may use: what it was given, and no more than the limits.

use crate::error::PeerError;
use crate::sys::process::{self, Limited};
use crate::wire::{Limits, PythonError};

/// Seconds between the signal that the CPU time is used up (SIGXCPU, which ends a process that does
/// not handle it) and the kill.
const CPU_GRACE: u64 = 1;

/// Closes what the host has left open by mistake. `given` are the numbers that the process' arguments
/// name.
pub(super) fn keep_only(given: &[&str]) -> Result<(), PeerError> {
    let numbers: Result<Vec<i32>, _> = given.iter().map(|number| number.parse()).collect();
    let numbers =
        numbers.map_err(|_| PeerError::Control { reason: "a descriptor that is no number" })?;
    // SAFETY: called first of all in a new process, before anything is opened.
    unsafe { process::close_all_but(&numbers) };
    Ok(())
}

/// Sets a worker's limits. Before any code of the model's runs in it.
pub(super) fn limit(limits: &Limits) -> Result<(), PythonError> {
    let Limits { memory, descriptors, cpu_seconds } = *limits;
    for (what, name, wanted, grace) in [
        (Limited::Data, "memory (RLIMIT_DATA)", memory, 0),
        (Limited::Descriptors, "descriptors (RLIMIT_NOFILE)", descriptors, 0),
        (Limited::Cpu, "seconds of CPU time (RLIMIT_CPU)", cpu_seconds, CPU_GRACE),
    ] {
        let Some(wanted) = wanted else { continue };
        process::limit(what, wanted, wanted.saturating_add(grace)).map_err(|error| {
            let message = format!("the limit of {wanted} {name} was refused: {error}");
            PythonError::new("OSError", message)
        })?;
    }
    Ok(())
}
