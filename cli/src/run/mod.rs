//! A model and a file of tasks: one line out for each line in.
//!
//! # Layout
//! - `lines`: the input, line by line, none of them too long
//! - `object`: a line as keywords and raw values
//! - `value`: the text of a value as a value
//! - `arguments`: the names that the first line gives, and a line's values under them
//! - `pipeline`: reader, submitting threads, writer
//! - `window`: brings finished lines back into order
//! - `output`: answers and errors as JSON
//! - `numbers`: numbers as JSON, tensors as nested lists
//! - `problem`: what is wrong inside a value, and where

mod arguments;
mod lines;
mod numbers;
mod object;
mod output;
mod pipeline;
mod problem;
mod value;
mod window;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use crate::bar::Bar;
use crate::options::{self, EngineArgs};
use crate::stop::Stop;
use lines::Lines;
use pipeline::{Pipeline, Tally};

/// A line may be this much longer than the task in it: digits, escapes and blanks take room.
const TEXT_PER_BYTE: usize = 8;

/// Room of a slot, in bytes: what nearly all tasks and answers fit.
const SLOT_BYTES: usize = 16 * 1024;

/// Calls a model with every task of a file.
///
/// Each line of the tasks' file is a JSON object of keyword arguments. The first line gives their
/// names, which every line must have; the values may be any JSON, and others in each line. The model
/// gets what Python's json.loads makes of them: 1 is an int, 1.0 a float, null is None, an object a
/// dict in its order, in which a key that comes again has its last value.
///
/// One line comes out for each line in, in order: {"answer": ...}, or {"error": {"kind",
/// "message", "traceback"}} with all three of them strings. A line that is no such task, a blank
/// one included, is an error of kind InvalidTask that names its line number.
///
/// JSON cannot carry everything: tuples become arrays, tensors (numpy arrays) nested ones of
/// numbers; an answer that holds bytes, NaN or an infinity becomes an error of kind NotJson that
/// names the place. In tasks there is no NaN or infinity either, no int beyond 64 bits, no lone
/// surrogate, and nothing nested deeper than 64; the error names the place.
///
/// Exit status: 0 if every line has an answer, 1 if some have errors, 2 if the engine did not
/// start or a file failed, 130 after Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The model, as module:Class or module:function
    #[arg(value_name = "MODULE:CALLABLE")]
    model: String,

    /// The tasks, one JSON object a line; "-" is stdin
    #[arg(long, value_name = "FILE.jsonl")]
    tasks: PathBuf,

    /// Where the answers go [default: stdout]
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,

    /// The class' method to call [default: the instance itself]
    #[arg(long, value_name = "NAME")]
    method: Option<String>,

    /// Keyword arguments for the model's initialize(), a JSON object
    #[arg(long, value_name = "JSON")]
    init: Option<String>,

    /// Threads that submit tasks and wait for answers [default: two for each worker]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,

    /// Folder to look for modules in, before all others; repeatable. The current directory
    /// follows
    #[arg(long, value_name = "DIR")]
    python_path: Vec<PathBuf>,

    /// The largest task or answer, in bytes as they travel
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    payload_bytes: usize,

    #[command(flatten)]
    engine: EngineArgs,
}

impl RunArgs {
    fn threads(&self) -> usize {
        self.threads.map_or_else(|| 2 * self.engine.worker_count(), |threads| threads as usize)
    }

    /// The current directory is searched, as by `python -m` and the usual Python servers.
    fn python_path(&self) -> Vec<PathBuf> {
        let here = Path::new(".");
        self.python_path.iter().map(PathBuf::as_path).chain([here]).map(options::absolute).collect()
    }
}

/// Runs the model over the file.
pub(crate) fn run(args: &RunArgs, stop: &Stop) -> anyhow::Result<u8> {
    let input = Input::open(&args.tasks)?;
    let total = input.total;
    let limit = args.payload_bytes.saturating_mul(TEXT_PER_BYTE).max(1 << 20);
    let mut lines = Lines::new(BufReader::with_capacity(256 * 1024, input.reader), limit);
    let output = Output::open(args.out.as_deref(), input.identity)?;

    let named = || args.tasks.display().to_string();
    let Some(first) = lines.next().transpose().with_context(named)? else {
        output.begin()?;
        return Ok(0);
    };
    let signature = arguments::signature(&first)
        .map_err(|problem| anyhow!("line 1 gives no names: {problem}"))
        .context("the first line must be a task, as the arguments' names are taken from it")
        .with_context(named)?;
    let python_path = args.python_path();
    let threads = args.threads();
    let mut builder = args
        .engine
        .builder(&args.model)
        .signature(signature)
        .slots(threads.max(64))
        .slot_bytes(SLOT_BYTES)
        .payload_bytes(args.payload_bytes);
    if let Some(method) = &args.method {
        builder = builder.method(method);
    }
    if let Some(init) = &args.init {
        builder = builder.init_kwargs_json(init);
    }
    for folder in &python_path {
        builder = builder.python_path(folder);
    }
    let engine =
        builder.start().map_err(|error| options::explain(error, &args.model, &python_path))?;

    // Only now, so that a model that does not start costs nobody an earlier run's answers.
    let writer = output.begin()?;
    let bar = Bar::of_bytes(total, args.out.is_none());
    let tally = Pipeline { engine: &engine, threads, stop, bar: &bar }
        .run(iter::once(Ok(first)).chain(lines), writer);
    drop(bar);
    let patience = if stop.asked() { Duration::ZERO } else { options::SHUTDOWN_PATIENCE };
    engine.shutdown(patience);
    status(tally?)
}

fn status(tally: Tally) -> anyhow::Result<u8> {
    if tally.errors > 0 {
        let Tally { lines, errors } = tally;
        let _ = writeln!(io::stderr(), "nearcall: {errors} of {lines} lines have an error");
    }
    Ok(u8::from(tally.errors > 0))
}

/// A file by what it is, not by its name.
type Identity = (u64, u64);

struct Input {
    reader: Box<dyn Read + Send>,
    /// Its size, if it has one.
    total: Option<u64>,
    /// For a regular file.
    identity: Option<Identity>,
}

impl Input {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::new(io::stdin()), total: None, identity: None });
        }
        let open = || {
            let file = File::open(path)?;
            let about = file.metadata()?;
            io::Result::Ok((file, about))
        };
        let (file, about) = open().with_context(|| format!("{} cannot be read", path.display()))?;
        if about.is_dir() {
            bail!("{} is a folder, not a file of tasks", path.display());
        }
        let regular = about.is_file();
        Ok(Self {
            reader: Box::new(file),
            total: regular.then_some(about.len()),
            identity: regular.then_some((about.dev(), about.ino())),
        })
    }
}

/// Where the answers go. It is opened early, for an early error, and emptied late.
enum Output {
    Stdout,
    File { file: File, regular: bool },
}

impl Output {
    fn open(path: Option<&Path>, input: Option<Identity>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            let about = file.metadata()?;
            io::Result::Ok((file, about))
        };
        let (file, about) =
            open().with_context(|| format!("{} cannot be written", path.display()))?;
        if input == Some((about.dev(), about.ino())) {
            bail!("{} is the tasks' file itself: choose another for --out", path.display());
        }
        Ok(Self::File { file, regular: about.is_file() })
    }

    fn begin(self) -> anyhow::Result<Box<dyn Write>> {
        match self {
            Self::Stdout => Ok(Box::new(io::stdout())),
            Self::File { file, regular } => {
                if regular {
                    file.set_len(0)?;
                }
                Ok(Box::new(file))
            }
        }
    }
}
