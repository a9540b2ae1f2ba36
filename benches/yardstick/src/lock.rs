//! What a lock costs that processes can share and that survives its owner's death, when nobody
//! else wants it.

use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use anyhow::ensure;
use nearcall_bench::measure::Turn;
use nearcall_bench::order::Order;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::batches;

pub(crate) const NAME: &str = "lock";

pub(crate) fn turn(order: &Order) -> anyhow::Result<Turn> {
    batches::one_after_another(order)?;
    let lock = Lock::new()?;
    batches::in_batches(order.span, || lock.lock_and_unlock())
}

const LEN: NonZeroUsize = NonZeroUsize::new(size_of::<libc::pthread_mutex_t>()).unwrap();

/// A robust mutex in shared memory.
///
/// # Invariants
/// `mutex` is a mapping of its size, until this is dropped; it was initialised, and is not locked
/// but during [`lock_and_unlock`](Self::lock_and_unlock).
struct Lock {
    mutex: NonNull<libc::pthread_mutex_t>,
}

impl Lock {
    fn new() -> anyhow::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the system chooses.
        let memory = unsafe { mmap_anonymous(None, LEN, access, MapFlags::MAP_SHARED) }?;
        let mutex = memory.cast::<libc::pthread_mutex_t>();
        initialise(mutex).inspect_err(|_| {
            // SAFETY: mapped above, and given up.
            let _ = unsafe { munmap(memory, LEN.get()) };
        })?;
        Ok(Self { mutex })
    }

    #[inline]
    fn lock_and_unlock(&self) -> anyhow::Result<()> {
        // SAFETY: the type's invariant.
        check(unsafe { libc::pthread_mutex_lock(self.mutex.as_ptr()) })?;
        // SAFETY: this thread has just locked it.
        check(unsafe { libc::pthread_mutex_unlock(self.mutex.as_ptr()) })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: the type's invariant: nobody has it locked.
        unsafe { libc::pthread_mutex_destroy(self.mutex.as_ptr()) };
        // SAFETY: the type's invariant; not used again.
        let _ = unsafe { munmap(self.mutex.cast(), LEN.get()) };
    }
}

/// Initialises a mutex in memory that was mapped for it.
fn initialise(mutex: NonNull<libc::pthread_mutex_t>) -> anyhow::Result<()> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: writes the whole of the memory it is given.
    check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
    // SAFETY: initialised above; so below.
    check(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
    // SAFETY: as above.
    check(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
    // SAFETY: mapped memory of its size, which nobody uses yet; the attributes as above.
    check(unsafe { libc::pthread_mutex_init(mutex.as_ptr(), attributes) })
}

#[inline]
fn check(status: i32) -> anyhow::Result<()> {
    ensure!(status == 0, std::io::Error::from_raw_os_error(status));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_taken_again_and_again() {
        let lock = Lock::new().unwrap();
        for _ in 0..1_000 {
            lock.lock_and_unlock().unwrap();
        }
    }
}
