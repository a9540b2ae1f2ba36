//! A caller that awaits its tasks, as the thread of a runtime does.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use nearcall::error::WaitError;
use nearcall::{Key, TicketFuture};

use super::{Pending, Submitter, Terms};
use crate::plan::Order;
use crate::watch::PATIENCE;

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A task that is awaited.
struct Awaited<'e> {
    order: Order,
    key: Key,
    terms: Terms,
    future: TicketFuture<'e>,
    /// Dropped once it was polled.
    dropped: bool,
}

impl<'s> Submitter<'s> {
    /// Awaits all at once; those of whom `dropped` says so only for a moment.
    pub(super) fn await_all(&self, pending: Vec<Pending<'s>>, dropped: &[(bool, u64)]) {
        let since = Instant::now();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let awaited = pending.into_iter().zip(dropped).map(|(pending, (dropped, _))| Awaited {
            order: pending.order,
            key: pending.ticket.key(),
            terms: pending.terms,
            future: pending.ticket.into_future(),
            dropped: *dropped,
        });
        let mut awaited: Vec<_> = awaited.collect();
        while !awaited.is_empty() {
            awaited.retain_mut(|it| {
                let result = match Pin::new(&mut it.future).poll(&mut context) {
                    Poll::Ready(result) => result.map_err(WaitError::from),
                    Poll::Pending if it.dropped => {
                        self.sheet.tally().fail("abandoned");
                        return false;
                    }
                    Poll::Pending if since.elapsed() < PATIENCE => return true,
                    Poll::Pending => Err(WaitError::TimedOut),
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
