//! Which slots have a task in the large area.

use crate::sync::{AtomicU32, Ordering};

/// One word for each slot, in the host's own memory. They change only with large tasks, so that all
/// others read them from their own cache.
pub(crate) struct LargeSlots(Box<[AtomicU32]>);

impl LargeSlots {
    pub(crate) fn new(slots: u32) -> Self {
        Self((0..slots).map(|_| AtomicU32::new(0)).collect())
    }

    /// The slot at `index`, which this thread fills, gets a large task.
    pub(crate) fn begin(&self, index: u16) {
        self.set(index, 1);
    }

    /// It has none any more.
    pub(crate) fn end(&self, index: u16) {
        self.set(index, 0);
    }

    fn set(&self, index: u16, word: u32) {
        if let Some(slot) = self.0.get(usize::from(index)) {
            // Relaxed, here and below: whoever fills a slot hands it on through the book, and the ring
            // or the free slots.
            slot.store(word, Ordering::Relaxed);
        }
    }

    /// Whether the slot has a large task.
    #[inline]
    pub(crate) fn is_used(&self, index: u16) -> bool {
        self.0.get(usize::from(index)).is_some_and(|slot| slot.load(Ordering::Relaxed) != 0)
    }
}
