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
        // Relaxed: read under the lock, or as a hint.
        ring.head.store(head.wrapping_add(1), Ordering::Relaxed);
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
    // complete. A swap, because the look for a sleeper that follows needs a barrier anyway.
    slot.done.swap(done, Ordering::Release);
}
