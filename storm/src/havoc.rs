//! Who kills, stops, reloads, and has workers write into the segment.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nearcall::error::ReloadError;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::leaks::state_and_parent;
use crate::orders::Deed;
use crate::plan::{KILLER, RELOADER, STOPPER, VANDAL};
use crate::round::Scene;
use crate::submitter::Submitter;
use crate::watch::{self, PATIENCE};

/// Signals that a killer sends. (The standard library's handler lets the first SIGSEGV pass.)
const DEADLY: [Signal; 8] = [
    Signal::KILL,
    Signal::KILL,
    Signal::KILL,
    Signal::KILL,
    Signal::ABORT,
    Signal::SEGV,
    Signal::BUS,
    Signal::TERM,
];

/// Kills workers and fork servers, or has workers kill themselves.
pub(crate) fn killer(scene: &Scene<'_>) {
    let submitter = Submitter::new(scene, KILLER);
    acts(scene, KILLER, "kill", |dice| {
        // Mostly so rarely that workers get old enough to count as well; sometimes a volley.
        let volley = dice.u32(..8) == 0;
        scene.pause(if volley { dice.u64(5..40) } else { dice.u64(80..450) });
        let signal = DEADLY[dice.usize(..DEADLY.len())];
        let (nth, amount) = (dice.usize(..1 << 16), dice.i64(1..=100));
        let mut killed = 0;
        match dice.u32(..100) {
            0..78 => killed += u64::from(kill(scene, nth, signal)),
            78..90 => {
                killed += 1;
                let signals = [6, 9, 11];
                let signal = signals[nth % signals.len()];
                match dice.u32(..12) {
                    0..3 => submitter.order(Deed::Exit, amount, None),
                    3..7 => submitter.order(Deed::Die, signal, None),
                    _ => submitter.order_in_place(Deed::Stumble, signal, dice),
                }
            }
            90..95 => {
                for pid in scene.engine.worker_pids() {
                    killed += u64::from(scene.watch.signal(pid, signal));
                }
            }
            _ => {
                let sent = server(scene).map(|pidfd| pidfd_send_signal(pidfd, Signal::KILL));
                killed += u64::from(sent.is_some_and(|sent| sent.is_ok()));
            }
        }
        scene.record.sheet(KILLER).tally().kills += killed;
    });
}

fn kill(scene: &Scene<'_>, nth: usize, signal: Signal) -> bool {
    let Some(pid) = worker(scene, nth) else { return false };
    let sent = scene.watch.signal(pid, signal);
    if signal == Signal::SEGV {
        scene.watch.signal(pid, signal);
    }
    sent
}

fn worker(scene: &Scene<'_>, nth: usize) -> Option<u32> {
    let pids = scene.engine.worker_pids();
    pids.get(nth % pids.len().max(1)).copied()
}

/// The process that a worker was forked from, if that is a child of this one.
fn server(scene: &Scene<'_>) -> Option<OwnedFd> {
    let (_, parent) = state_and_parent(worker(scene, 0)?)?;
    let server: u32 = parent.parse().ok()?;
    let pidfd = pidfd_open(Pid::from_raw(server.cast_signed())?, PidfdFlags::empty()).ok()?;
    // After the descriptor is open: it is one process from here on.
    let (_, grandparent) = state_and_parent(server)?;
    (grandparent == std::process::id().to_string()).then_some(pidfd)
}

/// Stops workers, and lets them go on or kills them.
pub(crate) fn stopper(scene: &Scene<'_>) {
    let submitter = Submitter::new(scene, STOPPER);
    acts(scene, STOPPER, "stop", |dice| {
        scene.pause(dice.u64(200..2000));
        let (nth, ticks, goes_on) = (dice.usize(..1 << 16), dice.u64(1..1000), dice.bool());
        let kind = dice.u32(..10);
        if scene.is_over() {
            return;
        }
        match kind {
            // The engine must be rid of it by itself: the task has a deadline.
            0 => submitter.order(Deed::Stop, 0, Some(Duration::from_millis(ticks))),
            1 => {
                let Some(server) = server(scene) else { return };
                if pidfd_send_signal(&server, Signal::STOP).is_err() {
                    return;
                }
                scene.pause(ticks);
                // It may have been given up and killed by now.
                let _ = pidfd_send_signal(&server, Signal::CONT);
            }
            _ => {
                let Some(pid) = worker(scene, nth) else { return };
                if !scene.watch.signal(pid, Signal::STOP) {
                    return;
                }
                scene.pause(ticks);
                // If it was idle the engine has killed it by now, perhaps. In a task it stays until
                // somebody helps: no deadline, no verdict.
                let signal = if goes_on { Signal::CONT } else { Signal::KILL };
                let killed = scene.watch.signal(pid, signal) && !goes_on;
                scene.record.sheet(STOPPER).tally().kills += u64::from(killed);
            }
        }
        scene.record.sheet(STOPPER).tally().stops += 1;
    });
}

/// Replaces all workers, again and again.
pub(crate) fn reloader(scene: &Scene<'_>) {
    // A reload that has replaced some workers by its deadline goes on: another is refused meanwhile.
    let goes_on = Cell::new(false);
    acts(scene, RELOADER, "reload", |dice| {
        scene.pause(dice.u64(300..3000));
        let limit = Duration::from_millis(dice.u64(1000..5000));
        if scene.is_over() {
            return;
        }
        let began = Instant::now();
        let result = scene.engine.reload(limit);
        let took = began.elapsed();
        if let Err(error) = &result {
            scene.record.say(format!("a reload by {limit:?} took {took:?}: {error}"));
        }
        let mut tally = scene.record.sheet(RELOADER).tally();
        match result {
            Ok(_) => {
                goes_on.set(false);
                tally.reloads += 1;
            }
            Err(ReloadError::TimedOut { replaced, .. }) => {
                goes_on.set(replaced > 0);
                tally.aside("reload timed out");
            }
            Err(ReloadError::Busy) if goes_on.get() => tally.aside("reload beside another"),
            // The new fork server or its workers were killed too.
            Err(ReloadError::Start(_)) => tally.aside("reload failed to start"),
            Err(error) => {
                tally.wrong += 1;
                scene.record.find(format!("WRONG: reload: {error}"));
            }
        }
        drop(tally);
        if took > limit + PATIENCE {
            scene.record.sheet(RELOADER).tally().hung += 1;
            watch::hang(scene.engine, scene.record, format!("a reload by {limit:?} took {took:?}"));
        }
    });
}

/// Has workers write into the segment, or lie about what they have written there.
pub(crate) fn vandal(scene: &Scene<'_>) {
    let submitter = Submitter::new(scene, VANDAL);
    acts(scene, VANDAL, "scribble", |dice| {
        scene.pause(dice.u64(50..500));
        let (seed, lies) = (dice.i64(..), dice.bool());
        if scene.is_over() {
            return;
        }
        scene.record.sheet(VANDAL).tally().aside(if lies { "lies" } else { "scribbles" });
        if !lies {
            return submitter.order(Deed::Scribble, seed, None);
        }
        for number in 0..dice.i64(1..16) {
            submitter.order_in_place(Deed::Lie, seed.wrapping_add(number), dice);
        }
    });
}

fn acts(scene: &Scene<'_>, lane: u64, what: &'static str, act: impl Fn(&mut Rng)) {
    let sheet = scene.record.sheet(lane);
    for number in scene.first_act().. {
        if scene.is_over() {
            break;
        }
        sheet.begin(number, what);
        act(&mut scene.plan.dice(lane, number));
    }
    sheet.end();
}
