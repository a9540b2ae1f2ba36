//! Arrays of float32: what a call costs when the array is larger, what it costs the model to work in
//! shared memory, and what it costs to get an array back.
//!
//! - `first`: the model returns `x[0]`, which the host has changed before. Time begins before the
//!   array is reserved, or the task submitted, and ends when the answer is there. Nobody sleeps: a
//!   wake-up would take more than all that may differ from size to size.
//! - `sum`: the whole call, beside the sum alone. That is taken in the same worker process, over
//!   private copies of the array: the model times it with Python's `time.perf_counter`, in turns with
//!   the calls. So it is the same numpy, the same CPU and the same minute, and no call is in it. One
//!   copy is where numpy puts its arrays, in huge pages if there are any, the other in small ones: so
//!   it can be told what is the pages' and what the engine's. The array in place stands in either, too.
//! - `scaled`: an array comes back. `overhead` is the call less the model's own computing, which it
//!   times as above; beside it, how long this process takes to copy as many bytes in its own memory.

use anyhow::Context;
use nearcall::{Value, WaitPolicy};

use super::group::{Group, Taken};
use crate::measure::{Latencies, Turn};
use crate::rows::Row;
use crate::tensors::{First, Memcpy, Pages, Private, Scaled, Sum, Way, array};

const CASE: &str = "tensors";

const REPEATS: usize = 5;

const SIZES: [usize; 4] = [1 << 10, 64 << 10, 1 << 20, LARGE];

const LARGE: usize = Scaled::BYTES;

/// How an array is sent.
const IN_PLACE: &str = "in place";
/// As [`IN_PLACE`].
const COPIED: &str = "copied";

/// What an array in place stands in.
const PAGES: [(&str, Pages); 2] = [(IN_PLACE, Pages::Small), ("in place, huge pages", Pages::Huge)];

/// What the sum is held against.
const PRIVATE: [(&str, Private); 2] =
    [("memory as numpy takes it", Private::AsNumpy), ("small pages", Private::SmallPages)];

/// How an array comes back.
const WAYS: [(&str, Pages, Way); 5] = [
    ("in place, answer reused", Pages::Small, Way { in_place: true, reused: true }),
    ("in place, fresh answer", Pages::Small, Way { in_place: true, reused: false }),
    ("in place, huge pages, answer reused", Pages::Huge, Way { in_place: true, reused: true }),
    ("copied, answer reused", Pages::Small, Way { in_place: false, reused: true }),
    ("copied, fresh answer", Pages::Small, Way { in_place: false, reused: false }),
];

/// Where bytes are copied to.
const MEMORIES: [&str; 2] = ["warm memory", "fresh memory"];

pub(super) fn plan(quick: bool) -> Vec<Group> {
    let rounds = if quick { 6 } else { 30 };
    vec![first(rounds), sum(3 * rounds), scaled(rounds)]
}

fn row(system: &str, workload: Option<&str>, bytes: usize, variant: &str) -> Row {
    Row {
        case: CASE.to_owned(),
        system: system.to_owned(),
        workload: workload.map(str::to_owned),
        payload_bytes: Some(bytes),
        variant: Some(variant.to_owned()),
        ..Row::default()
    }
}

fn engine_row(workload: &str, policy: WaitPolicy, bytes: usize, variant: &str) -> Row {
    Row {
        policy: Some(policy.name().to_owned()),
        submitters: Some(1),
        workers: Some(1),
        slots: Some(64),
        ..row("nearcall", Some(workload), bytes, variant)
    }
}

fn many(count: usize) -> anyhow::Result<Vec<Latencies>> {
    (0..count).map(|_| Latencies::new()).collect()
}

/// Calls in turns have no rate.
fn taken(latencies: Latencies) -> Taken {
    Taken::of(Turn { latencies, seconds: 0.0, cpu_seconds: None })
}

/// As [`taken`], where all of a large array is read or copied.
fn speed(latencies: Latencies) -> Taken {
    let mut taken = taken(latencies);
    let speed = |p50_ns| LARGE as f64 / (p50_ns * 1e-9);
    taken.figures.bytes_per_second = taken.figures.p50_ns.map(speed).filter(|s| s.is_finite());
    taken
}

fn first(rounds: usize) -> Group {
    /// In a row, so that most find the caches as a call like them has left them.
    const CALLS: usize = 20;
    const POLICY: WaitPolicy = WaitPolicy::Spin;
    let of = |variant| SIZES.map(|bytes| engine_row("first", POLICY, bytes, variant));
    let rows = [of(IN_PLACE), of(COPIED)].concat();
    Group::new(rows, REPEATS, None, move |ground, _| {
        let Some(home) = ground.with_numpy()? else { return Ok(vec![None; 2 * SIZES.len()]) };
        let mut model = First::start(&home, POLICY)?;
        let (mut in_place, mut copied) = (many(SIZES.len())?, many(SIZES.len())?);
        // Two of each size in turns, so that an answer is never that of the call before.
        let numbers = [1.0, 2.0];
        let pair = |bytes| Ok([array(bytes, numbers[0])?, array(bytes, numbers[1])?]);
        let arrays: Vec<[Value; 2]> = SIZES.into_iter().map(pair).collect::<anyhow::Result<_>>()?;
        // The first of a size finds fresh pages.
        for bytes in SIZES {
            model.in_place(bytes)?;
        }
        for _ in 0..rounds {
            for (bytes, latencies) in SIZES.into_iter().zip(&mut in_place) {
                for _ in 0..CALLS {
                    latencies.record(model.in_place(bytes)?);
                }
            }
        }
        for _ in 0..rounds {
            for (arrays, latencies) in arrays.iter().zip(&mut copied) {
                for (array, number) in arrays.iter().zip(numbers) {
                    latencies.record(model.copied(array, number)?);
                }
            }
        }
        model.end()?;
        Ok(in_place.into_iter().chain(copied).map(|latencies| Some(taken(latencies))).collect())
    })
}

fn sum(rounds: usize) -> Group {
    const POLICIES: [WaitPolicy; 2] = [WaitPolicy::Adaptive, WaitPolicy::Spin];
    let engines = POLICIES.into_iter().flat_map(|policy| PAGES.map(|pages| (policy, pages)));
    let ours = |(policy, (variant, _))| engine_row("sum", policy, LARGE, variant);
    let alone = PRIVATE.map(|(variant, _)| row("in-process", Some("sum"), LARGE, variant));
    let rows: Vec<_> = engines.clone().map(ours).chain(alone).collect();
    let count = rows.len();
    Group::new(rows, REPEATS, None, move |ground, _| {
        let Some(home) = ground.with_numpy()? else { return Ok(vec![None; count]) };
        let (mut ours, mut alone) = (many(count - PRIVATE.len())?, many(PRIVATE.len())?);
        for ((policy, (_, pages)), ours) in engines.clone().zip(&mut ours) {
            let mut model = Sum::start(&home, LARGE, policy, pages)?;
            for _ in 0..rounds {
                ours.record(model.in_place()?);
                for ((_, copy), alone) in PRIVATE.into_iter().zip(&mut alone) {
                    alone.record(model.in_process(copy)?);
                }
            }
            model.end()?;
        }
        Ok(ours.into_iter().chain(alone).map(|latencies| Some(speed(latencies))).collect())
    })
}

fn scaled(rounds: usize) -> Group {
    const POLICY: WaitPolicy = WaitPolicy::Adaptive;
    let all = WAYS.map(|(variant, _, _)| engine_row("scaled", POLICY, LARGE, variant));
    let less = all.clone().map(|row| Row { system: "overhead".to_owned(), ..row });
    let mut rows = [all, less].concat();
    rows.extend(MEMORIES.map(|variant| row("memcpy", None, LARGE, variant)));
    let count = rows.len();
    Group::new(rows, REPEATS, None, move |ground, _| {
        let Some(home) = ground.with_numpy()? else { return Ok(vec![None; count]) };
        let start = |(_, pages)| Ok((pages, Scaled::start(&home, POLICY, pages)?));
        let mut models = PAGES.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
        let mut call = |pages: Pages, way, thorough| {
            let model = models.iter_mut().find(|(has, _)| *has == pages);
            model.context("no such engine")?.1.call(way, thorough)
        };
        let mut memcpy = Memcpy::new(LARGE);
        let (mut all, mut less) = (many(WAYS.len())?, many(WAYS.len())?);
        let (mut warm, mut fresh) = (Latencies::new()?, Latencies::new()?);
        for (_, pages, way) in WAYS {
            call(pages, way, true)?;
        }
        for _ in 0..rounds {
            for ((_, pages, way), (all, less)) in
                WAYS.into_iter().zip(all.iter_mut().zip(&mut less))
            {
                let took = call(pages, way, false)?;
                all.record(took.all);
                less.record(took.all.saturating_sub(took.model));
            }
            warm.record(memcpy.warm()?);
            fresh.record(memcpy.fresh()?);
        }
        models.into_iter().try_for_each(|(_, model)| model.end())?;
        let all = all.into_iter().map(taken);
        let copies = less.into_iter().chain([warm, fresh]).map(speed);
        Ok(all.chain(copies).map(Some).collect())
    })
}
