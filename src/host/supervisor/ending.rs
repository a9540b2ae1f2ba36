//! From serving to nothing: drain, stop, kill.

use std::time::{Duration, Instant};

use super::{Ending, KILL_PATIENCE, Supervisor, TICK, WorkerLife};
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

    pub(super) fn is_deserted(&self) -> bool {
        self.places
            .iter()
            .all(|place| matches!(place.worker, WorkerLife::Vacant { .. }) && !self.wants_workers())
    }

    /// From serving to nothing: drain until the deadline, then stop, then kill.
    pub(super) fn bring_down(&mut self, deadline: Instant) -> Shutdown {
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
    pub(super) fn kill_everything(&mut self) -> usize {
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
