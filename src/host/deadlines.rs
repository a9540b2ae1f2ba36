//! By when tasks have to be done: kept in the host's own memory, looked at by the supervisor.

use std::time::{Duration, Instant};

use crate::key::Key;
use crate::sync::{AtomicU64, Ordering};

const NONE: u64 = u64::MAX;

/// The deadlines of all slots' tasks. Instants are nanoseconds since it was made.
///
/// A task that has ended leaves its entry behind; whoever comes to it sees that the key is over. So a
/// task without a deadline costs nothing here.
pub(crate) struct Deadlines {
    origin: Instant,
    /// No deadline comes before this one.
    next: AtomicU64,
    slots: Box<[Entry]>,
}

struct Entry {
    /// The task; 0 while the entry changes, or if there never was one.
    key: AtomicU64,
    at: AtomicU64,
}

impl Deadlines {
    pub(crate) fn new(slots: u32) -> Self {
        let entry = |_| Entry { key: AtomicU64::new(0), at: AtomicU64::new(NONE) };
        Self {
            origin: Instant::now(),
            next: AtomicU64::new(NONE),
            slots: (0..slots).map(entry).collect(),
        }
    }

    /// Notes the deadline of a task that was accepted. Whether it comes before all others, so that the
    /// supervisor has to be told.
    pub(crate) fn set(&self, key: Key, at: Instant) -> bool {
        let Some(entry) = self.slots.get(usize::from(key.index())) else { return false };
        let since = at.saturating_duration_since(self.origin).as_nanos();
        let at = u64::try_from(since).unwrap_or(NONE - 1).min(NONE - 1);
        // Relaxed: the Release below publishes both.
        entry.key.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire loads in `due`: who sees this sees no older key.
        entry.at.store(at, Ordering::Release);
        // Release: pairs with the Acquire loads in `due`.
        entry.key.store(key.get(), Ordering::Release);
        // AcqRel: pairs with the swap in `due`. Either that one's walk sees the entry, or this comes
        // after it and stays.
        self.next.fetch_min(at, Ordering::AcqRel) > at
    }

    /// When the next deadline may pass.
    pub(crate) fn next(&self) -> Option<Instant> {
        // Relaxed: who makes it earlier rings the bell.
        let next = self.next.load(Ordering::Relaxed);
        (next != NONE).then(|| self.origin + Duration::from_nanos(next))
    }

    /// The tasks whose deadline has passed, of those that `live` says are not over.
    pub(crate) fn due(&self, now: Instant, live: impl Fn(Key) -> bool) -> Vec<Key> {
        let now = u64::try_from(now.saturating_duration_since(self.origin).as_nanos());
        let now = now.unwrap_or(NONE);
        // Relaxed: as in `next`.
        if self.next.load(Ordering::Relaxed) > now {
            return Vec::new();
        }
        // AcqRel: see `set`.
        self.next.swap(NONE, Ordering::AcqRel);
        let (mut due, mut next) = (Vec::new(), NONE);
        for entry in &self.slots {
            // Acquire, here and below: pair with the Release stores in `set`.
            let number = entry.key.load(Ordering::Acquire);
            let at = entry.at.load(Ordering::Acquire);
            // Changed meanwhile: whoever has changed it has yet to take the minimum.
            let Some(key) = Key::from_number(number) else { continue };
            if entry.key.load(Ordering::Acquire) != number || !live(key) {
                continue;
            }
            if at <= now {
                due.push(key);
            } else {
                next = next.min(at);
            }
        }
        self.next.fetch_min(next, Ordering::AcqRel);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Generation;

    fn key(index: u16, generation: u64) -> Key {
        Key::new(index, Generation::new(generation).unwrap())
    }

    #[test]
    fn tasks_are_due_once_their_deadline_has_passed_and_the_next_one_is_told() {
        let deadlines = Deadlines::new(3);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(deadlines.next(), None);
        assert!(deadlines.set(key(0, 1), after(20)), "the first");
        assert!(!deadlines.set(key(1, 1), after(30)), "a later one");
        assert!(deadlines.set(key(2, 1), after(10)), "an earlier one");
        assert_eq!(deadlines.next(), Some(after(10)));
        assert_eq!(deadlines.due(after(9), |_| true), []);
        assert_eq!(deadlines.due(after(10), |key| key.index() != 1), [key(2, 1)]);
        // What is over is not waited for.
        assert_eq!(deadlines.next(), Some(after(20)));
        assert_eq!(deadlines.due(after(40), |key| key.index() != 2), [key(0, 1), key(1, 1)]);
        assert_eq!(deadlines.due(after(40), |_| false), []);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_later_task_of_a_slot_has_its_own_deadline() {
        let deadlines = Deadlines::new(1);
        let start = Instant::now();
        deadlines.set(key(0, 1), start);
        deadlines.set(key(0, 2), start + Duration::from_secs(10));
        assert_eq!(deadlines.due(start, |_| true), []);
        assert_eq!(deadlines.next(), Some(start + Duration::from_secs(10)));
        // Instants before there was anything, and after all time.
        assert!(deadlines.set(key(0, 3), start - Duration::from_millis(1)));
        assert_eq!(deadlines.due(Instant::now(), |_| true), [key(0, 3)]);
    }
}
