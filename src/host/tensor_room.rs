//! The pages behind reserved tensors: whose they are, and how long they stay.
//!
//! They stay when a task is over, so that the next one finds them warm: fresh pages cost more than
//! everything else of a call. They go back when the engine has had no task for two seconds, when
//! another task finds no room, and beyond a limit at once.

use core::ptr::NonNull;
use std::io;
use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::shm::{Extent, LargeArea, MappedExtent, Payload};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::{self, Access};

/// The pages of slots that nobody uses may be this part of /dev/shm.
const KEPT_PART: u64 = 4;

/// Bytes of inputs and of outputs.
pub(crate) type Bytes = [usize; 2];

/// The extents for tensors, of all slots.
pub(crate) struct TensorRoom {
    slots: u32,
    /// Whether pages are to be huge ones, where whole ones fit.
    huge_pages: bool,
    /// Made with the first task that reserves any.
    rooms: OnceLock<Box<[Mutex<Room>]>>,
    /// Bytes reserved in slots that nobody uses.
    kept: AtomicU64,
    kept_limit: OnceLock<u64>,
}

/// A slot's extents for tensors.
#[derive(Default)]
struct Room {
    /// Inputs and outputs, once there was any. They stay as long as the engine.
    mapped: [Option<MappedExtent>; 2],
    /// How much has pages, from the start.
    reserved: Bytes,
    /// What the task in it has of its outputs' extent; `None` if no task has it.
    outputs: Option<usize>,
}

impl Room {
    fn reserved_bytes(&self) -> u64 {
        self.reserved.iter().map(|bytes| *bytes as u64).sum()
    }

    fn give_back(&mut self, large: LargeArea<'_>, index: u16) {
        for (extent, reserved) in Extent::IN_PLACE.into_iter().zip(&mut self.reserved) {
            if std::mem::take(reserved) > 0 {
                large.clear(index, extent);
            }
        }
    }
}

impl TensorRoom {
    pub(crate) fn new(slots: u32, huge_pages: bool) -> Self {
        let (kept, kept_limit) = (AtomicU64::new(0), OnceLock::new());
        Self { slots, huge_pages, rooms: OnceLock::new(), kept, kept_limit }
    }

    fn room(&self, index: u16) -> io::Result<&Mutex<Room>> {
        let make = || (0..self.slots).map(|_| Mutex::default()).collect();
        let room = self.rooms.get_or_init(make).get(usize::from(index));
        room.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Reserves room in the slot at `index`, which this thread has taken. Gives the address of the inputs'
    /// extent, of which as many bytes as asked for are there until [`end`](Self::end); `None` if there are
    /// to be no inputs.
    ///
    /// # Errors
    /// No room, or what else the system said. Then the slot has none.
    pub(crate) fn begin(
        &self,
        large: LargeArea<'_>,
        index: u16,
        needed: Bytes,
    ) -> io::Result<Option<NonNull<u8>>> {
        let mut room = self.room(index)?.lock();
        // Relaxed, here and below: a count, which changes with the room's lock held.
        self.kept.fetch_sub(room.reserved_bytes(), Ordering::Relaxed);
        let [inputs, outputs] = needed;
        room.outputs = Some(outputs);
        let began = self.provide(&mut room, large, index, needed);
        if began.is_err() {
            room.outputs = None;
            room.give_back(large, index);
        }
        Ok(began?.filter(|_| inputs > 0))
    }

    fn provide(
        &self,
        room: &mut Room,
        large: LargeArea<'_>,
        index: u16,
        needed: Bytes,
    ) -> io::Result<Option<NonNull<u8>>> {
        let Room { mapped, reserved, .. } = room;
        let extents = Extent::IN_PLACE.into_iter().zip([Access::Write, Access::Read]);
        for (((extent, access), (mapped, reserved)), needed) in
            extents.zip(mapped.iter_mut().zip(reserved)).zip(needed)
        {
            large.reserve(index, extent, *reserved, needed)?;
            let before = core::mem::replace(reserved, needed.max(*reserved));
            if mapped.is_none() && needed > 0 {
                // No address space left is not: no shared memory left.
                *mapped = Some(large.map(index, extent, access).map_err(io::Error::other)?);
            }
            if self.huge_pages
                && needed > before
                && let Some(mapped) = mapped
            {
                // SAFETY: reserved above.
                if let Some(Err(error)) = unsafe { mapped.collapse(before, needed) } {
                    tracing::debug!(%error, needed, "no huge pages for tensors");
                }
            }
        }
        let [inputs, _] = mapped;
        Ok(inputs.as_ref().and_then(|inputs| inputs.at(0, needed[0])))
    }

    /// What the task in this slot has of its outputs' extent, in bytes.
    pub(crate) fn outputs(&self, index: u16) -> usize {
        self.room(index).map_or(0, |room| room.lock().outputs.unwrap_or(0))
    }

    /// Copies `len` bytes of them at `offset` to the end of `into`. Those that are not the task's are never
    /// read, whoever has named them: there may be no pages.
    ///
    /// # Errors
    /// The task has not got them ([`is_bad_length`](crate::shm::is_bad_length)), or there is no memory.
    pub(crate) fn read_output(
        &self,
        index: u16,
        offset: u64,
        len: usize,
        into: &mut Payload,
    ) -> io::Result<()> {
        let room = self.room(index)?.lock();
        let outputs = room.outputs.unwrap_or(0) as u64;
        let [_, Some(mapped)] = &room.mapped else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if offset.checked_add(len as u64).is_none_or(|end| end > outputs) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: `begin` has reserved pages for all of the task's outputs, and nobody gives them back
        // while a task has them, or the room is locked.
        unsafe { mapped.append_to(offset, len, into) }
    }

    /// The slot's task is over, and no worker has it any more.
    pub(crate) fn end(&self, large: LargeArea<'_>, index: u16) {
        if let Ok(room) = self.room(index) {
            self.leave(&mut room.lock(), large, index);
        }
    }

    fn leave(&self, room: &mut Room, large: LargeArea<'_>, index: u16) {
        room.outputs = None;
        let limit = *self.kept_limit.get_or_init(|| memory::shared_memory_room().1 / KEPT_PART);
        let bytes = room.reserved_bytes();
        let kept = self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if kept > limit {
            // Others' first: the slot that is left last is the next to be used. (This room's own lock is
            // held, so it is not among them.)
            self.give_back_some(large, kept - limit);
        }
        if self.kept.load(Ordering::Relaxed) > limit {
            self.kept.fetch_sub(bytes, Ordering::Relaxed);
            room.give_back(large, index);
        }
    }

    /// Gives the pages of slots that nobody uses back.
    pub(crate) fn give_back_unused(&self, large: LargeArea<'_>) {
        self.give_back_some(large, u64::MAX);
    }

    /// The same, until so many bytes went back. Rooms that somebody is in are left out.
    fn give_back_some(&self, large: LargeArea<'_>, mut bytes: u64) {
        let Some(rooms) = self.rooms.get() else { return };
        // The last first: slots are taken from the first on, so these were not used for longest.
        for (index, room) in rooms.iter().enumerate().rev() {
            let index = index as u16;
            // Not waited for: two that leave their rooms would wait for each other.
            let Some(mut room) = room.try_lock() else { continue };
            if room.outputs.is_none() && room.reserved != [0; 2] {
                let reserved = room.reserved_bytes();
                self.kept.fetch_sub(reserved, Ordering::Relaxed);
                room.give_back(large, index);
                bytes = bytes.saturating_sub(reserved);
            }
            if bytes == 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::{Segment, Sizes};

    const SLOTS: u32 = 4;

    fn segment() -> Segment {
        let sizes = Sizes { slots: SLOTS, slot_bytes: 256, workers: 1, payload_bytes: 1 << 20 };
        Segment::create(sizes).unwrap()
    }

    /// Bytes that have pages, bytes that are reserved, and bytes that are kept.
    fn look(room: &TensorRoom, segment: &Segment, at_first: u64) -> [u64; 3] {
        let pages = memory::pages_behind(segment.descriptor()).unwrap() - at_first;
        let rooms: Vec<_> = room.rooms.get().unwrap().iter().map(|room| room.lock()).collect();
        let unused = rooms.iter().filter(|room| room.outputs.is_none());
        let kept = room.kept.load(Ordering::Relaxed);
        assert_eq!(kept, unused.map(|room| room.reserved_bytes()).sum::<u64>());
        [4096 * pages, rooms.iter().map(|room| room.reserved_bytes()).sum(), kept]
    }

    #[test]
    fn what_is_kept_is_what_rooms_have_that_nobody_uses_and_no_more_than_the_limit() {
        let (segment, room) = (segment(), TensorRoom::new(SLOTS, false));
        let at_first = memory::pages_behind(segment.descriptor()).unwrap();
        let (page, limit) = (4096, 20 * 4096);
        room.kept_limit.set(limit).unwrap();
        let mut used = [false; SLOTS as usize];
        let mut number = 1_u64;
        let mut most = 0;
        for _ in 0..2000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = (number >> 60) as usize % used.len();
            let index = slot as u16;
            if used[slot] {
                room.end(segment.large(), index);
            } else {
                let needed = [(number >> 40) as usize % 8, (number >> 50) as usize % 8];
                let begun = room.begin(segment.large(), index, needed.map(|pages| pages * page));
                assert_eq!(begun.unwrap().is_some(), needed[0] > 0);
                assert_eq!(room.outputs(index), needed[1] * page);
            }
            used[slot] = !used[slot];
            let [pages, reserved, kept] = look(&room, &segment, at_first);
            assert_eq!(pages, reserved, "what is reserved is there, and nothing else");
            assert!(kept <= limit);
            most = most.max(kept);
        }
        assert!(most > limit / 2, "some is kept: {most}");
        (0..SLOTS as u16).filter(|index| used[usize::from(*index)]).for_each(|index| {
            room.end(segment.large(), index);
        });
        room.give_back_unused(segment.large());
        assert_eq!(look(&room, &segment, at_first), [0; 3]);
    }

    #[test]
    fn the_slot_that_is_left_last_keeps_its_pages() {
        let (segment, room) = (segment(), TensorRoom::new(SLOTS, false));
        room.kept_limit.set(2 * 4096).unwrap();
        for index in 0..3 {
            room.begin(segment.large(), index, [4096, 0]).unwrap();
        }
        for index in [0, 1, 2] {
            room.end(segment.large(), index);
        }
        let reserved = |index: u16| room.room(index).unwrap().lock().reserved_bytes();
        assert_eq!([0, 1, 2].map(reserved), [4096, 0, 4096]);
    }

    #[test]
    fn what_cannot_be_reserved_leaves_nothing() {
        let (segment, room) = (segment(), TensorRoom::new(SLOTS, false));
        let at_first = memory::pages_behind(segment.descriptor()).unwrap();
        let too_much = [1 << 20, (1 << 20) + 1];
        assert!(room.begin(segment.large(), 0, too_much).is_err());
        assert_eq!(look(&room, &segment, at_first), [0; 3]);
        assert!(room.begin(segment.large(), SLOTS as u16, [1, 1]).is_err(), "no such slot");
        assert!(room.begin(segment.large(), 0, [1, 1]).is_ok());
    }
}
