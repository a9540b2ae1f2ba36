//! What workers say: passed on to the host's stderr, and told with their death.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};

use common::{PATIENCE, death, leak_free, signal, wait_until};
use nearcall::{Builder, Engine, Exit, Signature, StartMethod, Task};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::{dup, dup2_stderr, pipe2};

fn saying(bench: &common::Bench) -> Builder {
    let signature = Signature::new().str("words").int("how");
    bench.builder("say_and_die").signature(signature).workers(1)
}

/// Starts an engine whose host has this stderr.
fn start_with_stderr(builder: Builder, stderr: &OwnedFd) -> Engine {
    let own = dup(std::io::stderr().as_fd()).unwrap();
    dup2_stderr(stderr).unwrap();
    let engine = builder.start();
    dup2_stderr(own).unwrap();
    engine.unwrap()
}

/// A pipe whose end to read does not wait.
fn pipe() -> (File, OwnedFd) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    (read.into(), write)
}

/// Reads until what was read says that it is enough.
fn read_until(pipe: &mut File, mut is_enough: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    wait_until("read", || {
        match pipe.read(&mut buffer) {
            Ok(length) => all.extend_from_slice(&buffer[..length]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        is_enough(&all).then_some(()).ok_or(format!("{} bytes", all.len()))
    });
    all
}

fn contains(all: &[u8], words: &str) -> bool {
    all.windows(words.len()).any(|window| window == words.as_bytes())
}

#[test]
fn the_error_of_a_dead_worker_has_its_last_words() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        leak_free(|bench| {
            let engine = saying(bench).start_method(method).start().unwrap();
            for (how, exit) in [(9, Exit::Signal(9)), (11, Exit::Signal(11)), (-3, Exit::Code(3))] {
                let words = format!("first\nI end with {how}\n");
                let (died, report) = death(&engine, &Task::new().str(&words).int(how));
                assert_eq!((died, report.last_words.as_str()), (exit, words.as_str()));
            }
        });
    }
}

#[test]
fn the_message_of_a_panic_is_among_the_last_words() {
    leak_free(|bench| {
        let signature = Signature::new().str("words");
        let builder = bench.builder("say_and_die").signature(signature).workers(1);
        let (exit, report) = death(&builder.start().unwrap(), &Task::new().str("then\n"));
        assert_eq!(exit, Exit::Code(101));
        let words = report.last_words;
        assert!(words.starts_with("then\n") && words.contains("as asked"), "{words}");
    });
}

#[test]
fn of_many_words_the_last_whole_lines_are_told() {
    leak_free(|bench| {
        let engine = saying(bench).slot_bytes(256 << 10).start().unwrap();
        let words: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        let (_, report) = death(&engine, &Task::new().str(&words).int(9));
        let kept = report.last_words;
        assert!(kept.len() > 4000 && kept.len() <= 4096, "{}", kept.len());
        assert!(kept.starts_with("line ") && words.ends_with(&kept), "{kept}");
    });
}

#[test]
fn a_worker_that_leaves_its_stderr_to_somebody_is_told_dead_at_once() {
    leak_free(|bench| {
        let engine = bench.builder("leave_a_child").workers(1).start().unwrap();
        let (exit, report) = death(&engine, &Task::new());
        let child: u32 = report.last_words.trim().parse().unwrap();
        assert_eq!(exit, Exit::Signal(9));
        signal(child, Signal::SIGKILL);
    });
}

#[test]
fn what_a_worker_says_is_passed_on_to_the_hosts_stderr_at_once() {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        leak_free(|bench| {
            let (mut read, write) = pipe();
            let builder = bench.builder("say").signature(Signature::new().str("words"));
            let engine = start_with_stderr(builder.start_method(method), &write);
            drop(write);
            for words in ["not even a line", "a line\n", "\u{FFFD}\n"] {
                engine.call(&Task::new().str(words), PATIENCE).unwrap();
                read_until(&mut read, |all| contains(all, &format!("out {words}")));
            }
        });
    }
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_who_speaks_and_nobody_else() {
    leak_free(|bench| {
        let (mut read, write) = pipe();
        let builder = bench.builder("say").signature(Signature::new().str("words"));
        let engine = start_with_stderr(builder.slot_bytes(1 << 20), &write);
        drop(write);
        // More than the two pipes on its way take.
        let words = "x".repeat(500_000);
        let speaking = engine.submit(&Task::new().str(&words)).unwrap();
        wait_until("held up", || {
            let health = engine.health().unwrap();
            let speaks = |w: &nearcall::WorkerHealth| w.running.is_some_and(|r| !r.1.is_zero());
            health.workers.iter().find(|w| speaks(w)).map(|_| ()).ok_or(format!("{health:?}"))
        });
        // The fork server goes on making and burying workers.
        let health = engine.health().unwrap();
        let other = health.workers.iter().find(|worker| worker.running.is_none()).unwrap().pid;
        signal(other, Signal::SIGKILL);
        wait_until("replaced", || {
            let pids = engine.worker_pids();
            (pids.len() == 2 && !pids.contains(&other)).then_some(()).ok_or(format!("{pids:?}"))
        });
        assert_eq!(engine.retrieve(&speaking), Ok(None));
        // And nothing is lost.
        let all = read_until(&mut read, |all| all.len() >= words.len() + "out ".len());
        assert!(contains(&all, &words));
        engine.wait(speaking, PATIENCE).unwrap();
    });
}

#[test]
fn a_stderr_that_is_gone_takes_everything() {
    leak_free(|bench| {
        let (read, write) = pipe();
        let builder = bench.builder("say").signature(Signature::new().str("words")).workers(1);
        let engine = start_with_stderr(builder.slot_bytes(1 << 20), &write);
        drop((read, write));
        for _ in 0..3 {
            engine.call(&Task::new().str(&"x".repeat(500_000)), PATIENCE).unwrap();
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
    });
}
