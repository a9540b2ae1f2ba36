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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::claim;
    use super::super::testing::{ENTRIES, key, owner, with_ring, write_task};
    use super::*;
    use crate::shm::Payload;

    const ROUND: u64 = ENTRIES as u64;

    /// A ring whose positions begin here, with a producer that knows nothing newer.
    fn begun_at(position: Position, test: impl FnOnce(Producer, RingWords<'_>, &SlotWords)) {
        with_ring(|ring, slots| {
            let mut producer = Producer { tail: position, head: position };
            producer.vacate(ring);
            write_task(&slots[0], &[]);
            test(producer, ring, &slots[0]);
        });
    }

    /// Where rings begin, and where their numbers end.
    const BEGINNINGS: [Position; 4] = [0, 3, 1 << 40, ROUND.wrapping_neg() + 2];

    #[test]
    fn a_ring_has_room_for_its_entries_and_for_one_more_with_each_that_is_taken() {
        for beginning in BEGINNINGS {
            begun_at(beginning, |mut producer, ring, slot| {
                let mut task = Payload::new();
                for number in 1..=ROUND {
                    assert!(producer.has_room(ring), "{beginning} {number}");
                    producer.push(ring, key(number), slot);
                }
                for number in 1..=2 * ROUND {
                    assert!(!producer.has_room(ring), "{beginning} {number}: full");
                    let claimed = claim(ring, |_| Some(slot), owner(0), &mut task);
                    assert_eq!(claimed.unwrap().key, key(number));
                    assert!(producer.has_room(ring), "{beginning} {number}: one is taken");
                    producer.push(ring, key(ROUND + number), slot);
                }
            });
        }
    }

    #[test]
    fn the_head_is_looked_at_once_a_round() {
        begun_at(0, |mut producer, ring, slot| {
            // Nonsense that nobody looks at.
            ring.head.store(77, Ordering::Relaxed);
            for number in 1..=ROUND {
                assert!(producer.has_room(ring));
                producer.push(ring, key(number), slot);
            }
            ring.head.store(ROUND, Ordering::Relaxed);
            for number in 1..=ROUND {
                assert!(producer.has_room(ring));
                producer.push(ring, key(number), slot);
                ring.head.store(77, Ordering::Relaxed);
            }
            assert!(!producer.has_room(ring));
        });
    }

    #[test]
    fn a_head_that_cannot_be_gives_no_room_and_does_not_stay() {
        for beginning in BEGINNINGS {
            begun_at(beginning, |mut producer, ring, slot| {
                for number in 1..=ROUND {
                    producer.push(ring, key(number), slot);
                }
                let tail = producer.tail();
                assert_eq!(tail, beginning.wrapping_add(ROUND));
                // Ahead of the tail, a little and far; behind it by a round and more.
                for off in [1, 2, ROUND, 1 << 32, 1 << 63, ROUND.wrapping_neg()] {
                    ring.head.store(tail.wrapping_add(off), Ordering::Relaxed);
                    assert!(!producer.has_room(ring), "{beginning} {off}");
                }
                // As near as can be: all of them are taken, but one; or all.
                for behind in [ROUND - 1, 1, 0] {
                    let mut producer = Producer { tail, head: beginning };
                    ring.head.store(tail.wrapping_sub(behind), Ordering::Relaxed);
                    assert!(producer.has_room(ring), "{beginning} {behind}");
                }
            });
        }
    }

    #[test]
    fn a_vacated_ring_has_nothing_to_claim_and_room_for_all_entries() {
        for beginning in BEGINNINGS {
            begun_at(beginning, |mut producer, ring, slot| {
                let mut task = Payload::new();
                (1..=ROUND).for_each(|number| producer.push(ring, key(number), slot));
                ring.head.store(beginning.wrapping_sub(99), Ordering::Relaxed);
                // Whatever stands there: words that would be fresh at some position.
                for words in ring.entries {
                    let word = words.entry.load(Ordering::Relaxed);
                    words.entry.store(word ^ 1 << 63, Ordering::Relaxed);
                }
                producer.vacate(ring);
                assert!(claim(ring, |_| Some(slot), owner(0), &mut task).is_none());
                for number in 1..=ROUND {
                    assert!(producer.has_room(ring), "{beginning} {number}");
                    producer.push(ring, key(number), slot);
                }
                let claimed = claim(ring, |_| Some(slot), owner(0), &mut task);
                assert_eq!(claimed.unwrap().key, key(1));
            });
        }
    }
}
