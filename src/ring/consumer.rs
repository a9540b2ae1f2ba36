//! The workers' end of the ring: claim a task, complete it.

use crate::faults;
use crate::key::{Generation, Key};
use crate::shm::{
    ENTRY_BYTES, Entry, Owner, Payload, Phase, RingWords, SlotWords, State, copy_words,
};
use crate::sync::Ordering;

/// A task that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) key: Key,
    /// Bytes of the task, as its entry says.
    pub(crate) len: usize,
}

/// Whether an entry waits at the head: a hint, taken without the lock. The load of the entry is
/// the one an idle worker spins on.
#[inline]
pub(crate) fn pending(ring: RingWords<'_>) -> bool {
    let entries = ring.entries.len() as u64;
    // Relaxed: a stale head shows an entry of an older round, or one that is claimed under the
    // lock anyway.
    let head = ring.head.load(Ordering::Relaxed);
    let Some(words) = ring.entries.get((head & (entries - 1)) as usize) else { return false };
    // Relaxed: nothing is read through it; `claim` loads it again.
    Entry::fresh(words.entry.load(Ordering::Relaxed), head, entries).is_some()
}

/// Claims the first waiting task for `owner`, and copies it into `task` if it travels in its entry.
/// Must run under the workers' lock.
///
/// The order is: read the entry at the head, claim its slot by compare-and-swap, copy the task,
/// move the head on. (Before that the entry cannot be overwritten; after it, it can.) A worker that
/// dies at any point of it leaves an entry that is unclaimed, or one that is stale: claimed
/// already, which the next worker sees at the slot and skips. So there is nothing to repair. An
/// entry is skipped too when its task was cancelled; the slot becomes free only after this, so a
/// slot never has two entries.
#[inline]
pub(crate) fn claim<'a>(
    ring: RingWords<'a>,
    slot: impl Fn(u16) -> Option<&'a SlotWords>,
    owner: Owner,
    task: &mut Payload,
) -> Option<Claimed> {
    let entries = ring.entries.len() as u64;
    // No more rounds than the ring has entries: what a broken peer writes must not keep the lock.
    for _ in 0..entries {
        // Relaxed: the head is only written under the lock, which this thread has.
        let head = ring.head.load(Ordering::Relaxed);
        let words = ring.entries.get((head & (entries - 1)) as usize)?;
        // Acquire: pairs with the Release in `Producer::push`; the task is complete.
        let key = Entry::fresh(words.entry.load(Ordering::Acquire), head, entries)?;
        faults::point("claim.before");
        let claimed = key.and_then(|key| try_claim(slot(key.index())?, key, owner));
        faults::point("claim.claimed");
        // Relaxed: see above.
        let len = words.len.load(Ordering::Relaxed) as usize;
        if claimed.is_some() && len <= ENTRY_BYTES {
            copy_words(words.task.get(..len.div_ceil(8)).unwrap_or_default(), len, task);
        }
        // Release: pairs with the Acquire in `Producer::has_room`: the entry may be overwritten.
        ring.head.store(head.wrapping_add(1), Ordering::Release);
        if let Some(key) = claimed {
            return Some(Claimed { key, len });
        }
    }
    None
}

/// (older) → RUNNING, or CANCELLED → DONE when nobody wants the task any more.
#[inline]
fn try_claim(slot: &SlotWords, key: Key, owner: Owner) -> Option<Key> {
    let generation = key.generation()?;
    // Relaxed: believed only if the exchange below finds it unchanged.
    let word = slot.claim.load(Ordering::Relaxed);
    match State::unpack(word) {
        Some(State { generation: seen, phase, .. }) if !generation.is_after(seen) => {
            if seen == generation && phase == Phase::Cancelled {
                skip(slot, word, owner, generation);
            }
            // Otherwise the entry is stale: claimed before, by one that died in the lock.
            None
        }
        // A word of an earlier task, or of none.
        _ => {
            let running = State::of(Phase::Running, owner, generation).pack();
            // Acquire: pairs with the Release by which an earlier owner, or the supervisor, gave
            // the slot up. Fails when the host cancels the task at this moment: looked at again,
            // once, because nobody cancels twice.
            match slot.claim.compare_exchange(word, running, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => Some(key),
                Err(word) => {
                    let cancelled = State::of_host(Phase::Cancelled, generation).pack();
                    if word == cancelled {
                        skip(slot, word, owner, generation);
                    }
                    None
                }
            }
        }
    }
}

/// CANCELLED → DONE: this thread has read the entry for the last time, so the slot may be used
/// again.
#[cold]
fn skip(slot: &SlotWords, cancelled: u64, owner: Owner, generation: Generation) {
    let done = State::of(Phase::Done, owner, generation).pack();
    // Relaxed: the step that counts is the next one.
    if slot.claim.compare_exchange(cancelled, done, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        // Release: pairs with the Acquire load by which the host takes the slot back.
        slot.done.store(done, Ordering::Release);
    }
}

/// RUNNING → DONE, in the claim: from here on this worker is the one that publishes an outcome.
/// `false` when it was condemned meanwhile: it must write and claim nothing more.
#[inline]
pub(crate) fn finish(slot: &SlotWords, key: Key, owner: Owner) -> bool {
    let Some(generation) = key.generation() else { return false };
    let running = State::of(Phase::Running, owner, generation).pack();
    let done = State::of(Phase::Done, owner, generation).pack();
    // AcqRel: nothing of the outcome is written before it is clear that it may be (pairs with the
    // supervisor's exchange to CONDEMNED), and the next claim of this slot comes after it.
    slot.claim.compare_exchange(running, done, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Hands the outcome, which is written, to the host.
#[inline]
pub(crate) fn publish(slot: &SlotWords, key: Key, owner: Owner) {
    let Some(generation) = key.generation() else { return };
    let done = State::of(Phase::Done, owner, generation).pack();
    // Release: pairs with the Acquire load in `host::core`; length and bytes of the outcome are
    // complete. A swap, because the look for a sleeper that follows needs a barrier anyway; AcqRel,
    // so that no compiler makes a store of it.
    slot.done.swap(done, Ordering::AcqRel);
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::testing::{ENTRIES, generation, key, owner, push, with_ring, write_task};
    use super::super::{Producer, cancel};
    use super::*;

    /// What a worker at this place claims, and the task that it finds in the entry.
    fn take(ring: RingWords<'_>, slots: &[SlotWords], place: u16) -> Option<(Claimed, Vec<u8>)> {
        let mut task = Payload::from_slice(b"old");
        let slot = |index: u16| slots.get(usize::from(index));
        let claimed = claim(ring, slot, owner(place), &mut task)?;
        Some((claimed, task.to_vec()))
    }

    fn claims(ring: RingWords<'_>, slots: &[SlotWords], expected: Key) {
        let (claimed, task) = take(ring, slots, 0).unwrap();
        assert_eq!((claimed.key, &*task), (expected, &expected.get().to_ne_bytes()[..]));
    }

    fn claims_nothing(ring: RingWords<'_>, slots: &[SlotWords]) {
        assert_eq!(take(ring, slots, 0), None);
        assert!(!pending(ring));
    }

    fn ends(slot: &SlotWords, key: Key) {
        assert!(finish(slot, key, owner(0)));
        publish(slot, key, owner(0));
    }

    fn done(slot: &SlotWords) -> Option<State> {
        State::unpack(slot.done.load(Ordering::Relaxed))
    }

    fn claim_word(slot: &SlotWords) -> Option<State> {
        State::unpack(slot.claim.load(Ordering::Relaxed))
    }

    #[test]
    fn a_task_of_any_size_comes_through_the_ring_and_its_outcome_back() {
        for len in [0, 1, 7, 8, 9, 47, 48, 49, 112, 113] {
            with_ring(|ring, slots| {
                let mut producer = Producer::default();
                let bytes: Vec<u8> = (0..len).collect();
                // Several rounds of the ring.
                for number in 1..=3 * ENTRIES as u64 + 1 {
                    let (slot, key) = (&slots[1], Key::new(1, generation(number)));
                    assert!(!pending(ring));
                    write_task(slot, &bytes);
                    producer.push(ring, key, slot);
                    assert!(pending(ring));
                    let (claimed, task) = take(ring, slots, 7).unwrap();
                    assert_eq!(claimed, Claimed { key, len: bytes.len() });
                    // A larger one is read from its slot.
                    assert_eq!(task, if bytes.len() <= ENTRY_BYTES { &bytes } else { &b"old"[..] });
                    claims_nothing(ring, slots);
                    let running = State::of(Phase::Running, owner(7), generation(number));
                    assert_eq!(claim_word(slot), Some(running));
                    assert!(!finish(slot, key, owner(6)), "somebody else's");
                    assert!(finish(slot, key, owner(7)));
                    assert!(!finish(slot, key, owner(7)), "once only");
                    let ended = Some(State { phase: Phase::Done, ..running });
                    assert_eq!(claim_word(slot), ended);
                    assert_ne!(done(slot), ended, "not published yet");
                    publish(slot, key, owner(7));
                    assert_eq!(done(slot), ended);
                }
                assert_eq!(producer.tail(), 3 * ENTRIES as u64 + 1);
            });
        }
    }

    #[test]
    fn tasks_are_claimed_in_the_order_in_which_they_were_pushed() {
        with_ring(|ring, slots| {
            let mut producer = Producer::default();
            let keys = [2, 0, 1].map(|index| Key::new(index, generation(5)));
            keys.iter().for_each(|key| push(&mut producer, ring, slots, *key));
            keys.iter().for_each(|key| claims(ring, slots, *key));
            claims_nothing(ring, slots);
        });
    }

    #[test]
    fn an_entry_whose_claimer_died_in_the_lock_is_stale_and_skipped() {
        let nothing: fn(&SlotWords, Key) = |_, _| {};
        for afterwards in [nothing, ends] {
            with_ring(|ring, slots| {
                let mut producer = Producer::default();
                push(&mut producer, ring, slots, key(1));
                claims(ring, slots, key(1));
                afterwards(&slots[0], key(1));
                let (before, published) = (claim_word(&slots[0]), done(&slots[0]));
                // The dead worker has not moved the head on.
                ring.head.store(0, Ordering::Relaxed);
                let next = Key::new(1, generation(1));
                push(&mut producer, ring, slots, next);
                claims(ring, slots, next);
                assert_eq!((claim_word(&slots[0]), done(&slots[0])), (before, published));
                claims_nothing(ring, slots);
            });
        }
    }

    /// A generation and the one after it; also where the numbers start anew.
    const TURNS: [(u64, u64); 2] = [(7, 8), ((1 << Generation::BITS) - 1, 1)];

    #[test]
    fn an_entry_that_was_pushed_twice_is_claimed_once() {
        for (first, second) in TURNS {
            with_ring(|ring, slots| {
                let mut producer = Producer::default();
                push(&mut producer, ring, slots, key(first));
                push(&mut producer, ring, slots, key(first));
                claims(ring, slots, key(first));
                ends(&slots[0], key(first));
                push(&mut producer, ring, slots, key(second));
                claims(ring, slots, key(second));
                claims_nothing(ring, slots);
            });
        }
    }

    #[test]
    fn a_late_entry_of_an_earlier_task_takes_nothing_from_the_later_one() {
        for (first, second) in TURNS {
            with_ring(|ring, slots| {
                let (mut producer, slot) = (Producer::default(), &slots[0]);
                push(&mut producer, ring, slots, key(first));
                claims(ring, slots, key(first));
                ends(slot, key(first));
                push(&mut producer, ring, slots, key(second));
                push(&mut producer, ring, slots, key(first));
                claims(ring, slots, key(second));
                let running = claim_word(slot);
                claims_nothing(ring, slots);
                assert_eq!(claim_word(slot), running);
                ends(slot, key(second));
                push(&mut producer, ring, slots, key(first));
                claims_nothing(ring, slots);
                assert_eq!(done(slot).unwrap().generation, generation(second));
            });
        }
    }

    #[test]
    fn a_task_that_is_cancelled_before_its_claim_is_skipped_and_its_slot_given_back() {
        for (first, second) in TURNS {
            with_ring(|ring, slots| {
                let (mut producer, slot) = (Producer::default(), &slots[0]);
                push(&mut producer, ring, slots, key(first));
                assert!(cancel(slot, generation(first)));
                assert!(!cancel(slot, generation(first)), "once only");
                assert_eq!(done(slot), None, "its entry was not passed yet");
                claims_nothing(ring, slots);
                let given_back = Some(State::of(Phase::Done, owner(0), generation(first)));
                assert_eq!((claim_word(slot), done(slot)), (given_back, given_back));
                push(&mut producer, ring, slots, key(second));
                claims(ring, slots, key(second));
            });
        }
    }

    #[test]
    fn a_task_that_was_claimed_cannot_be_cancelled() {
        with_ring(|ring, slots| {
            let (mut producer, slot) = (Producer::default(), &slots[0]);
            push(&mut producer, ring, slots, key(3));
            claims(ring, slots, key(3));
            let running = claim_word(slot);
            assert!(!cancel(slot, generation(3)));
            assert_eq!(claim_word(slot), running);
            ends(slot, key(3));
            assert!(!cancel(slot, generation(3)));
            assert!(!cancel(slot, generation(2)), "one of before");
        });
    }

    #[test]
    fn entries_that_no_host_writes_neither_stop_nor_fool_the_claim() {
        with_ring(|ring, slots| {
            let mut producer = Producer::default();
            // A slot that is not there.
            write_task(&slots[0], b"task");
            producer.push(ring, Key::new(99, generation(1)), &slots[0]);
            // No key at all, in the first round.
            ring.entries[1].entry.store(1 << 63, Ordering::Relaxed);
            assert_eq!(take(ring, slots, 0), None);
            // A length that no entry has: not read from here.
            let mut producer = Producer::default();
            ring.head.store(0, Ordering::Relaxed);
            push(&mut producer, ring, slots, key(1));
            ring.entries[0].len.store(u32::MAX, Ordering::Relaxed);
            let (claimed, task) = take(ring, slots, 0).unwrap();
            assert_eq!((claimed.len, &*task), (u32::MAX as usize, &b"old"[..]));
        });
    }
}
