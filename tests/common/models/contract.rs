//! `contract/model.py` once more, so that the contract table also runs where there is no Python.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearcall::peer::{AnswerBuf, PythonError, Refusal, TaskReader};

/// The model of one worker.
pub(crate) struct Contract {
    folder: PathBuf,
    calls: i64,
}

impl Contract {
    /// `initialize(folder=…)`.
    pub(crate) fn new(init_kwargs_json: Option<&str>) -> Result<Self, PythonError> {
        let kwargs: serde_json::Value =
            serde_json::from_str(init_kwargs_json.unwrap_or("{}")).unwrap();
        let folder = PathBuf::from(kwargs["folder"].as_str().unwrap());
        if folder.join("broken").exists() {
            return Err(PythonError::new("RuntimeError", "as the file says"));
        }
        Ok(Self { folder, calls: 0 })
    }

    pub(crate) fn handle(&mut self, task: &[u8], answer: &mut AnswerBuf, interrupted: &AtomicBool) {
        self.calls += 1;
        let mut reader = TaskReader::new(task);
        let (Ok(op), Ok(x)) = (reader.str(), reader.int()) else {
            return answer.refuse(Refusal::MalformedTask);
        };
        let value = match op {
            "echo" => x,
            "calls" => self.calls,
            "big" => {
                answer.start_value();
                return answer.str(&"x".repeat(x.unsigned_abs() as usize));
            }
            "gate" | "deaf" => {
                self.note_run(x);
                while !self.folder.join(format!("open-{x}")).exists() {
                    if op == "gate" && interrupted.load(Ordering::Relaxed) {
                        return answer.python_error(PythonError::new("KeyboardInterrupt", ""));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                x
            }
            "raise" => {
                let message = format!("as asked: {x}");
                return answer.python_error(PythonError::new("ValueError", message));
            }
            "raise_exit" => {
                return answer.python_error(PythonError::new("SystemExit", x.to_string()));
            }
            "unanswerable" => {
                return answer.refuse(Refusal::Unsupported {
                    type_name: "set".to_owned(),
                    reason: "it has no place in an answer".to_owned(),
                    place: "answer".to_owned(),
                });
            }
            "die" => super::die(libc::SIGKILL.into()),
            "leave" => super::die(-x),
            _ => {
                return answer
                    .python_error(PythonError::new("ValueError", format!("no op {op:?}")));
            }
        };
        answer.start_value();
        answer.int(value);
    }

    fn note_run(&self, x: i64) {
        let path = self.folder.join(format!("runs-{x}"));
        let mut runs = OpenOptions::new().create(true).append(true).open(path).unwrap();
        // One write: who reads sees the whole line or nothing.
        runs.write_all(format!("{}\n", std::process::id()).as_bytes()).unwrap();
    }
}
