//! After a death: what the dead worker owned, and the words it left.
//!
//! Only the supervisor calls these, and only once the kernel has confirmed the death: a worker
//! that lives may still write its slot.

use crate::key::Generation;
use crate::shm::{AWAKE, Order, Owner, Phase, SlotWords, State, WorkerWords};
use crate::sync::Ordering;

/// The generation of the task that `owner` runs, or was condemned for, in this slot.
pub(crate) fn running_of(slot: &SlotWords, owner: Owner) -> Option<Generation> {
    // Acquire: the claim of the worker, and through it whatever preceded it.
    let state = State::unpack(slot.state.load(Ordering::Acquire))?;
    let running = matches!(state.phase, Phase::Running | Phase::Condemned);
    (running && state.owner == owner).then_some(state.generation)
}

/// Any phase that waits for a worker → DONE(host): the task ends with the verdict that the host has
/// recorded in its own memory before this call.
pub(crate) fn settle(slot: &SlotWords, generation: Generation) {
    // Relaxed: nothing is read through it.
    let word = slot.state.load(Ordering::Relaxed);
    let waits = State::unpack(word)
        .is_some_and(|state| state.generation == generation && state.phase != Phase::Done);
    if waits {
        let done = State::of_host(Phase::Done, generation).pack();
        // Release: pairs with the Acquire load of the state by waiting threads. Fails only when
        // the host has moved on meanwhile: a word of another task is never overwritten.
        let _ = slot.state.compare_exchange(word, done, Ordering::Release, Ordering::Relaxed);
    }
}

/// Sets a dead worker's words to those of a worker that has not started.
pub(crate) fn clear_worker(words: &WorkerWords) {
    // Relaxed: the next worker of this place is forked after this.
    words.searching.store(0, Ordering::Relaxed);
    words.parked.store(AWAKE, Ordering::Relaxed);
    words.order.store(Order::Serve as u32, Ordering::Relaxed);
}
