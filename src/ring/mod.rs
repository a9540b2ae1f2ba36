//! The ring of waiting tasks: the host pushes, workers claim, and a death at any instruction
//! leaves it whole. Knows no Python and no processes.
//!
//! The functions here take the words they work on, not a mapping, so that a model checker can
//! give them words of its own.

mod completion;
mod consumer;
mod lock;
#[cfg(test)]
#[cfg(loom)]
mod models;
mod park;
mod producer;
mod recover;
mod spin;
#[cfg(test)]
#[cfg(not(loom))]
mod testing;

pub(crate) use completion::{ask, collect, mark, take_waiters};
pub(crate) use consumer::{Claimed, claim, finish, pending, publish};
pub(crate) use lock::{LockLost, WorkersLock};
pub(crate) use park::{
    Sleep, announce_search, end_search, give_order, pass_on, prepare_to_park, rise, rouse, wake_one,
};
pub(crate) use producer::Producer;
pub(crate) use recover::{cancel, clear_worker, condemn, heal, requeue, settle, unpublished_of};
pub(crate) use spin::{Awake, NAP, glance, spin_until, yield_until};
