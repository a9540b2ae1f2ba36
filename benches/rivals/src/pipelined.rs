//! Many calls on their way at once, all from one thread.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nearcall_bench::measure::{Latencies, Span, Turn};

use crate::task::{Answer, Task};

/// The ways to some workers.
pub(crate) trait Lanes {
    /// How many there are.
    fn count(&self) -> usize;

    /// Makes a call on one of them. It may stay here until [`flush`](Self::flush).
    ///
    /// # Errors
    /// When the worker is gone.
    fn send(&mut self, lane: usize, call: u64) -> anyhow::Result<()>;

    /// Sends what stayed here.
    ///
    /// # Errors
    /// When a worker is gone.
    fn flush(&mut self) -> anyhow::Result<()>;

    /// Waits for an answer from any, and takes all that are there, each with its lane.
    ///
    /// # Errors
    /// When a worker is gone.
    fn receive(&mut self, answers: &mut Vec<(usize, Answer)>) -> anyhow::Result<()>;
}

/// Keeps `depth` calls on their way for as long as `span` says. A latency is the time from
/// [`Lanes::send`] to the answer.
///
/// # Errors
/// The first wrong answer.
pub(crate) fn pipelined(
    lanes: &mut impl Lanes,
    depth: usize,
    task: Task,
    span: Span,
    cpu: impl Fn() -> Option<f64>,
) -> anyhow::Result<Turn> {
    let mut flow = Flow { task, sent: 0, begun: vec![None; depth.next_power_of_two()] };
    flow.run(lanes, depth, span.warm_up, |_| ())?;
    let mut latencies = Latencies::new()?;
    let cpu_before = cpu();
    let spent = flow.run(lanes, depth, span.measured, |latency| latencies.record(latency))?;
    Ok(Turn {
        latencies,
        seconds: spent.as_secs_f64(),
        cpu_seconds: cpu_before.zip(cpu()).map(|(before, after)| after - before),
    })
}

struct Flow {
    task: Task,
    /// The number of the next call.
    sent: u64,
    /// When the call with this number (modulo the length) was sent, while it is on its way. Each
    /// lane answers in order, but they do not keep pace with each other: see `send`.
    begun: Vec<Option<(u64, Instant)>>,
}

impl Flow {
    fn slot(&self, call: u64) -> usize {
        (call as usize) & (self.begun.len() - 1)
    }

    fn send(&mut self, lanes: &mut impl Lanes, lane: usize) -> anyhow::Result<()> {
        // A number whose place is taken by a slow call is left out.
        while self.begun[self.slot(self.sent)].is_some() {
            self.sent += 1;
        }
        let slot = self.slot(self.sent);
        self.begun[slot] = Some((self.sent, Instant::now()));
        lanes.send(lane, self.sent)?;
        self.sent += 1;
        Ok(())
    }

    /// Returns the time from the first call to the last answer.
    fn run(
        &mut self,
        lanes: &mut impl Lanes,
        depth: usize,
        seconds: f64,
        mut note: impl FnMut(Duration),
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        for lane in (0..lanes.count()).cycle().take(depth) {
            self.send(lanes, lane)?;
        }
        lanes.flush()?;
        let mut underway = depth;
        let mut answers = Vec::with_capacity(depth);
        while underway > 0 {
            lanes.receive(&mut answers)?;
            let now = Instant::now();
            for (lane, answer) in answers.drain(..) {
                let slot = self.slot(answer.call);
                let begun = self.begun[slot].take().context("an answer to no call")?;
                if begun.0 != answer.call {
                    bail!("the answer to call {} came for call {}", answer.call, begun.0);
                }
                self.task.check(answer)?;
                note(now - begun.1);
                if now < end {
                    self.send(lanes, lane)?;
                } else {
                    underway -= 1;
                }
            }
            lanes.flush()?;
        }
        Ok(start.elapsed())
    }
}
