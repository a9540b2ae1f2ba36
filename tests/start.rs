//! Starts that fail: each says why, ends within its deadline, and leaves nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{PATIENCE, leak_free};
use nearcall::error::StartError;
use nearcall::{Builder, Engine, Exit, Signature, StartMethod, Task};

/// A folder for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// An executable script.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn failed(builder: Builder) -> StartError {
    match builder.start() {
        Ok(engine) => panic!("started: {engine:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_model_that_cannot_be_imported_or_initialised_fails_the_start_with_its_error() {
    leak_free(|bench| {
        let error = failed(bench.builder("import_raises"));
        assert!(matches!(&error, StartError::Import { error } if error.kind == "ImportError"));
        assert!(error.to_string().contains("as asked"), "{error}");
        let error = failed(bench.builder("initialize_raises"));
        assert!(
            matches!(&error, StartError::Initialize { error, .. } if error.kind == "ValueError")
        );
        assert!(error.to_string().contains("could not initialise the model"), "{error}");
    });
}

#[test]
fn a_process_that_dies_during_the_start_fails_it_with_who_and_how() {
    leak_free(|bench| {
        let error = failed(bench.builder("import_dies"));
        assert!(matches!(&error, StartError::Died { who, .. } if who == "the fork server"));
        assert!(error.to_string().contains("importing the model"), "{error}");
        let error = failed(bench.builder("initialize_dies"));
        assert!(
            matches!(&error, StartError::Died { who, exit: Exit::Signal(6), .. } if who.starts_with("worker")),
            "{error}"
        );
    });
}

#[test]
fn a_start_ends_at_its_deadline_with_what_it_was_doing() {
    for (model, doing) in
        [("import_hangs", "importing the model"), ("initialize_hangs", "initialising the workers")]
    {
        leak_free(|bench| {
            let begun = Instant::now();
            let deadline = Duration::from_millis(300);
            let error = failed(bench.builder(model).start_deadline(deadline));
            assert!(
                matches!(error, StartError::TimedOut { stage, .. } if stage == doing),
                "{error}"
            );
            // Promised: the deadline and what ending everything takes, a second.
            assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
        });
    }
}

#[test]
fn an_import_that_starts_threads_makes_workers_from_scratch_or_refuses_as_configured() {
    leak_free(|bench| {
        let signature = Signature::new().int("x");
        let builder = bench.builder("import_threads").signature(signature);
        let engine = builder.clone().start().unwrap();
        let report = engine.start_report().unwrap();
        assert_eq!((report.forked, report.import_threads), (false, 2));
        assert_eq!(report.suspect.as_deref(), Some("busybody"));
        assert_eq!(engine.call(&Task::new().int(4), PATIENCE).unwrap().int(0), Ok(4));
        drop(engine);

        let error = failed(builder.start_method(StartMethod::Fork));
        assert!(matches!(error, StartError::Threads { threads: 2, .. }));
        assert!(error.to_string().contains("busybody"), "{error}");
    });
}

#[test]
fn workers_from_scratch_serve_die_and_are_replaced_like_forked_ones() {
    leak_free(|bench| {
        let builder = bench.builder("die").signature(Signature::new().int("how"));
        let engine = builder.start_method(StartMethod::Spawn).start().unwrap();
        assert!(!engine.start_report().unwrap().forked);
        assert!(engine.call(&Task::new().int(9), PATIENCE).is_err());
        for _ in 0..20 {
            assert_eq!(engine.call(&Task::new().int(0), PATIENCE).unwrap().int(0), Ok(0));
        }
    });
}

#[test]
fn a_worker_that_is_not_there_is_told_with_every_place_that_was_tried() {
    leak_free(|bench| {
        let nowhere = bench.builder("echo").worker("/nowhere/nearcall-worker");
        let error = failed(nowhere);
        assert!(matches!(&error, StartError::WorkerNotFound { tried } if tried.len() == 1));
        let text = error.to_string();
        assert!(text.contains("/nowhere/nearcall-worker (.worker(path))"), "{text}");
        // Neither beside this test nor on PATH, unless somebody has installed one.
        if std::env::var_os("NEARCALL_WORKER").is_none()
            && let Err(StartError::WorkerNotFound { tried }) = Engine::builder("m:f").start()
        {
            assert!(tried[0].contains("beside the executable"), "{tried:?}");
            assert!(tried[1].contains("PATH"), "{tried:?}");
        }
    });
}

#[test]
fn a_program_that_is_no_worker_or_of_another_version_is_refused_before_it_gets_the_segment() {
    let folder = Folder::new("no-worker");
    leak_free(|bench| {
        for (name, text) in [
            ("silent", "exit 0"),
            ("failing", "exit 3"),
            ("chatty", "echo this is not JSON"),
            ("endless", "exec cat /dev/zero"),
        ] {
            let error = failed(bench.builder("echo").worker(folder.script(name, text)));
            assert!(matches!(error, StartError::WorkerUnusable { .. }), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let hanging = folder.script("hanging", "sleep 1000 & wait");
        let hanging =
            bench.builder("echo").worker(hanging).start_deadline(Duration::from_millis(200));
        assert!(matches!(failed(hanging), StartError::WorkerUnusable { .. }));
        let old = r#"echo '{"nearcall":"0.0.9","layout":1,"python":"3.11","libpython":"x"}'"#;
        let error = failed(bench.builder("echo").worker(folder.script("old", old)));
        assert!(matches!(&error, StartError::WorkerVersion { .. }), "{error}");
        assert!(error.to_string().contains("0.0.9"), "{error}");
        let layout = format!(
            r#"echo '{{"nearcall":"{}","layout":999,"python":"3.11","libpython":"x"}}'"#,
            env!("CARGO_PKG_VERSION")
        );
        let error = failed(bench.builder("echo").worker(folder.script("layout", &layout)));
        assert!(error.to_string().contains("layout 999"), "{error}");
    });
}

#[test]
fn an_interpreter_without_the_package_or_with_another_version_of_it_is_no_worker() {
    let folder = Folder::new("packages");
    leak_free(|bench| {
        let start = |name: &str, text: &str| {
            let python = folder.script(name, text);
            failed(bench.builder("echo").worker_from_python().python(python))
        };
        let missing =
            r#"echo '{"executable": "/opt/python", "package": {"missing": "No module"}}'"#;
        let error = start("missing", missing);
        assert!(matches!(&error, StartError::PackageNotFound { .. }), "{error}");
        let said = error.to_string();
        let advice = concat!("/opt/python -m pip install nearcall==", env!("CARGO_PKG_VERSION"));
        assert!(said.contains(advice) && said.contains("No module"), "{said}");
        for (nearcall, layout) in [("0.0.9", 1), (env!("CARGO_PKG_VERSION"), 999)] {
            let version = format!(
                r#"{{"nearcall":"{nearcall}","layout":{layout},"python":"3.11","libpython":"x"}}"#
            );
            let answer = format!(
                r#"echo '{{"executable": "/opt/python", "package": {{"version": {version}}}}}'"#
            );
            let error = start("old", &answer);
            assert!(matches!(&error, StartError::PackageVersion { .. }), "{error}");
            assert!(
                error.to_string().contains(&format!("{nearcall} (layout {layout})")),
                "{error}"
            );
        }
        for text in ["exit 1", "echo nothing of that kind"] {
            let error = start("unusable", text);
            assert!(matches!(&error, StartError::PythonUnusable { .. }), "{error}");
        }
        let nowhere = bench.builder("echo").worker_from_python().python("/nowhere");
        assert!(matches!(failed(nowhere), StartError::PythonNotFound { .. }));
        // The last word counts.
        let named = bench.builder("echo").worker_from_python().worker("/nowhere/nearcall-worker");
        assert!(matches!(failed(named), StartError::WorkerNotFound { .. }));
    });
}

#[test]
fn a_python_that_is_missing_or_of_another_version_than_the_worker_is_refused() {
    let folder = Folder::new("pythons");
    let version = nearcall::peer::LAYOUT_VERSION;
    let worker = folder.script(
        "worker",
        &format!(
            r#"echo '{{"nearcall":"{}","layout":{version},"python":"3.12","libpython":"x"}}'"#,
            env!("CARGO_PKG_VERSION")
        ),
    );
    let python = folder.script(
        "environment/bin/python",
        r#"echo '{"major": 3, "minor": 10, "executable": "/usr/bin/python3.10"}'"#,
    );
    let broken = folder.script("broken", "exit 1");
    let empty = folder.0.join("empty");
    fs::create_dir_all(&empty).unwrap();
    leak_free(|bench| {
        let builder = bench.builder("echo").worker(&worker);
        for path in ["environment", "environment/bin/python"] {
            let error = failed(builder.clone().python(folder.0.join(path)));
            let StartError::PythonVersion { found, built_for, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((found.as_str(), built_for.as_str()), ("3.10", "3.12"));
            let text = error.to_string();
            assert!(text.contains(&format!("PYO3_PYTHON={}", python.display())), "{text}");
        }
        let missing = failed(builder.clone().python("/nowhere/venv"));
        assert!(matches!(&missing, StartError::PythonNotFound { .. }), "{missing}");
        assert!(missing.to_string().contains("/nowhere/venv does not exist"), "{missing}");
        let missing = failed(builder.clone().python(&empty));
        assert!(missing.to_string().contains("has no bin/python"), "{missing}");
        let broken = failed(builder.python(&broken));
        assert!(matches!(&broken, StartError::PythonUnusable { .. }), "{broken}");
    });
}

/// Not a test by itself: run by the next one, in a mount namespace with a small /dev/shm.
#[test]
#[ignore = "needs a small /dev/shm: run by another test"]
fn in_a_small_shared_memory() {
    leak_free(|bench| {
        let error = failed(bench.builder("echo").slots(1024));
        let StartError::NoSharedMemory { needed, total, .. } = &error else { panic!("{error}") };
        assert!(*needed > 4 << 20 && *total == 1 << 20, "{error}");
        assert!(error.to_string().contains("--shm-size=8m"), "{error}");
        let signature = Signature::new().int("x");
        let engine = bench.builder("echo").signature(signature).slots(32).start().unwrap();
        assert_eq!(engine.call(&Task::new().int(1), PATIENCE).unwrap().int(0), Ok(1));
    });
}

#[test]
fn a_shared_memory_too_small_for_the_configuration_is_told_with_both_sizes() {
    common::with_small_shared_memory("1m", "in_a_small_shared_memory");
}

#[test]
fn a_start_sweeps_names_of_killed_starts_and_spares_those_whose_creator_lives() {
    leak_free(|bench| {
        let stale = Path::new("/dev/shm/nearcall-test-stale");
        let alive = Path::new("/dev/shm/nearcall-test-alive");
        fs::write(stale, "x").unwrap();
        let locked = fs::File::create(alive).unwrap();
        locked.lock().unwrap();
        drop(bench.builder("echo").start().unwrap());
        let there = (stale.exists(), alive.exists());
        fs::remove_file(alive).unwrap();
        assert_eq!(there, (false, true));
    });
}
