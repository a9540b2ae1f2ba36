//! The memory that a pair of processes shares: two words, through which one asks and the other
//! answers.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The request that ends the peer.
pub(crate) const END: u32 = u32::MAX;
/// The answer of a peer that has ended, given by who saw it end.
pub(crate) const ENDED: u32 = u32::MAX;

/// Both begin as 0, and count the requests from 1 on.
///
/// They share a cache line (see [`cache_line`](crate::cache_line)).
#[repr(C, align(64))]
pub(crate) struct Words {
    /// Written by the asking process only.
    pub(crate) request: AtomicU32,
    /// Written by the peer only while it lives.
    pub(crate) answer: AtomicU32,
}

const LEN: NonZeroUsize = NonZeroUsize::new(size_of::<Words>()).unwrap();

/// The request that follows `last`: never 0, never [`END`].
#[inline]
pub(crate) fn after(last: u32) -> u32 {
    if last == END - 1 { 1 } else { last + 1 }
}

/// Words that were mapped into this process.
///
/// # Invariants
/// `words` is a mapping of its size, until this is dropped.
pub(crate) struct Mapping {
    words: NonNull<Words>,
}

// SAFETY: the words are atomics, for any thread to use; and any may unmap them.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// New words, and the file through which another process can map them.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create() -> anyhow::Result<(Self, OwnedFd)> {
        let file = memfd_create("nearcall-yardstick", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, i64::try_from(LEN.get())?)?;
        Ok((Self::open(&file)?, file))
    }

    /// The words of a file that [`create`](Self::create) has made.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(file: impl AsFd) -> anyhow::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the system chooses.
        let mapped = unsafe { mmap(None, LEN, access, MapFlags::MAP_SHARED, file, 0) };
        Ok(Self { words: mapped.context("the shared words cannot be mapped")?.cast() })
    }
}

impl Deref for Mapping {
    type Target = Words;

    #[inline]
    fn deref(&self) -> &Words {
        // SAFETY: the type's invariant. Any bytes are atomics; page aligned.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the type's invariant; all borrows of the words have ended.
        let _ = unsafe { munmap(self.words.cast::<c_void>(), LEN.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_without_the_marks() {
        assert_eq!([after(0), after(1), after(END - 2), after(END - 1)], [1, 2, END - 1, 1]);
    }
}
