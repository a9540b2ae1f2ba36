//! Open loop: calls are sent when they are due, at a share of what the engine can do.

use anyhow::Context;

use super::group::{Group, Taken, effort};
use super::systems::{Calls, engine_row, engine_turn};
use super::throughput::WINDOW;
use crate::engine::Subject;
use crate::measure::Span;
use crate::rows::{Figures, Row};
use crate::workload::Workload;

/// In per cent of the capacity.
const LOADS: [u32; 5] = [10, 30, 50, 70, 90];

/// For the capacity.
const CAPACITY: Span = Span { warm_up: 0.05, measured: 0.5 };

pub(super) fn plan() -> Vec<Group> {
    let subject = Subject { workers: 2, ..Subject::new(Workload::BigModel) };
    // The rate differs from turn to turn: a load is a share, not a number of calls.
    let identity = engine_row("load", subject, Calls::PerSecond(0.0));
    let row = |load| Row { load_percent: Some(load), ..identity.clone() };
    let effort = effort(1.0, 3);
    vec![Group::new(LOADS.map(row).into(), effort.repeats, None, move |ground, _| {
        let Some(turn) = engine_turn(ground, subject, Calls::Pipelined(WINDOW), CAPACITY)? else {
            return Ok(vec![None; LOADS.len()]);
        };
        let capacity = Figures::of(&turn).per_second.context("no capacity")?;
        let turn = |load| {
            let calls = Calls::PerSecond(capacity * f64::from(load) / 100.0);
            Ok(engine_turn(ground, subject, calls, effort.span)?.map(Taken::of))
        };
        LOADS.into_iter().map(turn).collect()
    })]
}
