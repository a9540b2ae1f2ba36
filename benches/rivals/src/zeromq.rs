//! ZeroMQ over its Unix sockets. ZeroMQ's sockets serve one thread each, so each submitter has its
//! own to one of the workers; the messages are those of the plain socket.

use std::path::Path;

use anyhow::{Context as _, bail};
use nearcall_bench::measure::{Caller, Turn, closed_loop};
use nearcall_bench::order::Order;
use tempfile::TempDir;
use zmq::{Context, DONTWAIT, Error, Message, POLLIN, Socket, SocketType, poll};

use crate::message::{read_answer, write_request};
use crate::pipelined::{Lanes, pipelined};
use crate::process::{Process, command, cpu_seconds, needs};
use crate::task::{Answer, Task};

const WORKER: &str = include_str!("../python/zeromq_worker.py");

/// Milliseconds, beyond which a worker that does not answer is gone.
const PATIENCE: i32 = 10_000;

/// One turn.
///
/// # Errors
/// A wrong answer, or what ZeroMQ says.
pub(crate) fn turn(order: &Order) -> anyhow::Result<Turn> {
    needs(order, "msgpack")?;
    needs(order, "zmq")?;
    let task = Task::of(order)?;
    let folder: TempDir = tempfile::Builder::new().prefix("nearcall-rivals-").tempdir()?;
    let peers =
        if order.pipelined.is_some() { 1 } else { order.submitters.div_ceil(order.workers) };
    let mut workers = Vec::with_capacity(order.workers);
    for index in 0..order.workers {
        let mut worker = command(&order.python, WORKER);
        worker.arg(&order.models).arg(task.method()).arg(endpoint(folder.path(), index)?);
        worker.arg(if peers > 1 { "many" } else { "one" });
        workers.push(Process::start(&mut worker)?);
    }
    workers.iter_mut().try_for_each(Process::ready)?;
    let cpu = || cpu_seconds(&workers);
    let context = Context::new();
    match order.pipelined {
        Some(depth) => {
            let lane = |index| Lane::connect(&context, &endpoint(folder.path(), index)?, task);
            let lanes = (0..order.workers).map(lane).collect::<anyhow::Result<_>>()?;
            pipelined(&mut Sockets(lanes), depth, task, order.span, cpu)
        }
        None => {
            let caller = |index: usize| {
                Lane::connect(&context, &endpoint(folder.path(), index % order.workers)?, task)
            };
            closed_loop(order.submitters, caller, order.span, cpu)
        }
    }
}

fn endpoint(folder: &Path, worker: usize) -> anyhow::Result<String> {
    let folder = folder.to_str().context("the folder for temporary files is not UTF-8")?;
    Ok(format!("ipc://{folder}/{worker}"))
}

/// A connection to a worker.
struct Lane {
    socket: Socket,
    task: Task,
    request: Vec<u8>,
    answer: Message,
}

impl Lane {
    fn connect(context: &Context, endpoint: &str, task: Task) -> anyhow::Result<Self> {
        let socket = context.socket(SocketType::DEALER)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(PATIENCE)?;
        socket.connect(endpoint)?;
        Ok(Self { socket, task, request: Vec::new(), answer: Message::new() })
    }

    fn send(&mut self, call: u64) -> anyhow::Result<()> {
        self.request.clear();
        write_request(&mut self.request, self.task, call)?;
        self.socket.send(self.request.as_slice(), 0)?;
        Ok(())
    }

    /// The next answer; none if there is none and `flags` say not to wait.
    fn receive(&mut self, flags: i32) -> anyhow::Result<Option<Answer>> {
        match self.socket.recv(&mut self.answer, flags) {
            Ok(()) => read_answer(&self.answer, self.task).map(Some),
            Err(Error::EAGAIN) if flags == DONTWAIT => Ok(None),
            Err(Error::EAGAIN) => bail!("a worker does not answer"),
            Err(other) => Err(other.into()),
        }
    }
}

impl Caller for Lane {
    fn call(&mut self, number: u64) -> anyhow::Result<()> {
        self.send(number)?;
        let answer = self.receive(0)?.context("no answer")?;
        self.task.check_call(number, answer)
    }
}

/// A connection to each worker.
struct Sockets(Vec<Lane>);

impl Lanes for Sockets {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn send(&mut self, lane: usize, call: u64) -> anyhow::Result<()> {
        self.0[lane].send(call)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn receive(&mut self, answers: &mut Vec<(usize, Answer)>) -> anyhow::Result<()> {
        let mut polled: Vec<_> =
            self.0.iter().map(|lane| lane.socket.as_poll_item(POLLIN)).collect();
        if poll(&mut polled, PATIENCE.into())? == 0 {
            bail!("no worker answers");
        }
        for (at, lane) in self.0.iter_mut().enumerate() {
            while let Some(answer) = lane.receive(DONTWAIT)? {
                answers.push((at, answer));
            }
        }
        Ok(())
    }
}
