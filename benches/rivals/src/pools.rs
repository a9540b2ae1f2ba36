//! Python's own pools of processes, driven from Python as their users do.

use std::io::{Read, Write};
use std::process::Stdio;

use anyhow::{Context, bail};
use nearcall_bench::measure::Turn;
use nearcall_bench::order::Order;
use nearcall_bench::workload::{BIG_MODEL_ANSWER, FLOATS, INT, STRS};
use serde_json::json;

use crate::process::{Process, command};
use crate::task::Task;

const DRIVER: &str = include_str!("../python/pools.py");

/// Which of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pool {
    /// `multiprocessing.Pool`.
    Multiprocessing,
    /// `concurrent.futures.ProcessPoolExecutor`.
    Executor,
}

/// One turn: a driver of its own.
///
/// # Errors
/// What went wrong in Python, a wrong answer included.
pub(crate) fn turn(order: &Order, pool: Pool) -> anyhow::Result<Turn> {
    if order.pipelined.is_some() {
        bail!("its calls are made one at a time");
    }
    let task = Task::of(order)?;
    let (arguments, answer) = match task {
        // The driver puts a different number into each call, and expects it back.
        Task::Noop => (json!({}), json!(null)),
        Task::BigModel => (
            json!({"float_features": FLOATS, "str_features": STRS, "int_feature": INT}),
            json!([BIG_MODEL_ANSWER, ""]),
        ),
    };
    let job = json!({
        "pool": match pool {
            Pool::Multiprocessing => "multiprocessing",
            Pool::Executor => "executor",
        },
        "models": order.models,
        "method": task.method(),
        "arguments": arguments,
        "answer": answer,
        "submitters": order.submitters,
        "workers": order.workers,
        "warm_up": order.span.warm_up,
        "measured": order.span.measured,
    });
    let mut driver = command(&order.python, DRIVER);
    let mut driver = Process::start(driver.stdin(Stdio::piped()))?;
    let mut to = driver.child().stdin.take().context("no pipe")?;
    to.write_all(job.to_string().as_bytes()).context("the driver does not listen")?;
    drop(to);
    let mut said = String::new();
    driver.child().stdout.take().context("no pipe")?.read_to_string(&mut said)?;
    driver.end().with_context(|| said.clone())?;
    serde_json::from_str(&said).with_context(|| format!("the driver said {said:?}"))
}
