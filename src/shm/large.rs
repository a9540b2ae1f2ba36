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
use crate::sys::memory::{self, FileIdentity};

/// Bytes written by one system call. The kernel has one lock for the area, and keeps it
/// through a call: nobody waits for longer than one takes.
const PIECE: usize = 1 << 20;
/// As [`PIECE`], for pages that go back, of which there may be none.
const PIECE_BACK: u64 = 1 << 24;

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
    /// What was behind the descriptor at first. A model, or a host, that closes descriptors it has not
    /// opened may have put a file of its own there.
    identity: FileIdentity,
    layout: Layout,
}

impl<'a> LargeArea<'a> {
    /// Those of the segment behind `descriptor`, which is this file.
    pub(crate) fn new(descriptor: BorrowedFd<'a>, identity: FileIdentity, layout: Layout) -> Self {
        Self { descriptor, identity, layout }
    }

    fn check(&self) -> io::Result<()> {
        if FileIdentity::of(self.descriptor).is_ok_and(|found| found == self.identity) {
            return Ok(());
        }
        Err(io::Error::other("somebody in this process has closed the segment's descriptor"))
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
        self.check()?;
        let mut at = self.start(index, extent);
        for piece in payload.chunks(PIECE) {
            memory::write_at(self.descriptor, at, piece)
                .inspect_err(|_| self.clear(index, extent))?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies a payload of `len` bytes out, into `into`, whose old contents go.
    ///
    /// # Errors
    /// A length that no extent has, or that this one has not got ([`is_bad_length`]); or what the system
    /// said.
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
        self.check()?;
        memory::read_at(self.descriptor, self.start(index, extent), len, into)
    }

    /// Gives the pages of an extent back.
    pub(crate) fn clear(&self, index: u16, extent: Extent) {
        self.give_back(self.start(index, extent), self.layout.sizes.payload_bytes.into());
    }

    /// Gives the pages of a slot back.
    pub(crate) fn clear_slot(&self, index: u16) {
        let bytes = 2 * u64::from(self.layout.sizes.payload_bytes);
        self.give_back(self.start(index, Extent::Task), bytes);
    }

    fn give_back(&self, start: u64, bytes: u64) {
        if bytes == 0 || self.check().is_err() {
            return;
        }
        let end = start + bytes;
        for at in (start..end).step_by(PIECE_BACK as usize) {
            memory::give_back(self.descriptor, at, PIECE_BACK.min(end - at));
        }
    }
}

/// Whether a read has failed because there is no payload of that length: whoever wrote the length is
/// wrong, not the system.
pub(crate) fn is_bad_length(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}
