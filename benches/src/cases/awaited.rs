//! Calls that are awaited, beside blocking ones: by threads and workers that sleep in between, so that
//! what is compared is how each is woken; and when the answer is there already.
//!
//! All ways of a turn are taken on the same engine, one right after the other.

use nearcall::WaitPolicy;

use super::group::{Group, Taken};
use super::systems::{Calls, WORKLOADS, engine_row};
use crate::awaited::How;
use crate::engine::{Running, Subject};
use crate::measure::Span;
use crate::rows::Row;
use crate::workload::Workload;

const REPEATS: usize = 5;

/// What is measured, in the order of its rows.
pub(super) fn plan(quick: bool) -> Vec<Group> {
    let span = Span { warm_up: 0.05, measured: if quick { 0.15 } else { 0.5 } };
    WORKLOADS.map(|workload| group(workload, span)).into()
}

fn group(workload: Workload, span: Span) -> Group {
    let subject = Subject { policy: WaitPolicy::Park, ..Subject::new(workload) };
    let row = |how: How| Row {
        variant: Some(how.name().to_owned()),
        ..engine_row("awaited", subject, Calls::By(1))
    };
    let rows = How::ALL.map(row).into();
    Group::new(rows, REPEATS, None, move |ground, _| {
        let Some(running) = ground.engine(subject)? else {
            return Ok(How::ALL.map(|_| None).into());
        };
        let turn = |how| anyhow::Ok(Some(Taken::of(running.one_by_one(how, span)?)));
        let taken = How::ALL.into_iter().map(turn).collect::<Result<_, _>>()?;
        Running::end(running)?;
        Ok(taken)
    })
}
