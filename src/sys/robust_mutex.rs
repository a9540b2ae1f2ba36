//! A robust, process-shared pthread mutex: what `raw_sync` attaches to, but does not create.

use core::mem::{MaybeUninit, align_of, size_of};
use core::ptr::NonNull;
use std::io;

/// Room for a `pthread_mutex_t` on every platform that is supported (40 bytes on x86-64, 48 on
/// aarch64).
pub(crate) const MUTEX_BYTES: usize = 48;

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= MUTEX_BYTES);
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= 8);

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Makes a free mutex of the bytes at `at`.
///
/// # Errors
/// What pthread said; the bytes are no mutex then.
///
/// # Safety
/// `at` must point to [`MUTEX_BYTES`] writable bytes, aligned to 8, that nobody uses as a mutex.
pub(crate) unsafe fn initialise(at: NonNull<u8>) -> io::Result<()> {
    let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: `attributes` is writable memory of the right type.
    check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
    // SAFETY: initialised above; so for the next two.
    let shared =
        unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    // SAFETY: as above.
    let robust =
        unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
    // SAFETY: the caller vouches for the bytes, which are large and aligned enough (asserted).
    let result = unsafe { libc::pthread_mutex_init(at.as_ptr().cast(), attributes) };
    // SAFETY: initialised above, used for the last time here.
    unsafe { libc::pthread_mutexattr_destroy(attributes) };
    check(shared).and(check(robust)).and(check(result))
}

/// After a failed lock: whether its owner has died, in which case the lock is now ours and good
/// again once released.
///
/// # Safety
/// `mutex` must be a mutex that [`initialise`] has made, and this thread's last lock of it must
/// have failed.
pub(crate) unsafe fn take_over(mutex: *mut core::ffi::c_void) -> bool {
    // SAFETY: the caller vouches for the mutex. If its owner has not died, the call changes
    // nothing and fails.
    unsafe { libc::pthread_mutex_consistent(mutex.cast()) == 0 }
}
