//! The worker driven as `nearcall::peer` drives it, in one process: an interpreter, real models,
//! and task bytes as the host writes them.
//!
//! A process has one interpreter, and the thread that starts it keeps the GIL; so all tests run
//! on one thread of their own, one after the other ([`on_python`]). What needs the process for
//! itself (forks, counting threads) runs in a process of its own ([`in_own_process`]).

mod answers;
mod arrays;
mod callee;
mod calls;
mod exceptions;
mod forks;
mod garbage;
mod in_place;
mod kept;
mod leaks;
mod lent;
mod processes;
mod protocol;
mod tensors;
mod values;

use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;
use std::{env, fs, process, thread};

use nearcall::peer::{
    AnswerBuf, DType, Handler, Limits, ModelSpec, Outcome, Patience, PythonError, Refusal, Runtime,
    Setup, Signature, SlotDouble, StartMethod, Tensor, ThreadReport, Value,
};
use pyo3::prelude::*;

use crate::handler::PythonModel;
use crate::interpreter;
use crate::runtime::PythonRuntime;

type Job = Box<dyn FnOnce() + Send>;

/// Runs a test on the thread that has the interpreter.
fn on_python(test: impl FnOnce() + Send + 'static) {
    static PYTHON: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            interpreter::start(&python_executable()).unwrap();
            queue.iter().for_each(|job| job());
        });
        Mutex::new(jobs)
    });
    let (done, result) = mpsc::channel();
    let job = Box::new(move || {
        let ended: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(test));
        done.send(ended).unwrap();
    });
    PYTHON.lock().unwrap_or_else(PoisonError::into_inner).send(job).unwrap();
    if let Err(panic) = result.recv().unwrap() {
        resume_unwind(panic);
    }
}

/// Runs a test on the interpreter's thread of a process in which no other test runs. `name` is the
/// test's path in the crate.
fn in_own_process(name: &str, test: impl FnOnce() + Send + 'static) {
    const MARK: &str = "NEARCALL_TEST_IN_OWN_PROCESS";
    if env::var_os(MARK).is_some() {
        return on_python(test);
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{name}:\n{said}");
}

/// The Python to look like: the one of an environment that has what a test wants, or else the one
/// that the worker was built for.
fn python_executable() -> String {
    env::var("NEARCALL_TEST_PYTHON").unwrap_or_else(|_| env!("NEARCALL_BUILT_FOR").to_owned())
}

/// A folder of Python modules, removed in the end.
struct Folder(PathBuf);

impl Folder {
    /// With these files, by their paths in it.
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Beside the test program, so below the target folder.
        let name = format!("nearcall-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = env::current_exe().unwrap().with_file_name(name);
        for (file, source) in files {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, source).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A model to be, from Python source that becomes a module of its own.
struct Case {
    setup: Setup,
}

/// The model `callable` of a module with this source, called without arguments.
fn case(source: &str, callable: &str) -> Case {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let module = format!("case_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    Python::attach(|py| {
        let (source, name) = (CString::new(source).unwrap(), CString::new(&*module).unwrap());
        let file = CString::new(format!("{module}.py")).unwrap();
        PyModule::from_code(py, &source, &file, &name).unwrap();
    });
    case_of(&module, callable)
}

/// The model `callable` of a module that is there already.
fn case_of(module: &str, callable: &str) -> Case {
    let model = ModelSpec {
        module: module.to_owned(),
        callable: callable.to_owned(),
        method: None,
        init_kwargs_json: None,
        python_path: Vec::new(),
    };
    Case {
        setup: Setup {
            model,
            signature: Signature::new(),
            executable: python_executable(),
            start_method: StartMethod::Auto,
            collect_between_calls: true,
            interrupts: false,
            patience: Patience { spin: Duration::ZERO, yields: 0, searchers: 0, parks: true },
            limits: Limits::default(),
        },
    }
}

impl Case {
    fn method(mut self, method: &str) -> Self {
        self.setup.model.method = Some(method.to_owned());
        self
    }

    fn init_kwargs(mut self, json: &str) -> Self {
        self.setup.model.init_kwargs_json = Some(json.to_owned());
        self
    }

    fn path(mut self, folder: &Path) -> Self {
        self.setup.model.python_path.push(folder.to_str().unwrap().to_owned());
        self
    }

    fn signature(mut self, signature: Signature) -> Self {
        self.setup.signature = signature;
        self
    }

    fn import(&self) -> Result<(PythonRuntime, ThreadReport), PythonError> {
        let mut runtime = PythonRuntime::new();
        let report = runtime.import(&self.setup)?;
        Ok((runtime, report))
    }

    /// The error of an import that must fail.
    fn import_error(&self) -> PythonError {
        match self.import() {
            Ok(_) => panic!("{:?} was imported", self.setup.model),
            Err(error) => error,
        }
    }

    fn start(&self) -> Result<PythonModel, PythonError> {
        self.import()?.0.instantiate()
    }

    /// The error of a start that must fail after the import.
    fn start_error(&self) -> PythonError {
        match self.import().unwrap().0.instantiate() {
            Ok(_) => panic!("{:?} was started", self.setup.model),
            Err(error) => error,
        }
    }
}

/// Task bytes: the fields of a tuple, one after the other.
fn task(arguments: impl bincode::Encode) -> Vec<u8> {
    bincode::encode_to_vec(arguments, bincode::config::standard()).unwrap()
}

/// The bytes of an argument of any type.
fn any(argument: impl Into<Value>) -> Vec<u8> {
    // A value is written alike both ways; in an answer a byte stands in front.
    let mut bytes = AnswerBuf::new(1 << 20);
    bytes.start_value();
    bytes.value(&argument.into());
    bytes.finish()[1..].to_vec()
}

/// Whether there is no numpy to test with, which is told.
fn lacks_numpy() -> bool {
    let lacks = Python::attach(|py| py.import("numpy").is_err());
    if lacks {
        eprintln!("SKIPPED: {} has no numpy; set NEARCALL_TEST_PYTHON", python_executable());
    }
    lacks
}

/// How a task ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Value(Value),
    Python(PythonError),
    Refused(Refusal),
}

impl Ended {
    fn decode(outcome: &[u8]) -> Self {
        match Outcome::decode(outcome).unwrap() {
            Outcome::Value(value) => Self::Value(value.to_owned()),
            Outcome::Python(error) => Self::Python(error),
            Outcome::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

/// A slot for all.
fn slot() -> &'static SlotDouble {
    static SLOT: LazyLock<SlotDouble> = LazyLock::new(|| SlotDouble::new().unwrap());
    &SLOT
}

/// Hands over a task with nothing in place.
fn handle_into(model: &mut PythonModel, task: &[u8], answer: &mut AnswerBuf) {
    model.handle(task, &mut slot().in_place(), answer);
}

/// One task, with room for an answer of `limit` bytes.
fn handle_in(model: &mut PythonModel, task: &[u8], limit: usize) -> Ended {
    let mut answer = AnswerBuf::new(limit);
    handle_into(model, task, &mut answer);
    Ended::decode(answer.finish())
}

fn handle(model: &mut PythonModel, task: &[u8]) -> Ended {
    handle_in(model, task, 64 * 1024)
}

/// The answer to a task that must have one.
#[track_caller]
fn value(model: &mut PythonModel, task: &[u8]) -> Value {
    match handle(model, task) {
        Ended::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

/// The type, the reason and the place of an answer that must be refused.
#[track_caller]
fn refused(model: &mut PythonModel, task: &[u8]) -> (String, String, String) {
    match handle(model, task) {
        Ended::Refused(Refusal::Unsupported { type_name, reason, place }) => {
            (type_name, reason, place)
        }
        other => panic!("{other:?}"),
    }
}

/// The exception of a task that must raise one.
#[track_caller]
fn exception(model: &mut PythonModel, task: &[u8]) -> PythonError {
    match handle(model, task) {
        Ended::Python(error) => error,
        other => panic!("{other:?}"),
    }
}
