//! What one turn of a measurement brings: a histogram of latencies, and how long it all took.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant digits of the latencies.
const DIGITS: u8 = 3;

/// Calls between two looks at whether the time is up.
const CALLS_PER_LOOK: u64 = 16;

/// Latencies in nanoseconds. Grows to what it is given; nothing is cut off.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// No latencies yet.
    ///
    /// # Errors
    /// Never for three digits.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new(DIGITS)?))
    }

    /// Notes one latency.
    #[inline]
    pub fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // Fails only for what does not fit a histogram that grows: nothing.
        let _ = self.0.record(ns);
    }

    /// Takes in those of another thread.
    ///
    /// # Errors
    /// Never for histograms that grow.
    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency below which a share (0 to 1) of all lies, in nanoseconds.
    pub fn at(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// The largest, in nanoseconds.
    pub fn max(&self) -> u64 {
        self.0.max()
    }
}

/// As pairs of value and count.
impl Serialize for Latencies {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.0.iter_recorded();
        serializer.collect_seq(pairs.map(|at| (at.value_iterated_to(), at.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let pairs = Vec::<(u64, u64)>::deserialize(deserializer)?;
        let mut latencies = Self::new().map_err(D::Error::custom)?;
        for (value, count) in pairs {
            latencies.0.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(latencies)
    }
}

/// One turn of one system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// The latency of each call.
    pub latencies: Latencies,
    /// From the first call's begin to the last one's end.
    pub seconds: f64,
    /// CPU time of all processes concerned during these seconds, where it can be told.
    pub cpu_seconds: Option<f64>,
}

/// Something that can be called again and again by one thread, and checks every answer.
pub trait Caller {
    /// Makes the call with this number and checks its answer.
    ///
    /// # Errors
    /// A wrong answer, or none.
    fn call(&mut self, number: u64) -> anyhow::Result<()>;
}

impl<F: FnMut(u64) -> anyhow::Result<()>> Caller for F {
    fn call(&mut self, number: u64) -> anyhow::Result<()> {
        self(number)
    }
}

/// For how long to call, in seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Span {
    /// Calls that are not counted.
    pub warm_up: f64,
    /// Calls that are.
    pub measured: f64,
}

/// Closed loop: each caller, on a thread of its own, makes one call after another for as long as
/// `span` says. `callers` makes the thread's caller, on that thread. `cpu` tells the CPU time used
/// so far by all processes concerned.
///
/// # Errors
/// The first wrong answer.
pub fn closed_loop<C: Caller>(
    threads: usize,
    callers: impl Fn(usize) -> anyhow::Result<C> + Sync,
    span: Span,
    cpu: impl Fn() -> Option<f64>,
) -> anyhow::Result<Turn> {
    let warm = Barrier::new(threads + 1);
    let begin = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|index| {
                let (warm, begin, callers) = (&warm, &begin, &callers);
                scope.spawn(move || {
                    let mut numbers = index as u64..;
                    let made = callers(index).and_then(|mut caller| {
                        run(&mut caller, &mut numbers, span.warm_up, |_| ())?;
                        Ok(caller)
                    });
                    // Both barriers are passed whatever happened: nobody waits for ever.
                    warm.wait();
                    begin.wait();
                    let mut latencies = Latencies::new()?;
                    let times =
                        run(&mut made?, &mut numbers, span.measured, |l| latencies.record(l))?;
                    anyhow::Ok((latencies, times))
                })
            })
            .collect();
        warm.wait();
        let cpu_before = cpu();
        begin.wait();
        let shares: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the benchmark panicked")))
            .collect();
        let cpu_after = cpu();
        let mut latencies = Latencies::new()?;
        let mut times: Option<(Instant, Instant)> = None;
        for share in shares {
            let (mine, (start, end)) = share??;
            latencies.add(&mine)?;
            times = Some(times.map_or((start, end), |(s, e)| (s.min(start), e.max(end))));
        }
        let (start, end) = times.context("no threads")?;
        Ok(Turn {
            latencies,
            seconds: (end - start).as_secs_f64(),
            cpu_seconds: cpu_before.zip(cpu_after).map(|(before, after)| after - before),
        })
    })
}

fn run(
    caller: &mut impl Caller,
    numbers: &mut impl Iterator<Item = u64>,
    seconds: f64,
    mut note: impl FnMut(Duration),
) -> anyhow::Result<(Instant, Instant)> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    loop {
        let mut last = start;
        for _ in 0..CALLS_PER_LOOK {
            let number = numbers.next().context("the numbers have ended")?;
            let begun = Instant::now();
            caller.call(number)?;
            last = Instant::now();
            note(last - begun);
            // What takes long is not done sixteen times too often.
            if last >= end {
                break;
            }
        }
        if last >= end {
            return Ok((start, last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_pipe_between_two_processes() {
        let mut latencies = Latencies::new().unwrap();
        for ns in [1, 180, 180, 1_120, 3_000_000_000] {
            latencies.record(Duration::from_nanos(ns));
        }
        let json = serde_json::to_string(&latencies).unwrap();
        let back: Latencies = serde_json::from_str(&json).unwrap();
        assert_eq!(back.0, latencies.0);
        assert_eq!((back.count(), back.at(0.5)), (5, 180));
    }

    #[test]
    fn a_wrong_answer_fails_the_turn_whichever_thread_gets_it() {
        let callers = |index: usize| {
            Ok(
                move |number: u64| {
                    if index == 2 && number > 100 { Err(anyhow!("a wrong answer")) } else { Ok(()) }
                },
            )
        };
        let span = Span { warm_up: 0.0, measured: 0.01 };
        let error = closed_loop(4, callers, span, || None).unwrap_err();
        assert_eq!(error.to_string(), "a wrong answer");
    }

    #[test]
    fn every_call_of_every_thread_is_counted() {
        let calls = std::sync::atomic::AtomicU64::new(0);
        let callers = |_| {
            Ok(|_| {
                calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            })
        };
        let span = Span { warm_up: 0.0, measured: 0.002 };
        let turn = closed_loop(3, callers, span, || Some(1.0)).unwrap();
        let warm_up = 3 * CALLS_PER_LOOK; // at most: a warm-up of no time makes some calls
        let all = calls.into_inner();
        assert!(all - turn.latencies.count() <= warm_up && turn.latencies.count() > 0, "{all}");
        assert_eq!(turn.cpu_seconds, Some(0.0));
    }
}
