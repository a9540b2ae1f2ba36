//! Measuring what is about as short as reading a clock.

use std::time::{Duration, Instant};

use anyhow::ensure;
use nearcall_bench::measure::{Latencies, Span, Turn};
use nearcall_bench::order::Order;

/// Operations between two readings of the clock.
const BATCH: u32 = 64;

/// Repeats `operation` for as long as `span` says. One latency is noted for each [`BATCH`] of
/// operations: their mean.
///
/// # Errors
/// The first of `operation`.
pub(crate) fn in_batches(
    span: Span,
    mut operation: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Turn> {
    let mut run = |seconds, note: &mut dyn FnMut(Duration)| {
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        loop {
            let begun = Instant::now();
            for _ in 0..BATCH {
                operation()?;
            }
            let ended = Instant::now();
            note(mean(ended - begun));
            if ended >= end {
                return anyhow::Ok(ended - start);
            }
        }
    };
    run(span.warm_up, &mut |_| ())?;
    let mut latencies = Latencies::new()?;
    let time = run(span.measured, &mut |latency| latencies.record(latency))?;
    Ok(Turn { latencies, seconds: time.as_secs_f64(), cpu_seconds: None })
}

/// To the nearest nanosecond: the latencies have no smaller ones.
fn mean(batch: Duration) -> Duration {
    (batch + Duration::from_nanos(u64::from(BATCH) / 2)) / BATCH
}

/// Refuses an order that this kind of system cannot carry out.
///
/// # Errors
/// It asks for another way to call than one call after another.
pub(crate) fn one_after_another(order: &Order) -> anyhow::Result<()> {
    ensure!(order.pipelined.is_none(), "it cannot have several calls on their way at once");
    ensure!(order.pace.is_none(), "it makes one call after another, not one each period");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_one_latency_and_the_first_error_ends_it_all() {
        let mut operations = 0_u64;
        let span = Span { warm_up: 0.0, measured: 0.001 };
        let turn = in_batches(span, || {
            operations += 1;
            Ok(())
        });
        let warm_up = 1;
        let batches = turn.unwrap().latencies.count() + warm_up;
        assert_eq!(operations, batches * u64::from(BATCH));

        let mut left = 1_000;
        let error = in_batches(Span { warm_up: 0.0, measured: 1e6 }, || {
            left -= 1;
            ensure!(left > 0, "the thousandth");
            Ok(())
        });
        assert_eq!(error.unwrap_err().to_string(), "the thousandth");
    }

    #[test]
    fn a_mean_is_rounded_to_the_nearest_nanosecond() {
        let mean_of = |ns| mean(Duration::from_nanos(ns)).as_nanos();
        assert_eq!((mean_of(64 * 7 + 31), mean_of(64 * 7 + 32)), (7, 8));
    }
}
