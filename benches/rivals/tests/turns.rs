//! Each system through the program, as the benchmark runs it: right answers, wrong ones, and what
//! is left behind.
//!
//! `NEARCALL_RIVALS_PYTHON` is the Python with the packages (`scripts/rivals` makes it); a system
//! whose package is not there is skipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{ALL, PIPELINED, Rivals, order, processes_below, shared_memory_of, wait_until_ended};
use nearcall_bench::measure::{Span, Turn};
use nearcall_bench::workload::{Models, Workload};

const SHORT: Span = Span { warm_up: 0.0, measured: 0.02 };
const LONG: Span = Span { warm_up: 0.0, measured: 60.0 };

fn done(reply: &mut serde_json::Value) -> Option<Turn> {
    if let Some(why) = reply.get("Skipped") {
        println!("SKIPPED: {why}");
        return None;
    }
    let turn = serde_json::from_value(reply["Done"].take());
    Some(turn.unwrap_or_else(|why| panic!("{why}: {reply}")))
}

#[test]
fn every_system_answers_every_submitter_and_leaves_nothing() {
    let models = Models::unpack().unwrap();
    let mut rivals = Rivals::start();
    for system in ALL {
        for workload in [Workload::Noop, Workload::BigModel] {
            for submitters in [1, 5] {
                let order = order(system, workload, submitters, SHORT, &models.path());
                let Some(turn) = done(&mut rivals.run(&order)) else { continue };
                assert!(turn.latencies.count() >= submitters as u64, "{system}");
                assert!(turn.seconds >= SHORT.measured, "{system}");
                assert!(turn.cpu_seconds.unwrap() > 0.0, "{system}");
                rivals.assert_nothing_left(system);
            }
        }
    }
}

#[test]
fn pipelined_calls_are_answered_from_both_workers() {
    let models = Models::unpack().unwrap();
    let mut rivals = Rivals::start();
    for system in PIPELINED {
        // Fewer than workers, and more than a worker reads at once.
        for depth in [1, 100] {
            let mut order = order(system, Workload::Noop, 1, SHORT, &models.path());
            order.pipelined = Some(depth);
            let Some(turn) = done(&mut rivals.run(&order)) else { continue };
            assert!(turn.latencies.count() >= depth as u64, "{system}");
            rivals.assert_nothing_left(system);
        }
    }
}

/// `noop` is right for the first call of each of three submitters, and wrong for the second.
const WRONG: &str = r#"
class Model:
    def noop(self, *, number):
        return number + (number > 2)

    def big_model(self, *, float_features, str_features, int_feature):
        return 49, "not empty"
"#;

#[test]
fn a_wrong_answer_is_an_error_that_names_the_system() {
    let models = tempfile::tempdir().unwrap();
    fs::write(models.path().join("bench_model.py"), WRONG).unwrap();
    let mut rivals = Rivals::start();
    for system in ALL {
        for workload in [Workload::Noop, Workload::BigModel] {
            let reply = rivals.run(&order(system, workload, 3, SHORT, models.path()));
            if let Some(why) = reply.get("Skipped") {
                println!("SKIPPED: {why}");
                continue;
            }
            let why = reply["Failed"].as_str().unwrap_or_else(|| panic!("{system}: {reply}"));
            assert!(why.starts_with(system) && why.contains("a wrong answer"), "{why}");
            rivals.assert_nothing_left(system);
        }
    }
}

#[test]
fn a_model_that_fails_is_an_error() {
    let models = tempfile::tempdir().unwrap();
    fs::write(models.path().join("bench_model.py"), "class Model: pass").unwrap();
    let mut rivals = Rivals::start();
    for system in ALL {
        let reply = rivals.run(&order(system, Workload::Noop, 2, SHORT, models.path()));
        assert!(reply.get("Failed").or(reply.get("Skipped")).is_some(), "{system}: {reply}");
        rivals.assert_nothing_left(system);
    }
}

#[test]
fn no_process_outlives_the_program_when_it_is_killed() {
    let models = Models::unpack().unwrap();
    let mut killed = Vec::new();
    for system in ALL {
        let mut rivals = Rivals::start();
        rivals.begin(&order(system, Workload::Noop, 2, LONG, &models.path()));
        let Some(below) = rivals.wait_for_workers(2) else {
            println!("SKIPPED: {system} does not start");
            continue;
        };
        rivals.kill();
        wait_until_ended(&below, system);
        killed.push(rivals.pid());
    }
    // What iceoryx2 keeps in memory goes with the next turn of it.
    let mut rivals = Rivals::start();
    let order = order("iceoryx2, spinning", Workload::Noop, 1, SHORT, &models.path());
    if done(&mut rivals.run(&order)).is_some() {
        assert!(killed.iter().all(|killed| shared_memory_of(*killed).is_empty()));
    }
}

#[test]
fn what_is_not_there_is_skipped_and_what_is_unknown_fails() {
    let models = Models::unpack().unwrap();
    let mut rivals = Rivals::start();
    let mut without = order("zeromq ipc", Workload::Noop, 1, SHORT, &models.path());
    // No Python at all, but it starts, and has no module.
    without.python = Path::new("/bin/false").to_owned();
    let reply = rivals.run(&without);
    assert!(reply["Skipped"].as_str().unwrap().contains("/bin/false"), "{reply}");
    let unknown = order("carrier pigeon", Workload::Noop, 1, SHORT, &models.path());
    assert!(rivals.run(&unknown)["Failed"].as_str().unwrap().contains("carrier pigeon"));
    assert!(processes_below(rivals.pid()).is_empty());
}
