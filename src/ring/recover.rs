//! What the host does to a slot that does not go the usual way, and what it does after a death:
//! what the dead worker owned, and the words it left.
//!
//! Only the supervisor settles, and only once the kernel has confirmed the death: a worker that
//! lives may still write its slot.

use crate::key::Generation;
use crate::shm::{AWAKE, Order, Owner, Phase, SlotWords, State, WorkerWords};
use crate::sync::Ordering;

/// The generation of the task that `owner` has claimed, in this slot, and not published an outcome
/// for: it runs it, was condemned for it, or was about to publish.
pub(crate) fn unpublished_of(slot: &SlotWords, owner: Owner) -> Option<Generation> {
    // Acquire: the claim of the worker, and through it whatever preceded it.
    let claim = State::unpack(slot.claim.load(Ordering::Acquire))?;
    // Acquire: as in `host::core`.
    let done = State::unpack(slot.done.load(Ordering::Acquire));
    let published = done.is_some_and(|done| done.generation == claim.generation);
    (claim.owner == owner && !published).then_some(claim.generation)
}

/// Ends a task that no living worker has: the verdict on it is in the host's own memory already.
/// Nothing happens if its outcome was published.
pub(crate) fn settle(slot: &SlotWords, generation: Generation) {
    let verdict = State::of_host(Phase::Done, generation).pack();
    for word in [&slot.claim, &slot.done] {
        // Relaxed: nothing is read through it.
        let seen = word.load(Ordering::Relaxed);
        let state = State::unpack(seen);
        let is_older = state.is_none_or(|state| generation.is_after(state.generation));
        let is_open = state.is_some_and(|s| s.generation == generation && s.phase != Phase::Done);
        if is_older || is_open {
            // Release: pairs with the Acquire load of `done` by waiting threads, and with that of
            // the next claim. Fails only when somebody has moved on meanwhile: a word of a later
            // task is never overwritten.
            let _ = word.compare_exchange(seen, verdict, Ordering::Release, Ordering::Relaxed);
        }
    }
}

/// (older) → CANCELLED: nobody wants the outcome of a task that no worker has yet. `false` when a
/// worker was faster.
pub(crate) fn cancel(slot: &SlotWords, generation: Generation) -> bool {
    let cancelled = State::of_host(Phase::Cancelled, generation).pack();
    // Relaxed: nothing is read through it.
    let seen = slot.claim.load(Ordering::Relaxed);
    let waits = State::unpack(seen).is_none_or(|state| generation.is_after(state.generation));
    // Release: pairs with the Acquire in `claim` of the slot's next task. Fails when a worker has
    // claimed the task meanwhile.
    waits
        && slot
            .claim
            .compare_exchange(seen, cancelled, Ordering::Release, Ordering::Relaxed)
            .is_ok()
}

/// Sets a dead worker's words to those of a worker that has not started.
pub(crate) fn clear_worker(words: &WorkerWords) {
    // Relaxed: the next worker of this place is forked after this.
    words.searching.store(0, Ordering::Relaxed);
    words.parked.store(AWAKE, Ordering::Relaxed);
    words.order.store(Order::Serve as u32, Ordering::Relaxed);
}
