//! What the host does to a slot that does not go the usual way, and what it does after a death:
//! what the dead worker owned, and the words it left.
//!
//! Only the supervisor settles, and only once the kernel has confirmed the death: a worker that
//! lives may still write its slot.

use crate::key::Generation;
use crate::shm::{Order, Owner, Phase, STANDBY, SlotWords, State, WorkerWords};
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

/// RUNNING → CONDEMNED: the owner publishes no outcome of this task, and claims nothing more; it is
/// about to be killed. Gives the owner; `None` when no worker runs the task (any more).
pub(crate) fn condemn(slot: &SlotWords, generation: Generation) -> Option<Owner> {
    // Relaxed: believed only if the exchange below finds it unchanged.
    let seen = slot.claim.load(Ordering::Relaxed);
    let state = State::unpack(seen).filter(|state| state.generation == generation)?;
    match state.phase {
        Phase::Running => {
            let condemned = State { phase: Phase::Condemned, ..state }.pack();
            // AcqRel: pairs with the owner's exchange in `finish`: one of the two fails, so that the
            // outcome is either published by a worker that lives on, or never.
            slot.claim
                .compare_exchange(seen, condemned, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
                .then_some(state.owner)
        }
        Phase::Condemned => Some(state.owner),
        Phase::Done | Phase::Cancelled => None,
    }
}

/// Makes a task that waits of one whose worker is dead and has published no outcome: any word of an
/// earlier task stands for "waits". Its entry is pushed again, by the caller.
///
/// If the dead worker had not moved the head on, the old entry is good again too; the one that is
/// come to second is stale then.
pub(crate) fn requeue(slot: &SlotWords, generation: Generation) {
    // Relaxed: nothing is read through it.
    let seen = slot.claim.load(Ordering::Relaxed);
    if State::unpack(seen).is_some_and(|state| state.generation == generation) {
        // Release: pairs with the Acquire of the next claim. Nobody else writes the word: its owner
        // is dead.
        let _ = slot.claim.compare_exchange(seen, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// Undoes what a broken worker has written over the words of a slot whose task has this
/// generation: an outcome that cannot be, a claim of a task that was never given. What an honest
/// worker writes at the same moment stays.
pub(crate) fn heal(slot: &SlotWords, generation: Generation) {
    let is_honest =
        |state: State| state.generation == generation || generation.is_after(state.generation);
    // Relaxed, here and below: nothing is read through them.
    let done = slot.done.load(Ordering::Relaxed);
    let may_be = State::unpack(done).is_some_and(|state| {
        let by_host = state.generation == generation && state.owner == Owner::HOST;
        is_honest(state) && state.phase == Phase::Done && !by_host
    });
    if done != 0 && !may_be {
        let _ = slot.done.compare_exchange(done, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
    let claim = slot.claim.load(Ordering::Relaxed);
    if claim != 0 && !State::unpack(claim).is_some_and(is_honest) {
        let _ = slot.claim.compare_exchange(claim, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Sets a dead worker's words to those of a place without a worker: nobody to wake.
pub(crate) fn clear_worker(words: &WorkerWords) {
    // Relaxed: the next worker of this place is forked after this.
    words.searching.store(0, Ordering::Relaxed);
    words.away.store(0, Ordering::Relaxed);
    words.parked.store(STANDBY, Ordering::Relaxed);
    words.order.store(Order::Serve as u32, Ordering::Relaxed);
    words.interrupt.store(0, Ordering::Relaxed);
    words.running.store(0, Ordering::Relaxed);
    words.tasks.store(0, Ordering::Relaxed);
    words.kept.store(0, Ordering::Relaxed);
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::testing::{generation, key, owner, push, with_ring, zeroed};
    use super::super::{Producer, claim, finish, publish};
    use super::*;
    use crate::key::Key;
    use crate::shm::Payload;

    /// How far a task has come.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Stage {
        Waiting,
        Running,
        Condemned,
        Finished,
        Published,
        Cancelled,
    }

    use Stage::{Cancelled, Condemned, Finished, Published, Running, Waiting};

    const STAGES: [Stage; 6] = [Waiting, Running, Condemned, Finished, Published, Cancelled];

    /// Brings a task of slot 0 to the stage, in a slot that was used before or is fresh, in the
    /// hands of worker 5.
    fn at(stage: Stage, is_fresh: bool, test: impl FnOnce(&SlotWords)) {
        with_ring(|ring, slots| {
            let (mut producer, slot, mut task) = (Producer::default(), &slots[0], Payload::new());
            let mut take = |key: Key| {
                push(&mut producer, ring, slots, key);
                let claimed = claim(ring, |_| Some(slot), owner(5), &mut task);
                assert_eq!(claimed.unwrap().key, key);
            };
            if !is_fresh {
                take(key(1));
                assert!(finish(slot, key(1), owner(5)));
                publish(slot, key(1), owner(5));
            }
            match stage {
                Waiting => {}
                Cancelled => assert!(cancel(slot, generation(2))),
                _ => take(key(2)),
            }
            if stage == Condemned {
                let condemned = State::of(Phase::Condemned, owner(5), generation(2));
                slot.claim.store(condemned.pack(), Ordering::Relaxed);
            }
            if matches!(stage, Finished | Published) {
                assert!(finish(slot, key(2), owner(5)));
            }
            if stage == Published {
                publish(slot, key(2), owner(5));
            }
            test(slot);
        });
    }

    fn words(slot: &SlotWords) -> [Option<State>; 2] {
        [&slot.claim, &slot.done].map(|word| State::unpack(word.load(Ordering::Relaxed)))
    }

    #[test]
    fn a_settled_task_is_over_whatever_stage_it_was_at_and_a_published_one_stays_as_it_was() {
        let verdict = Some(State::of_host(Phase::Done, generation(2)));
        for stage in STAGES {
            for is_fresh in [true, false] {
                at(stage, is_fresh, |slot| {
                    let before = words(slot);
                    settle(slot, generation(2));
                    let expected = match stage {
                        Published => before,
                        // The claim was done already; the outcome was not.
                        Finished => [before[0], verdict],
                        _ => [verdict, verdict],
                    };
                    assert_eq!(words(slot), expected, "{stage:?} {is_fresh}");
                    // Neither a second time, nor for a task of before, is there anything to do.
                    settle(slot, generation(2));
                    settle(slot, generation(1));
                    assert_eq!(words(slot), expected, "{stage:?} {is_fresh}");
                    assert!(!finish(slot, key(2), owner(5)), "{stage:?}");
                });
            }
        }
    }

    #[test]
    fn a_settled_slot_takes_the_next_task() {
        for stage in STAGES {
            at(stage, true, |slot| {
                settle(slot, generation(2));
                with_ring(|ring, slots| {
                    let mut task = Payload::new();
                    push(&mut Producer::default(), ring, slots, key(3));
                    let claimed = claim(ring, |_| Some(slot), owner(1), &mut task);
                    assert_eq!(claimed.unwrap().key, key(3), "{stage:?}");
                    assert_eq!(unpublished_of(slot, owner(1)), Some(generation(3)));
                });
            });
        }
    }

    #[test]
    fn an_earlier_task_is_never_settled_over_a_later_one() {
        for stage in STAGES {
            at(stage, false, |slot| {
                let before = words(slot);
                settle(slot, generation(1));
                assert_eq!(words(slot), before, "{stage:?}");
            });
        }
    }

    #[test]
    fn a_dead_worker_owes_the_task_that_it_claimed_and_did_not_publish() {
        for stage in STAGES {
            for is_fresh in [true, false] {
                at(stage, is_fresh, |slot| {
                    let owes = matches!(stage, Running | Condemned | Finished);
                    let expected = owes.then(|| generation(2));
                    assert_eq!(unpublished_of(slot, owner(5)), expected, "{stage:?} {is_fresh}");
                    assert_eq!(unpublished_of(slot, owner(4)), None, "{stage:?} {is_fresh}");
                    settle(slot, generation(2));
                    assert_eq!(unpublished_of(slot, owner(5)), None, "{stage:?} {is_fresh}");
                });
            }
        }
    }

    #[test]
    fn only_a_task_that_waits_can_be_cancelled() {
        for stage in STAGES {
            at(stage, false, |slot| {
                let before = words(slot);
                assert_eq!(cancel(slot, generation(2)), stage == Waiting, "{stage:?}");
                assert_eq!(words(slot) == before, stage != Waiting, "{stage:?}");
                assert_eq!(words(slot)[1], before[1], "{stage:?}: a worker publishes");
            });
        }
    }

    #[test]
    fn a_cleared_place_has_nobody_to_wake_and_its_next_worker_serves() {
        let workers: Box<[WorkerWords]> = zeroed(1);
        let words = &workers[0];
        for word in [&words.searching, &words.away, &words.parked, &words.order] {
            word.store(1, Ordering::Relaxed);
        }
        for word in [&words.interrupt, &words.running, &words.tasks, &words.kept] {
            word.store(1, Ordering::Relaxed);
        }
        clear_worker(words);
        for word in [&words.searching, &words.away, &words.order] {
            assert_eq!(word.load(Ordering::Relaxed), 0);
        }
        assert_eq!(words.parked.load(Ordering::Relaxed), STANDBY);
        for word in [&words.interrupt, &words.running, &words.tasks, &words.kept] {
            assert_eq!(word.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn only_a_task_that_runs_is_condemned_and_then_it_is_never_finished() {
        for stage in STAGES {
            for is_fresh in [true, false] {
                at(stage, is_fresh, |slot| {
                    let before = words(slot);
                    let runs = matches!(stage, Running | Condemned);
                    let expected = runs.then(|| owner(5));
                    assert_eq!(condemn(slot, generation(1)), None, "{stage:?}: of before");
                    assert_eq!(words(slot), before);
                    assert_eq!(condemn(slot, generation(2)), expected, "{stage:?} {is_fresh}");
                    assert_eq!(words(slot) == before, stage != Running, "{stage:?} {is_fresh}");
                    if runs {
                        assert!(!finish(slot, key(2), owner(5)), "{stage:?}");
                        assert_eq!(unpublished_of(slot, owner(5)), Some(generation(2)));
                    }
                });
            }
        }
    }

    #[test]
    fn the_task_of_a_dead_worker_can_be_claimed_once_more_through_either_entry() {
        for stage in [Running, Condemned, Finished] {
            at(stage, true, |slot| {
                requeue(slot, generation(1));
                assert_eq!(unpublished_of(slot, owner(5)), Some(generation(2)), "{stage:?}");
                requeue(slot, generation(2));
                with_ring(|ring, slots| {
                    let mut task = Payload::new();
                    let mut producer = Producer::default();
                    push(&mut producer, ring, slots, key(2));
                    push(&mut producer, ring, slots, key(2));
                    let claimed = claim(ring, |_| Some(slot), owner(1), &mut task);
                    assert_eq!(claimed.unwrap().key, key(2), "{stage:?}");
                    assert!(claim(ring, |_| Some(slot), owner(1), &mut task).is_none());
                    assert!(finish(slot, key(2), owner(1)));
                });
            });
        }
    }
}
