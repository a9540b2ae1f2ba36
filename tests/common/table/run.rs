//! Carries out a case of the contract table on any Rust host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearcall::error::Code;
use nearcall::{Builder, Engine, Key, Signature, Task};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::{Case, Forgery, Misfit, Step, Table, What};
use crate::common::{process_state, signal, wait_until};

/// How an operation has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Pending,
    Int(i64),
    Text(usize),
    /// What no case answers.
    Other(String),
    Failed(Code, String),
}

impl End {
    /// The table's word for it.
    fn word(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Int(_) | Self::Text(_) | Self::Other(_) => "ok",
            Self::Failed(code, _) => code.as_str(),
        }
    }
}

/// What differs from one way to call the engine to another.
pub(crate) trait Host<'e> {
    fn new(engine: &'e Engine) -> Self;
    fn submit(&mut self, task: &Task<'_>, deadline: Option<Duration>) -> Result<Key, End>;
    fn call(&mut self, task: &Task<'_>, deadline: Duration) -> End;
    fn retrieve(&mut self, key: Key) -> End;
    fn wait(&mut self, key: Key, within: Duration) -> End;
    /// Lets go what stands for the task.
    fn abandon(&mut self, key: Key);
}

/// Runs a case in its own engine.
pub(crate) fn run<H>(table: &Table, case: &Case, builder: Builder)
where
    H: for<'e> HostFor<'e>,
{
    let folder = Folder::new();
    let mut builder = builder
        .method("run")
        .signature(Signature::new().str("op").int("x"))
        .init_kwargs_json(serde_json::json!({ "folder": folder.0 }).to_string());
    let setting = |name| table.setting(case, name);
    let size = |name| usize::try_from(setting(name).unwrap()).unwrap();
    builder = builder.workers(size("workers")).slots(size("slots"));
    builder = builder.slot_bytes(size("slot_bytes")).payload_bytes(size("payload_bytes"));
    builder = builder.retries(setting("retries").unwrap().try_into().unwrap());
    if let Some(grace) = setting("interrupt_ms") {
        builder = builder.interrupt(Duration::from_millis(grace));
    }
    let engine = builder.start().unwrap();
    let seen = {
        let host = <H as HostFor<'_>>::Host::new(&engine);
        let mut runner = Runner {
            case: &case.name,
            engine: &engine,
            host,
            folder: &folder,
            keys: BTreeMap::new(),
            last_error: String::new(),
            seen: BTreeSet::new(),
        };
        runner.run(&case.steps);
        runner.note_workers();
        runner.seen
    };
    drop(engine);
    wait_until("without workers", || {
        let left: Vec<_> = seen.iter().filter(|pid| process_state(**pid).is_some()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// A kind of host: [`Host`] borrows the engine.
pub(crate) trait HostFor<'e> {
    type Host: Host<'e>;
}

/// A case's folder, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nearcall-contract-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The lines of a file; none if it is not there.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Runner<'e, H> {
    /// Its name.
    case: &'e str,
    engine: &'e Engine,
    host: H,
    folder: &'e Folder,
    keys: BTreeMap<String, Key>,
    last_error: String,
    /// All workers that there ever were, as far as was looked.
    seen: BTreeSet<u32>,
}

impl<'e, H: Host<'e>> Runner<'e, H> {
    fn run(&mut self, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            self.note_workers();
            if let Err(complaint) = self.carry_out(step) {
                panic!("{}, step {}, {step:?}: {complaint}", self.case, index + 1);
            }
        }
    }

    fn note_workers(&mut self) {
        self.seen.extend(self.engine.worker_pids());
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Submit { op, x, r#as, deadline_ms, expect } => {
                let deadline = deadline_ms.map(Duration::from_millis);
                let submitted = self.host.submit(&Task::new().str(op).int(*x), deadline);
                self.submitted(submitted, r#as.as_deref(), expect)
            }
            Step::Call { op, x, deadline_ms, expect, value, length } => {
                let deadline = Duration::from_millis(*deadline_ms);
                let end = self.host.call(&Task::new().str(op).int(*x), deadline);
                self.ended(end, expect, *value, *length)
            }
            Step::Retrieve { key, expect, value, length } => {
                let end = self.host.retrieve(self.keys[key]);
                self.ended(end, expect, *value, *length)
            }
            Step::Wait { key, within_ms, expect, value, length } => {
                let end = self.host.wait(self.keys[key], Duration::from_millis(*within_ms));
                self.ended(end, expect, *value, *length)
            }
            Step::Cancel { key, expect } => {
                let cancelled = self.engine.cancel(self.keys[key]);
                same(&cancelled, expect)
            }
            Step::Abandon { key } => {
                self.host.abandon(self.keys[key]);
                Ok(())
            }
            Step::Forge { r#as, of, how } => {
                let number = self.keys[of].get();
                let number = match how {
                    Forgery::Later => number + (1000 << 16),
                    Forgery::NoSlot => number | 0xFFFF,
                };
                self.keys.insert(r#as.clone(), Key::from_number(number).ok_or("no key")?);
                Ok(())
            }
            Step::Misfit { how, expect } => {
                let letters = "x".repeat(100_000);
                let task = match how {
                    Misfit::Count => Task::new().str("echo"),
                    Misfit::Type => Task::new().str("echo").str("1"),
                    Misfit::Large => Task::new().str(&letters).int(1),
                };
                let submitted = self.host.submit(&task, None);
                self.submitted(submitted, None, expect)
            }
            Step::Message { contains } if self.last_error.contains(contains) => Ok(()),
            Step::Message { .. } => Err(format!("it is {:?}", self.last_error)),
            Step::File { name, there } => {
                let path = self.folder.0.join(name);
                let done = if *there { fs::write(path, "") } else { fs::remove_file(path) };
                done.map_err(|error| error.to_string())
            }
            Step::Until { what, is, x } => {
                wait_until("so", || same(&self.look(*what, *x), is));
                Ok(())
            }
            Step::KillWorker { x } => self.kill_worker(*x),
            Step::Shutdown { within_ms, drained } => {
                let report = self.engine.shutdown(Duration::from_millis(*within_ms));
                same(&report.drained, drained)
            }
            Step::ForkedChild { steps } => self.forked_child(steps),
        }
    }

    fn submitted(
        &mut self,
        submitted: Result<Key, End>,
        name: Option<&str>,
        expect: &str,
    ) -> Result<(), String> {
        match submitted {
            Ok(key) => {
                if let Some(name) = name {
                    self.keys.insert(name.to_owned(), key);
                }
                same("ok", expect)
            }
            Err(end) => self.ended(end, expect, None, None),
        }
    }

    fn ended(
        &mut self,
        end: End,
        expect: &str,
        value: Option<i64>,
        length: Option<usize>,
    ) -> Result<(), String> {
        if let End::Failed(_, text) = &end {
            self.last_error.clone_from(text);
        }
        let is_right = end.word() == expect
            && value.is_none_or(|value| end == End::Int(value))
            && length.is_none_or(|length| end == End::Text(length));
        if is_right { Ok(()) } else { Err(format!("it is {end:?}")) }
    }

    fn look(&mut self, what: What, x: Option<i64>) -> serde_json::Value {
        match what {
            What::InUse => self.engine.in_use().into(),
            What::Workers => self.engine.worker_pids().len().into(),
            What::Runs => self.folder.lines(&runs(x.unwrap())).len().into(),
            What::Call => {
                let task = Task::new().str("echo").int(0);
                let end = self.host.call(&task, Duration::from_secs(30));
                if let End::Failed(_, text) = &end {
                    self.last_error.clone_from(text);
                }
                end.word().into()
            }
        }
    }

    fn kill_worker(&mut self, x: Option<i64>) -> Result<(), String> {
        let workers = self.engine.worker_pids();
        let pid = match x {
            None => *workers.first().ok_or("there is no worker")?,
            Some(x) => {
                let lines = self.folder.lines(&runs(x));
                let last = lines.last().ok_or("it does not run")?;
                last.parse().map_err(|_| format!("{last:?}"))?
            }
        };
        if !workers.contains(&pid) {
            return Err(format!("{pid} is not among {workers:?}"));
        }
        signal(pid, Signal::SIGKILL);
        wait_until("gone", || {
            let workers = self.engine.worker_pids();
            if workers.contains(&pid) { Err(format!("{workers:?}")) } else { Ok(()) }
        });
        Ok(())
    }

    fn forked_child(&mut self, steps: &[Step]) -> Result<(), String> {
        // SAFETY: the child calls the engine, whose calls end before they touch anything that another
        // thread may have held, and leaves by `_exit`.
        match unsafe { fork() }.map_err(|error| error.to_string())? {
            ForkResult::Child => {
                let done = catch_unwind(AssertUnwindSafe(|| self.run(steps))).is_ok();
                // SAFETY: `_exit` has no preconditions.
                unsafe { libc::_exit(i32::from(!done)) }
            }
            ForkResult::Parent { child } => {
                let ended = waitpid(child, None).map_err(|error| error.to_string())?;
                same(&ended, &WaitStatus::Exited(child, 0))
            }
        }
    }
}

/// The file that has a line for each run of a gate.
fn runs(x: i64) -> String {
    format!("runs-{x}")
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(is: &T, expected: &T) -> Result<(), String> {
    if is == expected { Ok(()) } else { Err(format!("it is {is:?}, not {expected:?}")) }
}
