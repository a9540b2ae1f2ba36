//! What came of the demo: checked, condensed, shown.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::tasks::DemoTask;
use super::{Round, Variant};

/// Who did the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum System {
    #[serde(rename = "nearcall")]
    Nearcall,
    #[serde(rename = "multiprocessing.Pool")]
    Pool,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nearcall => "nearcall",
            Self::Pool => "multiprocessing.Pool",
        }
    }
}

/// The result of one variant on one system.
pub(crate) struct Measured {
    row: Row,
    latencies: Histogram<u64>,
}

/// As it goes into the JSON file.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    variant: &'static str,
    system: System,
    tasks: usize,
    correct: usize,
    seconds: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Measured {
    /// Of several ways of polling, each with some rounds, the way whose median round is the
    /// fastest, and that round. The number of right answers is that of the worst round of all.
    pub(crate) fn best(
        variant: &Variant,
        system: System,
        tasks: &[DemoTask],
        ways: Vec<Vec<Round>>,
    ) -> anyhow::Result<Self> {
        let expected: Vec<_> = tasks.iter().map(|task| Some(task.expected())).collect();
        let correct = ways.iter().flatten().map(|round| right(&expected, &round.answers)).min();
        let round = ways
            .into_iter()
            .filter_map(median)
            .min_by(|a, b| a.seconds.total_cmp(&b.seconds))
            .context("interrupted")?;
        let latencies = histogram(&round.latencies_ns)?;
        let row = Row {
            variant: variant.name,
            system,
            tasks: tasks.len(),
            correct: correct.unwrap_or(0),
            seconds: round.seconds,
            per_second: tasks.len() as f64 / round.seconds,
            p50_us: micros(&latencies, 0.5),
            p99_us: micros(&latencies, 0.99),
        };
        Ok(Self { row, latencies })
    }

    pub(crate) fn all_correct(&self) -> bool {
        self.row.correct == self.row.tasks
    }
}

fn right(expected: &[Option<i64>], answers: &[Option<i64>]) -> usize {
    expected.iter().zip(answers).filter(|(expected, answer)| expected == answer).count()
}

fn median(mut rounds: Vec<Round>) -> Option<Round> {
    rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let middle = rounds.len() / 2;
    (middle < rounds.len()).then(|| rounds.swap_remove(middle))
}

fn histogram(latencies_ns: &[u64]) -> anyhow::Result<Histogram<u64>> {
    // Three digits; it grows to what it is given.
    let mut histogram = Histogram::new(3)?;
    for &latency in latencies_ns {
        histogram.record(latency)?;
    }
    Ok(histogram)
}

fn micros(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1000.0
}

/// Writes the rows as a JSON array.
pub(crate) fn write_json(measured: &[Measured], path: &Path) -> anyhow::Result<()> {
    let rows: Vec<_> = measured.iter().map(|one| &one.row).collect();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut json = serde_json::to_string_pretty(&rows)?;
    json.push('\n');
    Ok(fs::write(path, json)?)
}

/// Shows the table, the ratios, and how they came to be.
pub(crate) fn print(measured: &[Measured], threads: u32, workers: usize) {
    // Nobody reads it when this fails.
    let _ = write(&mut io::stdout().lock(), measured, threads, workers);
}

fn write(
    out: &mut impl Write,
    measured: &[Measured],
    threads: u32,
    workers: usize,
) -> io::Result<()> {
    writeln!(out, "{}\n", table(measured))?;
    for (variant, ratio) in ratios(measured) {
        writeln!(
            out,
            "{variant}: nearcall answers {ratio:.2} times the tasks per second of the pool"
        )?;
    }
    writeln!(
        out,
        "\n{threads} threads, {workers} workers on either side. A thread submits a task, polls until \
         its answer is\nthere, and takes the next; latency is from before the submit to the answer. \
         \"sleep\": the model\nsleeps 0.1 to 10 ms, both sides look each millisecond. \"cpu\": it does \
         not; each side was tried\nwith four ways of polling ({rounds} rounds each) and is shown with \
         the one that served it best.",
        rounds = super::ROUNDS,
    )?;
    out.flush()
}

fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "variant", "system", "correct", "seconds", "tasks/s", "p50 µs", "p90 µs", "p99 µs",
        "max µs",
    ]);
    for Measured { row, latencies } in measured {
        table.add_row([
            row.variant.to_owned(),
            row.system.name().to_owned(),
            format!("{} of {}", row.correct, row.tasks),
            format!("{:.3}", row.seconds),
            format!("{:.0}", row.per_second),
            format!("{:.1}", row.p50_us),
            format!("{:.1}", micros(latencies, 0.9)),
            format!("{:.1}", row.p99_us),
            format!("{:.1}", micros(latencies, 1.0)),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// For each variant, nearcall's tasks per second over the pool's.
fn ratios(measured: &[Measured]) -> Vec<(&'static str, f64)> {
    let rows = || measured.iter().map(|one| &one.row);
    rows()
        .filter(|row| row.system == System::Nearcall)
        .filter_map(|ours| {
            let pool =
                rows().find(|row| row.variant == ours.variant && row.system == System::Pool)?;
            Some((ours.variant, ours.per_second / pool.per_second))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::VARIANTS;
    use super::super::tasks::generate;
    use super::*;

    fn round(tasks: &[DemoTask], seconds: f64) -> Round {
        Round {
            seconds,
            answers: tasks.iter().map(|task| Some(task.expected())).collect(),
            latencies_ns: (1..=tasks.len() as u64).map(|n| n * 1000).collect(),
        }
    }

    fn measured(system: System, seconds: f64) -> Measured {
        let tasks = generate(100);
        let ways = vec![vec![round(&tasks, seconds)]];
        Measured::best(&VARIANTS[1], system, &tasks, ways).unwrap()
    }

    #[test]
    fn the_best_ways_median_round_counts() {
        let tasks = generate(100);
        let ways = vec![
            [9.0, 1.0, 5.0].map(|seconds| round(&tasks, seconds)).into(),
            [4.0, 3.0, 8.0].map(|seconds| round(&tasks, seconds)).into(),
        ];
        let best = Measured::best(&VARIANTS[1], System::Nearcall, &tasks, ways).unwrap();
        assert_eq!(best.row.seconds, 4.0);
        assert_eq!(best.row.per_second, 25.0);
        assert!(best.all_correct());
    }

    #[test]
    fn percentiles_are_of_the_latencies_in_microseconds() {
        let row = measured(System::Nearcall, 1.0).row;
        assert!((row.p50_us - 50.0).abs() < 0.1, "{}", row.p50_us);
        assert!((row.p99_us - 99.0).abs() < 0.1, "{}", row.p99_us);
    }

    #[test]
    fn one_wrong_or_missing_answer_in_any_round_shows() {
        let tasks = generate(10);
        for spoilt in [None, Some(-1)] {
            let mut bad = round(&tasks, 9.0);
            bad.answers[3] = spoilt;
            let ways = vec![vec![round(&tasks, 1.0)], vec![bad]];
            let best = Measured::best(&VARIANTS[0], System::Pool, &tasks, ways).unwrap();
            assert_eq!((best.row.correct, best.row.tasks), (9, 10));
            assert!(!best.all_correct());
        }
    }

    #[test]
    fn the_json_has_exactly_the_documented_keys() {
        let row = serde_json::to_value(&measured(System::Pool, 1.0).row).unwrap();
        let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let mut documented =
            ["variant", "system", "tasks", "correct", "seconds", "per_second", "p50_us", "p99_us"];
        documented.sort_unstable();
        let mut found = keys.clone();
        found.sort_unstable();
        assert_eq!(found, documented);
        assert_eq!(row["system"], "multiprocessing.Pool");
    }

    #[test]
    fn the_table_and_the_ratio_tell_the_numbers() {
        let both = [measured(System::Nearcall, 0.5), measured(System::Pool, 2.0)];
        let mut out = Vec::new();
        write(&mut out, &both, 16, 2).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("100 of 100") && text.contains("200") && text.contains("50.0"),
            "{text}"
        );
        assert!(text.contains("cpu: nearcall answers 4.00 times"), "{text}");
    }
}
