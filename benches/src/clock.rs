//! Clocks that `std` does not have.

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{ClockId, ClockNanosleepFlags, clock_getcpuclockid, clock_nanosleep};
use nix::unistd::Pid;

/// CPU time of a process with all its threads so far, in seconds; `None`: the own one. Nothing if
/// there is no such process.
pub fn cpu_of(pid: Option<Pid>) -> Option<f64> {
    let clock = match pid {
        Some(pid) => clock_getcpuclockid(pid).ok()?,
        None => ClockId::CLOCK_PROCESS_CPUTIME_ID,
    };
    Some(clock.now().ok()?.num_nanoseconds() as f64 * 1e-9)
}

/// `CLOCK_MONOTONIC` in nanoseconds: the same for all processes.
///
/// # Errors
/// Never on Linux.
pub fn monotonic_ns() -> anyhow::Result<u64> {
    let now = ClockId::CLOCK_MONOTONIC.now().context("no monotonic clock")?;
    Ok(now.num_nanoseconds().cast_unsigned())
}

/// Sleeps until that time of `CLOCK_MONOTONIC`; not at all if it has passed.
///
/// # Errors
/// What the system says.
pub fn sleep_until(ns: u64) -> anyhow::Result<()> {
    let until = TimeSpec::nanoseconds(ns.cast_signed());
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    loop {
        match clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &until) {
            Err(Errno::EINTR) => {}
            result => return result.map(|_| ()).context("sleep"),
        }
    }
}
