//! Who awaits which task without a thread of its own, and how an event loop tells them.

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;

use super::core::Core;
use crate::key::Key;
use crate::ring;
use crate::shm::AWAITS;
use crate::sync::{AtomicU32, Ordering};
use crate::sys::pipe::Chime;
use crate::sys::process;
use crate::sys::socket::{self, Bell};

/// How long an engine that is dropped waits for the thread that wakes futures: it may be in a waker.
const THREAD_PATIENCE: Duration = Duration::from_secs(1);

/// How long the thread stays away when the kernel does not let it sleep.
const NAP: Duration = Duration::from_millis(10);

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

impl Interest {
    fn is_same(&self, key: Key, then: &Then) -> bool {
        let is_kind = matches!(
            (&self.then, then),
            (Then::Wake(_), Then::Wake(_)) | (Then::Report, Then::Report)
        );
        self.key == key && is_kind
    }
}

/// What is awaited of a slot's tasks: of the one at hand, and of those before it of which nobody was told
/// yet that they are over.
#[derive(Default)]
struct Awaited {
    interests: SmallVec<[Interest; 1]>,
    /// It is among the marked ones already.
    marked: bool,
}

/// The host's record of what is awaited. Nothing here is believed of a worker but "look again".
pub(crate) struct Notices {
    /// Rung when a task that is awaited is over. Workers have its other end.
    chime: Chime,
    /// One for each slot, from the first time on that something is awaited.
    awaited: OnceLock<Box<[Mutex<Awaited>]>>,
    slots: u32,
    desk: Mutex<Desk>,
    thread_ended: Condvar,
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
    thread_ended: bool,
    closed: bool,
}

impl Notices {
    pub(crate) fn new(slots: u32) -> std::io::Result<Self> {
        Ok(Self {
            chime: Chime::new()?,
            awaited: OnceLock::new(),
            slots,
            desk: Mutex::default(),
            thread_ended: Condvar::new(),
            watchers: AtomicU32::new(0),
            thread_bell: Bell::new()?,
        })
    }

    /// What becomes readable.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.chime.listener()
    }

    /// The end for workers.
    pub(crate) fn button(&self) -> BorrowedFd<'_> {
        self.chime.button()
    }

    fn at(&self, index: u16) -> Option<&Mutex<Awaited>> {
        self.awaited.get()?.get(usize::from(index))
    }

    /// Has something be done when the task of `key` is over.
    fn put(&self, key: Key, then: Then) {
        self.awaited.get_or_init(|| (0..self.slots).map(|_| Mutex::default()).collect());
        let Some(awaited) = self.at(key.index()) else { return };
        let mut awaited = awaited.lock();
        let same = awaited.interests.iter_mut().find(|interest| interest.is_same(key, &then));
        let old = match same {
            Some(same) => Some(std::mem::replace(&mut same.then, then)),
            None => {
                awaited.interests.push(Interest { key, then });
                None
            }
        };
        drop(awaited);
        // Not under the lock: a waker's drop is foreign code.
        drop(old);
    }

    /// This is not to be done any more when the task of `key` is over. Whether it was.
    fn take_back(&self, key: Key, then: &Then) -> bool {
        let Some(awaited) = self.at(key.index()) else { return false };
        let taken = {
            let interests = &mut awaited.lock().interests;
            let index = interests.iter().position(|interest| interest.is_same(key, then));
            index.map(|index| interests.swap_remove(index))
        };
        taken.is_some()
    }

    /// The future that awaits the task of `key` needs no waking any more.
    pub(crate) fn forget_future(&self, key: Key) {
        self.take_back(key, &Then::Wake(Waker::noop().clone()));
    }

    /// The key is not to be reported. Whether it was.
    pub(crate) fn forget_report(&self, key: Key) -> bool {
        self.take_back(key, &Then::Report)
    }

    /// Has an event loop look at this slot, if anything of it is awaited. For the host's threads.
    pub(crate) fn mark(&self, index: u16) {
        let Some(awaited) = self.at(index) else { return };
        {
            let mut awaited = awaited.lock();
            // Who has marked it before has rung; whoever answers looks at it after this.
            if awaited.interests.is_empty() || std::mem::replace(&mut awaited.marked, true) {
                return;
            }
        }
        self.desk.lock().marked.push(index);
        self.chime.ring();
    }

    /// Has an event loop look, if anything was ever awaited: a worker may have died after it has said that
    /// it rings, and before it did.
    pub(crate) fn look_after_death(&self) {
        if self.awaited.get().is_some() {
            self.chime.ring();
        }
    }

    /// Marks all slots of which something is awaited that is over: what a worker has failed to say. Whether
    /// anything is awaited at all.
    pub(crate) fn audit(&self, is_over: impl Fn(Key) -> bool) -> bool {
        let mut is_any = false;
        let all = self.awaited.get().into_iter().flat_map(|all| all.iter().zip(0..=u16::MAX));
        for (awaited, index) in all {
            let is_due = {
                let interests = &awaited.lock().interests;
                is_any |= !interests.is_empty();
                interests.iter().any(|interest| is_over(interest.key))
            };
            if is_due {
                self.mark(index);
            }
        }
        is_any
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
        self.chime.ring();
    }

    /// One less watches. Whether the thread has to wake futures from here on.
    pub(crate) fn unwatch(&self) -> bool {
        let is_last = self.watchers.fetch_sub(1, Ordering::SeqCst) == 1;
        self.stir();
        is_last && self.awaited.get().is_some()
    }

    fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    /// No task will be over any more. Waits for the thread, if there is one and it is another, but not for
    /// ever: it may be in somebody's waker.
    pub(crate) fn close(&self) {
        let mut desk = self.desk.lock();
        desk.closed = true;
        self.stir();
        self.chime.ring();
        let Some(thread) = desk.thread.take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        let until = Instant::now() + THREAD_PATIENCE;
        while !desk.thread_ended {
            if self.thread_ended.wait_until(&mut desk, until).timed_out() {
                return;
            }
        }
        drop(desk);
        let _ = thread.join();
    }
}

impl Core {
    /// Has something be done when the task of `key` is over. `false`: it is over, and it may not be done.
    pub(crate) fn await_end(&self, key: Key, then: Then) -> bool {
        self.notices.put(key, then);
        !self.is_over_now(key)
    }

    /// Whether the task of `key` is over; if not, an event loop is told when it is.
    fn is_over_now(&self, key: Key) -> bool {
        if let Some(slot) = self.slot(key) {
            ring::ask(&slot.words.waiter, AWAITS);
        }
        self.is_over(key)
    }

    /// Wakes the futures whose tasks are over, and gives the keys that are to be reported. `false`: the
    /// engine is gone.
    pub(crate) fn dispatch(&self, over: &mut Vec<Key>) -> bool {
        if self.in_forked_child() {
            // The pipe is the parent's, too: what is read here is missing there.
            return false;
        }
        let notices = &self.notices;
        // Before the looks, so that what comes after them rings again.
        notices.chime.answer();
        let (marked, open) = {
            let mut desk = notices.desk.lock();
            over.append(&mut desk.over);
            (std::mem::take(&mut desk.marked), !desk.closed)
        };
        ring::collect(self.segment.region().completed(), |index| self.tell(index, over));
        marked.into_iter().for_each(|index| self.tell(index, over));
        if !open {
            // It stays readable: all who watch are to see it.
            notices.chime.ring();
        }
        open
    }

    /// Tells those who await something of this slot that is over. That it was marked is a worker's word,
    /// and no more than a reason to look.
    fn tell(&self, index: u16, over: &mut Vec<Key>) {
        let Some(awaited) = self.notices.at(index) else { return };
        let mut wakers = SmallVec::<[Waker; 1]>::new();
        {
            let mut awaited = awaited.lock();
            awaited.marked = false;
            awaited.interests.retain(|interest| {
                // Asked for anew: the mark may be of the task before, whose end has used up the asking.
                if !self.is_over(interest.key) && !self.is_over_now(interest.key) {
                    return true;
                }
                match std::mem::replace(&mut interest.then, Then::Report) {
                    Then::Wake(waker) => wakers.push(waker),
                    Then::Report => over.push(interest.key),
                }
                false
            });
        }
        for waker in wakers {
            // A waker that panics is not to take those of others along; nor is what it throws.
            if let Err(thrown) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                std::mem::forget(thrown);
            }
        }
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
                core.notices.desk.lock().thread_ended = true;
                core.notices.thread_ended.notify_all();
            })?);
        }
        Ok(())
    }

    /// The thread that wakes futures while nobody watches.
    fn wake_until_closed(&self) {
        let notices = &self.notices;
        let mut over = Vec::new();
        loop {
            let both = [notices.thread_bell.as_fd(), notices.listener()];
            let (own, _) = both.split_at(1);
            let watched = if notices.is_watched() { own } else { &both[..] };
            let due = if self.mailbox.attended() { None } else { self.deadlines.next() };
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            let ready = socket::readable(watched, timeout).unwrap_or_else(|_| {
                std::thread::sleep(NAP);
                Vec::new()
            });
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
            if !desk.over.is_empty() && notices.is_watched() {
                // Whoever watches since has looked before these were there.
                notices.chime.ring();
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::wire::{Args, Task, Value};

    fn engine() -> Engine {
        let model = |_: &Args<'_>| Ok(Value::Int(7));
        Engine::builder("test:seven").workers(1).slots(4).start_with(model).unwrap()
    }

    /// One whose tasks wait until the test lets them go on, one by one.
    fn gated() -> (Engine, std::sync::mpsc::Sender<()>) {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let model = move |_: &Args<'_>| {
            let _ = gate.lock().recv();
            Ok(Value::Int(7))
        };
        (Engine::builder("test:gate").workers(1).slots(1).start_with(model).unwrap(), open)
    }

    /// A worker that is late in telling of a slot's last task takes the asking of the next one's back.
    #[test]
    fn a_mark_of_the_task_before_costs_nobody_his_own() {
        let (engine, open) = gated();
        let completions = engine.completions();
        let key = engine.submit(&Task::new()).unwrap().into_key();
        assert_eq!(engine.notify(key), Ok(false));
        let slot = engine.core().slot(key).unwrap();
        assert_eq!(ring::take_waiters(&slot.words.waiter), AWAITS, "as the late one does");
        ring::mark(engine.core().segment.region().completed(), key.index());
        let mut over = Vec::new();
        assert!(completions.dispatch(&mut over));
        assert!(over.is_empty());
        open.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while over.is_empty() {
            assert!(Instant::now() < deadline, "nobody is told");
            completions.dispatch(&mut over);
        }
        assert_eq!(over, [key]);
    }

    /// Polled for another reason than its wake, a future finds its answer before anybody dispatches.
    #[test]
    fn no_waker_is_kept_once_its_future_is_done() {
        use std::future::Future;
        use std::pin::pin;
        use std::task::{Context, Poll, Wake};
        struct Nothing;
        impl Wake for Nothing {
            fn wake(self: Arc<Self>) {}
        }
        let (engine, open) = gated();
        let _completions = engine.completions();
        let nothing = Arc::new(Nothing);
        let waker = Waker::from(nothing.clone());
        let mut future = pin!(engine.call_async(&Task::new(), Duration::from_secs(10)));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        open.send(()).unwrap();
        let key = future.key().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !engine.core().is_over(key) {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        let done = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(done, Poll::Ready(Ok(_))));
        drop(waker);
        assert_eq!(Arc::strong_count(&nothing), 1);
    }

    /// An event loop that does not come by for an hour.
    #[test]
    fn what_is_marked_does_not_grow_while_nobody_dispatches() {
        let engine = engine();
        let _completions = engine.completions();
        let key = engine.submit(&Task::new()).unwrap().into_key();
        engine.core().notices.put(key, Then::Report);
        for _ in 0..36_000 {
            assert!(engine.core().notices.audit(|_| true));
        }
        assert_eq!(engine.core().notices.desk.lock().marked, [key.index()]);
    }

    #[test]
    fn a_key_and_a_future_of_the_same_task_and_of_the_next_do_not_take_each_others_place() {
        let engine = engine();
        let completions = engine.completions();
        let notices = &engine.core().notices;
        let deadline = Instant::now() + Duration::from_secs(10);
        let first = engine.submit(&Task::new()).unwrap().into_key();
        engine.wait(first, Duration::from_secs(10)).unwrap();
        let next = engine.submit(&Task::new()).unwrap().into_key();
        assert_eq!(first.index(), next.index(), "the slot freed last is used next");
        while !engine.core().is_over(next) {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        for key in [first, next, first, next] {
            notices.put(key, Then::Report);
            notices.put(key, Then::Wake(Waker::noop().clone()));
        }
        notices.forget_future(next);
        notices.mark(next.index());
        let mut over = Vec::new();
        assert!(completions.dispatch(&mut over));
        assert_eq!(over, [first, next]);
        assert!(!notices.audit(|_| false), "nothing is awaited any more");
    }
}
