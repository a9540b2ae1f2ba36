use super::*;
use crate::report::synthetic;

/// A file with one row for each system: its p50 and calls per second in three repeats.
fn file(rows: &[(&str, [f64; 3])]) -> Results {
    let (mut results, _) = synthetic::results();
    let row = |(system, p50s): &(&str, [f64; 3])| {
        let figures = |p50: f64| Figures {
            p50_ns: Some(p50),
            max_ns: Some(p50 * 1e3 * p50),
            per_second: Some(1e9 / p50),
            ..Figures::default()
        };
        let repeats: Vec<_> = p50s.iter().map(|p50| figures(*p50)).collect();
        Row {
            case: "hot".to_owned(),
            system: (*system).to_owned(),
            figures: Figures::median(&repeats),
            repeats,
            ..Row::default()
        }
    };
    results.rows = rows.iter().map(row).collect();
    results
}

fn printed(comparison: &Comparison) -> String {
    let mut text = Vec::new();
    comparison.print(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    println!("{text}");
    assert!(text.lines().all(|line| line.chars().count() <= crate::table::WIDTH));
    text
}

#[test]
fn noise_is_not_reported() {
    let old = file(&[("nearcall", [100.0, 110.0, 130.0])]);
    let overlapping = compare(&old, &file(&[("nearcall", [125.0, 140.0, 150.0])]));
    assert_eq!((overlapping.unchanged, &overlapping.slower), (2, &Vec::new()));
    let quiet = file(&[("nearcall", [1000.0, 1001.0, 1002.0])]);
    let less_than_least = compare(&quiet, &file(&[("nearcall", [1020.0, 1021.0, 1022.0])]));
    assert_eq!((less_than_least.unchanged, &less_than_least.slower), (2, &Vec::new()));
}

#[test]
fn a_higher_p50_is_slower_and_a_higher_rate_is_faster() {
    let (low, high) = ([100.0, 110.0, 120.0], [200.0, 220.0, 240.0]);
    let doubled = compare(&file(&[("nearcall", low)]), &file(&[("nearcall", high)]));
    let figures: Vec<_> = doubled.slower.iter().map(|change| change.figure).collect();
    assert_eq!((figures, doubled.faster.len()), (vec!["p50", "calls"], 0));
    assert_eq!(doubled.slower[0].old, Value { median: 110.0, range: Some((100.0, 120.0)) });
    let text = printed(&doubled);
    assert!(text.contains("Slower:") && text.contains("2.00"), "{text}");

    let halved = compare(&file(&[("nearcall", high)]), &file(&[("nearcall", low)]));
    assert_eq!((halved.slower.len(), halved.faster.len()), (0, 2));
}

#[test]
fn what_is_not_the_engine_is_listed_apart() {
    let old = file(&[("futex", [100.0, 110.0, 120.0]), ("overhead", [100.0, 110.0, 120.0])]);
    let new = file(&[("futex", [200.0, 220.0, 240.0]), ("overhead", [200.0, 220.0, 240.0])]);
    let comparison = compare(&old, &new);
    assert_eq!((comparison.others.len(), comparison.slower.len()), (2, 2));
    assert!(comparison.others.iter().all(|change| change.row == "hot: futex"));
    assert!(printed(&comparison).contains("The machine itself"));
}

#[test]
fn rows_of_one_file_only_are_named() {
    let old = file(&[("nearcall", [1.0; 3]), ("futex", [1.0; 3])]);
    let mut new = file(&[("nearcall", [1.0; 3]), ("lock", [1.0; 3])]);
    new.rows[0].figures.cpu_percent = Some(1.0);
    let comparison = compare(&old, &new);
    assert_eq!(comparison.only_old, ["hot: futex"]);
    assert_eq!(comparison.only_new, ["hot: nearcall: CPU", "hot: lock"]);
    let mut other_policy = old.clone();
    other_policy.rows[0].policy = Some("spin".to_owned());
    assert_eq!(compare(&old, &other_policy).only_new, ["hot: nearcall, spin"]);
}

#[test]
fn the_same_file_twice_has_not_changed() {
    let (results, _) = synthetic::results();
    let comparison = compare(&results, &results);
    let Comparison { unchanged, others_unchanged, .. } = comparison;
    assert!(unchanged > 0 && others_unchanged > 0);
    assert_eq!(comparison, Comparison { unchanged, others_unchanged, ..Comparison::default() });
    assert!(printed(&comparison).contains("nothing changed"));
}

#[test]
fn a_whole_run_of_a_slower_machine_is_told_in_120_columns() {
    let (old, _) = synthetic::results();
    let mut new = old.clone();
    for row in &mut new.rows {
        for figures in row.repeats.iter_mut().chain([&mut row.figures]) {
            figures.p50_ns = figures.p50_ns.map(|ns| ns * 3.0);
        }
    }
    let comparison = compare(&old, &new);
    assert!(comparison.faster.is_empty());
    assert!(comparison.slower.len() > 40 && comparison.others.len() > 30);
    printed(&comparison);
}

#[test]
fn what_was_measured_once_is_not_judged() {
    let old = file(&[("nearcall", [100.0; 3])]);
    let mut new = file(&[("nearcall", [200.0; 3])]);
    new.rows[0].repeats.truncate(1);
    let comparison = compare(&old, &new);
    assert_eq!((comparison.unjudged.len(), comparison.slower.len()), (2, 0));
    new.rows[0].figures = old.rows[0].figures;
    assert_eq!(compare(&old, &new).unchanged, 2);
}

#[test]
fn nothing_and_less_than_nothing_have_no_ratio() {
    let mut old = file(&[("overhead", [-20.0, -10.0, -5.0])]);
    let mut new = file(&[("overhead", [10.0, 20.0, 30.0])]);
    for row in old.rows.iter_mut().chain(&mut new.rows) {
        row.figures.per_second = None;
    }
    let comparison = compare(&old, &new);
    assert_eq!(comparison.slower.len(), 1);
    assert!(printed(&comparison).contains("worse"));
}

#[test]
fn another_machine_and_a_busy_one_are_warned_of() {
    let old = file(&[]);
    let mut new = old.clone();
    new.machine.cpu = "another".to_owned();
    new.machine.busy_percent = 37.0;
    let comparison = compare(&old, &new);
    assert_eq!(comparison.warnings.len(), 2);
    assert!(printed(&comparison).contains("Warning: The CPUs differ"));
}

#[test]
fn files_with_fewer_and_other_fields_are_read() {
    let json = r#"{
        "machine": {"cpu": "c", "cpus": 2, "kernel": "6", "python": "3.11", "unix_time": 1,
                    "busy_percent": 0.1, "colour": "grey"},
        "commit": "abc", "weather": [1],
        "rows": [{"case": "hot", "system": "nearcall", "p50_ns": 1500, "p75_ns": {"a": 1}},
                 {"case": "hot", "system": "lock", "repeats": [{"p50_ns": 9, "new": 1}, {}]}]
    }"#;
    let results: Results = serde_json::from_str(json).unwrap();
    assert_eq!(results.rows[0].figures.p50_ns, Some(1500.0));
    assert_eq!(results.rows[1].repeats.len(), 2);
    let comparison = compare(&results, &results);
    assert_eq!((comparison.unchanged, comparison.warnings.len()), (1, 0));
}
