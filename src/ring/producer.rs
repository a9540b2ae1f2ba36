//! The host's end of the ring.

use crate::key::Key;
use crate::shm::{ENTRY_BYTES, Entry, Position, RingWords, SlotWords};
use crate::sync::Ordering;

/// Pushes entries. Lives in the host's own memory, under the host's own lock.
///
/// # Invariants
/// `tail` is the position of the next entry. It never runs over an entry that a worker may still
/// want: a slot has one entry for each task, and is not free for the next task before a worker has
/// reached that entry, claimed or skipped it. The worker may die before it moves the head on, which
/// can be so for one entry at a time; so at most `slots + 1` entries lie between head and tail, and
/// the ring has room for twice that. Hence nobody reads the head here, which would cost a cache
/// line that the workers keep writing.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    tail: Position,
}

impl Producer {
    /// Makes the task of `key`, which is complete in its slot, visible to the workers.
    #[inline]
    pub(crate) fn push(&mut self, ring: RingWords<'_>, key: Key, slot: &SlotWords) {
        let entries = ring.entries.len() as u64;
        let entry = Entry::new(key, self.tail, entries);
        let index = (self.tail & (entries - 1)) as usize;
        if let Some(words) = ring.entries.get(index) {
            // Relaxed, here and below: the host's own words; published by the Release.
            let len = slot.task_len.load(Ordering::Relaxed);
            words.len.store(len, Ordering::Relaxed);
            if len as usize <= ENTRY_BYTES {
                let used = (len as usize).div_ceil(8);
                for (to, from) in words.task.iter().zip(&slot.task).take(used) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
            // Release: pairs with the Acquire load of the entry in `claim`; the task is complete.
            // A swap, because the look for sleepers that follows (`wake_one`) needs a barrier
            // anyway, and this is the cheapest; AcqRel, so that no compiler makes a store of it.
            words.entry.swap(entry.word(), Ordering::AcqRel);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// The position of the next entry.
    pub(crate) fn tail(&self) -> Position {
        self.tail
    }
}
