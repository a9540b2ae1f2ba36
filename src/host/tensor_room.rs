//! The pages behind reserved tensors: whose they are, and how long they stay.
//!
//! They stay when a task is over, so that the next one finds them warm: fresh pages cost more than
//! everything else of a call. They go back when the engine has had no task for two seconds, when
//! another task finds no room, and beyond a limit at once.

use core::ptr::NonNull;
use std::io;
use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::shm::{Extent, LargeArea, MappedExtent};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::{self, Access};

/// The pages of slots that nobody uses may be this part of /dev/shm.
const KEPT_PART: u64 = 4;

/// Bytes of inputs and of outputs.
pub(crate) type Bytes = [usize; 2];

/// The extents for tensors, of all slots.
pub(crate) struct TensorRoom {
    slots: u32,
    /// Made with the first task that reserves any.
    rooms: OnceLock<Box<[Mutex<Room>]>>,
    /// Bytes reserved in slots that nobody uses.
    kept: AtomicU64,
    kept_limit: OnceLock<u64>,
}

/// A slot's extents for tensors.
#[derive(Default)]
struct Room {
    /// That of the inputs, once there was any. Stays as long as the engine.
    inputs: Option<MappedExtent>,
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
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots, rooms: OnceLock::new(), kept: AtomicU64::new(0), kept_limit: OnceLock::new() }
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
        let began = Self::provide(&mut room, large, index, needed);
        if began.is_err() {
            room.outputs = None;
            room.give_back(large, index);
        }
        Ok(began?.filter(|_| inputs > 0))
    }

    fn provide(
        room: &mut Room,
        large: LargeArea<'_>,
        index: u16,
        needed: Bytes,
    ) -> io::Result<Option<NonNull<u8>>> {
        for ((extent, reserved), needed) in
            Extent::IN_PLACE.into_iter().zip(&mut room.reserved).zip(needed)
        {
            large.reserve(index, extent, *reserved, needed)?;
            *reserved = needed.max(*reserved);
        }
        if room.inputs.is_none() && needed[0] > 0 {
            room.inputs = Some(large.map(index, Extent::Input, Access::Write)?);
        }
        Ok(room.inputs.as_ref().and_then(|inputs| inputs.at(0, needed[0])))
    }

    /// What the task in this slot has of its outputs' extent, in bytes.
    pub(crate) fn outputs(&self, index: u16) -> usize {
        self.room(index).map_or(0, |room| room.lock().outputs.unwrap_or(0))
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
        if self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes > limit {
            self.kept.fetch_sub(bytes, Ordering::Relaxed);
            room.give_back(large, index);
        }
    }

    /// Gives the pages of slots that nobody uses back.
    pub(crate) fn give_back_unused(&self, large: LargeArea<'_>) {
        let Some(rooms) = self.rooms.get() else { return };
        for (index, room) in (0..=u16::MAX).zip(rooms) {
            let mut room = room.lock();
            if room.outputs.is_none() && room.reserved != [0; 2] {
                self.kept.fetch_sub(room.reserved_bytes(), Ordering::Relaxed);
                room.give_back(large, index);
            }
        }
    }
}
