//! A run: from its options to its files and tables.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::cases::{self, Group};
use crate::ground::{Ground, Places, Program};
use crate::interpreter::Interpreter;
use crate::machine::{self, CpuTime};
use crate::report;
use crate::rows::{Machine, Measured, Results};
use crate::{table, targets};

/// What a run measures, with what, and where it puts what came out.
#[derive(Debug, Clone)]
pub struct Options {
    /// Less of each case, or for a shorter time.
    pub quick: bool,
    /// These cases; all of them, or those of a quick run, if there are none.
    pub cases: Option<Vec<String>>,
    /// The environment (or interpreter); found as the library finds it if there is none.
    pub python: Option<PathBuf>,
    /// The `nearcall-worker` program; found as the library finds it if there is none.
    pub worker: Option<PathBuf>,
    /// The program with the machine's limits and the calls in one process.
    pub yardstick: PathBuf,
    /// The program with the rivals.
    pub rivals: PathBuf,
    /// The environment of the rivals; `python` if there is none.
    pub rivals_python: Option<PathBuf>,
    /// The environment of models that need numpy; `python` if there is none.
    pub numpy_python: Option<PathBuf>,
    /// Where the results go.
    pub json: PathBuf,
    /// Where the page goes.
    pub report: PathBuf,
}

/// A run that can begin.
pub struct Run {
    json: PathBuf,
    report: PathBuf,
    machine: Machine,
    places: Places,
    cases: Vec<(String, Vec<Group>)>,
}

impl Run {
    /// Finds out whether all is there that the run needs.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub fn prepare(options: &Options) -> anyhow::Result<Self> {
        let python = Interpreter::find(options.python.as_deref())?;
        let other = |path: &Option<PathBuf>| match path {
            Some(path) => Interpreter::find(Some(path)).map(|found| found.executable),
            None => Ok(python.executable.clone()),
        };
        let rivals_python = other(&options.rivals_python)?;
        let numpy_python = other(&options.numpy_python)?;
        let run = Self {
            json: options.json.clone(),
            report: options.report.clone(),
            machine: Machine::here(&python.version),
            places: Places {
                worker: options.worker.clone(),
                yardstick: options.yardstick.clone(),
                rivals: options.rivals.clone(),
                python: python.executable,
                rivals_python,
                numpy_python,
            },
            cases: chosen(options)?,
        };
        let groups = || run.cases.iter().flat_map(|(_, groups)| groups);
        let programs = [
            (Program::Yardstick, &run.places.yardstick, "--yardstick FILE"),
            (Program::Rivals, &run.places.rivals, "--rivals FILE"),
        ];
        for (program, path, option) in programs {
            ensure!(
                path.is_file() || groups().all(|group| group.needs != Some(program)),
                "{} is not there: `make bench` builds it, or name it with {option}",
                path.display()
            );
        }
        Ok(run)
    }

    /// Measures everything, writes the files, prints the tables. Between two systems it asks
    /// `stop` whether to end.
    ///
    /// # Errors
    /// The first turn that failed, a wrong answer included; then nothing is written, and all that
    /// was started has been ended.
    pub fn measure(self, stop: Box<dyn Fn() -> bool>) -> anyhow::Result<()> {
        let begun = (Instant::now(), CpuTime::now());
        let commit = machine::commit();
        let mut ground = Ground::prepare(self.places, stop)?;
        let mut measured = Vec::new();
        for (case, groups) in self.cases {
            measured.extend(take(&case, groups, &mut ground)?);
        }
        drop(ground);
        let mut machine = self.machine;
        if let (Some(before), Some(after)) = (begun.1, CpuTime::now()) {
            machine.steal_percent = after.stolen_since(before);
        }
        let rows = measured.iter().map(|one| one.row.clone()).collect();
        let results = Results { machine, commit, rows };
        say(&format!("measured in {:.0} s", begun.0.elapsed().as_secs_f64()));

        let json = serde_json::to_string_pretty(&results)? + "\n";
        write(&self.json, &json)?;
        write(&self.report, &report::html(&results, &measured)?)?;
        // When this fails, nobody reads it.
        let _ = print(&results, [&self.json, &self.report]);
        Ok(())
    }
}

/// The cases that are measured, in their own order, with what is measured for them.
fn chosen(options: &Options) -> anyhow::Result<Vec<(String, Vec<Group>)>> {
    let wanted = options.cases.as_deref();
    for name in wanted.unwrap_or_default() {
        if !cases::NAMES.contains(&name.as_str()) {
            bail!("there is no case {name:?}; there are {}", cases::NAMES.join(", "));
        }
    }
    let chosen = cases::NAMES.into_iter().filter(|case| match wanted {
        Some(wanted) => wanted.iter().any(|name| name == case),
        None => !options.quick || cases::QUICK.contains(case),
    });
    Ok(chosen.map(|case| (case.to_owned(), cases::plan(case, options.quick))).collect())
}

/// All turns of a case: the first one of each group, then the second one of each, and so on.
fn take(case: &str, mut groups: Vec<Group>, ground: &mut Ground) -> anyhow::Result<Vec<Measured>> {
    let turns = groups.iter().map(|group| group.repeats).max().unwrap_or(0);
    for turn in 0..turns {
        say(&format!("{case}: repeat {} of {turns}", turn + 1));
        for group in &mut groups {
            group.take(ground, turn).with_context(|| format!("the case {case} has failed"))?;
        }
    }
    let measured = groups.into_iter().map(Group::measured).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(measured.into_iter().flatten().collect())
}

/// To whoever watches.
fn say(text: &str) {
    // Not `eprintln!`, which panics when nobody reads stderr.
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

fn print(results: &Results, files: [&Path; 2]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    table::print(results, &mut out)?;
    targets::print(&targets::targets(&results.rows), &mut out)?;
    let [json, report] = files.map(Path::display);
    writeln!(out, "\n{json}\n{report}")?;
    out.flush()
}
