//! Who serves: gives each seat a worker, and has workers replaced by others without a gap.

use std::time::Instant;

use super::places::{Life, Seat, Worker, jittered};
use super::{Ending, Supervisor};
use crate::host::builder::Retirement;
use crate::ring;
use crate::shm::Order;
use crate::sync::Ordering;
use crate::wire::ToServer;

/// Audits, without a gap, that find a model keeping tensors of tasks that are over, before its worker
/// is replaced. (Two seconds; audits come while there are tasks.)
const KEEPING_TICKS: u32 = 20;

/// Why a worker is killed that has not served and will not have to.
pub(super) const UNNEEDED: &str = "nobody needs it any more";

impl Supervisor {
    /// Does what the seats ask for: takes over, asks for workers, sends away those that were
    /// replaced.
    pub(super) fn staff(&mut self, now: Instant) {
        for seat in 0..self.seats.len() {
            self.seat_heir(seat, now);
        }
        // Empty seats first: there may not be places for all.
        let (empty, taken): (Vec<_>, Vec<_>) = (0..self.seats.len())
            .partition(|seat| self.seats.get(*seat).is_some_and(|seat| seat.holder.is_none()));
        for seat in empty.into_iter().chain(taken) {
            self.fill(seat, now);
        }
        if self.config.spare && self.ending == Ending::No {
            self.fill_spare(now);
        }
    }

    /// The heir takes the seat once it is ready.
    fn seat_heir(&mut self, seat: usize, now: Instant) {
        let heir = self.seats.get(seat).and_then(|seat| seat.heir);
        if let Some(heir) = heir
            && self.life_at(heir) == Some(Life::Standing)
        {
            self.promote(seat, heir, now);
        }
    }

    fn fill(&mut self, index: usize, now: Instant) {
        let Some(&Seat { holder, heir, not_before, .. }) = self.seats.get(index) else { return };
        if heir.is_some() {
            return;
        }
        match holder {
            None if !self.wants_workers() => {}
            None => match self.ready_spare() {
                Some(spare) => self.promote(index, spare, now),
                None if now >= not_before => {
                    let holder = self.request_worker(now);
                    if let Some(seat) = self.seats.get_mut(index) {
                        seat.holder = holder;
                    }
                }
                None => {}
            },
            Some(holder) if self.is_to_be_replaced(holder) && now >= not_before => {
                match self.ready_spare() {
                    Some(spare) => self.promote(index, spare, now),
                    None => {
                        let heir = self.request_worker(now);
                        if let Some(seat) = self.seats.get_mut(index) {
                            seat.heir = heir;
                        }
                    }
                }
            }
            Some(_) => {}
        }
    }

    fn fill_spare(&mut self, now: Instant) {
        match self.spare.holder {
            Some(spare) if self.is_outdated(spare) => {
                self.spare.holder = None;
                self.send_away(spare, now);
            }
            Some(_) => {}
            // Those who serve come first.
            None if now >= self.spare.not_before
                && self.is_whole()
                && self.seats.iter().all(|seat| {
                    seat.heir.is_none()
                        && seat.holder.is_some_and(|holder| !self.is_outdated(holder))
                }) =>
            {
                self.spare.holder = self.request_worker(now);
            }
            None => {}
        }
    }

    pub(super) fn life_at(&self, place: usize) -> Option<Life> {
        self.places.get(place)?.life()
    }

    pub(super) fn worker_at(&self, place: usize) -> Option<&Worker> {
        self.places.get(place)?.worker.as_ref()
    }

    /// Whether the worker is of another version than those that are started now.
    fn is_outdated(&self, place: usize) -> bool {
        let target = self.target().map(|version| version.number);
        self.worker_at(place).is_some_and(|worker| target.is_some_and(|t| t != worker.version))
    }

    /// Whether a worker that serves is to make room for another.
    fn is_to_be_replaced(&self, place: usize) -> bool {
        self.ending == Ending::No
            && self.life_at(place) == Some(Life::Serving)
            && (self.is_outdated(place) || self.worker_at(place).is_some_and(|w| w.retires))
    }

    /// The spare, if it can take over now.
    fn ready_spare(&mut self) -> Option<usize> {
        let spare = self.spare.holder?;
        let ready = self.life_at(spare) == Some(Life::Standing) && !self.is_outdated(spare);
        if ready { self.spare.holder.take() } else { None }
    }

    /// The worker at `place`, which stands by, serves from now on in this seat; who had it leaves.
    fn promote(&mut self, seat: usize, place: usize, now: Instant) {
        if let Some(worker) = self.places.get_mut(place).and_then(|place| place.worker.as_mut()) {
            worker.enter(Life::Serving, now);
        }
        self.order(place, Order::Serve);
        let Some(seat) = self.seats.get_mut(seat) else { return };
        seat.heir = None;
        if let Some(before) = seat.holder.replace(place) {
            self.send_away(before, now);
        }
        self.publish_workers();
        self.note_service();
    }

    /// Has a worker end after the task at hand. One that is not ready reads no orders, and may never
    /// be.
    pub(super) fn send_away(&mut self, place: usize, now: Instant) {
        if let Some(worker) = self.places.get_mut(place).and_then(|place| place.worker.as_mut()) {
            match worker.life {
                // Without a process yet it is sent away when it is ready, if it ever is.
                Life::Requested | Life::Starting => return worker.kill(UNNEEDED),
                Life::Standing | Life::Serving => worker.enter(Life::Leaving, now),
                Life::Leaving | Life::Ended => {}
            }
            self.order(place, Order::Stop);
        }
    }

    /// Asks the fork server for a worker at a place that has none. Gives the place; `None` if there is
    /// none at the moment, or no server.
    fn request_worker(&mut self, now: Instant) -> Option<usize> {
        if self.rebuilds {
            return None;
        }
        let version = self.target()?.number;
        let index = self.places.iter().position(|place| place.worker.is_none())?;
        let retirement = self.config.retirement.with_jitter();
        let place = self.places.get_mut(index)?;
        place.incarnation += 1;
        place.worker = Some(Worker::new(version, retirement, now));
        let message =
            ToServer::Spawn { worker: u16::try_from(index).ok()?, incarnation: place.incarnation };
        if let Some(words) = self.core.segment.region().workers().get(index) {
            ring::clear_worker(words);
            // Nobody serves before the host has heard that the process exists, and can watch it.
            // Relaxed: the worker is forked after this.
            words.order.store(Order::Standby as u32, Ordering::Relaxed);
        }
        // One from scratch believes it, and a worker may have scribbled there.
        self.core.segment.region().publish_header();
        let told = self.target().is_some_and(|version| version.server.tell(&message).is_ok());
        if !told {
            self.lose_server(version, now);
            return None;
        }
        Some(index)
    }

    /// Marks workers that have served long enough: they are replaced, one after the other.
    pub(super) fn retire(&mut self, now: Instant) {
        let core = self.core.clone();
        for (place, words) in self.places.iter_mut().zip(core.segment.region().workers()) {
            let Some(worker) = &mut place.worker else { continue };
            let (Some(since), Some(process)) = (worker.served, &worker.process) else { continue };
            let Retirement { tasks, age, memory } = worker.retirement;
            // Relaxed: the worker's own count. One that lies is replaced too early or too late.
            let done = words.tasks.load(Ordering::Relaxed);
            let keeps = words.kept.load(Ordering::Relaxed) > 0;
            worker.keeps_for = if keeps { worker.keeps_for + 1 } else { 0 };
            if worker.keeps_for == KEEPING_TICKS {
                let pid = process.pid;
                tracing::warn!(pid, "the model keeps arrays of its tasks: its worker is replaced");
            }
            worker.retires |= worker.keeps_for >= KEEPING_TICKS
                || tasks.is_some_and(|tasks| done >= tasks)
                || age.is_some_and(|age| now.duration_since(since) >= age)
                || memory.is_some_and(|memory| {
                    process.resident_bytes().is_some_and(|resident| resident >= memory)
                });
        }
    }
}

impl Retirement {
    /// Less up to a fifth by chance, so that workers that were started together do not end together.
    fn with_jitter(self) -> Self {
        let part = |number: u64| {
            let seconds = jittered(std::time::Duration::from_secs(1), 0.8, 1.0).as_secs_f64();
            ((number as f64 * seconds) as u64).max(1)
        };
        Self {
            tasks: self.tasks.map(part),
            age: self.age.map(|age| jittered(age, 0.8, 1.0)),
            memory: self.memory,
        }
    }
}
