//! Large payloads: what does not fit a slot, behind the mapped part of the segment.
//!
//! Each slot has an extent there for its task and one for its answer, at a fixed place, so that there
//! is nothing to allocate and nothing to believe. The area is sparse: an extent has pages only while
//! a payload is in it. It is never mapped. It is written and read through the descriptor, which makes
//! lack of room an error of the writer's instead of a SIGBUS of anybody's, whatever a broken worker
//! writes into the segment.

use std::io;
use std::os::fd::BorrowedFd;

use super::layout::Layout;
use super::region::Payload;
use crate::sys::memory;

/// Which of a slot's two extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Task = 0,
    Answer = 1,
}

/// The extents of all slots, as one process has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LargeArea<'a> {
    descriptor: BorrowedFd<'a>,
    layout: Layout,
}

impl<'a> LargeArea<'a> {
    /// Those of the segment behind `descriptor`.
    pub(crate) fn new(descriptor: BorrowedFd<'a>, layout: Layout) -> Self {
        Self { descriptor, layout }
    }

    /// The largest payload, in bytes; 0 where there are none.
    pub(crate) fn room(&self) -> usize {
        self.layout.sizes.payload_bytes as usize
    }

    fn start(&self, index: u16, extent: Extent) -> u64 {
        let extents = 2 * u64::from(index) + extent as u64;
        self.layout.extents + extents * u64::from(self.layout.sizes.payload_bytes)
    }

    /// Puts a payload into an extent. If there is no room for it, nothing of it stays.
    ///
    /// The caller must be the one that may write the slot's task, or its answer.
    ///
    /// # Errors
    /// No room in the extent ([`io::ErrorKind::InvalidInput`]) or in shared memory
    /// ([`memory::is_out_of_room`]), or what else the system said.
    pub(crate) fn write(&self, index: u16, extent: Extent, payload: &[u8]) -> io::Result<()> {
        if payload.len() > self.room() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let written = memory::write_at(self.descriptor, self.start(index, extent), payload);
        written.inspect_err(|_| self.clear(index, extent))
    }

    /// Copies a payload of `len` bytes out, into `into`, whose old contents go.
    ///
    /// # Errors
    /// A length that no extent has, or that this one has not got; or what the system said.
    pub(crate) fn read(
        &self,
        index: u16,
        extent: Extent,
        len: usize,
        into: &mut Payload,
    ) -> io::Result<()> {
        into.clear();
        if len > self.room() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        memory::read_at(self.descriptor, self.start(index, extent), len, into)
    }

    /// Gives the pages of an extent back.
    pub(crate) fn clear(&self, index: u16, extent: Extent) {
        let bytes = self.layout.sizes.payload_bytes.into();
        memory::give_back(self.descriptor, self.start(index, extent), bytes);
    }

    /// Gives the pages of a slot back.
    pub(crate) fn clear_slot(&self, index: u16) {
        let bytes = 2 * u64::from(self.layout.sizes.payload_bytes);
        memory::give_back(self.descriptor, self.start(index, Extent::Task), bytes);
    }
}
