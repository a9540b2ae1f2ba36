//! Brings what several threads finish in any order back into the order it was begun in.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// A window that moves along a sequence. Items are put at any place in it and taken at its front.
///
/// Who puts an item ahead of the window waits, so no more than `capacity` items are kept. That
/// cannot block for ever as long as places are handed out in order: whoever has the place at the
/// front never waits.
pub(crate) struct Window<T> {
    state: Mutex<State<T>>,
    capacity: u64,
    /// The window has moved, or was closed.
    moved: Condvar,
    /// The front is there, or the window was closed.
    ready: Condvar,
}

struct State<T> {
    /// The place at the front.
    next: u64,
    /// From the front on; `None` where nothing was put yet.
    items: VecDeque<Option<T>>,
    closed: bool,
}

impl<T> Window<T> {
    /// A window at place 0.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State { next: 0, items: VecDeque::new(), closed: false }),
            capacity: capacity as u64,
            moved: Condvar::new(),
            ready: Condvar::new(),
        }
    }

    /// Puts an item at its place, waiting until the window has reached it. `false` when the window
    /// was closed: the item is gone.
    pub(crate) fn put(&self, place: u64, item: T) -> bool {
        let mut state = self.state.lock();
        self.moved.wait_while(&mut state, |state| {
            !state.closed && place >= state.next.saturating_add(self.capacity)
        });
        if state.closed {
            return false;
        }
        let Some(index) =
            place.checked_sub(state.next).and_then(|index| usize::try_from(index).ok())
        else {
            return true;
        };
        if state.items.len() <= index {
            state.items.resize_with(index + 1, || None);
        }
        if let Some(empty) = state.items.get_mut(index) {
            *empty = Some(item);
        }
        if index == 0 {
            self.ready.notify_one();
        }
        true
    }

    /// The item at the front, if it is there.
    pub(crate) fn try_take(&self) -> Option<T> {
        self.pop(&mut self.state.lock())
    }

    /// The item at the front, once it is there. `None` when the window was closed and it is not.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        self.ready.wait_while(&mut state, |state| {
            !state.closed && !matches!(state.items.front(), Some(Some(_)))
        });
        self.pop(&mut state)
    }

    fn pop(&self, state: &mut State<T>) -> Option<T> {
        let item = state.items.front_mut()?.take()?;
        state.items.pop_front();
        state.next += 1;
        self.moved.notify_all();
        Some(item)
    }

    /// Takes nothing more; what is there can still be taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.moved.notify_all();
        self.ready.notify_all();
    }

    /// Whether it takes nothing more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn items_come_out_in_order() {
        let window = Window::new(4);
        for place in [2, 0, 1] {
            assert!(window.put(place, place));
        }
        assert_eq!([window.take(), window.take(), window.try_take()], [Some(0), Some(1), Some(2)]);
        assert_eq!(window.try_take(), None);
    }

    #[test]
    fn after_the_close_what_is_there_comes_out_up_to_the_first_gap() {
        let window = Window::new(8);
        for place in [0, 1, 3] {
            window.put(place, place);
        }
        window.close();
        assert!(!window.put(2, 2));
        assert_eq!([window.take(), window.take(), window.take()], [Some(0), Some(1), None]);
    }

    #[test]
    fn threads_keep_the_order_and_the_bound() {
        const ITEMS: u64 = 2000;
        const CAPACITY: usize = 8;
        let window = Window::new(CAPACITY);
        let places = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    loop {
                        let place = places.fetch_add(1, Ordering::Relaxed);
                        if place >= ITEMS || !window.put(place, place) {
                            break;
                        }
                    }
                });
            }
            for expected in 0..ITEMS {
                assert_eq!(window.take(), Some(expected));
                assert!(window.state.lock().items.len() <= CAPACITY);
            }
        });
    }

    #[test]
    fn a_close_wakes_who_waits_on_either_side() {
        let window = Window::new(1);
        thread::scope(|scope| {
            let ahead = scope.spawn(|| window.put(5, 5));
            let taker = scope.spawn(|| window.take());
            window.close();
            assert!(!ahead.join().unwrap());
            assert_eq!(taker.join().unwrap(), None);
        });
    }
}
