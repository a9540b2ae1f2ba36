//! How the engine waits: what the user chose, on the machine that it runs on.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU32, Ordering};
use crate::sys::futex;
use crate::wire::Patience;

/// How threads that wait for an answer, and workers that wait for a task, pass the time.
///
/// Whatever is chosen, host threads that wait do not spin for longer than some microseconds while
/// there are more of them, with the workers that they keep busy, than CPUs: they yield. (Threads
/// that do other things are not seen.) With one CPU (the affinity mask, or a cgroup's quota) nobody
/// spins at all: [`Engine::wait_policy`] says what is in force.
///
/// [`Engine::wait_policy`]: crate::Engine::wait_policy
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitPolicy {
    /// Spin for about as long as it costs to sleep and be woken, which is measured at start, then
    /// sleep: never more than twice the least that is possible. One worker spins at a time. An
    /// idle engine uses no CPU.
    #[default]
    Adaptive,
    /// Never sleep: the lowest latency at any rate, for the price of a CPU for each thread that
    /// waits. At most one worker less than there are CPUs spins, also in an idle engine; further
    /// ones sleep. Where more threads wait than there are CPUs, they yield, and sleep for 0.2 ms at a
    /// time.
    Spin,
    /// Sleep at once: the least CPU time for each call, and a wake-up of the kernel's, some 5 to
    /// 50 µs, in each direction.
    Park,
}

impl WaitPolicy {
    /// Its name in lower case, as the benchmark's files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Spin => "spin",
            Self::Park => "park",
        }
    }

    /// What is left of it on so many CPUs.
    pub(crate) fn on(self, cpus: usize) -> Self {
        if cpus > 1 { self } else { Self::Park }
    }

    /// In figures, on so many CPUs.
    pub(crate) fn patience(self, cpus: usize) -> Patience {
        let spare = u32::try_from(cpus - 1).unwrap_or(u32::MAX);
        match self.on(cpus) {
            Self::Adaptive => {
                Patience { spin: budget(), yields: YIELDS, searchers: 1, parks: true }
            }
            Self::Spin => {
                Patience { spin: Duration::MAX, yields: YIELDS, searchers: spare, parks: false }
            }
            Self::Park => Patience { spin: Duration::ZERO, yields: 0, searchers: 0, parks: true },
        }
    }
}

/// How often a thread yields, in a crowd, before it sleeps. A yield that nobody takes up costs
/// about half a microsecond, so this is about the spin budget.
const YIELDS: u32 = 100;

/// Round trips that the calibration makes, and those that it leaves out first.
const ROUND_TRIPS: usize = 40;
const WARM_UP: usize = 8;

/// What a measurement can be believed to be.
const BUDGET: std::ops::RangeInclusive<Duration> =
    Duration::from_micros(10)..=Duration::from_micros(200);

/// What it costs to sleep and be woken: the median round trip between two threads that sleep on
/// futexes. Measured once in a process, in about 2 ms.
fn budget() -> Duration {
    static MEASURED: OnceLock<Duration> = OnceLock::new();
    *MEASURED.get_or_init(|| {
        let mut times = round_trips();
        times.sort_unstable();
        // Without a second thread there is nothing to measure; the middle of what is believed.
        let median = times.get(times.len() / 2).copied().unwrap_or(Duration::from_micros(50));
        median.clamp(*BUDGET.start(), *BUDGET.end())
    })
}

fn round_trips() -> Vec<Duration> {
    let (there, back) = (AtomicU32::new(0), AtomicU32::new(0));
    let answered = (WARM_UP + ROUND_TRIPS) as u32;
    let pass_on = |from: &AtomicU32, to: &AtomicU32, turn: u32| {
        while from.load(Ordering::Acquire) < turn {
            futex::wait(from, turn - 1, None);
        }
        to.store(turn, Ordering::Release);
        futex::wake_one(to);
    };
    thread::scope(|scope| {
        let name = thread::Builder::new().name("nearcall-measure".to_owned());
        let responder = name
            .spawn_scoped(scope, || (1..=answered).for_each(|turn| pass_on(&there, &back, turn)));
        if responder.is_err() {
            return Vec::new();
        }
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for turn in 1..=answered {
            let begun = Instant::now();
            there.store(turn, Ordering::Release);
            futex::wake_one(&there);
            while back.load(Ordering::Acquire) < turn {
                futex::wait(&back, turn - 1, None);
            }
            if turn as usize > WARM_UP {
                times.push(begun.elapsed());
            }
        }
        times
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_one_cpu_nobody_spins_whatever_was_chosen() {
        for policy in [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Park] {
            assert_eq!(policy.on(1), WaitPolicy::Park);
            let patience = policy.patience(1);
            assert_eq!((patience.spin, patience.searchers), (Duration::ZERO, 0), "{policy:?}");
            assert!(patience.parks);
        }
    }

    #[test]
    fn the_calibration_measures_each_round_trip_and_is_made_once() {
        let times = round_trips();
        assert_eq!(times.len(), ROUND_TRIPS);
        assert!(times.iter().all(|time| !time.is_zero()), "{times:?}");
        assert!(BUDGET.contains(&budget()));
        assert_eq!(budget(), budget());
    }
}
