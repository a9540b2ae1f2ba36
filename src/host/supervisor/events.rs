//! What happens: messages of the fork server, ends of processes, the bell.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::{Ending, Place, Stage, Supervisor, WorkerLife, back_off};
use crate::error::StartError;
use crate::host::launch::{Heard, Server};
use crate::shm::Order;
use crate::sys::process::Process;
use crate::sys::socket;
use crate::wire::{FromServer, StartMethod};

impl Supervisor {
    /// Waits until something happens or the instant comes, and takes note of all that did.
    pub(super) fn listen(&mut self, until: Option<Instant>) {
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

    pub(super) fn hear_all(&mut self, now: Instant) {
        loop {
            let Some(server) = &mut self.server else { return };
            match server.hear(&mut self.buffer) {
                Heard::Message(message, descriptor) => self.note(message, descriptor, now),
                Heard::Nothing => return,
                Heard::Gone => return self.lose_server(now),
            }
        }
    }

    pub(super) fn note(&mut self, message: FromServer, descriptor: Option<OwnedFd>, now: Instant) {
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
    pub(super) fn place(&mut self, worker: u16, incarnation: u32) -> Option<(usize, &mut Place)> {
        let index = usize::from(worker);
        let place = self.places.get_mut(index)?;
        (place.incarnation == incarnation).then_some((index, place))
    }

    pub(super) fn note_ready(&mut self, worker: u16, incarnation: u32, now: Instant) {
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

    pub(super) fn publish_pids(&self) {
        *self.shared.pids.lock() = self
            .places
            .iter()
            .filter(|place| place.is_serving())
            .filter_map(|place| Some(place.process()?.pid))
            .collect();
    }

    /// The kernel says that a worker has ended. How it did, the server will say.
    pub(super) fn note_end(&mut self, index: usize, now: Instant) {
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
}
