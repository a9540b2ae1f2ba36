//! From serving to nothing: drain, stop, kill.

use std::time::{Duration, Instant};

use super::places::{Life, Place};
use super::{Ending, KILL_PATIENCE, Supervisor, TICK};
use crate::host::engine::Shutdown;
use crate::ring;
use crate::shm::Order;
use crate::sys::futex;

/// How long workers may take to finish their task once the shutdown's deadline has passed.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

impl Supervisor {
    pub(super) fn order(&self, index: usize, order: Order) {
        if let Some(words) = self.core.segment.region().workers().get(index) {
            ring::give_order(words, order, futex::wake_one);
        }
    }

    fn is_deserted(&self) -> bool {
        self.places.iter().all(|place| place.worker.is_none()) && !self.wants_workers()
    }

    /// From serving to nothing: drain until the deadline, then stop, then kill.
    pub(super) fn bring_down(&mut self, deadline: Instant) -> Shutdown {
        self.core.close("it was shut down");
        self.cancel_reload();
        // Nobody takes over any more: an heir would be told to serve, and by nobody to end.
        for seat in self.seats.iter_mut().chain([&mut self.spare]) {
            seat.heir = None;
        }
        self.spare.holder = None;
        let mut report = Shutdown { drained: true, killed: 0 };
        for (order, until) in
            [(Order::Drain, deadline), (Order::Stop, deadline.max(Instant::now()) + STOP_PATIENCE)]
        {
            self.ending = if order == Order::Drain { Ending::Draining } else { Ending::Stopping };
            for index in 0..self.places.len() {
                // Those that serve drain; nobody else takes tasks any more.
                match self.life_at(index) {
                    Some(Life::Serving) => self.order(index, order),
                    Some(Life::Standing) => self.order(index, Order::Stop),
                    _ => {}
                }
            }
            // Ticks go on, also if there was nothing to audit before.
            self.next_tick.get_or_insert_with(|| Instant::now() + TICK);
            while !self.is_deserted() && Instant::now() < until {
                self.step(Some(until));
                self.next_tick.get_or_insert_with(|| Instant::now() + TICK);
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

    /// Ends the servers and all workers, in whatever state they are. Says how many tasks that ends.
    pub(super) fn kill_everything(&mut self) -> usize {
        self.ending = Ending::Stopping;
        self.core.close("it was shut down");
        self.cancel_reload();
        for place in &mut self.places {
            place.kill("the engine was shut down");
        }
        let deadline = Instant::now() + KILL_PATIENCE;
        while Instant::now() < deadline && self.places.iter().any(Place::has_process) {
            self.step(Some(deadline));
        }
        self.outgoing.clear();
        if let Some(version) = self.current.take() {
            version.server.end();
        }
        self.core.settle_all()
    }
}
