//! A worker dies between any two of its steps, and another goes on: every task ends once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed as StdRelaxed};

use super::parking::{self, Habits};
use super::world::{Count, World, key, owner, thread};
use super::{explore_within, fails_with};
use crate::key::Key;
use crate::ring::{self, Producer};
use crate::shm::{Order, Owner};
use crate::sync::modelled::{Flaw, How, is_dead, is_left_out, mortal};
use crate::sync::{Ordering, fence};

/// What the supervisor does with the task of a dead worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ended,
    TriedAgain,
}

const MORTAL: u16 = 0;
const OTHER: u16 = 1;
const LAST: u16 = 2;

/// Explores `model` with a death before the first step of the worker's, the second, and so on, until
/// the worker has no step left to die before.
fn explore_deaths<M: Fn() + Send + Sync + 'static>(
    preemptions: usize,
    model: impl Fn(usize, Arc<AtomicBool>) -> M,
) {
    for steps in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        explore_within(preemptions, model(steps, died.clone()));
        if !died.load(StdRelaxed) {
            println!("{steps} points of death");
            return;
        }
    }
}

/// What the supervisor does with the slots of a dead worker.
fn bury(world: &World, producer: &mut Producer, verdict: Verdict, tasks: &[Key]) {
    for task in tasks {
        let slot = &world.slot(*task).words;
        if let Some(generation) = ring::unpublished_of(slot, owner(MORTAL)) {
            assert_eq!(task.generation(), Some(generation));
            match verdict {
                Verdict::Ended => ring::settle(slot, generation),
                Verdict::TriedAgain => {
                    ring::requeue(slot, generation);
                    world.push(producer, *task);
                }
            }
        }
    }
}

/// Two tasks, a worker that dies, one that goes on, and one that takes what is left. Then the slot
/// of the first has another task.
fn a_death(
    verdict: Verdict,
    tasks: &'static [Key],
) -> impl Fn(usize, Arc<AtomicBool>) -> Box<dyn Fn() + Send + Sync> {
    move |steps, died| {
        let died = died.clone();
        Box::new(move || {
            let world = Arc::new(World::new(8, 2, 3));
            let mut producer = Producer::default();
            tasks.iter().for_each(|task| world.submit(&mut producer, *task));
            let died = died.clone();
            let dying = {
                let world = world.clone();
                thread::spawn(move || {
                    mortal(steps);
                    if let Some(key) = world.claim(MORTAL) {
                        assert!(world.serve(MORTAL, key) || is_dead(), "nobody condemns");
                    }
                    if is_dead() {
                        died.store(true, StdRelaxed);
                    }
                })
            };
            let other = {
                let world = world.clone();
                thread::spawn(move || {
                    let claimed = world.claim(OTHER);
                    assert!(claimed.is_none_or(|key| world.serve(OTHER, key)), "nobody condemns");
                    claimed
                })
            };
            let mut dying = Some(dying);
            if !is_left_out("the death is confirmed") {
                dying.take().into_iter().for_each(|thread| thread.join().unwrap());
            }
            let is_published = |task: &&Key| world.ended(**task) == Some(owner(MORTAL));
            let mut over: Vec<Key> = tasks.iter().filter(is_published).copied().collect();
            bury(&world, &mut producer, verdict, tasks);
            let is_settled = |task: &&Key| world.ended(**task) == Some(Owner::HOST);
            over.extend(tasks.iter().filter(is_settled));
            dying.into_iter().for_each(|thread| thread.join().unwrap());
            over.extend(other.join().unwrap());
            over.extend(world.drain(LAST));
            over.sort();
            assert_eq!(over, tasks, "each ends once");
            for task in tasks {
                match world.ended(*task) {
                    None => panic!("{task:?} is lost"),
                    Some(Owner::HOST) => assert_eq!(verdict, Verdict::Ended),
                    Some(_) => world.retrieve(*task),
                }
            }
            let next = Key::new(tasks[0].index(), tasks[0].generation().unwrap().next());
            world.submit(&mut producer, next);
            assert_eq!(world.drain(LAST), [next]);
            world.retrieve(next);
        })
    }
}

fn one() -> &'static [Key] {
    Box::leak(Box::new([key(0, 1)]))
}

fn two() -> &'static [Key] {
    Box::leak(Box::new([key(0, 1), key(1, 1)]))
}

#[test]
fn a_task_whose_worker_dies_ends_once_and_the_others_are_answered() {
    explore_deaths(2, a_death(Verdict::Ended, two()));
}

#[test]
fn a_task_whose_worker_dies_is_tried_again_and_answered_once() {
    explore_deaths(2, a_death(Verdict::TriedAgain, two()));
}

#[test]
fn a_death_with_a_step_broken_fails() {
    use How::{Forced, Skipped};
    let (consumer, recover) = ("ring/consumer.rs", "ring/recover.rs");
    let load = Flaw::Step(consumer, "let word = slot.claim.load(", Skipped);
    let claim = |how| Flaw::Step(consumer, "match slot.claim.compare_exchange(word, running", how);
    let published =
        Flaw::Step(recover, "let done = State::unpack(slot.done.load(Ordering::Acquire)", Skipped);
    let settled = Flaw::Step(recover, "word.compare_exchange(seen, verdict, ", Skipped);
    let requeued =
        Flaw::Step(recover, "slot.claim.compare_exchange(seen, 0, Ordering::Release", Skipped);
    let confirmed = Flaw::LeftOut("the death is confirmed");
    for (flaws, verdict) in [
        (vec![load, claim(Forced)], Verdict::Ended),
        (vec![load, claim(Forced)], Verdict::TriedAgain),
        (vec![published], Verdict::TriedAgain),
        (vec![settled], Verdict::Ended),
        (vec![requeued], Verdict::TriedAgain),
        (vec![confirmed], Verdict::Ended),
        (vec![confirmed], Verdict::TriedAgain),
    ] {
        fails_with(&flaws, || explore_deaths(2, a_death(verdict, one())));
    }
}

/// A worker dies that may be asleep, be woken, or search; the task is for it, or for the other one,
/// which sleeps.
fn a_swallowed_wake(
    habits: Habits,
) -> impl Fn(usize, Arc<AtomicBool>) -> Box<dyn Fn() + Send + Sync> {
    move |steps, died| {
        let died = died.clone();
        Box::new(move || {
            let world = Arc::new(World::new(4, 1, 2));
            let mut producer = Producer::default();
            let happened = Arc::new(Count::new());
            let workers = [MORTAL, OTHER].map(|place| {
                let (world, happened, died) = (world.clone(), happened.clone(), died.clone());
                thread::spawn(move || {
                    if place == MORTAL {
                        mortal(steps);
                    }
                    while let Some(key) = parking::next(&world, place, habits) {
                        if world.serve(place, key) {
                            happened.add();
                        }
                    }
                    if is_dead() {
                        died.store(true, StdRelaxed);
                        happened.add();
                    }
                })
            });
            let task = key(0, 1);
            world.submit(&mut producer, task);
            ring::wake_one(&world.workers, |word| world.wake(word));
            let mut events = 0;
            while world.ended(task).is_none() {
                events = happened.reaches(events + 1);
                if world.ended(task).is_none() {
                    // It can only be the death.
                    ring::clear_worker(&world.workers[usize::from(MORTAL)]);
                    bury(&world, &mut producer, Verdict::TriedAgain, &[task]);
                    // Behind the words of the dead worker, and behind the entry of its task.
                    fence(Ordering::SeqCst); // after a death
                    if !is_left_out("all are woken") {
                        for words in &world.workers {
                            ring::rouse(words, |word| world.wake(word));
                        }
                    }
                }
            }
            parking::order(&world, MORTAL, Order::Stop);
            parking::order(&world, OTHER, Order::Stop);
            workers.into_iter().for_each(|thread| thread.join().unwrap());
            world.retrieve(task);
        })
    }
}

#[test]
#[ignore = "long"]
fn a_wake_that_died_with_its_worker_is_given_to_another() {
    explore_deaths(1, a_swallowed_wake(Habits { searchers: 0 }));
    explore_deaths(1, a_swallowed_wake(Habits { searchers: 1 }));
}

#[test]
#[ignore = "long"]
fn a_wake_with_a_step_broken_is_swallowed() {
    for flaw in [
        Flaw::LeftOut("all are woken"),
        Flaw::Step(
            "ring/models/deaths.rs",
            "fence(Ordering::SeqCst); // after a death\n",
            How::Skipped,
        ),
    ] {
        fails_with(&[flaw], || explore_deaths(1, a_swallowed_wake(Habits { searchers: 1 })));
    }
}
