//! Who spins, who sleeps, who is woken.
//!
//! Both sides publish first and look afterwards, with a SeqCst fence between the two: the host
//! publishes an entry and looks for sleepers, a worker publishes that it sleeps and looks for
//! entries. One of them sees the other.
//!
//! Each worker has words of its own; there is no shared count that a death could leave wrong.

use crate::shm::{AWAKE, Order, PARKED, WorkerWords};
use crate::sync::{AtomicU32, Ordering, fence, fence_after_rmw};

const SEARCHING: u32 = 1;

/// What a worker that is about to sleep has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Nothing to do: sleep until the word has changed.
    Now,
    /// Something came up in the last moment.
    No,
}

/// Makes the worker at `place` one that stays awake for the next task, unless `limit` others do.
///
/// Two that start at the same time may both become it; that costs a little CPU for a short time.
pub(crate) fn announce_search(workers: &[WorkerWords], place: usize, limit: u32) -> bool {
    // Relaxed: a hint that errs towards one spinner too few or too many.
    let others = workers.iter().enumerate().filter(|(other, words)| {
        *other != place && words.searching.load(Ordering::Relaxed) == SEARCHING
    });
    if others.take(limit as usize).count() >= limit as usize {
        return false;
    }
    if let Some(words) = workers.get(place) {
        // Relaxed: from here until `end_search` the ring is looked at again and again.
        words.searching.store(SEARCHING, Ordering::Relaxed);
    }
    true
}

/// The worker no longer spins. Whoever published an entry before this has seen a spinner and may
/// have woken nobody: the caller must look at the ring once more, behind a SeqCst fence, before it
/// parks ([`prepare_to_park`] does) or runs what it has claimed.
///
/// The fence pairs with the one in [`wake_one`]: either that submitter sees that nobody searches
/// any more, or the look at the ring sees its entry.
pub(crate) fn end_search(words: &WorkerWords) {
    // Relaxed: ordered by the caller's fence.
    words.searching.store(0, Ordering::Relaxed);
}

/// Announces that the worker sleeps, as one that may be woken for a task ([`PARKED`]) or not
/// (`STANDBY`), then asks `awake` for a last time whether it should not.
pub(crate) fn prepare_to_park(
    words: &WorkerWords,
    asleep: u32,
    awake: impl FnOnce() -> bool,
) -> Sleep {
    words.parked.store(asleep, Ordering::Relaxed);
    // SeqCst: pairs with the fences in `wake_one` and `give_order`. Either that waker sees the word,
    // or `awake` sees what it has published.
    fence(Ordering::SeqCst);
    if awake() {
        rise(words);
        Sleep::No
    } else {
        Sleep::Now
    }
}

/// Takes the announcement back, whether somebody has woken the worker meanwhile or not.
///
/// If somebody has, it was for an entry that this worker may not be the one to claim: after its
/// next claim it must [`pass_on`] what is left.
pub(crate) fn rise(words: &WorkerWords) {
    // Acquire: pairs with the Release in `wake_a_sleeper`; the waker's entry is visible to the
    // look at the ring that follows the next claim.
    words.parked.swap(AWAKE, Ordering::Acquire);
}

/// Tells a worker what the host wants of it, and has it look, through `wake`, if it sleeps.
pub(crate) fn give_order(words: &WorkerWords, order: Order, wake: impl FnOnce(&AtomicU32)) {
    // Release: pairs with the Acquire load in the worker's `order`.
    words.order.store(order as u32, Ordering::Release);
    // SeqCst: pairs with the fence in `prepare_to_park`.
    fence(Ordering::SeqCst);
    rouse(words, wake);
}

/// Wakes one worker whatever there is to do. What it is to see was published before, with a fence.
pub(crate) fn rouse(words: &WorkerWords, wake: impl FnOnce(&AtomicU32)) {
    // Relaxed: ordered by the caller's fence.
    words.parked.store(AWAKE, Ordering::Relaxed);
    wake(&words.parked);
}

/// After an entry was pushed: wakes one sleeping worker through `wake`, if that is needed. It is
/// not when nobody sleeps, or when somebody spins: that one looks at the ring before it sleeps.
/// Says whether it has woken one and all slept.
///
/// `wake` gets the futex word, set to [`AWAKE`] already: two submitters do not wake the same one.
#[inline]
pub(crate) fn wake_one(workers: &[WorkerWords], wake: impl FnOnce(&AtomicU32)) -> bool {
    // SeqCst, behind the swap of the entry: pairs with the fences in `prepare_to_park`, and behind
    // `end_search`.
    fence_after_rmw();
    // Relaxed, here and below: ordered by the fence. The parked words come first because they
    // change rarely and so are in the submitter's cache; the others are read only when one sleeps.
    pass_on(workers, wake)
}

/// What [`wake_one`] does, without its fence: for a worker that has claimed a task and sees more.
///
/// It needs no fence because it has published nothing (one that has searched has had its own, see
/// [`end_search`]). The submitter of the entry has had one, and either woke somebody for it or saw
/// nobody asleep; this call is for the case that the one it woke is the caller, and there the
/// sleepers that the submitter saw are visible ([`rise`]).
#[inline]
pub(crate) fn pass_on(workers: &[WorkerWords], wake: impl FnOnce(&AtomicU32)) -> bool {
    workers.iter().any(|words| words.parked.load(Ordering::Relaxed) == PARKED)
        && wake_a_sleeper(workers, wake)
}

#[cold]
fn wake_a_sleeper(workers: &[WorkerWords], wake: impl FnOnce(&AtomicU32)) -> bool {
    if workers.iter().any(|words| words.searching.load(Ordering::Relaxed) == SEARCHING) {
        return false;
    }
    let is_parked = |words: &WorkerWords| words.parked.load(Ordering::Relaxed) == PARKED;
    let all_slept = workers.iter().all(|words| words.parked.load(Ordering::Relaxed) != AWAKE);
    for words in workers.iter().filter(|words| is_parked(words)) {
        let parked = &words.parked;
        // Release: pairs with the Acquire in `rise`.
        if parked.compare_exchange(PARKED, AWAKE, Ordering::Release, Ordering::Relaxed).is_ok() {
            wake(parked);
            return all_slept;
        }
    }
    false
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::cell::RefCell;

    use super::super::testing::zeroed;
    use super::*;
    use crate::shm::STANDBY;

    fn workers(count: usize) -> Box<[WorkerWords]> {
        zeroed(count)
    }

    fn parks(words: &WorkerWords) {
        assert_eq!(prepare_to_park(words, PARKED, || false), Sleep::Now);
    }

    type Waker = fn(&[WorkerWords], &dyn Fn(&AtomicU32)) -> bool;

    /// The places that `wake` wakes, and whether all slept.
    fn woken(workers: &[WorkerWords], wake: Waker) -> (Vec<usize>, bool) {
        let woken = RefCell::new(Vec::new());
        let all_slept = wake(workers, &|word| {
            assert_eq!(word.load(Ordering::Relaxed), AWAKE, "set before the call");
            let place = workers.iter().position(|words| std::ptr::eq(&words.parked, word));
            woken.borrow_mut().push(place.unwrap());
        });
        (woken.into_inner(), all_slept)
    }

    const WAKERS: [Waker; 2] =
        [|workers, wake| wake_one(workers, wake), |workers, wake| pass_on(workers, wake)];

    #[test]
    fn no_more_workers_search_than_the_limit() {
        for limit in [0, 1, 2, 3, u32::MAX] {
            let workers = workers(4);
            let search = |place| announce_search(&workers, place, limit);
            let expected: Vec<_> = (0..4).map(|place| place < limit as usize).collect();
            assert_eq!((0..4).map(search).collect::<Vec<_>>(), expected, "{limit}");
            let searching =
                workers.iter().filter(|words| words.searching.load(Ordering::Relaxed) == 1);
            assert_eq!(searching.count(), (limit as usize).min(4), "{limit}");
            if limit == 0 {
                continue;
            }
            // One that searches already goes on, and gives its place away when it ends.
            assert!(search(0), "{limit}");
            end_search(&workers[0]);
            assert!(search(3), "{limit}");
            assert_eq!(search(0), limit >= 4, "{limit}");
        }
    }

    #[test]
    fn one_sleeper_is_woken_and_only_when_all_slept_is_it_said() {
        for wake in WAKERS {
            let workers = workers(3);
            assert_eq!(woken(&workers, wake), (vec![], false), "nobody sleeps");
            parks(&workers[1]);
            assert_eq!(woken(&workers, wake), (vec![1], false), "two were awake");
            assert_eq!(woken(&workers, wake), (vec![], false), "it was woken already");
            workers.iter().for_each(parks);
            assert_eq!(woken(&workers, wake), (vec![0], true));
            assert_eq!(woken(&workers, wake), (vec![1], false));
            assert_eq!(woken(&workers, wake), (vec![2], false));
            assert_eq!(woken(&workers, wake), (vec![], false));
        }
    }

    #[test]
    fn nobody_is_woken_while_somebody_searches() {
        for wake in WAKERS {
            let workers = workers(3);
            parks(&workers[0]);
            parks(&workers[2]);
            assert!(announce_search(&workers, 1, 1));
            assert_eq!(woken(&workers, wake), (vec![], false));
            end_search(&workers[1]);
            assert_eq!(woken(&workers, wake), (vec![0], false));
        }
    }

    #[test]
    fn a_worker_that_has_something_to_do_does_not_sleep() {
        let workers = workers(1);
        let words = &workers[0];
        let sleep = prepare_to_park(words, PARKED, || {
            assert_eq!(words.parked.load(Ordering::Relaxed), PARKED, "announced before the look");
            true
        });
        assert_eq!(sleep, Sleep::No);
        assert_eq!(words.parked.load(Ordering::Relaxed), AWAKE);
        parks(words);
        rise(words);
        assert_eq!(words.parked.load(Ordering::Relaxed), AWAKE);
    }

    #[test]
    fn one_that_stands_by_is_woken_for_no_task_and_counts_as_asleep() {
        for wake in WAKERS {
            let workers = workers(3);
            let stands_by = |words| prepare_to_park(words, STANDBY, || false);
            workers.iter().for_each(|words| assert_eq!(stands_by(words), Sleep::Now));
            assert_eq!(woken(&workers, wake), (vec![], false), "nobody serves");
            parks(&workers[2]);
            assert_eq!(woken(&workers, wake), (vec![2], true), "all slept");
            assert_eq!(workers[0].parked.load(Ordering::Relaxed), STANDBY);
            rouse(&workers[0], |word| assert_eq!(word.load(Ordering::Relaxed), AWAKE));
        }
    }

    #[test]
    fn an_order_stands_before_its_worker_is_woken() {
        for (order, asleep) in
            [(Order::Drain, PARKED), (Order::Stop, PARKED), (Order::Serve, STANDBY)]
        {
            let workers = workers(1);
            let words = &workers[0];
            assert_eq!(prepare_to_park(words, asleep, || false), Sleep::Now);
            let mut woken = false;
            give_order(words, order, |word| {
                woken = true;
                assert_eq!(word.load(Ordering::Relaxed), AWAKE);
                assert_eq!(Order::from_word(words.order.load(Ordering::Relaxed)), order);
            });
            assert!(woken);
        }
    }
}
