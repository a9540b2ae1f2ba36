//! Named points at which a test can make a worker stop or die. Compiled in by the feature
//! `faults` only; without it a point is nothing.
//!
//! `NEARCALL_FAULTS="claim.claimed=kill@1,serve.idle=stop@2"`: at the point `claim.claimed`, the
//! first worker of a place kills itself; at `serve.idle`, the second one stops itself. A fault
//! happens once in a process.

#[cfg(not(feature = "faults"))]
mod points {
    /// A point that a test may name.
    #[inline(always)]
    pub(crate) fn point(_name: &str) {}

    /// Reads this worker's faults.
    #[inline(always)]
    pub(crate) fn arm(_incarnation: u32) {}
}

#[cfg(feature = "faults")]
mod points {
    use std::sync::Mutex;

    use nix::sys::signal::{Signal, raise};

    static ARMED: Mutex<Vec<(String, Fault)>> = Mutex::new(Vec::new());

    #[derive(Clone, Copy)]
    enum Fault {
        Raise(Signal),
        Exit(i32),
    }

    /// A point that a test may name.
    pub(crate) fn point(name: &str) {
        let mut armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(index) = armed.iter().position(|(point, _)| point == name) else { return };
        let (_, fault) = armed.swap_remove(index);
        drop(armed);
        match fault {
            Fault::Raise(signal) => {
                let _ = raise(signal);
            }
            Fault::Exit(status) => crate::sys::process::exit_now(status),
        }
    }

    /// Reads this worker's faults.
    pub(crate) fn arm(incarnation: u32) {
        let Ok(faults) = std::env::var("NEARCALL_FAULTS") else { return };
        let mine = faults.split(',').filter_map(|fault| {
            let (point, rest) = fault.trim().split_once('=')?;
            let (action, wanted) = rest.split_once('@')?;
            let fault = match action {
                "kill" => Fault::Raise(Signal::SIGKILL),
                "stop" => Fault::Raise(Signal::SIGSTOP),
                "abort" => Fault::Raise(Signal::SIGABRT),
                "segv" => Fault::Raise(Signal::SIGSEGV),
                "exit" => Fault::Exit(3),
                _ => return None,
            };
            (wanted.parse() == Ok(incarnation)).then(|| (point.to_owned(), fault))
        });
        *ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = mine.collect();
    }
}

pub(crate) use points::{arm, point};
