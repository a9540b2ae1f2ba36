//! The ports of one submitting thread.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::ipc;
use nearcall_bench::measure::Caller;

use super::parcel::{Request, Response};
use super::{Wait, Way, Ways};
use crate::pipelined::Lanes;
use crate::task::{Answer, Task};

/// Beyond it, a worker that does not answer is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to sleep at most. iceoryx2 0.10.0 loses a notification now and then when several are on
/// their way, and none wakes the listener after that: it takes the datagram of a notifier that has
/// not yet said that it sent one (`drain_events` and `notify` in `event/common.rs`). Looking again
/// repairs it. The worker does the same.
const NAP: Duration = Duration::from_millis(10);

/// Looks between two looks at the clock.
const LOOKS_PER_CLOCK: u32 = 1 << 16;

/// The ports of one submitting thread.
pub(super) struct Submitter {
    task: Task,
    wait: Wait,
    index: usize,
    looks: u32,
    workers: Vec<Sender>,
    answers: Subscriber<ipc::Service, Response, ()>,
    listener: Listener<ipc::Service>,
}

/// The way to a worker.
pub(super) struct Sender {
    publisher: Publisher<ipc::Service, Request, ()>,
    notifier: Notifier<ipc::Service>,
}

impl Sender {
    fn new(way: &Way<Request>) -> anyhow::Result<Self> {
        Ok(Self {
            publisher: way.parcels.publisher_builder().create()?,
            notifier: way.events.notifier_builder().create()?,
        })
    }

    fn send(&self, request: Request) -> anyhow::Result<()> {
        let receivers = self.publisher.loan_uninit()?.write_payload(request).send()?;
        if receivers == 1 { Ok(()) } else { Err(anyhow!("a worker does not listen")) }
    }
}

/// Tells all workers to end. What a sender has sent is lost when it is dropped.
pub(super) fn end(ways: &Ways) -> anyhow::Result<Vec<Sender>> {
    let tell = |way| {
        let sender = Sender::new(way)?;
        sender.send(Request::end())?;
        sender.notifier.notify()?;
        Ok(sender)
    };
    ways.requests.iter().map(tell).collect()
}

impl Submitter {
    /// The ports of the submitter with this index, with lanes to these workers. Only the thread
    /// that makes them can use them.
    pub(super) fn new(
        ways: &Ways,
        index: usize,
        workers: Range<usize>,
        task: Task,
        wait: Wait,
        looks: u32,
    ) -> anyhow::Result<Self> {
        let own = &ways.answers[index];
        Ok(Self {
            task,
            wait,
            index,
            looks,
            workers: ways.requests[workers]
                .iter()
                .map(Sender::new)
                .collect::<anyhow::Result<_>>()?,
            answers: own.parcels.subscriber_builder().create()?,
            listener: own.events.listener_builder().create()?,
        })
    }

    fn submit(&self, worker: usize, call: u64) -> anyhow::Result<()> {
        self.workers[worker].send(Request::new(self.task, call, self.index))
    }

    fn wake(&self, worker: usize) -> anyhow::Result<()> {
        if self.wait == Wait::Blocking {
            self.workers[worker].notifier.notify()?;
        }
        Ok(())
    }

    /// The next answer, if it is there.
    fn look(&self) -> anyhow::Result<Option<(usize, Answer)>> {
        self.answers.receive()?.map(|response| response.open()).transpose()
    }

    /// Waits for the next answer.
    fn answer(&self) -> anyhow::Result<(usize, Answer)> {
        match self.wait {
            Wait::Spinning => self.spin(),
            Wait::Blocking => self.block(),
        }
    }

    fn spin(&self) -> anyhow::Result<(usize, Answer)> {
        let mut looks = 0;
        let mut deadline = None;
        loop {
            if let Some(answer) = self.look()? {
                return Ok(answer);
            }
            looks += 1;
            if looks > self.looks {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            if looks % LOOKS_PER_CLOCK == 0
                && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE)
            {
                bail!("a worker does not answer");
            }
        }
    }

    fn block(&self) -> anyhow::Result<(usize, Answer)> {
        let mut deadline = None;
        loop {
            if let Some(answer) = self.look()? {
                return Ok(answer);
            }
            // None is no news: two notifications may have been taken for one before.
            if self.listener.timed_wait(|_| (), NAP)? == 0
                && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + PATIENCE)
            {
                bail!("a worker does not answer");
            }
        }
    }
}

impl Caller for Submitter {
    fn call(&mut self, number: u64) -> anyhow::Result<()> {
        self.submit(0, number)?;
        self.wake(0)?;
        let (_, answer) = self.answer()?;
        self.task.check_call(number, answer)
    }
}

impl Lanes for Submitter {
    fn count(&self) -> usize {
        self.workers.len()
    }

    fn send(&mut self, lane: usize, call: u64) -> anyhow::Result<()> {
        self.submit(lane, call)?;
        self.wake(lane)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn receive(&mut self, answers: &mut Vec<(usize, Answer)>) -> anyhow::Result<()> {
        answers.push(self.answer()?);
        while let Some(answer) = self.look()? {
            answers.push(answer);
        }
        Ok(())
    }
}
