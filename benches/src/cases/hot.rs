//! One call after another by one thread, beside the same Python function called in-process, and
//! what the engine adds to it: the overhead.
//!
//! A virtual machine's CPUs are moved by its host within seconds: between two threads of one core
//! and two cores, a cache line's way differs by a factor of five, and with it the overhead. So
//! both are measured in close succession, between two looks at how long a cache line takes, and
//! their difference is taken within the turn. When the two looks differ, the CPUs were moved
//! meanwhile, and it is all measured again.

use super::garbage;
use super::group::{Group, Taken};
use super::systems::{Asked, Calls, IN_PROCESS, POLICIES, WORKLOADS, engine_row, engine_turn};
use crate::engine::Subject;
use crate::ground::{Ground, Program};
use crate::measure::Span;
use crate::rows::{Figures, Row};
use crate::workload::Workload;

const CASE: &str = "hot";

/// What is measured, in the order of its rows.
pub(super) fn plan(quick: bool) -> Vec<Group> {
    let seconds = if quick { 0.3 } else { 0.5 };
    let mut groups: Vec<Group> = WORKLOADS.map(|workload| group(workload, seconds)).into();
    if !quick {
        groups.extend(garbage::plan());
    }
    groups
}

const REPEATS: usize = 5;

/// Turns that are thrown away at most, because the CPUs were moved in the middle.
const AGAIN: usize = 2;

/// A look at the cache line.
const LOOK: Span = Span { warm_up: 0.01, measured: 0.05 };

/// Calls that sleep twice each need less time to tell what they are.
const PARK_SECONDS: f64 = 0.2;

fn group(workload: Workload, seconds: f64) -> Group {
    let row = |policy| {
        let subject = Subject { policy, ..Subject::new(workload) };
        engine_row(CASE, subject, Calls::By(1))
    };
    let overhead = |policy| Row { system: "overhead".to_owned(), ..row(policy) };
    let rows = POLICIES.map(row).into_iter();
    let rows = rows.chain([Asked::in_process(IN_PROCESS, workload, 1).row(CASE)]);
    let rows = rows.chain(POLICIES.map(overhead)).collect();
    Group::new(rows, REPEATS, Some(Program::Yardstick), move |ground, _| {
        let mut again = 0;
        loop {
            let (block, moved) = Block::measure(ground, workload, seconds)?;
            if !moved || again == AGAIN {
                return Ok(block.rows());
            }
            again += 1;
        }
    })
}

/// What is measured in close succession.
struct Block {
    /// As [`POLICIES`].
    nearcall: [Option<Taken>; 3],
    in_process: Option<Taken>,
    cache_line_ns: Option<f64>,
}

impl Block {
    /// Also says whether the CPUs were moved in the middle.
    fn measure(
        ground: &mut Ground,
        workload: Workload,
        seconds: f64,
    ) -> anyhow::Result<(Self, bool)> {
        let span = |measured| Span { warm_up: 0.05, measured };
        let [adaptive, spin, park] =
            POLICIES.map(|policy| Subject { policy, ..Subject::new(workload) });
        let engine = |ground: &mut Ground, subject, seconds| {
            let turn = engine_turn(ground, subject, Calls::By(1), span(seconds))?;
            anyhow::Ok(turn.map(Taken::of))
        };
        let before = cache_line(ground)?;
        let adaptive = engine(ground, adaptive, seconds)?;
        let asked = Asked::in_process(IN_PROCESS, workload, 1);
        let in_process = asked.turn(ground, Program::Yardstick, span(seconds))?;
        let spin = engine(ground, spin, seconds)?;
        let after = cache_line(ground)?;
        let park = engine(ground, park, PARK_SECONDS)?;
        let looks = before.zip(after);
        let block = Self {
            nearcall: [adaptive, spin, park],
            in_process: in_process.map(Taken::of),
            cache_line_ns: looks.map(|(before, after)| (before + after) / 2.0),
        };
        Ok((block, looks.is_some_and(|(before, after)| moved(before, after))))
    }

    /// For each row, what the block has of it.
    fn rows(self) -> Vec<Option<Taken>> {
        let Self { nearcall, in_process, cache_line_ns } = self;
        let overheads = nearcall.each_ref().map(|nearcall| {
            let (nearcall, in_process) = nearcall.as_ref().zip(in_process.as_ref())?;
            Some(overhead(nearcall.figures, in_process.figures, cache_line_ns).into())
        });
        let mut rows: Vec<_> = nearcall.into_iter().chain([in_process]).chain(overheads).collect();
        for row in rows.iter_mut().flatten() {
            row.figures.cache_line_ns = cache_line_ns;
        }
        rows
    }
}

fn cache_line(ground: &mut Ground) -> anyhow::Result<Option<f64>> {
    let turn = Asked::limit("cache-line").turn(ground, Program::Yardstick, LOOK)?;
    Ok(turn.and_then(|turn| Figures::of(&turn).p50_ns))
}

/// Whether two looks at the cache line say that the CPUs were moved in between.
fn moved(before: f64, after: f64) -> bool {
    before.max(after) > 1.5 * before.min(after)
}

/// What the engine adds to a call, and how that stands to what is aimed at.
fn overhead(nearcall: Figures, in_process: Figures, cache_line_ns: Option<f64>) -> Figures {
    let less = |of: fn(&Figures) -> Option<f64>| Some(of(&nearcall)? - of(&in_process)?);
    let p50_ns = less(|figures| figures.p50_ns);
    let of_limit = |p50| Some(p50 / limit(cache_line_ns?));
    Figures {
        p50_ns,
        p99_ns: less(|figures| figures.p99_ns),
        of_limit: p50_ns.and_then(of_limit),
        ..Figures::default()
    }
}

/// The most that the overhead may be: 220 ns, or two round trips of a cache line.
fn limit(cache_line_ns: f64) -> f64 {
    f64::max(220.0, 2.0 * cache_line_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p50: f64, p99: f64) -> Figures {
        Figures { p50_ns: Some(p50), p99_ns: Some(p99), ..Figures::default() }
    }

    #[test]
    fn the_overhead_is_the_difference_within_a_turn_and_its_limit_grows_with_the_cache_line() {
        let near = overhead(figures(400.0, 900.0), figures(180.0, 250.0), Some(55.0));
        assert_eq!(
            (near.p50_ns, near.p99_ns, near.of_limit),
            (Some(220.0), Some(650.0), Some(1.0))
        );
        let far = overhead(figures(780.0, 1_500.0), figures(180.0, 250.0), Some(300.0));
        assert_eq!((far.p50_ns, far.of_limit), (Some(600.0), Some(1.0)));
        let unknown = overhead(figures(400.0, 900.0), figures(180.0, 250.0), None);
        assert_eq!((unknown.p50_ns, unknown.of_limit), (Some(220.0), None));
    }

    #[test]
    fn a_block_brings_all_rows_of_its_group_and_each_tells_of_the_cache_line() {
        let taken = |p50| Some(Taken::from(figures(p50, 2.0 * p50)));
        let block = Block {
            nearcall: [taken(500.0), None, taken(60_000.0)],
            in_process: taken(180.0),
            cache_line_ns: Some(300.0),
        };
        let rows = block.rows();
        assert_eq!(rows.len(), group(Workload::Noop, 0.1).rows.len());
        let p50s: Vec<_> = rows.iter().map(|row| row.as_ref()?.figures.p50_ns).collect();
        let expected = [500.0, 0.0, 60_000.0, 180.0, 320.0, 0.0, 59_820.0];
        assert_eq!(p50s, expected.map(|p50| (p50 > 0.0).then_some(p50)));
        let lines = rows.iter().flatten().map(|row| row.figures.cache_line_ns);
        assert!(lines.into_iter().all(|line| line == Some(300.0)));
    }

    #[test]
    fn cpus_that_were_moved_are_noticed() {
        assert!(moved(55.0, 300.0) && moved(490.0, 300.0) && !moved(290.0, 310.0));
    }
}
