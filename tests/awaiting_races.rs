//! What futures, keys and threads promise each other about the same tasks and the same slots, and what they
//! promise whatever wakers, workers and event loops do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::awaiting::{Counted, echo, gated, poll_once, poll_with};
use common::crash::Told;
use common::{Bench, PATIENCE, leak_free};
use nearcall::{Completions, Engine, Key, Signature, Task, WaitPolicy};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Fifty audits.
const BOUND: Duration = Duration::from_secs(5);

fn is_rung(bell: BorrowedFd<'_>, for_ms: u16) -> bool {
    poll(&mut [PollFd::new(bell, PollFlags::POLLIN)], PollTimeout::from(for_ms)) == Ok(1)
}

/// What an event loop does: dispatches when the descriptor is readable, until `enough`. Whether it was.
fn runs_until(
    completions: &Completions,
    over: &mut Vec<Key>,
    enough: impl Fn(&[Key]) -> bool,
) -> bool {
    let end = Instant::now() + BOUND;
    while !enough(over) {
        if Instant::now() >= end {
            return false;
        }
        if is_rung(completions.as_fd(), 50) {
            completions.dispatch(over);
        }
    }
    true
}

fn holds_within_the_bound(condition: impl Fn() -> bool) -> bool {
    let end = Instant::now() + BOUND;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A thread takes the answer that a future awaits; its slot's next future takes the place of the first
/// one's interest, before the event loop has come by.
#[test]
fn a_future_whose_answer_was_taken_hears_of_it_also_when_its_slot_is_used_again_at_once() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 1);
        let completions = engine.completions();
        let (first_waker, next_waker) = (Arc::<Counted>::default(), Arc::<Counted>::default());
        let mut first = engine.call_async(&Task::new().int(1), PATIENCE);
        assert!(poll_once(&mut first, &first_waker).is_pending());
        open.send(()).unwrap();
        assert!(engine.wait(first.key().unwrap(), PATIENCE).is_ok());
        let mut next = engine.call_async(&Task::new().int(2), PATIENCE);
        assert!(poll_once(&mut next, &next_waker).is_pending());
        let woken = runs_until(&completions, &mut Vec::new(), |_| first_waker.times() > 0);
        open.send(()).unwrap();
        assert!(woken, "the first future is never woken");
    });
}

/// The worker is stopped, or dies, between publishing and telling. A thread finds the answer by looking.
/// Nothing is in use then, so no audit looks at what is awaited.
#[test]
fn a_future_whose_worker_says_nothing_is_woken_also_when_a_thread_has_taken_the_answer() {
    let mut silent = Vec::new();
    for way in ["stop", "kill"] {
        leak_free(|bench| {
            let told = Told::new();
            let slow = bench.builder("slow_echo").signature(Signature::new().int("x"));
            let slow = slow.workers(1).wait_policy(WaitPolicy::Spin);
            let engine = told.arm(slow, &format!("serve.completed={way}@0.1")).start().unwrap();
            let waker = Arc::<Counted>::default();
            let mut future = engine.call_async(&Task::new().int(1), PATIENCE);
            assert!(poll_once(&mut future, &waker).is_pending());
            assert_eq!(engine.wait(future.key().unwrap(), PATIENCE).unwrap().int(0), Ok(1));
            let woken = holds_within_the_bound(|| waker.times() > 0);
            drop(future);
            if !woken {
                silent.push(way);
            }
        });
    }
    assert!(silent.is_empty(), "the future is never woken: {silent:?}");
}

struct Blocks {
    entered: Sender<()>,
    release: Mutex<Receiver<()>>,
}

impl Wake for Blocks {
    fn wake(self: Arc<Self>) {
        let _ = self.entered.send(());
        let _ = self.release.lock().unwrap().recv_timeout(2 * BOUND);
    }
}

fn blocking() -> (Waker, Receiver<()>, Sender<()>) {
    let (entered, is_entered) = channel();
    let (let_go, release) = channel();
    (Waker::from(Arc::new(Blocks { entered, release: Mutex::new(release) })), is_entered, let_go)
}

/// The library's thread has found a key just before somebody begins to watch, and puts it down after that
/// one has looked.
#[test]
fn a_key_that_the_librarys_thread_finds_while_somebody_begins_to_watch_is_reported() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 4);
        let (first_waker, in_first, let_first_go) = blocking();
        let (last_waker, in_last, let_last_go) = blocking();
        let mut first = engine.call_async(&Task::new().int(1), PATIENCE);
        assert!(poll_with(&mut first, &first_waker).is_pending());
        let key = engine.submit(&Task::new().int(2)).unwrap().into_key();
        assert_eq!(engine.notify(key), Ok(false));
        let mut last = engine.call_async(&Task::new().int(3), PATIENCE);
        assert!(poll_with(&mut last, &last_waker).is_pending());
        let behind = engine.submit(&Task::new().int(4)).unwrap();
        open.send(()).unwrap();
        in_first.recv_timeout(PATIENCE).unwrap();
        // While the thread is in the first waker, both others end: it finds them together.
        (0..3).for_each(|_| open.send(()).unwrap());
        engine.wait(behind, PATIENCE).unwrap();
        let_first_go.send(()).unwrap();
        in_last.recv_timeout(PATIENCE).unwrap();
        let completions = engine.completions();
        let mut over = Vec::new();
        while is_rung(completions.as_fd(), 100) {
            completions.dispatch(&mut over);
        }
        let_last_go.send(()).unwrap();
        let reported = runs_until(&completions, &mut over, |over| over.contains(&key));
        drop((first, last));
        engine.wait(key, PATIENCE).unwrap();
        assert!(reported, "the key is never reported");
    });
}

#[test]
fn a_future_is_woken_also_when_somebody_asks_to_be_notified_of_its_key() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 1);
        let completions = engine.completions();
        let waker = Arc::<Counted>::default();
        let mut future = engine.call_async(&Task::new().int(1), PATIENCE);
        assert!(poll_once(&mut future, &waker).is_pending());
        assert_eq!(engine.notify(future.key().unwrap()), Ok(false));
        open.send(()).unwrap();
        let woken = runs_until(&completions, &mut Vec::new(), |_| waker.times() > 0);
        assert!(woken, "the future is never woken");
    });
}

#[test]
fn the_deadline_of_a_task_that_is_only_notified_of_passes_in_a_double_too() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 1);
        let completions = engine.completions();
        let task = Task::new().int(1);
        let key = engine.submit_by(&task, Duration::from_millis(20)).unwrap().into_key();
        assert_eq!(engine.notify(key), Ok(false));
        let reported = runs_until(&completions, &mut Vec::new(), |over| over.contains(&key));
        drop(open);
        assert!(reported, "nobody keeps the deadline");
    });
}

/// What is thrown by a waker is foreign code as well.
#[test]
fn a_waker_whose_panic_panics_when_it_is_dropped_takes_no_other_along() {
    struct Explosive;
    impl Drop for Explosive {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("as asked, again");
            }
        }
    }
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic_any(Explosive);
        }
    }
    leak_free(|bench| {
        let (engine, open) = gated(bench, 2);
        let mut first = engine.call_async(&Task::new().int(1), PATIENCE);
        assert!(poll_with(&mut first, &Waker::from(Arc::new(Panics))).is_pending());
        let counted = Arc::<Counted>::default();
        let mut second = engine.call_async(&Task::new().int(2), PATIENCE);
        assert!(poll_once(&mut second, &counted).is_pending());
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert!(holds_within_the_bound(|| counted.times() > 0), "nobody wakes any more");
    });
}

/// "Returns within the deadline plus a second" is said of `shutdown`, which a drop is, with no time at all.
#[test]
fn a_drop_of_the_engine_does_not_wait_for_somebodys_waker() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 1);
        let (waker, entered, let_go) = blocking();
        let mut future = engine.call_async(&Task::new().int(1), PATIENCE);
        assert!(poll_with(&mut future, &waker).is_pending());
        std::mem::forget(future);
        open.send(()).unwrap();
        entered.recv_timeout(PATIENCE).unwrap();
        let dropping = thread::spawn(move || drop(engine));
        let returned = holds_within_the_bound(|| dropping.is_finished());
        let_go.send(()).unwrap();
        dropping.join().unwrap();
        assert!(returned, "it waits for a waker, which may wait for whoever drops the engine");
    });
}

thread_local! {
    /// What happens when the next waker of `HOOKED` is cloned: between a future's look and its asking.
    static HOOK: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::new(None);
}

const HOOKED: RawWakerVTable = RawWakerVTable::new(
    |_| {
        if let Some(hook) = HOOK.take() {
            hook();
        }
        RawWaker::new(std::ptr::null(), &HOOKED)
    },
    |_| {},
    |_| {},
    |_| {},
);

/// Between a future's look and its asking, another thread takes its answer, and the slot goes to another
/// future, which asks first. (The hook stands for that other thread.)
#[test]
fn a_future_that_is_late_does_not_take_the_place_of_its_slots_next_one() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 1);
        // For the hook, which has to live for ever.
        let engine: &'static Engine = Box::leak(Box::new(engine));
        let completions = engine.completions();
        let counted = Arc::<Counted>::default();
        let mut first = engine.call_async(&Task::new().int(1), PATIENCE);
        let key = first.key().unwrap();
        let (hand_over, next) = channel();
        {
            let (open, counted) = (open.clone(), counted.clone());
            HOOK.set(Some(Box::new(move || {
                open.send(()).unwrap();
                engine.wait(key, PATIENCE).unwrap();
                let mut next = engine.call_async(&Task::new().int(2), PATIENCE);
                assert!(poll_once(&mut next, &counted).is_pending());
                hand_over.send(next).unwrap();
            })));
        }
        // SAFETY: no function of the table uses the pointer.
        let hooked = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &HOOKED)) };
        assert!(poll_with(&mut first, &hooked).is_ready(), "it was taken by another");
        let mut next = next.recv().unwrap();
        // What came before.
        completions.dispatch(&mut Vec::new());
        if counted.times() > 0 {
            // A wake too many is fine; it asks again.
            assert!(poll_once(&mut next, &counted).is_pending());
        }
        let before = counted.times();
        open.send(()).unwrap();
        let woken = runs_until(&completions, &mut Vec::new(), |_| counted.times() > before);
        drop((first, next, completions));
        // SAFETY: it was leaked above, and nothing borrows it any more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(engine).cast_mut()) });
        assert!(woken, "the next future is never woken");
    });
}

/// "A task is reported once", of whatever bits a worker sets, and whoever dispatches.
#[test]
fn a_task_is_reported_once_however_many_dispatch_and_whatever_bits_are_set() {
    // `docs/shm-layout.md`, with 2 workers and 16 slots.
    const COMPLETED: u64 = 256 + 4 * 128 + 64 * 64 + 64;
    const FOR: Duration = Duration::from_secs(2);
    leak_free(|bench| {
        let engine = echo(bench).slots(16).start().unwrap();
        let path = fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
            let path = entry.unwrap().path();
            let target = fs::read_link(&path).ok()?;
            target.to_str()?.starts_with("/dev/shm/nearcall-").then_some(path)
        });
        let segment = File::options().write(true).open(path.unwrap()).unwrap();
        let done = AtomicBool::new(false);
        let reports = AtomicUsize::new(0);
        let dispatch = || {
            let completions = engine.completions();
            let (mut over, mut counts) = (Vec::new(), HashMap::<u64, u32>::new());
            while !done.load(Ordering::SeqCst) {
                completions.dispatch(&mut over);
                for key in over.drain(..) {
                    *counts.entry(key.get()).or_default() += 1;
                    reports.fetch_add(1, Ordering::SeqCst);
                }
            }
            counts
        };
        let (asked, counts) = thread::scope(|scope| {
            let dispatchers = [scope.spawn(dispatch), scope.spawn(dispatch)];
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    segment.write_all_at(&u64::MAX.to_ne_bytes(), COMPLETED).unwrap();
                }
            });
            let (start, mut asked) = (Instant::now(), 0);
            while start.elapsed() < FOR && reports.load(Ordering::SeqCst) <= asked {
                let keys: Vec<Key> = (0..16)
                    .map(|number| engine.submit(&Task::new().int(number)).unwrap().into_key())
                    .collect();
                asked += keys.iter().filter(|key| !engine.notify(**key).unwrap()).count();
                for key in keys {
                    engine.wait(key, PATIENCE).unwrap();
                }
                let end = Instant::now() + PATIENCE;
                while reports.load(Ordering::SeqCst) < asked {
                    assert!(Instant::now() < end, "never reported");
                    thread::yield_now();
                }
            }
            done.store(true, Ordering::SeqCst);
            let mut counts = HashMap::<u64, u32>::new();
            for dispatcher in dispatchers {
                for (key, count) in dispatcher.join().unwrap() {
                    *counts.entry(key).or_default() += count;
                }
            }
            (asked, counts)
        });
        let twice = counts.values().filter(|count| **count > 1).count();
        assert_eq!(twice, 0, "of {asked}");
    });
}

#[test]
fn a_completions_that_outlives_its_engine_keeps_no_segment() {
    leak_free(|bench| {
        let engine = echo(bench).start().unwrap();
        let completions = engine.completions();
        drop(engine);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let kept: Vec<_> =
            maps.lines().filter(|line| line.contains("/dev/shm/nearcall-")).collect();
        assert!(!completions.dispatch(&mut Vec::new()));
        assert!(kept.is_empty(), "{kept:#?}");
    });
}

/// A host may have closed the door for new descriptors, as sandboxes do.
#[test]
fn the_librarys_thread_does_not_spin_when_the_kernel_refuses_to_poll() {
    leak_free(|bench| {
        let (engine, open) = gated(bench, 1);
        let mut future = engine.call_async(&Task::new().int(1), PATIENCE);
        assert!(poll_once(&mut future, &Arc::default()).is_pending());
        let stat = holds_thread("nearcall-wake");
        let stat = File::open(stat).unwrap();
        let ticks = || {
            let mut text = [0; 512];
            let len = stat.read_at(&mut text, 0).unwrap();
            let text = String::from_utf8_lossy(&text[..len]).into_owned();
            let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let before_limit = set_descriptor_limit(1);
        // It sleeps in the poll that it has begun before.
        let mut another = engine.call_async(&Task::new().int(1), PATIENCE);
        drop(engine.completions());
        let _ = poll_once(&mut another, &Arc::default());
        let before = ticks();
        thread::sleep(Duration::from_secs(2));
        let used = ticks() - before;
        set_descriptor_limit(before_limit);
        drop((future, another));
        drop(open);
        eprintln!("{used} ticks of 10 ms in two seconds");
        assert!(used < 50, "it spins: {used} ticks of 10 ms in two seconds");
    });
}

/// Gives the one before.
fn set_descriptor_limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place is this function's.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    let before = std::mem::replace(&mut limit.rlim_cur, soft);
    // SAFETY: likewise.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    before
}

fn holds_thread(name: &str) -> std::path::PathBuf {
    let end = Instant::now() + BOUND;
    loop {
        for entry in fs::read_dir("/proc/self/task").unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim() == name) {
                return path.join("stat");
            }
        }
        assert!(Instant::now() < end, "no such thread");
    }
}

#[test]
fn a_completions_that_goes_leaves_a_future_that_is_not_polled_again_to_the_librarys_thread() {
    leak_free(|bench| {
        let (engine, open) = gated_processes(bench);
        let completions = engine.completions();
        let waker = Arc::<Counted>::default();
        let mut future = engine.call_async(&Task::new().int(300), PATIENCE);
        assert!(poll_once(&mut future, &waker).is_pending());
        drop((completions, open));
        assert!(holds_within_the_bound(|| waker.times() > 0));
        assert!(AsRawFd::as_raw_fd(&engine.completions()) > 2);
    });
}

fn gated_processes(bench: &Bench) -> (Engine, ()) {
    let sleep = bench.builder("sleep").signature(Signature::new().int("ms"));
    (sleep.workers(1).start().unwrap(), ())
}

/// Whatever a worker writes over what is said to event loops, all the time: a future is woken by an audit.
#[test]
fn words_that_are_overwritten_all_the_time_cost_a_future_no_more_than_some_audits() {
    // `docs/shm-layout.md`, with 2 workers and 4 slots.
    const ANNOUNCED: u64 = 768 + 16 * 64;
    const COMPLETED: u64 = ANNOUNCED + 64;
    const SLOTS: u64 = 4096;
    for watched in [true, false] {
        leak_free(|bench| {
            let slow = bench.builder("slow_echo").signature(Signature::new().int("x"));
            let engine = slow.workers(2).slots(4).slot_bytes(256).start().unwrap();
            let path = fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
                let path = entry.unwrap().path();
                let target = fs::read_link(&path).ok()?;
                target.to_str()?.starts_with("/dev/shm/nearcall-").then_some(path)
            });
            let segment = File::options().write(true).open(path.unwrap()).unwrap();
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        segment.write_all_at(&1_u32.to_ne_bytes(), ANNOUNCED).unwrap();
                        segment.write_all_at(&0_u64.to_ne_bytes(), COMPLETED).unwrap();
                        for slot in 0..4 {
                            segment.write_all_at(&[0; 4], SLOTS + slot * 384 + 8).unwrap();
                        }
                    }
                });
                if watched {
                    scope.spawn(|| {
                        let completions = engine.completions();
                        while !done.load(Ordering::SeqCst) {
                            if is_rung(completions.as_fd(), 50) {
                                completions.dispatch(&mut Vec::new());
                            }
                        }
                    });
                }
                for number in 0..40 {
                    let waker = Arc::<Counted>::default();
                    let mut future = engine.call_async(&Task::new().int(number), PATIENCE);
                    if poll_once(&mut future, &waker).is_pending() {
                        let woken = holds_within_the_bound(|| waker.times() > 0);
                        let is_ready = poll_once(&mut future, &waker).is_ready();
                        done.store(!woken || !is_ready, Ordering::SeqCst);
                        assert!(woken && is_ready, "{number}: {woken}, {is_ready}");
                    }
                }
                done.store(true, Ordering::SeqCst);
            });
        });
    }
}
