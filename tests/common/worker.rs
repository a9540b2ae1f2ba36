//! A worker without Python: the real fork server and the real serve loop, with models in Rust
//! that do what a test needs. The model's name chooses one: `test:echo`.

use std::process::ExitCode;
use std::time::Duration;

use nearcall::peer::{
    AnswerBuf, Handler, Kind, MalformedTask, PythonError, Refusal, Runtime, Scalar, Setup,
    Signature, TaskReader, ThreadReport, Value, run,
};

#[path = "models/storm.rs"]
mod storm;

fn main() -> ExitCode {
    run(None, Rust::default)
}

/// The "language" of this worker.
#[derive(Default)]
struct Rust {
    model: String,
    signature: Signature,
    /// What the file said at the import.
    content: String,
}

/// What stands in the file that a test has named.
fn content() -> String {
    std::env::var("NEARCALL_TEST_FILE")
        .and_then(|path| std::fs::read_to_string(path).map_err(|_| std::env::VarError::NotPresent))
        .unwrap_or_default()
}

impl Runtime for Rust {
    type Model = Model;

    fn import(&mut self, setup: &Setup) -> Result<ThreadReport, PythonError> {
        self.model.clone_from(&setup.model.callable);
        self.signature = setup.signature.clone();
        let mut report = ThreadReport { threads: 1, suspect: None };
        if self.model == "file" {
            self.content = content();
            if self.content == "import_raises" {
                return Err(PythonError::new("ImportError", "as the file says"));
            }
        }
        match self.model.as_str() {
            "import_raises" => return Err(PythonError::new("ImportError", "as asked")),
            "import_hangs" => loop {
                std::thread::park();
            },
            "import_dies" => std::process::abort(),
            "import_threads" => {
                report = ThreadReport { threads: 2, suspect: Some("busybody".to_owned()) };
            }
            _ => {}
        }
        Ok(report)
    }

    fn instantiate(&mut self) -> Result<Model, PythonError> {
        if self.model == "file" && content() == "initialize_raises" {
            return Err(PythonError::new("ValueError", "as the file says"));
        }
        match self.model.as_str() {
            "initialize_raises" => return Err(PythonError::new("ValueError", "as asked")),
            "initialize_hangs" => loop {
                std::thread::park();
            },
            "initialize_dies" => std::process::abort(),
            _ => {}
        }
        let storm = (self.model == "storm").then(storm::Storm::new).transpose()?;
        Ok(Model {
            name: self.model.clone(),
            signature: self.signature.clone(),
            content: self.content.clone(),
            calls: 0,
            storm,
        })
    }
}

struct Model {
    name: String,
    signature: Signature,
    content: String,
    calls: i64,
    storm: Option<storm::Storm>,
}

impl Handler for Model {
    fn handle(&mut self, task: &[u8], answer: &mut AnswerBuf) {
        self.calls += 1;
        if let Some(storm) = &self.storm {
            return storm.handle(task, answer);
        }
        let Ok(args) = decode(&self.signature, task) else {
            return answer.refuse(Refusal::MalformedTask);
        };
        let value = match (self.name.as_str(), args.first()) {
            // Its own process id, and how many tasks this worker has had.
            ("pid", _) => {
                Value::Tuple(vec![Value::Int(std::process::id().into()), Value::Int(self.calls)])
            }
            // Sleeps for so many milliseconds; then its own process id.
            ("sleep", Some(Value::Int(ms))) => {
                std::thread::sleep(Duration::from_millis(ms.unsigned_abs()));
                Value::Int(std::process::id().into())
            }
            // As `sleep`; then also how many tasks this worker has had.
            ("work", Some(Value::Int(ms))) => {
                std::thread::sleep(Duration::from_millis(ms.unsigned_abs()));
                Value::Tuple(vec![Value::Int(std::process::id().into()), Value::Int(self.calls)])
            }
            // A variable of the environment, or None.
            ("environment", Some(Value::Str(name))) => {
                std::env::var(name).map_or(Value::None, Value::Str)
            }
            // Computes for ever.
            ("loop", _) => loop {
                std::hint::spin_loop();
            },
            // What the file said at the import.
            ("file", _) => Value::Str(self.content.clone()),
            // Ends with this signal, or, if it is negative, with this exit status; 0 answers.
            ("die", Some(Value::Int(how))) if *how != 0 => die(*how),
            ("raise", Some(Value::Str(kind))) => {
                return answer.python_error(PythonError::new(kind.clone(), "as asked"));
            }
            // What the standard descriptors are.
            ("descriptors", _) => Value::Tuple(
                (0..3)
                    .map(|number| std::fs::read_link(format!("/proc/self/fd/{number}")))
                    .map(|target| Value::Str(format!("{target:?}")))
                    .collect(),
            ),
            // So many bytes.
            ("bytes", Some(Value::Int(len))) => Value::Bytes(vec![7; len.unsigned_abs() as usize]),
            _ => Value::Tuple(args),
        };
        answer.start_value();
        answer.value(&value);
    }

    fn tidy(&mut self) {
        // Longer than the audits give an idle worker that takes no task.
        if self.name == "slow_tidy" && self.calls == 1 {
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    fn finalize(self) {
        if self.name == "finalize_hangs" {
            loop {
                std::thread::park();
            }
        }
    }
}

fn die(how: i64) -> ! {
    let how = i32::try_from(how).unwrap_or(9);
    if how < 0 {
        // SAFETY: `_exit` has no preconditions.
        unsafe { libc::_exit(-how) }
    }
    loop {
        // Again and again: the standard library's handler of SIGSEGV lets the first one pass.
        // SAFETY: a signal to this thread's process.
        unsafe { libc::raise(how) };
    }
}

fn decode(signature: &Signature, task: &[u8]) -> Result<Vec<Value>, MalformedTask> {
    let mut reader = TaskReader::new(task);
    let one = |reader: &mut TaskReader<'_>, scalar| -> Result<Value, MalformedTask> {
        Ok(match scalar {
            Scalar::Bool => Value::Bool(reader.bool()?),
            Scalar::Int => Value::Int(reader.int()?),
            Scalar::Float => Value::Float(reader.float()?),
            Scalar::Str => Value::Str(reader.str()?.to_owned()),
        })
    };
    let mut values = Vec::new();
    for parameter in signature.parameters() {
        values.push(match parameter.kind {
            Kind::One(scalar) => one(&mut reader, scalar)?,
            Kind::List(scalar, _) => {
                let len = reader.list()?;
                Value::List((0..len).map(|_| one(&mut reader, scalar)).collect::<Result<_, _>>()?)
            }
        });
    }
    reader.finish()?;
    Ok(values)
}
