//! The engine's one thread: starts the fork server, keeps the workers whole, settles what a dead
//! one owned, ends it all.
//!
//! Policy lives here, mechanism in the fork server. Everything happens in one loop over events,
//! from the start to the end, so that a death is handled alike at any time.

mod audit;
mod deaths;
mod ending;
mod events;
#[cfg(feature = "fuzzing")]
#[path = "../../fuzzing.rs"]
pub mod fuzzing;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::audit::Audit;
use crate::error::StartError;
use crate::host::builder::Config;
use crate::host::core::{Core, Request};
use crate::host::discover::{Found, discover};
use crate::host::engine::{Backend, Engine, Shutdown, StartReport};
use crate::host::launch::Server;
use crate::host::wait::FAR;
use crate::ring;
use crate::sys::process::{self, Process};
use crate::wire::{Exit, ToServer};

/// The pace of the audits, while tasks are outstanding and only then.
const TICK: Duration = Duration::from_millis(100);
/// How long the fork server may take to tell the exit status of a worker that has ended.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);
/// How long the kernel may take to end what was killed.
const KILL_PATIENCE: Duration = Duration::from_millis(300);
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Starts an engine over worker processes.
pub(crate) fn start(config: Config) -> Result<Engine, StartError> {
    let core =
        Arc::new(Core::new(config.sizes, config.setup.signature.clone(), config.wait_policy)?);
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
}

fn back_off(failures: u32) -> Duration {
    BACK_OFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACK_OFF_MAX)
}
