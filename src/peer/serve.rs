//! A worker's life: claim, handle, complete, and wait for the next.

use std::io;
use std::time::{Duration, Instant};

use super::Handler;
use super::forked;
use super::in_place::InPlace;
use super::interrupt::Interrupts;
use super::notice::Notice;
use crate::faults;
use crate::key::Key;
use crate::ring::{self, Awake, Claimed, LockLost, Sleep, WorkersLock};
use crate::shm::{
    AWAITS, AWAKE, BROKEN, ENTRY_BYTES, Extent, LargeArea, Order, Owner, PARKED, Payload, Region,
    SLEEPS, STANDBY, Slot, WorkerWords, is_bad_length,
};
use crate::sync::{Ordering, fence, fence_after_rmw};
use crate::sys::{futex, memory, signal};
use crate::wire::{AnswerBuf, Patience, Refusal};

/// How long a worker that never parks searches before it looks at what else there is.
const SPIN_ROUND: Duration = Duration::from_micros(50);

/// How long a worker sleeps at most while its model keeps tensors: it has to tell when they are let go.
const KEEPING_NAP: Duration = Duration::from_millis(100);

/// The largest task whose memory is kept for the next, in bytes.
const KEPT: usize = 1 << 20;

/// Why a worker stopped serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The host ordered it: finalise and go.
    Ordered,
    /// The supervisor has condemned its task, and is about to kill it: touch nothing more.
    Condemned,
    /// The segment is broken: this process can serve no longer.
    Broken,
    /// The model keeps tensors whose memory others need: it must go, and this process with it.
    Hoarding,
}

/// How a search for a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Something came up.
    Found,
    /// Nothing did.
    Nothing,
    /// There was none: enough others search.
    LeftToOthers,
}

/// One worker at its place in the segment.
pub(crate) struct Worker<'a, H> {
    region: &'a Region,
    place: u16,
    owner: Owner,
    words: &'a WorkerWords,
    lock: WorkersLock,
    patience: Patience,
    /// Tasks done.
    tasks: u64,
    /// Whether there was a task since the handler was last told that there is none.
    busy: bool,
    /// Whether calls can be interrupted.
    interrupts: Option<Interrupts>,
    handler: H,
    task: Payload,
    answer: AnswerBuf,
    large: LargeArea<'a>,
    in_place: InPlace<'a>,
    notice: Notice<'a>,
    /// What those who watch believe that the model keeps, in bytes.
    told_kept: u64,
}

impl<'a, H: Handler> Worker<'a, H> {
    /// A worker at `place`, or nothing if the segment has no such place.
    ///
    /// # Safety
    /// The region's mapping must outlive the process' use of it, its lock must be initialised,
    /// and no other worker may live at this place.
    pub(crate) unsafe fn new(
        region: &'a Region,
        large: LargeArea<'a>,
        notice: Notice<'a>,
        place: u16,
        patience: Patience,
        handler: H,
    ) -> Option<Self> {
        let words = region.workers().get(usize::from(place))?;
        // Relaxed: a hint until this worker parks.
        words.parked.store(AWAKE, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        let lock = unsafe { WorkersLock::attach(region) }.ok()?;
        let slot_bytes = region.layout().sizes.slot_bytes as usize;
        Some(Self {
            region,
            place,
            owner: Owner::worker(place)?,
            words,
            lock,
            patience,
            tasks: 0,
            busy: false,
            interrupts: None,
            handler,
            task: Payload::new(),
            answer: AnswerBuf::new(large.room().max(slot_bytes)).with_error_limit(slot_bytes),
            large,
            in_place: InPlace::new(large),
            notice,
            told_kept: 0,
        })
    }

    /// Lets the host interrupt calls.
    ///
    /// # Safety
    /// The region must be mapped until the process ends, and the worker serve on its first thread.
    pub(crate) unsafe fn with_interrupts(mut self) -> io::Result<Self> {
        // The language may have to listen to a signal of its own for it, which others may send.
        let strike = signal::keeping_sigint(|| self.handler.interrupter());
        // SAFETY: the caller's promise.
        self.interrupts = Some(unsafe { Interrupts::new(self.words, strike) }?);
        Ok(self)
    }

    /// Serves until there is a reason to stop. Gives the handler back.
    pub(crate) fn run(mut self) -> (End, H) {
        let end = loop {
            match self.next() {
                Ok(Some(claimed)) => {
                    if let Err(end) = self.serve(claimed) {
                        break end;
                    }
                }
                Ok(None) => break End::Ordered,
                Err(LockLost) => break End::Broken,
            }
        };
        match end {
            End::Ordered => self.leave(),
            // Relaxed: looked at when this process has ended.
            End::Broken => self.words.away.store(BROKEN, Ordering::Relaxed),
            End::Condemned | End::Hoarding => {}
        }
        (end, self.handler)
    }

    /// Takes leave of its colleagues: a submit that has seen this worker awake has woken nobody.
    fn leave(&self) {
        // SeqCst: pairs with the fence of that submit, as after a search.
        fence(Ordering::SeqCst);
        if ring::pending(self.region.ring()) {
            ring::pass_on(self.region.workers(), futex::wake_one);
        }
    }

    /// Runs one task that was claimed.
    fn serve(&mut self, Claimed { key, len }: Claimed) -> Result<(), End> {
        // `claim` took the index from here, so there is such a slot.
        let slot = self.region.slot(key.index()).ok_or(End::Broken)?;
        // Relaxed, here and below: for those who watch.
        self.words.running.store(key.get(), Ordering::Relaxed);
        faults::point("serve.claimed");
        let read = if len <= ENTRY_BYTES || slot.copy_task(len, &mut self.task).is_ok() {
            Ok(())
        } else {
            self.large.read(key.index(), Extent::Task, len, &mut self.task)
        };
        faults::point("serve.copied");
        match read {
            Ok(()) => self.call(key),
            Err(error) => self.answer.refuse(unreadable(&error)),
        }
        faults::point("serve.called");
        forked::leave_if_forked();
        if self.in_place.has_failed() {
            return Err(End::Hoarding);
        }
        let is_large = self.answer.seal() > slot.room() && self.put_large(key);
        faults::point("serve.encoding");
        if !ring::finish(slot.words, key, self.owner) {
            return Err(End::Condemned);
        }
        faults::point("serve.finished");
        if is_large {
            // Relaxed: as in `answer_writer`. No outcome is larger than a `u32` says.
            slot.words.answer_len.store(self.answer.seal() as u32, Ordering::Relaxed);
        } else {
            let outcome = self.answer.whole();
            // SAFETY: this worker has claimed the slot and not published its outcome yet.
            let writer = unsafe { slot.answer_writer(outcome.len()) };
            // An outcome that is not large fits the slot, so there is a writer and it has room.
            writer.ok_or(End::Broken)?.put(outcome).map_err(|_| End::Broken)?;
        }
        faults::point("serve.written");
        ring::publish(slot.words, key, self.owner);
        faults::point("serve.completed");
        // SeqCst, behind the swap of `publish`: pairs with the fence in `ring::ask`.
        // Either who waits sees DONE, or we see who waits.
        fence_after_rmw();
        let waiters = ring::take_waiters(&slot.words.waiter);
        if waiters != 0 {
            self.tell(slot, key, waiters);
        }
        self.words.running.store(0, Ordering::Relaxed);
        self.tasks += 1;
        self.words.tasks.store(self.tasks, Ordering::Relaxed);
        if is_large {
            // What was lent goes with the next line.
            self.answer.clear();
        }
        self.away(H::tidy);
        if self.task.len() > KEPT {
            self.task = Payload::new();
        }
        faults::point("serve.tidied");
        self.busy = true;
        Ok(())
    }

    /// Tells these that the task of `key` is over.
    #[cold]
    fn tell(&self, slot: Slot<'_>, key: Key, waiters: u32) {
        faults::point("serve.waking");
        if waiters & SLEEPS != 0 {
            futex::wake_all(&slot.words.waiter);
        }
        if waiters & AWAITS != 0 {
            self.notice.give(self.region.completed(), key.index());
        }
    }

    /// Puts an outcome that does not fit the slot of this worker's task into the large area. `false`: a
    /// refusal stands in its stead.
    #[cold]
    fn put_large(&mut self, key: Key) -> bool {
        let needed = self.answer.seal() as u64;
        let pieces = self.answer.pieces();
        // SAFETY: pieces of the answer's own bytes, and what the handler has lent until it tidies up.
        let written = unsafe { self.large.write_pieces(key.index(), Extent::Answer, pieces) };
        let Err(error) = written else { return true };
        // Small, so it fits every slot.
        self.answer.refuse(if memory::is_out_of_room(&error) {
            let (available, total) = memory::shared_memory_room();
            Refusal::NoSharedMemory { needed, available, total }
        } else {
            Refusal::System { action: "write a large answer".to_owned(), reason: error.to_string() }
        });
        false
    }

    /// Tells those who watch how much the model keeps, if that has changed.
    #[inline]
    fn tell_kept(&mut self) {
        let kept = InPlace::kept_bytes();
        if kept != self.told_kept {
            self.told_kept = kept;
            // Relaxed: looked at again and again.
            self.words.kept.store(kept, Ordering::Relaxed);
        }
    }

    /// Has the handler answer the task, and be interrupted only while it does.
    #[inline]
    fn call(&mut self, key: Key) {
        // A handler that writes nothing must not send the last task's outcome again.
        self.answer.clear();
        self.in_place.begin(key.index());
        if let Some(interrupts) = &self.interrupts {
            interrupts.begin(key);
        }
        self.handler.handle(&self.task, &mut self.in_place, &mut self.answer);
        if let Some(interrupts) = &self.interrupts
            && interrupts.end()
        {
            self.handler.forget_interrupt();
        }
    }

    /// Has the handler do something without a task, which may take long: to the supervisor this
    /// worker is not an idle one that takes no task.
    #[inline]
    fn away(&mut self, act: impl FnOnce(&mut H)) {
        // Relaxed, here and below: looked at in audits, and believed only after several.
        self.words.away.store(1, Ordering::Relaxed);
        act(&mut self.handler);
        self.words.away.store(0, Ordering::Relaxed);
    }

    /// The next task; `None` when the host has ordered the end.
    fn next(&mut self) -> Result<Option<Claimed>, LockLost> {
        loop {
            // What was freed, collected or let go since the task may have run code of the model's.
            forked::leave_if_forked();
            self.tell_kept();
            // Before the look at the ring: an order to drain that is seen afterwards may be younger
            // than a task that the look has missed.
            let order = self.order();
            match order {
                Order::Stop => return Ok(None),
                Order::Standby => {
                    self.stand_by();
                    continue;
                }
                Order::Serve | Order::Drain => {}
            }
            if let Some(claimed) = self.claim(order)? {
                return Ok(Some(claimed));
            }
            if order == Order::Drain {
                return Ok(None);
            }
            let search = self.search();
            if search == Search::Found {
                continue;
            }
            if self.busy {
                // SeqCst: pairs with the fence of a submit that has seen us search, as after a
                // claim: its entry is seen here, before something that may take long.
                fence(Ordering::SeqCst);
                if something_to_do(self.region, self.words) {
                    continue;
                }
                self.busy = false;
                faults::point("serve.idle");
                self.away(H::idle);
            }
            if self.patience.parks || search == Search::LeftToOthers {
                self.park(None);
            } else if is_crowded(self.region) {
                self.park(Some(ring::NAP));
            }
        }
    }

    fn order(&self) -> Order {
        // Acquire: pairs with the Release store of the supervisor; tasks pushed before the order
        // are visible to the look at the ring that follows.
        Order::from_word(self.words.order.load(Ordering::Acquire))
    }

    /// Claims what waits, and wakes a colleague if there is more.
    #[inline]
    fn claim(&mut self, order: Order) -> Result<Option<Claimed>, LockLost> {
        let (region, owner, task) = (self.region, self.owner, &mut self.task);
        let ring = region.ring();
        if !ring::pending(ring) {
            return Ok(None);
        }
        faults::point("claim.pending");
        let claim = self.lock.with(|| {
            faults::point("claim.locked");
            ring::claim(ring, |index| Some(region.slot(index)?.words), owner, task)
        })?;
        let Some(claimed) = claim else { return Ok(None) };
        // One that drains has a successor.
        if self.has_colleagues() || order == Order::Drain {
            // SeqCst, behind the compare-and-swap of the claim: pairs with the fence of a submit,
            // for a worker that has just searched (`ring::end_search`).
            fence_after_rmw();
            if ring::pending(ring) {
                ring::pass_on(region.workers(), futex::wake_one);
            }
        }
        Ok(Some(claimed))
    }

    /// Whether other workers serve too. (Those of the extra places only while one replaces another.)
    #[inline]
    fn has_colleagues(&self) -> bool {
        self.region.layout().sizes.workers > 1
    }

    /// Stays awake for a task for as long as it pays, unless enough others do.
    fn search(&mut self) -> Search {
        let (region, words) = (self.region, self.words);
        let Patience { spin, yields, searchers, parks } = self.patience;
        if spin.is_zero() {
            return Search::Nothing;
        }
        // One that never parks does not search for ever at once: garbage wants to be collected,
        // another thread of the model may want to run, and another worker may have begun to search
        // at the same moment.
        let spin = if parks { spin } else { SPIN_ROUND };
        let crowded = is_crowded(region);
        // Where nobody spins, all may yield: they take no CPU from each other.
        let limit = if crowded { u32::MAX } else { searchers };
        if !ring::announce_search(region.workers(), usize::from(self.place), limit) {
            return Search::LeftToOthers;
        }
        faults::point("serve.searching");
        let search = || {
            let found = wait_awake(region, words, spin, yields);
            ring::end_search(words);
            found
        };
        let found = if !crowded && self.handler.alone() {
            search()
        } else {
            let mut found = false;
            self.handler.while_detached(&mut || {
                found = search();
                // The way back may take long: another thread has the interpreter. A submit that has
                // seen us search has woken nobody.
                if region.layout().sizes.workers > 1 {
                    // SeqCst: pairs with the fence of that submit.
                    fence(Ordering::SeqCst);
                    if ring::pending(region.ring()) {
                        ring::pass_on(region.workers(), futex::wake_one);
                    }
                }
            });
            found
        };
        if found { Search::Found } else { Search::Nothing }
    }

    fn park(&mut self, limit: Option<Duration>) {
        // Another thread of the model may let go meanwhile.
        let limit = if self.told_kept > 0 { Some(KEEPING_NAP) } else { limit };
        let (region, words) = (self.region, self.words);
        let sleep = ring::prepare_to_park(words, PARKED, || something_to_do(region, words));
        if sleep == Sleep::Now {
            faults::point("serve.parked");
            self.handler.while_detached(&mut || futex::wait(&words.parked, PARKED, limit));
            ring::rise(words);
            faults::point("serve.woken");
        }
    }

    /// Sleeps until the order has changed: nobody wakes it for a task.
    fn stand_by(&mut self) {
        let words = self.words;
        // Acquire: as in `order`.
        let ordered = || Order::from_word(words.order.load(Ordering::Acquire)) != Order::Standby;
        if ring::prepare_to_park(words, STANDBY, ordered) == Sleep::Now {
            self.handler.while_detached(&mut || futex::wait(&words.parked, STANDBY, None));
            ring::rise(words);
        }
    }
}

/// Why a task's bytes could not be had.
#[cold]
fn unreadable(error: &io::Error) -> Refusal {
    if is_bad_length(error) {
        return Refusal::MalformedTask;
    }
    Refusal::System { action: "read a large task".to_owned(), reason: error.to_string() }
}

fn something_to_do(region: &Region, words: &WorkerWords) -> bool {
    // Relaxed: the caller's fence orders it, or the caller looks again.
    let order = Order::from_word(words.order.load(Ordering::Relaxed));
    order != Order::Serve || ring::pending(region.ring())
}

/// Whether something came up before it was enough.
fn wait_awake(region: &Region, words: &WorkerWords, spin: Duration, yields: u32) -> bool {
    let found = || something_to_do(region, words);
    if ring::glance(found) {
        return true;
    }
    loop {
        let awake = if is_crowded(region) {
            ring::yield_until(yields, None, found)
        } else {
            ring::spin_until(Some(Instant::now() + spin), found, || is_crowded(region))
        };
        match awake {
            Awake::Found => return true,
            Awake::Spent => return false,
            Awake::Crowded => {}
        }
    }
}

/// Whether host threads want the CPU that a spinning worker would keep.
fn is_crowded(region: &Region) -> bool {
    // Relaxed: a hint.
    region.host().crowded.load(Ordering::Relaxed) != 0
}
