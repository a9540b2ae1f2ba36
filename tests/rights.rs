//! What workers have and may: descriptors, rights, limits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;

use common::{Bench, PATIENCE, leak_free};
use nearcall::error::{CallError, RetrieveError, StartError, TaskError, WaitError};
use nearcall::{Builder, Engine, Exit, Signature, StartMethod, Task};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

const METHODS: [StartMethod; 2] = [StartMethod::Fork, StartMethod::Spawn];

/// A builder for a model that says what stands in a file.
fn reading(bench: &Bench, method: StartMethod) -> Builder {
    let signature = Signature::new().str("path");
    bench.builder("read").signature(signature).slot_bytes(1 << 16).start_method(method)
}

fn read(engine: &Engine, path: &str) -> String {
    let answer = engine.call(&Task::new().str(path), PATIENCE).unwrap();
    answer.str(0).unwrap().to_owned()
}

/// The soft and the hard limit of this name, in a process' own words.
fn limits(engine: &Engine, name: &str) -> (String, String) {
    let table = read(engine, "/proc/self/limits");
    let line = table.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut fields = line.split_whitespace().map(str::to_owned);
    (fields.next().unwrap(), fields.next().unwrap())
}

#[test]
fn a_worker_has_no_descriptor_but_the_standard_ones_the_segments_and_the_bell() {
    for method in METHODS {
        leak_free(|bench| {
            // One that a careless host has open for its children too.
            let careless = fs::File::open("/dev/null").unwrap();
            fcntl(&careless, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            let engine = bench.builder("table").start_method(method).workers(3).start().unwrap();
            for _ in 0..30 {
                let answer = engine.call(&Task::new(), PATIENCE).unwrap();
                let table = answer.str(0).unwrap().split(' ').collect::<Vec<_>>();
                let [standard @ .., segment, bell] = &*table else { panic!("{table:?}") };
                assert_eq!(standard, ["0", "1", "2"]);
                let pid = engine.worker_pids()[0];
                let target_of = |number| fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
                let (segment, bell) = (target_of(segment), target_of(bell));
                assert!(segment.starts_with("/dev/shm"), "{segment:?}");
                assert!(bell.to_str().unwrap().starts_with("pipe:"), "{bell:?}");
            }
            // The fork server: its own three, three workers' pidfds and pipes, and what it passes
            // their words on to, if that could be opened again.
            let workers = engine.worker_pids();
            let server = bench.processes().into_iter().find(|pid| !workers.contains(pid)).unwrap();
            let table = fs::read_dir(format!("/proc/{server}/fd")).unwrap().count();
            assert!((12..=13).contains(&table), "{table}");
        });
    }
}

#[test]
fn no_process_of_the_engine_gains_rights_by_what_it_executes() {
    for method in METHODS {
        leak_free(|bench| {
            let engine = reading(bench, method).start().unwrap();
            let workers = engine.worker_pids();
            for pid in bench.processes() {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                assert!(status.contains("\nNoNewPrivs:\t1\n"), "{workers:?} {pid}: {status}");
            }
        });
    }
}

#[test]
fn workers_have_the_limits_that_were_chosen_and_the_fork_server_has_none_of_them() {
    for method in METHODS {
        leak_free(|bench| {
            let limited = reading(bench, method).memory_limit(1 << 30).descriptor_limit(64);
            let engine = limited.cpu_limit(1000).start().unwrap();
            let both = |number: u64| (number.to_string(), number.to_string());
            assert_eq!(limits(&engine, "Max data size"), both(1 << 30));
            assert_eq!(limits(&engine, "Max open files"), both(64));
            assert_eq!(limits(&engine, "Max cpu time"), ("1000".to_owned(), "1001".to_owned()));
            let workers = engine.worker_pids();
            let server = bench.processes().into_iter().find(|pid| !workers.contains(pid)).unwrap();
            let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            assert_eq!(of(&server.to_string()), of("self"));
            // Those that replace others too.
            let before = engine.worker_pids();
            common::signal(before[0], nix::sys::signal::Signal::SIGKILL);
            common::wait_until("replaced", || {
                let pids = engine.worker_pids();
                let whole = pids.len() == 2 && !pids.contains(&before[0]);
                whole.then_some(()).ok_or(format!("{pids:?}"))
            });
            for _ in 0..10 {
                assert_eq!(limits(&engine, "Max open files"), both(64));
            }
        });
    }
}

#[test]
fn without_limits_workers_have_those_of_the_host() {
    leak_free(|bench| {
        let engine = reading(bench, StartMethod::Fork).start().unwrap();
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        assert_eq!(read(&engine, "/proc/self/limits"), own);
    });
}

#[test]
fn a_limit_that_the_kernel_refuses_fails_the_start_and_is_named() {
    for method in METHODS {
        leak_free(|bench| {
            // More than even root may have (/proc/sys/fs/nr_open).
            let builder = bench.builder("echo").descriptor_limit(u64::MAX / 2);
            let error = builder.start_method(method).start().map(|_| ()).unwrap_err();
            assert!(matches!(error, StartError::Initialize { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("RLIMIT_NOFILE") && text.contains("refused"), "{text}");
        });
    }
}

#[test]
fn a_worker_gets_no_more_memory_than_its_limit_and_the_segment_does_not_count() {
    leak_free(|bench| {
        let builder = bench.builder("allocate").signature(Signature::new().int("bytes"));
        // A segment of 512 MiB beside 256 MiB of memory.
        let builder = builder.slots(32).slot_bytes(16 << 20).memory_limit(256 << 20);
        let engine = builder.workers(1).start().unwrap();
        let gets = |bytes| engine.call(&Task::new().int(bytes), PATIENCE).unwrap().bool(0).unwrap();
        assert!(gets(64 << 20) && !gets(512 << 20) && gets(64 << 20));
    });
}

#[test]
fn a_worker_that_has_used_up_its_cpu_time_dies_of_that() {
    leak_free(|bench| {
        let signature = Signature::new().int("x");
        let engine =
            bench.builder("loop").signature(signature).workers(1).cpu_limit(1).start().unwrap();
        match engine.call(&Task::new().int(1), PATIENCE) {
            Err(CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Died {
                exit,
                ..
            })))) => assert_eq!(exit, Exit::Signal(libc::SIGXCPU)),
            other => panic!("{other:?}"),
        }
    });
}
