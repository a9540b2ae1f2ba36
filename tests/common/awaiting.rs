//! What tests of futures share: a waker that counts, and an engine whose tasks wait to be let go on.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use nearcall::{Args, Builder, Engine, Signature, Value};

use super::Bench;

/// Counts how often it is woken.
#[derive(Default)]
pub(crate) struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counted {
    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

pub(crate) fn poll_once<F: Future + Unpin>(
    future: &mut F,
    waker: &Arc<Counted>,
) -> Poll<F::Output> {
    poll_with(future, &Waker::from(waker.clone()))
}

pub(crate) fn echo(bench: &Bench) -> Builder {
    bench.builder("echo").signature(Signature::new().int("x"))
}

/// A double with one worker, whose tasks wait until the test lets them go on, one by one.
pub(crate) fn gated(bench: &Bench, slots: usize) -> (Engine, Sender<()>) {
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let model = move |args: &Args<'_>| {
        let _ = gate.lock().unwrap().recv();
        Ok(Value::Tuple(args.values().to_vec()))
    };
    (echo(bench).slots(slots).workers(1).start_with(model).unwrap(), open)
}
