//! Who is told that a task is over, and how an event loop learns of many at once.
//!
//! A slot's `waiter` word says who wants to be told of its task. Both sides publish first and look
//! afterwards, with a SeqCst fence between the two: who wants to be told writes the word and looks
//! whether the task is over, who ends the task publishes that and looks at the word.
//!
//! An event loop does not look at every slot: whoever ends a task sets the slot's bit and rings a bell.
//! The bits are hints. A lost one costs time until the supervisor's next audit, a false one a look.

use crate::shm::Completed;
use crate::sync::{AtomicU32, Ordering, fence};

/// Has `who` be told when the task of this slot is over. The caller must look whether it is over
/// already, afterwards.
///
/// Gives the word as it stands then.
pub(crate) fn ask(waiter: &AtomicU32, who: u32) -> u32 {
    // Relaxed: ordered by the fence.
    let others = waiter.fetch_or(who, Ordering::Relaxed);
    // SeqCst: pairs with the one before `take_waiters`. Either whoever ends the task sees that somebody
    // wants to be told, or the caller sees that it is over.
    fence(Ordering::SeqCst);
    others | who
}

/// Who is to be told that a task is over, by the caller. For one that has published that it is, and
/// passed a SeqCst fence since, which pairs with the one in [`ask`].
#[inline]
pub(crate) fn take_waiters(waiter: &AtomicU32) -> u32 {
    // Relaxed: ordered by the fence.
    let waiters = waiter.load(Ordering::Relaxed);
    if waiters != 0 {
        // Relaxed: who comes later looks after its own fence, and sees that the task is over. All who
        // are taken are told, be it of the slot's next task: then they ask again.
        return waiter.swap(0, Ordering::Relaxed);
    }
    0
}

/// Marks a slot whose task is over. Whether the bell has to be rung.
pub(crate) fn mark(completed: Completed<'_>, index: u16) -> bool {
    let bit = 1 << (u32::from(index) % u64::BITS);
    let Some(word) = completed.slots.get(usize::from(index) / u64::BITS as usize) else {
        return false;
    };
    // Release: pairs with the Acquire swap in `collect`; the loop finds the task over.
    word.fetch_or(bit, Ordering::Release);
    // AcqRel: pairs with the swap in `collect`. If this finds the word set, that swap is yet to come, and
    // comes after the bit.
    completed.words.announced.swap(1, Ordering::AcqRel) == 0
}

/// Takes all marks. For one that has answered the bell before.
pub(crate) fn collect(completed: Completed<'_>, mut each: impl FnMut(u16)) {
    // AcqRel: pairs with the swap in `mark`. Who finds the word set from here on rings the bell again.
    completed.words.announced.swap(0, Ordering::AcqRel);
    for (word, start) in completed.slots.iter().zip((0..=u16::MAX).step_by(u64::BITS as usize)) {
        // Relaxed: a look that saves the swap of most; what it misses is announced again.
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        // Acquire: pairs with the Release in `mark`.
        let mut bits = word.swap(0, Ordering::Acquire);
        while bits != 0 {
            // A `u64` has 64 bits.
            each(start + bits.trailing_zeros() as u16);
            bits &= bits - 1;
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::shm::{SLEEPS, Segment, Sizes};

    fn segment(slots: u32) -> Segment {
        let sizes = Sizes { slots, slot_bytes: 256, workers: 1, payload_bytes: 0 };
        Segment::create(sizes).unwrap()
    }

    fn collected(segment: &Segment) -> Vec<u16> {
        let mut found = Vec::new();
        collect(segment.region().completed(), |index| found.push(index));
        found
    }

    #[test]
    fn every_slot_that_is_marked_is_collected_once() {
        for slots in [1, 2, 63, 64, 65, 65_535] {
            let segment = segment(slots);
            assert!(collected(&segment).is_empty());
            let last = u16::try_from(slots - 1).unwrap();
            let marked: std::collections::BTreeSet<u16> =
                [0, 1, 62, 63, 64, 4097, last].into_iter().filter(|index| *index <= last).collect();
            for index in marked.iter().rev() {
                mark(segment.region().completed(), *index);
            }
            assert_eq!(collected(&segment), Vec::from_iter(marked), "{slots}");
            assert!(collected(&segment).is_empty(), "{slots}");
        }
    }

    #[test]
    fn the_bell_is_rung_once_until_somebody_looks() {
        let segment = segment(2);
        let completed = segment.region().completed();
        assert!(mark(completed, 0));
        assert!(!mark(completed, 1));
        assert!(!mark(completed, 0));
        assert_eq!(collected(&segment), [0, 1]);
        assert!(mark(completed, 0));
        assert!(!mark(completed, u16::MAX), "no such slot");
    }

    #[test]
    fn all_who_want_to_be_told_are_taken_together() {
        let waiter = AtomicU32::new(0);
        assert_eq!(take_waiters(&waiter), 0);
        assert_eq!(ask(&waiter, SLEEPS), 1);
        assert_eq!(ask(&waiter, crate::shm::AWAITS), 3);
        assert_eq!(take_waiters(&waiter), 3);
        assert_eq!(take_waiters(&waiter), 0);
    }
}
