//! A caller that awaits its tasks, as the thread of a runtime does.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use nearcall::error::WaitError;
use nearcall::{Key, TicketFuture};

use super::{Pending, Submitter, Terms};
use crate::plan::Order;
use crate::watch::PATIENCE;

/// Says that its future was woken, and wakes the thread.
struct Woken {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// A task that is awaited.
struct Awaited<'e> {
    order: Order,
    key: Key,
    terms: Terms,
    future: TicketFuture<'e>,
    /// One for each: nobody is polled because another was woken.
    woken: Arc<Woken>,
    /// Dropped once it was polled.
    dropped: bool,
}

impl<'s> Submitter<'s> {
    /// Awaits all at once; those of whom `dropped` says so only for a moment.
    pub(super) fn await_all(&self, pending: Vec<Pending<'s>>, dropped: &[(bool, u64)]) {
        let since = Instant::now();
        let awaited = pending.into_iter().zip(dropped).map(|(pending, (dropped, _))| Awaited {
            order: pending.order,
            key: pending.ticket.key(),
            terms: pending.terms,
            future: pending.ticket.into_future(),
            woken: Arc::new(Woken { thread: thread::current(), is_woken: AtomicBool::new(true) }),
            dropped: *dropped,
        });
        let mut awaited: Vec<_> = awaited.collect();
        while !awaited.is_empty() {
            awaited.retain_mut(|it| {
                let is_late = since.elapsed() >= PATIENCE;
                if !is_late && !it.woken.is_woken.swap(false, Ordering::SeqCst) {
                    return true;
                }
                let waker = Waker::from(it.woken.clone());
                let polled = Pin::new(&mut it.future).poll(&mut Context::from_waker(&waker));
                let result = match polled {
                    // There all the time, perhaps, and nobody has said so.
                    _ if is_late => Err(WaitError::TimedOut),
                    Poll::Ready(result) => result.map_err(WaitError::from),
                    Poll::Pending if it.dropped => {
                        self.sheet.tally().fail("abandoned");
                        return false;
                    }
                    Poll::Pending => return true,
                };
                self.judge(&it.order, Some(it.key), it.terms, result, since);
                false
            });
            if !awaited.is_empty() {
                thread::park_timeout(PATIENCE);
            }
        }
    }
}
