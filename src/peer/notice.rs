//! How a worker tells the host's event loop that a task is over.

use std::os::fd::BorrowedFd;

use crate::faults;
use crate::ring;
use crate::shm::Completed;
use crate::sys::memory::FileIdentity;
use crate::sys::socket::ring_bell;

/// The bell of the host's event loop.
#[derive(Clone, Copy)]
pub(crate) struct Notice<'a> {
    bell: BorrowedFd<'a>,
    /// What the descriptor is open to, unless the model has closed it.
    identity: FileIdentity,
}

impl<'a> Notice<'a> {
    pub(crate) fn new(bell: BorrowedFd<'a>, identity: FileIdentity) -> Self {
        Self { bell, identity }
    }

    /// Says that the task in the slot at `index` is over.
    pub(crate) fn give(&self, completed: Completed<'_>, index: u16) {
        if !ring::mark(completed, index) {
            return;
        }
        faults::point("serve.marked");
        // What a model has opened in its stead must not be written to. (Another eventfd looks the same.)
        // Then the host finds the mark in its next audit.
        if FileIdentity::of(self.bell).is_ok_and(|found| found == self.identity) {
            ring_bell(self.bell);
        }
    }
}
