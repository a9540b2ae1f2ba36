use std::path::Path;
use std::time::Duration;

use super::*;
use crate::measure::Latencies;
use crate::rows::Figures;

fn synthetic_page() -> String {
    let (results, measured) = synthetic::results();
    html(&results, &measured).unwrap()
}

/// Every number of the drawings can be drawn.
fn assert_drawable(page: &str) {
    let names = ["d", "x", "y", "cx", "cy", "width", "height", "viewBox"];
    let drawings = page.split("<svg").skip(1).filter_map(|rest| rest.split("</svg>").next());
    for drawing in drawings {
        // Names and values take turns; quotes within texts are escaped.
        let pieces: Vec<&str> = drawing.split('"').collect();
        for pair in pieces.chunks_exact(2) {
            let name = pair[0].trim_end_matches('=').rsplit(' ').next().unwrap_or_default();
            let numbers = pair[1].split(['M', 'L', 'H', 'V', ' ']).filter(|n| !n.is_empty());
            for number in numbers.filter(|_| names.contains(&name)) {
                let value: f64 = number.parse().unwrap_or(f64::NAN);
                assert!((0.0..2000.0).contains(&value), "{name}=\"{}\"", pair[1]);
            }
        }
    }
}

#[test]
fn the_whole_report_is_drawn() {
    let page = synthetic_page();
    assert_drawable(&page);
    let (results, _) = synthetic::results();
    for (case, _) in columns::cases(&results.rows) {
        assert!(page.contains(&format!("<h3>{case}</h3>")), "{case}");
    }
    let ids =
        ["hot", "parked", "load", "rivals", "throughput", "growth", "tensors", "cost", "rows"];
    for id in ids {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    // To be looked at.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nearcall");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("synthetic-report.html"), page).unwrap();
}

#[test]
fn the_page_needs_nothing_else() {
    let page = synthetic_page();
    for reference in ["http://", "https://", "src=", "url(", "@import", "<link", "<script"] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.match_indices("href=").all(|(at, _)| page[at..].starts_with("href=\"#")));
}

#[test]
fn the_head_tells_the_main_result() {
    let page = synthetic_page();
    let head = page.split("<main>").next().unwrap();
    assert!(head.contains("230 ns<small> at p50, 713 ns at p99</small>"), "{head}");
    assert!(head.contains("cache-line round trips") && head.contains("AMD EPYC"), "{head}");
    assert!(head.contains("6d9de87-dirty") && head.contains("2026-11-26 05:37 UTC"), "{head}");
}

#[test]
fn a_case_that_was_not_measured_leaves_no_trace() {
    let (mut results, mut measured) = synthetic::results();
    let quick = |row: &Row| ["hot", "limits", "throughput"].contains(&row.case.as_str());
    results.rows.retain(quick);
    measured.retain(|one| quick(&one.row));
    let page = html(&results, &measured).unwrap();
    for id in ["parked", "load", "rivals", "growth", "tensors", "cost"] {
        assert!(
            !page.contains(&format!("id=\"{id}\"")) && !page.contains(&format!("#{id}")),
            "{id}"
        );
    }
    assert!(page.contains("id=\"hot\"") && page.contains("id=\"throughput\""));
    results.rows.clear();
    let page = html(&results, &[]).unwrap();
    assert!(!page.contains("<section") && !page.contains("class=\"tile"), "{page}");
}

#[test]
fn text_from_the_outside_is_escaped() {
    let (mut results, mut measured) = synthetic::results();
    let bad = "<b a='1' c=\"2\">&";
    results.machine.cpu = bad.to_owned();
    results.machine.kernel = bad.to_owned();
    results.machine.python = bad.to_owned();
    results.commit = bad.to_owned();
    let rows = measured.iter_mut().map(|one| &mut one.row).chain(&mut results.rows);
    for row in rows {
        row.workload = row.workload.take().map(|name| format!("{name}{bad}"));
        row.variant = Some(bad.to_owned());
        row.system = format!("{}{bad}", row.system);
    }
    results.rows[0].case = bad.to_owned();
    let page = html(&results, &measured).unwrap();
    assert!(!page.contains("<b ") && !page.contains(bad));
    assert!(page.contains("&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;"));
}

#[test]
fn odd_figures_are_drawn_or_left_out() {
    let latencies = |all: &[u64]| {
        let mut latencies = Latencies::new().unwrap();
        all.iter().for_each(|ns| latencies.record(Duration::from_nanos(*ns)));
        Some(latencies)
    };
    let (mut results, _) = synthetic::results();
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -12.0, 1e300, 5.0];
    let cases = [
        "hot",
        "limits",
        "parked",
        "load",
        "throughput",
        "growth",
        "tensors",
        "cost",
        "rivals",
        "another",
    ];
    for value in odd {
        for samples in [None, latencies(&[]), latencies(&[0]), latencies(&[7, 7])] {
            let row = |case: &str, submitters: usize| Row {
                case: case.to_owned(),
                system: if submitters == 1 { "nearcall" } else { "overhead" }.to_owned(),
                workload: Some("noop".to_owned()),
                submitters: Some(submitters),
                slots: Some(submitters),
                period_ms: Some(value),
                figures: Figures {
                    p50_ns: Some(value),
                    p99_ns: Some(value),
                    per_second: Some(value),
                    cpu_s_per_million: Some(value),
                    cpu_percent: Some(value),
                    ..Figures::default()
                },
                ..Row::default()
            };
            let rows: Vec<Row> =
                cases.iter().flat_map(|case| [row(case, 0), row(case, 1)]).collect();
            let measured: Vec<_> = rows
                .iter()
                .map(|row| Measured { row: row.clone(), latencies: samples.clone() })
                .collect();
            results.rows = rows;
            assert_drawable(&html(&results, &measured).unwrap());
        }
    }
}
