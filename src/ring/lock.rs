//! The workers' end of the lock: robust, so that a worker may die inside it.

use raw_sync::locks::{LockImpl, LockInit, Mutex};

use crate::shm::Region;
use crate::sys::robust_mutex;

/// The lock cannot be had any more: its memory was overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockLost;

/// One worker's handle on the lock at the consumers' end of the ring.
///
/// The host never makes one after start: glibc follows pointers that are stored in the mutex, and
/// a worker can write those.
pub(crate) struct WorkersLock {
    mutex: Box<dyn LockImpl>,
}

impl WorkersLock {
    /// Attaches to the segment's lock.
    ///
    /// # Safety
    /// The mapping must outlive the result, and its lock must have been initialised.
    pub(crate) unsafe fn attach(region: &Region) -> Result<Self, LockLost> {
        let at = region.lock().as_ptr();
        // SAFETY: `at` is 64-byte aligned, so `raw_sync` finds the mutex at the address itself;
        // the host initialised it; the caller keeps it mapped. There is no data behind it.
        let attached = unsafe { Mutex::from_existing(at, core::ptr::null_mut()) };
        attached.map(|(mutex, _)| Self { mutex }).map_err(|_| LockLost)
    }

    /// Runs `inside` under the lock. It must not block, allocate, or call Python.
    ///
    /// When the last owner has died, the lock is taken over as it is: what it guards is valid
    /// after every step ([`super::claim`]), so there is nothing to repair.
    ///
    /// # Errors
    /// When the lock is no lock any more. This worker can serve no longer.
    #[inline]
    pub(crate) fn with<R>(&self, inside: impl FnOnce() -> R) -> Result<R, LockLost> {
        match self.mutex.lock() {
            // Released below by hand: the guard's `drop` would panic if the release failed.
            Ok(guard) => core::mem::forget(guard),
            Err(_) => self.take_over()?,
        }
        let result = inside();
        self.mutex.release().map_err(|_| LockLost)?;
        Ok(result)
    }

    #[cold]
    fn take_over(&self) -> Result<(), LockLost> {
        // SAFETY: the mutex is the one the host initialised, and its lock has just failed.
        if unsafe { robust_mutex::take_over(self.mutex.as_raw()) } { Ok(()) } else { Err(LockLost) }
    }
}
