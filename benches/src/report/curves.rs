//! Curves of percentiles: which latency a share of the calls stays below.

use super::groups::{self, grouped};
use super::labels::{self, Mark};
use super::palette;
use super::plot::{Plot, Series};
use super::scale::Axis;
use super::units;
use crate::measure::Latencies;
use crate::rows::{Measured, Row};

/// Points of a curve.
const POINTS: u32 = 200;

/// One chart for each workload of `hot`.
pub(crate) fn hot(measured: &[Measured]) -> String {
    split(&of_case(measured, "hot"), |row| row.workload.clone(), |rows| titled("hot", rows))
}

/// One chart for each period.
pub(crate) fn parked(measured: &[Measured]) -> String {
    split(
        &of_case(measured, "parked"),
        |row| row.period_ms.map(units::period),
        |rows| {
            let each = rows.first().and_then(|(row, _)| row.period_ms).map(units::period);
            each.map_or_else(|| "parked".to_owned(), |each| format!("one call each {each}"))
        },
    )
}

/// One chart for each system and policy, with a curve for each load.
pub(crate) fn load(measured: &[Measured]) -> String {
    let key = |(row, _): Curve<'_>| Row { load_percent: None, ..groups::identity(row) };
    grouped(&of_case(measured, "load"), key)
        .into_iter()
        .map(|(common, mut rows)| {
            rows.sort_by_key(|(row, _)| row.load_percent);
            let phrases: Vec<_> = labels::marks(&common).iter().map(Mark::phrase).collect();
            let mut plot = plot(&format!("open loop: {}", phrases.join(", ")), &rows);
            let shades = palette::shades(rows.len());
            for ((series, style), (row, _)) in plot.series.iter_mut().zip(shades).zip(&rows) {
                series.style = style;
                series.label =
                    row.load_percent.map_or_else(String::new, |load| format!("{load} % load"));
            }
            plot.html()
        })
        .collect()
}

/// One chart for each workload, of those rows that call one at a time from one thread.
pub(crate) fn rivals(measured: &[Measured]) -> String {
    let mut rows = of_case(measured, "rivals");
    rows.retain(|(row, _)| row.pipelined.is_none() && row.submitters.unwrap_or(1) == 1);
    split(&rows, |row| row.workload.clone(), |rows| titled("one call at a time", rows))
}

/// A row with its latencies.
type Curve<'a> = (&'a Row, &'a Latencies);

fn of_case<'a>(measured: &'a [Measured], case: &str) -> Vec<Curve<'a>> {
    let rows = measured.iter().filter(|one| one.row.case == case);
    rows.filter_map(|one| Some((&one.row, one.latencies.as_ref().filter(|l| l.count() > 0)?)))
        .collect()
}

fn split<K: PartialEq>(
    rows: &[Curve<'_>],
    key: impl Fn(&Row) -> K,
    title: impl Fn(&[Curve<'_>]) -> String,
) -> String {
    let groups = grouped(rows, |(row, _)| key(row));
    groups.iter().map(|(_, rows)| plot(&title(rows), rows).html()).collect()
}

fn titled(what: &str, rows: &[Curve<'_>]) -> String {
    match rows.first().and_then(|(row, _)| row.workload.as_ref()) {
        Some(workload) => format!("{workload}, {what}"),
        None => what.to_owned(),
    }
}

fn plot(title: &str, rows: &[Curve<'_>]) -> Plot {
    let all: Vec<&Row> = rows.iter().map(|(row, _)| *row).collect();
    let named = labels::distinct(&all).into_iter().zip(palette::styles(&all));
    let series: Vec<_> = rows
        .iter()
        .zip(named)
        .map(|((row, latencies), (label, style))| Series {
            label,
            style,
            ours: palette::is_ours(row),
            marked: false,
            points: points(latencies),
        })
        .collect();
    let coordinates = || series.iter().flat_map(|one| &one.points);
    let most = coordinates().map(|(x, _)| *x).fold(0.0, f64::max);
    let values: Vec<f64> = coordinates().map(|(_, y)| *y).collect();
    Plot {
        title: title.to_owned(),
        x: Axis::nines("share of the calls, in %: each step is ten times rarer", most),
        y: Axis::log("answered within", &values, units::time),
        series,
    }
}

/// Evenly spaced by nines, up to the share that this many samples can tell.
fn points(latencies: &Latencies) -> Vec<(f64, f64)> {
    let count = latencies.count();
    if count == 0 {
        return Vec::new();
    }
    let most = (count as f64).log10();
    let steps = if count == 1 { 0 } else { POINTS - 1 };
    let point = |index: u32| {
        let nines = most * f64::from(index) / f64::from(steps.max(1));
        let share = 1.0 - 10f64.powf(-nines);
        // A latency below the clock's tick has no logarithm.
        (nines, (latencies.at(share) as f64).max(1.0))
    };
    (0..=steps).map(point).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_curve_ends_where_its_samples_do() {
        let mut latencies = Latencies::new().unwrap();
        assert_eq!(points(&latencies), []);
        latencies.record(Duration::ZERO);
        assert_eq!(points(&latencies), [(0.0, 1.0)]);
        for ns in 1..1000 {
            latencies.record(Duration::from_nanos(ns));
        }
        let points = points(&latencies);
        assert_eq!(points.len(), 200);
        assert!(points.is_sorted());
        let (nines, last) = points[199];
        assert!((nines - 3.0).abs() < 1e-9 && (last - 998.0).abs() <= 1.0, "{nines} {last}");
    }
}
