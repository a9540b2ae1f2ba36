//! Who watches: when each worker ended, whether every actor moves, what a hung storm looks like.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nearcall::Engine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::leaks;
use crate::plan::TICK;
use crate::tally::{Record, lock};

/// A task that has not ended after so long hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// An actor that has not moved for so long is stuck inside a call of the engine.
const ACTOR_PATIENCE: Duration = Duration::from_secs(45);
/// How often there is a line about how it goes.
const PROGRESS: Duration = Duration::from_secs(10);
/// Anything is more than an ordinary thread's.
const PRIORITY: i32 = 1;

/// A worker, as the storm knows it.
struct Watched {
    /// `None` once it has ended.
    pidfd: Option<OwnedFd>,
    killed: Option<Instant>,
    /// When its descriptor became readable.
    ended: Option<Instant>,
}

/// The workers of a round.
#[derive(Default)]
pub(crate) struct Watch {
    workers: Mutex<BTreeMap<u32, Watched>>,
}

/// A caller that was told of a death.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) pid: u32,
    pub(crate) waiting_since: Instant,
    pub(crate) at: Instant,
}

impl Watch {
    /// Looks at the workers of an engine until it is told to stop.
    pub(crate) fn run(&self, engine: &Engine, record: &Record, over: impl Fn() -> bool) {
        hurry();
        let mut look = Instant::now();
        let mut acts = vec![(0, look); record.sheets.len()];
        let mut next_progress = next_progress(record);
        while !over() {
            for pid in engine.worker_pids() {
                self.know(pid);
            }
            self.note_ends();
            let now = Instant::now();
            if now >= next_progress {
                record.progress();
                next_progress += PROGRESS;
            }
            if now >= look {
                look = now + Duration::from_secs(1);
                look_at_actors(engine, record, &mut acts, now);
            }
        }
    }

    fn know(&self, pid: u32) {
        let mut workers = lock(&self.workers);
        workers.entry(pid).or_insert_with(|| Watched {
            pidfd: open(pid),
            killed: None,
            ended: None,
        });
    }

    /// Waits for a tick, or until a worker ends, and notes when.
    fn note_ends(&self) {
        // Duplicates: nobody waits with the lock.
        let alive: Vec<(u32, OwnedFd)> = lock(&self.workers)
            .iter()
            .filter_map(|(pid, worker)| Some((*pid, worker.pidfd.as_ref()?.try_clone().ok()?)))
            .collect();
        let mut descriptors: Vec<_> = alive
            .iter()
            .map(|(_, pidfd)| PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN))
            .collect();
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let _ = poll(&mut descriptors, Some(&tick));
        let now = Instant::now();
        let ended = descriptors.iter().zip(&alive).filter(|(fd, _)| !fd.revents().is_empty());
        for (_, (pid, _)) in ended {
            if let Some(worker) = lock(&self.workers).get_mut(pid) {
                worker.ended = Some(now);
                worker.pidfd = None;
            }
        }
    }

    /// Sends a signal to a worker. `false`: it had ended.
    pub(crate) fn signal(&self, pid: u32, signal: Signal) -> bool {
        self.know(pid);
        let mut workers = lock(&self.workers);
        let Some(worker) = workers.get_mut(&pid) else { return false };
        let Some(pidfd) = &worker.pidfd else { return false };
        let now = Instant::now();
        let sent = pidfd_send_signal(pidfd, signal).is_ok();
        // The others do not reach a worker that is stopped before it goes on.
        if sent && signal == Signal::KILL {
            worker.killed.get_or_insert(now);
        }
        sent
    }

    /// From the worker's end, and from its kill, to the error of a caller that was waiting.
    pub(crate) fn delays(&self, told: &Told) -> (Option<Duration>, Option<Duration>) {
        let workers = lock(&self.workers);
        let Some(worker) = workers.get(&told.pid) else { return (None, None) };
        let since = |event: Option<Instant>| {
            let event = event.filter(|event| told.waiting_since < *event)?;
            Some(told.at.saturating_duration_since(event))
        };
        // A kill that came later than another cause of the end is not what the error tells of.
        let killed = worker.killed.filter(|killed| worker.ended.is_some_and(|end| *killed <= end));
        (since(worker.ended), since(killed))
    }
}

/// Has this thread run as soon as it can: it is to see an end before the engine does. (It hardly runs.)
/// Where that is not allowed, ends are noticed later, and look nearer to the error.
fn hurry() {
    let priority = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: this thread's own scheduling; reads the parameter only.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}

fn open(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()
}

fn next_progress(record: &Record) -> Instant {
    let periods = record.began.elapsed().as_secs() / PROGRESS.as_secs() + 1;
    record.began + PROGRESS * u32::try_from(periods).unwrap_or(u32::MAX)
}

/// Ends the storm if an actor is stuck inside a call: it cannot be asked to stop.
fn look_at_actors(engine: &Engine, record: &Record, acts: &mut [(u64, Instant)], now: Instant) {
    for (lane, (sheet, seen)) in record.sheets.iter().zip(acts).enumerate() {
        let acted = sheet.acts.load(std::sync::atomic::Ordering::Relaxed);
        if acted != seen.0 || lock(&sheet.doing).is_none() {
            *seen = (acted, now);
        } else if now.duration_since(seen.1) > ACTOR_PATIENCE {
            record.find(format!("HUNG: actor {lane} is stuck in a call"));
            sheet.tally().hung += 1;
            record.doom();
            dump(engine, record);
            let _ = record.report();
            std::process::exit(1);
        }
    }
}

/// A task hangs: says all that can be said, once, and ends the storm.
pub(crate) fn hang(engine: &Engine, record: &Record, text: String) {
    record.find(format!("HUNG: {text}"));
    if record.doom() {
        dump(engine, record);
    }
}

/// Says how engine, processes and actors are.
fn dump(engine: &Engine, record: &Record) {
    record.say(format!("{engine:?}"));
    record.say(format!("{:#?}", engine.health()));
    for pid in leaks::processes() {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
        };
        record.say(format!(
            "process {pid}: stat {}\n  wchan {}\n  syscall {}\n  stack {}",
            read("stat"),
            read("wchan"),
            read("syscall"),
            read("stack").replace('\n', "\n    "),
        ));
    }
    for line in record.journal.take() {
        record.say(format!("engine: {line}"));
    }
    for (lane, sheet) in record.sheets.iter().enumerate() {
        if let Some(doing) = *lock(&sheet.doing) {
            record.say(format!(
                "actor {lane}: {} (act {}), from its task {} on, for {:?}",
                doing.what,
                doing.act,
                doing.first_task,
                doing.since.elapsed()
            ));
        }
    }
}
