//! The engine's one thread: starts the fork server, keeps the workers whole, settles what a dead
//! one owned, ends it all.
//!
//! Policy lives here, mechanism in the fork server. Everything happens in one loop over events,
//! from the start to the end, so that a death is handled alike at any time.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::builder::Config;
use super::core::{Core, Request};
use super::discover::{Found, discover};
use super::engine::{Backend, Engine, Shutdown, StartReport};
use super::launch::{Heard, Server};
use crate::error::{StartError, TaskError};
use crate::key::Key;
use crate::ring;
use crate::shm::{Entry, Order, Owner, Phase, State, WorkerWords};
use crate::sync::{Ordering, fence};
use crate::sys::process::{self, Process};
use crate::sys::{futex, socket};
use crate::wire::{Exit, FromServer, StartMethod, ToServer};

/// The pace of the audits, while tasks are outstanding and only then.
const TICK: Duration = Duration::from_millis(100);
/// Audits without any task before the supervisor sleeps without a time limit.
const IDLE_TICKS: u32 = 20;
/// Audits without progress before sleepers are woken for a task that waits beside them.
const WAKE_TICKS: u32 = 2;
/// Audits without progress before workers that should take a waiting task are replaced. Ticks are
/// counted, not time: a host that was suspended has seen one.
const STALL_TICKS: u32 = 10;
/// How long the fork server may take to tell the exit status of a worker that has ended.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);
/// How long workers may take to finish their task once the shutdown's deadline has passed.
const STOP_PATIENCE: Duration = Duration::from_millis(300);
/// How long the kernel may take to end what was killed.
const KILL_PATIENCE: Duration = Duration::from_millis(300);
/// A worker that lived shorter than this counts as a failed start.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// The furthest deadline that is taken seriously.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Starts an engine over worker processes.
pub(crate) fn start(config: Config) -> Result<Engine, StartError> {
    let core = Arc::new(Core::new(config.sizes, config.setup.signature.clone(), config.spin)?);
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
            let backend = Backend::Processes { thread: Mutex::new(Some(thread)), shared, report };
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
    /// The process ids of the workers that serve.
    pub(crate) pids: Mutex<Vec<u32>>,
    /// How the shutdown went.
    pub(crate) shutdown: Mutex<Option<Shutdown>>,
}

struct CloseAtEnd(Arc<Core>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close("its supervisor has ended");
        self.0.settle_all();
    }
}

/// One place in the worker table.
struct Place {
    worker: WorkerLife,
    /// How many workers this place has had.
    incarnation: u32,
    /// Starts that failed in a row.
    failures: u32,
    /// Audits in a row that found the worker idle and stopped.
    stopped_ticks: u32,
}

enum WorkerLife {
    /// Nobody; a worker is asked for once the time has come.
    Vacant { not_before: Instant },
    /// Asked for. A worker may say that it is ready before the server says that it exists.
    Requested { ready: bool, since: Instant },
    /// A process that does not serve yet.
    Starting { process: Process, since: Instant },
    /// A worker.
    Serving { process: Process, since: Instant },
    /// Ended, says the kernel; how, the server will say.
    Ended { process: Process, noticed: Instant, served: Option<Instant> },
}

impl Place {
    fn process(&self) -> Option<&Process> {
        match &self.worker {
            WorkerLife::Vacant { .. } | WorkerLife::Requested { .. } => None,
            WorkerLife::Starting { process, .. }
            | WorkerLife::Serving { process, .. }
            | WorkerLife::Ended { process, .. } => Some(process),
        }
    }

    fn is_serving(&self) -> bool {
        matches!(self.worker, WorkerLife::Serving { .. })
    }
}

/// How far the engine is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Importing,
    Initialising,
    Serving,
}

impl Stage {
    fn text(self) -> &'static str {
        match self {
            Self::Connecting => "starting the fork server",
            Self::Importing => "importing the model",
            Self::Initialising => "initialising the workers",
            Self::Serving => "serving",
        }
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

/// What the audits have seen.
#[derive(Default)]
struct Audit {
    head: u64,
    ticks_without_progress: u32,
    idle_ticks: u32,
    /// Queued tasks that had no entry at the last tick.
    orphans: Vec<Key>,
}

struct Supervisor {
    core: Arc<Core>,
    shared: Arc<Shared>,
    config: Config,
    found: Option<Found>,
    server: Option<Server>,
    /// Failed starts of the fork server in a row, and when the next may be tried.
    server_failures: u32,
    server_not_before: Instant,
    /// When the present one was started.
    server_since: Instant,
    places: Vec<Place>,
    stage: Stage,
    /// The first thing that went wrong during the start.
    trouble: Option<StartError>,
    report: StartReport,
    ending: Ending,
    next_tick: Option<Instant>,
    audit: Audit,
    buffer: Vec<u8>,
}

impl Supervisor {
    fn new(core: Arc<Core>, shared: Arc<Shared>, config: Config) -> Self {
        let now = Instant::now();
        let places = (0..config.sizes.workers)
            .map(|_| Place {
                worker: WorkerLife::Vacant { not_before: now },
                incarnation: 0,
                failures: 0,
                stopped_ticks: 0,
            })
            .collect();
        Self {
            core,
            shared,
            config,
            found: None,
            server: None,
            server_failures: 0,
            server_not_before: now,
            server_since: now,
            places,
            stage: Stage::Connecting,
            trouble: None,
            report: StartReport::default(),
            ending: Ending::No,
            next_tick: None,
            audit: Audit::default(),
            buffer: Vec::new(),
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
        let found =
            discover(self.config.worker.as_deref(), self.config.python.as_deref(), deadline)?;
        if let Some(python) = &found.python {
            python.to_str().unwrap_or_default().clone_into(&mut self.config.setup.executable);
        }
        self.report.worker.clone_from(&found.worker);
        self.report.python.clone_from(&found.python);
        self.found = Some(found);
        loop {
            self.act();
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            if self.places.iter().all(Place::is_serving) {
                self.stage = Stage::Serving;
                return Ok(());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(StartError::TimedOut {
                    deadline: self.config.start_deadline,
                    stage: self.stage.text(),
                });
            }
            self.listen(Some(deadline.min(now + TICK)));
        }
    }

    /// Keeps the engine whole until somebody ends it. Gives the deadline of the end.
    fn supervise(&mut self) -> Instant {
        self.next_tick = Some(Instant::now() + TICK);
        loop {
            self.act();
            let now = Instant::now();
            if self.next_tick.is_some_and(|tick| now >= tick) {
                self.tick(now);
            }
            let wake_up = self.next_timer(now);
            self.listen(wake_up);
            let requests = std::mem::take(&mut *self.core.mailbox.requests.lock());
            for request in requests {
                match request {
                    Request::Shutdown(deadline) => return deadline,
                    Request::Fault(place) => self.replace_faulty(place),
                }
            }
        }
    }

    /// When something has to be done even if nothing happens.
    fn next_timer(&self, now: Instant) -> Option<Instant> {
        let places = self.places.iter().filter_map(|place| match &place.worker {
            WorkerLife::Vacant { not_before } if self.server_is_ready() => Some(*not_before),
            WorkerLife::Ended { noticed, .. } => Some(*noticed + STATUS_PATIENCE),
            // Short of exact: whatever starts is looked at again at this pace.
            WorkerLife::Requested { .. } | WorkerLife::Starting { .. } => Some(now + TICK),
            _ => None,
        });
        let server = match self.server {
            None => Some(self.server_not_before),
            Some(_) if !self.server_is_ready() => Some(now + TICK),
            Some(_) => None,
        };
        places.chain(self.next_tick).chain(server).min()
    }

    /// Does what the state of things asks for: a server, workers, the settling of the dead.
    fn act(&mut self) {
        let now = Instant::now();
        if self.server.is_none() && self.wants_workers() && now >= self.server_not_before {
            self.start_server(now);
        }
        if self.server.is_some()
            && !self.server_is_ready()
            && self.is_overdue(self.server_since, now)
        {
            tracing::error!("the fork server does not get ready: replacing it");
            self.lose_server(now);
        }
        for index in 0..self.places.len() {
            let Some(place) = self.places.get(index) else { break };
            match &place.worker {
                WorkerLife::Vacant { not_before }
                    if now >= *not_before && self.server_is_ready() && self.wants_workers() =>
                {
                    self.request_worker(index, now);
                }
                WorkerLife::Ended { noticed, .. } if now >= *noticed + STATUS_PATIENCE => {
                    self.bury(index, Exit::Unknown, now);
                }
                WorkerLife::Starting { process, since } if self.is_overdue(*since, now) => {
                    tracing::error!(pid = process.pid, "a worker does not get ready: replacing it");
                    process.kill();
                }
                WorkerLife::Requested { since, .. } if self.is_overdue(*since, now) => {
                    tracing::error!("the fork server makes no worker: replacing it");
                    self.lose_server(now);
                }
                _ => {}
            }
        }
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
                    && !self.places.iter().any(Place::is_serving)
            }
            Ending::Stopping => false,
        }
    }

    fn server_is_ready(&self) -> bool {
        self.server.is_some() && matches!(self.stage, Stage::Initialising | Stage::Serving)
    }

    fn start_server(&mut self, now: Instant) {
        let Some(found) = &self.found else { return };
        self.stage = Stage::Connecting;
        self.server_since = now;
        let descriptor = self.core.segment.descriptor();
        let server = Server::start(&self.config, found, descriptor).and_then(|server| {
            server.tell(&ToServer::Setup(self.config.setup.clone()))?;
            Ok(server)
        });
        match server {
            Ok(server) => self.server = Some(server),
            Err(source) => {
                self.back_off_server(now);
                self.complain(StartError::System { action: "start the fork server", source });
            }
        }
    }

    fn back_off_server(&mut self, now: Instant) {
        self.server_failures += 1;
        self.server_not_before = now + back_off(self.server_failures);
    }

    fn request_worker(&mut self, index: usize, now: Instant) {
        let (Some(place), Ok(worker)) = (self.places.get_mut(index), u16::try_from(index)) else {
            return;
        };
        place.incarnation += 1;
        place.worker = WorkerLife::Requested { ready: false, since: now };
        let message = ToServer::Spawn { worker, incarnation: place.incarnation };
        if let Some(words) = self.core.segment.region().workers().get(index) {
            ring::clear_worker(words);
        }
        let told = self.server.as_ref().is_some_and(|server| server.tell(&message).is_ok());
        if !told {
            self.lose_server(now);
        }
    }

    /// Keeps the first trouble of a start; later troubles are events, not ends.
    fn complain(&mut self, trouble: StartError) {
        tracing::warn!(%trouble, "nearcall");
        self.trouble.get_or_insert(trouble);
    }

    /// Waits until something happens or the instant comes, and takes note of all that did.
    fn listen(&mut self, until: Option<Instant>) {
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let (bell, control, server, workers) = {
            let mut watched = vec![self.core.mailbox.bell.as_fd()];
            let server = self.server.as_ref();
            watched.extend(server.map(Server::control));
            let process = server.and_then(|server| server.process.as_ref());
            watched.extend(process.map(|process| process.pidfd.as_fd()));
            let serving: Vec<usize> = (0..self.places.len())
                .filter(|index| {
                    self.places.get(*index).is_some_and(|place| {
                        !matches!(place.worker, WorkerLife::Ended { .. })
                            && place.process().is_some()
                    })
                })
                .collect();
            watched.extend(
                serving
                    .iter()
                    .filter_map(|index| Some(self.places.get(*index)?.process()?.pidfd.as_fd())),
            );
            let Ok(ready) = socket::readable(&watched, timeout) else {
                // Only for lack of kernel memory. Not in a busy loop.
                thread::sleep(Duration::from_millis(10));
                return;
            };
            let mut ready = ready.into_iter();
            let bell = ready.next().unwrap_or(false);
            let control = server.is_some() && ready.next().unwrap_or(false);
            let ended = process.is_some() && ready.next().unwrap_or(false);
            let workers: Vec<usize> = serving
                .into_iter()
                .zip(ready)
                .filter(|(_, ended)| *ended)
                .map(|(i, _)| i)
                .collect();
            (bell, control, ended, workers)
        };
        if bell {
            self.core.mailbox.bell.answer();
            if self.next_tick.is_none() {
                self.resume_ticks();
            }
        }
        let now = Instant::now();
        // The socket before the ends: it may hold what a worker said last.
        if control {
            self.hear_all(now);
        }
        for index in workers {
            self.note_end(index, now);
        }
        if server {
            // The socket first: it may hold what the server said last.
            self.hear_all(now);
            self.lose_server(now);
        }
    }

    fn hear_all(&mut self, now: Instant) {
        loop {
            let Some(server) = &mut self.server else { return };
            match server.hear(&mut self.buffer) {
                Heard::Message(message, descriptor) => self.note(message, descriptor, now),
                Heard::Nothing => return,
                Heard::Gone => return self.lose_server(now),
            }
        }
    }

    fn note(&mut self, message: FromServer, descriptor: Option<OwnedFd>, now: Instant) {
        match message {
            FromServer::Hello { pid } => {
                if let (Some(server), Some(pidfd)) = (&mut self.server, descriptor) {
                    server.process = Some(Process { pid, pidfd });
                    self.stage = Stage::Importing;
                }
            }
            FromServer::Imported(threads) => {
                let forks = match self.config.setup.start_method {
                    StartMethod::Fork if threads.threads > 1 => {
                        let (threads, suspect) = (threads.threads, threads.suspect);
                        return self.complain(StartError::Threads { threads, suspect });
                    }
                    StartMethod::Spawn => false,
                    _ => threads.threads <= 1,
                };
                if !forks && self.config.setup.start_method == StartMethod::Auto {
                    tracing::warn!(
                        threads = threads.threads,
                        suspect = threads.suspect.as_deref().unwrap_or("unknown"),
                        "the model's import has started threads, which a fork would not copy: \
                         each worker starts from scratch and imports the model itself"
                    );
                }
                self.report.forked = forks;
                self.report.import_threads = threads.threads;
                self.report.suspect = threads.suspect;
                self.server_failures = 0;
                self.stage = Stage::Initialising;
            }
            FromServer::ImportFailed(error) => {
                self.complain(StartError::Import { error });
            }
            FromServer::Spawned { worker, incarnation, pid } => {
                let Some(pidfd) = descriptor else {
                    // The kernel drops what it cannot hand over: this process has no room for
                    // another descriptor. Without one the worker cannot be watched.
                    let source = std::io::Error::from(nix::Error::EMFILE);
                    self.complain(StartError::System { action: "watch a worker", source });
                    return self.lose_server(now);
                };
                let process = Process { pid, pidfd };
                match self.place(worker, incarnation) {
                    Some((_, place)) => {
                        let ready =
                            matches!(place.worker, WorkerLife::Requested { ready: true, .. });
                        place.worker = WorkerLife::Starting { process, since: now };
                        if ready {
                            self.note_ready(worker, incarnation, now);
                        }
                    }
                    None => process.kill(),
                }
            }
            FromServer::SpawnFailed { worker, incarnation, errno } => {
                if let Some((_, place)) = self.place(worker, incarnation) {
                    place.failures += 1;
                    let not_before = now + back_off(place.failures);
                    place.worker = WorkerLife::Vacant { not_before };
                    let source = std::io::Error::from_raw_os_error(errno);
                    self.complain(StartError::System { action: "fork a worker", source });
                }
            }
            FromServer::Ready { worker, incarnation } => {
                self.note_ready(worker, incarnation, now);
            }
            FromServer::InitializeFailed { worker, incarnation, error } => {
                if self.place(worker, incarnation).is_some() {
                    self.complain(StartError::Initialize { worker, error });
                }
            }
            FromServer::Exited { worker, incarnation, exit, .. } => {
                if let Some((index, _)) = self.place(worker, incarnation) {
                    self.bury(index, exit, now);
                }
            }
        }
    }

    /// The place, if this is still the worker it has.
    fn place(&mut self, worker: u16, incarnation: u32) -> Option<(usize, &mut Place)> {
        let index = usize::from(worker);
        let place = self.places.get_mut(index)?;
        (place.incarnation == incarnation).then_some((index, place))
    }

    fn note_ready(&mut self, worker: u16, incarnation: u32, now: Instant) {
        let ending = self.ending;
        let Some((index, place)) = self.place(worker, incarnation) else { return };
        let vacant = WorkerLife::Vacant { not_before: now };
        place.worker = match std::mem::replace(&mut place.worker, vacant) {
            WorkerLife::Starting { process, .. } => WorkerLife::Serving { process, since: now },
            WorkerLife::Requested { since, .. } => WorkerLife::Requested { ready: true, since },
            other => other,
        };
        match ending {
            Ending::No => {}
            Ending::Draining => self.order(index, Order::Drain),
            Ending::Stopping => self.order(index, Order::Stop),
        }
        self.publish_pids();
    }

    fn publish_pids(&self) {
        *self.shared.pids.lock() = self
            .places
            .iter()
            .filter(|place| place.is_serving())
            .filter_map(|place| Some(place.process()?.pid))
            .collect();
    }

    /// The kernel says that a worker has ended. How it did, the server will say.
    fn note_end(&mut self, index: usize, now: Instant) {
        let Some(place) = self.places.get_mut(index) else { return };
        let vacant = WorkerLife::Vacant { not_before: now };
        place.worker = match std::mem::replace(&mut place.worker, vacant) {
            WorkerLife::Starting { process, .. } => {
                WorkerLife::Ended { process, noticed: now, served: None }
            }
            WorkerLife::Serving { process, since } => {
                WorkerLife::Ended { process, noticed: now, served: Some(since) }
            }
            other => other,
        };
        self.publish_pids();
    }

    /// Settles what a worker that has ended leaves behind, and makes its place free.
    fn bury(&mut self, index: usize, exit: Exit, now: Instant) {
        self.note_end(index, now);
        let (stage, ending) = (self.stage, self.ending != Ending::No);
        let Some(place) = self.places.get_mut(index) else { return };
        let vacant = WorkerLife::Vacant { not_before: now };
        let (process, served) = match std::mem::replace(&mut place.worker, vacant) {
            WorkerLife::Ended { process, served, .. } => (process, served),
            // Waits for its time already.
            life @ WorkerLife::Vacant { .. } => return place.worker = life,
            // Asked for, and never heard of.
            _ => return,
        };
        let long_lived = served.is_some_and(|since| now.duration_since(since) >= SHORT_LIFE);
        let in_order = ending && exit == Exit::Code(0);
        place.failures = if long_lived || in_order { 0 } else { place.failures.saturating_add(1) };
        // The first death in a row is replaced at once.
        let wait = if place.failures > 1 { back_off(place.failures - 1) } else { Duration::ZERO };
        place.worker = WorkerLife::Vacant { not_before: now + wait };
        let pid = process.pid;
        if !ending || exit != Exit::Code(0) {
            tracing::warn!(pid, worker = index, %exit, "a worker has ended");
        }
        self.settle_dead(index, pid, exit);
        if served.is_none() && stage != Stage::Serving {
            self.complain(StartError::Died {
                who: format!("worker {index}"),
                pid,
                stage: stage.text(),
                exit,
            });
        }
        self.publish_pids();
    }

    /// Ends the task that a dead worker had, tells all who wait for anything of its, and passes on
    /// the wake that it may have swallowed.
    fn settle_dead(&self, index: usize, pid: u32, exit: Exit) {
        let region = self.core.segment.region();
        let owner = u16::try_from(index).ok().and_then(Owner::worker);
        let (Some(owner), Some(words)) = (owner, region.workers().get(index)) else { return };
        ring::clear_worker(words);
        for slot_index in 0..=u16::MAX {
            let Some(slot) = region.slot(slot_index) else { break };
            if let Some(generation) = ring::running_of(slot.words, owner) {
                self.core.settle(Key::new(slot_index, generation), TaskError::Died { pid, exit });
            } else if State::unpack(slot.words.state.load(Ordering::Relaxed))
                .is_some_and(|state| state.owner == owner)
            {
                // DONE, but perhaps nobody was told.
                super::core::wake_waiters(slot);
            }
        }
        ring::wake_one(region.workers(), futex::wake_one);
    }

    /// The fork server is gone, or not to be trusted: its workers go with it.
    fn lose_server(&mut self, now: Instant) {
        let Some(server) = self.server.take() else { return };
        let pid = server.pid();
        drop(server);
        let stage = self.stage;
        self.back_off_server(now);
        if self.ending == Ending::No {
            tracing::error!(pid, "the fork server has ended");
        }
        let deadline = now + KILL_PATIENCE;
        for index in 0..self.places.len() {
            let ended = self.places.get(index).and_then(Place::process).is_none_or(|process| {
                process.kill_with_group();
                process.has_ended_by(deadline)
            });
            // One that the kernel has not ended yet is buried when it has.
            if ended {
                self.bury(index, Exit::Unknown, now);
            }
        }
        self.complain(StartError::Died {
            who: "the fork server".to_owned(),
            pid,
            stage: stage.text(),
            exit: Exit::Unknown,
        });
    }

    /// Replaces the worker that has written nonsense; all of them if nobody knows which.
    fn replace_faulty(&mut self, place: Option<u16>) {
        let place = place.filter(|place| usize::from(*place) < self.places.len());
        tracing::error!(?place, "a worker wrote into the segment what no worker writes");
        for (index, candidate) in self.places.iter().enumerate() {
            if place.is_none_or(|place| usize::from(place) == index)
                && let Some(process) = candidate.process()
            {
                process.kill();
            }
        }
    }

    fn resume_ticks(&mut self) {
        // Relaxed: a submitter that still sees 1 rings the bell once more.
        self.core.mailbox.asleep.store(0, Ordering::Relaxed);
        self.audit = Audit::default();
        self.next_tick = Some(Instant::now() + TICK);
    }

    /// One audit. Stops the ticks when there has been nothing to audit for a while.
    fn tick(&mut self, now: Instant) {
        self.core.reclaim();
        self.next_tick = Some(now + TICK);
        if self.core.book.in_use() > 0 {
            self.audit.idle_ticks = 0;
            self.replace_stopped();
            return self.check_progress();
        }
        self.audit.ticks_without_progress = 0;
        self.audit.idle_ticks += 1;
        if self.audit.idle_ticks >= IDLE_TICKS {
            let asleep = &self.core.mailbox.asleep;
            asleep.store(1, Ordering::Relaxed);
            // SeqCst: pairs with the fence in a submit's `wake_one`. Either the submitter sees
            // that we sleep, or we see that its slot is in use.
            fence(Ordering::SeqCst);
            if self.core.book.in_use() > 0 {
                asleep.store(0, Ordering::Relaxed);
            } else {
                self.next_tick = None;
            }
        }
    }

    /// Finds tasks that wait although somebody could do them.
    fn check_progress(&mut self) {
        let core = self.core.clone();
        let region = core.segment.region();
        let ring = region.ring();
        let head = ring.head.load(Ordering::Relaxed);
        if head != self.audit.head || !ring::pending(ring) {
            self.audit.head = head;
            self.audit.ticks_without_progress = 0;
        } else {
            self.audit.ticks_without_progress += 1;
        }
        if head == self.core.tail() {
            self.push_orphans();
        }
        let ticks = self.audit.ticks_without_progress;
        if ticks == 0 {
            return;
        }
        // Who has claimed the entry at the head and does not move on sits in the lock.
        if let Some(holder) = self.holder_of_the_lock() {
            if ticks >= STALL_TICKS {
                self.audit.ticks_without_progress = 0;
                if let Some(process) = self.places.get(holder).and_then(Place::process) {
                    tracing::error!(pid = process.pid, "a worker stays in the lock: replacing it");
                    process.kill();
                }
            }
            return;
        }
        let idle = self.idle_places();
        if idle.is_empty() {
            // All are busy: the queue may wait.
            self.audit.ticks_without_progress = 0;
        } else if ticks >= STALL_TICKS {
            // One of them sits in the lock, or they do not wake up.
            self.audit.ticks_without_progress = 0;
            for index in idle {
                if let Some(process) = self.places.get(index).and_then(Place::process) {
                    tracing::error!(
                        pid = process.pid,
                        "an idle worker takes no task: replacing it"
                    );
                    process.kill();
                }
            }
        } else if ticks >= WAKE_TICKS {
            for words in region.workers() {
                // A searcher that does not search keeps all others asleep. For one that does, the
                // word is a hint that it misses for a moment.
                words.searching.store(0, Ordering::Relaxed);
                wake(words);
            }
        }
    }

    /// Replaces workers that somebody has stopped while they had no task: they would answer wakes
    /// that are meant for others. One that is stopped in a task keeps it, and may go on.
    fn replace_stopped(&mut self) {
        let idle = self.idle_places();
        for (index, place) in self.places.iter_mut().enumerate() {
            let stopped = idle.contains(&index) && place.process().is_some_and(Process::is_stopped);
            place.stopped_ticks = if stopped { place.stopped_ticks + 1 } else { 0 };
            if place.stopped_ticks >= STALL_TICKS
                && let Some(process) = place.process()
            {
                tracing::error!(pid = process.pid, "an idle worker is stopped: replacing it");
                process.kill();
                place.stopped_ticks = 0;
            }
        }
    }

    /// The worker that has claimed the task at the head and not moved the head on.
    fn holder_of_the_lock(&self) -> Option<usize> {
        let region = self.core.segment.region();
        let ring = region.ring();
        let entries = ring.entries.len() as u64;
        // Relaxed, here and below: looked at once a tick, and believed only after several.
        let head = ring.head.load(Ordering::Relaxed);
        let word = ring.entries.get((head & (entries - 1)) as usize)?.load(Ordering::Relaxed);
        let key = Entry::fresh(word, head, entries)??;
        let state = region.slot(key.index())?.words.state.load(Ordering::Relaxed);
        let state = State::unpack(state).filter(|s| Some(s.generation) == key.generation())?;
        state.owner.place().map(usize::from)
    }

    /// Workers that serve and run no task.
    fn idle_places(&self) -> Vec<usize> {
        let region = self.core.segment.region();
        let mut busy = vec![false; self.places.len()];
        for index in 0..=u16::MAX {
            let Some(slot) = region.slot(index) else { break };
            // Relaxed: looked at once a tick, and believed only after several.
            if let Some(state) = State::unpack(slot.words.state.load(Ordering::Relaxed))
                && matches!(state.phase, Phase::Running | Phase::Condemned)
                && let Some(busy) =
                    state.owner.place().and_then(|place| busy.get_mut(usize::from(place)))
            {
                *busy = true;
            }
        }
        (0..self.places.len())
            .filter(|index| {
                self.places.get(*index).is_some_and(Place::is_serving)
                    && busy.get(*index) == Some(&false)
            })
            .collect()
    }

    /// Pushes tasks again that are queued although the ring is empty: something has moved the
    /// head that should not.
    fn push_orphans(&mut self) {
        let region = self.core.segment.region();
        let mut orphans = Vec::new();
        for index in 0..=u16::MAX {
            let Some(slot) = region.slot(index) else { break };
            let queued = State::unpack(slot.words.state.load(Ordering::Relaxed))
                .filter(|state| state.phase == Phase::Queued);
            if let (Some(key), Some(state)) = (self.core.book.live_at(index), queued)
                && key.generation() == Some(state.generation)
            {
                orphans.push(key);
            }
        }
        for key in &orphans {
            if self.audit.orphans.contains(key) {
                tracing::error!(%key, "a queued task has lost its place in the ring: pushed again");
                self.core.push_again(*key);
            }
        }
        self.audit.orphans = orphans;
    }

    fn order(&self, index: usize, order: Order) {
        if let Some(words) = self.core.segment.region().workers().get(index) {
            // Release: pairs with the Acquire load in the worker's `order`.
            words.order.store(order as u32, Ordering::Release);
            // SeqCst: pairs with the fence in `prepare_to_park`.
            fence(Ordering::SeqCst);
            wake(words);
        }
    }

    fn is_deserted(&self) -> bool {
        self.places
            .iter()
            .all(|place| matches!(place.worker, WorkerLife::Vacant { .. }) && !self.wants_workers())
    }

    /// From serving to nothing: drain until the deadline, then stop, then kill.
    fn bring_down(&mut self, deadline: Instant) -> Shutdown {
        self.core.close("it was shut down");
        let mut report = Shutdown { drained: true, killed: 0 };
        for (order, until) in
            [(Order::Drain, deadline), (Order::Stop, deadline.max(Instant::now()) + STOP_PATIENCE)]
        {
            self.ending = if order == Order::Drain { Ending::Draining } else { Ending::Stopping };
            for index in 0..self.places.len() {
                self.order(index, order);
            }
            while !self.is_deserted() {
                let now = Instant::now();
                if now >= until {
                    break;
                }
                self.act();
                if self.next_tick.is_none_or(|tick| now >= tick) {
                    self.tick(now);
                }
                self.listen(Some(until.min(now + TICK)));
            }
            if self.is_deserted() {
                break;
            }
            report.drained = false;
        }
        report.killed = self.places.iter().filter(|place| place.process().is_some()).count();
        report.drained &= self.kill_everything() == 0;
        report
    }

    /// Ends the server and all workers, in whatever state they are. Says how many tasks that ends.
    fn kill_everything(&mut self) -> usize {
        self.ending = Ending::Stopping;
        self.core.close("it was shut down");
        for place in &self.places {
            if let Some(process) = place.process() {
                process.kill();
            }
        }
        let deadline = Instant::now() + KILL_PATIENCE;
        while Instant::now() < deadline && self.places.iter().any(|p| p.process().is_some()) {
            self.listen(Some(deadline));
            self.act();
        }
        if let Some(server) = self.server.take() {
            server.end();
        }
        self.core.settle_all()
    }
}

/// Wakes a worker if it sleeps.
fn wake(words: &WorkerWords) {
    // Relaxed: the caller has published what the worker is to see, with a fence.
    words.parked.store(crate::shm::AWAKE, Ordering::Relaxed);
    futex::wake_one(&words.parked);
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACK_OFF_MAX)
}
