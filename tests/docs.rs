//! What the documents say of the code: the README's example and its flags, the tests that
//! `docs/architecture.md` names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

use nearcall::error::{RetrieveError, SubmitError, TaskError, TaskMismatch, WaitError};
use nearcall::{Exit, Key, PythonError, Refusal};

const README: &str = include_str!("../README.md");

#[test]
fn the_example_in_the_readme_is_the_one_that_compiles() {
    let (_, block) = README.split_once("```rust\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert_eq!(block, include_str!("../examples/quickstart.rs"));
}

/// Whether a table's row starts with this flag and names this variant.
fn has_row(table: &str, flag: i32, variant: &str) -> bool {
    let (start, name) = (format!("| {flag} |"), format!("`{variant}`"));
    table.lines().any(|line| line.starts_with(&start) && line.contains(&name))
}

#[test]
fn the_flags_in_the_readme_are_those_of_the_errors() {
    let (_, flags) = README.split_once("## The seed's flags").unwrap();
    let (submit, retrieve) = flags.split_once("`retrieve` (and `wait`):").unwrap();
    let mismatch = TaskMismatch::Count { expected: 1, found: 0, names: String::new() };
    for (error, variant) in [
        (SubmitError::Full { slots: 1 }, "SubmitError::Full"),
        (SubmitError::Mismatch(mismatch), "SubmitError::Mismatch"),
        (SubmitError::TooLarge { needed: 2, room: 1 }, "SubmitError::TooLarge"),
        (SubmitError::Closed { reason: String::new() }, "SubmitError::Closed"),
        (SubmitError::Unavailable { reason: String::new() }, "SubmitError::Unavailable"),
        (SubmitError::ForkedChild, "SubmitError::ForkedChild"),
    ] {
        assert!(has_row(submit, error.flag(), variant), "{} {variant}", error.flag());
    }
    let key = Key::from_number(1 << 16).unwrap();
    let python = PythonError::new("", "");
    for (error, variant) in [
        (TaskError::Python(python).into(), "TaskError::Python"),
        (TaskError::Refused(Refusal::MalformedTask).into(), "TaskError::Refused"),
        (
            TaskError::Died { pid: 1, exit: Exit::Unknown, report: Box::default() }.into(),
            "TaskError::Died",
        ),
        (TaskError::Closed.into(), "TaskError::Closed"),
        (TaskError::DeadlinePassed.into(), "TaskError::DeadlinePassed"),
        (TaskError::Cancelled.into(), "TaskError::Cancelled"),
        (TaskError::Unavailable { reason: String::new() }.into(), "TaskError::Unavailable"),
        (TaskError::Corrupt { detail: "" }.into(), "TaskError::Corrupt"),
        (RetrieveError::AlreadyRetrieved { key }, "RetrieveError::AlreadyRetrieved"),
        (RetrieveError::Unknown { key }, "RetrieveError::Unknown"),
        (RetrieveError::ForkedChild, "RetrieveError::ForkedChild"),
    ] {
        assert!(has_row(retrieve, error.flag(), variant), "{} {variant}", error.flag());
        assert_eq!(WaitError::Retrieve(error.clone()).flag(), error.flag());
    }
    assert!(has_row(retrieve, WaitError::TimedOut.flag(), "WaitError::TimedOut"));
}

#[test]
fn every_test_and_point_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let page = read("docs/architecture.md");
    let quoted: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let mut tests = 0;
    for name in &quoted {
        let Some((file, test)) = name.split_once(".rs::") else { continue };
        let path = format!("tests/{file}.rs");
        assert!(read(&path).contains(&format!("\nfn {test}(")), "{path} has no test {test}");
        tests += 1;
    }
    assert!(tests >= 15, "only {tests} names of tests were recognised");
    let code: String =
        ["src/ring/consumer.rs", "src/peer/serve.rs", "src/peer/server.rs"].map(read).concat();
    for point in code.split("faults::point(\"").skip(1) {
        let point = point.split('"').next().unwrap();
        assert!(quoted.contains(&point), "docs/architecture.md does not name the point {point}");
    }
}
