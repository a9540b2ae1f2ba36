//! How a worker tells the host's event loop that a task is over.

use std::os::fd::BorrowedFd;

use crate::faults;
use crate::ring;
use crate::shm::Completed;
use crate::sys::memory::FileIdentity;
use crate::sys::pipe::press;

/// The button that makes the host's event loop look ([`Chime`](crate::sys::pipe::Chime)).
#[derive(Clone, Copy)]
pub(crate) struct Notice<'a> {
    button: BorrowedFd<'a>,
    /// What the descriptor is open to, unless the model has closed it.
    identity: FileIdentity,
}

impl<'a> Notice<'a> {
    pub(crate) fn new(button: BorrowedFd<'a>, identity: FileIdentity) -> Self {
        Self { button, identity }
    }

    /// Says that the task in the slot at `index` is over.
    pub(crate) fn give(&self, completed: Completed<'_>, index: u16) {
        if !ring::mark(completed, index) {
            return;
        }
        faults::point("serve.marked");
        // What a model has opened in its stead must not be written to. Then the host finds in its next audit
        // that the task is over.
        if FileIdentity::of(self.button).is_ok_and(|found| found == self.identity) {
            press(self.button);
        }
    }
}
