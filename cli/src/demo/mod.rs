//! The demo: one job on two systems, every answer checked.
//!
//! # Layout
//! - `tasks`: the job, and what its answers must be
//! - `engine`: a round of it on nearcall
//! - `pool`: a round of it on `multiprocessing.Pool`, in a Python process
//! - `report`: what came of it

mod engine;
mod files;
mod pool;
mod report;
mod tasks;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nearcall::Signature;

use crate::bar::Bar;
use crate::options::{self, EngineArgs};
use crate::stop::Stop;
use files::Files;
use report::{Measured, System};
use tasks::DemoTask;

const MODEL: &str = "big_model:Engine";

/// Tasks that a system answers before the clock starts, so that none is measured cold.
const WARM_UP: usize = 200;

/// Rounds for each way of polling; the median counts.
const ROUNDS: usize = 3;

/// Runs the same tasks through nearcall and through multiprocessing.Pool.
///
/// 16 threads each submit a task and poll for its answer, then take the next. Every answer is
/// compared with one computed here. Both systems have the same workers, tasks and model, and are
/// warmed up; once with the model's sleep, once without. Exit status: 0 if every answer was right,
/// 1 if one was wrong or missing, 2 if something did not start.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many tasks, varied but always the same
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,

    /// Threads that submit and retrieve
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,

    /// Also write the results to this file, as a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,
}

/// How a thread waits between two looks: at first it only lets others run, then it sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polling {
    pub(crate) yields: u32,
    pub(crate) pause: Duration,
}

const fn polling(yields: u32, pause_us: u64) -> Polling {
    Polling { yields, pause: Duration::from_micros(pause_us) }
}

/// The job with or without the model's sleep.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) sleep: bool,
    rounds: usize,
    /// Ways to poll. Each system is judged by the one that serves it best.
    engine: &'static [Polling],
    pool: &'static [Polling],
}

/// With the sleep a task takes milliseconds, and a look each millisecond is what a caller can
/// afford. Without it a caller that cares polls harder; but 16 Python threads that poll hard keep
/// each other from the interpreter, so the pool is better off with long pauses: it is tried with
/// pauses around its best, as the engine is around its own.
const VARIANTS: [Variant; 2] = [
    Variant {
        name: "sleep",
        sleep: true,
        rounds: 1,
        engine: &[polling(4, 1000)],
        pool: &[polling(0, 1000)],
    },
    Variant {
        name: "cpu",
        sleep: false,
        rounds: ROUNDS,
        engine: &[polling(0, 20), polling(0, 100), polling(8, 50), polling(64, 50)],
        pool: &[polling(0, 200), polling(0, 500), polling(0, 1000), polling(0, 2000)],
    },
];

/// One pass over all tasks.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) seconds: f64,
    /// In the order of the tasks; `None` where there was no answer.
    pub(crate) answers: Vec<Option<i64>>,
    /// From before the submit until the answer was there.
    pub(crate) latencies_ns: Vec<u64>,
}

/// Runs everything. The exit status says whether all answers were right.
pub(crate) fn demo(args: &DemoArgs, stop: &Stop) -> anyhow::Result<u8> {
    let demo = Demo {
        args,
        stop,
        tasks: tasks::generate(args.tasks as usize),
        files: Files::unpack().context("the demo's model cannot be written to a folder")?,
    };
    let mut measured = Vec::new();
    for variant in &VARIANTS {
        let (engine, python) = demo.on_engine(variant)?;
        measured.push(engine);
        if !stop.asked() {
            measured.push(demo.on_pool(variant, python)?);
        }
        if stop.asked() {
            return Ok(1);
        }
    }
    report::print(&measured, args.threads, args.engine.worker_count());
    if let Some(path) = &args.json {
        report::write_json(&measured, path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(u8::from(measured.iter().any(|one| !one.all_correct())))
}

/// What the two systems have in common.
struct Demo<'a> {
    args: &'a DemoArgs,
    stop: &'a Stop,
    tasks: Vec<DemoTask>,
    files: Files,
}

impl Demo<'_> {
    /// The variant on nearcall, and the interpreter that its workers had.
    fn on_engine(&self, variant: &Variant) -> anyhow::Result<(Measured, Option<PathBuf>)> {
        let models = self.files.models();
        let engine = self
            .args
            .engine
            .builder(MODEL)
            .method("run_big_model")
            .python_path(&models)
            .init_kwargs_json(format!("{{\"sleep\": {}}}", variant.sleep))
            .signature(
                Signature::new()
                    .floats("float_features", ..)
                    .strs("str_features", ..)
                    .int("int_feature"),
            )
            .slots((self.args.threads as usize).max(64))
            .start()
            .map_err(|error| options::explain(error, MODEL, &[models]))?;
        let crew =
            engine::Crew { engine: &engine, threads: self.args.threads as usize, stop: self.stop };

        let warm_up = &self.tasks[..WARM_UP.min(self.tasks.len())];
        crew.round(warm_up, polling(0, 1000), &self.bar(variant, System::Nearcall))?;
        let mut ways = Vec::new();
        for &way in variant.engine {
            let mut rounds = Vec::new();
            for _ in 0..variant.rounds {
                rounds.push(crew.round(&self.tasks, way, &self.bar(variant, System::Nearcall))?);
            }
            ways.push(rounds);
        }
        let python = engine.start_report().and_then(|report| report.python.clone());
        engine.shutdown(options::SHUTDOWN_PATIENCE);
        Ok((Measured::best(variant, System::Nearcall, &self.tasks, ways)?, python))
    }

    /// The variant on the pool, in the same environment.
    fn on_pool(&self, variant: &Variant, python: Option<PathBuf>) -> anyhow::Result<Measured> {
        let python = python.context("the worker has no Python in it: it serves no models")?;
        let rounds = variant.pool.iter().flat_map(|&way| std::iter::repeat_n(way, variant.rounds));
        let request = pool::Request {
            workers: self.args.engine.worker_count(),
            threads: self.args.threads,
            capacity: self.args.threads.max(64),
            sleep: variant.sleep,
            warm_up: WARM_UP,
            rounds: rounds.map(pool::RoundRequest::from).collect(),
            tasks: &self.tasks,
        };
        let bar = self.bar(variant, System::Pool);
        let mut rounds = pool::run(&python, &self.files.driver(), &request, self.stop, &bar)?;
        let mut ways = Vec::new();
        while !rounds.is_empty() {
            let rest = rounds.split_off(variant.rounds.min(rounds.len()));
            ways.push(std::mem::replace(&mut rounds, rest));
        }
        Measured::best(variant, System::Pool, &self.tasks, ways)
    }

    fn bar(&self, variant: &Variant, system: System) -> Bar {
        Bar::of_tasks(format!("{}: {}", variant.name, system.name()), self.tasks.len() as u64)
    }
}
