//! What the documents say of the code: the README's example and its flags, the tests that
//! `docs/architecture.md` and `docs/reliability.md` name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

use nearcall::error::{
    RetrieveError, SubmitError, TaskError, TaskMismatch, TensorError, WaitError,
};
use nearcall::{Exit, Key, PythonError, Refusal};

const README: &str = include_str!("../README.md");

#[test]
fn the_example_in_the_readme_is_the_one_that_compiles() {
    let (_, block) = README.split_once("```rust\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert_eq!(block, include_str!("../examples/quickstart.rs"));
}

#[test]
fn the_program_on_the_page_of_async_rust_is_the_one_that_is_run() {
    let page = read("docs/host-rust-async.md");
    let (_, block) = page.split_once("```rust,no_run\n").unwrap();
    let (block, _) = block.split_once("```\n").unwrap();
    assert_eq!(block, read("examples/awaited.rs"));
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
        (SubmitError::Submitted, "SubmitError::Submitted"),
        (SubmitError::Tensor(TensorError::Rank { found: 33, limit: 32 }), "SubmitError::Tensor"),
        (SubmitError::TooLarge { needed: 2, room: 1 }, "SubmitError::TooLarge"),
        (
            SubmitError::NoSharedMemory { needed: 2, available: 1, total: 1 },
            "SubmitError::NoSharedMemory",
        ),
        (SubmitError::System { action: "", reason: String::new() }, "SubmitError::System"),
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

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What stands between backquotes.
fn quoted(page: &str) -> Vec<&str> {
    page.split('`').skip(1).step_by(2).collect()
}

/// Looks each `file.rs::test` up, which is in `tests/` unless it says where. Gives their number.
fn find_tests(quoted: &[&str]) -> usize {
    let mut tests = 0;
    for name in quoted {
        let Some((file, test)) = name.split_once(".rs::") else { continue };
        let folder = if file.contains('/') { "" } else { "tests/" };
        let path = format!("{folder}{file}.rs");
        let head = format!("fn {test}()");
        let code = read(&path);
        let is_there = code.lines().scan(false, |after_mark, line| {
            let found = *after_mark && line.trim_start().starts_with(&head);
            *after_mark = line.trim() == "#[test]" || (*after_mark && line.trim().starts_with('#'));
            Some(found)
        });
        assert!(is_there.into_iter().any(|found| found), "{path} has no test {test}");
        tests += 1;
    }
    tests
}

#[test]
fn every_test_that_the_promises_name_exists() {
    let page = read("docs/reliability.md");
    let tests = find_tests(&quoted(&page));
    assert!(tests >= 40, "only {tests} names of tests were recognised");
    // Each promise has one, or the verb that has it.
    let (_, promises) = page.split_once("## The promises").unwrap();
    let (promises, _) = promises.split_once("\n## ").unwrap();
    let mut numbers = Vec::new();
    for row in promises.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let Ok(number) = cells[0].trim_start_matches("| ").parse::<u32>() else { continue };
        numbers.push(number);
        assert_eq!(cells.len(), 5, "{row}");
        let tested = [".rs::", "`make ", "the same test"].iter().any(|by| cells[3].contains(by));
        assert!(tested, "no test: {row}");
    }
    numbers.dedup();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>(), "the promises");
}

#[test]
fn every_test_that_the_page_on_memory_names_exists() {
    let page = read("docs/memory.md");
    for test in quoted(&page).into_iter().filter(|name| name.starts_with("workers_have_")) {
        assert!(read("tests/python.rs").contains(&format!("fn {test}()")), "{test}");
    }
}

#[test]
fn every_reason_for_which_the_engine_kills_is_told() {
    let page = read("docs/reliability.md");
    let (_, reasons) = page.split_once("### Why the engine kills a worker").unwrap();
    let (reasons, _) = reasons.split_once("\n## ").unwrap();
    let mut found = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/host/supervisor");
    for file in fs::read_dir(folder).unwrap() {
        let code = fs::read_to_string(file.unwrap().path()).unwrap();
        for mark in [".kill(\"", ": &str = \""] {
            for reason in code.split(mark).skip(1) {
                let reason = reason.split('"').next().unwrap();
                assert!(reasons.contains(&format!("\n| {reason} |")), "{reason:?}");
                found += 1;
            }
        }
    }
    assert_eq!(found, 9, "reasons in the code");
    assert_eq!(reasons.matches("\n| ").count(), found + 1, "rows, with the head");
}

#[test]
fn every_test_and_point_that_the_architecture_names_exists() {
    let page = read("docs/architecture.md");
    let quoted = quoted(&page);
    let tests = find_tests(&quoted);
    assert!(tests >= 15, "only {tests} names of tests were recognised");
    let code: String =
        ["src/ring/consumer.rs", "src/peer/serve.rs", "src/peer/server.rs"].map(read).concat();
    let mut points = between(&code, "faults::point(\"");
    for (index, point) in points.iter().enumerate() {
        assert!(!points[..index].contains(point), "the point {point} is in two places");
        assert!(quoted.contains(point), "docs/architecture.md does not name the point {point}");
    }
    // The crash matrix has those, and the model's: it would wait in vain at one that nobody comes to.
    let (worker, matrix) = (
        read("tests/common/worker.rs"),
        ["tests/crash_matrix.rs", "tests/crash_others.rs"].map(read).concat(),
    );
    points.extend(between(&worker, "fault_point(\""));
    for point in &points {
        let tested = matrix.contains(&format!("\"{point}"));
        assert!(tested, "the crash matrix does not have the point {point}");
    }
    for room in ["claim.", "serve.", "start.", "end.", "server.", "model."] {
        for rest in between(&matrix, &format!("\"{room}")) {
            let point = format!("{room}{rest}");
            let point = point.split('=').next().unwrap();
            assert!(points.contains(&point), "no code has the point {point}");
        }
    }
}

/// What stands between this and the next quotation mark, each time.
fn between<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}
