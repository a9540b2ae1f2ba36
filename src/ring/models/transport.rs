//! A task and its answer, there and back: bytes are complete, and each task is claimed once.

use std::sync::Arc;

use super::world::{World, key, thread};
use super::{explore, fails_with};
use crate::key::Key;
use crate::ring::Producer;
use crate::sync::modelled::{Flaw, How, is_left_out};

/// Takes what there is, some times.
fn work(world: &World, place: u16, times: usize) -> Vec<Key> {
    let mut taken = Vec::new();
    for key in (0..times).filter_map(|_| world.claim(place)) {
        assert!(world.serve(place, key), "nobody condemns");
        taken.push(key);
    }
    taken
}

/// Two workers on a ring of two entries, in its second round; the third task goes into a slot that
/// the host has back, or into one that was never used.
fn there_and_back(third: Key) -> impl Fn() + Send + Sync + 'static {
    move || {
        let world = Arc::new(World::new(2, 3, 3));
        let mut producer = Producer::default();
        world.submit(&mut producer, key(1, 7));
        assert_eq!(world.drain(2), [key(1, 7)]);
        let mut tasks = vec![key(0, 8), key(1, 8)];
        world.submit(&mut producer, tasks[0]);
        let workers = [0, 1].map(|place| {
            let world = world.clone();
            thread::spawn(move || work(&world, place, 1))
        });
        world.submit(&mut producer, tasks[1]);
        let is_free = third.index() == 2 || is_left_out("the slot is free") || {
            let is_over = world.ended(tasks[0]).is_some();
            if is_over {
                world.retrieve(tasks[0]);
            }
            is_over
        };
        if is_free && (is_left_out("there is room") || producer.has_room(world.ring())) {
            world.submit(&mut producer, third);
            tasks.push(third);
        }
        let mut taken: Vec<Key> = workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
        taken.extend(world.drain(2));
        taken.sort();
        tasks.sort();
        assert_eq!(taken, tasks, "each is claimed once");
        for task in tasks.into_iter().filter(|task| *task != key(0, 8) || third.index() != 0) {
            assert!(world.ended(task).is_some(), "{task:?} is over");
            world.retrieve(task);
        }
    }
}

#[test]
fn each_task_is_claimed_once_with_all_its_bytes_and_answered_with_all_of_the_answer() {
    explore(there_and_back(key(0, 9)));
    explore(there_and_back(key(2, 8)));
}

#[test]
fn a_transport_with_a_step_broken_fails() {
    use How::{Relaxed, Skipped};
    let consumer = "ring/consumer.rs";
    for (file, text, how, third) in [
        ("ring/producer.rs", "words.entry.swap(entry.word()", Relaxed, key(0, 9)),
        ("ring/producer.rs", "let head = ring.head.load(", Relaxed, key(2, 8)),
        (consumer, "let key = Entry::fresh(words.entry.load(", Relaxed, key(0, 9)),
        (consumer, "ring.head.store(head.wrapping_add(1)", Relaxed, key(2, 8)),
        (consumer, "ring.head.store(head.wrapping_add(1)", Skipped, key(0, 9)),
        (consumer, "slot.done.swap(done, ", Relaxed, key(0, 9)),
        (
            "ring/models/world.rs",
            "State::unpack(self.slot(key).words.done.load(",
            Relaxed,
            key(0, 9),
        ),
    ] {
        fails_with(&[Flaw::Step(file, text, how)], || explore(there_and_back(third)));
    }
    fails_with(&[Flaw::LeftOut("the slot is free")], || explore(there_and_back(key(0, 9))));
    fails_with(&[Flaw::LeftOut("there is room")], || explore(there_and_back(key(2, 8))));
}
