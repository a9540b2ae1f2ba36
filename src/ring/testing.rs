//! What the tests of the ring share: its words in plain memory.

use std::mem::MaybeUninit;

use super::Producer;
use crate::key::{Generation, Key};
use crate::shm::{ENTRY_BYTES, Owner, RingWords, SlotWords};
use crate::sync::{AtomicU64, Ordering};

/// Entries of the tests' ring.
pub(super) const ENTRIES: usize = 8;

/// Slots beside it.
const SLOTS: usize = 3;

/// Words of the segment as they are when it is fresh.
pub(super) fn zeroed<T>(count: usize) -> Box<[T]> {
    // SAFETY: used for the layout's types only, which consist of integer atomics: all zeros are a
    // value of theirs.
    (0..count).map(|_| unsafe { MaybeUninit::zeroed().assume_init() }).collect()
}

/// Runs a test on a fresh ring with its slots.
pub(super) fn with_ring(test: impl FnOnce(RingWords<'_>, &[SlotWords])) {
    let (entries, head, slots) = (zeroed(ENTRIES), AtomicU64::new(0), zeroed(SLOTS));
    test(RingWords { entries: &entries, head: &head }, &slots);
}

pub(super) fn generation(number: u64) -> Generation {
    Generation::new(number).unwrap()
}

pub(super) fn owner(place: u16) -> Owner {
    Owner::worker(place).unwrap()
}

/// The key of a task in slot 0.
pub(super) fn key(number: u64) -> Key {
    Key::new(0, generation(number))
}

/// Writes a task as the host does: into the slot's words, as far as it fits there.
pub(super) fn write_task(slot: &SlotWords, task: &[u8]) {
    slot.task_len.store(task.len() as u32, Ordering::Relaxed);
    for (word, bytes) in slot.task.iter().zip(task.chunks(8)) {
        let mut whole = [0xEE; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
    }
}

/// Pushes a small task of the key into the slot that it names.
pub(super) fn push(producer: &mut Producer, ring: RingWords<'_>, slots: &[SlotWords], key: Key) {
    let slot = &slots[usize::from(key.index())];
    write_task(slot, &key.get().to_ne_bytes());
    producer.push(ring, key, slot);
}

const _: () = assert!(ENTRIES > 2 * SLOTS && ENTRY_BYTES >= 8);
