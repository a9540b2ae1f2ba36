//! Calls with long pauses between them: everybody sleeps meanwhile, and each call pays for waking
//! the other side, as a bare futex pair at the same rate does.
//!
//! All systems of one period run at the same time, on one schedule: their calls are spread evenly
//! over the period. From turn to turn each gets another place in it.

use std::thread;

use anyhow::{Context, anyhow};
use nearcall::WaitPolicy;

use super::group::{Group, Taken};
use super::systems::{Asked, Calls, WORKLOADS, engine_row};
use crate::clock;
use crate::engine::{Running, Subject};
use crate::ground::{Ground, Program};
use crate::measure::{Span, Turn};
use crate::order::{Order, Pace, Peer};
use crate::rows::Row;
use crate::workload::Workload;

/// For all to be ready before the first call is due, in nanoseconds.
const LEAD_NS: u64 = 1_000_000_000;

/// A span says nothing here: the schedule does.
const NO_SPAN: Span = Span { warm_up: 0.0, measured: 0.0 };

const POLICIES: [WaitPolicy; 2] = [WaitPolicy::Adaptive, WaitPolicy::Park];

/// A rate of calls, and what is called at it.
#[derive(Debug, Clone, Copy)]
struct Rate {
    period_ms: u64,
    /// The first of them is not counted.
    calls: u64,
    repeats: usize,
    workloads: &'static [Workload],
}

const RATES: [Rate; 3] = [
    Rate { period_ms: 10, calls: 200, repeats: 3, workloads: &WORKLOADS },
    Rate { period_ms: 100, calls: 40, repeats: 3, workloads: &[Workload::BigModel] },
    Rate { period_ms: 1_000, calls: 12, repeats: 1, workloads: &[Workload::BigModel] },
];

pub(super) fn plan() -> Vec<Group> {
    RATES.map(group).into()
}

/// What is called at a rate.
#[derive(Debug, Clone, Copy)]
enum System {
    Engine(Subject),
    Other(Asked),
}

fn systems(rate: Rate) -> Vec<System> {
    let mut systems = vec![System::Other(Asked::limit("futex"))];
    for &workload in rate.workloads {
        let engine = |policy| System::Engine(Subject { policy, ..Subject::new(workload) });
        let with_python = Asked { workload: Some(workload), ..Asked::limit("futex + python") };
        let [adaptive, park] = POLICIES.map(engine);
        systems.extend([adaptive, System::Other(with_python), park]);
    }
    systems
}

fn group(rate: Rate) -> Group {
    let systems = systems(rate);
    let row = |system: &System| {
        let row = match system {
            System::Engine(subject) => engine_row("parked", *subject, Calls::By(1)),
            System::Other(asked) => asked.row("parked"),
        };
        Row { period_ms: Some(rate.period_ms as f64), ..row }
    };
    let rows = systems.iter().map(row).collect();
    Group::new(rows, rate.repeats, Some(Program::Yardstick), move |ground, turn| {
        take(ground, &systems, rate, turn)
    })
}

/// A system that is ready for its schedule.
enum Ready {
    Engine(Option<Running>),
    Other(Peer, Order),
}

fn take(
    ground: &mut Ground,
    systems: &[System],
    rate: Rate,
    turn: usize,
) -> anyhow::Result<Vec<Option<Taken>>> {
    let ready = systems.iter().map(|system| {
        Ok(match system {
            System::Engine(subject) => Ready::Engine(ground.engine(*subject)?),
            System::Other(asked) => {
                let order = ground.order(Program::Yardstick, asked.system, NO_SPAN);
                let order = Order { workload: asked.workload, ..order };
                Ready::Other(ground.start(Program::Yardstick)?, order)
            }
        })
    });
    let mut ready: Vec<Ready> = ready.collect::<anyhow::Result<_>>()?;
    let first_ns = clock::monotonic_ns()? + LEAD_NS;
    for (place, ready) in ready.iter_mut().enumerate() {
        if let Ready::Other(peer, order) = ready {
            order.pace = Some(pace(first_ns, rate, place + turn, systems.len()));
            peer.begin(order)?;
        }
    }
    let ours = thread::scope(|scope| {
        let calls = ready.iter().enumerate().map(|(place, ready)| {
            let Ready::Engine(Some(running)) = ready else { return None };
            let pace = pace(first_ns, rate, place + turn, systems.len());
            Some(scope.spawn(move || running.paced(pace)))
        });
        let calls: Vec<_> = calls.collect();
        let joined = |call: thread::ScopedJoinHandle<'_, anyhow::Result<Turn>>| {
            call.join().map_err(|_| anyhow!("a thread of the benchmark panicked"))?
        };
        calls.into_iter().map(|call| call.map(joined).transpose()).collect::<Vec<_>>()
    });
    let mut taken = Vec::with_capacity(systems.len());
    for (ready, ours) in ready.into_iter().zip(ours) {
        let turn = match ready {
            Ready::Engine(running) => {
                let turn = ours?;
                running.map(Running::end).transpose()?;
                turn
            }
            Ready::Other(mut peer, order) => {
                let outcome = peer.finish().with_context(|| order.system.clone())?;
                ground.turn_of(outcome, &order.system)
            }
        };
        // The rate is the schedule's, not the system's.
        taken.push(turn.map(|turn| Taken::of(Turn { seconds: 0.0, ..turn })));
    }
    Ok(taken)
}

/// The schedule of the system at this place among so many.
fn pace(first_ns: u64, rate: Rate, place: usize, systems: usize) -> Pace {
    let period_ns = rate.period_ms * 1_000_000;
    let phase_ns = period_ns * (place % systems) as u64 / systems as u64;
    Pace { first_ns: first_ns + phase_ns, period_ns, calls: rate.calls }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_are_spread_over_the_period_and_change_places() {
        let rate = RATES[0];
        let firsts = |turn: usize| -> Vec<u64> {
            (0..4).map(|place| pace(500, rate, place + turn, 4).first_ns).collect()
        };
        assert_eq!(firsts(0), [500, 2_500_500, 5_000_500, 7_500_500]);
        assert_eq!(firsts(1), [2_500_500, 5_000_500, 7_500_500, 500]);
        assert_eq!(pace(0, rate, 0, 4).period_ns, 10_000_000);
    }
}
