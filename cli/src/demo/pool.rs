//! The job on `multiprocessing.Pool`: a Python process that is told what to do and timed by itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::tasks::DemoTask;
use super::{Polling, Round};
use crate::bar::Bar;
use crate::stop::Stop;

/// How long a look for a signal can be put off.
const TICK: Duration = Duration::from_millis(100);

/// What `pool_driver.py` is asked to do; see there.
#[derive(Debug, Serialize)]
pub(crate) struct Request<'a> {
    pub(crate) workers: usize,
    pub(crate) threads: u32,
    pub(crate) capacity: u32,
    pub(crate) sleep: bool,
    pub(crate) warm_up: usize,
    pub(crate) rounds: Vec<RoundRequest>,
    pub(crate) tasks: &'a [DemoTask],
}

#[derive(Debug, Serialize)]
pub(crate) struct RoundRequest {
    yields: u32,
    pause: f64,
}

impl From<Polling> for RoundRequest {
    fn from(polling: Polling) -> Self {
        Self { yields: polling.yields, pause: polling.pause.as_secs_f64() }
    }
}

/// A line of what it says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Done(u64),
    Round(Answered),
}

#[derive(Debug, Deserialize)]
struct Answered {
    seconds: f64,
    /// The model's own (value, message).
    answers: Vec<Option<(i64, String)>>,
    latencies_ns: Vec<u64>,
}

/// Runs the driver. Fewer rounds than asked for come back only when a signal asked to end.
pub(crate) fn run(
    python: &Path,
    script: &Path,
    request: &Request<'_>,
    stop: &Stop,
    bar: &Bar,
) -> anyhow::Result<Vec<Round>> {
    let mut driver = Driver::start(python, script)
        .with_context(|| format!("{} cannot be run", python.display()))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    driver.stdin.write_all(&line).context("the pool's driver takes no tasks")?;

    let output = driver.child.stdout.take().context("the pool's driver has no output")?;
    let (sender, messages) = mpsc::channel();
    // It ends with the driver's output.
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut rounds = Vec::new();
    while rounds.len() < request.rounds.len() && !stop.asked() {
        match messages.recv_timeout(TICK) {
            Ok(line) => match serde_json::from_str(&line?).context("the pool's driver")? {
                Message::Done(tasks) => bar.set(tasks),
                Message::Round(round) => rounds.push(Round {
                    seconds: round.seconds,
                    answers: round
                        .answers
                        .into_iter()
                        .map(|one| one.map(|(value, _)| value))
                        .collect(),
                    latencies_ns: round.latencies_ns,
                }),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the pool's driver ended early: {}", driver.child.wait()?)
            }
        }
    }
    Ok(rounds)
}

/// The driver's process, which leads a group with its pool in it.
struct Driver {
    child: Child,
    /// Held open: the driver ends itself when it is closed, however this program ends.
    stdin: ChildStdin,
}

impl Driver {
    fn start(python: &Path, script: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Away from the terminal's Ctrl-C: who is asked to end is this program.
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take().context("it has no stdin")?;
        Ok(Self { child, stdin })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // There is nothing in the pool that wants to end in order. Until it is waited for, the
        // leader's id is its own, so the group's is, too.
        if let Ok(None) = self.child.try_wait()
            && let Ok(group) = i32::try_from(self.child.id())
        {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
