//! The job on nearcall: host threads that submit and poll.

use std::iter;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nearcall::Engine;
use nearcall::error::SubmitError;

use super::tasks::DemoTask;
use super::{Polling, Round};
use crate::bar::Bar;
use crate::stop::Stop;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(20);

/// An engine and who works on it.
pub(crate) struct Crew<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) threads: usize,
    pub(crate) stop: &'a Stop,
}

/// What one thread brings back.
struct Share {
    answers: Vec<Option<i64>>,
    latencies_ns: Vec<u64>,
    start: Instant,
    end: Instant,
    /// The first thing that went wrong.
    failure: Option<anyhow::Error>,
}

impl Crew<'_> {
    /// All tasks once, each thread a part of them, one task at a time.
    pub(crate) fn round(
        &self,
        tasks: &[DemoTask],
        polling: Polling,
        bar: &Bar,
    ) -> anyhow::Result<Round> {
        let barrier = Barrier::new(self.threads);
        let done = AtomicU64::new(0);
        let shares = thread::scope(|scope| {
            let threads: Vec<_> = parts(tasks.len(), self.threads)
                .map(|part| {
                    let (barrier, done) = (&barrier, &done);
                    scope.spawn(move || self.share(&tasks[part], polling, barrier, done))
                })
                .collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                thread::sleep(TICK);
                bar.set(done.load(Ordering::Relaxed));
            }
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the demo panicked")))
                .collect::<anyhow::Result<Vec<_>>>()
        })?;

        let start = shares.iter().map(|share| share.start).min().context("no threads")?;
        let end = shares.iter().map(|share| share.end).max().context("no threads")?;
        let mut round = Round {
            seconds: (end - start).as_secs_f64(),
            answers: Vec::with_capacity(tasks.len()),
            latencies_ns: Vec::with_capacity(tasks.len()),
        };
        for share in shares {
            round.answers.extend(share.answers);
            round.latencies_ns.extend(share.latencies_ns);
            if let Some(failure) = share.failure
                && !self.stop.asked()
            {
                return Err(failure);
            }
        }
        Ok(round)
    }

    fn share(
        &self,
        tasks: &[DemoTask],
        polling: Polling,
        barrier: &Barrier,
        done: &AtomicU64,
    ) -> Share {
        let mut answers = vec![None; tasks.len()];
        let mut latencies_ns = vec![0; tasks.len()];
        let mut failure = None;
        barrier.wait();
        let start = Instant::now();
        for ((task, answer), latency_ns) in
            iter::zip(iter::zip(tasks, &mut answers), &mut latencies_ns)
        {
            let submitted = Instant::now();
            match self.one(task, polling) {
                Ok(value) => *answer = Some(value),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            *latency_ns = u64::try_from(submitted.elapsed().as_nanos()).unwrap_or(u64::MAX);
            done.fetch_add(1, Ordering::Relaxed);
        }
        Share { answers, latencies_ns, start, end: Instant::now(), failure }
    }

    /// One task from submit to answer.
    fn one(&self, task: &DemoTask, polling: Polling) -> anyhow::Result<i64> {
        let task = task.to_task();
        let ticket = self.poll(polling, || match self.engine.submit(&task) {
            Err(SubmitError::Full { .. }) => Ok(None),
            other => Ok(Some(other?)),
        })?;
        let answer = self.poll(polling, || Ok(self.engine.retrieve(&ticket)?))?;
        Ok(answer.int(0)?)
    }

    /// Looks again and again until there is something.
    fn poll<T>(
        &self,
        polling: Polling,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut looks = 0;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if looks < polling.yields {
                looks += 1;
                thread::yield_now();
            } else if self.stop.asked() {
                return Err(anyhow!("interrupted"));
            } else {
                thread::sleep(polling.pause);
            }
        }
    }
}

/// `total` things in `count` parts of nearly the same size.
fn parts(total: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |index| total * index / count..total * (index + 1) / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        for (total, count) in [(1000, 16), (3, 16), (16, 16), (7, 1)] {
            let all: Vec<_> = parts(total, count).flatten().collect();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
    }
}
