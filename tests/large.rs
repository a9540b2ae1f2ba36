//! Payloads that do not fit a slot: they come back whole, their memory goes back, and where there is
//! none, that is one task's error.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::process::Command;
use std::thread;

use common::{Bench, PATIENCE, leak_free, signal, wait_until, with_small_shared_memory};
use nearcall::error::{CallError, RetrieveError, StartError, SubmitError, TaskError, WaitError};
use nearcall::{Builder, Engine, Refusal, Signature, StartMethod, Task, Value};
use nix::sys::signal::Signal;

/// Of the engines here. Whatever is larger than the first is in the large area.
const SLOT_BYTES: usize = 1024;
const PAYLOAD_BYTES: usize = 1 << 20;

fn echo(bench: &Bench) -> Builder {
    let builder = bench.builder("echo").signature(Signature::new().str("text"));
    builder.slot_bytes(SLOT_BYTES).payload_bytes(PAYLOAD_BYTES)
}

/// The test on workers of both kinds: processes, and the double's threads.
fn both(test: impl Fn(Engine, &Bench), configure: impl Fn(&Bench) -> Builder) {
    leak_free(|bench| test(configure(bench).start().unwrap(), bench));
    leak_free(|bench| {
        let model = |args: &nearcall::Args<'_>| Ok(Value::Tuple(args.values().to_vec()));
        test(configure(bench).start_with(model).unwrap(), bench);
    });
}

/// A text of this length that is like no other.
fn text(len: usize, seed: usize) -> String {
    (0..len).map(|at| char::from(b'!' + ((at * 31 + at / 97 + seed * 7) % 90) as u8)).collect()
}

fn refusal(result: Result<nearcall::Answer, CallError>) -> Refusal {
    match result.unwrap_err() {
        CallError::Wait(WaitError::Retrieve(RetrieveError::Task(TaskError::Refused(refusal)))) => {
            refusal
        }
        other => panic!("{other}"),
    }
}

#[test]
fn payloads_of_every_size_come_back_whole() {
    let test = |engine: Engine, _: &Bench| {
        assert_eq!(engine.payload_bytes(), PAYLOAD_BYTES);
        let around = |middle: usize| middle - 12..middle + 12;
        let sizes = around(112).chain(around(SLOT_BYTES)).chain([4096, 70_000, PAYLOAD_BYTES - 12]);
        for (seed, size) in sizes.enumerate() {
            let text = text(size, seed);
            let answer = engine.call(&Task::new().str(&text), PATIENCE).unwrap();
            assert!(answer.str(0) == Ok(&*text), "{size} bytes");
        }
        assert_eq!(engine.in_use(), 0);
    };
    both(test, echo);
}

#[test]
fn large_and_small_ones_of_many_threads_do_not_mix() {
    let test = |engine: Engine, _: &Bench| {
        thread::scope(|scope| {
            for thread in 0..4 {
                let engine = &engine;
                scope.spawn(move || {
                    for round in 0..100 {
                        let len = [10, 3000, 500, 200_000][(thread + round) % 4];
                        let text = text(len, 100 * thread + round);
                        let answer = engine.call(&Task::new().str(&text), PATIENCE).unwrap();
                        assert!(answer.str(0) == Ok(&*text), "{thread} {round}");
                    }
                });
            }
        });
        assert_eq!(engine.in_use(), 0);
    };
    both(test, |bench| echo(bench).slots(4).workers(2));
}

#[test]
fn a_payload_larger_than_any_can_be_is_told_both_sizes() {
    let test = |engine: Engine, _: &Bench| {
        for room in [SLOT_BYTES, PAYLOAD_BYTES] {
            // Where there is no large area, the slot is the room: the second engine below.
            if (room == SLOT_BYTES) != (engine.payload_bytes() == 0) {
                continue;
            }
            let text = text(room, 1);
            let error = engine.submit(&Task::new().str(&text)).unwrap_err();
            let SubmitError::TooLarge { needed, room: told } = error else { panic!("{error}") };
            assert!(needed > room && told == room, "{needed} {told}");
            // It fits as a task, and not with what an answer has in front.
            let text = &text[..room - 5];
            let Refusal::TooLarge { needed, room: told } =
                refusal(engine.call(&Task::new().str(text), PATIENCE))
            else {
                panic!()
            };
            assert!(needed > room as u64 && told == room as u64, "{needed} {told}");
        }
        assert_eq!(engine.in_use(), 0);
    };
    both(test, echo);
    both(test, |bench| echo(bench).payload_bytes(0));
}

#[test]
fn a_large_task_whose_worker_dies_is_done_once_more_from_what_the_host_has_written() {
    for point in
        ["serve.claimed", "serve.copied", "serve.called", "serve.finished", "serve.written"]
    {
        leak_free(|bench| {
            let builder = echo(bench).workers(1).retries(1);
            let builder = builder.env("NEARCALL_FAULTS", format!("{point}=kill@1"));
            let engine = builder.start().unwrap();
            for len in [300_000, 2000, 50] {
                let text = text(len, len);
                let answer = engine.call(&Task::new().str(&text), PATIENCE).unwrap();
                assert!(answer.str(0) == Ok(&*text), "{point} {len}");
            }
            assert_eq!(engine.health().unwrap().deaths, 1, "{point}");
        });
    }
}

#[test]
fn large_tasks_that_nobody_retrieves_leave_nothing_in_use() {
    leak_free(|bench| {
        let engine = echo(bench).slots(4).start().unwrap();
        let text = text(300_000, 1);
        for _ in 0..50 {
            wait_until("a free slot", || match engine.submit(&Task::new().str(&text)) {
                Ok(ticket) => {
                    drop(ticket);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            });
        }
        wait_until("free again", || {
            let in_use = engine.in_use();
            if in_use == 0 { Ok(()) } else { Err(in_use.to_string()) }
        });
    });
}

/// Bytes of the segment that a process has mapped.
fn mapped_bytes(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let segment = maps.lines().filter(|line| line.contains("/dev/shm/nearcall-"));
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    segment
        .map(|line| {
            let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
            number(end) - number(start)
        })
        .sum()
}

#[test]
fn the_large_area_takes_no_address_space_also_of_workers_that_start_later() {
    leak_free(|bench| {
        let builder = bench.builder("echo").signature(Signature::new().str("text")).slots(8);
        let engine = builder.workers(1).start_method(StartMethod::Spawn).start().unwrap();
        let before = engine.worker_pids()[0];
        let mapped = mapped_bytes(before);
        assert!(mapped > 8 * 4096 && mapped < 1 << 20, "{mapped}");
        let text = text(300_000, 1);
        let tickets: Vec<_> =
            (0..8).map(|_| engine.submit(&Task::new().str(&text)).unwrap()).collect();
        for ticket in tickets {
            engine.wait(ticket, PATIENCE).unwrap();
        }
        signal(before, Signal::SIGKILL);
        let after = wait_until("another worker", || match engine.worker_pids()[..] {
            [pid] if pid != before => Ok(pid),
            _ => Err(String::new()),
        });
        assert_eq!(mapped_bytes(after), mapped);
    });
}

#[test]
fn a_model_that_closes_the_segments_descriptor_has_an_error_and_no_file_overwritten() {
    leak_free(|bench| {
        let file = std::env::temp_dir().join(format!("nearcall-careless-{}", std::process::id()));
        fs::write(&file, "mine").unwrap();
        let signature = Signature::new().int("len").str("file");
        let engine = bench.builder("careless").signature(signature).workers(1).start().unwrap();
        let path = file.to_str().unwrap();
        let call = |len| engine.call(&Task::new().int(len).str(path), PATIENCE);
        for _ in 0..3 {
            assert_eq!(call(10).unwrap().bytes(0), Ok(&[7; 10][..]));
            let refused = refusal(call(100_000)).to_string();
            assert!(refused.contains("could not write a large answer"), "{refused}");
            assert!(refused.contains("has closed the segment's descriptor"), "{refused}");
        }
        let long = format!("{path}{}", " ".repeat(100_000));
        let refused = refusal(engine.call(&Task::new().int(1).str(&long), PATIENCE)).to_string();
        assert!(refused.contains("could not read a large task"), "{refused}");
        assert_eq!(engine.health().unwrap().deaths, 0);
        let content = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(content, "mine");
    });
}

#[test]
fn an_idle_worker_keeps_no_large_task_or_answer() {
    leak_free(|bench| {
        let builder = bench.builder("echo").signature(Signature::new().str("text")).workers(1);
        let engine = builder.start().unwrap();
        let text = text(30 << 20, 1);
        assert!(engine.call(&Task::new().str(&text), PATIENCE).unwrap().str(0) == Ok(&*text));
        let pid = engine.worker_pids()[0];
        wait_until("its memory is back", || {
            let private = engine.memory().iter().map(|worker| worker.private).sum::<u64>();
            if private < 15 << 20 { Ok(()) } else { Err(format!("{pid}: {private}")) }
        });
    });
}

/// Not a test by itself: run by the next one, with a limit on the length of files.
#[test]
#[ignore = "needs a limit on files: run by another test"]
fn where_files_may_have_eight_megabytes() {
    leak_free(|bench| {
        let error = bench.builder("echo").start().unwrap_err();
        let StartError::FileSizeLimit { needed, limit } = error else { panic!("{error}") };
        assert!(needed > 64 * 4 * (64 << 20) && limit == 8 << 20, "{error}");
        let builder = echo(bench).slots(1);
        let engine = builder.start().unwrap();
        let text = text(500_000, 1);
        assert!(engine.call(&Task::new().str(&text), PATIENCE).unwrap().str(0) == Ok(&*text));
    });
}

#[test]
fn a_limit_on_the_length_of_files_is_told_at_the_start_and_kills_nobody_later() {
    let script = "ulimit -S -f $1 && exec \"$0\" \
                  --exact where_files_may_have_eight_megabytes --ignored --test-threads=1";
    let own = std::env::current_exe().unwrap();
    // In blocks of 1,024 bytes, or of 512, says whoever's shell it is: bash's has 1,024.
    let output = Command::new("bash").args(["-c", script]).arg(own).arg("8192").output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{out} {output:?}");
}

/// Not a test by itself: run by the next one, in a mount namespace with a small /dev/shm.
#[test]
#[ignore = "needs a small /dev/shm: run by another test"]
fn in_a_shared_memory_of_four_megabytes() {
    leak_free(|bench| {
        let signature = Signature::new().str("text");
        let engine = bench.builder("echo").signature(signature).start().unwrap();
        // More than there is; what fits once but not twice; what fits with its answer, again and
        // again: nothing stays.
        let (most, half, some) = (text(8 << 20, 1), text(5 << 19, 2), text(1 << 20, 3));
        for _ in 0..10 {
            let error = engine.submit(&Task::new().str(&most)).unwrap_err();
            let SubmitError::NoSharedMemory { needed, available, total } = error else {
                panic!("{error}")
            };
            assert!(needed > most.len() && total == 4 << 20 && available < total, "{error}");
            // The slot that was to have it is the next to be used: not the one of the call.
            let plug = engine.submit(&Task::new().str("plug")).unwrap();
            assert!(engine.call(&Task::new().str(&some), PATIENCE).is_ok(), "its pages went back");
            assert_eq!(engine.wait(plug, PATIENCE).unwrap().str(0), Ok("plug"));
            let refused = refusal(engine.call(&Task::new().str(&half), PATIENCE));
            let Refusal::NoSharedMemory { needed, total, .. } = refused else {
                panic!("{refused}")
            };
            assert!(needed > half.len() as u64 && total == 4 << 20, "{refused}");
            let answer = engine.call(&Task::new().str(&some), PATIENCE).unwrap();
            assert!(answer.str(0) == Ok(&*some));
            assert_eq!(engine.call(&Task::new().str("x"), PATIENCE).unwrap().str(0), Ok("x"));
        }
        assert_eq!(engine.health().unwrap().deaths, 0);
        drop(engine);
        // What nobody wants any more is in nobody's way.
        let builder = bench.builder("echo").signature(Signature::new().str("text")).workers(1);
        let engine = builder.start().unwrap();
        let large = text(3 << 20, 4);
        for round in 1..=10 {
            let ticket = engine.submit(&Task::new().str(&large)).unwrap();
            wait_until("done", || match &engine.health().unwrap().workers[..] {
                [worker] if worker.tasks == round => Ok(()),
                other => Err(format!("{other:?}")),
            });
            drop(ticket);
        }
        drop(engine);
        // The same for what a worker has begun to write.
        let engine = bench.builder("bytes").signature(Signature::new().int("len")).start().unwrap();
        for _ in 0..10 {
            let refused = refusal(engine.call(&Task::new().int(8 << 20), PATIENCE));
            assert!(matches!(refused, Refusal::NoSharedMemory { .. }), "{refused}");
            let plug = engine.submit(&Task::new().int(1)).unwrap();
            let answer = engine.call(&Task::new().int(3 << 20), PATIENCE).unwrap();
            assert_eq!(answer.bytes(0).unwrap().len(), 3 << 20);
            assert_eq!(engine.wait(plug, PATIENCE).unwrap().bytes(0), Ok(&[7][..]));
        }
    });
}

#[test]
fn where_shared_memory_is_full_a_large_task_or_answer_ends_with_the_figures_and_the_engine_goes_on()
{
    with_small_shared_memory("4m", "in_a_shared_memory_of_four_megabytes");
}
