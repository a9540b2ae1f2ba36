//! Who sleeps and who is woken: nobody sleeps beside something that waits for him.
//!
//! A wake that is lost is a deadlock here: no model's sleep has a time limit.

use std::sync::Arc;

use super::world::{Count, World, generation, key, owner, thread};
use super::{explore, explore_within, fails_with};
use crate::key::Key;
use crate::ring::{self, Producer, Sleep};
use crate::shm::{AWAITS, Order, Owner, PARKED, SLEEPS, STANDBY};
use crate::sync::modelled::{Flaw, How, is_dead, is_left_out};
use crate::sync::{Ordering, fence_after_rmw};

/// How a worker behaves without a task.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// Workers that may search at a time.
    pub(super) searchers: u32,
}

/// What `Worker::next` does; a search is one look.
pub(super) fn next(world: &World, place: u16, habits: Habits) -> Option<Key> {
    let words = &world.workers[usize::from(place)];
    let something_to_do = || {
        Order::from_word(words.order.load(Ordering::Relaxed)) != Order::Serve
            || ring::pending(world.ring())
    };
    while !is_dead() {
        match Order::from_word(words.order.load(Ordering::Acquire)) {
            Order::Stop => return None,
            Order::Standby => {
                stand_by(world, place);
                continue;
            }
            Order::Serve | Order::Drain => {}
        }
        if let Some(key) = world.claim(place) {
            fence_after_rmw(); // behind the claim
            if !is_left_out("the wake is passed on") && ring::pending(world.ring()) {
                ring::pass_on(&world.workers, |word| world.wake(word));
            }
            return Some(key);
        }
        if habits.searchers > 0
            && ring::announce_search(&world.workers, place.into(), habits.searchers)
        {
            let found = something_to_do();
            ring::end_search(words);
            if found {
                continue;
            }
        }
        let awake = || !is_left_out("the last look") && something_to_do();
        if ring::prepare_to_park(words, PARKED, awake) == Sleep::Now {
            world.beds[usize::from(place)].wait(&words.parked, PARKED);
            ring::rise(words);
        }
    }
    None
}

/// What `Worker::stand_by` does.
fn stand_by(world: &World, place: u16) {
    let words = &world.workers[usize::from(place)];
    let ordered = || Order::from_word(words.order.load(Ordering::Acquire)) != Order::Standby;
    if ring::prepare_to_park(words, STANDBY, ordered) == Sleep::Now {
        world.beds[usize::from(place)].wait(&words.parked, STANDBY);
        ring::rise(words);
    }
}

pub(super) fn order(world: &World, place: u16, order: Order) {
    let words = &world.workers[usize::from(place)];
    ring::give_order(words, order, |word| world.wake(word));
}

/// Workers serve as many tasks as they are, all at the same time: each call lasts until all have
/// begun. Then all are told to stop.
fn a_shift(workers: u16, habits: Habits) -> impl Fn() + Send + Sync + 'static {
    move || {
        let count = usize::from(workers);
        let world = Arc::new(World::new(4 * count, count, count));
        let begun = Arc::new(Count::new());
        let threads: Vec<_> = (0..workers)
            .map(|place| {
                let (world, begun) = (world.clone(), begun.clone());
                thread::spawn(move || {
                    while let Some(key) = next(&world, place, habits) {
                        begun.add();
                        begun.reaches(count);
                        assert!(world.serve(place, key), "nobody condemns");
                    }
                })
            })
            .collect();
        let mut producer = Producer::default();
        for index in 0..workers {
            world.submit(&mut producer, key(index, 1));
            ring::wake_one(&world.workers, |word| world.wake(word));
        }
        begun.reaches(count);
        (0..workers).for_each(|place| order(&world, place, Order::Stop));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for index in 0..workers {
            world.retrieve(key(index, 1));
        }
    }
}

const PARKS_AT_ONCE: Habits = Habits { searchers: 0 };
const SEARCHES: Habits = Habits { searchers: 1 };

#[test]
fn no_task_waits_beside_a_worker_that_sleeps() {
    explore(a_shift(1, PARKS_AT_ONCE));
    explore(a_shift(1, SEARCHES));
    explore_within(1, a_shift(2, PARKS_AT_ONCE));
}

#[test]
#[ignore = "long"]
fn no_task_waits_beside_a_worker_that_sleeps_while_another_searches() {
    explore_within(1, a_shift(2, SEARCHES));
}

/// As a shift of two, from the middle: one searches already, the other sleeps already.
fn the_end_of_a_search() {
    let world = Arc::new(World::new(8, 2, 2));
    let begun = Arc::new(Count::new());
    assert!(ring::announce_search(&world.workers, 0, 1));
    assert_eq!(ring::prepare_to_park(&world.workers[1], PARKED, || false), Sleep::Now);
    let threads = [0, 1].map(|place: u16| {
        let (world, begun) = (world.clone(), begun.clone());
        thread::spawn(move || {
            let words = &world.workers[usize::from(place)];
            if place == 0 {
                ring::pending(world.ring());
                ring::end_search(words);
            } else {
                world.beds[1].wait(&words.parked, PARKED);
                ring::rise(words);
            }
            while let Some(key) = next(&world, place, PARKS_AT_ONCE) {
                begun.add();
                begun.reaches(2);
                assert!(world.serve(place, key), "nobody condemns");
            }
        })
    });
    let mut producer = Producer::default();
    for index in [0, 1] {
        world.submit(&mut producer, key(index, 1));
        ring::wake_one(&world.workers, |word| world.wake(word));
    }
    begun.reaches(2);
    [0, 1].into_iter().for_each(|place| order(&world, place, Order::Stop));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn who_ends_a_search_wakes_another_for_what_was_left_to_the_search() {
    explore_within(1, the_end_of_a_search);
}

#[test]
fn a_search_with_a_step_broken_fails() {
    let here = "ring/models/parking.rs";
    for flaw in [
        Flaw::Step(here, "fence_after_rmw(); // behind the claim\n", How::Skipped),
        Flaw::Step("ring/park.rs", "words.searching.store(0, ", How::Skipped),
        Flaw::Step("ring/park.rs", "    fence_after_rmw();", How::Skipped),
        Flaw::LeftOut("the wake is passed on"),
    ] {
        fails_with(&[flaw], || explore_within(1, the_end_of_a_search));
    }
}

#[test]
fn a_shift_with_a_step_broken_fails() {
    use How::Skipped;
    let park = "ring/park.rs";
    for (file, text, how, workers, habits) in [
        (park, "    fence_after_rmw();", Skipped, 1, PARKS_AT_ONCE),
        (park, "    fence(Ordering::SeqCst);\n    if awake", Skipped, 1, PARKS_AT_ONCE),
        (park, "words.parked.swap(AWAKE, ", Skipped, 2, PARKS_AT_ONCE),
    ] {
        fails_with(&[Flaw::Step(file, text, how)], || explore(a_shift(workers, habits)));
    }
    fails_with(&[Flaw::LeftOut("the last look")], || explore(a_shift(1, PARKS_AT_ONCE)));
}

/// A worker that stands by is told to serve, and finds the task that was pushed before.
fn a_spare() {
    let world = Arc::new(World::new(4, 1, 1));
    let served = Arc::new(Count::new());
    let mut producer = Producer::default();
    world.workers[0].order.store(Order::Standby as u32, Ordering::Relaxed);
    let spare = {
        let (world, served) = (world.clone(), served.clone());
        thread::spawn(move || {
            while let Some(key) = next(&world, 0, PARKS_AT_ONCE) {
                assert!(world.serve(0, key), "nobody condemns");
                served.add();
            }
        })
    };
    world.submit(&mut producer, key(0, 1));
    ring::wake_one(&world.workers, |_| panic!("one that stands by is woken for a task"));
    order(&world, 0, Order::Serve);
    served.reaches(1);
    order(&world, 0, Order::Stop);
    spare.join().unwrap();
    world.retrieve(key(0, 1));
}

#[test]
fn a_spare_serves_once_it_is_told_to() {
    explore(a_spare);
}

#[test]
fn a_spare_with_a_step_broken_fails() {
    let park = "ring/park.rs";
    for (file, text) in [
        (park, "words.order.store(order as u32, "),
        (park, "words.parked.store(AWAKE, "),
        (park, "    fence(Ordering::SeqCst);\n    rouse"),
        (park, "    fence(Ordering::SeqCst);\n    if awake"),
    ] {
        fails_with(&[Flaw::Step(file, text, How::Skipped)], || explore(a_spare));
    }
}

/// What `Core::wait` does once it has been awake for long enough.
pub(super) fn wait(world: &World, key: Key) -> Owner {
    let slot = world.slot(key);
    loop {
        if let Some(owner) = world.ended(key) {
            return owner;
        }
        let waiters = ring::ask(&slot.words.waiter, SLEEPS);
        if is_left_out("the last look") || world.ended(key).is_none() {
            slot.waiter.wait(&slot.words.waiter, waiters);
        } else if !is_left_out("the word is taken back") {
            // Another thread that waits may be about to sleep, because it finds our SLEEPS where
            // whoever ended the task has left a 0, and woken all.
            world.tell_waiters(key);
        }
    }
}

/// Two host threads sleep for a task that a worker ends, or that the supervisor does.
fn an_answer(by: Owner) -> impl Fn() + Send + Sync + 'static {
    move || {
        let world = Arc::new(World::new(4, 1, 1));
        world.submit(&mut Producer::default(), key(0, 1));
        let waiters = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || wait(&world, key(0, 1)))
        });
        if by == Owner::HOST {
            let slot = world.slot(key(0, 1));
            ring::settle(&slot.words, generation(1));
            // As `Core::tell_waiters` does: its fence, then the same.
            world.tell_waiters(key(0, 1));
        } else {
            assert_eq!(world.drain(0), [key(0, 1)]);
        }
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), by);
        }
    }
}

#[test]
fn no_host_thread_sleeps_beside_its_answer() {
    explore(an_answer(owner(0)));
    explore(an_answer(Owner::HOST));
}

#[test]
fn an_answer_with_a_step_broken_fails() {
    let (world, ask) = ("ring/models/world.rs", "ring/completion.rs");
    for by in [owner(0), Owner::HOST] {
        for (file, text) in [
            (world, "fence_after_rmw(); // behind the outcome"),
            (ask, "fence(Ordering::SeqCst);"),
            (ask, "waiter.swap(0, "),
        ] {
            fails_with(&[Flaw::Step(file, text, How::Skipped)], || explore(an_answer(by)));
        }
        for step in ["the last look", "the word is taken back"] {
            fails_with(&[Flaw::LeftOut(step)], || explore(an_answer(by)));
        }
    }
}

/// An event loop awaits two tasks that two workers end, and dispatches as `Core::dispatch` does; a
/// thread sleeps for one of them as well.
fn an_event_loop(sleeps_too: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let world = Arc::new(World::new(4, 2, 2));
        let mut producer = Producer::default();
        world.submit(&mut producer, key(0, 1));
        world.submit(&mut producer, key(1, 1));
        let workers = [0, 1].map(|place| {
            let world = world.clone();
            thread::spawn(move || {
                while let Some(key) = world.claim(place) {
                    assert!(world.serve(place, key), "nobody condemns");
                }
            })
        });
        let sleeper = sleeps_too.then(|| {
            let world = world.clone();
            thread::spawn(move || wait(&world, key(0, 1)))
        });
        let mut open = vec![key(0, 1), key(1, 1)];
        // What is to be polled: all, at first.
        let mut polled = open.clone();
        loop {
            for key in std::mem::take(&mut polled) {
                let awaited = world.ended(key).is_none() && {
                    ring::ask(&world.slot(key).words.waiter, AWAITS);
                    world.ended(key).is_none()
                };
                if !awaited {
                    world.retrieve(key);
                    open.retain(|it| *it != key);
                }
            }
            if open.is_empty() {
                break;
            }
            world.bell.wait();
            let marked = |index| polled.extend(open.iter().filter(|key| key.index() == index));
            ring::collect(world.completed(), marked);
        }
        for worker in workers {
            worker.join().unwrap();
        }
        if let Some(sleeper) = sleeper {
            sleeper.join().unwrap();
        }
    }
}

#[test]
fn no_future_sleeps_beside_its_answer() {
    explore(an_event_loop(false));
}

#[test]
#[ignore = "minutes"]
fn no_future_and_no_thread_sleep_beside_their_answer() {
    explore(an_event_loop(true));
}

#[test]
fn an_event_loop_with_a_step_broken_fails() {
    let (world, completion) = ("ring/models/world.rs", "ring/completion.rs");
    for (file, text, how) in [
        (world, "fence_after_rmw(); // behind the outcome", How::Skipped),
        (completion, "waiter.fetch_or(who, ", How::Skipped),
        (completion, "fence(Ordering::SeqCst);", How::Skipped),
        (completion, "word.fetch_or(bit, ", How::Skipped),
        (completion, "announced.swap(0, ", How::Skipped),
    ] {
        fails_with(&[Flaw::Step(file, text, how)], || explore(an_event_loop(false)));
    }
}

/// Two who mark slots of different words, and a loop that collects until it has both: none is overlooked, and
/// what was done before a mark is seen by whoever finds it.
fn marks_in_two_words() {
    use crate::shm::{Completed, CompletionWords};
    use crate::sync::{AtomicU32, AtomicU64};
    const PLACES: [u16; 2] = [0, 64];
    #[derive(Default)]
    struct Marks {
        words: CompletionWords,
        slots: [AtomicU64; 2],
        over: [AtomicU32; 2],
    }
    impl Marks {
        fn completed(&self) -> Completed<'_> {
            Completed { words: &self.words, slots: &self.slots }
        }
    }
    let bell = Arc::new(World::new(4, 2, 2));
    let marks = Arc::<Marks>::default();
    let markers = [0, 1].map(|number| {
        let (bell, marks) = (bell.clone(), marks.clone());
        thread::spawn(move || {
            marks.over[number].store(1, Ordering::Relaxed);
            if ring::mark(marks.completed(), PLACES[number]) {
                bell.bell.ring();
            }
        })
    });
    let mut seen = 0;
    while seen < 2 {
        bell.bell.wait();
        ring::collect(marks.completed(), |index| {
            let over = &marks.over[usize::from(index / 64)];
            assert_eq!(over.load(Ordering::Relaxed), 1, "marked too early");
            seen += 1;
        });
    }
    for marker in markers {
        marker.join().unwrap();
    }
}

#[test]
fn no_mark_is_overlooked() {
    explore_within(3, marks_in_two_words);
}

#[test]
fn marks_with_an_ordering_broken_fail() {
    for text in ["announced.swap(1, ", "announced.swap(0, ", "word.fetch_or(bit, ", "word.swap(0, "]
    {
        fails_with(&[Flaw::Step("ring/completion.rs", text, How::Relaxed)], || {
            explore_within(3, marks_in_two_words);
        });
    }
}
