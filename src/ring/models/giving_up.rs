//! A task that the host gives up: cancelled before a worker has it, condemned when one has.

use std::sync::Arc;

use super::world::{World, generation, key, owner, thread};
use super::{explore_within, fails_with};
use crate::ring::{self, Producer};
use crate::shm::Owner;
use crate::sync::modelled::{Flaw, How, is_left_out};

/// The host cancels a task while two workers come for it, and uses the slot again once that is over.
fn cancelled() {
    let world = Arc::new(World::new(4, 1, 3));
    let mut producer = Producer::default();
    let (first, second) = (key(0, 1), key(0, 2));
    world.submit(&mut producer, first);
    let workers = [0, 1].map(|place| {
        let world = world.clone();
        thread::spawn(move || {
            let claimed = world.claim(place);
            if let Some(key) = claimed {
                assert!(world.serve(place, key), "nobody condemns");
            }
            claimed
        })
    });
    let slot = world.slot(first);
    let is_cancelled = ring::cancel(&slot.words, generation(1));
    // Nobody wants the outcome: the slot is the host's once `done` has the generation.
    let is_free = is_left_out("the slot is free") || world.ended(first).is_some();
    let mut is_second_cancelled = false;
    if is_free {
        world.submit(&mut producer, second);
        is_second_cancelled = ring::cancel(&slot.words, generation(2));
    }
    let mut taken: Vec<_> = workers.into_iter().filter_map(|w| w.join().unwrap()).collect();
    assert_eq!(world.drain(2), [], "what could not be cancelled was claimed by then");
    let mut expected = Vec::new();
    if !is_cancelled {
        expected.push(first);
    }
    if is_free && !is_second_cancelled {
        expected.push(second);
    }
    taken.sort();
    assert_eq!(taken, expected, "cancelled, or claimed: one of the two");
    let last = if is_free { second } else { first };
    assert!(world.ended(last).is_some(), "the slot comes back");
}

#[test]
fn a_task_is_either_cancelled_or_claimed_and_its_slot_comes_back() {
    explore_within(3, cancelled);
}

#[test]
fn a_cancellation_with_a_step_broken_fails() {
    use How::{Forced, Relaxed, Skipped};
    let (consumer, recover) = ("ring/consumer.rs", "ring/recover.rs");
    for (file, text, how) in [
        (recover, ".compare_exchange(seen, cancelled, ", Forced),
        (consumer, "match slot.claim.compare_exchange(word, running, ", Forced),
        (consumer, "slot.done.store(done, ", Skipped),
        (consumer, "slot.done.store(done, ", Relaxed),
    ] {
        fails_with(&[Flaw::Step(file, text, how)], || explore_within(3, cancelled));
    }
    fails_with(&[Flaw::LeftOut("the slot is free")], || explore_within(3, cancelled));
}

/// The host condemns a task in some worker's hands, has the worker killed, settles what it has
/// left, and uses the slot again.
fn condemned() {
    let world = Arc::new(World::new(4, 1, 2));
    let mut producer = Producer::default();
    let (first, second) = (key(0, 1), key(0, 2));
    world.submit(&mut producer, first);
    let worker = {
        let world = world.clone();
        thread::spawn(move || {
            let mut published = Vec::new();
            while let Some(key) = world.claim(0) {
                if !world.serve(0, key) && !is_left_out("a condemned worker stops") {
                    return (published, true);
                }
                published.push(key);
            }
            (published, false)
        })
    };
    let slot = world.slot(first);
    let condemned = ring::condemn(&slot.words, generation(1));
    if condemned.is_some() {
        assert_eq!(condemned, Some(owner(0)));
        // So the worker claims nothing more.
        world.push(&mut producer, first);
        let is_confirmed = !is_left_out("the death is confirmed");
        let mut worker = Some(worker);
        if is_confirmed && let Some(worker) = worker.take() {
            let (published, stopped) = worker.join().unwrap();
            assert!(stopped && published.is_empty(), "the outcome of a condemned task");
            assert_eq!(ring::unpublished_of(&slot.words, owner(0)), Some(generation(1)));
        }
        ring::settle(&slot.words, generation(1));
        assert_eq!(world.ended(first), Some(Owner::HOST));
        world.submit(&mut producer, second);
        assert_eq!(world.drain(1), [second], "the entry of the first is stale");
        world.retrieve(second);
        if let Some(worker) = worker {
            worker.join().unwrap();
        }
    } else {
        let (published, stopped) = worker.join().unwrap();
        assert!(!stopped, "nobody has condemned it");
        assert_eq!([published, world.drain(1)].concat(), [first]);
        assert!(world.ended(first).is_some());
        world.retrieve(first);
    }
}

#[test]
fn an_outcome_is_published_by_a_worker_that_lives_on_or_never() {
    explore_within(3, condemned);
}

#[test]
fn a_condemnation_with_a_step_broken_fails() {
    use How::{Forced, Skipped};
    for (file, text, how) in [
        ("ring/recover.rs", ".compare_exchange(seen, condemned, ", Forced),
        ("ring/recover.rs", ".compare_exchange(seen, condemned, ", Skipped),
        ("ring/recover.rs", "word.compare_exchange(seen, verdict, ", Skipped),
        ("ring/consumer.rs", "slot.claim.compare_exchange(running, done, ", Forced),
    ] {
        fails_with(&[Flaw::Step(file, text, how)], || explore_within(3, condemned));
    }
    fails_with(&[Flaw::LeftOut("a condemned worker stops")], || explore_within(3, condemned));
    fails_with(&[Flaw::LeftOut("the death is confirmed")], || explore_within(3, condemned));
}
