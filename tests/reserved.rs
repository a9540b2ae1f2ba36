//! Tensors in place: the model reads what the host has written, where it has; their memory is there
//! when it is touched, and goes back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

use common::{Bench, PATIENCE, leak_free, wait_until, with_small_shared_memory};
use nearcall::error::{
    CallError, ReservedError, RetrieveError, SubmitError, TaskError, TaskMismatch, TensorError,
    WaitError,
};
use nearcall::{
    Args, Builder, DType, Engine, Signature, TENSOR_ALIGNMENT, Task, Tensor, TensorSpec, Value,
    ValueRef,
};

const PAYLOAD_BYTES: usize = 4 << 20;

/// A model that takes two values.
fn builder(bench: &Bench, model: &str) -> Builder {
    let signature = Signature::new().value("x").value("out");
    bench.builder(model).signature(signature).payload_bytes(PAYLOAD_BYTES)
}

/// An engine over each kind of worker that gives its arguments back.
fn echoes(test: impl Fn(&Engine)) {
    leak_free(|bench| test(&builder(bench, "echo").start().unwrap()));
    leak_free(|bench| {
        let model = |args: &Args<'_>| Ok(Value::Tuple(args.values().to_vec()));
        test(&builder(bench, "echo").start_with(model).unwrap());
    });
}

/// Bytes that are like no others.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 97 + seed * 7) as u8).collect()
}

fn tensor_at(answer: &nearcall::Answer, index: usize) -> Tensor {
    match answer.get(index) {
        Some(ValueRef::Tensor(tensor)) => tensor.to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_model_sees_every_tensor_as_it_was_written() {
    echoes(|engine| {
        for (seed, len) in [0, 1, 63, 64, 65, 4096, 70_000, 1 << 20].into_iter().enumerate() {
            let (first, second) = (bytes(len, seed), bytes(8 * (seed + 1), seed + 1));
            let specs = [
                TensorSpec::input(DType::U8, &[len]),
                TensorSpec::input(DType::F64, &[1, seed + 1]),
            ];
            let mut place = engine.reserve(&specs).unwrap();
            place.write_bytes(1, 0, &second).unwrap();
            for (at, piece) in first.chunks(1000).enumerate() {
                place.write(0, 1000 * at, piece).unwrap();
            }
            let answer = place.call(&Task::new().reserved(0).reserved(1), PATIENCE).unwrap();
            let expected = [
                Tensor::from_bytes(DType::U8, &[len], first).unwrap(),
                Tensor::from_bytes(DType::F64, &[1, seed + 1], second).unwrap(),
            ];
            for (index, expected) in expected.iter().enumerate() {
                assert!(tensor_at(&answer, index) == *expected, "{len} {index}");
            }
        }
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn tensors_start_at_multiples_of_64_bytes() {
    echoes(|engine| {
        let specs = [TensorSpec::input(DType::U8, &[3]), TensorSpec::input(DType::U8, &[5, 1])];
        let mut place = engine.reserve(&specs).unwrap();
        for index in 0..2 {
            // SAFETY: the workers are this test's own, and map nothing else.
            let memory = unsafe { place.bytes_mut(index) }.unwrap();
            assert_eq!(memory.as_ptr().addr() % TENSOR_ALIGNMENT, 0, "{index}");
            assert_eq!(memory.len(), [3, 5][index]);
            memory.fill(7);
        }
        let answer = place.call(&Task::new().reserved(1).reserved(0), PATIENCE).unwrap();
        assert_eq!(tensor_at(&answer, 0), Tensor::new(&[5, 1], &[7_u8; 5]).unwrap());
    });
}

#[test]
fn tensors_in_place_and_large_arguments_do_not_mix() {
    echoes(|engine| {
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..40 {
                        let seed = 100 * thread + round;
                        let tensor = bytes([10, 5000, 300_000][seed % 3], seed);
                        let text = "x".repeat([0, 70, 10_000, 200_000][seed % 4]);
                        let spec = TensorSpec::input(DType::U8, &[tensor.len()]);
                        let mut place = engine.reserve(&[spec]).unwrap();
                        place.write(0, 0, &tensor).unwrap();
                        let value = Value::from(text.as_str());
                        let task = Task::new().value(&value).reserved(0);
                        let answer = place.call(&task, PATIENCE).unwrap();
                        assert_eq!(answer.str(0), Ok(text.as_str()), "{seed}");
                        assert!(tensor_at(&answer, 1).bytes() == tensor, "{seed}");
                    }
                });
            }
        });
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn what_cannot_be_reserved_or_written_is_said_and_leaves_nothing() {
    echoes(|engine| {
        let reserve = |specs: &[TensorSpec]| engine.reserve(specs).map(drop).unwrap_err();
        assert!(matches!(
            reserve(&[TensorSpec::input(DType::U8, &[1; 33])]),
            SubmitError::Tensor(TensorError::Rank { found: 33, limit: 32 })
        ));
        for shape in [&[1 << 62, 8][..], &[usize::MAX, usize::MAX], &[0, 1 << 62]] {
            let error = reserve(&[TensorSpec::output(DType::F64, shape)]);
            assert!(matches!(error, SubmitError::Tensor(TensorError::Overflow { .. })), "{error}");
        }
        let half = TensorSpec::input(DType::U8, &[PAYLOAD_BYTES / 2 + 1]);
        let error = reserve(&[half.clone(), half]);
        let SubmitError::TooLarge { needed, room } = error else { panic!("{error}") };
        assert!(needed > room && room == PAYLOAD_BYTES, "{needed} {room}");
        let most = TensorSpec::input(DType::U8, &[i64::MAX as usize]);
        let error = reserve(&[most.clone(), most.clone(), most]);
        assert!(matches!(error, SubmitError::Tensor(TensorError::Overflow { .. })), "{error}");

        let specs = [TensorSpec::input(DType::F32, &[2, 2]), TensorSpec::output(DType::I8, &[1])];
        let mut place = engine.reserve(&specs).unwrap();
        let elements = |given| ReservedError::Elements { index: 0, given, found: DType::F32 };
        assert_eq!(place.write(0, 0, &[1.0_f64]), Err(elements(DType::F64)));
        assert_eq!(place.write(0, 0, &[1_u8; 16]), Err(elements(DType::U8)));
        let range = |first, given| Err(ReservedError::Range { index: 0, first, given, room: 16 });
        assert_eq!(place.write(0, 3, &[1.0_f32, 2.0]), range(12, 8));
        assert_eq!(place.write(0, usize::MAX, &[1.0_f32]), range(usize::MAX, 4));
        assert_eq!(place.write_bytes(0, 17, &[]), range(17, 0));
        assert_eq!(place.write_bytes(0, 16, &[]), Ok(()));
        assert_eq!(place.write(1, 0, &[1_i8]), Err(ReservedError::Output { index: 1 }));
        let absent = ReservedError::NoSuchTensor { index: 2, reserved: 2 };
        assert_eq!(place.write(2, 0, &[1_i8]), Err(absent));

        let error = place.submit(&Task::new().reserved(0).reserved(2)).unwrap_err();
        let mismatch = TaskMismatch::NotReserved { name: "out".to_owned(), index: 2, reserved: 2 };
        assert_eq!(error, SubmitError::Mismatch(mismatch));
        drop(place);
        let error = engine.submit(&Task::new().reserved(0).value(&Value::None)).unwrap_err();
        let mismatch = TaskMismatch::NotReserved { name: "x".to_owned(), index: 0, reserved: 0 };
        assert_eq!(error, SubmitError::Mismatch(mismatch));
        assert_eq!(engine.in_use(), 0);
    });
    leak_free(|bench| {
        let engine = builder(bench, "echo").payload_bytes(0).start().unwrap();
        let error = engine.reserve(&[TensorSpec::input(DType::U8, &[1])]).map(drop).unwrap_err();
        assert_eq!(error, SubmitError::TooLarge { needed: 1, room: 0 });
    });
}

#[test]
fn a_guard_has_its_slot_until_it_is_dropped() {
    leak_free(|bench| {
        let engine = builder(bench, "echo").slots(2).start().unwrap();
        let reserve = || engine.reserve(&[TensorSpec::input(DType::U8, &[9])]);
        let first = reserve().unwrap();
        let second = reserve().unwrap();
        assert_eq!(reserve().map(drop).unwrap_err(), SubmitError::Full { slots: 2 });
        drop(first);
        drop(reserve().unwrap());
        drop(second);
        assert_eq!(engine.in_use(), 0);
        // After an error it has its slot still, and what was written; after a submit, neither.
        let mut place = reserve().unwrap();
        place.write(0, 0, &[7_u8; 9]).unwrap();
        assert!(place.submit(&Task::new().reserved(0)).is_err(), "an argument is missing");
        assert_eq!(engine.in_use(), 1);
        let task = Task::new().reserved(0).reserved(0);
        let answer = place.call(&task, PATIENCE).unwrap();
        assert_eq!(tensor_at(&answer, 1), Tensor::new(&[9], &[7_u8; 9]).unwrap());
        assert_eq!(place.write(0, 0, &[8_u8]), Err(ReservedError::Submitted));
        assert_eq!(place.submit(&task).map(drop), Err(SubmitError::Submitted));
        drop(place);
        // Also one that outlives the engine's service.
        let mut late = reserve().unwrap();
        engine.shutdown(PATIENCE);
        let error = late.submit(&Task::new().reserved(0).reserved(0)).map(drop).unwrap_err();
        assert!(matches!(error, SubmitError::Closed { .. }), "{error}");
        drop(late);
        assert!(matches!(reserve().map(drop), Err(SubmitError::Closed { .. })));
        assert_eq!(engine.in_use(), 0);
    });
}

/// Whether the kernel puts huge pages behind shared memory for those who ask for that.
fn kernel_has_huge_pages() -> bool {
    const HUGE_PAGE: usize = 2 << 20;
    const MADV_COLLAPSE: i32 = 25;
    let file = memory_file(HUGE_PAGE);
    let (nowhere, number) = (std::ptr::null_mut(), file.as_raw_fd());
    let (none, all) = (libc::PROT_NONE, libc::PROT_READ | libc::PROT_WRITE);
    let (private, shared) =
        (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::MAP_SHARED | libc::MAP_FIXED);
    // SAFETY: a new mapping where the kernel wants it.
    let room = unsafe { libc::mmap(nowhere, 2 * HUGE_PAGE, none, private, -1, 0) };
    assert_ne!(room, libc::MAP_FAILED);
    let start = room.map_addr(|address| address.next_multiple_of(HUGE_PAGE));
    // SAFETY: inside the mapping that was just made.
    let mapped = unsafe { libc::mmap(start, HUGE_PAGE, all, shared, number, 0) };
    assert_eq!(mapped, start);
    // SAFETY: mapped, and nobody else's.
    unsafe { start.cast::<u8>().write_bytes(1, HUGE_PAGE) };
    // SAFETY: as above; no byte changes.
    let collapsed = unsafe { libc::madvise(start, HUGE_PAGE, MADV_COLLAPSE) } == 0;
    // SAFETY: nobody has it any more.
    unsafe { libc::munmap(room, 2 * HUGE_PAGE) };
    collapsed
}

fn memory_file(bytes: usize) -> std::fs::File {
    // SAFETY: a name that ends in a zero.
    let number = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(number >= 0);
    // SAFETY: just opened, and nobody else's.
    let file = unsafe { std::fs::File::from_raw_fd(number) };
    file.set_len(bytes as u64).unwrap();
    file
}

/// Bytes of shared memory that a process has mapped by huge pages.
fn huge_bytes(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let huge = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let is_huge = matches!(name, "ShmemPmdMapped" | "FilePmdMapped");
        let kilobytes = rest.trim().strip_suffix(" kB")?.parse::<usize>().ok()?;
        is_huge.then_some(kilobytes << 10)
    };
    maps.lines().filter_map(huge).sum()
}

#[test]
fn large_tensors_get_huge_pages_in_host_and_worker_where_they_are_wanted_and_the_kernel_has_any() {
    let has_any = kernel_has_huge_pages();
    if !has_any {
        eprintln!("SKIPPED in part: this kernel puts no huge pages behind shared memory");
    }
    for wanted in [true, false] {
        leak_free(|bench| {
            let builder = builder(bench, "double").workers(1).slots(1).huge_pages(wanted);
            let engine = builder.payload_bytes((8 << 20) - 1).start().unwrap();
            assert_eq!(engine.payload_bytes(), 8 << 20);
            // Small, whole, grown within a page, grown by two, smaller.
            let lengths = [5000, 2 << 20, (2 << 20) + 1, (7 << 20) - 3, 100, 3 << 20, 8 << 20];
            for (seed, len) in lengths.into_iter().enumerate() {
                let input = bytes(len, seed);
                let output = double(&engine, &input).unwrap();
                assert!(output.bytes() == doubled(&input), "{len}");
            }
            let found = [std::process::id(), engine.worker_pids()[0]].map(huge_bytes);
            let expected = if wanted && has_any { 16 << 20 } else { 0 };
            assert_eq!(found, [expected; 2], "{wanted}");
        });
    }
}

#[test]
fn huge_pages_go_back_as_others_do() {
    leak_free(|bench| {
        let builder = builder(bench, "double").workers(1).slots(1).huge_pages(true);
        let engine = builder.payload_bytes(6 << 20).start().unwrap();
        for seed in 0..2 {
            let input = bytes(5 << 20, seed);
            assert!(double(&engine, &input).unwrap().bytes() == doubled(&input));
            wait_until("nothing is kept", || match segment_blocks() {
                blocks if blocks < 1 << 20 => Ok(()),
                blocks => Err(format!("{blocks} bytes")),
            });
        }
    });
}

/// Bytes that this process' segment has.
fn segment_blocks() -> u64 {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let segments = descriptors.filter_map(|entry| {
        let path = entry.ok()?.path();
        let target = std::fs::read_link(&path).ok()?;
        target.to_str()?.contains("nearcall-").then(|| std::fs::metadata(&path).ok())?
    });
    512 * segments.map(|metadata| metadata.blocks()).max().unwrap()
}

#[test]
fn what_a_model_keeps_of_huge_pages_stays_as_it_was_while_the_slot_goes_on() {
    leak_free(|bench| {
        let builder = builder(bench, "keep").workers(1).slots(1).huge_pages(true);
        let engine = builder.payload_bytes(16 << 20).start().unwrap();
        for round in 0..4 {
            let before: Vec<_> = (0..i64::from(round)).collect();
            assert_eq!(keep(&engine, round, 5 << 20).unwrap(), before, "{round}");
        }
    });
}

/// Submits twice `input` and gives what came back.
fn double(engine: &Engine, input: &[u8]) -> Result<Tensor, CallError> {
    let shape = [input.len()];
    let specs = [TensorSpec::input(DType::U8, &shape), TensorSpec::output(DType::U8, &shape)];
    let mut place = engine.reserve(&specs).unwrap();
    place.write(0, 0, input).unwrap();
    let answer = place.call(&Task::new().reserved(0).reserved(1), PATIENCE)?;
    Ok(tensor_at(&answer, 0))
}

fn doubled(input: &[u8]) -> Vec<u8> {
    input.iter().map(|byte| byte.wrapping_mul(2)).collect()
}

#[test]
fn an_answer_that_the_model_wrote_where_it_was_offered_room_comes_back() {
    leak_free(|bench| {
        let engine = builder(bench, "double").start().unwrap();
        for (seed, len) in [1, 100, 5000, 1 << 20, 64].into_iter().enumerate() {
            let input = bytes(len, seed);
            let output = double(&engine, &input).unwrap();
            assert!(output.bytes() == doubled(&input) && output.shape() == [len], "{len}");
        }
        assert_eq!(engine.in_use(), 0);
    });
}

#[test]
fn a_task_whose_worker_dies_is_done_once_more_with_the_same_tensors() {
    for point in ["serve.claimed", "model.calling", "serve.called", "serve.written"] {
        leak_free(|bench| {
            let builder = builder(bench, "double").workers(1).retries(1);
            let engine = builder.env("NEARCALL_FAULTS", format!("{point}=kill@1")).start().unwrap();
            for (seed, len) in [100_000, 300].into_iter().enumerate() {
                let input = bytes(len, seed);
                let output = double(&engine, &input).unwrap();
                assert!(output.bytes() == doubled(&input), "{point} {len}");
            }
            assert_eq!(engine.health().unwrap().deaths, 1, "{point}");
        });
    }
}

/// Keeps an input full of this byte; says what the model has kept before.
fn keep(engine: &Engine, byte: u8, len: usize) -> Result<Vec<i64>, CallError> {
    let shape = [len];
    let mut place = engine.reserve(&[TensorSpec::input(DType::U8, &shape)]).unwrap();
    place.write(0, 0, &vec![byte; len]).unwrap();
    let task = Task::new().reserved(0).value(&Value::None);
    Ok(place.call(&task, PATIENCE)?.to().unwrap())
}

#[test]
fn what_a_model_keeps_stays_as_it_was_while_the_slot_goes_on() {
    leak_free(|bench| {
        let engine = builder(bench, "keep").workers(1).slots(1).start().unwrap();
        for round in 0..10 {
            let before: Vec<_> = (0..i64::from(round)).collect();
            assert_eq!(keep(&engine, round, 10_000).unwrap(), before);
        }
    });
}

#[test]
fn a_worker_that_never_lets_go_is_replaced() {
    leak_free(|bench| {
        let engine = builder(bench, "keep").workers(1).slots(1).start().unwrap();
        let first = engine.worker_pids();
        wait_until("another worker", || {
            keep(&engine, 1, 64).unwrap();
            let pids = engine.worker_pids();
            if pids == first { Err(format!("{pids:?}")) } else { Ok(()) }
        });
        assert_eq!(engine.health().unwrap().deaths, 0, "in order");
    });
}

#[test]
fn a_worker_that_keeps_more_than_there_is_memory_for_ends_with_that_task() {
    leak_free(|bench| {
        let engine = builder(bench, "keep").workers(1).slots(1).start().unwrap();
        let len = PAYLOAD_BYTES;
        let death = loop {
            match keep(&engine, 1, len) {
                // A quarter of a gigabyte, and one more. (A slow worker may be replaced before.)
                Ok(kept) => assert!(kept.len() < 64, "{} are kept", kept.len() + 1),
                Err(CallError::Wait(WaitError::Retrieve(RetrieveError::Task(
                    TaskError::Died { report, .. },
                )))) => break report.last_words,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(death.contains("keeps more arrays"), "{death}");
        assert_eq!(keep(&engine, 1, len).unwrap(), [0; 0], "another worker");
    });
}

#[test]
fn no_room_for_tensors_is_one_tasks_error_and_no_signal() {
    with_small_shared_memory("4m", "tensors_in_a_shared_memory_of_four_megabytes");
}

#[test]
#[ignore = "in a mount namespace"]
fn tensors_in_a_shared_memory_of_four_megabytes() {
    leak_free(|bench| {
        let engine = builder(bench, "double").start().unwrap();
        let reserve =
            |megabytes: usize| engine.reserve(&[TensorSpec::input(DType::U8, &[megabytes << 20])]);
        let free = || {
            let room = nix::sys::statvfs::statvfs("/dev/shm").unwrap();
            room.blocks_available() * room.fragment_size()
        };
        let at_first = free();
        let held = reserve(2).unwrap();
        let error = reserve(3).map(drop).unwrap_err();
        let SubmitError::NoSharedMemory { needed, available, total } = error else {
            panic!("{error}")
        };
        assert!(needed == 3 << 20 && available < 3 << 20 && total == 4 << 20, "{available}");
        let input = bytes(100_000, 1);
        assert!(double(&engine, &input).unwrap().bytes() == doubled(&input));
        drop(held);
        // What is kept for later goes for what is needed now, also for a task that is not in place.
        drop(reserve(3).unwrap());
        drop(engine.reserve(&[TensorSpec::output(DType::U8, &[3 << 20])]).unwrap());
        drop(reserve(3).unwrap());
        // And in the end it goes back by itself.
        // Also when the engine has been idle before.
        for _ in 0..2 {
            drop(engine.reserve(&[TensorSpec::input(DType::U8, &[500_000])]).unwrap());
            assert!(free() < at_first, "some is kept");
            wait_until("the pages of all tensors", || match free() {
                free if free == at_first => Ok(()),
                free => Err(format!("{free} of {at_first} are free")),
            });
        }
        // An answer that found no room because of it is the only one.
        let signature = Signature::new().str("text");
        let echo = bench.builder("echo").signature(signature).workers(1).start().unwrap();
        let text = "x".repeat(1 << 20);
        let task = Task::new().str(&text);
        assert!(echo.call(&task, PATIENCE).is_ok());
        drop(echo.reserve(&[TensorSpec::input(DType::U8, &[900_000])]).unwrap());
        let all_but_some = free() as usize - (3 << 19);
        let full = engine.reserve(&[TensorSpec::input(DType::U8, &[all_but_some])]).unwrap();
        let refused = echo.call(&task, PATIENCE).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("shared memory"), "{refused}");
        assert!(echo.call(&task, PATIENCE).is_ok(), "what was kept went back");
        drop(full);
        echo.shutdown(PATIENCE);
        drop(echo);
        for _ in 0..3 {
            drop(reserve(1).unwrap());
            let (large, none) = (Value::Bytes(vec![1; 3 << 20]), Value::None);
            drop(engine.submit(&Task::new().value(&large).value(&none)).unwrap());
            wait_until("free again", || match engine.in_use() {
                0 => Ok(()),
                in_use => Err(in_use.to_string()),
            });
        }
    });
}

#[test]
fn an_empty_tensor_can_be_kept_where_there_is_no_memory_left() {
    with_small_shared_memory("4m", "an_empty_tensor_is_kept_in_a_full_shared_memory");
}

#[test]
#[ignore = "in a mount namespace"]
fn an_empty_tensor_is_kept_in_a_full_shared_memory() {
    leak_free(|bench| {
        let engine = builder(bench, "keep").workers(1).slots(2).start().unwrap();
        let mut bytes = PAYLOAD_BYTES;
        // All that is left.
        let held = loop {
            match engine.reserve(&[TensorSpec::input(DType::U8, &[bytes])]) {
                Ok(held) => break held,
                Err(_) => bytes -= 4096,
            }
        };
        assert_eq!(keep(&engine, 1, 0).unwrap(), [0; 0], "beside {bytes} bytes");
        drop(held);
    });
}
