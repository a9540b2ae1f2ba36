//! What grows, and what it does to the calls: submitters, slots, payload, workers.

use super::groups::{self, grouped};
use super::labels;
use super::palette::{self, Style};
use super::plot::{Plot, Series};
use super::scale::{Axis, Unit};
use super::units;
use crate::rows::Row;

/// Something that grows while all else stays as it is.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    name: &'static str,
    /// How much of it a row has.
    x: fn(&Row) -> Option<usize>,
    /// Makes rows equal that differ in nothing else.
    forget: fn(&mut Row),
    unit: Unit,
}

const SUBMITTERS: Sweep = Sweep {
    name: "submitters",
    x: |row| row.submitters,
    forget: |row| row.submitters = None,
    unit: |x| units::count(x as u64),
};
const SLOTS: Sweep = Sweep {
    name: "slots",
    x: |row| row.slots,
    forget: |row| row.slots = None,
    unit: |x| units::count(x as u64),
};
const WORKERS: Sweep = Sweep {
    name: "workers",
    x: |row| row.workers,
    forget: |row| row.workers = None,
    unit: |x| units::count(x as u64),
};
const PAYLOAD: Sweep = Sweep {
    name: "payload",
    x: |row| row.payload_bytes,
    forget: |row| {
        row.payload_bytes = None;
        // The size is part of the name.
        let echo = row.workload.as_ref().is_some_and(|name| name.starts_with("echo_"));
        row.workload = if echo { Some("echo".to_owned()) } else { row.workload.take() };
    },
    unit: |x| units::bytes(x as usize),
};

/// A figure on the y axis.
#[derive(Debug, Clone, Copy)]
struct Figure {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    dash: &'static str,
}

const P50: Figure = Figure { name: "p50", of: |row| row.figures.p50_ns, dash: "" };
const P99: Figure = Figure { name: "p99", of: |row| row.figures.p99_ns, dash: "7 4" };

/// Calls per second of more and more submitters: a chart for each workload.
pub(crate) fn throughput(rows: &[&Row]) -> String {
    let mut rows = rows.to_vec();
    rows.retain(|row| row.pipelined.is_none());
    rates("calls per second", SUBMITTERS, &rows)
}

/// Latency over slots, payload and workers, and the rate over workers.
pub(crate) fn growth(rows: &[&Row]) -> String {
    let sweeps = [SLOTS, PAYLOAD, WORKERS];
    let latencies: String = sweeps.iter().map(|sweep| latencies(*sweep, rows)).collect();
    latencies + &rates("calls per second, growing workers", WORKERS, rows)
}

/// Latency over the size of an array.
pub(crate) fn tensors(rows: &[&Row]) -> String {
    latencies(PAYLOAD, rows)
}

/// A line of a sweep: what its rows have in common, and the rows.
type Line<'a> = (Row, Vec<&'a Row>);

/// The lines along which something grows, by workload: each is a chart.
fn charts<'a>(
    sweep: Sweep,
    rows: &[&'a Row],
    has: impl Fn(&Row) -> bool,
) -> Vec<(Option<String>, Vec<Line<'a>>)> {
    let mut rows = rows.to_vec();
    rows.retain(|row| (sweep.x)(row).is_some() && has(row));
    let common = |row: &Row| {
        let mut common = groups::identity(row);
        (sweep.forget)(&mut common);
        common
    };
    let mut lines = grouped(&rows, common);
    lines.retain(|(_, rows)| rows.iter().any(|row| (sweep.x)(row) != (sweep.x)(rows[0])));
    let mut charts: Vec<(Option<String>, Vec<Line<'a>>)> = Vec::new();
    for (common, mut rows) in lines {
        rows.sort_by_key(|row| (sweep.x)(row));
        match charts.iter_mut().find(|(workload, _)| *workload == common.workload) {
            Some((_, lines)) => lines.push((common, rows)),
            None => charts.push((common.workload.clone(), vec![(common, rows)])),
        }
    }
    charts
}

fn rates(title: &str, sweep: Sweep, rows: &[&Row]) -> String {
    let rate = |row: &Row| row.figures.per_second;
    let charts = charts(sweep, rows, |row| rate(row).is_some());
    let plot = |(workload, lines): &(Option<String>, Vec<Line<'_>>)| {
        let commons: Vec<&Row> = lines.iter().map(|(common, _)| common).collect();
        let styles = palette::styles(&commons);
        let series = lines.iter().zip(labels::distinct(&commons)).zip(styles);
        let series = series
            .map(|(((common, rows), label), style)| line(sweep, rate, common, rows, label, style))
            .collect();
        let y = |values: &[f64]| Axis::linear("calls per second", values, units::rate);
        chart(named(workload, title), sweep, series, y)
    };
    charts.iter().map(plot).collect()
}

fn latencies(sweep: Sweep, rows: &[&Row]) -> String {
    let charts = charts(sweep, rows, |row| row.figures.p50_ns.is_some());
    let plot = |(workload, lines): &(Option<String>, Vec<Line<'_>>)| {
        let commons: Vec<&Row> = lines.iter().map(|(common, _)| common).collect();
        let mut series = Vec::new();
        for ((common, rows), label) in lines.iter().zip(labels::distinct(&commons)) {
            for Figure { name, of, dash } in [P50, P99] {
                let style = Style { class: palette::class(common).to_owned(), dash };
                series.push(line(sweep, of, common, rows, format!("{label}, {name}"), style));
            }
        }
        let y = |values: &[f64]| Axis::log("answered within", values, units::time);
        chart(named(workload, &format!("latency, growing {}", sweep.name)), sweep, series, y)
    };
    charts.iter().map(plot).collect()
}

fn named(workload: &Option<String>, title: &str) -> String {
    workload.as_ref().map_or_else(|| title.to_owned(), |workload| format!("{workload}, {title}"))
}

fn line(
    sweep: Sweep,
    of: impl Fn(&Row) -> Option<f64>,
    common: &Row,
    rows: &[&Row],
    label: String,
    style: Style,
) -> Series {
    let point = |row: &&Row| Some(((sweep.x)(row)? as f64, of(row).filter(|y| y.is_finite())?));
    let points = rows.iter().filter_map(point).collect();
    Series { label, style, ours: palette::is_ours(common), marked: true, points }
}

fn chart(title: String, sweep: Sweep, series: Vec<Series>, y: impl Fn(&[f64]) -> Axis) -> String {
    let points = || series.iter().flat_map(|one| &one.points);
    let xs: Vec<f64> = points().map(|(x, _)| *x).collect();
    let ys: Vec<f64> = points().map(|(_, y)| *y).collect();
    let x = Axis::log_at(sweep.name, &xs, sweep.unit);
    Plot { title, x, y: y(&ys), series }.html()
}
