//! The storm: an engine under many callers, while everything that can die, stop or lie does.
//!
//! A host like any other, which uses the public interface only. Its workers are the tests' worker
//! (`tests/common/worker.rs`), so no Python is needed. Each task's answer follows from the task's
//! number, so each can be checked. What is judged, and how: `docs/architecture.md`, "Storm".
//!
//! # Layout
//! - `plan`: what follows from the seed: rounds, and what each actor does when
//! - `round`: one engine from start to shutdown, and what must be true at the end
//! - `submitter`: callers of every kind, and the check of each task's end
//! - `havoc`: who kills, stops, reloads, and has workers write into the segment
//! - `watch`: when which worker ended, who has not moved for long, what a hung storm looks like
//! - `journal`: what the engine has said lately
//! - `ledger`: how often each task has run
//! - `tally`: counts and the report
//! - `leaks`: what is left behind
//!
//! # What a seed replays
//! Every choice: the engines' settings, each submitter's operations and tasks, each actor's acts and
//! the pauses between them, in ticks of a millisecond. Choice number n of an actor depends on the
//! seed, the actor and n, on nothing that happens. Not replayed is what the kernel's scheduler makes of
//! it: which task a worker has in its hands when the signal comes, how many operations fit into
//! a round.

mod havoc;
mod journal;
mod leaks;
mod ledger;
mod plan;
mod round;
mod submitter;
mod tally;
mod watch;

#[path = "../../tests/common/models/storm_orders.rs"]
mod orders;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::leaks::Possessions;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::tally::Record;

/// The exit status when nothing could be said: wrong usage, or an engine that did not start.
const EXIT_FAILED: u8 = 2;

/// Calls a model from many threads while everything that can die, stop or lie does.
#[derive(Debug, Parser)]
#[command(name = "nearcall-storm", version)]
struct Args {
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What all choices follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this round of those that the seconds give.
    #[arg(long)]
    round: Option<u64>,
    /// The tests' worker; else the one beside this program.
    #[arg(long)]
    worker: Option<PathBuf>,
    /// Where the report goes, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match storm(&Args::parse()) {
        Ok(status) => status,
        Err(error) => {
            // Not `eprintln!`, which panics when nobody reads stderr.
            let _ = writeln!(std::io::stderr(), "storm: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn storm(args: &Args) -> anyhow::Result<ExitCode> {
    let worker = match &args.worker {
        Some(worker) => worker.clone(),
        None => {
            std::env::current_exe().context("who am I?")?.with_file_name("nearcall-test-worker")
        }
    };
    let ledger = Ledger::new().context("could not make the ledger")?;
    let record = Record::new(args.seconds, args.seed, args.json.clone());
    let before = Possessions::now();
    for plan in Plan::all(args.seconds, args.seed) {
        if args.round.is_some_and(|wanted| wanted != plan.index) {
            continue;
        }
        round::run(&plan, &worker, &ledger, &record)?;
        if record.is_doomed() {
            break;
        }
    }
    before.compare(&record);
    Ok(record.report())
}
