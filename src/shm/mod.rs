//! The segment: what is where in it, and how to reach it. Knows no processes.

mod layout;
mod region;
mod segment;
mod state;

use std::time::Duration;

#[doc(hidden)]
pub use layout::layout_tables;
pub(crate) use layout::{
    ENTRY_BYTES, LAYOUT_VERSION, MAX_SLOT_BYTES, MAX_SLOTS, MAX_WORKERS, MIN_SLOT_BYTES, MIN_SLOTS,
    MIN_WORKERS, Sizes, SlotWords, WorkerWords,
};
pub(crate) use region::{Payload, Region, RingWords, Slot, copy_words};
pub(crate) use segment::{Segment, SegmentError};
pub(crate) use state::{Entry, Owner, Phase, Position, State};

/// [`WorkerWords::parked`]: awake, or woken.
pub(crate) const AWAKE: u32 = 0;
/// [`WorkerWords::parked`]: asleep, or about to be.
pub(crate) const PARKED: u32 = 1;

/// How somebody who has nothing to do waits until there is something: spins, yields, parks. The
/// host decides, for its threads and for the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How long it spins; zero where nobody spins, the maximum for "until there is something".
    pub(crate) spin: Duration,
    /// How often it yields where spinning would take a CPU from somebody.
    pub(crate) yields: u32,
    /// How many workers may spin at the same time.
    pub(crate) searchers: u32,
    /// Whether it parks in the end.
    pub(crate) parks: bool,
}

/// [`WorkerWords::order`]: what the host wants of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Take tasks.
    Serve = 0,
    /// End in order once the ring is empty.
    Drain = 1,
    /// End in order after the task at hand.
    Stop = 2,
}

impl Order {
    /// Anything else than an order means "serve": only the host writes the word, and what a
    /// fellow worker scribbles there must not end this one.
    pub(crate) fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Drain,
            2 => Self::Stop,
            _ => Self::Serve,
        }
    }
}
