//! Large payloads, and tensors in place: what is behind the mapped part of the segment.
//!
//! Each slot has its extents there at fixed places, so that there is nothing to allocate and nothing
//! to believe. The area is sparse: an extent has pages only while something is in it.
//!
//! What does not fit a slot is written and read through the descriptor, and never mapped, which makes
//! lack of room an error of the writer's instead of a SIGBUS of anybody's, whatever a broken worker
//! writes into the segment. An extent for tensors is mapped, by whoever works in it, and touched only
//! where the host has reserved pages before.

use core::ptr::NonNull;
use std::io;
use std::os::fd::BorrowedFd;

use super::layout::{EXTENTS, HUGE_PAGE, Layout, extent_unit};
use super::region::{Payload, append_shared};
use crate::sys::memory::{self, Access, FileIdentity};

/// Bytes written, or reserved, by one system call. The kernel has one lock for the area, and keeps it
/// through a call: nobody waits for longer than one takes. (And before Linux 6.10 a signal ends the
/// reservation of pages, and undoes it.)
const PIECE: usize = 1 << 20;
/// As [`PIECE`], for pages that go back, of which there may be none.
const PIECE_BACK: u64 = 1 << 24;

/// Which of a slot's extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A task that does not fit the slot.
    Task = 0,
    /// An answer that does not.
    Answer = 1,
    /// Tensors that the task's message names. Written by the host.
    Input = 2,
    /// Room for tensors of the answer. Reserved by the host, written by the worker.
    Output = 3,
}

impl Extent {
    /// Those for tensors, in the order of their numbers.
    pub(crate) const IN_PLACE: [Self; 2] = [Self::Input, Self::Output];
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
        let extents = EXTENTS * u64::from(index) + extent as u64;
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
        // SAFETY: borrowed for as long as this takes.
        unsafe { self.write_pieces(index, extent, core::iter::once(NonNull::from(payload))) }
    }

    /// As [`write`](Self::write), for a payload in pieces that somebody may change meanwhile.
    ///
    /// # Safety
    /// The pieces must be readable.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub(crate) unsafe fn write_pieces(
        &self,
        index: u16,
        extent: Extent,
        pieces: impl Iterator<Item = NonNull<[u8]>> + Clone,
    ) -> io::Result<()> {
        let lengths = pieces.clone().map(|piece| piece.len());
        let all = lengths.fold(0_usize, usize::saturating_add);
        if all > self.room() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.check()?;
        let mut at = self.start(index, extent);
        for piece in pieces {
            let mut done = 0;
            while done < piece.len() {
                let bytes = PIECE.min(piece.len() - done);
                // SAFETY: `done < piece.len()`, so this is inside.
                let start = unsafe { piece.cast::<u8>().add(done) };
                // SAFETY: a part of the piece, for which the caller vouches.
                unsafe { memory::write_at(self.descriptor, at, start, bytes) }
                    .inspect_err(|_| self.clear(index, extent))?;
                at += bytes as u64;
                done += bytes;
            }
        }
        Ok(())
    }

    /// Reserves the first `bytes` bytes of an extent, of which the first `reserved` are.
    ///
    /// # Errors
    /// As for [`write`](Self::write); then no more is reserved than was.
    pub(crate) fn reserve(
        &self,
        index: u16,
        extent: Extent,
        reserved: usize,
        bytes: usize,
    ) -> io::Result<()> {
        if bytes > self.room() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if bytes <= reserved {
            // Without a system call.
            return Ok(());
        }
        self.check()?;
        let (start, reserved) = (self.start(index, extent), reserved as u64);
        let end = bytes as u64;
        for at in (reserved..end).step_by(PIECE) {
            let piece = (PIECE as u64).min(end - at);
            memory::reserve(self.descriptor, start + at, piece)
                .inspect_err(|_| self.give_back(start + reserved, at - reserved))?;
        }
        Ok(())
    }

    /// Maps an extent, all of it. One in which there is room for huge pages starts where they can.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn map(
        &self,
        index: u16,
        extent: Extent,
        access: Access,
    ) -> io::Result<MappedExtent> {
        self.check()?;
        let (offset, room) = (self.start(index, extent), self.layout.sizes.payload_bytes);
        let start = match extent_unit(room) {
            HUGE_PAGE => {
                let alignment = HUGE_PAGE as usize;
                memory::map_range_aligned(self.descriptor, offset, room.into(), access, alignment)
            }
            _ => memory::map_range(self.descriptor, offset, room.into(), access),
        };
        Ok(MappedExtent { start: start?, bytes: self.room(), access })
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

    /// Gives the pages of a slot's task and answer back.
    pub(crate) fn clear_payloads(&self, index: u16) {
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

/// An extent that this process has mapped.
///
/// # Invariants
/// `bytes` bytes are mapped at `start`, a multiple of the page size, until this is dropped. Other
/// processes have them too, so no reference to them exists but where somebody vouches for it.
#[derive(Debug)]
pub(crate) struct MappedExtent {
    start: NonNull<u8>,
    bytes: usize,
    access: Access,
}

// SAFETY: an address and numbers; what is there is reached through raw pointers by whoever has the
// slot, threads and processes alike.
unsafe impl Send for MappedExtent {}
// SAFETY: as for `Send`.
unsafe impl Sync for MappedExtent {}

impl MappedExtent {
    /// The address of `bytes` bytes at `offset`, if they are inside.
    pub(crate) fn at(&self, offset: u64, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(bytes)? > self.bytes {
            return None;
        }
        // SAFETY: not behind the mapping's end.
        Some(unsafe { self.start.add(offset) })
    }

    /// How far behind the start an address is, if the `bytes` bytes there are inside.
    pub(crate) fn offset_of(&self, address: usize, bytes: usize) -> Option<u64> {
        let offset = address.checked_sub(self.start.addr().get())?;
        (offset.checked_add(bytes)? <= self.bytes).then_some(offset as u64)
    }

    /// Copies `len` bytes at `offset` to the end of `into`, whoever writes there meanwhile.
    ///
    /// # Safety
    /// There must be pages behind them.
    ///
    /// # Errors
    /// They are not all inside ([`is_bad_length`]), or there is no memory for them.
    pub(crate) unsafe fn append_to(
        &self,
        offset: u64,
        len: usize,
        into: &mut Payload,
    ) -> io::Result<()> {
        let start = self.at(offset, len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the type's invariant; the caller vouches for the pages, of which words never leave one.
        unsafe { append_shared(start, len, into) }
    }

    /// Puts huge pages in the place of small ones where whole ones fit between the first `before` bytes,
    /// for which that was asked before, and the first `bytes` bytes. `None` if none fits.
    ///
    /// # Safety
    /// There must be pages behind the first `bytes` bytes.
    ///
    /// # Errors
    /// The kernel has none for all of it; what is there is right all the same.
    pub(crate) unsafe fn collapse(&self, before: usize, bytes: usize) -> Option<io::Result<()>> {
        let whole = |bytes: usize| bytes - bytes % HUGE_PAGE as usize;
        let (before, end) = (whole(before), whole(bytes.min(self.bytes)));
        if before >= end {
            return None;
        }
        let start = self.at(before as u64, end - before)?;
        // SAFETY: the type's invariant; the caller vouches for the pages.
        Some(unsafe { memory::collapse(start, end - before) })
    }

    /// Makes the first `bytes` bytes private, and takes the others away: nobody else has them any more,
    /// and what others write is not seen.
    ///
    /// # Safety
    /// There must be pages behind these bytes, and nobody may use the others.
    ///
    /// # Errors
    /// There is no memory for them; then they are as they were, or gone.
    pub(crate) unsafe fn make_private(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = memory::whole_pages(bytes).min(self.bytes);
        if bytes > 0 {
            // SAFETY: the type's invariant; the caller vouches for the pages.
            unsafe { memory::make_private(self.start, bytes, self.access) }?;
        }
        if bytes < self.bytes {
            // SAFETY: inside.
            let rest = unsafe { self.start.add(bytes) };
            // SAFETY: the type's invariant; nobody uses these.
            unsafe { memory::unmap(rest, self.bytes - bytes) };
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Keeps it from forked children, which would else have the memory for as long as they live.
    ///
    /// # Errors
    /// What the system said: it has no memory for it.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        // SAFETY: the type's invariant. In a child this has no pages, and nobody vouches for any there.
        unsafe { memory::set_inherited(self.start, self.bytes, false) }
    }

    /// How many bytes there are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MappedExtent {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the type's invariant; whoever used them had this.
            unsafe { memory::unmap(self.start, self.bytes) };
        }
    }
}

/// Whether a read has failed because there is no payload of that length: whoever wrote the length is
/// wrong, not the system.
pub(crate) fn is_bad_length(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::{EXTENT_UNIT, Segment, Sizes};

    fn bytes_mapped() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        4096 * pages.split(' ').next().unwrap().parse::<usize>().unwrap()
    }

    #[test]
    fn extents_with_room_for_huge_pages_start_where_they_can_and_nothing_else_stays_mapped() {
        let payload_bytes = 2 * HUGE_PAGE;
        let sizes = Sizes { slots: 2, slot_bytes: 256, workers: 1, payload_bytes };
        let segment = Segment::create(sizes).unwrap();
        let large = segment.large();
        let bytes: Vec<u8> = (0..=255).collect();
        let before = bytes_mapped();
        for round in 0..1000 {
            for (extent, access) in [(Extent::Input, Access::Write), (Extent::Output, Access::Read)]
            {
                let mapped = large.map(1, extent, access).unwrap();
                assert_eq!(mapped.start.addr().get() % HUGE_PAGE as usize, 0);
                assert_eq!(large.start(1, extent) % u64::from(HUGE_PAGE), 0);
                if round > 0 {
                    continue;
                }
                large.reserve(1, extent, 0, payload_bytes as usize).unwrap();
                let end = payload_bytes as usize - bytes.len();
                let at = large.start(1, extent) + end as u64;
                let (start, len) = (NonNull::from(&bytes[..]).cast(), bytes.len());
                // SAFETY: the vector's own.
                unsafe { memory::write_at(segment.descriptor(), at, start, len) }.unwrap();
                let mut into = Payload::new();
                // SAFETY: all of it is reserved.
                unsafe { mapped.append_to(end as u64, bytes.len(), &mut into) }.unwrap();
                assert_eq!(into[..], bytes);
            }
        }
        // What is left over of each would be as much as a huge page; other tests map something, too.
        assert!(bytes_mapped() < before + (500 * HUGE_PAGE as usize));
    }

    /// All lengths that matter, at all places in a word, up to the end of the last page that there is:
    /// whoever reads behind it is killed.
    #[test]
    fn shared_bytes_are_appended_from_any_address_and_no_page_is_read_but_theirs() {
        const PAGE: usize = 4096;
        let sizes = Sizes { slots: 1, slot_bytes: 256, workers: 1, payload_bytes: EXTENT_UNIT };
        let segment = Segment::create(sizes).unwrap();
        let large = segment.large();
        large.reserve(0, Extent::Output, 0, PAGE).unwrap();
        let mapped = large.map(0, Extent::Output, Access::Read).unwrap();
        let bytes: Vec<u8> = (0..PAGE).map(|at| (at * 31 + at / 97) as u8).collect();
        large.write(0, Extent::Output, &bytes).unwrap();
        let check = |at: usize, len: usize| {
            for before in [0, 1, 200] {
                let mut into = Payload::from_elem(9, before);
                // SAFETY: the page is reserved.
                unsafe { mapped.append_to(at as u64, len, &mut into) }.unwrap();
                assert_eq!(into.len(), before + len);
                assert!(into[..before].iter().all(|byte| *byte == 9));
                assert_eq!(into[before..], bytes[at..at + len], "{at} {len}");
            }
        };
        for len in (0..=40).chain([300, 1000]) {
            for at in 0..=16 {
                check(at, len);
                check(PAGE - len - at, len);
            }
        }
        check(0, PAGE);
        let mut into = Payload::from_slice(b"there");
        let room = large.room() as u64;
        for (at, len) in [(room, 1), (room - 1, 2), (u64::MAX, 1), (1, usize::MAX)] {
            // SAFETY: nothing of it is read.
            let error = unsafe { mapped.append_to(at, len, &mut into) }.unwrap_err();
            assert!(is_bad_length(&error), "{error}");
        }
        assert_eq!(into[..], *b"there");
    }
}
