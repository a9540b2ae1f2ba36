//! The workers' end of the ring: claim a task, complete it.

use crate::faults;
use crate::key::Key;
use crate::shm::{Entry, Owner, Phase, RingWords, SlotWords, State};
use crate::sync::Ordering;

/// What a look under the lock has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A task, RUNNING in the name of the worker that asked.
    Task(Key),
    /// Nothing is waiting.
    Empty,
}

/// Whether an entry waits at the head: a hint, taken without the lock. The load of the entry is
/// the one an idle worker spins on.
#[inline]
pub(crate) fn pending(ring: RingWords<'_>) -> bool {
    let entries = ring.entries.len() as u64;
    // Relaxed: a stale head shows an entry of an older round, or one that is claimed under the
    // lock anyway.
    let head = ring.head.load(Ordering::Relaxed);
    let Some(word) = ring.entries.get((head & (entries - 1)) as usize) else { return false };
    // Relaxed: nothing is read through it; `claim` loads it again.
    Entry::fresh(word.load(Ordering::Relaxed), head, entries).is_some()
}

/// Claims the first waiting task for `owner`. Must run under the workers' lock.
///
/// The order is: read the entry at the head, claim its slot by compare-and-swap, move the head on.
/// A worker that dies at any point of it leaves an entry that is unclaimed, or one that is stale:
/// claimed already, which the next worker sees at the slot and skips. So there is nothing to
/// repair. An entry is skipped too when its task was cancelled; the slot becomes free only after
/// this, so a slot never has two entries.
#[inline]
pub(crate) fn claim<'a>(
    ring: RingWords<'a>,
    slot: impl Fn(u16) -> Option<&'a SlotWords>,
    owner: Owner,
) -> Claim {
    let entries = ring.entries.len() as u64;
    // No more rounds than the ring has entries: what a broken peer writes must not keep the lock.
    for _ in 0..entries {
        // Relaxed: the head is only written under the lock, which this thread has.
        let head = ring.head.load(Ordering::Relaxed);
        let Some(word) = ring.entries.get((head & (entries - 1)) as usize) else { break };
        // Acquire: pairs with the Release store in `Producer::push`.
        let Some(key) = Entry::fresh(word.load(Ordering::Acquire), head, entries) else { break };
        faults::point("claim.before");
        let claimed = key.and_then(|key| try_claim(slot(key.index())?, key, owner));
        faults::point("claim.claimed");
        // Relaxed: read under the lock, or as a hint.
        ring.head.store(head.wrapping_add(1), Ordering::Relaxed);
        if let Some(key) = claimed {
            return Claim::Task(key);
        }
    }
    Claim::Empty
}

/// QUEUED → RUNNING, or CANCELLED → DONE when nobody wants the task any more.
#[inline]
fn try_claim(slot: &SlotWords, key: Key, owner: Owner) -> Option<Key> {
    let generation = key.generation()?;
    let queued = State::of_host(Phase::Queued, generation).pack();
    let running = State::of(Phase::Running, owner, generation).pack();
    // Acquire: the payload, published by the host before its QUEUED store, which precedes the
    // Release of the entry. Relaxed on failure: nothing is read then.
    match slot.state.compare_exchange(queued, running, Ordering::Acquire, Ordering::Relaxed) {
        Ok(_) => Some(key),
        Err(_) => {
            let cancelled = State::of_host(Phase::Cancelled, generation).pack();
            let skipped = State::of(Phase::Done, owner, generation).pack();
            // Release: pairs with the Acquire load by which the host takes the slot back; this
            // thread has read the entry for the last time. Fails for a stale entry, which is
            // skipped without a trace.
            let _ = slot.state.compare_exchange(
                cancelled,
                skipped,
                Ordering::Release,
                Ordering::Relaxed,
            );
            None
        }
    }
}

/// RUNNING → DONE: hands the outcome, which is written, to the host. `false` when the worker was
/// condemned meanwhile: it must claim nothing more.
#[inline]
pub(crate) fn complete(slot: &SlotWords, key: Key, owner: Owner) -> bool {
    let Some(generation) = key.generation() else { return false };
    let running = State::of(Phase::Running, owner, generation).pack();
    let done = State::of(Phase::Done, owner, generation).pack();
    // Release: pairs with the Acquire load of the state in `host::core`; length and payload of
    // the outcome are complete.
    slot.state.compare_exchange(running, done, Ordering::Release, Ordering::Relaxed).is_ok()
}
