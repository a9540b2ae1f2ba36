use super::*;
use crate::report::synthetic;

fn row(case: &str, system: &str, workload: &str) -> Row {
    Row {
        case: case.to_owned(),
        system: system.to_owned(),
        workload: Some(workload.to_owned()),
        submitters: Some(1),
        workers: Some(1),
        policy: (["nearcall", "overhead"].contains(&system)).then(|| "adaptive".to_owned()),
        ..Row::default()
    }
}

/// With these figures in three repeats.
fn repeated(row: Row, repeats: [f64; 3], set: impl Fn(&mut Figures, f64)) -> Row {
    let figures = repeats.map(|value| {
        let mut figures = Figures::default();
        set(&mut figures, value);
        figures
    });
    Row { figures: Figures::median(&figures), repeats: figures.into(), ..row }
}

fn p50(row: Row, repeats: [f64; 3]) -> Row {
    repeated(row, repeats, |figures, value| figures.p50_ns = Some(value))
}

fn rate(row: Row, repeats: [f64; 3]) -> Row {
    repeated(row, repeats, |figures, value| figures.per_second = Some(value))
}

/// Figure, measured, and whether it is met.
fn told(rows: &[Row]) -> Vec<(String, String, bool)> {
    targets(rows).into_iter().map(|t| (t.figure, t.measured, t.met)).collect()
}

fn expected(figure: &str, measured: &str, met: bool) -> Vec<(String, String, bool)> {
    vec![(figure.to_owned(), measured.to_owned(), met)]
}

#[test]
fn an_overhead_is_held_against_the_limit_of_its_own_repeat() {
    let mut overhead = row("hot", "overhead", "noop");
    overhead.figures = Figures {
        p50_ns: Some(540.0),
        p99_ns: Some(1_010.0),
        cache_line_ns: Some(300.0),
        of_limit: Some(0.9),
        ..Figures::default()
    };
    let spin = Row { policy: Some("spin".to_owned()), ..overhead.clone() };
    let mut all = expected(
        "hot overhead, p50, noop",
        "0.90 of the limit (540 ns; a round trip: 300 ns)",
        true,
    );
    all.extend(expected("hot overhead, p99, noop", "1.01 µs", false));
    assert_eq!(told(&[spin, overhead]), all);
}

#[test]
fn a_ratio_is_taken_within_each_repeat() {
    // The machine halves its speed in the middle: the medians alone would say 0.5.
    let ours = p50(row("growth", "nearcall", "noop"), [100.0, 200.0, 210.0]);
    let few = Row { slots: Some(64), ..ours.clone() };
    let many = Row { slots: Some(65_535), ..p50(ours, [105.0, 104.0, 220.0]) };
    let figure = "65,535 slots instead of 64, noop, p50";
    assert_eq!(told(&[few.clone(), many.clone()]), expected(figure, "1.05 times", true));
    assert_eq!(told(&[few]), []);
    assert_eq!(told(&[many]), []);
}

#[test]
fn rates_are_held_against_those_of_one_process() {
    let one = row("throughput", "nearcall", "big_model");
    let pipelined = Row { pipelined: Some(32), ..rate(one.clone(), [9e5, 9.4e5, 9.6e5]) };
    let noops = Row { workload: Some("noop".to_owned()), ..rate(pipelined.clone(), [3e6; 3]) };
    let alone = rate(row("throughput", "in-process", "big_model"), [1e6; 3]);
    let by = |submitters, per_second| Row {
        submitters: Some(submitters),
        workers: Some(2),
        ..rate(one.clone(), [per_second; 3])
    };
    let kept = row("throughput", "in-process, thread state kept", "big_model");
    let kept = Row { submitters: Some(16), ..rate(kept, [3e5; 3]) };
    let rows = [pipelined, noops, alone, by(16, 6.6e5), by(64, 4.4e5), kept];
    let mut all = expected("one worker, pipelined, noop", "3.00 M/s", true);
    all.extend(expected("one worker, pipelined, big_model", "94 % (940 k/s)", false));
    let figure = "16 blocking submitters, 2 workers, big_model";
    all.extend(expected(figure, "2.20 times (660 k/s)", true));
    let figure = "64 blocking submitters, 2 workers, big_model";
    all.extend(expected(figure, "66.7 % (440 k/s)", false));
    assert_eq!(told(&rows), all);
}

#[test]
fn rivals_call_one_at_a_time_and_parked_pairs_at_the_same_rate() {
    let ours = p50(row("rivals", "nearcall", "big_model"), [1_500.0; 3]);
    let socket = p50(row("rivals", "unix socket + msgpack", "big_model"), [22_500.0; 3]);
    let window = Row { pipelined: Some(32), ..p50(socket.clone(), [1e6; 3]) };
    let mut all = expected("unix socket + msgpack, big_model, p50", "15.0 times faster", true);
    let at = |system, period, ns| Row {
        period_ms: Some(period),
        ..p50(row("parked", system, "noop"), [ns; 3])
    };
    let parked = [
        at("nearcall", 10.0, 55e3),
        at("nearcall", 1_000.0, 56e3),
        at("futex + python", 100.0, 40e3),
        at("futex + python", 10.0, 50e3),
    ];
    all.extend(expected("parked, each 10 ms, noop, p50", "1.10 times", true));
    let rows: Vec<Row> = [window, socket, ours].into_iter().chain(parked).collect();
    assert_eq!(told(&rows), all);
}

#[test]
fn arrays_are_held_against_their_sizes_the_sum_alone_and_a_copy() {
    let array = |system, workload, variant: &str| Row {
        variant: (!variant.is_empty()).then(|| variant.to_owned()),
        ..row("tensors", system, workload)
    };
    // The machine halves its speed in the middle: the medians alone would say 1.1.
    let first = |repeats| p50(array("nearcall", "first", "in place"), repeats);
    let sizes = [first([1e3, 2e3, 2e3]), first([1.6e3, 3.2e3, 2.2e3]), first([1.2e3, 2e3, 2e3])];
    let figure = "array in place, 1 KiB to 16 MiB, x[0], p50";
    let mut all = expected(figure, "within 1.60 times (2.00 µs, 2.20 µs, 2.00 µs)", false);
    // Copied, it grows as it may.
    let copied = p50(array("nearcall", "first", "copied"), [1e6; 3]);
    assert_eq!(told(&[&sizes[..], std::slice::from_ref(&copied)].concat()), all);
    assert_eq!(told(&[copied]), []);

    let speed = |row, repeats| repeated(row, repeats, |f, value| f.bytes_per_second = Some(value));
    let ours = speed(array("nearcall", "sum", "in place, huge pages"), [7.6e9, 9e9, 7.7e9]);
    let in_small = speed(array("nearcall", "sum", "in place"), [5.6e9, 7e9, 5.6e9]);
    let alone = speed(array("in-process", "sum", "memory as numpy takes it"), [8e9, 10e9, 8e9]);
    let small = speed(array("in-process", "sum", "small pages"), [5.6e9, 7e9, 5.6e9]);
    let spin = Row { policy: Some("spin".to_owned()), ..ours.clone() };
    let measured = "95 % (7.70 GB/s; spinning 95 %; small pages 70 %; beside small ones 100 %)";
    all.extend(expected("16 MiB summed by numpy, in place, huge pages", measured, true));
    let back = p50(array("overhead", "scaled", "in place, answer reused"), [5.2e6, 2.5e6, 5.2e6]);
    let warm = p50(array("memcpy", "", "warm memory"), [4e6, 2e6, 4.2e6]);
    let figure = "16 MiB answer, in place, answer reused, p50 less the model's own";
    all.extend(expected(figure, "1.25 times (5.20 ms)", true));
    let fresh = p50(array("overhead", "scaled", "in place, fresh answer"), [5.2e6, 3e6, 5.46e6]);
    let cold = p50(array("memcpy", "", "fresh memory"), [9e6; 3]);
    let figure = "16 MiB answer, in place, fresh answer, p50 less the model's own";
    all.extend(expected(figure, "1.30 times (5.20 ms)", false));
    assert_eq!(
        told(
            &[&sizes[..], &[cold, fresh, warm, back, small, alone, in_small, spin, ours]].concat()
        ),
        all
    );
}

#[test]
fn an_idle_engine_is_below_a_thousandth_of_a_cpu() {
    let mut idle = Row { variant: Some("idle".to_owned()), ..row("cost", "nearcall", "noop") };
    idle.figures.cpu_percent = Some(0.1);
    assert_eq!(told(&[idle]), expected("idle engine, adaptive", "0.10 %", false));
}

#[test]
fn nothing_is_told_of_nothing_and_all_fits_the_terminal() {
    assert_eq!(targets(&[]), []);
    let printed = |targets: &[Target]| {
        let mut text = Vec::new();
        print(targets, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(printed(&[]), "");
    let (results, _) = synthetic::results();
    let text = printed(&targets(&results.rows));
    println!("{text}");
    assert!(text.contains("met") && text.lines().all(|line| line.chars().count() <= WIDTH));
}

use crate::table::WIDTH;
