//! What no engine between two processes can beat on this machine.

use super::group::{Group, Taken, effort};
use super::systems::Asked;
use crate::ground::Program;
use crate::measure::Turn;

pub(super) fn plan(quick: bool) -> Vec<Group> {
    let seconds = if quick { 0.1 } else { 0.3 };
    ["cache-line", "futex", "lock"].map(|limit| group(limit, seconds)).into()
}

fn group(limit: &'static str, seconds: f64) -> Group {
    let asked = Asked::limit(limit);
    let effort = effort(seconds, 5);
    let rows = vec![asked.row("limits")];
    Group::new(rows, effort.repeats, Some(Program::Yardstick), move |ground, _| {
        let turn = asked.turn(ground, Program::Yardstick, effort.span)?;
        // A latency is the mean of a batch of operations: how many there are in a second cannot be
        // told from their number.
        Ok(vec![turn.map(|turn| Taken::of(Turn { seconds: 0.0, ..turn }))])
    })
}
