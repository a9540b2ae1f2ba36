//! How the engine is, as the kernel and the processes themselves tell it.

use std::sync::Arc;
use std::sync::atomic::Ordering as HostOrdering;
use std::time::{Duration, Instant};

use super::core::{Core, Request};
use super::supervisor::{Life, Shared, TICK, Worker};
use crate::key::Key;
use crate::shm::Region;
use crate::sync::Ordering;
use crate::sys::process::Process;
use crate::sys::procfs::{MemoryShares, ProcessState};

/// How long the supervisor may take to give a sign of life.
const BEAT_PATIENCE: Duration = Duration::from_millis(200);

/// How the engine is at a moment. See [`Engine::health`](crate::Engine::health).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Every worker that there should be serves, none hangs or is stopped, and the supervisor
    /// answers.
    pub is_well: bool,
    /// Whether tasks are taken: not while no worker can be had, nor after the shutdown.
    pub takes_tasks: bool,
    /// The supervisor's thread has given a sign of life, within 0.2 s.
    pub supervisor_responds: bool,
    /// Workers that there should be; a spare does not count.
    pub wanted: usize,
    /// All worker processes that there are, those too that do not serve yet or any more.
    pub workers: Vec<WorkerHealth>,
    /// Slots that hold a task or an answer that was not retrieved.
    pub in_use: usize,
    /// Workers that have died since the start; those that were replaced in order do not count.
    pub deaths: u64,
}

/// How a worker process is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerHealth {
    /// Its place in the worker table.
    pub place: usize,
    /// Its process id.
    pub pid: u32,
    /// What it does.
    pub state: WorkerState,
    /// The task it runs, and for how long at least, in steps of 0.1 s.
    pub running: Option<(Key, Duration)>,
    /// Tasks that it has done.
    pub tasks: u64,
}

/// What a worker process has of the machine's memory, in bytes. See
/// [`Engine::memory`](crate::Engine::memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerMemory {
    /// Its process id.
    pub pid: u32,
    /// All that is resident (RSS), the segment and what it shares with other workers included.
    pub resident: u64,
    /// Its proportional part (PSS): a page that n processes have counts 1/n. The fork server has a part,
    /// too, of what its workers share.
    pub proportional: u64,
    /// What nobody else has: what ends with it.
    pub private: u64,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It constructs and initialises its model.
    Starting,
    /// It is ready, as a spare or to replace another, and takes no tasks.
    Standby,
    /// It serves, and has no task.
    Idle,
    /// It runs a task.
    Running,
    /// It runs a task, longer than [`Builder::hung_after`](crate::Builder::hung_after), and uses the
    /// CPU: a long computation or an endless loop.
    Computing,
    /// It runs a task, longer than [`Builder::hung_after`](crate::Builder::hung_after), and sleeps: it
    /// waits for something, or for itself.
    Stuck,
    /// A signal (`SIGSTOP`), or a debugger, has stopped it.
    Stopped,
    /// It was replaced, and ends after the task at hand.
    Leaving,
    /// It has ended, says the kernel.
    Ended,
}

/// A worker as the supervisor tells the other threads of it.
#[derive(Clone)]
pub(crate) struct Watched {
    place: usize,
    process: Arc<Process>,
    life: Life,
    /// How many audits have seen it run the same task.
    busy: Option<(u64, u32)>,
}

impl Watched {
    /// `None` for a worker of which there is no process yet.
    pub(crate) fn new(place: usize, worker: &Worker) -> Option<Self> {
        let process = worker.process.clone()?;
        Some(Self { place, process, life: worker.life, busy: worker.busy })
    }

    pub(crate) fn serving_pid(&self) -> Option<u32> {
        (self.life == Life::Serving).then_some(self.process.pid)
    }

    /// What it has of the machine's memory; `None` if it has ended.
    pub(crate) fn memory(&self) -> Option<WorkerMemory> {
        let MemoryShares { resident, proportional, private } = self.process.shares_of_memory()?;
        Some(WorkerMemory { pid: self.process.pid, resident, proportional, private })
    }

    fn health(&self, region: &Region, hung_ticks: u32) -> WorkerHealth {
        let words = region.workers().get(self.place);
        // Relaxed, here and below: hints of the worker's own.
        let running = words.map_or(0, |words| words.running.load(Ordering::Relaxed));
        let ticks = self.busy.filter(|(key, _)| *key == running).map_or(0, |(_, ticks)| ticks);
        let running = Key::from_number(running).map(|key| (key, ticks * TICK));
        let state = match (self.process.state(), self.life) {
            (ProcessState::Ended, _) | (_, Life::Ended) => WorkerState::Ended,
            (ProcessState::Stopped, _) => WorkerState::Stopped,
            (_, Life::Requested | Life::Starting) => WorkerState::Starting,
            (_, Life::Standing) => WorkerState::Standby,
            (_, Life::Leaving) => WorkerState::Leaving,
            (_, Life::Serving) if running.is_none() => WorkerState::Idle,
            (_, Life::Serving) if ticks < hung_ticks => WorkerState::Running,
            (ProcessState::Runs, Life::Serving) => WorkerState::Computing,
            (ProcessState::Sleeps, Life::Serving) => WorkerState::Stuck,
        };
        let tasks = words.map_or(0, |words| words.tasks.load(Ordering::Relaxed));
        WorkerHealth { place: self.place, pid: self.process.pid, state, running, tasks }
    }
}

/// Asks the kernel, the workers' words and the supervisor.
pub(crate) fn look(core: &Core, shared: &Shared, hung_ticks: u32) -> Health {
    let supervisor_responds = responds(core, shared);
    let region = core.segment.region();
    let workers: Vec<_> =
        shared.workers.lock().iter().map(|worker| worker.health(region, hung_ticks)).collect();
    let wanted = region.layout().sizes.workers as usize;
    let serve =
        |worker: &&WorkerHealth| matches!(worker.state, WorkerState::Idle | WorkerState::Running);
    let takes_tasks = core.is_open();
    Health {
        is_well: supervisor_responds
            && takes_tasks
            && workers.iter().filter(serve).count() >= wanted,
        takes_tasks,
        supervisor_responds,
        wanted,
        workers,
        in_use: core.book.in_use(),
        deaths: shared.deaths.load(HostOrdering::Relaxed),
    }
}

/// Whether the supervisor's loop goes round: it is asked to.
fn responds(core: &Core, shared: &Shared) -> bool {
    let before = shared.beats.load(HostOrdering::Relaxed);
    let deadline = Instant::now() + BEAT_PATIENCE;
    core.mailbox.ask(Request::Look);
    while shared.beats.load(HostOrdering::Relaxed) == before {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    true
}
