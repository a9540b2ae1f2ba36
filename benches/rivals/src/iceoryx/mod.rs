//! iceoryx2: shared memory from Rust to Python and back. Each worker has a publish-subscribe
//! service for its requests, each submitter one for its answers. The other side is found by
//! polling, or woken through an event service.

mod parcel;
mod premises;
mod submitter;

use std::thread::available_parallelism;

use iceoryx2::prelude::{LogLevel, Node, NodeBuilder, SignalHandlingMode, ipc, set_log_level};
use iceoryx2::service::port_factory::{event, publish_subscribe};
use nearcall_bench::measure::{Turn, closed_loop};
use nearcall_bench::order::Order;

use self::parcel::{Request, Response};
use self::premises::Premises;
use self::submitter::Submitter;
use crate::pipelined::pipelined;
use crate::process::{Process, command, cpu_seconds, needs};
use crate::task::Task;

const WORKER: &str = include_str!("../../python/iceoryx_worker.py");

/// How a side learns that there is something for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It looks again and again.
    Spinning,
    /// It sleeps until it is notified.
    Blocking,
}

/// How often each side looks in vain before it leaves the CPU to others: longer than a call takes
/// (a look takes the host some 20 ns, and a worker 100 ns).
#[derive(Debug, Clone, Copy)]
struct Looks {
    host: u32,
    worker: u32,
}

const LOOKS: Looks = Looks { host: 2_000, worker: 200 };

/// When there are more threads than CPUs, so that others need the CPU to make any progress. The
/// best of those that were tried, from 1 to 2000.
const LOOKS_CROWDED: Looks = Looks { host: 50, worker: 20 };

/// A way for parcels, and a way to wake who receives them.
struct Way<Parcel: std::fmt::Debug + iceoryx2::prelude::ZeroCopySend> {
    parcels: publish_subscribe::PortFactory<ipc::Service, Parcel, ()>,
    events: event::PortFactory<ipc::Service>,
}

impl<Parcel: std::fmt::Debug + iceoryx2::prelude::ZeroCopySend> Way<Parcel> {
    /// From this many senders, each with up to `depth` parcels under way, to one receiver.
    fn create(
        node: &Node<ipc::Service>,
        name: &str,
        senders: usize,
        depth: usize,
    ) -> anyhow::Result<Self> {
        let parcels = node
            .service_builder(&name.try_into()?)
            .publish_subscribe::<Parcel>()
            .max_publishers(senders)
            .max_subscribers(1)
            .max_nodes(senders + 1)
            .subscriber_max_buffer_size(depth)
            // Nothing may be lost, and there is room for all.
            .enable_safe_overflow(false)
            .create()?;
        let events = node
            .service_builder(&name.try_into()?)
            .event()
            .max_notifiers(senders)
            .max_listeners(1)
            .max_nodes(senders + 1)
            .create()?;
        Ok(Self { parcels, events })
    }
}

/// All that a turn needs of iceoryx2.
struct Ways {
    /// To each worker.
    requests: Vec<Way<Request>>,
    /// To each submitter.
    answers: Vec<Way<Response>>,
}

/// One turn.
///
/// # Errors
/// A wrong answer, or what iceoryx2 says.
pub(crate) fn turn(order: &Order, wait: Wait) -> anyhow::Result<Turn> {
    needs(order, "iceoryx2")?;
    let task = Task::of(order)?;
    set_log_level(LogLevel::Error);
    let premises = Premises::new()?;
    let node = NodeBuilder::new()
        .config(&premises.config()?)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<ipc::Service>()?;
    let depth = order.pipelined.unwrap_or(1);
    let submitters = if order.pipelined.is_some() { 1 } else { order.submitters };
    let ways = Ways {
        // One more sender tells the workers to end.
        requests: (0..order.workers)
            .map(|worker| Way::create(&node, &format!("to-worker-{worker}"), submitters + 1, depth))
            .collect::<anyhow::Result<_>>()?,
        answers: (0..submitters)
            .map(|index| Way::create(&node, &format!("to-submitter-{index}"), order.workers, depth))
            .collect::<anyhow::Result<_>>()?,
    };
    let crowded = submitters + order.workers > available_parallelism()?.get();
    let looks = if crowded { LOOKS_CROWDED } else { LOOKS };
    let mut workers = Vec::with_capacity(order.workers);
    for worker in 0..order.workers {
        let mut arguments = command(&order.python, WORKER);
        arguments
            .arg(&order.models)
            .arg(task.method())
            .arg(premises.root())
            .arg(premises.prefix())
            .arg(worker.to_string())
            .arg(submitters.to_string())
            .arg(match wait {
                Wait::Spinning => looks.worker.to_string(),
                Wait::Blocking => "blocking".to_owned(),
            });
        workers.push(Process::start(&mut arguments)?);
    }
    workers.iter_mut().try_for_each(Process::ready)?;
    let cpu = || cpu_seconds(&workers);
    let turn = match order.pipelined {
        Some(depth) => {
            let mut lanes = Submitter::new(&ways, 0, 0..order.workers, task, wait, looks.host)?;
            pipelined(&mut lanes, depth, task, order.span, cpu)
        }
        None => {
            let submitter = |index| {
                let worker = index % order.workers;
                Submitter::new(&ways, index, worker..worker + 1, task, wait, looks.host)
            };
            closed_loop(submitters, submitter, order.span, cpu)
        }
    }?;
    let senders = submitter::end(&ways)?;
    workers.into_iter().try_for_each(Process::end)?;
    drop(senders);
    Ok(turn)
}
