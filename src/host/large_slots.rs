//! Which slots have something in the large area.

use crate::sync::{AtomicU32, Ordering};

/// What a slot has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    /// A task that does not fit the slot.
    Task = 1,
    /// Tensors in place.
    Tensors = 2,
}

impl Large {
    /// Whether it is one of those that [`LargeSlots::end`] gave.
    pub(crate) fn is_in(self, had: u32) -> bool {
        had & self as u32 != 0
    }
}

/// One word for each slot, in the host's own memory. They change only with large tasks, so that all
/// others read them from their own cache.
pub(crate) struct LargeSlots(Box<[AtomicU32]>);

impl LargeSlots {
    pub(crate) fn new(slots: u32) -> Self {
        Self((0..slots).map(|_| AtomicU32::new(0)).collect())
    }

    /// The slot at `index`, which this thread fills, gets this.
    pub(crate) fn begin(&self, index: u16, large: Large) {
        if let Some(slot) = self.0.get(usize::from(index)) {
            // Relaxed, here and below: whoever fills a slot hands it on through the book, and the ring
            // or the free slots.
            slot.store(slot.load(Ordering::Relaxed) | large as u32, Ordering::Relaxed);
        }
    }

    /// It has nothing any more. Gives what it had.
    pub(crate) fn end(&self, index: u16) -> u32 {
        self.0.get(usize::from(index)).map_or(0, |slot| {
            let had = slot.load(Ordering::Relaxed);
            slot.store(0, Ordering::Relaxed);
            had
        })
    }

    fn word(&self, index: u16) -> u32 {
        self.0.get(usize::from(index)).map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    /// Whether the slot has anything there.
    #[inline]
    pub(crate) fn is_used(&self, index: u16) -> bool {
        self.word(index) != 0
    }

    /// Whether the slot has this there.
    pub(crate) fn has(&self, index: u16, large: Large) -> bool {
        large.is_in(self.word(index))
    }
}
