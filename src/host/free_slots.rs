//! The free slots: a stack in the host's own memory. Last used, first reused, so that a call finds
//! its slot in the caches, and 65,535 slots cost it no more than 64.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The end of the list. No slot has this index: there are at most 65,535.
const NONE: u16 = u16::MAX;

/// A lock-free stack of slot indices (R. K. Treiber's). Threads of one process use it; a thread
/// that is interrupted in the middle of it keeps nobody from going on.
///
/// # Invariants
/// From `head`, along `next`, the list has each free slot once and ends with [`NONE`]. A slot that
/// is not in it belongs to the thread that has popped it.
pub(crate) struct FreeSlots {
    /// In the low 16 bits the first free slot; in the others a number that each step counts up, so
    /// that a head which looks the same is the same: it comes round after 2⁴⁸ steps, which take
    /// more than a year.
    head: AtomicU64,
    /// For each free slot the one after it.
    next: Box<[AtomicU32]>,
}

const INDEX_BITS: u32 = 16;

const fn head(count: u64, first: u16) -> u64 {
    count << INDEX_BITS | first as u64
}

/// The head after a step that makes `first` the first free slot.
const fn step(seen: u64, first: u16) -> u64 {
    head((seen >> INDEX_BITS).wrapping_add(1), first)
}

impl FreeSlots {
    /// All of `slots` are free; the lowest comes first.
    pub(crate) fn new(slots: u16) -> Self {
        let after = |index: u16| if index + 1 < slots { index + 1 } else { NONE };
        Self {
            head: AtomicU64::new(head(0, if slots > 0 { 0 } else { NONE })),
            next: (0..slots).map(|index| AtomicU32::new(after(index).into())).collect(),
        }
    }

    /// Takes the slot that was freed last.
    #[inline]
    pub(crate) fn pop(&self) -> Option<u16> {
        // Acquire, here and at a failed exchange: pairs with the Release in `push`; the slot's
        // `next`, and all that its last user did to the slot, are visible. (Exchanges in between
        // keep that up: they are read-modify-writes.)
        let mut seen = self.head.load(Ordering::Acquire);
        loop {
            let index = seen as u16;
            if index == NONE {
                return None;
            }
            // Relaxed: ordered by the head. Another thread may have taken the slot and pushed it
            // again; then this is stale, but the head's count has changed, and the exchange fails.
            let next = self.next.get(usize::from(index))?.load(Ordering::Relaxed);
            let rest = step(seen, next as u16);
            match self.head.compare_exchange_weak(seen, rest, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(index),
                Err(now) => seen = now,
            }
        }
    }

    /// Gives back a slot that this thread has popped.
    #[inline]
    pub(crate) fn push(&self, index: u16) {
        let Some(next) = self.next.get(usize::from(index)) else { return };
        // Relaxed: only the count and the index are used.
        let mut seen = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange.
            next.store((seen as u16).into(), Ordering::Relaxed);
            let more = step(seen, index);
            // Release: pairs with the Acquire in `pop`.
            match self.head.compare_exchange_weak(seen, more, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn every_slot_comes_once_and_the_last_freed_comes_first() {
        let free = FreeSlots::new(3);
        assert_eq!(
            [free.pop(), free.pop(), free.pop(), free.pop()],
            [Some(0), Some(1), Some(2), None]
        );
        free.push(1);
        free.push(0);
        assert_eq!([free.pop(), free.pop(), free.pop()], [Some(0), Some(1), None]);
        assert_eq!(FreeSlots::new(0).pop(), None);
        let most = FreeSlots::new(u16::MAX);
        assert_eq!((0..=u16::MAX).map_while(|_| most.pop()).count(), 65_535);
    }

    #[test]
    fn no_slot_is_in_two_hands_and_none_is_lost_whatever_threads_do() {
        const SLOTS: u16 = 3;
        let free = FreeSlots::new(SLOTS);
        let taken: Vec<_> = (0..SLOTS).map(|_| AtomicBool::new(false)).collect();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(index) = free.pop() else {
                            thread::yield_now();
                            continue;
                        };
                        let taken = &taken[usize::from(index)];
                        assert!(!taken.swap(true, std::sync::atomic::Ordering::Relaxed));
                        taken.store(false, std::sync::atomic::Ordering::Relaxed);
                        free.push(index);
                    }
                });
            }
        });
        let mut left: Vec<_> = std::iter::from_fn(|| free.pop()).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2]);
    }
}
