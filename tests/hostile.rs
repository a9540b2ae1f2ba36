//! What is written into the segment by somebody who should not: the engine neither crashes nor hangs, and
//! serves again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use common::{Bench, PATIENCE, leak_free, signal, wait_until};
use nearcall::error::{SubmitError, WaitError};
use nearcall::{Engine, Signature, StartMethod, Task};
use nix::sys::signal::Signal;

/// Where things stand with 2 workers and 4 slots (`docs/shm-layout.md`).
const MAGIC: u64 = 0;
const LOCK: u64 = 128;
const HEAD: u64 = 176;
const WORKERS: u64 = 256;
const RING: u64 = 768;
const RING_END: u64 = RING + 16 * 64;
const SLOTS: u64 = 4096;
const SLOTS_END: u64 = SLOTS + 4 * 384;

fn start(bench: &Bench, method: StartMethod) -> Engine {
    let builder = bench.builder("work").signature(Signature::new().int("ms"));
    builder.workers(2).slots(4).slot_bytes(256).start_method(method).start().unwrap()
}

/// The segment, as a worker could write it.
fn segment() -> File {
    let path = fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).ok()?;
        target.to_str()?.starts_with("/dev/shm/nearcall-").then_some(path)
    });
    File::options().read(true).write(true).open(path.unwrap()).unwrap()
}

fn write(segment: &File, at: u64, word: u64) {
    segment.write_all_at(&word.to_ne_bytes(), at).unwrap();
}

fn read(segment: &File, at: u64) -> u64 {
    let mut word = [0; 8];
    segment.read_exact_at(&mut word, at).unwrap();
    u64::from_ne_bytes(word)
}

/// Every task ends, and in the end all are answered again.
fn recovers(engine: &Engine, what: &str) {
    let start = Instant::now();
    let (mut in_a_row, mut last) = (0, String::new());
    while in_a_row < 20 {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: does not serve again: {last}, {:?}",
            engine.health()
        );
        match engine.submit(&Task::new().int(0)) {
            Ok(ticket) => match engine.wait(&ticket, PATIENCE / 2) {
                Ok(_) => in_a_row += 1,
                Err(WaitError::TimedOut) => {
                    panic!("{what}: a task hangs: {:?}", engine.health());
                }
                Err(error) => (in_a_row, last) = (0, error.to_string()),
            },
            Err(error @ SubmitError::Full { .. }) => last = error.to_string(),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn workers_from_scratch_can_be_had_after_the_header_was_overwritten() {
    leak_free(|bench| {
        let engine = start(bench, StartMethod::Spawn);
        write(&segment(), MAGIC, 0);
        let pids = engine.worker_pids();
        pids.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        wait_until("whole", || {
            let now = engine.worker_pids();
            let whole = now.len() == 2 && !now.iter().any(|pid| pids.contains(pid));
            whole.then_some(()).ok_or(format!("{now:?}"))
        });
        recovers(&engine, "header");
    });
}

#[test]
fn whatever_word_is_overwritten_every_task_ends_and_the_engine_serves_again() {
    leak_free(|bench| {
        let engine = start(bench, StartMethod::Auto);
        let segment = segment();
        recovers(&engine, "nothing");
        let tid = 0x3FFF_FFF0;
        for (what, at, words) in [
            ("the lock has an owner that does not exist", LOCK, &[tid][..]),
            ("the lock is nonsense", LOCK, &[u64::MAX; 6]),
            ("the head is at 0", HEAD, &[0]),
            ("the head is far ahead", HEAD, &[1 << 63]),
            ("the ring is empty", RING, &[0; 128]),
            ("the ring is full of nonsense", RING, &[u64::MAX; 128]),
            ("workers stand by", WORKERS, &[3 << 32]),
        ] {
            let tickets: Vec<_> =
                (0..4).filter_map(|_| engine.submit(&Task::new().int(20)).ok()).collect();
            for (index, word) in words.iter().enumerate() {
                write(&segment, at + 8 * index as u64, *word);
            }
            for ticket in &tickets {
                let result = engine.wait(ticket, PATIENCE / 2);
                assert!(!matches!(result, Err(WaitError::TimedOut)), "{what}: a task hangs");
            }
            drop(tickets);
            recovers(&engine, what);
            let health = wait_until("well", || {
                let health = engine.health().unwrap();
                if health.is_well { Ok(health) } else { Err(format!("{what}: {health:?}")) }
            });
            eprintln!("{what}: {} deaths", health.deaths);
        }
    });
}

#[test]
fn a_worker_whose_task_was_taken_from_it_does_not_wait_for_ever_to_be_killed() {
    leak_free(|bench| {
        let engine = start(bench, StartMethod::Auto);
        let segment = segment();
        // The slot has an answer then.
        recovers(&engine, "nothing");
        let before = engine.worker_pids();
        let ticket = engine.submit(&Task::new().int(300)).unwrap();
        let claim = SLOTS + 384 * (ticket.key().get() & 0xFFFF) + 128;
        wait_until("running", || match read(&segment, claim) & 7 {
            1 => Ok(()),
            phase => Err(phase.to_string()),
        });
        // Both words say that the other worker is done with it.
        let other = (read(&segment, claim) ^ 1 << 3) & !7 | 2;
        write(&segment, claim, other);
        write(&segment, claim - 128, other);
        let _ = engine.wait(ticket, PATIENCE);
        wait_until("replaced", || {
            let now = engine.worker_pids();
            let replaced = now.len() == 2 && now != before;
            replaced.then_some(()).ok_or(format!("{now:?}"))
        });
        recovers(&engine, "claim");
    });
}

#[test]
fn a_head_that_was_moved_back_does_not_make_the_engine_full_while_no_task_is_in_it() {
    leak_free(|bench| {
        let engine = start(bench, StartMethod::Auto);
        let segment = segment();
        for round in 0..5 {
            recovers(&engine, "nothing");
            wait_until("empty", || match engine.in_use() {
                0 => Ok(()),
                used => Err(format!("{used} in use")),
            });
            // Two rounds: what is there looks new.
            write(&segment, HEAD, read(&segment, HEAD).wrapping_sub(32));
            // Until there is no room.
            let start = Instant::now();
            while !matches!(engine.submit(&Task::new().int(0)), Err(SubmitError::Full { .. })) {
                wait_until("empty", || match engine.in_use() {
                    0 => Ok(()),
                    used => Err(format!("{used} in use")),
                });
                // Or the audit was faster.
                if start.elapsed() > Duration::from_secs(2) {
                    break;
                }
            }
            wait_until("room", || match engine.submit(&Task::new().int(0)) {
                Ok(_) => Ok(()),
                Err(error) => {
                    std::thread::sleep(Duration::from_millis(50));
                    Err(format!("round {round}: {error}, {:?}", engine.health()))
                }
            });
        }
    });
}

/// Not for every day: `SECONDS` and `SEED` choose.
#[test]
#[ignore = "takes as long as one lets it"]
fn random_words_at_random_places() {
    let number = |name: &str, or: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
    };
    let mut seed = number("SEED", 1);
    let end = Instant::now() + Duration::from_secs(number("SECONDS", 20));
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    leak_free(|bench| {
        let engine = start(bench, StartMethod::Auto);
        let segment = segment();
        recovers(&engine, "nothing");
        let mut rounds = 0;
        while Instant::now() < end {
            let ms = (random() % 4 * 10).cast_signed();
            let tickets: Vec<_> = (0..random() % 4)
                .filter_map(|_| engine.submit(&Task::new().int(ms)).ok())
                .collect();
            let mut what = String::new();
            for _ in 0..1 + random() % 3 {
                let (from, to) = match random() % 5 {
                    0 => (LOCK, WORKERS),
                    1 => (WORKERS, RING),
                    2 => (RING, RING_END),
                    _ => (SLOTS, SLOTS_END),
                };
                let mut at = from + 8 * (random() % ((to - from) / 8));
                if from == SLOTS && random() % 4 > 0 {
                    // claim or done
                    at = SLOTS + 384 * (random() % 4) + 128 * (random() % 2);
                }
                let old = read(&segment, at);
                let word = match random() % 6 {
                    0 => 0,
                    1 => old ^ 1 << (random() % 64),
                    2 => old.wrapping_add(1 << 17),
                    3 => old.wrapping_sub(1 << 17),
                    4 => old & !0x1FFFF | random() & 0x1FFFF,
                    _ => random(),
                };
                what += &format!("{at}: {old:#x} -> {word:#x}; ");
                write(&segment, at, word);
            }
            for ticket in &tickets {
                let result = engine.wait(ticket, PATIENCE / 2);
                assert!(
                    !matches!(result, Err(WaitError::TimedOut)),
                    "round {rounds}, {what}: a task hangs: {:?}",
                    engine.health()
                );
            }
            drop(tickets);
            recovers(&engine, &format!("round {rounds}, {what}"));
            rounds += 1;
        }
        eprintln!("{rounds} rounds, {:?}", engine.health().unwrap());
    });
}
