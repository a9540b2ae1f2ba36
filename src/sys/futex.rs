//! Futexes between processes: never private, because both sides map the word at their own address.

use core::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex::{self, Flags, Timespec};

/// Sleeps while `word` is `expected`, at most for `timeout`. Returns at any time for any reason:
/// the caller looks at its condition again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    // Errors are "the word has changed", "timed out" and "interrupted": all mean "look again".
    let _ = futex::wait(word, Flags::empty(), expected, timeout.as_ref());
}

/// Wakes one sleeper of `word`.
pub(crate) fn wake_one(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), 1);
}

/// Wakes all sleepers of `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}
