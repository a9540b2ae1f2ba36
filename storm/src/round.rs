//! One engine from start to shutdown, and what must be true at the end.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nearcall::{Completions, Engine, Signature};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::havoc;
use crate::leaks::{self, MARK, Possessions};
use crate::ledger::Ledger;
use crate::orders;
use crate::plan::{DIRECTOR, PAYLOAD_BYTES, Plan, SLOT_BYTES, TICK, Weather};
use crate::submitter::Submitter;
use crate::tally::{Record, lock};
use crate::watch::{self, PATIENCE, Told, Watch};

/// How long a fork server may take. Short: while it is stopped, places stay empty.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// What the engine promises over a shutdown's deadline is a second: ten for a loaded machine.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(10);
/// What part of a hostile round comes after the last hostile write.
const AFTERMATH: u64 = 3;
/// Acts of the second part of a round are numbered from here, so that they are others.
const SECOND_PART: u64 = 1 << 32;

/// What the actors of a part of a round share.
pub(crate) struct Scene<'s> {
    pub(crate) engine: &'s Engine,
    pub(crate) plan: &'s Plan,
    pub(crate) ledger: &'s Ledger,
    pub(crate) record: &'s Record,
    pub(crate) watch: &'s Watch,
    pub(crate) told: Mutex<Vec<Told>>,
    /// Whether what ends otherwise than it should counts as wrong.
    pub(crate) is_strict: bool,
    /// Whether the engine is being shut down.
    pub(crate) is_closing: bool,
    part: u64,
    over: AtomicBool,
}

impl<'s> Scene<'s> {
    fn new(setting: &Setting<'s>, part: u64, is_strict: bool, is_closing: bool) -> Self {
        Self {
            engine: setting.engine,
            plan: setting.plan,
            ledger: setting.ledger,
            record: setting.record,
            watch: setting.watch,
            told: Mutex::default(),
            is_strict,
            is_closing,
            part,
            over: AtomicBool::new(false),
        }
    }

    /// Whether the actors are to come to an end. Relaxed: it orders nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.record.is_doomed()
    }

    /// The number of an actor's first act.
    pub(crate) fn first_act(&self) -> u64 {
        self.part * SECOND_PART
    }

    /// Sleeps for so many ticks, or until it is over.
    pub(crate) fn pause(&self, ticks: u64) {
        let until = Instant::now() + TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !self.is_over()
        {
            thread::sleep(left.min(10 * TICK));
        }
    }

    /// Works out how soon callers were told of deaths.
    fn settle_told(&self) {
        let mut tally = self.record.sheet(DIRECTOR).tally();
        for told in lock(&self.told).drain(..) {
            let (notice, from_kill) = self.watch.delays(&told);
            tally.notices.extend(notice);
            tally.kills_to_errors.extend(from_kill);
        }
    }
}

/// What the parts of a round share.
struct Setting<'s> {
    engine: &'s Engine,
    plan: &'s Plan,
    ledger: &'s Ledger,
    record: &'s Record,
    watch: &'s Watch,
    /// What the engine had of shared memory before the first task.
    shared_bytes: u64,
}

/// One round.
pub(crate) fn run(
    plan: &Plan,
    worker: &Path,
    ledger: &Ledger,
    record: &Record,
) -> anyhow::Result<()> {
    record.say(format!("{plan:?}"));
    let before = Possessions::now();
    ledger.clear_counts();
    let engine = start(plan, worker, ledger)?;
    let watch = Watch::default();
    let shared_bytes = leaks::shared_bytes();
    let setting = Setting { engine: &engine, plan, ledger, record, watch: &watch, shared_bytes };
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| watch.run(&engine, record, || over.load(Ordering::Relaxed)));
        if plan.watched {
            let completions = engine.completions();
            let over = &over;
            threads.spawn(move || dispatch(&completions, || over.load(Ordering::Relaxed)));
        }
        setting.play();
        over.store(true, Ordering::Relaxed);
    });
    drop(engine);
    drop(watch);
    before.compare(record);
    Ok(())
}

/// The plainest event loop: of one descriptor.
fn dispatch(completions: &Completions, is_over: impl Fn() -> bool) {
    let mut keys = Vec::new();
    let patience = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    while !is_over() {
        let readable = PollFd::new(completions, PollFlags::IN);
        // Whatever it says: nothing is lost by a look too many.
        let _ = poll(&mut [readable], Some(&patience));
        completions.dispatch(&mut keys);
    }
}

fn start(plan: &Plan, worker: &Path, ledger: &Ledger) -> anyhow::Result<Engine> {
    let signature = Signature::new().int("number").int("deed").int("amount");
    let signature = signature.value("padding").value("room");
    let mut builder = Engine::builder("test:storm")
        .signature(signature)
        .worker(worker)
        .workers(plan.workers)
        .slots(plan.slots)
        .slot_bytes(SLOT_BYTES)
        .payload_bytes(PAYLOAD_BYTES)
        .wait_policy(plan.policy)
        .retries(plan.retries)
        .spare(plan.spare)
        .start_deadline(START_DEADLINE)
        .env(MARK, std::process::id().to_string())
        .env(orders::LEDGER, ledger.path())
        .env(orders::RUNS_ALLOWED, (plan.retries + 1).to_string())
        .env("NEARCALL_FAULTS", &plan.faults);
    if let Some(tasks) = plan.max_tasks {
        builder = builder.max_tasks(tasks);
    }
    if let Some(ticks) = plan.max_age {
        builder = builder.max_age(TICK * ticks);
    }
    builder.start().context("the engine did not start")
}

impl Setting<'_> {
    /// The whole round; who watches goes on until it is over.
    fn play(&self) {
        let sheet = self.record.sheet(DIRECTOR);
        if self.plan.weather == Weather::Hostile {
            let aftermath = self.plan.ticks / AFTERMATH;
            self.part(0, self.plan.ticks - aftermath, false);
            sheet.begin(0, "recover");
            self.recover();
            self.part(1, aftermath, true);
        } else {
            self.part(0, self.plan.ticks, true);
        }
        sheet.begin(1, "settle");
        self.settle();
        sheet.begin(2, "shut down");
        self.shut_down();
        sheet.end();
    }

    /// Everybody acts for so many ticks.
    fn part(&self, part: u64, ticks: u64, is_strict: bool) {
        let scene = Scene::new(self, part, is_strict, false);
        thread::scope(|threads| {
            for lane in 0..self.plan.closed_loops {
                let scene = &scene;
                threads.spawn(move || Submitter::new(scene, lane).closed_loop());
            }
            for lane in (self.plan.closed_loops..).take(self.plan.open_loops as usize) {
                let scene = &scene;
                threads.spawn(move || Submitter::new(scene, lane).open_loop());
            }
            threads.spawn(|| havoc::killer(&scene));
            threads.spawn(|| havoc::stopper(&scene));
            threads.spawn(|| havoc::reloader(&scene));
            if !is_strict {
                threads.spawn(|| havoc::vandal(&scene));
            }
            scene.pause(ticks);
            scene.over.store(true, Ordering::Relaxed);
        });
        scene.settle_told();
    }

    /// After the last hostile write: the engine must get well by itself. What was counted of its runs
    /// is forgotten then.
    fn recover(&self) {
        let scene = Scene::new(self, 0, false, false);
        let submitter = Submitter::new(&scene, DIRECTOR);
        let began = Instant::now();
        while !self.record.is_doomed() && !submitter.fill_and_wait() {
            if began.elapsed() > PATIENCE {
                self.record.sheet(DIRECTOR).tally().hung += 1;
                let text = format!("not well {PATIENCE:?} after the last hostile write");
                watch::hang(self.engine, self.record, text);
            }
            thread::sleep(TICK);
        }
        if !self.record.is_doomed() {
            self.record.say(format!("well {:?} after the last hostile write", began.elapsed()));
        }
        self.ledger.clear_counts();
    }

    /// Nothing may be left of any task.
    fn settle(&self) {
        let began = Instant::now();
        while !self.record.is_doomed() && self.engine.in_use() > 0 {
            if began.elapsed() > PATIENCE {
                let left = self.engine.in_use();
                self.record.sheet(DIRECTOR).tally().lost += left as u64;
                let text = format!("{left} slots of tasks that nobody has any more are not freed");
                watch::hang(self.engine, self.record, text);
            }
            thread::sleep(TICK);
        }
        // Pages that a hostile worker has filled may stay until somebody needs them.
        let gives_back = self.plan.weather != Weather::Hostile;
        let began = Instant::now();
        while gives_back && !self.record.is_doomed() {
            let more = leaks::shared_bytes().saturating_sub(self.shared_bytes);
            if more == 0 {
                break;
            }
            if began.elapsed() > PATIENCE {
                self.record.sheet(DIRECTOR).tally().leaked += 1;
                let index = self.plan.index;
                let text = format!("leaked: {more} bytes of shared memory in round {index}");
                self.record.find(text);
                break;
            }
            thread::sleep(TICK);
        }
    }

    /// Shuts down with tasks that run and tasks that wait. Each must end, and the shutdown in time.
    fn shut_down(&self) {
        let scene = Scene::new(self, 2, true, true);
        let submitter = Submitter::new(&scene, DIRECTOR);
        let mut dice = self.plan.dice(DIRECTOR, 0);
        let limit = TICK * dice.u32(0..300);
        let left = submitter.leave_tasks(self.plan.slots / 2, &mut dice);
        let began = Instant::now();
        self.engine.shutdown(limit);
        let took = began.elapsed();
        if took > limit + SHUTDOWN_SLACK {
            self.record.sheet(DIRECTOR).tally().hung += 1;
            watch::hang(self.engine, self.record, format!("a shutdown by {limit:?} took {took:?}"));
        }
        for (order, key, _) in left {
            // All are over: there is nothing to wait for.
            if !submitter.is_over(&order, key, Instant::now()) {
                self.record.sheet(DIRECTOR).tally().lost += 1;
                self.record.find(format!("LOST: {order:?} {key:?} has not ended with its engine"));
            }
        }
        let changed = self.ledger.changed();
        if changed > 0 {
            self.record.sheet(DIRECTOR).tally().wrong += changed;
            let index = self.plan.index;
            self.record
                .find(format!("WRONG: {changed} kept tensors have changed in round {index}"));
        }
        let (too_often, too_late) = self.ledger.counts();
        if too_often + too_late > 0 {
            self.record.sheet(DIRECTOR).tally().duplicated += too_often + too_late;
            self.record.find(format!(
                "DUPLICATED: {too_often} runs of tasks beyond what they may, {too_late} after their \
                 end was told, in round {}",
                self.plan.index
            ));
        }
    }
}
