//! What follows from the seed.

use std::time::Duration;

use fastrand::Rng;
use nearcall::WaitPolicy;

use crate::orders::{self, Deed};

/// A round takes about so long.
const ROUND_SECONDS: u64 = 10;
/// At least so many: one of each weather.
const MIN_ROUNDS: u64 = 3;

/// The unit in which actors pause.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 4096;
/// Bytes of the largest task or answer.
pub(crate) const PAYLOAD_BYTES: usize = 1 << 18;
/// The longest padding of a task that fits a slot, and of any.
const MAX_SMALL: usize = 3000;
const MAX_PADDING: usize = 200_000;
/// Of a thousand ordinary tasks, so many have their padding in place.
const IN_PLACE_PER_MILLE: u32 = 25;

/// Actors, by lane. Submitters have the lanes from 0.
pub(crate) const KILLER: u64 = 20;
pub(crate) const STOPPER: u64 = 21;
pub(crate) const RELOADER: u64 = 22;
pub(crate) const VANDAL: u64 = 23;
/// The thread that runs the round.
pub(crate) const DIRECTOR: u64 = 24;

/// What a round is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Workers die and stop, but what they say is true. A task runs at most once.
    Honest,
    /// The same with a model that may be run again.
    Retries,
    /// Workers write anything anywhere. Until they have all been replaced, answers are not judged.
    Hostile,
}

/// One round: an engine, and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) index: u64,
    pub(crate) seed: u64,
    pub(crate) ticks: u64,
    pub(crate) weather: Weather,
    pub(crate) workers: usize,
    pub(crate) slots: usize,
    pub(crate) policy: WaitPolicy,
    pub(crate) retries: u32,
    /// Whether a warm worker stands by.
    pub(crate) spare: bool,
    /// When workers are replaced in order.
    pub(crate) max_tasks: Option<u64>,
    pub(crate) max_age: Option<u32>,
    /// Callers that wait for what they have submitted.
    pub(crate) closed_loops: u64,
    /// Callers that submit by the clock.
    pub(crate) open_loops: u64,
    /// `NEARCALL_FAULTS`: places in the workers' protocol at which some worker dies.
    pub(crate) faults: String,
    /// Whether an event loop wakes those who await, instead of the library's own thread.
    pub(crate) watched: bool,
}

impl Plan {
    /// The rounds of a storm.
    pub(crate) fn all(seconds: u64, seed: u64) -> impl Iterator<Item = Self> {
        let rounds = (seconds / ROUND_SECONDS).max(MIN_ROUNDS);
        (0..rounds).map(move |index| Self::new(index, seed, seconds * 1000 / rounds))
    }

    fn new(index: u64, seed: u64, ticks: u64) -> Self {
        let seed = orders::mix(seed ^ orders::mix(index));
        let mut dice = Rng::with_seed(seed);
        let weather = match index % 3 {
            0 => Weather::Honest,
            1 => Weather::Retries,
            _ => Weather::Hostile,
        };
        Self {
            index,
            seed,
            ticks,
            weather,
            workers: dice.usize(1..=4),
            slots: *pick(&mut dice, &[8, 64, 64, 256]),
            policy: *pick(
                &mut dice,
                &[WaitPolicy::Adaptive, WaitPolicy::Adaptive, WaitPolicy::Park, WaitPolicy::Spin],
            ),
            retries: if weather == Weather::Retries { dice.u32(1..=3) } else { 0 },
            spare: dice.bool(),
            max_tasks: dice.bool().then(|| dice.u64(5_000..50_000)),
            max_age: dice.bool().then(|| dice.u32(500..5_000)),
            closed_loops: dice.u64(7..=10),
            open_loops: dice.u64(1..=2),
            faults: faults(&mut dice),
            watched: dice.bool(),
        }
    }

    /// The choices of an actor's next act.
    pub(crate) fn dice(&self, lane: u64, act: u64) -> Rng {
        Rng::with_seed(orders::mix(self.seed ^ orders::mix(orders::number(lane, act))))
    }
}

fn pick<'a, T>(dice: &mut Rng, of: &'a [T]) -> &'a T {
    &of[dice.usize(..of.len())]
}

/// Deaths at named points (`src/faults.rs`), each of one of the later workers of each place.
fn faults(dice: &mut Rng) -> String {
    const POINTS: [&str; 15] = [
        "start.forked",
        "start.initialised",
        "claim.locked",
        "claim.before",
        "claim.claimed",
        "serve.claimed",
        "model.writing",
        "serve.called",
        "serve.finished",
        "serve.written",
        "serve.completed",
        "serve.waking",
        "serve.marked",
        "serve.parked",
        "serve.woken",
    ];
    let faults: Vec<String> = (0..12)
        .map(|_| {
            let point = pick(dice, &POINTS);
            let how = pick(dice, &["kill", "kill", "abort", "segv", "exit"]);
            format!("{point}={how}@{}", dice.u32(2..120))
        })
        .collect();
    faults.join(",")
}

/// One task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) deed: Deed,
    pub(crate) amount: i64,
    pub(crate) padding: &'static str,
    pub(crate) place: Option<Place>,
}

/// How a task's padding is put in place: as a tensor of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// There is as much room for that of the answer.
    pub(crate) has_output: bool,
    /// It is reserved once before, written, and dropped.
    pub(crate) is_tried: bool,
    /// It is held for so many microseconds before it is all written, and once more before the submit.
    pub(crate) micros: u64,
}

impl Place {
    fn draw(dice: &mut Rng) -> Self {
        let (has_output, is_tried) = (dice.bool(), dice.u32(..8) == 0);
        Self { has_output, is_tried, micros: if dice.u32(..8) == 0 { dice.u64(..1000) } else { 0 } }
    }
}

impl Order {
    /// An ordinary task: nothing in it ends the worker.
    pub(crate) fn draw(dice: &mut Rng, number: u64) -> Self {
        let (deed, amount) = match dice.u32(..10_000) {
            0..9_500 => (Deed::Answer, 0),
            9_500..9_700 => (Deed::Sleep, dice.i64(20..500)),
            9_700..9_900 => (Deed::Compute, dice.i64(5..100)),
            9_900..9_980 => (Deed::Raise, 0),
            _ => (Deed::Oversize, PAYLOAD_BYTES as i64 + dice.i64(0..100_000)),
        };
        let len = match dice.u32(..1000) {
            0..500 => 0,
            500..750 => dice.usize(..24),
            750..950 => dice.usize(..120),
            950..990 => dice.usize(..MAX_SMALL),
            990..998 => dice.usize(MAX_SMALL..3 * SLOT_BYTES),
            _ => dice.usize(..MAX_PADDING),
        };
        let order = Self { number, deed, amount, padding: padding(number, len), place: None };
        if dice.u32(..1000) < IN_PLACE_PER_MILLE { order.in_place(dice) } else { order }
    }

    /// A task that does what the submitter wants it to.
    pub(crate) fn to(number: u64, deed: Deed, amount: i64) -> Self {
        Self { number, deed, amount, padding: "", place: None }
    }

    /// The same with its padding in place, and more of it. The model keeps some of them.
    pub(crate) fn in_place(self, dice: &mut Rng) -> Self {
        let more = match dice.u32(..16) {
            0..12 => dice.usize(..MAX_SMALL),
            12..14 => dice.usize(..10 * SLOT_BYTES),
            14 => dice.usize(..MAX_PADDING),
            // As it is: often none.
            _ => 0,
        };
        let (deed, amount) = match (self.deed, dice.u32(..8)) {
            (Deed::Answer, 0) => (Deed::Keep, dice.i64(1..300)),
            (deed, _) => (deed, self.amount),
        };
        let padding = padding(self.number, more.max(self.padding.len()));
        Self { deed, amount, padding, place: Some(Place::draw(dice)), ..self }
    }
}

/// A text of this length that is another one for most tasks.
fn padding(number: u64, len: usize) -> &'static str {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    static TEXT: [u8; MAX_PADDING + 62] = {
        let mut text = [0; MAX_PADDING + 62];
        let mut at = 0;
        while at < text.len() {
            text[at] = ALPHABET[at % 62];
            at += 1;
        }
        text
    };
    let from = (number % 62) as usize;
    TEXT.get(from..from + len).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_schedule() {
        let text = |seed| {
            let plans: Vec<Plan> = Plan::all(60, seed).collect();
            let orders: Vec<Order> = plans
                .iter()
                .flat_map(|plan| (0..50).map(|act| Order::draw(&mut plan.dice(3, act), act)))
                .collect();
            format!("{plans:?} {orders:?}")
        };
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn each_weather_has_a_round_in_the_shortest_storm() {
        let plans: Vec<Plan> = Plan::all(1, 9).collect();
        for weather in [Weather::Honest, Weather::Retries, Weather::Hostile] {
            assert!(plans.iter().any(|plan| plan.weather == weather), "{weather:?}");
        }
    }
}
