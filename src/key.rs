//! The key of a task: which slot, and which of the slot's tasks.

use std::fmt;
use std::num::NonZeroU64;

/// Bits of a key that hold the slot's index.
const INDEX_BITS: u32 = 16;
/// Bits of a generation: what a positive 64-bit number has left.
const GENERATION_BITS: u32 = 63 - INDEX_BITS;

/// Which of a slot's tasks: counted up at each submit, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(NonZeroU64);

impl Generation {
    /// Width in bits, for words that hold a generation beside other things.
    pub(crate) const BITS: u32 = GENERATION_BITS;
    const MAX: u64 = (1 << GENERATION_BITS) - 1;

    /// The generation with this number, unless it is 0 or too large.
    #[inline]
    pub(crate) const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) if number.get() <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// Somewhere in the lower half of the range, so that keys of different engines differ and a
    /// wrap is far away.
    pub(crate) fn starting_at(random: u64) -> Self {
        let number = random % (Self::MAX / 2);
        Self(NonZeroU64::MIN.saturating_add(number))
    }

    /// The one after this; after the last comes 1.
    #[inline]
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        if self.0.get() == Self::MAX {
            Self(NonZeroU64::MIN)
        } else {
            Self(self.0.saturating_add(1))
        }
    }

    /// Whether it comes after `other`, at most half the range later.
    #[inline]
    pub(crate) const fn is_after(self, other: Self) -> bool {
        let ahead = self.0.get().wrapping_sub(other.0.get()) & Self::MAX;
        ahead != 0 && ahead <= Self::MAX / 2
    }

    /// Its number.
    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.0.get()
    }
}

/// What `submit` gives and `retrieve` takes: a positive 64-bit number.
///
/// The low 16 bits are the slot's index, the rest a generation that makes a late, repeated or
/// foreign key an error instead of somebody else's answer. Generations start at a random place
/// in each engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(NonZeroU64);

impl Key {
    #[inline]
    pub(crate) const fn new(index: u16, generation: Generation) -> Self {
        // Nothing is cut off: the generation has `63 - INDEX_BITS` bits. Not zero, because the
        // generation is not.
        let number = generation.0.get() << INDEX_BITS | index as u64;
        match NonZeroU64::new(number) {
            Some(number) => Self(number),
            None => Self(generation.0),
        }
    }

    #[inline]
    pub(crate) const fn index(self) -> u16 {
        self.0.get() as u16
    }

    #[inline]
    pub(crate) const fn generation(self) -> Option<Generation> {
        Generation::new(self.0.get() >> INDEX_BITS)
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The key with this number, if it can be one: positive as a signed number, with a
    /// generation.
    #[inline]
    pub const fn from_number(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(key) if number >> 63 == 0 && number >> INDEX_BITS != 0 => Some(Self(key)),
            _ => None,
        }
    }
}

impl From<Key> for u64 {
    fn from(key: Key) -> Self {
        key.get()
    }
}

impl From<Key> for i64 {
    fn from(key: Key) -> Self {
        // Lossless: the sign bit is clear.
        key.get().cast_signed()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(slot {}, generation {})", self.index(), self.0.get() >> INDEX_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_its_index_and_generation_to_the_last_bit() {
        for number in [1, 2, 0xFFFF, 1 << 46, Generation::MAX] {
            let generation = Generation::new(number).unwrap();
            for index in [0, 1, 0x8000, 0xFFFF] {
                let key = Key::new(index, generation);
                assert_eq!((key.index(), key.generation()), (index, Some(generation)));
                assert!(i64::from(key) > 0);
                assert_eq!(Key::from_number(key.get()), Some(key));
            }
        }
    }

    #[test]
    fn a_generation_wraps_to_one_and_never_to_zero() {
        let last = Generation::new(Generation::MAX).unwrap();
        assert_eq!(last.next().get(), 1);
        assert_eq!(Generation::new(0), None);
        assert_eq!(Generation::new(Generation::MAX + 1), None);
        assert!(Generation::starting_at(0).get() >= 1);
        assert!(Generation::starting_at(u64::MAX).get() <= Generation::MAX / 2);
    }

    #[test]
    fn a_generation_is_after_those_before_it_also_over_the_wrap() {
        let of = |number| Generation::new(number).unwrap();
        for (later, earlier) in [(2, 1), (9, 3), (1, Generation::MAX), (5, Generation::MAX - 7)] {
            assert!(of(later).is_after(of(earlier)), "{later} {earlier}");
            assert!(!of(earlier).is_after(of(later)), "{earlier} {later}");
        }
        assert!(!of(7).is_after(of(7)));
    }

    #[test]
    fn numbers_that_no_engine_gives_are_no_keys() {
        for number in [0, 1, 0xFFFF, 1 << 63, u64::MAX] {
            assert_eq!(Key::from_number(number), None);
        }
    }
}
