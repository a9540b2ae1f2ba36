//! Workers that are an environment's own interpreter, by the package that is installed there: for every
//! environment in `$NEARCALL_TEST_PACKAGES` (see `scripts/python-tests`, which sets it).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::{Bench, PATIENCE, death, leak_free, wait_until};
use nearcall::{Builder, Engine, Exit, Signature, StartMethod, Task};

/// An environment with the package.
struct Environment {
    minor: String,
    folder: PathBuf,
}

impl Environment {
    fn builder(&self, bench: &Bench, model: &str) -> Builder {
        bench
            .mark(Engine::builder(model))
            .worker_from_python()
            .python(&self.folder)
            .python_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models"))
            .workers(2)
            .start_deadline(PATIENCE)
    }
}

fn each(test: impl Fn(&Bench, &Environment)) {
    let Ok(environments) = std::env::var("NEARCALL_TEST_PACKAGES") else {
        eprintln!("SKIPPED: no $NEARCALL_TEST_PACKAGES; `scripts/python-tests` sets it");
        return;
    };
    for environment in environments.split(';') {
        let (minor, folder) = environment.split_once('=').unwrap();
        let environment = Environment { minor: minor.to_owned(), folder: folder.into() };
        leak_free(|bench| test(bench, &environment));
    }
}

#[test]
fn one_package_serves_each_environment_that_has_it() {
    each(|bench, python| {
        let engine = python.builder(bench, "promises:environment").start().unwrap();
        let answer = engine.call(&Task::new(), PATIENCE).unwrap();
        assert_eq!(Path::new(answer.str(0).unwrap()), python.folder);
        assert_eq!(answer.str(2), Ok(python.minor.as_str()));
        let report = engine.start_report().unwrap();
        assert!(report.forked);
        assert_eq!(report.python.as_ref(), Some(&report.worker));
        assert!(report.worker.starts_with(&python.folder), "{report:?}");
    });
}

#[test]
fn workers_from_scratch_are_started_by_the_interpreter_too() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:environment");
        let engine = builder.start_method(StartMethod::Spawn).start().unwrap();
        assert!(!engine.start_report().unwrap().forked);
        let answer = engine.call(&Task::new(), PATIENCE).unwrap();
        assert_eq!(Path::new(answer.str(0).unwrap()), python.folder);
    });
}

#[test]
fn a_shim_leads_to_the_interpreter_itself() {
    each(|bench, python| {
        let folder = std::env::temp_dir().join(format!("nearcall-shim-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let shim = folder.join("python");
        let text = format!("#!/bin/sh\nexec {}/bin/python \"$@\"\n", python.folder.display());
        std::fs::write(&shim, text).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&shim, permissions).unwrap();
        let started = python.builder(bench, "promises:environment").python(&shim).start();
        std::fs::remove_dir_all(&folder).unwrap();
        let engine = started.unwrap();
        assert!(engine.start_report().unwrap().worker.starts_with(&python.folder));
        assert!(engine.call(&Task::new(), PATIENCE).is_ok());
    });
}

#[test]
fn a_worker_that_dies_is_replaced_and_a_crash_leaves_pythons_stacks() {
    each(|bench, python| {
        let builder = python.builder(bench, "promises:crash");
        let engine = builder.signature(Signature::new().str("how")).workers(1).start().unwrap();
        let before = engine.worker_pids();
        let (exit, report) = death(&engine, &Task::new().str("SIGSEGV"));
        assert!(matches!(exit, Exit::Signal(_)), "{exit}");
        assert!(
            report.python_stack().is_some_and(|stack| stack.contains("in crash")),
            "{report:?}"
        );
        wait_until("replaced", || {
            let now = engine.worker_pids();
            if now.is_empty() || now == before { Err(format!("{now:?}")) } else { Ok(()) }
        });
    });
}
