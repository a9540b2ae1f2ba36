//! What each wait policy costs in CPU time, and what it gives for it.

use super::labels;
use super::palette;
use super::plot::{Plot, Series};
use super::scale::Axis;
use super::tables;
use super::units;
use crate::rows::{Results, Row};

/// CPU time beside latency, as points and as a table.
pub(crate) fn policies(results: &Results, rows: &[&Row]) -> String {
    let mut rows = rows.to_vec();
    rows.retain(|row| row.figures.cpu_s_per_million.is_some() || row.figures.cpu_percent.is_some());
    if rows.is_empty() {
        return String::new();
    }
    let table = tables::some(&rows, &["p50", "p99", "CPU/M calls", "CPU"]);
    let table = format!(
        "<figure><figcaption>what each policy costs</figcaption>\
         <p>CPU/M calls: CPU time of all processes for a million calls. CPU: share of one CPU that \
         is used while nothing is called.</p>{table}</figure>\n"
    );
    scatter(results, &rows) + &table
}

fn scatter(results: &Results, rows: &[&Row]) -> String {
    let labels = labels::distinct(rows);
    let series: Vec<Series> = rows
        .iter()
        .zip(labels.into_iter().zip(palette::styles(rows)))
        .filter_map(|(row, (label, style))| {
            let cpu = row.figures.cpu_s_per_million.filter(|cpu| cpu.is_finite())?;
            let points = vec![(cpu, p50(results, row)?)];
            Some(Series { label, style, ours: palette::is_ours(row), marked: true, points })
        })
        .collect();
    let xs: Vec<f64> = series.iter().flat_map(|one| &one.points).map(|(x, _)| *x).collect();
    let ys: Vec<f64> = series.iter().flat_map(|one| &one.points).map(|(_, y)| *y).collect();
    Plot {
        title: "latency beside CPU time: left and low is better".to_owned(),
        x: Axis::linear("CPU seconds for a million calls", &xs, units::cpu_seconds),
        y: Axis::log("p50", &ys, units::time),
        series,
    }
    .html()
}

/// Its own, or that of the same call in `hot`.
fn p50(results: &Results, row: &Row) -> Option<f64> {
    let same = |other: &&Row| {
        (&other.case == "hot", &other.system, &other.workload, &other.policy)
            == (true, &row.system, &row.workload, &row.policy)
    };
    let hot = || results.rows.iter().find(same).and_then(|other| other.figures.p50_ns);
    row.figures.p50_ns.or_else(hot).filter(|p50| p50.is_finite())
}
