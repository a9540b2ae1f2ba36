//! What is aimed at, and whether it was reached: ratios within one run, medians of the repeats.

mod print;
#[cfg(test)]
mod tests;

pub use print::print;

use crate::report::units;
use crate::rows::{Figures, Row};

/// One thing that is aimed at, with what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is about.
    pub figure: String,
    /// What was measured.
    pub measured: String,
    /// What was aimed at.
    pub target: &'static str,
    /// Whether it was reached.
    pub met: bool,
}

/// All that can be told from these rows.
pub fn targets(rows: &[Row]) -> Vec<Target> {
    let rows = Rows(rows);
    let mut targets = Vec::new();
    targets.extend(["noop", "big_model"].map(|workload| rows.overhead_p50(workload)));
    targets.extend(["noop", "big_model"].map(|workload| rows.overhead_p99(workload)));
    targets.extend([rows.pipelined_noops(), rows.pipelined_big_model()]);
    targets.extend(RIVALS.map(|rival| rows.rival(rival)));
    targets.extend(rows.parked().into_iter().map(Some));
    targets.extend([rows.many_submitters(), rows.collapse(), rows.slots()]);
    for workload in ["noop", "big_model"] {
        targets.extend(AWAITED.map(|how| rows.awaited(workload, how)));
    }
    targets.extend([rows.any_size(), rows.sum_in_place()]);
    targets.extend(ANSWERS.map(|answer| rows.array_back(answer)));
    targets.extend(["adaptive", "park"].map(|policy| rows.idle(policy)));
    targets.into_iter().flatten().collect()
}

/// A rival, how many times faster than it to be, and how that is said.
type Rival = (&'static str, f64, &'static str);

/// One call at a time: a window of calls would only add their waiting for each other.
const RIVALS: [Rival; 3] = [
    ("multiprocessing.Pool", 100.0, "100 times faster"),
    ("unix socket + msgpack", 15.0, "15 times faster"),
    ("iceoryx2, spinning", 4.0, "4 times faster"),
];

/// How an array comes back. Each is held against a copy into warm memory: a fresh answer mostly gets the
/// pages that the allocator has kept of the last one.
const ANSWERS: [&str; 2] = ["in place, answer reused", "in place, fresh answer"];

/// How a call is awaited, and what it is held against.
const AWAITED: [[&str; 2]; 3] = [
    ["awaited, event loop", "blocking"],
    ["awaited, tokio", "blocking"],
    ["awaited, ready", "blocking, ready"],
];

const P50: Figure = |figures| figures.p50_ns;
const RATE: Figure = |figures| figures.per_second;
const SPEED: Figure = |figures| figures.bytes_per_second;

type Figure = fn(&Figures) -> Option<f64>;

struct Rows<'a>(&'a [Row]);

impl<'a> Rows<'a> {
    /// The first row of this case and system for which that holds.
    fn find(&self, case: &str, system: &str, that: impl Fn(&Row) -> bool) -> Option<&'a Row> {
        self.0.iter().find(|row| row.case == case && row.system == system && that(row))
    }

    fn overhead_p50(&self, workload: &str) -> Option<Target> {
        let row = self.find("hot", "overhead", |row| calls(row, workload) && adaptive(row))?;
        let of_limit = row.figures.of_limit?;
        let mut measured = format!("{} of the limit", units::ratio(of_limit));
        if let Some((p50, line)) = row.figures.p50_ns.zip(row.figures.cache_line_ns) {
            let (p50, line) = (units::time(p50), units::time(line));
            measured += &format!(" ({p50}; a round trip: {line})");
        }
        Some(Target {
            figure: format!("hot overhead, p50, {workload}"),
            measured,
            target: "220 ns, or two spinning cache-line round trips, whichever is larger",
            met: of_limit <= 1.0,
        })
    }

    fn overhead_p99(&self, workload: &str) -> Option<Target> {
        let row = self.find("hot", "overhead", |row| calls(row, workload) && adaptive(row))?;
        let p99 = row.figures.p99_ns?;
        Some(Target {
            figure: format!("hot overhead, p99, {workload}"),
            measured: units::time(p99),
            target: "1 µs",
            met: p99 <= 1_000.0,
        })
    }

    fn pipelined(&self, workload: &str) -> Option<&'a Row> {
        self.find("throughput", "nearcall", |row| {
            row.pipelined.is_some() && row.workers == Some(1) && calls(row, workload)
        })
    }

    fn pipelined_noops(&self) -> Option<Target> {
        let rate = self.pipelined("noop")?.figures.per_second?;
        Some(Target {
            figure: "one worker, pipelined, noop".to_owned(),
            measured: units::rate(rate),
            target: "3 million/s",
            met: rate >= 3e6,
        })
    }

    fn pipelined_big_model(&self) -> Option<Target> {
        let ours = self.pipelined("big_model")?;
        let theirs = self.find("throughput", "in-process", |row| calls(row, "big_model"))?;
        let share = ratio(ours, theirs, RATE)?;
        Some(Target {
            figure: "one worker, pipelined, big_model".to_owned(),
            measured: format!("{} ({})", units::percent(100.0 * share), rate_of(ours)),
            target: "95 % of what in-process calls reach on one core",
            met: share >= 0.95,
        })
    }

    fn rival(&self, (system, times, target): Rival) -> Option<Target> {
        let one = |row: &Row| {
            calls(row, "big_model") && row.submitters == Some(1) && row.pipelined.is_none()
        };
        let ours = self.find("rivals", "nearcall", one)?;
        let theirs = self.find("rivals", system, one)?;
        let faster = ratio(theirs, ours, P50)?;
        Some(Target {
            figure: format!("{system}, big_model, p50"),
            measured: format!("{} times faster", units::ratio(faster)),
            target,
            met: faster >= times,
        })
    }

    fn parked(&self) -> Vec<Target> {
        let ours = |row: &&Row| row.case == "parked" && row.system == "nearcall" && adaptive(row);
        let target = |ours: &Row| {
            let same =
                |row: &Row| (&row.workload, row.period_ms) == (&ours.workload, ours.period_ms);
            let theirs = self.find("parked", "futex + python", same)?;
            let times = ratio(ours, theirs, P50)?;
            let workload = ours.workload.as_deref().unwrap_or_default();
            Some(Target {
                figure: format!("parked, each {}, {workload}, p50", units::period(ours.period_ms?)),
                measured: format!("{} times", units::ratio(times)),
                target: "1.1 times the futex pair that makes the same Python call",
                met: times <= 1.1,
            })
        };
        self.0.iter().filter(ours).filter_map(target).collect()
    }

    /// Threads that block, two workers.
    fn blocking(&self, submitters: usize) -> Option<&'a Row> {
        self.find("throughput", "nearcall", |row| {
            calls(row, "big_model")
                && adaptive(row)
                && row.pipelined.is_none()
                && (row.submitters, row.workers) == (Some(submitters), Some(2))
        })
    }

    fn many_submitters(&self) -> Option<Target> {
        let ours = self.blocking(16)?;
        let kept = |row: &Row| calls(row, "big_model") && row.submitters == Some(16);
        let theirs = self.find("throughput", "in-process, thread state kept", kept)?;
        let times = ratio(ours, theirs, RATE)?;
        Some(Target {
            figure: "16 blocking submitters, 2 workers, big_model".to_owned(),
            measured: format!("{} times ({})", units::ratio(times), rate_of(ours)),
            target: "2 times what in-process calls reach from 16 threads",
            met: times >= 2.0,
        })
    }

    fn collapse(&self) -> Option<Target> {
        let ours = self.blocking(64)?;
        let share = ratio(ours, self.blocking(16)?, RATE)?;
        Some(Target {
            figure: "64 blocking submitters, 2 workers, big_model".to_owned(),
            measured: format!("{} ({})", units::percent(100.0 * share), rate_of(ours)),
            target: "no collapse: 70 % of what 16 reach",
            met: share >= 0.7,
        })
    }

    fn slots(&self) -> Option<Target> {
        let with = |slots| {
            self.find("growth", "nearcall", |row| calls(row, "noop") && row.slots == Some(slots))
        };
        let times = ratio(with(65_535)?, with(64)?, P50)?;
        Some(Target {
            figure: "65,535 slots instead of 64, noop, p50".to_owned(),
            measured: format!("{} times", units::ratio(times)),
            target: "1.1 times",
            met: times <= 1.1,
        })
    }

    /// What awaiting costs over blocking: the median over the repeats, each within its turn.
    fn awaited(&self, workload: &str, [how, beside]: [&str; 2]) -> Option<Target> {
        let row = |variant: &str| {
            let fits = |row: &Row| {
                row.workload.as_deref() == Some(workload) && row.variant.as_deref() == Some(variant)
            };
            self.find("awaited", "nearcall", fits)
        };
        let (ours, blocking) = (row(how)?, row(beside)?);
        let pairs = ours.repeats.iter().zip(&blocking.repeats);
        let more = pairs.filter_map(|(ours, beside)| Some(P50(ours)? - P50(beside)?)).collect();
        let more = median(more)?;
        let blocking = units::time(P50(&blocking.figures)?);
        let sign = if more < 0.0 { "-" } else { "" };
        Some(Target {
            figure: format!("{how}, {workload}, p50 over {beside}"),
            measured: format!("{sign}{} (over {blocking})", units::time(more.abs())),
            target: "2 µs",
            met: more <= 2_000.0,
        })
    }

    fn any_size(&self) -> Option<Target> {
        let in_place = |row: &&Row| {
            row.case == "tensors"
                && row.workload.as_deref() == Some("first")
                && row.variant.as_deref() == Some("in place")
        };
        let rows: Vec<&Row> = self.0.iter().filter(in_place).collect();
        let repeats = rows.iter().map(|row| row.repeats.len()).min()?;
        let times = |repeat: usize| {
            let p50 = |row: &&Row| row.repeats.get(repeat).and_then(P50);
            let p50s: Vec<f64> = rows.iter().filter_map(p50).collect();
            let smallest = p50s.iter().copied().min_by(f64::total_cmp)?;
            Some(p50s.iter().copied().max_by(f64::total_cmp)? / smallest)
        };
        let times = median((0..repeats).filter_map(times).collect())?;
        let p50s: Vec<String> =
            rows.iter().filter_map(|row| P50(&row.figures)).map(units::time).collect();
        Some(Target {
            figure: "array in place, 1 KiB to 16 MiB, x[0], p50".to_owned(),
            measured: format!("within {} times ({})", units::ratio(times), p50s.join(", ")),
            target: "constant within 1.5 times",
            met: times <= 1.5,
        })
    }

    fn sum_in_place(&self) -> Option<Target> {
        let has = |row: &Row, variant: &str| {
            row.workload.as_deref() == Some("sum") && row.variant.as_deref() == Some(variant)
        };
        let ours = |variant, is_adaptive| {
            let fits = |row: &Row| has(row, variant) && adaptive(row) == is_adaptive;
            self.find("tensors", "nearcall", fits)
        };
        let share = |ours: &Row, memory: &str| {
            ratio(ours, self.find("tensors", "in-process", |row| has(row, memory))?, SPEED)
        };
        // As numpy takes its own memory.
        let (huge, as_numpy) = ("in place, huge pages", "memory as numpy takes it");
        let (small, alone_small) = ("in place", "small pages");
        let judged = ours(huge, true)?;
        let told = |share: f64| units::percent(100.0 * share);
        let mut more: Vec<String> = SPEED(&judged.figures).map(units::speed).into_iter().collect();
        let mut tell = |what: &str, ours: Option<&Row>, memory| {
            let share = ours.and_then(|ours| share(ours, memory));
            more.extend(share.map(|share| format!("{what} {}", told(share))));
        };
        tell("spinning", ours(huge, false), as_numpy);
        tell("small pages", ours(small, true), as_numpy);
        tell("beside small ones", ours(small, true), alone_small);
        let share = share(judged, as_numpy)?;
        Some(Target {
            figure: "16 MiB summed by numpy, in place, huge pages".to_owned(),
            measured: format!("{} ({})", told(share), more.join("; ")),
            target: "95 % of the in-process speed",
            met: share >= 0.95,
        })
    }

    fn array_back(&self, variant: &str) -> Option<Target> {
        let has = |row: &Row, variant| row.variant.as_deref() == Some(variant);
        let ours = self.find("tensors", "overhead", |row| has(row, variant))?;
        let theirs = self.find("tensors", "memcpy", |row| has(row, "warm memory"))?;
        let times = ratio(ours, theirs, P50)?;
        let time = |row: &Row| P50(&row.figures).map(units::time).unwrap_or_default();
        Some(Target {
            figure: format!("16 MiB answer, {variant}, p50 less the model's own"),
            measured: format!("{} times ({})", units::ratio(times), time(ours)),
            target: "one memcpy of 16 MiB, within 1.25 times",
            met: times <= 1.25,
        })
    }

    fn idle(&self, policy: &str) -> Option<Target> {
        let idle = |row: &Row| {
            row.variant.as_deref() == Some("idle") && row.policy.as_deref() == Some(policy)
        };
        let percent = self.find("cost", "nearcall", idle)?.figures.cpu_percent?;
        Some(Target {
            figure: format!("idle engine, {policy}"),
            measured: units::percent(percent),
            target: "under 0.1 % of one CPU",
            met: percent < 0.1,
        })
    }
}

fn calls(row: &Row, workload: &str) -> bool {
    row.workload.as_deref() == Some(workload) && row.variant.is_none()
}

/// What a service gets unless it asks for another.
fn adaptive(row: &Row) -> bool {
    row.policy.as_deref() == Some("adaptive")
}

fn rate_of(row: &Row) -> String {
    row.figures.per_second.map(units::rate).unwrap_or_default()
}

/// How many times as much: the median over the repeats, each with its own neighbour.
fn ratio(of: &Row, beside: &Row, figure: Figure) -> Option<f64> {
    let one = |of: &Figures, beside: &Figures| Some(figure(of)? / figure(beside)?);
    let pairs = of.repeats.iter().zip(&beside.repeats);
    let median = median(pairs.filter_map(|(of, beside)| one(of, beside)).collect());
    median.or_else(|| one(&of.figures, &beside.figures)).filter(|ratio| ratio.is_finite())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
