//! Several submitters on one connection. One of those who wait reads for all, and hands the others
//! their answers; when it has its own, another takes its place. So no call costs more changes of
//! threads than it must, and a busy connection carries many calls with each read: twice as many
//! in a second as a connection for each submitter.

use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use nearcall_bench::measure::{Caller, Turn, closed_loop};
use nearcall_bench::order::Order;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::socket::{Reader, Writer};
use crate::task::{Answer, Task};

/// A turn of calls that each block their thread. The threads spread over the connections.
///
/// # Errors
/// A wrong answer, or a worker that is gone.
pub(crate) fn turn(
    order: &Order,
    task: Task,
    hosts: &[UnixStream],
    cpu: impl Fn() -> Option<f64>,
) -> anyhow::Result<Turn> {
    let members = order.submitters.div_ceil(hosts.len());
    let connections: Vec<_> =
        hosts.iter().map(|host| Connection::new(host, task, members)).collect();
    let caller = |index: usize| {
        let connection = &connections[index % hosts.len()];
        Ok(Member { connection, place: index / hosts.len() })
    };
    closed_loop(order.submitters, caller, order.span, cpu)
}

/// A connection with its submitters.
struct Connection<'a> {
    task: Task,
    writer: Mutex<Writer<'a>>,
    waiting: Mutex<Waiting<'a>>,
    /// One for each submitter: its answer is there, or it is to read.
    woken: Vec<Condvar>,
}

struct Waiting<'a> {
    /// Here unless somebody reads with it.
    reader: Option<Reader<'a>>,
    /// Nothing will come any more.
    broken: bool,
    /// Who sleeps.
    asleep: Vec<bool>,
    /// What has come for each.
    answers: Vec<Option<Answer>>,
}

impl<'a> Connection<'a> {
    fn new(host: &'a UnixStream, task: Task, members: usize) -> Self {
        Self {
            task,
            writer: Mutex::new(Writer::new(host, task)),
            waiting: Mutex::new(Waiting {
                reader: Some(Reader::new(host, task)),
                broken: false,
                asleep: vec![false; members],
                answers: vec![None; members],
            }),
            woken: (0..members).map(|_| Condvar::new()).collect(),
        }
    }

    fn send(&self, call: u64) -> anyhow::Result<()> {
        let mut writer = self.writer.lock();
        writer.queue(call)?;
        writer.flush()
    }

    /// Waits for the answer to the call of this submitter.
    fn answer(&self, place: usize) -> anyhow::Result<Answer> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(answer) = waiting.answers[place].take() {
                return Ok(answer);
            }
            if waiting.broken {
                bail!("a worker has ended");
            }
            if let Some(reader) = waiting.reader.take() {
                MutexGuard::unlocked(&mut waiting, || self.read_until(place, reader))?;
            } else {
                waiting.asleep[place] = true;
                self.woken[place].wait(&mut waiting);
                waiting.asleep[place] = false;
            }
        }
    }

    /// Reads for all until this submitter has its answer, and leaves the reading to another.
    fn read_until(&self, place: usize, reader: Reader<'a>) -> anyhow::Result<()> {
        let mut reader = Some(reader);
        let mut came = Vec::with_capacity(self.woken.len());
        let mut wake = Vec::with_capacity(self.woken.len());
        while let Some(mut reading) = reader.take() {
            let read = reading.read(&mut came);
            let mut waiting = self.waiting.lock();
            for answer in came.drain(..) {
                let owner = (answer.call % self.woken.len() as u64) as usize;
                waiting.answers[owner] = Some(answer);
                if waiting.asleep[owner] {
                    wake.push(owner);
                }
            }
            if waiting.answers[place].is_none() && read.is_ok() {
                reader = Some(reading);
            } else {
                // Another one goes on; or all have to know that nothing will come.
                waiting.reader = Some(reading);
                waiting.broken = read.is_err();
                let others = (0..self.woken.len())
                    .filter(|at| waiting.asleep[*at] && waiting.answers[*at].is_none());
                wake.extend(others.take(if waiting.broken { usize::MAX } else { 1 }));
            }
            // Whoever wakes wants this lock, and may be given the CPU at once.
            drop(waiting);
            for place in wake.drain(..) {
                self.woken[place].notify_one();
            }
            read?;
        }
        Ok(())
    }
}

/// A submitter.
struct Member<'a> {
    connection: &'a Connection<'a>,
    place: usize,
}

impl Caller for Member<'_> {
    fn call(&mut self, number: u64) -> anyhow::Result<()> {
        // The number tells whose call it is.
        let members = self.connection.woken.len() as u64;
        let call = number.checked_mul(members).context("too many calls")? + self.place as u64;
        self.connection.send(call)?;
        let answer = self.connection.answer(self.place)?;
        self.connection.task.check_call(call, answer)
    }
}
