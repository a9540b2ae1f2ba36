//! A day in the life of an engine, too long for every interleaving: more threads, slots that are
//! used again and again, deaths, cancellations and condemnations, all drawn at random.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed as StdRelaxed};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex};

use super::parking::{self, Habits, wait};
use super::world::{World, generation, key, owner, thread};
use super::{explore, fails_with};
use crate::key::Key;
use crate::ring::{self, Producer};
use crate::shm::{Order, Owner, Phase, State};
use crate::sync::modelled::{Flaw, How, is_dead, mortal};
use crate::sync::{Ordering, fence};

const WORKERS: u16 = 3;
const SLOTS: u16 = 3;
const TASKS: u64 = 4;
/// Deaths before the workers that follow live for ever.
const DEATHS: usize = 4;

/// What the supervisor hears.
enum News {
    /// The worker at this place is dead, or condemned and has stopped.
    Ended(u16),
    ClientLeft,
}

struct Engine {
    world: World,
    producer: Mutex<Producer>,
    news: Mutex<VecDeque<News>>,
    arrived: Condvar,
    /// Whether a task is condemned or tried again is for one to say at a time.
    supervisor: Mutex<()>,
    deaths: AtomicUsize,
    /// Outcomes of each slot's tasks.
    published: Vec<AtomicUsize>,
}

impl Engine {
    fn tell(&self, news: News) {
        self.news.lock().unwrap().push_back(news);
        self.arrived.notify_all();
    }

    fn hear(&self) -> News {
        let mut news = self.news.lock().unwrap();
        loop {
            match news.pop_front() {
                Some(first) => return first,
                None => news = self.arrived.wait(news).unwrap(),
            }
        }
    }

    fn outcomes(&self, key: Key) -> &AtomicUsize {
        let number = key.generation().unwrap().get() as usize;
        &self.published[usize::from(key.index()) * (TASKS as usize + 1) + number]
    }

    /// A worker's life. Those that come after many deaths do not die.
    fn work(&self, place: u16) {
        if self.deaths.load(StdRelaxed) < DEATHS {
            mortal(thread_rng().gen_range(0..150));
        }
        let habits = Habits { searchers: thread_rng().gen_range(0..=2) };
        while let Some(key) = parking::next(&self.world, place, habits) {
            if !self.world.serve(place, key) {
                break;
            }
            self.outcomes(key).fetch_add(1, StdRelaxed);
        }
        let words = &self.world.workers[usize::from(place)];
        if is_dead() || Order::from_word(words.order.peek()) != Order::Stop {
            self.deaths.fetch_add(1, StdRelaxed);
            self.tell(News::Ended(place));
        }
    }

    /// A client submits one task after the other into its slot, and waits for what becomes of each.
    fn submit(&self, slot: u16) {
        for number in 1..=TASKS {
            let task = key(slot, number);
            self.world.submit(&mut self.producer.lock().unwrap(), task);
            ring::wake_one(&self.world.workers, |word| self.world.wake(word));
            let words = &self.world.slot(task).words;
            let (mut is_cancelled, mut is_condemned) = (false, false);
            match thread_rng().gen_range(0..6) {
                0 => is_cancelled = ring::cancel(words, generation(number)),
                1 => {
                    let _supervisor = self.supervisor.lock().unwrap();
                    is_condemned = ring::condemn(words, generation(number)).is_some();
                }
                _ => {}
            }
            // Nobody is woken for a slot that comes back.
            while is_cancelled && self.world.ended(task).is_none() {
                thread::yield_now();
            }
            let by = wait(&self.world, task);
            let outcomes = self.outcomes(task).load(StdRelaxed);
            assert!(outcomes <= 1, "{task:?}: {outcomes} outcomes");
            assert!(!is_condemned || by == Owner::HOST, "{task:?} was condemned");
            if is_cancelled || by == Owner::HOST {
                assert_eq!(outcomes, 0, "{task:?} was given up, and has an outcome");
            } else {
                self.world.retrieve(task);
            }
        }
        self.tell(News::ClientLeft);
    }

    /// What the supervisor does after a death: some tasks are ended, some tried again; those that
    /// were condemned are over.
    fn bury(&self, place: u16) {
        ring::clear_worker(&self.world.workers[usize::from(place)]);
        let supervisor = self.supervisor.lock().unwrap();
        for index in 0..SLOTS {
            let slot = &self.world.slots[usize::from(index)];
            if let Some(generation) = ring::unpublished_of(&slot.words, owner(place)) {
                let phase =
                    State::unpack(slot.words.claim.load(Ordering::Relaxed)).map(|s| s.phase);
                if phase == Some(Phase::Running) && thread_rng().gen_bool(0.5) {
                    ring::requeue(&slot.words, generation);
                    let mut producer = self.producer.lock().unwrap();
                    self.world.push(&mut producer, Key::new(index, generation));
                } else {
                    ring::settle(&slot.words, generation);
                }
            }
            // Whoever waits looks again.
            slot.words.waiter.store(0, Ordering::Relaxed);
            slot.waiter.wake();
        }
        drop(supervisor);
        fence(Ordering::SeqCst);
        for words in &self.world.workers {
            ring::rouse(words, |word| self.world.wake(word));
        }
    }
}

fn a_day() {
    let engine = Arc::new(Engine {
        world: World::new(8, SLOTS.into(), WORKERS.into()),
        producer: Mutex::new(Producer::default()),
        news: Mutex::new(VecDeque::new()),
        arrived: Condvar::new(),
        supervisor: Mutex::new(()),
        deaths: AtomicUsize::new(0),
        published: (0..SLOTS as usize * (TASKS as usize + 1))
            .map(|_| AtomicUsize::new(0))
            .collect(),
    });
    let employ = |place| {
        let engine = engine.clone();
        thread::spawn(move || engine.work(place))
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|place| Some(employ(place))).collect();
    let clients: Vec<_> = (0..SLOTS)
        .map(|slot| {
            let engine = engine.clone();
            thread::spawn(move || engine.submit(slot))
        })
        .collect();
    let mut clients_left = clients.len();
    while clients_left > 0 {
        match engine.hear() {
            News::ClientLeft => clients_left -= 1,
            News::Ended(place) => {
                let next = usize::from(place);
                // The death is confirmed before anything is done about it.
                workers[next].take().into_iter().for_each(|worker| worker.join().unwrap());
                engine.bury(place);
                workers[next] = Some(employ(place));
            }
        }
    }
    (0..WORKERS).for_each(|place| parking::order(&engine.world, place, Order::Stop));
    workers.into_iter().flatten().chain(clients).for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_day_of_deaths_and_cancellations_loses_no_task_and_doubles_none() {
    explore(a_day);
}

#[test]
fn a_day_with_a_step_broken_is_noticed() {
    use How::{Forced, Skipped};
    let (consumer, recover) = ("ring/consumer.rs", "ring/recover.rs");
    for flaw in [
        Flaw::Step(recover, "slot.claim.compare_exchange(seen, 0, Ordering::Release", Skipped),
        Flaw::Step(recover, "word.compare_exchange(seen, verdict, ", Skipped),
        Flaw::Step(recover, ".compare_exchange(seen, condemned, ", Forced),
        Flaw::Step(recover, ".compare_exchange(seen, cancelled, ", Forced),
        Flaw::Step(consumer, "slot.claim.compare_exchange(running, done, ", Forced),
        Flaw::Step(consumer, "slot.done.store(done, ", Skipped),
    ] {
        fails_with(&[flaw], || explore(a_day));
    }
}
