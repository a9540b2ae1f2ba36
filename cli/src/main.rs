//! The `nearcall` command: a host program around the library. It is not linked to libpython.
//!
//! # Layout
//! - `options`: what `run` and `demo` say about the engine, and how a failed start is explained
//! - `run`: a model and a file of tasks, one line out for each line in
//! - `demo`: the engine measured beside `multiprocessing.Pool` on the same tasks
//! - `bench`: the benchmark (`benches/`)
//! - `bar`: progress on a terminal
//! - `stop`: Ctrl-C as a question that loops ask

mod bar;
mod bench;
mod demo;
mod options;
mod run;
mod stop;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use stop::Stop;

/// The exit status when nothing could be done: wrong usage, or an engine that did not start.
const EXIT_FAILED: u8 = 2;

/// Calls Python models in worker processes through shared memory.
#[derive(Debug, Parser)]
#[command(name = "nearcall", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    Demo(demo::DemoArgs),
    Run(run::RunArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = Stop::on_signals().map_err(anyhow::Error::from).and_then(|stop| {
        let status = match cli.command {
            Command::Bench(args) => bench::bench(&args, &stop),
            Command::Demo(args) => demo::demo(&args, &stop),
            Command::Run(args) => run::run(&args, &stop),
        };
        // What was cut short by a signal has its status, whatever else went wrong on the way.
        stop.exit_status().map_or(status, Ok)
    });
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Not `eprintln!`, which panics when nobody reads stderr.
            let _ = writeln!(std::io::stderr(), "nearcall: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
