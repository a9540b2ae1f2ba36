//! Breaks a call off when the host asks for it, and never another one.
//!
//! The host writes the key of the task into the worker's words, and then sends a signal. The
//! signal's handler runs on the thread that serves, in between its steps, so whatever it finds
//! stays so until it has returned: it strikes only if that very task is being called.
//!
//! A strike may be noticed late: Python looks for one between its own steps and when a system call was
//! interrupted, and the signal may come right before a system call that waits. So the signal is
//! repeated, more and more rarely, until the call is over.

// Never loom's: they are between a thread and its own signal handler.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::key::Key;
use crate::shm::WorkerWords;
use crate::sys::signal::{self, Reminder};

/// The task that is being called, or 0.
static CALL: AtomicU64 = AtomicU64::new(0);
/// Since that call was struck: after how many milliseconds the signal is repeated. Else 0.
static REPEAT: AtomicU32 = AtomicU32::new(0);
static TARGET: OnceLock<Target> = OnceLock::new();

/// What the handler needs.
struct Target {
    words: NonNull<WorkerWords>,
    strike: Option<fn()>,
    reminder: Reminder,
}

// SAFETY: the words are atomics, in memory that is mapped for as long as the process lives.
unsafe impl Send for Target {}
// SAFETY: as for `Send`.
unsafe impl Sync for Target {}

/// A worker's readiness to be interrupted.
pub(super) struct Interrupts {
    target: &'static Target,
}

impl Interrupts {
    /// From here on the host may send the signal. `strike`, called for a call that is to be broken
    /// off, must be async-signal-safe; without one, interrupts do nothing.
    ///
    /// # Safety
    /// The words must be mapped until the process ends, and this thread be its first one.
    pub(super) unsafe fn new(words: &WorkerWords, strike: Option<fn()>) -> io::Result<Self> {
        let reminder = Reminder::new()?;
        let target =
            TARGET.get_or_init(|| Target { words: NonNull::from(words), strike, reminder });
        signal::on_interrupt(received)?;
        Ok(Self { target })
    }

    /// The call of this task begins.
    #[inline]
    pub(super) fn begin(&self, key: Key) {
        // Relaxed, here and below: between this thread and its own handler, which the compiler
        // must only not reorder.
        CALL.store(key.get(), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // The signal may have come between the claim and here.
        if self.target.wants(key.get()) {
            received();
        }
    }

    /// The call is over, and is not struck any more. Says whether it was, perhaps too late.
    #[inline]
    pub(super) fn end(&self) -> bool {
        CALL.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let struck = REPEAT.load(Ordering::Relaxed) != 0;
        if struck {
            self.target.reminder.set(0);
            REPEAT.store(0, Ordering::Relaxed);
        }
        struck
    }
}

impl Target {
    /// Whether the host has asked to break off this task.
    #[inline]
    fn wants(&self, key: u64) -> bool {
        // SAFETY: by the contract of `Interrupts::new`.
        let words = unsafe { self.words.as_ref() };
        // Acquire: pairs with the Release store of the supervisor.
        words.interrupt.load(Ordering::Acquire) == key
    }
}

/// In the signal's handler, or where it might be.
fn received() {
    let call = CALL.load(Ordering::Relaxed);
    if let Some(target) = TARGET.get()
        && let Some(strike) = target.strike
        && call != 0
        && target.wants(call)
    {
        let repeat = match REPEAT.load(Ordering::Relaxed) {
            0 => {
                strike();
                1
            }
            last => last.saturating_mul(2),
        };
        REPEAT.store(repeat, Ordering::Relaxed);
        target.reminder.set(repeat);
    }
}
