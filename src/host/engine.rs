//! The handle that users hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::answer::Answer;
use super::builder::Builder;
use super::core::{Core, Request};
use super::double;
use super::health::{self, Health, Watched, WorkerMemory};
use super::patience::WaitPolicy;
use super::supervisor::Shared;
use super::ticket::{AsKey, Ticket};
use super::wait::{Deadline, FAR};
use crate::error::{CallError, ReloadError, RetrieveError, SubmitError, TaskError, WaitError};
use crate::wire::{Signature, Task};

/// How long an engine that is dropped without [`Engine::shutdown`] lets tasks run on.
const DROP_PATIENCE: Duration = Duration::ZERO;

/// A model in worker processes, ready to be called from any thread.
///
/// [`submit`](Engine::submit), [`retrieve`](Engine::retrieve) and [`cancel`](Engine::cancel) never block;
/// [`wait`](Engine::wait) and [`call`](Engine::call) do. Share an engine between threads by
/// reference or in an [`Arc`]. Any number of engines can live in one process.
///
/// Dropping it ends it: running tasks get 0.3 s to finish, then the workers are killed. Call
/// [`shutdown`](Engine::shutdown) first to drain. An engine belongs to the process that started
/// it: in a forked child every call is an error, and drop does nothing.
pub struct Engine {
    core: Arc<Core>,
    backend: Backend,
}

/// Who is at the other end of the ring.
pub(crate) enum Backend {
    Processes {
        thread: Mutex<Option<JoinHandle<()>>>,
        shared: Arc<Shared>,
        report: StartReport,
        hung_ticks: u32,
    },
    Threads(Mutex<Vec<JoinHandle<()>>>),
}

/// How the workers came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartReport {
    /// The worker binary.
    pub worker: PathBuf,
    /// The interpreter whose environment the workers have; `None` for a worker without Python.
    pub python: Option<PathBuf>,
    /// Whether workers are forked; otherwise each one starts from scratch and imports the model
    /// itself.
    pub forked: bool,
    /// Threads of the fork server after the import, the main one included.
    pub import_threads: u32,
    /// The module that likely started them.
    pub suspect: Option<String>,
}

/// How a reload went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reload {
    /// Workers that were replaced.
    pub workers: usize,
    /// How long it took.
    pub took: Duration,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Every accepted task was done before the deadline.
    pub drained: bool,
    /// Workers that had to be killed.
    pub killed: usize,
}

impl Engine {
    /// Starts to configure an engine for `"module:Class"` or `"module:function"`.
    pub fn builder(model: impl Into<String>) -> Builder {
        Builder::new(model.into())
    }

    pub(crate) fn new(core: Arc<Core>, backend: Backend) -> Self {
        Self { core, backend }
    }

    /// Accepts a task. Never waits for a worker; makes no system call unless a worker or the
    /// supervisor sleeps, or another thread holds one of the host's short locks.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when all slots are taken: try again later. Otherwise the task cannot
    /// be accepted, now or ever; see [`SubmitError`].
    #[inline]
    pub fn submit(&self, task: &Task<'_>) -> Result<Ticket<'_>, SubmitError> {
        self.core.submit(task).map(|(key, all_slept)| Ticket::new(self, key, all_slept))
    }

    /// Accepts a task that has to be done by a deadline. If it is not, the task ends with
    /// [`TaskError::DeadlinePassed`](crate::error::TaskError::DeadlinePassed), whether somebody waits
    /// for it or not: one that waits for a worker is never run, and the worker that runs it is
    /// interrupted, if [`Builder::interrupt`] says so, and otherwise killed and replaced.
    ///
    /// Costs a look at the clock more than [`submit`](Engine::submit). The supervisor's own waking up
    /// is late by some 0.1 ms. A test double has none: there, threads that wait or retrieve keep the
    /// deadlines.
    ///
    /// # Errors
    /// As for [`submit`](Engine::submit).
    pub fn submit_by(
        &self,
        task: &Task<'_>,
        deadline: impl Into<Deadline>,
    ) -> Result<Ticket<'_>, SubmitError> {
        // Before the task is accepted: it counts from the call.
        let deadline = deadline.into().instant();
        let ticket = self.submit(task)?;
        if let Some(deadline) = deadline {
            self.core.set_deadline(ticket.key(), deadline);
        }
        Ok(ticket)
    }

    /// Ends a task that is not done yet: it ends with
    /// [`TaskError::Cancelled`](crate::error::TaskError::Cancelled), which is there to be retrieved at
    /// once. A task that waits for a worker is never run. The worker that runs it is interrupted or
    /// killed, as at a [deadline](Engine::submit_by).
    ///
    /// `false`: the task was over before, or this engine has no such task.
    pub fn cancel(&self, task: impl AsKey) -> bool {
        self.core.end_early(task.as_key(), TaskError::Cancelled)
    }

    /// Ends a task as [`cancel`](Engine::cancel) does, but only if no worker has begun it: no worker is
    /// interrupted or killed.
    ///
    /// `false`: a worker has it, or the task was over before, or this engine has no such task.
    pub fn cancel_waiting(&self, task: impl AsKey) -> bool {
        self.core.end_if_waiting(task.as_key(), || TaskError::Cancelled)
    }

    /// Takes the answer of a task; `Ok(None)` while it is not done. Never blocks.
    ///
    /// An answer can be taken once. An error other than [`RetrieveError::ForkedChild`] ends the
    /// task too.
    ///
    /// # Errors
    /// Why there is no answer and will be none; see [`RetrieveError`].
    #[inline]
    pub fn retrieve(&self, task: impl AsKey) -> Result<Option<Answer>, RetrieveError> {
        let mut answer = Answer::new();
        Ok(self.core.poll(task.as_key(), &mut answer)?.then_some(answer))
    }

    /// What [`retrieve`](Engine::retrieve) does, into an answer whose memory is used again.
    /// `false` while the task is not done; the answer is unchanged then.
    ///
    /// # Errors
    /// As for [`retrieve`](Engine::retrieve); the answer is empty then.
    #[inline]
    pub fn retrieve_into(
        &self,
        task: impl AsKey,
        answer: &mut Answer,
    ) -> Result<bool, RetrieveError> {
        self.core.poll(task.as_key(), answer).inspect_err(|_| answer.payload().clear())
    }

    /// Waits for the answer of a task. The deadline is the wait's, not the task's: that has one of its
    /// own ([`submit_by`](Engine::submit_by)), or none.
    ///
    /// A ticket given by value is used up: if the deadline passes, the task is abandoned. Give a
    /// reference, or a key, to be able to try again.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] after the deadline; otherwise as for
    /// [`retrieve`](Engine::retrieve).
    #[inline]
    pub fn wait(
        &self,
        task: impl AsKey,
        deadline: impl Into<Deadline>,
    ) -> Result<Answer, WaitError> {
        self.core.wait(task.as_key(), deadline.into(), task.all_slept())
    }

    /// What [`wait`](Engine::wait) does, into an answer whose memory is used again: a large array is
    /// copied into memory that is there, which takes a fraction of the time that fresh memory takes.
    ///
    /// # Errors
    /// As for [`wait`](Engine::wait). After [`WaitError::TimedOut`] the answer is unchanged, after any
    /// other it is empty.
    #[inline]
    pub fn wait_into(
        &self,
        task: impl AsKey,
        deadline: impl Into<Deadline>,
        answer: &mut Answer,
    ) -> Result<(), WaitError> {
        let all_slept = task.all_slept();
        let waited = self.core.wait_into(task.as_key(), deadline.into(), all_slept, answer);
        waited.inspect_err(|error| {
            if *error != WaitError::TimedOut {
                answer.payload().clear();
            }
        })
    }

    /// Submits a task and waits for its answer. At the deadline the task is ended, as after
    /// [`submit_by`](Engine::submit_by): with
    /// [`TaskError::DeadlinePassed`](crate::error::TaskError::DeadlinePassed).
    ///
    /// # Errors
    /// As for [`submit`](Engine::submit) and [`wait`](Engine::wait).
    #[inline]
    pub fn call(
        &self,
        task: &Task<'_>,
        deadline: impl Into<Deadline>,
    ) -> Result<Answer, CallError> {
        self.finish_call(self.submit(task)?, deadline.into())
    }

    /// What [`call`](Engine::call) does, into an answer whose memory is used again.
    ///
    /// # Errors
    /// As for [`call`](Engine::call). After one of [`submit`](Engine::submit)'s the answer is unchanged,
    /// after any other it is empty.
    #[inline]
    pub fn call_into(
        &self,
        task: &Task<'_>,
        deadline: impl Into<Deadline>,
        answer: &mut Answer,
    ) -> Result<(), CallError> {
        let ticket = self.submit(task)?;
        match self.wait_into(&ticket, deadline, answer) {
            Err(WaitError::TimedOut) => {
                answer.payload().clear();
                *answer = self.end_late(&ticket)?;
            }
            result => {
                // Nothing is left to abandon, as in `finish_call`.
                ticket.into_key();
                result?;
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn finish_call(
        &self,
        ticket: Ticket<'_>,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        let result = self.wait(&ticket, deadline);
        if matches!(result, Err(WaitError::TimedOut)) {
            return Ok(self.end_late(&ticket)?);
        }
        // Nothing is left to abandon: the task's outcome was taken, and its key is used up.
        ticket.into_key();
        Ok(result?)
    }

    /// Ends a call whose deadline has passed, for those who wait for it in a way of their own.
    #[cold]
    #[doc(hidden)]
    pub fn end_late(&self, task: impl AsKey) -> Result<Answer, WaitError> {
        // If it is over already, it ended in the last moment: that is its outcome.
        self.core.end_early(task.as_key(), TaskError::DeadlinePassed);
        self.retrieve(task)?.ok_or(WaitError::TimedOut)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn shared_core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn ensure_dispatch(&self) -> std::io::Result<()> {
        self.core.ensure_dispatch()
    }

    /// Gives up a task whose answer nobody wants any more, as dropping its [`Ticket`] does: for holders
    /// of a bare [`Key`](crate::Key). A task that runs, runs to its end; [`cancel`](Engine::cancel) stops it now.
    pub fn abandon(&self, task: impl AsKey) {
        self.core.abandon(task.as_key());
    }

    /// The signature that tasks are held against.
    pub fn signature(&self) -> &Signature {
        &self.core.signature
    }

    /// How many workers the engine has when it is whole.
    pub fn workers(&self) -> usize {
        self.core.segment.region().layout().sizes.workers as usize
    }

    /// How many tasks the engine holds at once.
    pub fn slots(&self) -> usize {
        self.core.segment.region().layout().sizes.slots as usize
    }

    /// The largest encoded task or answer that does not fit a slot, in bytes; 0 if all must fit.
    pub fn payload_bytes(&self) -> usize {
        self.core.segment.region().layout().sizes.payload_bytes as usize
    }

    /// Room of a slot, in bytes.
    pub fn slot_bytes(&self) -> usize {
        self.core.segment.region().layout().sizes.slot_bytes as usize
    }

    /// The wait policy in force: what was chosen, or [`WaitPolicy::Park`] where there is one CPU
    /// only.
    pub fn wait_policy(&self) -> WaitPolicy {
        self.core.policy
    }

    /// Slots that hold a task or an answer that was not retrieved, at this moment.
    pub fn in_use(&self) -> usize {
        if self.core.in_forked_child() {
            // The locks may have been held at the fork.
            return 0;
        }
        self.core.reclaim();
        self.core.book.in_use()
    }

    /// The process ids of the workers that serve at this moment; none for a test double.
    pub fn worker_pids(&self) -> Vec<u32> {
        match &self.backend {
            Backend::Processes { shared, .. } if !self.core.in_forked_child() => {
                shared.workers.lock().iter().filter_map(Watched::serving_pid).collect()
            }
            _ => Vec::new(),
        }
    }

    /// How the engine is: what the kernel says of its processes, what they say of the task they run,
    /// and whether the supervisor's loop goes round. Takes some 0.1 ms, at most 0.2 s.
    ///
    /// `None` for a test double, and in a forked child.
    pub fn health(&self) -> Option<Health> {
        match &self.backend {
            Backend::Processes { shared, hung_ticks, .. } if !self.core.in_forked_child() => {
                Some(health::look(&self.core, shared, *hung_ticks))
            }
            _ => None,
        }
    }

    /// What the worker processes have of the machine's memory, as the kernel counts it. Those that do
    /// not serve yet, or any more, are among them; one that has just ended is not. Empty for a test
    /// double, in a forked child, and where the kernel does not say.
    ///
    /// The kernel walks over all of their pages for it: some milliseconds for each gigabyte. For a
    /// report now and then, not for a hot path.
    pub fn memory(&self) -> Vec<WorkerMemory> {
        match &self.backend {
            Backend::Processes { shared, .. } if !self.core.in_forked_child() => {
                let workers = shared.workers.lock().clone();
                workers.iter().filter_map(Watched::memory).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Replaces all workers by such that have the model's code, and Python's packages, as they are
    /// now on disk, and waits for that.
    ///
    /// A new fork server imports the model beside the one that serves. Then each worker is replaced:
    /// its successor is ready before it is told to end, and it ends after the task at hand. No task
    /// fails, and none waits for longer than that.
    ///
    /// # Errors
    /// [`ReloadError::Start`]: the new code cannot be imported or initialised; the old workers go on.
    /// [`ReloadError::TimedOut`]: not all was done by the deadline. If no worker was replaced by then,
    /// none will be; otherwise it goes on. Others as [`ReloadError`] says.
    pub fn reload(&self, deadline: impl Into<Deadline>) -> Result<Reload, ReloadError> {
        if self.core.in_forked_child() {
            return Err(ReloadError::ForkedChild);
        }
        let Backend::Processes { thread, .. } = &self.backend else {
            return Err(ReloadError::Double);
        };
        let far = Instant::now() + FAR;
        let deadline = deadline.into().instant().map_or(far, |deadline| deadline.min(far));
        let (reply, replied) = sync_channel(1);
        if thread.lock().is_none() {
            return Err(ReloadError::Closed);
        }
        self.core.mailbox.ask(Request::Reload(deadline, reply));
        // The supervisor answers, or ends and drops what it was asked.
        replied.recv().unwrap_or(Err(ReloadError::Closed))
    }

    /// How the workers came to be; `None` for a test double.
    pub fn start_report(&self) -> Option<&StartReport> {
        match &self.backend {
            Backend::Processes { report, .. } => Some(report),
            Backend::Threads(_) => None,
        }
    }

    /// Ends the engine: takes no more tasks, waits for those accepted until the deadline, then
    /// gives running ones 0.3 s more, then kills. Tasks that were not begun end with
    /// [`TaskError::Closed`](crate::error::TaskError::Closed), those whose worker was killed with
    /// [`TaskError::Died`](crate::error::TaskError::Died). Answers stay to be retrieved.
    ///
    /// Returns within the deadline plus a second. A second call returns at once, or waits for the
    /// first.
    pub fn shutdown(&self, deadline: impl Into<Deadline>) -> Shutdown {
        let unasked = Shutdown { drained: true, killed: 0 };
        if self.core.in_forked_child() {
            return unasked;
        }
        let far = Instant::now() + FAR;
        let deadline = deadline.into().instant().map_or(far, |deadline| deadline.min(far));
        match &self.backend {
            Backend::Processes { thread, shared, .. } => {
                let mut thread = thread.lock();
                if let Some(thread) = thread.take() {
                    self.core.mailbox.ask(Request::Shutdown(deadline));
                    let _ = thread.join();
                }
                // Without a report the supervisor has ended by a panic.
                shared.shutdown.lock().unwrap_or(Shutdown { drained: false, killed: 0 })
            }
            Backend::Threads(threads) => {
                let mut threads = threads.lock();
                double::end(&self.core, std::mem::take(&mut *threads), deadline)
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown(DROP_PATIENCE);
        if !self.core.in_forked_child() {
            self.core.notices.close();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("workers", &self.workers())
            .field("slots", &self.slots())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}
