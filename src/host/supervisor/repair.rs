//! After somebody has written into the segment what nobody writes: the workers go, and with them all
//! that they could have written.

use super::Supervisor;
use crate::error::TaskError;
use crate::ring;

const REASON: &str = "a worker wrote into the segment what no worker writes";

impl Supervisor {
    /// Replaces the worker that has written nonsense. If nobody knows which one it was, all of them
    /// are killed, and the segment is made anew: see [`rebuild`](Self::rebuild).
    pub(super) fn replace_faulty(&mut self, place: Option<u16>) {
        let known = place.map(usize::from).filter(|place| *place < self.places.len());
        match known.and_then(|place| self.places.get_mut(place)) {
            Some(place) => {
                tracing::error!(?known, "a worker wrote what no worker writes: replacing it");
                place.kill(REASON);
            }
            None => self.condemn_all(),
        }
    }

    /// No worker is to be trusted any more.
    pub(super) fn condemn_all(&mut self) {
        if !self.rebuilds {
            tracing::error!("the segment says what no worker writes: replacing all workers");
            self.rebuilds = true;
        }
        for place in &mut self.places {
            place.kill(REASON);
        }
    }

    /// Once no worker lives that could still write: ends the tasks of which nobody can say any more
    /// whether they were begun, and makes the shared words those of a fresh segment.
    pub(super) fn rebuild(&mut self) {
        if !self.rebuilds {
            return;
        }
        if self.places.iter().any(|place| place.worker.is_some()) {
            // Those that were being made meanwhile.
            return self.condemn_all();
        }
        let region = self.core.segment.region();
        // SAFETY: every worker's end was confirmed by the kernel, and none is asked for before this is
        // done; the host itself never uses the lock, nor does a fork server.
        if let Err(error) = unsafe { region.initialise_lock() } {
            tracing::error!(%error, "the workers' lock cannot be made anew");
            return;
        }
        region.publish_header();
        for words in region.workers() {
            ring::clear_worker(words);
        }
        let ended = self.core.start_anew(|| TaskError::Corrupt {
            detail: "the segment was overwritten, and what became of the task cannot be told",
        });
        tracing::warn!(ended, "the segment was made anew");
        self.rebuilds = false;
        self.audit = Default::default();
    }
}
