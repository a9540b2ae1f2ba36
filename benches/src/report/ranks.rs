//! Everybody beside everybody: sorted bars.

use super::bars::{Bar, Bars};
use super::groups::grouped;
use super::labels;
use super::palette;
use super::scale::Axis;
use super::units;
use crate::rows::Row;

/// One call at a time: what it costs, beside the machine's limits.
pub(crate) fn hot(hot: &[&Row], limits: &[&Row]) -> String {
    if hot.is_empty() && limits.is_empty() {
        return String::new();
    }
    let rows: Vec<&Row> = hot.iter().chain(limits).copied().collect();
    let title = "one call after another, and the machine's limits: p50, and p99 as a thin line";
    latencies(title, &rows, None)
}

/// The rivals, for each workload: by latency, beside ours of one call at a time, and by rate.
pub(crate) fn rivals(rows: &[&Row]) -> String {
    let workloads = grouped(rows, |row| row.workload.clone());
    let charts = |(workload, rows): &(Option<String>, Vec<&Row>)| {
        let workload = workload.as_deref().unwrap_or("all");
        let title = format!("{workload}: p50, and p99 as a thin line");
        let one_at_a_time = |row: &Row| row.pipelined.is_none() && row.submitters.unwrap_or(1) == 1;
        let ours = rows.iter().find(|row| palette::is_ours(row) && one_at_a_time(row));
        latencies(&title, rows, ours.copied())
            + &rates(&format!("{workload}: calls per second"), rows)
    };
    workloads.iter().map(charts).collect()
}

/// Those rows that have many calls on their way from one thread.
pub(crate) fn pipelined(rows: &[&Row]) -> String {
    let mut rows = rows.to_vec();
    rows.retain(|row| row.pipelined.is_some());
    rates("pipelined from one thread: calls per second", &rows)
}

/// Arrays of one size that are summed, or that come back.
pub(crate) fn tensors(rows: &[&Row]) -> String {
    let chart = |title, workloads: [Option<&str>; 2]| {
        let mut rows = rows.to_vec();
        rows.retain(|row| workloads.contains(&row.workload.as_deref()));
        latencies(title, &rows, None)
    };
    let back = "a 16 MiB array comes back: p50, and p99 as a thin line";
    chart("a 16 MiB array is summed: p50, and p99 as a thin line", [Some("sum"); 2])
        + &chart(back, [Some("scaled"), None])
}

/// From start to the first answer.
pub(crate) fn starts(rows: &[&Row]) -> String {
    let mut rows = rows.to_vec();
    rows.retain(|row| row.figures.p50_ns.is_some() && row.figures.cpu_s_per_million.is_none());
    latencies("start: until the first answer, or the end of the script", &rows, None)
}

fn latencies(title: &str, rows: &[&Row], beside: Option<&Row>) -> String {
    let mut rows = rows.to_vec();
    rows.retain(|row| row.figures.p50_ns.is_some());
    let p50 = |row: &Row| row.figures.p50_ns.filter(|p50| *p50 > 0.0);
    let bar = |(row, label): (&&Row, String)| {
        let value = row.figures.p50_ns?;
        let unit = beside.filter(|other| *other != *row).and_then(p50);
        let times = unit.map(|unit| format!("  ({} × nearcall)", units::ratio(value / unit)));
        let text = units::time(value) + &times.unwrap_or_default();
        Some(Bar { whisker: row.figures.p99_ns, ..bar(row, label, value, text) })
    };
    let bars: Vec<_> = rows.iter().zip(labels::distinct(&rows)).filter_map(bar).collect();
    let shortest = bars.iter().map(|bar| bar.value).filter(|v| *v > 0.0).min_by(f64::total_cmp);
    // The best should have a bar, too.
    let mut values: Vec<f64> = shortest.iter().map(|shortest| shortest * 0.7).collect();
    values.extend(bars.iter().flat_map(|bar| [Some(bar.value), bar.whisker]).flatten());
    let axis = Axis::log("latency", &values, units::time);
    Bars { title: title.to_owned(), axis, bars, largest_first: false }.html()
}

fn rates(title: &str, rows: &[&Row]) -> String {
    let mut rows = rows.to_vec();
    rows.retain(|row| row.figures.per_second.is_some());
    let bar = |(row, label): (&&Row, String)| {
        let value = row.figures.per_second?;
        Some(bar(row, label, value, units::rate(value)))
    };
    let bars: Vec<_> = rows.iter().zip(labels::distinct(&rows)).filter_map(bar).collect();
    let values: Vec<f64> = bars.iter().map(|bar| bar.value).collect();
    let axis = Axis::linear("calls per second", &values, units::rate);
    Bars { title: title.to_owned(), axis, bars, largest_first: true }.html()
}

fn bar(row: &Row, label: String, value: f64, text: String) -> Bar {
    let (class, ours) = (palette::class(row), palette::is_ours(row));
    Bar { label, class, ours, value, whisker: None, text }
}
