//! The segment: what is where in it, and how to reach it. Knows no processes.

mod large;
mod layout;
mod region;
mod segment;
mod state;

pub(crate) use large::{Extent, LargeArea, MappedExtent, is_bad_length};
#[doc(hidden)]
pub use layout::layout_tables;
#[cfg(loom)]
pub(crate) use layout::{CompletionWords, EntryWords};
pub(crate) use layout::{
    ENTRY_BYTES, EXTENT_UNIT, LAYOUT_VERSION, MAX_PAYLOAD_BYTES, MAX_SLOT_BYTES, MAX_SLOTS,
    MAX_WORKERS, MIN_SLOT_BYTES, MIN_SLOTS, MIN_WORKERS, Sizes, SlotWords, WorkerWords,
    extent_unit,
};
pub(crate) use region::{Completed, Payload, Region, RingWords, Slot, bytes_to_map, copy_words};
pub(crate) use segment::{Segment, SegmentError};
pub(crate) use state::{Entry, Owner, Phase, Position, State};

/// [`WorkerWords::parked`]: awake, or woken.
pub(crate) const AWAKE: u32 = 0;
/// [`WorkerWords::parked`]: asleep, or about to be.
pub(crate) const PARKED: u32 = 1;
/// [`WorkerWords::parked`]: asleep as a worker that takes no tasks yet. Nobody wakes it for one.
pub(crate) const STANDBY: u32 = 2;

/// [`SlotWords::waiter`]: a thread of the host sleeps on this word until the task is done, or is about
/// to.
pub(crate) const SLEEPS: u32 = 1;
/// [`SlotWords::waiter`]: a future, or an event loop, is to be told that the task is done.
pub(crate) const AWAITS: u32 = 2;

/// [`WorkerWords::away`]: the worker has found the segment broken, and ends.
pub(crate) const BROKEN: u32 = 2;

/// [`WorkerWords::order`]: what the host wants of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Take tasks.
    Serve = 0,
    /// End in order once the ring is empty.
    Drain = 1,
    /// End in order after the task at hand.
    Stop = 2,
    /// Be ready, and take no tasks.
    Standby = 3,
}

impl Order {
    /// All there are.
    pub(crate) const ALL: [Self; 4] = [Self::Serve, Self::Drain, Self::Stop, Self::Standby];

    /// Anything else than an order means "serve": only the host writes the word, and what a
    /// fellow worker scribbles there must not end this one.
    pub(crate) fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Drain,
            2 => Self::Stop,
            3 => Self::Standby,
            _ => Self::Serve,
        }
    }
}
