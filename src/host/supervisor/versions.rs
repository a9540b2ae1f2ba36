//! Fork servers: the one that workers come from, the one that is to take its place in a reload, and
//! those that live on until their last worker has left.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::places::{SHORT_LIFE, back_off};
use super::staff::UNNEEDED;
use super::{Ending, KILL_PATIENCE, Supervisor};
use crate::error::{ReloadError, StartError};
use crate::host::engine::Reload;
use crate::host::launch::Server;
use crate::sys::process::Process;
use crate::wire::{Exit, ToServer};

/// How long a fork server may take to end once its last worker has left.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How far a fork server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Importing,
    /// It makes workers.
    Ready,
}

impl Stage {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Connecting => "starting the fork server",
            Self::Importing => "importing the model",
            Self::Ready => "initialising the workers",
        }
    }
}

/// A fork server, with the model's code as it was when it imported it.
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) server: Server,
    pub(super) stage: Stage,
    pub(super) since: Instant,
    /// It has told itself what went wrong.
    pub(super) has_told: bool,
}

/// A reload that is under way.
pub(super) struct Reloading {
    pub(super) version: Version,
    begun: Instant,
    deadline: Instant,
    /// Who waits; nobody any more after the deadline.
    reply: Option<SyncSender<Result<Reload, ReloadError>>>,
}

/// A fork server that makes no workers any more.
pub(super) struct Outgoing {
    pub(super) version: Version,
    /// When it is killed, once it was told to end.
    end_by: Option<Instant>,
}

impl Supervisor {
    /// Every fork server there is.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        let incoming = self.incoming.as_ref().map(|incoming| &incoming.version);
        let outgoing = self.outgoing.iter().map(|outgoing| &outgoing.version);
        self.current.iter().chain(incoming).chain(outgoing)
    }

    pub(super) fn versions_mut(&mut self) -> impl Iterator<Item = &mut Version> {
        let incoming = self.incoming.as_mut().map(|incoming| &mut incoming.version);
        let outgoing = self.outgoing.iter_mut().map(|outgoing| &mut outgoing.version);
        self.current.iter_mut().chain(incoming).chain(outgoing)
    }

    pub(super) fn version_mut(&mut self, number: u32) -> Option<&mut Version> {
        self.versions_mut().find(|version| version.number == number)
    }

    fn is_incoming(&self, number: u32) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| incoming.version.number == number)
    }

    /// The fork server that new workers come from, if it is ready: the incoming one as soon as it has
    /// imported the model.
    pub(super) fn target(&self) -> Option<&Version> {
        let incoming = self.incoming.as_ref().map(|incoming| &incoming.version);
        let ready = |version: &&Version| version.stage == Stage::Ready;
        incoming.filter(ready).or_else(|| self.current.as_ref().filter(ready))
    }

    fn make_version(&mut self, now: Instant) -> std::io::Result<Option<Version>> {
        let Some(found) = &self.found else { return Ok(None) };
        // What a worker may have scribbled there.
        self.core.segment.region().publish_header();
        let descriptor = self.core.segment.descriptor();
        let server = Server::start(&self.config, found, descriptor, self.core.notices.button())?;
        server.tell(&ToServer::Setup(self.config.setup.clone()))?;
        self.versions_made += 1;
        let number = self.versions_made;
        let stage = Stage::Connecting;
        Ok(Some(Version { number, server, stage, since: now, has_told: false }))
    }

    pub(super) fn start_server(&mut self, now: Instant) {
        match self.make_version(now) {
            Ok(version) => self.current = version,
            Err(source) => {
                self.back_off_server(false, now);
                self.complain(StartError::System { action: "start the fork server", source });
                self.check_availability();
            }
        }
    }

    fn back_off_server(&mut self, long_lived: bool, now: Instant) {
        self.server_failures = self.server_failures.saturating_add(1);
        self.server_short_lives =
            if long_lived { 0 } else { self.server_short_lives.saturating_add(1) };
        // The first one is replaced at once.
        let wait = match self.server_short_lives {
            0 | 1 if self.is_up => Duration::ZERO,
            failures => back_off(failures),
        };
        self.server_not_before = now + wait;
    }

    /// Looks after the fork servers: starts the one that is needed, gives up on those that do not get
    /// ready, ends those that are not needed any more.
    pub(super) fn tend_servers(&mut self, now: Instant) {
        if self.current.is_none() && self.wants_workers() && now >= self.server_not_before {
            self.start_server(now);
        }
        let late = self
            .current
            .as_ref()
            .filter(|version| version.stage != Stage::Ready && self.is_overdue(version.since, now));
        if let Some(number) = late.map(|version| version.number) {
            tracing::error!("the fork server does not get ready: replacing it");
            self.lose_server(number, now);
        }
        self.tend_reload(now);
        self.end_outgoing(now);
    }

    /// The fork server is gone, or not to be trusted: its workers go with it.
    pub(super) fn lose_server(&mut self, number: u32, now: Instant) {
        let stage = self.version_mut(number).map(|version| version.stage);
        let Some(stage) = stage else { return };
        let died = |pid| StartError::Died {
            who: "the fork server".to_owned(),
            pid,
            stage: stage.text(),
            exit: Exit::Unknown,
        };
        if self.current.as_ref().is_some_and(|version| version.number == number) {
            let Some(version) = self.current.take() else { return };
            let lived = now.saturating_duration_since(version.since);
            let long_lived = stage == Stage::Ready && lived >= SHORT_LIFE;
            let (pid, has_told) = (version.server.pid(), version.has_told);
            // Killed, before its workers are.
            drop(version);
            self.back_off_server(long_lived, now);
            if self.ending == Ending::No {
                tracing::error!(pid, "the fork server has ended");
            }
            if !has_told {
                self.complain(died(pid));
            }
        } else if self.is_incoming(number)
            && let Some(incoming) = self.incoming.take()
        {
            let error = died(incoming.version.server.pid());
            answer(incoming.reply, Err(ReloadError::Start(error)));
        }
        self.outgoing.retain(|outgoing| outgoing.version.number != number);
        let deadline = now + KILL_PATIENCE;
        for index in 0..self.places.len() {
            let Some(worker) = self.places.get(index).and_then(|place| place.worker.as_ref())
            else {
                continue;
            };
            if worker.version != number {
                continue;
            }
            // One that the kernel has not ended yet is buried when it has.
            let ended = worker.process.as_ref().is_none_or(|process| {
                process.kill_with_group();
                process.has_ended_by(deadline)
            });
            if ended {
                self.note_end(index, now);
                self.bury(index, Exit::WithServer, String::new(), now);
            }
        }
        self.check_availability();
    }

    // Reload ------------------------------------------------------------------------------------

    pub(super) fn begin_reload(
        &mut self,
        deadline: Instant,
        reply: SyncSender<Result<Reload, ReloadError>>,
    ) {
        let now = Instant::now();
        let refusal = if self.incoming.is_some() {
            Some(ReloadError::Busy)
        } else {
            match self.make_version(now) {
                Ok(Some(version)) => {
                    let reply = Some(reply.clone());
                    self.incoming = Some(Reloading { version, begun: now, deadline, reply });
                    None
                }
                Ok(None) => Some(ReloadError::Closed),
                Err(source) => {
                    let action = "start the fork server";
                    Some(ReloadError::Start(StartError::System { action, source }))
                }
            }
        };
        if let Some(refusal) = refusal {
            answer(Some(reply), Err(refusal));
        }
    }

    fn tend_reload(&mut self, now: Instant) {
        let Some(incoming) = &self.incoming else { return };
        let number = incoming.version.number;
        if now >= incoming.deadline {
            let holders = self.seats.iter().filter_map(|seat| self.worker_at(seat.holder?));
            let replaced = holders.filter(|worker| worker.version == number).count();
            let workers = self.seats.len();
            if replaced == 0 {
                return self.fail_reload(ReloadError::TimedOut { replaced, workers });
            }
            // Too late to go back: it goes on without anybody waiting.
            let reply = self.incoming.as_mut().and_then(|incoming| incoming.reply.take());
            answer(reply, Err(ReloadError::TimedOut { replaced, workers }));
        }
        let none_old = self
            .places
            .iter()
            .all(|place| place.worker.as_ref().is_none_or(|worker| worker.version == number));
        if self.is_whole()
            && none_old
            && let Some(incoming) = self.incoming.take()
        {
            let took = now.duration_since(incoming.begun);
            tracing::info!(?took, "reloaded");
            let old = self.current.replace(incoming.version);
            self.outgoing.extend(old.map(|version| Outgoing { version, end_by: None }));
            self.server_failures = 0;
            answer(incoming.reply, Ok(Reload { workers: self.seats.len(), took }));
        }
    }

    /// The new code cannot be had: the old goes on serving, and takes back what seats the new one
    /// has.
    pub(super) fn fail_reload(&mut self, error: ReloadError) {
        let Some(incoming) = self.incoming.take() else { return };
        tracing::error!(%error, "the reload has failed: the old version goes on");
        let number = incoming.version.number;
        for seat in &mut self.seats {
            // Heirs of the new version are not waited for any more.
            let is_new = |place: usize| {
                let worker = self.places.get(place).and_then(|place| place.worker.as_ref());
                worker.is_some_and(|worker| worker.version == number)
            };
            seat.heir = seat.heir.filter(|heir| !is_new(*heir));
        }
        for place in &mut self.places {
            if let Some(worker) = &mut place.worker
                && worker.version == number
                && !worker.may_run_tasks()
            {
                worker.kill(UNNEEDED);
            }
        }
        self.outgoing.push(Outgoing { version: incoming.version, end_by: None });
        answer(incoming.reply, Err(error));
    }

    /// What went wrong with a worker or fork server of this version ends the reload, if it is the
    /// incoming one's. Gives the error back if it is not.
    pub(super) fn blame_reload(&mut self, number: u32, error: StartError) -> Option<StartError> {
        if self.is_incoming(number) {
            self.fail_reload(ReloadError::Start(error));
            None
        } else {
            Some(error)
        }
    }

    pub(super) fn cancel_reload(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            answer(incoming.reply, Err(ReloadError::Closed));
            self.outgoing.push(Outgoing { version: incoming.version, end_by: None });
        }
    }

    /// Ends fork servers that have no worker left.
    fn end_outgoing(&mut self, now: Instant) {
        let places = &self.places;
        for outgoing in &mut self.outgoing {
            let number = outgoing.version.number;
            let workers = places.iter().filter_map(|place| place.worker.as_ref());
            if outgoing.end_by.is_none()
                && !workers.into_iter().any(|worker| worker.version == number)
            {
                let told = outgoing.version.server.tell(&ToServer::Stop).is_ok();
                outgoing.end_by = Some(if told { now + END_PATIENCE } else { now });
            }
        }
        self.outgoing.retain(|outgoing| {
            let process = outgoing.version.server.process.as_ref();
            let has_ended = process.is_some_and(|process: &Process| process.has_ended_by(now));
            // Dropping it kills it.
            !has_ended && outgoing.end_by.is_none_or(|end_by| now < end_by)
        });
    }

    /// When there is something to do about a fork server even if nothing happens.
    pub(super) fn server_timer(&self, now: Instant) -> Option<Instant> {
        let current = match &self.current {
            None if self.wants_workers() => Some(self.server_not_before),
            // Short of exact, here and below: whatever starts is looked at again at this pace.
            Some(version) if version.stage != Stage::Ready => Some(now + super::TICK),
            _ => None,
        };
        let incoming = self.incoming.as_ref().map(|incoming| {
            if incoming.reply.is_some() { incoming.deadline } else { now + super::TICK }
        });
        let outgoing = self.outgoing.iter().filter_map(|outgoing| outgoing.end_by).min();
        current.into_iter().chain(incoming).chain(outgoing).min()
    }
}

fn answer(
    reply: Option<SyncSender<Result<Reload, ReloadError>>>,
    result: Result<Reload, ReloadError>,
) {
    if let Some(reply) = reply {
        // Fails when nobody waits any more.
        let _ = reply.try_send(result);
    }
}
