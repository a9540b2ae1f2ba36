//! The engine's one thread: starts the fork server, keeps the workers whole, settles what a dead
//! one owned, ends it all.
//!
//! Policy lives here, mechanism in the fork server. Everything happens in one loop over events,
//! from the start to the end, so that a death is handled alike at any time.
//!
//! - `places`: the rows of the worker table, and the seats that workers have
//! - `staff`: who has which seat: replacement, spare, retirement
//! - `versions`: fork servers, and the reload from one to the next
//! - `events`: what the kernel and the fork servers tell
//! - `deaths`: what a dead worker leaves behind
//! - `overdue`: tasks that are over while a worker still runs them
//! - `audit`: tasks that nobody takes, workers that hang
//! - `repair`: after something was written that nobody writes
//! - `ending`: from serving to nothing

mod audit;
mod deaths;
mod ending;
mod events;
#[cfg(feature = "fuzzing")]
#[path = "../../fuzzing.rs"]
pub mod fuzzing;
mod overdue;
mod places;
mod repair;
mod staff;
mod versions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::audit::Audit;
use self::overdue::Overdue;
pub(crate) use self::places::{Life, Worker};
use self::places::{Place, Seat};
use self::versions::{Outgoing, Reloading, Stage, Version};
use crate::error::{Death, StartError};
use crate::host::builder::Config;
use crate::host::core::{Core, Request};
use crate::host::discover::{Found, discover};
use crate::host::engine::{Backend, Engine, Shutdown, StartReport};
use crate::host::health::Watched;
use crate::host::wait::FAR;
use crate::key::Key;
use crate::ring;
use crate::sync::Ordering;
use crate::sys::cgroup::OomCounter;
use crate::sys::process;

/// The pace of the audits, while tasks are outstanding and only then.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// So many audits take this long; at least one.
pub(crate) fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// How long the fork server may take to tell the exit status of a worker that has ended.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);
/// How long the kernel may take to end what was killed.
const KILL_PATIENCE: Duration = Duration::from_millis(300);
/// How late the supervisor may be for what it has meant to do before it takes the host to have been
/// stopped, and judges nobody until it has seen the time pass twice.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts an engine over worker processes.
pub(crate) fn start(config: Config) -> Result<Engine, StartError> {
    let hung_ticks = config.hung_ticks;
    let core = Arc::new(Core::new(&config, true)?);
    let (report, started) = sync_channel(1);
    let shared = Arc::new(Shared::default());
    let thread = {
        let (core, shared) = (core.clone(), shared.clone());
        thread::Builder::new().name("nearcall".to_owned()).spawn(move || {
            // Whatever happens to this thread, nobody waits for ever.
            let _closing = CloseAtEnd(core.clone());
            // The host's handlers run on the host's threads.
            process::block_signals();
            Supervisor::new(core, shared, config).run(&report);
        })
    };
    let thread =
        thread.map_err(|source| StartError::System { action: "start a thread", source })?;
    match started.recv() {
        Ok(Ok(report)) => {
            let thread = Mutex::new(Some(thread));
            let backend = Backend::Processes { thread, shared, report, hung_ticks };
            Ok(Engine::new(core, backend))
        }
        failed => {
            // The thread ends when it has cleaned up.
            let _ = thread.join();
            Err(match failed {
                Ok(Err(error)) => error,
                _ => StartError::System {
                    action: "supervise the workers",
                    source: std::io::Error::other("the supervisor thread panicked"),
                },
            })
        }
    }
}

/// What the supervisor tells the other threads.
#[derive(Default)]
pub(crate) struct Shared {
    /// The workers that there are.
    pub(crate) workers: Mutex<Vec<Watched>>,
    /// Rounds of the supervisor's loop.
    pub(crate) beats: AtomicU64,
    /// Workers that have died, but for those that were sent away.
    pub(crate) deaths: AtomicU64,
    /// How the shutdown went.
    pub(crate) shutdown: Mutex<Option<Shutdown>>,
}

struct CloseAtEnd(Arc<Core>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close("its supervisor has ended");
        self.0.mailbox.close();
        self.0.settle_all();
    }
}

/// Whether the engine ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// Tasks that were accepted are still done.
    Draining,
    /// Nothing new is begun.
    Stopping,
}

struct Supervisor {
    core: Arc<Core>,
    shared: Arc<Shared>,
    config: Config,
    found: Option<Found>,
    /// Where workers come from; `None` while there is no fork server.
    current: Option<Version>,
    incoming: Option<Reloading>,
    outgoing: Vec<Outgoing>,
    versions_made: u32,
    /// Fork servers in a row that have ended, or could not be started, before a worker served.
    server_failures: u32,
    /// Short lives of fork servers in a row, and when the next may be tried.
    server_short_lives: u32,
    server_not_before: Instant,
    places: Vec<Place>,
    seats: Vec<Seat>,
    spare: Seat,
    /// Workers in a row that died, or could not be made, before they were ready.
    failed_starts: u32,
    /// What went wrong last.
    last_trouble: String,
    /// The first thing that went wrong during the start.
    trouble: Option<StartError>,
    /// Whether the first start is over.
    is_up: bool,
    report: StartReport,
    ending: Ending,
    overdue: Vec<Overdue>,
    /// The workers that died of tasks that are tried again.
    histories: HashMap<Key, Vec<Death>>,
    oom: OomCounter,
    /// Somebody has written what nobody writes: no worker is started before all have ended.
    rebuilds: bool,
    next_tick: Option<Instant>,
    /// Nobody is judged before this: the host has been stopped.
    no_judging_before: Instant,
    audit: Audit,
    buffer: Vec<u8>,
}

impl Supervisor {
    fn new(core: Arc<Core>, shared: Arc<Shared>, config: Config) -> Self {
        let now = Instant::now();
        let places = core.segment.region().layout().places;
        Self {
            shared,
            found: None,
            current: None,
            incoming: None,
            outgoing: Vec::new(),
            versions_made: 0,
            server_failures: 0,
            server_short_lives: 0,
            server_not_before: now,
            places: (0..places).map(|_| Place::default()).collect(),
            seats: (0..config.sizes.workers).map(|_| Seat::new(now)).collect(),
            spare: Seat::new(now),
            failed_starts: 0,
            last_trouble: String::new(),
            trouble: None,
            is_up: false,
            report: StartReport::default(),
            ending: Ending::No,
            overdue: Vec::new(),
            histories: HashMap::new(),
            oom: OomCounter::new(),
            rebuilds: false,
            next_tick: None,
            no_judging_before: now,
            audit: Audit::default(),
            buffer: Vec::new(),
            core,
            config,
        }
    }

    fn run(mut self, started: &SyncSender<Result<StartReport, StartError>>) {
        match self.bring_up() {
            Ok(()) => {
                let _ = started.send(Ok(self.report.clone()));
                let deadline = self.supervise();
                let report = self.bring_down(deadline);
                *self.shared.shutdown.lock() = Some(report);
            }
            Err(error) => {
                // Clean up before the caller hears of it.
                self.kill_everything();
                let _ = started.send(Err(error));
            }
        }
    }

    /// From nothing to all workers serving.
    fn bring_up(&mut self) -> Result<(), StartError> {
        let now = Instant::now();
        let deadline = now.checked_add(self.config.start_deadline).unwrap_or(now + FAR);
        let Config { worker, interpreter_options, python, .. } = &self.config;
        let found = discover(worker, interpreter_options, python.as_deref(), deadline)?;
        if let Some(python) = &found.python {
            python.to_str().unwrap_or_default().clone_into(&mut self.config.setup.executable);
        }
        self.report.worker.clone_from(&found.worker);
        self.report.python.clone_from(&found.python);
        self.found = Some(found);
        loop {
            self.act(Instant::now());
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            if self.is_whole() {
                self.is_up = true;
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(StartError::TimedOut {
                    deadline: self.config.start_deadline,
                    stage: self.stage().text(),
                });
            }
            self.listen(Some(deadline.min(now + TICK)));
        }
    }

    /// Whether every seat has a worker that serves.
    fn is_whole(&self) -> bool {
        self.seats.iter().all(|seat| {
            seat.holder.is_some_and(|holder| self.life_at(holder) == Some(Life::Serving))
        })
    }

    /// Keeps the engine whole until somebody ends it. Gives the deadline of the end.
    fn supervise(&mut self) -> Instant {
        self.next_tick = Some(Instant::now() + TICK);
        loop {
            if let Some(deadline) = self.step(None) {
                return deadline;
            }
        }
    }

    /// One round of the loop, which takes until `until` at most. Gives the deadline of the end, if
    /// somebody has asked for it.
    fn step(&mut self, until: Option<Instant>) -> Option<Instant> {
        // Relaxed: a count for those who watch.
        self.shared.beats.fetch_add(1, Ordering::Relaxed);
        self.act(Instant::now());
        let now = Instant::now();
        if self.next_tick.is_some_and(|tick| now >= tick) {
            self.tick(now);
        }
        let wake_up = self.next_timer(now).into_iter().chain(until).min();
        self.listen(wake_up);
        self.notice_pause(wake_up);
        let mut end = None;
        for request in self.core.mailbox.take() {
            match request {
                Request::Shutdown(deadline) => end = Some(deadline),
                Request::Fault(place) => self.replace_faulty(place),
                Request::Condemn(key) => self.note_overdue(key, Instant::now()),
                Request::Reload(_, reply) if self.ending != Ending::No => drop(reply),
                Request::Reload(deadline, reply) => self.begin_reload(deadline, reply),
                Request::Look => {}
            }
        }
        end
    }

    /// When this thread comes much later than it wanted to, the host was stopped or suspended, and
    /// what looks late may just not have had its turn.
    fn notice_pause(&mut self, wake_up: Option<Instant>) {
        let now = Instant::now();
        if wake_up.is_some_and(|wake_up| now > wake_up + PAUSE) {
            tracing::warn!("this process did not run for a while: nobody is judged before it has");
            self.no_judging_before = now + 2 * TICK;
            for worker in self.places.iter_mut().filter_map(|place| place.worker.as_mut()) {
                if !worker.may_run_tasks() {
                    worker.since = now;
                }
            }
            for version in self.versions_mut().filter(|version| version.stage != Stage::Ready) {
                version.since = now;
            }
            self.audit = Audit::default();
        }
    }

    /// When something has to be done even if nothing happens.
    fn next_timer(&self, now: Instant) -> Option<Instant> {
        let workers = self.places.iter().enumerate().filter_map(|(index, place)| {
            let worker = place.worker.as_ref()?;
            match worker.life {
                // While it runs a task there are ticks.
                Life::Leaving if !self.says_it_runs(index) => {
                    let end = worker.since.checked_add(self.config.start_deadline)?;
                    Some(if end > now { end } else { now + TICK })
                }
                Life::Ended => Some(worker.since + STATUS_PATIENCE),
                // Short of exact: whatever starts is looked at again at this pace.
                Life::Requested | Life::Starting => Some(now + TICK),
                _ => None,
            }
        });
        let seats = self.seats.iter().chain(self.config.spare.then_some(&self.spare));
        let seats = seats.filter(|seat| seat.heir.is_none() && seat.not_before > now);
        let seats = seats.map(|seat| seat.not_before);
        let deadline = self.core.deadlines.next().map(|at| at.max(self.no_judging_before));
        workers
            .chain(seats)
            .chain(self.next_tick)
            .chain(self.server_timer(now))
            .chain(self.overdue_timer(now))
            .chain(deadline)
            .min()
    }

    /// Does what the state of things asks for: a server, workers, the settling of the dead.
    fn act(&mut self, now: Instant) {
        self.tend_servers(now);
        for index in 0..self.places.len() {
            self.tend_worker(index, now);
        }
        self.rebuild();
        self.staff(now);
        if now >= self.no_judging_before {
            self.core.end_overdue(now);
        }
        self.condemn_overdue(now);
    }

    fn tend_worker(&mut self, index: usize, now: Instant) {
        let runs = self.says_it_runs(index);
        let Some(worker) = self.places.get_mut(index).and_then(|place| place.worker.as_mut())
        else {
            return;
        };
        if worker.life == Life::Leaving && runs {
            // It has all the time it takes; what counts is how long it takes to end after it.
            worker.since = now;
        }
        let overdue = now.duration_since(worker.since) > self.config.start_deadline;
        match worker.life {
            Life::Ended if now >= worker.since + STATUS_PATIENCE => {
                self.bury(index, crate::wire::Exit::Unknown, String::new(), now);
            }
            Life::Starting if overdue => {
                tracing::error!(index, "a worker does not get ready: replacing it");
                worker.kill(deaths::NOT_READY);
            }
            Life::Leaving if overdue => {
                tracing::error!(index, "a worker that was replaced does not end: killing it");
                worker.kill(deaths::NOT_ENDED);
            }
            Life::Requested if overdue => {
                let version = worker.version;
                tracing::error!("the fork server makes no worker: replacing it");
                self.lose_server(version, now);
            }
            _ => {}
        }
    }

    /// Whether the worker at this place says that it runs a task.
    fn says_it_runs(&self, index: usize) -> bool {
        let words = self.core.segment.region().workers().get(index);
        // Relaxed: a hint of the worker's own.
        words.is_some_and(|words| words.running.load(Ordering::Relaxed) != 0)
    }

    /// Whether something that has been starting for so long is given up, as the first start would
    /// be. During that one the start's own deadline comes before this.
    fn is_overdue(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) > self.config.start_deadline
    }

    /// While draining only if tasks wait that nobody else will do.
    fn wants_workers(&self) -> bool {
        match self.ending {
            Ending::No => true,
            Ending::Draining => {
                ring::pending(self.core.segment.region().ring())
                    && !self.places.iter().any(|place| place.life() == Some(Life::Serving))
            }
            Ending::Stopping => false,
        }
    }

    fn stage(&self) -> Stage {
        self.current.as_ref().map_or(Stage::Connecting, |version| version.stage)
    }

    /// Keeps the first trouble of a start; later troubles are events, not ends.
    fn complain(&mut self, trouble: StartError) {
        tracing::warn!(%trouble, "nearcall");
        self.last_trouble = trouble.to_string();
        if !self.is_up {
            self.trouble.get_or_insert(trouble);
        }
    }
}
