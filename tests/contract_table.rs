//! The contract table (`contract/`) on Rust's hosts, and the table itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::leak_free;
use common::python::pythons;
use common::table::hosts::{AwaitedHost, BlockingHost, WatchedHost};
use common::table::run::{HostFor, run};
use common::table::{Step, Table, WORDS};
use nearcall::error::Code;

/// Runs all cases that are for a host, over the worker without Python and over the first Python.
fn all_cases<H: for<'e> HostFor<'e>>(name: &str) {
    let table = Table::read();
    let pythons = pythons();
    for case in &table.cases {
        if let Some(reason) = case.not_for.get(name) {
            println!("{}: not for {name}: {reason}", case.name);
            continue;
        }
        println!("{}", case.name);
        leak_free(|bench| run::<H>(&table, case, bench.builder("contract")));
        if let Some(python) = pythons.first() {
            leak_free(|bench| {
                let builder = python.builder(bench, "model:Model");
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/contract");
                run::<H>(&table, case, builder.python_path(folder));
            });
        }
    }
}

#[test]
fn a_host_that_blocks_keeps_the_contract() {
    all_cases::<BlockingHost>("rust");
}

#[test]
fn a_host_that_awaits_keeps_the_contract_and_an_event_loop_of_its_own_wakes_it() {
    all_cases::<WatchedHost>("rust_async");
}

#[test]
fn a_host_that_awaits_keeps_the_contract_and_the_library_wakes_it() {
    all_cases::<AwaitedHost>("rust_async");
}

#[test]
fn every_code_is_expected_by_a_case_or_reached_by_a_test_that_is_named() {
    let table = Table::read();
    let steps = table.cases.iter().flat_map(common::table::Case::all_steps);
    let expected: BTreeSet<&str> = steps.filter_map(Step::expected).collect();
    for code in Code::ALL.map(Code::as_str) {
        let elsewhere = table.unreached.get(code);
        assert!(
            expected.contains(code) != elsewhere.is_some(),
            "{code}: it is expected by a case, or stands under `unreached`"
        );
        let files = elsewhere.iter().flat_map(|reason| reason.split([' ', ',']));
        for file in files.filter(|word| word.ends_with(".rs")) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            assert!(path.exists(), "{code}: there is no {file}");
        }
    }
    let words: BTreeSet<_> =
        Code::ALL.map(Code::as_str).into_iter().chain(["ok", "pending"]).collect();
    assert_eq!(expected.difference(&words).collect::<Vec<_>>(), [] as [&&str; 0]);
    assert!(table.unreached.keys().all(|code| words.contains(code.as_str())));
}

#[test]
fn each_case_has_its_own_name_a_promise_and_keys_that_are_made_before_they_are_used() {
    let table = Table::read();
    let mut names = BTreeSet::new();
    for case in &table.cases {
        assert!(names.insert(&case.name), "{} twice", case.name);
        assert!(case.promise.ends_with('.') && !case.promise.contains(['\t', '\n']));
        assert!(case.not_for.keys().all(|host| table.hosts.contains_key(host)), "{}", case.name);
        assert!(case.engine.keys().all(|name| table.engine.contains_key(name)), "{}", case.name);
        let mut keys = BTreeSet::new();
        for step in case.all_steps() {
            match step {
                Step::Submit { r#as: Some(key), .. } => _ = keys.insert(key),
                Step::Forge { r#as, of, .. } => {
                    assert!(keys.contains(of), "{}: {step:?}", case.name);
                    keys.insert(r#as);
                }
                Step::Retrieve { key, .. }
                | Step::Wait { key, .. }
                | Step::Cancel { key, .. }
                | Step::Abandon { key } => assert!(keys.contains(key), "{}: {step:?}", case.name),
                _ => {}
            }
        }
    }
}

#[test]
fn both_models_know_every_op_and_each_hosts_runner_every_step() {
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let knows = |path: &str, word: &str| {
        let text = read(path);
        // As a word, or as the method that does it.
        let forms = [format!("\"{word}\""), format!("'{word}'"), format!("def do_{word}(")];
        assert!(forms.iter().any(|form| text.contains(form)), "{path} does not know {word}");
    };
    let table = Table::read();
    for step in table.cases.iter().flat_map(common::table::Case::all_steps) {
        if let Step::Submit { op, .. } | Step::Call { op, .. } = step {
            knows("contract/model.py", op);
            knows("tests/common/models/contract.rs", op);
        }
    }
    for runner in table.hosts.values() {
        // Rust's is held to them by the compiler.
        if runner.ends_with(".rs") {
            assert!(!read(runner).is_empty());
        } else {
            WORDS.iter().for_each(|word| knows(runner, word));
        }
    }
    let documented = read("contract/README.md");
    for word in WORDS {
        assert!(documented.contains(&format!("| `{word}` |")), "README.md does not tell of {word}");
    }
}
