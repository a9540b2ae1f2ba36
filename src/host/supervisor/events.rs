//! What happens: messages of the fork servers, ends of processes, the bell.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::places::{Life, Worker};
use super::versions::Stage;
use super::{Ending, Supervisor};
use crate::error::StartError;
use crate::host::health::Watched;
use crate::host::launch::Heard;
use crate::shm::Order;
use crate::sys::process::Process;
use crate::sys::socket;
use crate::wire::{FromServer, StartMethod, ThreadReport};

/// What the supervisor listens to.
#[derive(Clone, Copy)]
enum Source {
    Bell,
    /// The control socket of this version's fork server.
    Control(u32),
    /// The end of this version's fork server.
    Server(u32),
    /// The end of the worker at this place.
    Worker(usize),
}

impl Supervisor {
    /// Waits until something happens or the instant comes, and takes note of all that did.
    pub(super) fn listen(&mut self, until: Option<Instant>) {
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        let (sources, descriptors): (Vec<Source>, Vec<BorrowedFd<'_>>) = self.sources().unzip();
        let Ok(ready) = socket::readable(&descriptors, timeout) else {
            // Only for lack of kernel memory. Not in a busy loop.
            return thread::sleep(Duration::from_millis(10));
        };
        let now = Instant::now();
        let happened: Vec<Source> =
            sources.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(s, _)| s).collect();
        // In this order: a socket may hold what a process that has ended said last.
        for source in happened {
            match source {
                Source::Bell => {
                    self.core.mailbox.bell.answer();
                    if self.next_tick.is_none() {
                        self.resume_ticks();
                    }
                }
                Source::Control(number) => self.hear_all(number, now),
                Source::Worker(index) => self.note_end(index, now),
                Source::Server(number) => {
                    self.hear_all(number, now);
                    self.lose_server(number, now);
                }
            }
        }
    }

    fn sources(&self) -> impl Iterator<Item = (Source, BorrowedFd<'_>)> {
        let bell = [(Source::Bell, self.core.mailbox.bell.as_fd())];
        let controls = self.versions().map(|v| (Source::Control(v.number), v.server.control()));
        let workers = self.places.iter().enumerate().filter_map(|(index, place)| {
            Some((Source::Worker(index), place.process()?.pidfd.as_fd()))
        });
        let servers = self.versions().filter_map(|version| {
            let process = version.server.process.as_ref()?;
            Some((Source::Server(version.number), process.pidfd.as_fd()))
        });
        bell.into_iter().chain(controls).chain(workers).chain(servers)
    }

    fn hear_all(&mut self, number: u32, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        // A message may end the version.
        while let Some(version) = self.version_mut(number) {
            match version.server.hear(&mut buffer) {
                Heard::Message(message, descriptor) => self.note(number, message, descriptor, now),
                Heard::Nothing => break,
                Heard::Gone => {
                    self.lose_server(number, now);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn note(
        &mut self,
        number: u32,
        message: FromServer,
        descriptor: Option<OwnedFd>,
        now: Instant,
    ) {
        match message {
            FromServer::Hello { pid } => {
                if let (Some(version), Some(pidfd)) = (self.version_mut(number), descriptor) {
                    version.server.process = Some(Process { pid, pidfd });
                    version.stage = Stage::Importing;
                }
            }
            FromServer::Imported(threads) => self.note_import(number, threads, now),
            FromServer::ImportFailed(error) => {
                if let Some(version) = self.version_mut(number) {
                    version.has_told = true;
                }
                self.server_trouble(number, StartError::Import { error });
            }
            FromServer::Spawned { worker, incarnation, pid } => {
                let Some(pidfd) = descriptor else {
                    // The kernel drops what it cannot hand over: this process has no room for
                    // another descriptor. Without one the worker cannot be watched.
                    let source = std::io::Error::from(nix::Error::EMFILE);
                    self.complain(StartError::System { action: "watch a worker", source });
                    return self.lose_server(number, now);
                };
                self.note_spawn(worker, incarnation, Process { pid, pidfd }, now);
            }
            FromServer::SpawnFailed { worker, incarnation, errno } => {
                if let Some((index, _)) = self.worker(worker, incarnation) {
                    self.bury_unborn(index, now);
                    let source = std::io::Error::from_raw_os_error(errno);
                    let action = "fork a worker";
                    self.server_trouble(number, StartError::System { action, source });
                    self.check_availability();
                }
            }
            FromServer::Ready { worker, incarnation } => {
                self.note_ready(worker, incarnation, now);
            }
            FromServer::InitializeFailed { worker: place, incarnation, error } => {
                if let Some((_, worker)) = self.worker(place, incarnation) {
                    worker.has_told = true;
                    self.server_trouble(number, StartError::Initialize { worker: place, error });
                }
            }
            FromServer::Exited { worker, incarnation, exit, last_words, .. } => {
                if let Some((index, _)) = self.worker(worker, incarnation) {
                    self.bury(index, exit, last_words, now);
                }
            }
        }
    }

    /// What went wrong with a version's import or one of its workers.
    pub(super) fn server_trouble(&mut self, number: u32, error: StartError) {
        if let Some(error) = self.blame_reload(number, error) {
            self.complain(error);
        }
    }

    fn note_import(&mut self, number: u32, threads: ThreadReport, now: Instant) {
        let method = self.config.setup.start_method;
        let forks = match method {
            StartMethod::Fork if threads.threads > 1 => {
                let (threads, suspect) = (threads.threads, threads.suspect);
                return self.server_trouble(number, StartError::Threads { threads, suspect });
            }
            StartMethod::Spawn => false,
            _ => threads.threads <= 1,
        };
        if !forks && method == StartMethod::Auto {
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
        if let Some(version) = self.version_mut(number) {
            (version.stage, version.since) = (Stage::Ready, now);
        }
    }

    /// The worker, if it is still the one that the place has.
    fn worker(&mut self, place: u16, incarnation: u32) -> Option<(usize, &mut Worker)> {
        let index = usize::from(place);
        let place = self.places.get_mut(index).filter(|place| place.incarnation == incarnation)?;
        Some((index, place.worker.as_mut()?))
    }

    fn note_spawn(&mut self, place: u16, incarnation: u32, process: Process, now: Instant) {
        let Some((_, worker)) = self.worker(place, incarnation) else { return process.kill() };
        worker.process = Some(Arc::new(process));
        if worker.life == Life::Requested {
            worker.enter(Life::Starting, now);
        }
        if worker.ready {
            self.note_ready(place, incarnation, now);
        }
        self.publish_workers();
    }

    fn note_ready(&mut self, place: u16, incarnation: u32, now: Instant) {
        let ending = self.ending;
        let Some((index, worker)) = self.worker(place, incarnation) else { return };
        worker.ready = true;
        if worker.life != Life::Starting {
            // The server has yet to tell that it exists; or it has ended.
            return;
        }
        let has_seat = self.seats.iter().any(|seat| seat.holder == Some(index));
        let life = if has_seat { Life::Serving } else { Life::Standing };
        if let Some((_, worker)) = self.worker(place, incarnation) {
            worker.enter(life, now);
        }
        match ending {
            Ending::No if has_seat => self.order(index, Order::Serve),
            Ending::No => {}
            Ending::Draining if has_seat => self.order(index, Order::Drain),
            Ending::Draining | Ending::Stopping => self.order(index, Order::Stop),
        }
        self.failed_starts = 0;
        self.publish_workers();
        if has_seat {
            self.note_service();
        } else if !self.has_seat_coming(index) {
            // Whoever wanted it has changed its mind meanwhile.
            self.send_away(index, now);
        }
    }

    fn has_seat_coming(&self, index: usize) -> bool {
        self.spare.holder == Some(index) || self.seats.iter().any(|seat| seat.heir == Some(index))
    }

    /// Tells the other threads which workers there are.
    pub(super) fn publish_workers(&self) {
        *self.shared.workers.lock() = self
            .places
            .iter()
            .enumerate()
            .filter_map(|(place, row)| Watched::new(place, row.worker.as_ref()?))
            .collect();
    }

    /// The kernel says that a worker has ended. How it did, the server will say.
    pub(super) fn note_end(&mut self, index: usize, now: Instant) {
        let Some(worker) = self.places.get_mut(index).and_then(|place| place.worker.as_mut())
        else {
            return;
        };
        if worker.life != Life::Ended {
            worker.enter(Life::Ended, now);
            self.publish_workers();
        }
    }
}
