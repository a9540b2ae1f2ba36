//! The engine under the benchmark: started for a turn, called in several ways, ended.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nearcall::error::SubmitError;
use nearcall::{Answer, Builder, Engine, Signature, Task, Ticket, WaitPolicy};
use nix::unistd::Pid;

use crate::clock;
use crate::measure::{Latencies, Span, Turn, closed_loop};
use crate::order::{NotHere, Pace};
use crate::workload::{BIG_MODEL_ANSWER, FLOATS, INT, STRS, Workload};

/// No call of a benchmark takes this long; one that does fails it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What all engines of a run have in common.
#[derive(Debug, Clone)]
pub struct Home {
    /// The interpreter.
    pub python: PathBuf,
    /// The `nearcall-worker` program; found as the library finds it if there is none.
    pub worker: Option<PathBuf>,
    /// The folder with the models.
    pub models: PathBuf,
}

impl Home {
    /// A configuration with all of it, for a model in that folder.
    pub(crate) fn builder(&self, model: &str) -> Builder {
        let builder = Engine::builder(model).python(&self.python).python_path(&self.models);
        match &self.worker {
            Some(worker) => builder.worker(worker),
            None => builder,
        }
    }
}

/// Ends an engine, in order.
///
/// # Errors
/// When it does not end so.
pub(crate) fn end(engine: &Engine) -> anyhow::Result<()> {
    let shutdown = engine.shutdown(PATIENCE);
    ensure!(shutdown.drained && shutdown.killed == 0, "the engine did not end: {shutdown:?}");
    Ok(())
}

/// An engine's configuration, as far as it is varied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subject {
    /// What is called.
    pub workload: Workload,
    /// Worker processes.
    pub workers: usize,
    /// Slots.
    pub slots: usize,
    /// The largest task or answer.
    pub slot_bytes: usize,
    /// How threads and workers wait.
    pub policy: WaitPolicy,
    /// Whether garbage is collected between two calls, or whenever Python sees fit.
    pub gc_between_calls: bool,
}

impl Subject {
    /// One worker, everything else as a user gets it.
    pub fn new(workload: Workload) -> Self {
        Self {
            workload,
            workers: 1,
            slots: 64,
            slot_bytes: 4096,
            policy: WaitPolicy::Adaptive,
            gc_between_calls: true,
        }
    }
}

/// An engine that is up, and what its answers must be.
pub struct Running {
    engine: Engine,
    workload: Workload,
    text: String,
}

impl Running {
    /// Starts the engine.
    ///
    /// # Errors
    /// What keeps it from starting. [`NotHere`] if this machine does not have the policy.
    pub fn start(home: &Home, subject: Subject) -> anyhow::Result<Self> {
        let signature = match subject.workload {
            Workload::Noop | Workload::Garbage => Signature::new().int("number"),
            Workload::BigModel => Signature::new()
                .floats("float_features", 3)
                .strs("str_features", 2)
                .int("int_feature"),
            Workload::Echo(_) => Signature::new().str("text"),
        };
        let builder = home
            .builder("bench_model:Model")
            .method(subject.workload.method())
            .signature(signature)
            .workers(subject.workers)
            .slots(subject.slots)
            .slot_bytes(subject.slot_bytes)
            .wait_policy(subject.policy);
        let engine = builder.start().context("the engine could not be started")?;
        let policy = engine.wait_policy();
        ensure!(
            policy == subject.policy,
            NotHere(format!("the policy is {} whatever is chosen", policy.name()))
        );
        let bytes = if let Workload::Echo(bytes) = subject.workload { bytes } else { 0 };
        Ok(Self { engine, workload: subject.workload, text: "x".repeat(bytes) })
    }

    /// Ends the engine, in order.
    ///
    /// # Errors
    /// When it does not end so.
    pub fn end(self) -> anyhow::Result<()> {
        end(&self.engine)
    }

    /// The engine itself.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// CPU time of this process and of the workers, in seconds.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let own = clock::cpu_of(None)?;
        self.engine.worker_pids().into_iter().try_fold(own, |sum, pid| {
            let pid = Pid::from_raw(i32::try_from(pid).ok()?);
            Some(sum + clock::cpu_of(Some(pid))?)
        })
    }

    pub(crate) fn task(&self, number: u64) -> Task<'_> {
        match self.workload {
            Workload::Noop | Workload::Garbage => Task::new().int(number.cast_signed()),
            Workload::BigModel => Task::new().floats(&FLOATS).strs(&STRS).int(INT),
            Workload::Echo(_) => Task::new().str(&self.text),
        }
    }

    pub(crate) fn check(&self, number: u64, answer: &Answer) -> anyhow::Result<()> {
        let right = match self.workload {
            Workload::Noop | Workload::Garbage => answer.int(0)? == number.cast_signed(),
            Workload::BigModel => answer.int(0)? == BIG_MODEL_ANSWER && answer.str(1)?.is_empty(),
            Workload::Echo(_) => answer.str(0)? == self.text,
        };
        if !right {
            bail!("nearcall: a wrong answer to call {number}: {answer:?}");
        }
        Ok(())
    }

    /// Makes the call with this number and checks its answer.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn call(&self, number: u64) -> anyhow::Result<()> {
        let answer = self.engine.call(&self.task(number), PATIENCE)?;
        self.check(number, &answer)
    }

    /// Threads that make one blocking call after another.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn closed_loop(&self, submitters: usize, span: Span) -> anyhow::Result<Turn> {
        closed_loop(submitters, |_| Ok(|number| self.call(number)), span, || self.cpu())
    }

    /// One thread that keeps `window` calls on their way. The latencies are from submit to
    /// retrieve; answers are taken in the order of the submits.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn pipelined(&self, window: usize, span: Span) -> anyhow::Result<Turn> {
        self.pipeline(window, span.warm_up)?;
        let before = self.cpu();
        let (latencies, seconds) = self.pipeline(window, span.measured)?;
        let cpu_seconds = before.zip(self.cpu()).map(|(before, after)| after - before);
        Ok(Turn { latencies, seconds, cpu_seconds })
    }

    fn pipeline(&self, window: usize, seconds: f64) -> anyhow::Result<(Latencies, f64)> {
        let mut latencies = Latencies::new()?;
        let mut on_their_way = VecDeque::with_capacity(window);
        let mut answer = Answer::new();
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(seconds);
        let mut now = start;
        for number in 0.. {
            if on_their_way.len() == window || now >= end {
                let Some((number, begun, ticket)) = on_their_way.pop_front() else { break };
                while !self.engine.retrieve_into(&ticket, &mut answer)? {
                    std::hint::spin_loop();
                }
                now = Instant::now();
                latencies.record(now - begun);
                self.check(number, &answer)?;
            }
            if now < end {
                on_their_way.push_back((number, now, self.engine.submit(&self.task(number))?));
            }
        }
        Ok((latencies, (now - start).as_secs_f64()))
    }

    /// Open loop: one thread submits on a schedule, whether answers are there or not, and takes
    /// the answers in between. Latencies count from the instant for which a call was scheduled, so
    /// a stall is paid for by all calls that it delays. So is a lack of slots: then a call is
    /// submitted as soon as there is one.
    ///
    /// # Errors
    /// A wrong answer, or none.
    pub fn open_loop(&self, per_second: f64, span: Span) -> anyhow::Result<Turn> {
        self.pipeline(1, span.warm_up)?;
        let period = Duration::from_secs_f64(1.0 / per_second);
        let calls = (span.measured * per_second) as u32;
        let mut latencies = Latencies::new()?;
        let mut on_their_way: VecDeque<(u32, Instant, Ticket<'_>)> = VecDeque::new();
        let mut answer = Answer::new();
        let before = self.cpu();
        let start = Instant::now();
        let mut next = 0;
        while next < calls || !on_their_way.is_empty() {
            let due = start + period * next;
            if next < calls && Instant::now() >= due {
                match self.engine.submit(&self.task(next.into())) {
                    Ok(ticket) => {
                        on_their_way.push_back((next, due, ticket));
                        next += 1;
                    }
                    Err(SubmitError::Full { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Two workers may finish in another order than the tasks were sent in.
            for index in 0..on_their_way.len().min(4) {
                let Some((number, due, ticket)) = on_their_way.get(index) else { break };
                if self.engine.retrieve_into(ticket, &mut answer)? {
                    latencies.record(due.elapsed());
                    self.check(u64::from(*number), &answer)?;
                    on_their_way.remove(index);
                    break;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = before.zip(self.cpu()).map(|(before, after)| after - before);
        Ok(Turn { latencies, seconds, cpu_seconds })
    }

    /// One call each period, on a thread that sleeps in between.
    ///
    /// # Errors
    /// A wrong answer, or none; or the first call was due already.
    pub fn paced(&self, pace: Pace) -> anyhow::Result<Turn> {
        ensure!(clock::monotonic_ns()? < pace.first_ns, "the first call was due before");
        let mut latencies = Latencies::new()?;
        for number in 0..pace.calls {
            clock::sleep_until(pace.first_ns + number * pace.period_ns)?;
            let begun = Instant::now();
            self.call(number)?;
            if number > 0 {
                latencies.record(begun.elapsed());
            }
        }
        Ok(Turn { latencies, seconds: 0.0, cpu_seconds: None })
    }

    /// CPU time that the engine's processes, this one included, use in so many seconds without a
    /// task, beginning one second after the last: in per cent of one CPU.
    ///
    /// # Errors
    /// When the processes cannot be asked.
    pub fn idle(&self, seconds: u64) -> anyhow::Result<f64> {
        self.call(0)?;
        std::thread::sleep(Duration::from_secs(1));
        let before = self.cpu().context("no CPU clock")?;
        std::thread::sleep(Duration::from_secs(seconds));
        let after = self.cpu().context("no CPU clock")?;
        Ok((after - before) / seconds as f64 * 100.0)
    }
}
