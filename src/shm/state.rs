//! The words of a slot and of a ring entry: their bits, their names, their legal steps.
//!
//! ```text
//! claim   (older) ─worker, CAS─▶ RUNNING(owner) ─worker, CAS─▶ DONE(owner)      the owner publishes
//!         (older) ─host, CAS─▶ CANCELLED ─worker, CAS─▶ DONE(owner)             its entry is skipped
//!         RUNNING ─supervisor, CAS─▶ CONDEMNED ─after the death─▶ DONE(host)
//!         RUNNING ─supervisor, after the death─▶ DONE(host)
//!         RUNNING, DONE and not published ─supervisor, after the death─▶ 0      it waits again
//!         (older), CANCELLED ─supervisor, when no worker lives─▶ DONE(host)
//! done    (older) ─owner─▶ DONE(owner)          with its outcome
//!         (older) ─supervisor─▶ DONE(host)      with a verdict in the host's memory
//! ```
//!
//! *Older* is any word of one of the slot's earlier tasks, or the zero of a fresh segment: a task
//! that waits is written nowhere in its slot's words. Its ring entry says that it waits, and the
//! host's own record (`host::book`), which also knows whether the slot is free.
//!
//! The two words are apart because of their lines: `claim` stays with the worker that claims, and
//! the host watches `done` without taking anything away from it. Between honest parties the words
//! are the truth; the host believes its own record.

use crate::key::{Generation, Key};

/// How far a task is that does not wait any more. Three bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The owner runs it.
    Running = 1,
    /// In `claim`: the owner has finished, and is the one that publishes the outcome. In `done`:
    /// the outcome is published; if the owner is the host, there is none in the slot.
    Done = 2,
    /// Given up before a worker took it; done once its entry has been passed.
    Cancelled = 3,
    /// The owner is about to be killed; it may still write.
    Condemned = 4,
}

/// Who has a slot: a worker's place in the worker table, or the host. 14 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u16);

impl Owner {
    const BITS: u32 = 14;
    /// The host, or nobody yet.
    pub(crate) const HOST: Self = Self((1 << Self::BITS) - 1);

    /// A worker's place; `None` when the table cannot have it.
    #[inline]
    pub(crate) const fn worker(place: u16) -> Option<Self> {
        if place < Self::HOST.0 { Some(Self(place)) } else { None }
    }

    /// The worker's place, unless it is the host.
    #[inline]
    pub(crate) const fn place(self) -> Option<u16> {
        if self.0 == Self::HOST.0 { None } else { Some(self.0) }
    }
}

const PHASE_BITS: u32 = 3;
const OWNER_SHIFT: u32 = PHASE_BITS;
const GENERATION_SHIFT: u32 = PHASE_BITS + Owner::BITS;

const _: () = assert!(GENERATION_SHIFT + Generation::BITS == 64, "the word is full");

/// One of a slot's words, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) owner: Owner,
    pub(crate) generation: Generation,
}

impl State {
    /// `phase` of a task nobody has taken, or of one that is back with the host.
    #[inline]
    pub(crate) const fn of_host(phase: Phase, generation: Generation) -> Self {
        Self { phase, owner: Owner::HOST, generation }
    }

    /// `phase` of a task that `owner` has taken.
    #[inline]
    pub(crate) const fn of(phase: Phase, owner: Owner, generation: Generation) -> Self {
        Self { phase, owner, generation }
    }

    #[inline]
    pub(crate) const fn pack(self) -> u64 {
        self.generation.get() << GENERATION_SHIFT
            | (self.owner.0 as u64) << OWNER_SHIFT
            | self.phase as u64
    }

    /// `None` for a word that no honest party writes (and for the zero of a fresh segment).
    #[inline]
    pub(crate) const fn unpack(word: u64) -> Option<Self> {
        let phase = match word & ((1 << PHASE_BITS) - 1) {
            1 => Phase::Running,
            2 => Phase::Done,
            3 => Phase::Cancelled,
            4 => Phase::Condemned,
            _ => return None,
        };
        let owner = Owner((word >> OWNER_SHIFT) as u16 & Owner::HOST.0);
        match Generation::new(word >> GENERATION_SHIFT) {
            Some(generation) => Some(Self { phase, owner, generation }),
            None => None,
        }
    }
}

/// A position in the ring, counted on without end: the producer's tail, the consumers' head.
pub(crate) type Position = u64;

/// A ring entry: a key, and one bit that tells this round of the ring from the one before.
///
/// The bit makes the entry its own "is there something?" flag, so that a worker that waits
/// watches one cache line, and no tail has to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Entry {
    const LAP_SHIFT: u32 = 63;

    /// The entry for `key` at `position` of a ring of `entries` (a power of two).
    #[inline]
    pub(crate) const fn new(key: Key, position: Position, entries: u64) -> Self {
        Self(key.get() | lap(position, entries) << Self::LAP_SHIFT)
    }

    #[inline]
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// A word that is not fresh at `position`, as if nothing had been written there in this round.
    pub(crate) const fn stale(position: Position, entries: u64) -> u64 {
        (lap(position, entries) ^ 1) << Self::LAP_SHIFT
    }

    /// The key in `word` if it was written for `position` and not a round earlier. `Some(None)`
    /// is a fresh entry that holds no key: something wrote there that should not.
    #[inline]
    pub(crate) const fn fresh(word: u64, position: Position, entries: u64) -> Option<Option<Key>> {
        if word >> Self::LAP_SHIFT == lap(position, entries) {
            Some(Key::from_number(word & !(1 << Self::LAP_SHIFT)))
        } else {
            None
        }
    }
}

/// 1 in the first round, so that the zeros of a fresh ring are old; 0 in the next; and so on.
#[inline]
const fn lap(position: Position, entries: u64) -> u64 {
    !(position / entries) & 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_packing_with_every_phase_owner_and_generation() {
        let phases = [Phase::Running, Phase::Done, Phase::Cancelled, Phase::Condemned];
        for phase in phases {
            for owner in [Owner::worker(0), Owner::worker(0x3FFE), Some(Owner::HOST)] {
                for generation in [1, 77, (1 << 47) - 1] {
                    let state = State {
                        phase,
                        owner: owner.unwrap(),
                        generation: Generation::new(generation).unwrap(),
                    };
                    assert_eq!(State::unpack(state.pack()), Some(state));
                }
            }
        }
    }

    #[test]
    fn words_that_nobody_writes_are_no_states() {
        assert_eq!(State::unpack(0), None, "a fresh segment");
        for phase in [0, 5, 6, 7] {
            assert_eq!(State::unpack(phase | 1 << GENERATION_SHIFT), None, "phase {phase}");
        }
        assert_eq!(State::unpack(Phase::Done as u64), None, "generation 0");
        assert_eq!(Owner::worker(0x3FFF), None);
    }

    #[test]
    fn an_entry_is_fresh_in_its_own_round_only() {
        let key = Key::new(9, Generation::new(5).unwrap());
        for entries in [2, 8, 1 << 17] {
            for position in [0, 1, entries - 1, entries, 2 * entries + 1, u64::MAX - 1] {
                let word = Entry::new(key, position, entries).word();
                assert_eq!(Entry::fresh(word, position, entries), Some(Some(key)));
                assert_eq!(Entry::fresh(word, position.wrapping_add(entries), entries), None);
                assert_eq!(Entry::fresh(word, position.wrapping_sub(entries), entries), None);
            }
        }
        assert_eq!(Entry::fresh(0, 0, 8), None, "a fresh ring is empty");
    }
}
