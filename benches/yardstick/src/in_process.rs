//! The same Python functions, called in the process that has the values: what nearcall is held
//! against, and what a service without it could do.

use anyhow::{Context, ensure};
use nearcall_bench::clock;
use nearcall_bench::measure::{Turn, closed_loop};
use nearcall_bench::order::Order;
use nearcall_bench::workload::Workload;
use pyo3::prelude::*;

use crate::batches;
use crate::call::PythonCall;
use crate::interpreter::{self, Attached, Kept};

/// One thread, attached all the time: the fastest there is.
pub(crate) const ALONE: &str = "in-process";
/// Threads that keep a thread state each, and are attached during their calls.
pub(crate) const STATE_KEPT: &str = "in-process, thread state kept";
/// Threads that keep nothing, as native threads of a service: a thread state for each call.
pub(crate) const PLAIN_ATTACH: &str = "in-process, plain attach";

pub(crate) fn alone(order: &Order) -> anyhow::Result<Turn> {
    ensure!(order.submitters == 1, "one thread holds the GIL all the time: there is no second");
    let workload = prepare(order)?;
    let callers = |_| {
        let attached = Attached::new()?;
        let call = PythonCall::new(attached.py(), workload)?;
        Ok(move |number| call.call(attached.py(), number))
    };
    closed_loop(1, callers, order.span, || clock::cpu_of(None))
}

pub(crate) fn state_kept(order: &Order) -> anyhow::Result<Turn> {
    let workload = prepare(order)?;
    let callers = |_| {
        let mut thread = Kept::new()?;
        let call = thread.attached(|py| PythonCall::new(py, workload))?;
        Ok(move |number| thread.attached(|py| call.call(py, number)))
    };
    closed_loop(order.submitters, callers, order.span, || clock::cpu_of(None))
}

pub(crate) fn plain_attach(order: &Order) -> anyhow::Result<Turn> {
    let workload = prepare(order)?;
    let callers = |_| {
        let call = Python::attach(|py| PythonCall::new(py, workload))?;
        Ok(move |number| Python::attach(|py| call.call(py, number)))
    };
    closed_loop(order.submitters, callers, order.span, || clock::cpu_of(None))
}

/// Starts the interpreter and says what to call.
fn prepare(order: &Order) -> anyhow::Result<Workload> {
    batches::one_after_another(order)?;
    let workload = order.workload.context("the order has no workload")?;
    interpreter::start(order)?;
    Ok(workload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::start_for_tests;

    fn order(workload: Workload, submitters: usize) -> Order {
        Order { workload: Some(workload), submitters, ..start_for_tests() }
    }

    #[test]
    fn each_system_calls_and_counts() {
        for workload in [Workload::Noop, Workload::BigModel, Workload::Garbage] {
            let turn = alone(&order(workload, 1)).unwrap();
            assert!(turn.latencies.count() > 0 && turn.cpu_seconds.is_some());
            for system in [state_kept, plain_attach] {
                assert!(system(&order(workload, 4)).unwrap().latencies.count() > 0);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let two = order(Workload::Noop, 2);
        assert!(alone(&two).unwrap_err().to_string().contains("there is no second"));
        let nothing = Order { workload: None, ..two.clone() };
        assert!(state_kept(&nothing).unwrap_err().to_string().contains("no workload"));
        let pipelined = Order { pipelined: Some(8), ..two };
        assert!(plain_attach(&pipelined).unwrap_err().to_string().contains("at once"));
    }
}
