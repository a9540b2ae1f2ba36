//! Ctrl-C and `kill`: the first asks everything to end in order, the second ends the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has asked this program to end. Clones ask the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Takes over SIGINT and SIGTERM.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag clear, the second finds it set and
            // has its usual effect.
            flag::register_conditional_default(signal, Arc::clone(&stop.asked))?;
            flag::register(signal, Arc::clone(&stop.asked))?;
            flag::register_usize(signal, Arc::clone(&stop.signal), signal.unsigned_abs() as usize)?;
        }
        Ok(stop)
    }

    /// Whether to end now.
    pub(crate) fn asked(&self) -> bool {
        // Relaxed: the flag says nothing about other memory.
        self.asked.load(Ordering::Relaxed)
    }

    /// 128 + the signal's number, as a shell reports it, once one was received.
    pub(crate) fn exit_status(&self) -> Option<u8> {
        let signal = self.signal.load(Ordering::Relaxed);
        (signal != 0).then(|| 128u8.saturating_add(u8::try_from(signal).unwrap_or(0)))
    }
}
