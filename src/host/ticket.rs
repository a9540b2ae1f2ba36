//! A task that was accepted, as its owner holds it.

use std::fmt;

use super::engine::Engine;
use crate::key::Key;

/// An accepted task. Dropping it abandons the task: its answer goes, and its slot is free as soon
/// as no worker has it. So a caller that panics leaks nothing. A task that runs, runs to its end,
/// or to its own deadline; [`cancel`](crate::Engine::cancel) stops it now.
///
/// [`Ticket::into_key`] gives the bare number instead, for callers that keep it elsewhere; then
/// the task is theirs to retrieve.
#[must_use = "dropping a ticket abandons its task"]
pub struct Ticket<'e> {
    engine: &'e Engine,
    key: Key,
    /// Whether no worker was awake when the task was submitted.
    all_slept: bool,
}

impl<'e> Ticket<'e> {
    pub(crate) fn new(engine: &'e Engine, key: Key, all_slept: bool) -> Self {
        Self { engine, key, all_slept }
    }

    /// The key, while the ticket stays responsible for the task.
    pub fn key(&self) -> Key {
        self.key
    }

    pub(super) fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// The key alone: nobody abandons the task any more.
    pub fn into_key(self) -> Key {
        let key = self.key;
        std::mem::forget(self);
        key
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // For a task that was retrieved this finds nothing to do.
        self.engine.abandon(self.key);
    }
}

impl fmt::Debug for Ticket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.key).finish()
    }
}

/// What a task can be asked for by: a [`Key`], a [`Ticket`], or a reference to one.
///
/// A ticket given by value is used up: when the wait ends without an answer, the task is
/// abandoned.
pub trait AsKey {
    /// The key.
    fn as_key(&self) -> Key;

    /// Whether it is known that no worker was awake when the task was submitted: whoever waits for
    /// it then sleeps at once.
    #[doc(hidden)]
    fn all_slept(&self) -> bool {
        false
    }
}

impl AsKey for Key {
    fn as_key(&self) -> Key {
        *self
    }
}

impl AsKey for Ticket<'_> {
    fn as_key(&self) -> Key {
        self.key
    }

    fn all_slept(&self) -> bool {
        self.all_slept
    }
}

impl<T: AsKey> AsKey for &T {
    fn as_key(&self) -> Key {
        (**self).as_key()
    }

    fn all_slept(&self) -> bool {
        (**self).all_slept()
    }
}
