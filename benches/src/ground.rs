//! What the turns of a run have in common: the Python, the models, the other programs.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::engine::{Home, Running, Subject};
use crate::measure::{Span, Turn};
use crate::order::{NotHere, Order, Outcome, Peer};
use crate::workload::Models;

/// A program that carries out orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The machine's limits, and the same Python in one process.
    Yardstick,
    /// The rivals.
    Rivals,
}

/// Where the programs are, and which Pythons are used.
#[derive(Debug, Clone)]
pub struct Places {
    /// The `nearcall-worker` program; found as the library finds it if there is none.
    pub worker: Option<PathBuf>,
    /// The program [`Program::Yardstick`].
    pub yardstick: PathBuf,
    /// The program [`Program::Rivals`].
    pub rivals: PathBuf,
    /// The interpreter of the engine and of the yardstick.
    pub python: PathBuf,
    /// The interpreter of the rivals, with their packages.
    pub rivals_python: PathBuf,
    /// The interpreter of models that need numpy.
    pub numpy_python: PathBuf,
}

/// The ground on which all turns of a run take place. What they started ends with it.
pub struct Ground {
    home: Home,
    places: Places,
    /// Removed in the end.
    models: Models,
    yardstick: Option<Peer>,
    rivals: Option<Peer>,
    /// Whether there is numpy, once that was asked.
    has_numpy: Option<bool>,
    notes: Vec<String>,
    stop: Box<dyn Fn() -> bool>,
}

/// How often a rival is asked once more that has failed: some do not come up on a machine that is busy for a
/// moment (iceoryx2 gives up on services that take long to be created).
const RIVAL_AGAIN: usize = 2;

impl Ground {
    /// Nothing is started yet but the models written. Before anything is, `stop` is asked whether
    /// to end.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(places: Places, stop: Box<dyn Fn() -> bool>) -> anyhow::Result<Self> {
        let models = Models::unpack()?;
        let home = Home {
            python: places.python.clone(),
            worker: places.worker.clone(),
            models: models.path(),
        };
        Ok(Self {
            home,
            places,
            models,
            yardstick: None,
            rivals: None,
            has_numpy: None,
            notes: Vec::new(),
            stop,
        })
    }

    fn go_on(&self) -> anyhow::Result<()> {
        ensure!(!(self.stop)(), "interrupted");
        Ok(())
    }

    /// What all engines have in common.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// As [`home`](Self::home), for models that need numpy; `None`, and a note, if there is none.
    ///
    /// # Errors
    /// The interpreter does not run; or it is time to end.
    pub(crate) fn with_numpy(&mut self) -> anyhow::Result<Option<Home>> {
        self.go_on()?;
        let python = self.places.numpy_python.clone();
        let has_numpy = match self.has_numpy {
            Some(known) => known,
            None => *self.has_numpy.insert(has_numpy(&python)?),
        };
        if !has_numpy {
            let python = python.display();
            self.note(format!(
                "arrays are left out: {python} has no numpy; name an environment that has with \
                 --numpy-python VENV"
            ));
            return Ok(None);
        }
        Ok(Some(Home { python, ..self.home.clone() }))
    }

    /// An engine; `None`, and a note, if it cannot be had so on this machine.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(crate) fn engine(&mut self, subject: Subject) -> anyhow::Result<Option<Running>> {
        self.go_on()?;
        match Running::start(&self.home, subject) {
            Ok(running) => Ok(Some(running)),
            Err(error) => match error.downcast_ref::<NotHere>() {
                Some(NotHere(why)) => {
                    self.note(format!("{} is left out: {why}", subject.policy.name()));
                    Ok(None)
                }
                None => Err(error),
            },
        }
    }

    /// An order of one submitter and one worker, to be changed where it needs more.
    pub(crate) fn order(&self, program: Program, system: &str, span: Span) -> Order {
        let python = match program {
            Program::Yardstick => &self.places.python,
            Program::Rivals => &self.places.rivals_python,
        };
        Order::new(system, span, python.clone(), self.models.path())
    }

    /// Has an order carried out; `None`, and a note, if the system cannot be had here.
    ///
    /// # Errors
    /// What went wrong, a wrong answer included.
    pub(crate) fn ask(&mut self, program: Program, order: &Order) -> anyhow::Result<Option<Turn>> {
        self.go_on()?;
        let mut peer = match program {
            Program::Yardstick => self.yardstick.take(),
            Program::Rivals => self.rivals.take(),
        };
        let mut run = |this: &Self| match &mut peer {
            Some(peer) => peer.run(order),
            None => peer.insert(this.start(program)?).run(order),
        };
        let mut outcome = run(self);
        if let Program::Rivals = program {
            for _ in 0..RIVAL_AGAIN {
                let Err(error) = &outcome else { break };
                eprintln!("once more: {error:#}");
                outcome = run(self);
            }
        }
        match program {
            Program::Yardstick => self.yardstick = peer,
            Program::Rivals => self.rivals = peer,
        }
        let outcome = outcome?;
        Ok(self.turn_of(outcome, &order.system))
    }

    /// A program of the caller's own, for orders that are carried out at the same time as others.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(&self, program: Program) -> anyhow::Result<Peer> {
        Peer::start(match program {
            Program::Yardstick => &self.places.yardstick,
            Program::Rivals => &self.places.rivals,
        })
    }

    /// The turn; `None`, and a note, if there was none.
    pub(crate) fn turn_of(&mut self, outcome: Outcome, system: &str) -> Option<Turn> {
        match outcome {
            Outcome::Done(turn) => Some(turn),
            Outcome::Skipped(why) => {
                self.note(format!("{system} is left out: {why}"));
                None
            }
        }
    }

    /// Says something to whoever watches, once.
    pub(crate) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            // Not `eprintln!`, which panics when nobody reads stderr.
            let _ = writeln!(stderr(), "{text}");
            self.notes.push(text);
        }
    }
}

fn has_numpy(python: &Path) -> anyhow::Result<bool> {
    let status = Command::new(python)
        .args(["-c", "import numpy"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("{} does not start", python.display()))?;
    Ok(status.success())
}
