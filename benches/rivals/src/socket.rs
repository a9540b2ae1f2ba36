//! Unix sockets and msgpack: what one writes oneself. Each worker has one end of a socket pair,
//! reads as much as is there, and answers that with one write.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use nearcall_bench::measure::Turn;
use nearcall_bench::order::Order;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::message::{read_answer, write_request};
use crate::pipelined::{Lanes, pipelined};
use crate::process::{Process, command, cpu_seconds, needs};
use crate::shared;
use crate::task::{Answer, Task};

const WORKER: &str = include_str!("../python/socket_worker.py");

/// Bytes of the length before each message.
const HEADER: usize = 4;

/// Room for answers at the start.
const ROOM: usize = 1 << 14;

/// One turn.
///
/// # Errors
/// A wrong answer, or what the system says.
pub(crate) fn turn(order: &Order) -> anyhow::Result<Turn> {
    needs(order, "msgpack")?;
    let task = Task::of(order)?;
    let mut hosts = Vec::with_capacity(order.workers);
    let mut workers = Vec::with_capacity(order.workers);
    for _ in 0..order.workers {
        let (host, end) = UnixStream::pair()?;
        let mut worker = command(&order.python, WORKER);
        worker.arg(&order.models).arg(task.method()).stdin(OwnedFd::from(end));
        workers.push(Process::start(&mut worker)?);
        hosts.push(host);
    }
    let cpu = || cpu_seconds(&workers);
    match order.pipelined {
        Some(depth) => {
            let pairs = hosts.iter().map(|host| (Writer::new(host, task), Reader::new(host, task)));
            let mut sockets = Sockets { ends: pairs.collect(), came: Vec::new() };
            pipelined(&mut sockets, depth, task, order.span, cpu)
        }
        None => shared::turn(order, task, &hosts, cpu),
    }
}

/// Requests on their way into a socket.
pub(crate) struct Writer<'a> {
    stream: &'a UnixStream,
    task: Task,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(stream: &'a UnixStream, task: Task) -> Self {
        Self { stream, task, out: Vec::new() }
    }

    /// Appends a request, which stays here.
    pub(crate) fn queue(&mut self, call: u64) -> anyhow::Result<()> {
        let begin = self.out.len();
        self.out.extend_from_slice(&[0; HEADER]);
        write_request(&mut self.out, self.task, call)?;
        let size = u32::try_from(self.out.len() - begin - HEADER)?;
        self.out[begin..begin + HEADER].copy_from_slice(&size.to_le_bytes());
        Ok(())
    }

    /// Writes what stayed here.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).context("a worker does not listen")?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Answers on their way out of a socket.
pub(crate) struct Reader<'a> {
    stream: &'a UnixStream,
    task: Task,
    /// What has come of an answer that is not complete yet: up to `filled`.
    came: Vec<u8>,
    filled: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(stream: &'a UnixStream, task: Task) -> Self {
        Self { stream, task, came: vec![0; ROOM], filled: 0 }
    }

    /// Waits for something to read, and takes all answers that have come.
    pub(crate) fn read(&mut self, answers: &mut Vec<Answer>) -> anyhow::Result<()> {
        if self.filled == self.came.len() {
            self.came.resize(2 * self.filled, 0);
        }
        let read = self.stream.read(&mut self.came[self.filled..])?;
        if read == 0 {
            bail!("a worker has ended");
        }
        self.filled += read;
        let mut came = &self.came[..self.filled];
        while let Some((size, behind)) = came.split_first_chunk::<HEADER>() {
            let size = u32::from_le_bytes(*size) as usize;
            let Some((message, behind)) = behind.split_at_checked(size) else { break };
            answers.push(read_answer(message, self.task)?);
            came = behind;
        }
        let taken = self.filled - came.len();
        self.came.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Ok(())
    }
}

/// Both directions of each worker's connection.
struct Sockets<'a> {
    ends: Vec<(Writer<'a>, Reader<'a>)>,
    came: Vec<Answer>,
}

impl Sockets<'_> {
    fn take(&mut self, lane: usize, answers: &mut Vec<(usize, Answer)>) -> anyhow::Result<()> {
        self.ends[lane].1.read(&mut self.came)?;
        answers.extend(self.came.drain(..).map(|answer| (lane, answer)));
        Ok(())
    }
}

impl Lanes for Sockets<'_> {
    fn count(&self) -> usize {
        self.ends.len()
    }

    fn send(&mut self, lane: usize, call: u64) -> anyhow::Result<()> {
        self.ends[lane].0.queue(call)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.ends.iter_mut().try_for_each(|(writer, _)| writer.flush())
    }

    fn receive(&mut self, answers: &mut Vec<(usize, Answer)>) -> anyhow::Result<()> {
        if self.ends.len() == 1 {
            return self.take(0, answers);
        }
        let streams = self.ends.iter().map(|(writer, _)| writer.stream);
        let mut polled: Vec<_> =
            streams.map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut polled, PollTimeout::NONE)?;
        for (lane, polled) in polled.iter().enumerate() {
            if polled.any() == Some(true) {
                self.take(lane, answers)?;
            }
        }
        Ok(())
    }
}
