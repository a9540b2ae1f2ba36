//! The benchmark: a run, or two of them compared.

use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use nearcall_bench::cases;
use nearcall_bench::compare::compare;
use nearcall_bench::rows::Results;
use nearcall_bench::run::{Options, Run};

use crate::stop::Stop;

/// Measures the engine beside this machine's limits and its rivals.
///
/// Each system is measured in turns with the others, so that a drifting machine hits all alike,
/// and every answer is checked. The results go to a JSON file and, with curves, to a page; tables
/// of them, and of what was aimed at, to stdout. It needs an idle machine, and up to ten minutes
/// without --quick.
///
/// Exit status: 0 if all was measured, 1 if a turn failed, which a wrong answer is enough for, 2
/// if it could not begin, 130 after Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// In about a minute: hot, limits, awaited, throughput and tensors, and less of them
    #[arg(long)]
    quick: bool,

    /// Measure this case only; repeatable
    #[arg(long = "case", value_name = "NAME", value_parser = PossibleValuesParser::new(cases::NAMES))]
    cases: Vec<String>,

    /// Measure nothing: print what got faster and slower since this file was written
    #[arg(
        long,
        value_name = "OLD.json",
        conflicts_with_all = [
            "quick", "cases", "report", "python", "worker", "yardstick", "rivals", "rivals_python",
            "numpy_python",
        ]
    )]
    compare: Option<PathBuf>,

    /// Where the results go, or, for --compare, where the newer ones are
    #[arg(long, value_name = "FILE", default_value = "target/nearcall/bench.json")]
    json: PathBuf,

    /// Where the page goes [default: report.html beside the JSON file]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Virtual environment (or interpreter) [default: $VIRTUAL_ENV, else python3 on PATH]
    #[arg(long, value_name = "VENV")]
    python: Option<PathBuf>,

    /// The nearcall-worker program, built for that Python's minor version [default:
    /// $NEARCALL_WORKER, else beside this program, else on PATH]
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,

    /// The nearcall-yardstick program, built for that Python too [default: beside this program]
    #[arg(long, value_name = "FILE")]
    yardstick: Option<PathBuf>,

    /// The nearcall-rivals program [default: beside this program]
    #[arg(long, value_name = "FILE")]
    rivals: Option<PathBuf>,

    /// Virtual environment with the rivals' packages [default: that of --python]; rivals whose
    /// package is not there are left out
    #[arg(long, value_name = "VENV")]
    rivals_python: Option<PathBuf>,

    /// Virtual environment with numpy, for the case tensors, of the same minor version [default: that
    /// of --python]; the case is left out if numpy is not there
    #[arg(long, value_name = "VENV")]
    numpy_python: Option<PathBuf>,
}

/// Measures, or compares. The exit status says whether all went well.
pub(crate) fn bench(args: &BenchArgs, stop: &Stop) -> anyhow::Result<u8> {
    if let Some(old) = &args.compare {
        let comparison = compare(&read(old)?, &read(&args.json)?);
        // When this fails, nobody reads it.
        let _ = comparison.print(&mut stdout().lock());
        return Ok(0);
    }
    let run = Run::prepare(&args.options())?;
    let interrupted = stop.clone();
    match run.measure(Box::new(move || interrupted.asked())) {
        Ok(()) => Ok(0),
        Err(_) if stop.asked() => Ok(1),
        Err(error) => {
            // Not `eprintln!`, which panics when nobody reads stderr.
            let _ = writeln!(stderr(), "nearcall: {error:#}");
            Ok(1)
        }
    }
}

impl BenchArgs {
    fn options(&self) -> Options {
        Options {
            quick: self.quick,
            cases: (!self.cases.is_empty()).then(|| self.cases.clone()),
            python: self.python.clone(),
            worker: self.worker.clone(),
            yardstick: self.yardstick.clone().unwrap_or_else(|| sibling("nearcall-yardstick")),
            rivals: self.rivals.clone().unwrap_or_else(|| sibling("nearcall-rivals")),
            rivals_python: self.rivals_python.clone(),
            numpy_python: self.numpy_python.clone(),
            json: self.json.clone(),
            report: self.report.clone().unwrap_or_else(|| self.json.with_file_name("report.html")),
        }
    }
}

/// A program beside this one.
fn sibling(name: &str) -> PathBuf {
    // Without a path of its own, this one cannot say where that is: not in the current folder.
    std::env::current_exe().map_or_else(|_| name.into(), |own| own.with_file_name(name))
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| {
        format!("{name} cannot be read; `make bench` or `make bench-quick` makes such a file")
    })?;
    serde_json::from_str(&text).with_context(|| {
        format!("{name} has no results in it as `nearcall bench --json FILE` writes them")
    })
}
