//! Who awaits which task without a thread of its own, and how an event loop tells them.

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;

use super::core::Core;
use crate::key::Key;
use crate::ring;
use crate::shm::AWAITS;
use crate::sync::{AtomicU32, Ordering};
use crate::sys::process;
use crate::sys::socket::{self, Bell};

/// What is to be done when a task is over.
pub(crate) enum Then {
    /// The future that awaits it is woken.
    Wake(Waker),
    /// Its key is given to whoever watches.
    Report,
}

struct Interest {
    key: Key,
    then: Then,
}

/// The host's record of what is awaited. Nothing here is believed of a worker but "look again".
pub(crate) struct Notices {
    /// Rung when a task that is awaited is over. Workers have it too.
    bell: Bell,
    /// One for each slot, from the first time on that something is awaited.
    interests: OnceLock<Box<[Mutex<Option<Interest>>]>>,
    slots: u32,
    desk: Mutex<Desk>,
    /// How many [`Completions`](super::Completions) there are: if none, the thread wakes futures.
    watchers: AtomicU32,
    /// Wakes the thread.
    thread_bell: Bell,
}

#[derive(Default)]
struct Desk {
    /// Slots of which the host itself says that somebody is to look.
    marked: Vec<u16>,
    /// What the thread has found for whoever watches next.
    over: Vec<Key>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

impl Notices {
    pub(crate) fn new(slots: u32) -> std::io::Result<Self> {
        Ok(Self {
            bell: Bell::new()?,
            interests: OnceLock::new(),
            slots,
            desk: Mutex::default(),
            watchers: AtomicU32::new(0),
            thread_bell: Bell::new()?,
        })
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Has something be done when the task of `key` is over, instead of what was to be done before for
    /// its slot.
    fn put(&self, key: Key, then: Then) {
        let interests =
            self.interests.get_or_init(|| (0..self.slots).map(|_| Mutex::default()).collect());
        if let Some(interest) = interests.get(usize::from(key.index())) {
            let new = Some(Interest { key, then });
            let old = std::mem::replace(&mut *interest.lock(), new);
            // Not under the lock: a waker's drop is foreign code.
            drop(old);
        }
    }

    fn take(&self, index: u16, wanted: impl FnOnce(&Interest) -> bool) -> Option<Interest> {
        let interest = self.interests.get()?.get(usize::from(index))?;
        let mut interest = interest.lock();
        if interest.as_ref().is_some_and(wanted) { interest.take() } else { None }
    }

    /// Nobody awaits the task of `key` any more. Whether somebody did.
    pub(crate) fn forget(&self, key: Key) -> bool {
        self.take(key.index(), |interest| interest.key == key).is_some()
    }

    /// Has an event loop look at this slot, if anybody awaits its task. For the host's threads.
    pub(crate) fn mark(&self, index: u16) {
        let interest = self.interests.get().and_then(|all| all.get(usize::from(index)));
        if interest.is_some_and(|interest| interest.lock().is_some()) {
            self.desk.lock().marked.push(index);
            self.bell.ring();
        }
    }

    /// Marks all slots whose task is over and still awaited: what a worker has failed to say.
    pub(crate) fn audit(&self, is_over: impl Fn(Key) -> bool) {
        let Some(interests) = self.interests.get() else { return };
        for (interest, index) in interests.iter().zip(0..=u16::MAX) {
            let awaited = interest.lock().as_ref().map(|interest| interest.key);
            if awaited.is_some_and(&is_over) {
                self.mark(index);
            }
        }
    }

    /// Has the thread look what has changed.
    pub(crate) fn stir(&self) {
        self.thread_bell.ring();
    }

    /// One more watches.
    pub(crate) fn watch(&self) {
        // SeqCst, here and in the thread: it dispatches no more once it has seen this.
        self.watchers.fetch_add(1, Ordering::SeqCst);
        self.stir();
        // What came before it is to be looked at now.
        self.bell.ring();
    }

    /// One less watches. Whether the thread has to wake futures from here on.
    pub(crate) fn unwatch(&self) -> bool {
        let is_last = self.watchers.fetch_sub(1, Ordering::SeqCst) == 1;
        self.stir();
        is_last && self.interests.get().is_some()
    }

    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    /// No task will be over any more. Waits for the thread, if there is one and it is another.
    pub(crate) fn close(&self) {
        let thread = {
            let mut desk = self.desk.lock();
            desk.closed = true;
            desk.thread.take()
        };
        self.stir();
        self.bell.ring();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Core {
    /// Has something be done when the task of `key` is over. `false`: it is over, and it may not be done.
    pub(crate) fn await_end(&self, key: Key, then: Then) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        self.notices.put(key, then);
        ring::ask(&slot.words.waiter, AWAITS);
        !self.is_over(key)
    }

    /// Wakes the futures whose tasks are over, and gives the keys that are to be reported. `false`: the
    /// engine is gone.
    pub(crate) fn dispatch(&self, over: &mut Vec<Key>) -> bool {
        if self.in_forked_child() {
            // The bell is the parent's, too: what is read here is missing there.
            return false;
        }
        let notices = &self.notices;
        // Before the looks, so that what comes after them rings again.
        notices.bell.answer();
        let (marked, open) = {
            let mut desk = notices.desk.lock();
            over.append(&mut desk.over);
            (std::mem::take(&mut desk.marked), !desk.closed)
        };
        let mut tell = |index| {
            let Some(Interest { key, then }) = notices.take(index, |_| true) else { return };
            match then {
                Then::Wake(waker) => {
                    // A waker that panics is not to take those of others along.
                    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
                }
                // A mark is a worker's word, and no more than a reason to look.
                Then::Report => {
                    if self.is_over(key) || !self.await_end(key, Then::Report) {
                        notices.forget(key);
                        over.push(key);
                    }
                }
            }
        };
        ring::collect(self.segment.region().completed(), &mut tell);
        marked.into_iter().for_each(tell);
        if !open {
            // It stays readable: all who watch are to see it.
            notices.bell.ring();
        }
        open
    }

    /// Sees to it that somebody wakes futures: whoever watches, or the library's own thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn ensure_dispatch(self: &Arc<Self>) -> std::io::Result<()> {
        // A test double has nobody else who keeps deadlines.
        if self.notices.is_watched() && self.mailbox.attended() {
            return Ok(());
        }
        let mut desk = self.notices.desk.lock();
        if desk.thread.is_none() && !desk.closed {
            let core = self.clone();
            let thread = std::thread::Builder::new().name("nearcall-wake".to_owned());
            desk.thread = Some(thread.spawn(move || {
                // The host's handlers run on the host's threads.
                process::block_signals();
                core.wake_until_closed();
            })?);
        }
        Ok(())
    }

    /// The thread that wakes futures while nobody watches.
    fn wake_until_closed(&self) {
        let notices = &self.notices;
        let mut over = Vec::new();
        loop {
            let both = [notices.thread_bell.as_fd(), notices.bell.as_fd()];
            let (own, _) = both.split_at(1);
            let watched = if notices.is_watched() { own } else { &both[..] };
            let due = if self.mailbox.attended() { None } else { self.deadlines.next() };
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            let ready = socket::readable(watched, timeout).unwrap_or_default();
            if ready.first() == Some(&true) {
                notices.thread_bell.answer();
            }
            if due.is_some() {
                self.end_overdue(Instant::now());
            }
            if !notices.is_watched() {
                self.dispatch(&mut over);
            }
            let mut desk = notices.desk.lock();
            desk.over.append(&mut over);
            if desk.closed {
                return;
            }
        }
    }
}
