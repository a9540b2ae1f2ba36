//! The pipe between the benchmark and the programs that run what it is compared with: one line of
//! JSON for an [`Order`], one line back.
//!
//! Each order starts its system, warms it up, measures, and ends it again: between two turns
//! nothing of it runs.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use crate::measure::{Span, Turn};
use crate::workload::Workload;

/// What a system is asked to do in one turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its name, as in `bench.json`.
    pub system: String,
    /// What to call; `None` for the machine's limits, which call nothing.
    pub workload: Option<Workload>,
    /// Threads (or what the system has in their place) that call, one call at a time each.
    pub submitters: usize,
    /// Processes that answer.
    pub workers: usize,
    /// Calls on their way at once, all from one thread, instead of one at a time.
    pub pipelined: Option<usize>,
    /// For how long.
    pub span: Span,
    /// Instead of one call after another: one call each period.
    pub pace: Option<Pace>,
    /// The interpreter (of a virtual environment, if the system needs packages).
    pub python: PathBuf,
    /// The folder with the models.
    pub models: PathBuf,
}

impl Order {
    /// An order of one submitter and one worker that calls nothing, to be changed where it needs
    /// more.
    pub fn new(system: &str, span: Span, python: PathBuf, models: PathBuf) -> Self {
        Self {
            system: system.to_owned(),
            workload: None,
            submitters: 1,
            workers: 1,
            pipelined: None,
            span,
            pace: None,
            python,
            models,
        }
    }
}

/// One call each period, on a schedule that several processes share.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Pace {
    /// When the first call is due: nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// Between two calls, in nanoseconds.
    pub period_ns: u64,
    /// How many calls. The first of them is not counted.
    pub calls: u64,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Done(Turn),
    /// The system cannot be had on this machine, for this reason.
    Skipped(String),
    /// It was had, and failed.
    Failed(String),
}

/// How a turn came out.
#[derive(Debug)]
pub enum Outcome {
    /// It was measured.
    Done(Turn),
    /// The system cannot be had on this machine, for this reason.
    Skipped(String),
}

/// The error with which a system says that it cannot be had here: the turn is skipped, not failed.
#[derive(Debug)]
pub struct NotHere(pub String);

impl std::fmt::Display for NotHere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotHere {}

/// A program that carries out orders.
pub struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    name: String,
}

impl Peer {
    /// Starts the program.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(program: &Path) -> anyhow::Result<Self> {
        let name = program.display().to_string();
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} could not be started"))?;
        let to = child.stdin.take().context("no pipe")?;
        let from = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self { child, to, from, name })
    }

    /// Gives it an order. [`finish`](Self::finish) waits for what comes of it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn begin(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        let sent = self.to.write_all(line.as_bytes()).and_then(|()| self.to.flush());
        sent.with_context(|| format!("{} does not listen", self.name))
    }

    /// The outcome of the last order.
    ///
    /// # Errors
    /// What went wrong, a wrong answer included.
    pub fn finish(&mut self) -> anyhow::Result<Outcome> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(Reply::Done(turn)) => Ok(Outcome::Done(turn)),
            Ok(Reply::Skipped(why)) => Ok(Outcome::Skipped(why)),
            Ok(Reply::Failed(why)) => Err(anyhow!("{}: {why}", self.name)),
            Err(_) => Err(anyhow!("{} has ended", self.name)),
        }
    }

    /// An order, and its outcome.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin) and [`finish`](Self::finish).
    pub fn run(&mut self, order: &Order) -> anyhow::Result<Outcome> {
        self.begin(order)?;
        self.finish()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Between two orders it reads its stdin, and ends when that is closed; but this may be in
        // the middle of one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The main loop of such a program: carries out orders until stdin is closed.
///
/// # Errors
/// When the pipe breaks.
pub fn carry_out(mut system: impl FnMut(&Order) -> anyhow::Result<Turn>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let reply = match system(&order) {
            Ok(turn) => Reply::Done(turn),
            Err(error) => match error.downcast_ref::<NotHere>() {
                Some(NotHere(why)) => Reply::Skipped(why.clone()),
                None => Reply::Failed(format!("{}: {error:#}", order.system)),
            },
        };
        serde_json::to_writer(&mut stdout, &reply)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
}
