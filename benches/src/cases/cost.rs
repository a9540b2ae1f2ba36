//! CPU time for calls and for none; and how long it takes to the first answer.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use nearcall::WaitPolicy;

use super::group::{Group, Taken, effort};
use super::systems::{Calls, POLICIES, WORKLOADS, engine_row, row};
use crate::engine::{Home, Subject};
use crate::measure::{Latencies, Turn};
use crate::rows::{Figures, Row};
use crate::workload::Workload;

const CASE: &str = "cost";

/// For which an engine is left alone, in seconds.
const IDLE: u64 = 10;

const STARTS: usize = 10;

pub(super) fn plan() -> Vec<Group> {
    let mut groups = Vec::new();
    for workload in WORKLOADS {
        for policy in POLICIES {
            let subject = Subject { policy, ..Subject::new(workload) };
            groups.push(Group::of_engine(CASE, subject, Calls::By(1), effort(0.5, 3)));
        }
    }
    groups.extend([WaitPolicy::Adaptive, WaitPolicy::Park].map(idle));
    groups.push(starts());
    groups
}

fn idle(policy: WaitPolicy) -> Group {
    let subject = Subject { policy, ..Subject::new(Workload::Noop) };
    let identity = engine_row(CASE, subject, Calls::By(1));
    let row = Row { variant: Some("idle".to_owned()), submitters: None, ..identity };
    Group::new(vec![row], 1, None, move |ground, _| {
        let Some(running) = ground.engine(subject)? else { return Ok(vec![None]) };
        let figures = Figures { cpu_percent: Some(running.idle(IDLE)?), ..Figures::default() };
        running.end()?;
        Ok(vec![Some(figures.into())])
    })
}

/// Both in turns.
fn starts() -> Group {
    let subject = Subject::new(Workload::BigModel);
    let variant = || Some("start".to_owned());
    let ours = Row { variant: variant(), ..engine_row(CASE, subject, Calls::By(1)) };
    let python = Row { variant: variant(), ..row(CASE, "python3 -c", Some(Workload::BigModel)) };
    Group::new(vec![ours, python], 1, None, move |ground, _| {
        let (mut ours, mut python) = (Latencies::new()?, Latencies::new()?);
        for _ in 0..STARTS {
            let begun = Instant::now();
            let Some(running) = ground.engine(subject)? else { return Ok(vec![None; 2]) };
            running.call(0)?;
            ours.record(begun.elapsed());
            running.end()?;
            let begun = Instant::now();
            import(ground.home())?;
            python.record(begun.elapsed());
        }
        let taken = |latencies| Taken::of(Turn { latencies, seconds: 0.0, cpu_seconds: None });
        Ok(vec![Some(taken(ours)), Some(taken(python))])
    })
}

/// What a start is compared with: a Python that imports the model and ends.
fn import(home: &Home) -> anyhow::Result<()> {
    let status = Command::new(&home.python)
        .args(["-c", "import bench_model"])
        .env("PYTHONPATH", &home.models)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} does not start", home.python.display()))?;
    ensure!(status.success(), "{} cannot import the models: {status}", home.python.display());
    Ok(())
}
