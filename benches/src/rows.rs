//! `bench.json`: the machine, the commit, and a row for each thing that was measured.

use serde::{Deserialize, Serialize};

use crate::measure::{Latencies, Turn};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// The commit that was measured; `-dirty` behind it when files had been changed.
    pub commit: String,
    /// What was measured, in the order of the report.
    pub rows: Vec<Row>,
}

/// A machine, as far as it matters for latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// CPUs that the benchmark may use.
    pub cpus: usize,
    /// The kernel's version.
    pub kernel: String,
    /// Python's version.
    pub python: String,
    /// When the run began: seconds since 1970.
    pub unix_time: u64,
    /// Of the CPUs' time right before the run, in per cent: what others used. Above
    /// [`IDLE_PERCENT`](Self::IDLE_PERCENT), the machine was not idle.
    pub busy_percent: f64,
    /// Of the CPUs' time during the run, in per cent: what a hypervisor gave to others.
    pub steal_percent: f64,
}

impl Machine {
    /// What a machine uses that has nothing to do, at most.
    pub const IDLE_PERCENT: f64 = 10.0;
}

/// One thing that was measured. Percentiles and rates are medians over the repeats, `max_ns` is
/// the largest of all, `samples` counts all. What does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `hot`, `limits`, `awaited`, `parked`, `load`, `throughput`, `growth`, `tensors`, `cost` or `rivals`.
    pub case: String,
    /// `nearcall`, or what it is compared with; `overhead`: `nearcall` less `in-process`, or less what
    /// the model says that it took itself.
    pub system: String,
    /// The name of a [`Workload`](crate::workload::Workload), or of a method of `tensor_model.py`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The engine's wait policy: `adaptive`, `spin` or `park`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Threads that submit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitters: Option<usize>,
    /// Processes that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// The engine's slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<usize>,
    /// Bytes of the argument, and of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<usize>,
    /// Calls on their way at once from one thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipelined: Option<usize>,
    /// Milliseconds between two calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<f64>,
    /// Open loop: calls per second as scheduled, in per cent of the capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_percent: Option<u32>,
    /// What is special about the row, in a word or two: `gc between calls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Latencies that were noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    #[serde(flatten)]
    /// What came out.
    pub figures: Figures,
    /// The same figures of each repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<Figures>,
}

/// What a turn comes down to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The median latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<f64>,
    /// 9 of 10 are below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_ns: Option<f64>,
    /// 99 of 100 are below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<f64>,
    /// 999 of 1000 are below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<f64>,
    /// The largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<f64>,
    /// Calls in a second, by all submitters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// CPU seconds of all processes for a million calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s_per_million: Option<f64>,
    /// Of one CPU, in per cent (an idle engine).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// A spinning cache-line round trip, measured beside it: on a virtual machine whose CPUs are
    /// moved, figures compare only where these are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_line_ns: Option<f64>,
    /// An overhead's p50 as a share of its limit, which grows with `cache_line_ns`: up to 1 it
    /// meets its target, wherever the CPUs are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_limit: Option<f64>,
    /// Bytes of an array in a second of the p50, where all of it is read or copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
}

impl Figures {
    /// Each figure with its name in the file, and whether a smaller one is better.
    pub fn all(&self) -> [(&'static str, Option<f64>, bool); 11] {
        [
            ("p50_ns", self.p50_ns, true),
            ("p90_ns", self.p90_ns, true),
            ("p99_ns", self.p99_ns, true),
            ("p999_ns", self.p999_ns, true),
            ("max_ns", self.max_ns, true),
            ("per_second", self.per_second, false),
            ("cpu_s_per_million", self.cpu_s_per_million, true),
            ("cpu_percent", self.cpu_percent, true),
            ("cache_line_ns", self.cache_line_ns, true),
            ("of_limit", self.of_limit, true),
            ("bytes_per_second", self.bytes_per_second, false),
        ]
    }

    /// Of one turn.
    pub fn of(turn: &Turn) -> Self {
        let count = turn.latencies.count();
        let at = |share| (count > 0).then(|| turn.latencies.at(share) as f64);
        Self {
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: (count > 0).then(|| turn.latencies.max() as f64),
            per_second: (turn.seconds > 0.0).then(|| count as f64 / turn.seconds),
            cpu_s_per_million: turn
                .cpu_seconds
                .filter(|_| count > 0)
                .map(|cpu| cpu / count as f64 * 1e6),
            ..Self::default()
        }
    }

    /// The median of each figure; the largest maximum.
    pub fn median(repeats: &[Self]) -> Self {
        let pick = |of: fn(&Self) -> Option<f64>| {
            let mut values: Vec<f64> = repeats.iter().filter_map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Self {
            p50_ns: pick(|f| f.p50_ns),
            p90_ns: pick(|f| f.p90_ns),
            p99_ns: pick(|f| f.p99_ns),
            p999_ns: pick(|f| f.p999_ns),
            max_ns: repeats.iter().filter_map(|f| f.max_ns).max_by(f64::total_cmp),
            per_second: pick(|f| f.per_second),
            cpu_s_per_million: pick(|f| f.cpu_s_per_million),
            cpu_percent: pick(|f| f.cpu_percent),
            cache_line_ns: pick(|f| f.cache_line_ns),
            of_limit: pick(|f| f.of_limit),
            bytes_per_second: pick(|f| f.bytes_per_second),
        }
    }
}

/// A row with the latencies behind it, all repeats together, for the report's curves.
#[derive(Debug, Clone)]
pub struct Measured {
    /// As it goes into the file.
    pub row: Row,
    /// `None` where no latencies were noted.
    pub latencies: Option<Latencies>,
}
