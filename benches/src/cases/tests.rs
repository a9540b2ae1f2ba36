use super::*;
use crate::report::labels;
use crate::rows::Row;

/// The rows of all cases.
fn rows(quick: bool) -> Vec<Row> {
    let plans = NAMES.into_iter().flat_map(|case| plan(case, quick));
    plans.flat_map(|group| group.rows).collect()
}

fn has(rows: &[Row], name: &str) {
    let names: Vec<String> = rows.iter().map(labels::full).collect();
    assert!(names.iter().any(|full| full == name), "{name} is not among\n{}", names.join("\n"));
}

#[test]
fn no_two_rows_have_the_same_name() {
    for quick in [false, true] {
        let mut names: Vec<String> = rows(quick).iter().map(labels::full).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}

#[test]
fn every_case_has_what_it_is_for() {
    let rows = rows(false);
    for policy in ["adaptive", "spin", "park"] {
        for workload in ["noop", "big_model"] {
            for system in ["nearcall", "overhead"] {
                has(
                    &rows,
                    &format!(
                        "hot: {system}, {workload}, {policy}, 1 submitter, 1 worker, 64 slots"
                    ),
                );
            }
            let name =
                format!("cost: nearcall, {workload}, {policy}, 1 submitter, 1 worker, 64 slots");
            has(&rows, &name);
        }
        let name = format!(
            "throughput: nearcall, big_model, {policy}, 16 submitters, 2 workers, 64 slots"
        );
        has(&rows, &name);
    }
    has(&rows, "hot: in-process, noop, 1 submitter");
    for variant in ["gc between calls", "gc as Python has it"] {
        let name =
            format!("hot: nearcall, garbage, spin, 1 submitter, 1 worker, 64 slots, {variant}");
        has(&rows, &name);
    }
    for limit in ["cache-line", "futex", "lock"] {
        has(&rows, &format!("limits: {limit}"));
    }
    for load in [10, 30, 50, 70, 90] {
        let name = format!(
            "load: nearcall, big_model, adaptive, 1 submitter, 2 workers, 64 slots, {load} % load"
        );
        has(&rows, &name);
    }
    has(&rows, "cost: nearcall, noop, adaptive, 1 worker, 64 slots, idle");
    has(&rows, "cost: nearcall, noop, park, 1 worker, 64 slots, idle");
    has(&rows, "cost: python3 -c, big_model, start");
    has(&rows, "cost: nearcall, big_model, adaptive, 1 submitter, 1 worker, 64 slots, start");
}

#[test]
fn parked_calls_stand_beside_futexes_at_the_same_rate() {
    let rows = rows(false);
    for (period, workloads) in
        [("10 ms", &["noop", "big_model"][..]), ("100 ms", &["big_model"]), ("1 s", &["big_model"])]
    {
        has(&rows, &format!("parked: futex, each {period}"));
        for workload in workloads {
            has(&rows, &format!("parked: futex + python, {workload}, each {period}"));
            for policy in ["adaptive", "park"] {
                let name = format!(
                    "parked: nearcall, {workload}, {policy}, 1 submitter, 1 worker, 64 slots, each {period}"
                );
                has(&rows, &name);
            }
        }
    }
}

#[test]
fn throughput_and_growth_go_through_all_sizes() {
    let rows = rows(false);
    for workload in ["noop", "big_model"] {
        for (submitters, said) in [(1, ""), (4, "s"), (16, "s"), (64, "s")] {
            for workers in ["1 worker", "2 workers"] {
                let name = format!(
                    "throughput: nearcall, {workload}, adaptive, {submitters} submitter{said}, {workers}, 64 slots"
                );
                has(&rows, &name);
            }
            if submitters < 64 {
                let kept = "throughput: in-process, thread state kept";
                has(&rows, &format!("{kept}, {workload}, {submitters} submitter{said}"));
            }
        }
        let ours = "adaptive, 1 submitter, 1 worker, 64 slots, 32 pipelined";
        has(&rows, &format!("throughput: nearcall, {workload}, {ours}"));
        has(&rows, &format!("throughput: in-process, {workload}, 1 submitter"));
    }
    for slots in ["64", "1,024", "16,384", "65,535"] {
        let name =
            format!("growth: nearcall, noop, adaptive, 1 submitter, 1 worker, {slots} slots");
        has(&rows, &name);
    }
    let payloads = rows.iter().filter(|row| row.case == "growth" && row.system == "nearcall");
    let payloads: Vec<_> = payloads.filter_map(|row| row.payload_bytes).collect();
    assert_eq!(payloads, [64, 256, 1024, 4096, 65_536, 1 << 20, 15 << 20]);
    for (workers, said) in [(1, ""), (2, "s"), (4, "s"), (8, "s"), (16, "s")] {
        let name = format!(
            "growth: nearcall, big_model, adaptive, 16 submitters, {workers} worker{said}, 64 slots"
        );
        has(&rows, &name);
    }
}

#[test]
fn arrays_stand_beside_copies_of_them_and_of_as_many_bytes() {
    let rows = rows(false);
    let one = "1 submitter, 1 worker, 64 slots";
    let ours = format!("adaptive, {one}");
    for size in ["1 KiB", "64 KiB", "1 MiB", "16 MiB"] {
        for sent in ["in place", "copied"] {
            has(&rows, &format!("tensors: nearcall, first, spin, {one}, {size}, {sent}"));
        }
    }
    for policy in ["adaptive", "spin"] {
        for pages in ["", ", huge pages"] {
            let name = format!("tensors: nearcall, sum, {policy}, {one}, 16 MiB, in place{pages}");
            has(&rows, &name);
        }
    }
    for memory in ["memory as numpy takes it", "small pages"] {
        has(&rows, &format!("tensors: in-process, sum, 16 MiB, {memory}"));
    }
    for back in [
        "in place, answer reused",
        "in place, fresh answer",
        "in place, huge pages, answer reused",
        "copied, answer reused",
        "copied, fresh answer",
    ] {
        for system in ["nearcall", "overhead"] {
            has(&rows, &format!("tensors: {system}, scaled, {ours}, 16 MiB, {back}"));
        }
    }
    for memory in ["warm", "fresh"] {
        has(&rows, &format!("tensors: memcpy, 16 MiB, {memory} memory"));
    }
}

#[test]
fn rivals_stand_behind_the_engine() {
    let rows: Vec<Row> = plan("rivals", false).into_iter().flat_map(|group| group.rows).collect();
    for workload in ["big_model", "noop"] {
        let first = rows.iter().find(|row| row.workload.as_deref() == Some(workload)).unwrap();
        let name =
            format!("rivals: nearcall, {workload}, adaptive, 1 submitter, 1 worker, 64 slots");
        assert_eq!(labels::full(first), name);
        for rival in [
            "multiprocessing.Pool",
            "ProcessPoolExecutor",
            "unix socket + msgpack",
            "zeromq ipc",
            "iceoryx2, spinning",
            "iceoryx2, blocking",
        ] {
            has(&rows, &format!("rivals: {rival}, {workload}, 1 submitter, 2 workers"));
        }
        let window = "1 submitter, 2 workers, 32 pipelined";
        has(&rows, &format!("rivals: unix socket + msgpack, {workload}, {window}"));
        for threads in ["1 submitter", "4 submitters", "16 submitters"] {
            for way in ["thread state kept", "plain attach"] {
                has(&rows, &format!("rivals: in-process, {way}, {workload}, {threads}"));
            }
        }
    }
    for submitters in [4, 16] {
        let name =
            format!("rivals: multiprocessing.Pool, big_model, {submitters} submitters, 2 workers");
        has(&rows, &name);
    }
}

#[test]
fn a_quick_run_is_a_part_of_a_full_one() {
    let all: Vec<String> = rows(false).iter().map(labels::full).collect();
    for row in rows(true) {
        assert!(all.contains(&labels::full(&row)), "{}", labels::full(&row));
    }
    let quick = QUICK.into_iter().flat_map(|case| plan(case, true)).collect::<Vec<_>>();
    assert!(quick.iter().all(|group| group.repeats == 5));
    assert!(plan("nothing", true).is_empty());
}

#[test]
fn only_what_runs_elsewhere_needs_a_program() {
    use crate::ground::Program;

    let needs =
        |case: &str, program| plan(case, false).iter().any(|group| group.needs == Some(program));
    let yardstick: Vec<_> =
        NAMES.into_iter().filter(|case| needs(case, Program::Yardstick)).collect();
    assert_eq!(yardstick, ["hot", "limits", "parked", "throughput", "growth", "rivals"]);
    let rivals: Vec<_> = NAMES.into_iter().filter(|case| needs(case, Program::Rivals)).collect();
    assert_eq!(rivals, ["rivals"]);
}
