//! The host's end of the ring.

use crate::key::Key;
use crate::shm::{ENTRY_BYTES, Entry, Position, RingWords, SlotWords};
use crate::sync::Ordering;

/// Pushes entries. Lives in the host's own memory, under the host's own lock.
///
/// # Invariants
/// `tail` is the position of the next entry, `head` one that the workers have reached. The tail
/// never runs over an entry that a worker may still want: it stays within one round of `head`.
///
/// Between honest parties it does so by itself: a slot has one entry for each task, and is not free
/// for the next task before a worker has reached that entry, claimed or skipped it. The worker may
/// die before it moves the head on, which can be so for one entry at a time; so at most `slots + 1`
/// entries lie between head and tail, and a few more of tasks that were pushed again. The ring has
/// room for twice that. So the workers' head, a line that they keep writing, is looked at once a
/// round.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    tail: Position,
    head: Position,
}

impl Producer {
    /// Whether there is room for another entry. There is not if the workers do not take what there
    /// is, although their slots are free again: something has written there that should not.
    #[inline]
    pub(crate) fn has_room(&mut self, ring: RingWords<'_>) -> bool {
        let entries = ring.entries.len() as u64;
        if self.tail.wrapping_sub(self.head) < entries {
            return true;
        }
        // Acquire: pairs with the Release in `claim`: whoever has moved the head on has read the
        // entries before it.
        let head = ring.head.load(Ordering::Acquire);
        if self.tail.wrapping_sub(head) < entries {
            self.head = head;
        }
        self.tail.wrapping_sub(self.head) < entries
    }

    /// Makes the task of `key`, which is complete in its slot, visible to the workers. There must be
    /// [room](Self::has_room).
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

    /// Takes all entries out of the ring, and makes stale ones of them, whatever they say: for when no
    /// worker lives, and what the dead have left is not to be trusted.
    pub(crate) fn vacate(&mut self, ring: RingWords<'_>) {
        let entries = ring.entries.len() as u64;
        for ahead in 0..entries {
            let position = self.tail.wrapping_add(ahead);
            if let Some(words) = ring.entries.get((position & (entries - 1)) as usize) {
                // Relaxed, here and below: the next worker is started after this.
                words.entry.store(Entry::stale(position, entries), Ordering::Relaxed);
            }
        }
        ring.head.store(self.tail, Ordering::Relaxed);
        self.head = self.tail;
    }

    /// The position of the next entry.
    pub(crate) fn tail(&self) -> Position {
        self.tail
    }
}
