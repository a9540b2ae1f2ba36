//! What the garbage collector does to the tail of a model that makes cyclic garbage.

use nearcall::WaitPolicy;

use super::group::{Group, Taken, effort};
use super::systems::{Calls, engine_row, engine_turn};
use crate::engine::Subject;
use crate::rows::Row;
use crate::workload::Workload;

/// There are pauses between the calls, in which garbage could be collected. The engine never
/// sleeps, so that the tail shows no wake-ups instead.
const PER_SECOND: f64 = 2_000.0;

const VARIANTS: [(&str, bool); 2] = [("gc between calls", true), ("gc as Python has it", false)];

pub(super) fn plan() -> Vec<Group> {
    VARIANTS.map(|(variant, gc_between_calls)| group(variant, gc_between_calls)).into()
}

fn group(variant: &str, gc_between_calls: bool) -> Group {
    let subject =
        Subject { policy: WaitPolicy::Spin, gc_between_calls, ..Subject::new(Workload::Garbage) };
    let calls = Calls::PerSecond(PER_SECOND);
    let row = Row { variant: Some(variant.to_owned()), ..engine_row("hot", subject, calls) };
    // Enough calls for a p99.9.
    let effort = effort(2.0, 5);
    Group::new(vec![row], effort.repeats, None, move |ground, _| {
        Ok(vec![engine_turn(ground, subject, calls, effort.span)?.map(Taken::of)])
    })
}
