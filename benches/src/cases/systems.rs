//! What is measured, one system at a time: the engine, and what other programs run.

use nearcall::WaitPolicy;

use crate::engine::{Running, Subject};
use crate::ground::{Ground, Program};
use crate::measure::{Span, Turn};
use crate::rows::Row;
use crate::workload::Workload;

/// How an engine is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Calls {
    /// By so many threads, one call after another each.
    By(usize),
    /// By one thread that keeps so many on their way.
    Pipelined(usize),
    /// By one thread, so many in a second, on a schedule.
    PerSecond(f64),
}

/// Starts an engine, calls it, and ends it. `None` if this machine cannot have it.
pub(crate) fn engine_turn(
    ground: &mut Ground,
    subject: Subject,
    calls: Calls,
    span: Span,
) -> anyhow::Result<Option<Turn>> {
    let Some(running) = ground.engine(subject)? else { return Ok(None) };
    let turn = call(&running, calls, span)?;
    running.end()?;
    Ok(Some(turn))
}

fn call(running: &Running, calls: Calls, span: Span) -> anyhow::Result<Turn> {
    match calls {
        Calls::By(submitters) => running.closed_loop(submitters, span),
        Calls::Pipelined(window) => running.pipelined(window, span),
        Calls::PerSecond(rate) => running.open_loop(rate, span),
    }
}

/// What identifies the row of an engine.
pub(crate) fn engine_row(case: &str, subject: Subject, calls: Calls) -> Row {
    let Subject { workload, workers, slots, policy, .. } = subject;
    Row {
        policy: Some(policy.name().to_owned()),
        submitters: Some(if let Calls::By(submitters) = calls { submitters } else { 1 }),
        workers: Some(workers),
        slots: Some(slots),
        pipelined: if let Calls::Pipelined(window) = calls { Some(window) } else { None },
        ..row(case, "nearcall", Some(workload))
    }
}

/// A row of nothing but its case, its system and its workload.
pub(crate) fn row(case: &str, system: &str, workload: Option<Workload>) -> Row {
    let bytes = workload.and_then(|workload| match workload {
        Workload::Echo(bytes) => Some(bytes),
        _ => None,
    });
    Row {
        case: case.to_owned(),
        system: system.to_owned(),
        workload: workload.map(Workload::name),
        payload_bytes: bytes,
        ..Row::default()
    }
}

/// What another program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Asked {
    pub(crate) system: &'static str,
    pub(crate) workload: Option<Workload>,
    /// None for what has no such thing.
    pub(crate) submitters: Option<usize>,
    /// As `submitters`.
    pub(crate) workers: Option<usize>,
    pub(crate) pipelined: Option<usize>,
}

impl Asked {
    /// A call in one process: the threads that make it are all there is.
    pub(crate) fn in_process(system: &'static str, workload: Workload, threads: usize) -> Self {
        let workload = Some(workload);
        Self { system, workload, submitters: Some(threads), workers: None, pipelined: None }
    }

    /// A limit of the machine.
    pub(crate) fn limit(system: &'static str) -> Self {
        Self { system, workload: None, submitters: None, workers: None, pipelined: None }
    }

    /// What identifies its row.
    pub(crate) fn row(&self, case: &str) -> Row {
        Row {
            submitters: self.submitters,
            workers: self.workers,
            pipelined: self.pipelined,
            ..row(case, self.system, self.workload)
        }
    }

    /// Has it done.
    pub(crate) fn turn(
        &self,
        ground: &mut Ground,
        program: Program,
        span: Span,
    ) -> anyhow::Result<Option<Turn>> {
        let mut order = ground.order(program, self.system, span);
        order.workload = self.workload;
        order.submitters = self.submitters.unwrap_or(1);
        order.workers = self.workers.unwrap_or(1);
        order.pipelined = self.pipelined;
        ground.ask(program, &order)
    }
}

/// The fastest call in one process: one thread, attached all the time.
pub(crate) const IN_PROCESS: &str = "in-process";
/// Threads that keep a thread state each.
pub(crate) const STATE_KEPT: &str = "in-process, thread state kept";
/// Threads that keep nothing.
pub(crate) const PLAIN_ATTACH: &str = "in-process, plain attach";

/// Nothing left out.
pub(crate) const POLICIES: [WaitPolicy; 3] =
    [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Park];

/// The two functions that most cases call.
pub(crate) const WORKLOADS: [Workload; 2] = [Workload::Noop, Workload::BigModel];
