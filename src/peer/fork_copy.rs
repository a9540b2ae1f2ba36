//! What a forked child of a worker has of the task's tensors in place: a copy.
//!
//! Their memory is shared, and another task's as soon as this one is over; a child may live longer. So
//! what a worker maps, its children do not inherit. For a fork that is known beforehand a copy is made,
//! which takes the memory's place in the child. In the worker itself nothing changes: what other threads
//! write meanwhile stays written, and an output is still in place.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::io;

use super::in_place::TensorMemory;
use crate::sys::memory::{self, Access};

/// A copy of tensors in place, for a child that is forked while it lives.
///
/// # Invariants
/// `copy` is a private mapping of `bytes` bytes that nobody else knows.
#[derive(Debug)]
pub struct ForkCopy {
    /// Whole pages around the tensors, and how many bytes they have.
    start: NonNull<u8>,
    bytes: usize,
    copy: NonNull<u8>,
}

// SAFETY: addresses; what is there is reached by raw pointers, as its functions' callers promise.
unsafe impl Send for ForkCopy {}

impl ForkCopy {
    /// Copies `memory`, and has children inherit it until the result is dropped, so that nothing else
    /// comes to stand there in one that is forked now.
    ///
    /// # Safety
    /// `memory` must reach from one to another (or the same) of the tensors of a task, which have bytes
    /// and are both inputs or both outputs; and that task be at hand until the result is dropped.
    ///
    /// # Errors
    /// There is no memory for it. Nothing has changed then: a child does not have the tensors.
    pub unsafe fn new(memory: TensorMemory) -> io::Result<Self> {
        let before = memory.start.addr().get() % memory::page_size();
        // SAFETY: the extent, which is mapped, starts with a page.
        let start = unsafe { memory.start.sub(before) };
        let bytes = memory::whole_pages(before + memory.bytes);
        let access = if memory.writable { Access::Write } else { Access::Read };
        // SAFETY: the extent ends with a page, and the host has reserved all from its start to the end of
        // the last tensor.
        let copy = unsafe { memory::copy_aside(start, bytes, access) }?;
        // Undone by its drop, also if the next step fails half-way.
        let this = Self { start, bytes, copy };
        // SAFETY: mapped, as above.
        unsafe { memory::set_inherited(start, bytes, true) }?;
        Ok(this)
    }

    /// Puts the copy where the tensors are: in the child. If that fails, nothing is there any more.
    ///
    /// # Safety
    /// In a child that was forked while this lived, and before anybody there uses the tensors.
    pub unsafe fn take_their_place(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: both were mapped at the fork, and inherited; this process has one thread.
        if unsafe { memory::move_over(this.copy, this.start, this.bytes) }.is_err() {
            // SAFETY: as above. Whoever uses them ends by a signal, instead of with others' numbers.
            unsafe { memory::unmap(this.start, this.bytes) };
        }
    }
}

impl Drop for ForkCopy {
    fn drop(&mut self) {
        // Fails only if the kernel has no memory to divide the mapping again, which it had before.
        // SAFETY: the task is at hand, so this is mapped.
        let _ = unsafe { memory::set_inherited(self.start, self.bytes, false) };
        // SAFETY: the type's invariant.
        unsafe { memory::unmap(self.copy, self.bytes) };
    }
}
