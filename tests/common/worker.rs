//! A worker without Python: the real fork server and the real serve loop, with models in Rust
//! that do what a test needs. The model's name chooses one: `test:echo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's worker may die of anything")]
#![allow(clippy::zombie_processes, reason = "and leave anything behind")]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use nearcall::fault_point;
use nearcall::peer::{
    AnswerBuf, Argument, Handler, InPlace, KeptTensors, Kind, MalformedTask, PythonError, Refusal,
    Runtime, Scalar, Setup, Signature, TaskReader, TensorMemory, ThreadReport, Value, run,
};

#[path = "models/contract.rs"]
mod contract;
#[path = "models/storm.rs"]
mod storm;

fn main() -> ExitCode {
    run(None, Rust::default)
}

/// The "language" of this worker.
#[derive(Default)]
struct Rust {
    model: String,
    init_kwargs_json: Option<String>,
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
        fault_point("model.importing");
        self.model.clone_from(&setup.model.callable);
        self.init_kwargs_json.clone_from(&setup.model.init_kwargs_json);
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
        if self.model == "file" {
            match content().as_str() {
                "initialize_raises" => {
                    return Err(PythonError::new("ValueError", "as the file says"));
                }
                "initialize_hangs" => loop {
                    std::thread::park();
                },
                "initialize_kills_the_server" => {
                    // SAFETY: has no preconditions.
                    let server = unsafe { libc::getppid() };
                    // SAFETY: neither has this; the fork server is this process' parent.
                    unsafe { libc::kill(server, libc::SIGKILL) };
                    loop {
                        std::thread::park();
                    }
                }
                _ => {}
            }
        }
        match self.model.as_str() {
            "initialize_raises" => return Err(PythonError::new("ValueError", "as asked")),
            "initialize_hangs" => loop {
                std::thread::park();
            },
            "initialize_dies" => std::process::abort(),
            "slow_start" => std::thread::sleep(Duration::from_millis(300)),
            _ => {}
        }
        let storm = (self.model == "storm").then(storm::Storm::new).transpose()?;
        let contract = (self.model == "contract")
            .then(|| contract::Contract::new(self.init_kwargs_json.as_deref()))
            .transpose()?;
        Ok(Model {
            name: self.model.clone(),
            signature: self.signature.clone(),
            content: self.content.clone(),
            calls: 0,
            storm,
            contract,
            kept: Vec::new(),
        })
    }
}

struct Model {
    name: String,
    signature: Signature,
    content: String,
    calls: i64,
    storm: Option<storm::Storm>,
    contract: Option<contract::Contract>,
    kept: Vec<(TensorMemory, Option<KeptTensors>)>,
}

impl Model {
    /// Models that have tensors in place, and do not copy them.
    fn handle_in_place(&mut self, task: &[u8], in_place: &mut InPlace<'_>, answer: &mut AnswerBuf) {
        let mut reader = TaskReader::new(task);
        let mut tensors = Vec::new();
        while let Ok(Argument::Placed(tensor)) = reader.argument() {
            tensors.push((tensor, in_place.memory(&tensor).unwrap()));
        }
        // SAFETY: tensors in place are mapped while the task is at hand, or kept.
        let first_byte = |memory: &TensorMemory| unsafe { memory.start.as_ptr().read_volatile() };
        match (self.name.as_str(), &tensors[..]) {
            // Writes twice each byte of the first into the second, and returns that.
            ("double", [(_, input), (output, room), ..]) => {
                for at in 0..input.bytes {
                    // SAFETY: inside the input.
                    let from = unsafe { input.start.add(at) };
                    // SAFETY: as above.
                    let byte = unsafe { from.read_volatile() };
                    fault_point("model.calling");
                    // SAFETY: inside the output, which is as long.
                    let to = unsafe { room.start.add(at) };
                    // SAFETY: mapped while the task is at hand, to be written.
                    unsafe { to.write_volatile(byte.wrapping_mul(2)) };
                }
                let address = room.start.as_ptr();
                let offset = in_place.output_at(address, room.bytes).unwrap();
                assert_eq!(in_place.output_at(address, room.bytes), None, "named already");
                let shape: Vec<_> = output.shape().map(|extent| extent as usize).collect();
                answer.start_value();
                answer.placed(output.dtype(), &shape, offset);
            }
            // Keeps its input for ever, and says the first byte of all that it has kept before.
            ("keep", [(_, input), ..]) => {
                answer.start_value();
                answer.list(self.kept.len());
                for (memory, _) in &self.kept {
                    answer.int(first_byte(memory).into());
                }
                self.kept.push((*input, in_place.keep()));
            }
            _ => answer.refuse(Refusal::MalformedTask),
        }
    }
}

impl Handler for Model {
    fn handle(&mut self, task: &[u8], in_place: &mut InPlace<'_>, answer: &mut AnswerBuf) {
        self.calls += 1;
        if let Some(storm) = &mut self.storm {
            return storm.handle(task, in_place, answer);
        }
        if let Some(contract) = &mut self.contract {
            return contract.handle(task, answer, &INTERRUPTED);
        }
        if let "double" | "keep" = self.name.as_str() {
            return self.handle_in_place(task, in_place, answer);
        }
        fault_point("model.decoding");
        let Ok(args) = decode(&self.signature, task, in_place) else {
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
            // Takes a millisecond, in which others may be woken.
            ("slow_echo", _) => {
                std::thread::sleep(Duration::from_millis(1));
                fault_point("model.calling");
                Value::Tuple(args)
            }
            // As `sleep`, until it is interrupted; also tells how often it ever was.
            ("interruptible", Some(Value::Int(ms))) => {
                if args.get(1) == Some(&Value::Bool(true)) {
                    elsewhere();
                }
                let end = Instant::now() + Duration::from_millis(ms.unsigned_abs());
                while Instant::now() < end {
                    if INTERRUPTED.load(Ordering::Relaxed) {
                        return answer.python_error(PythonError::new("KeyboardInterrupt", ""));
                    }
                    std::thread::yield_now();
                }
                let strikes = STRIKES.load(Ordering::Relaxed);
                Value::Tuple(vec![Value::Int(std::process::id().into()), Value::Int(strikes)])
            }
            // Is interrupted, and waits only then, for a system call that is interrupted.
            ("waits_when_struck", Some(Value::Bool(true))) => {
                while !INTERRUPTED.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                // SAFETY: no preconditions.
                unsafe { libc::pause() };
                return answer.python_error(PythonError::new("KeyboardInterrupt", ""));
            }
            // As `sleep`; then also how many tasks this worker has had.
            ("work", Some(Value::Int(ms))) => {
                std::thread::sleep(Duration::from_millis(ms.unsigned_abs()));
                Value::Tuple(vec![Value::Int(std::process::id().into()), Value::Int(self.calls)])
            }
            // Forks, and lets the child return from the call; then how that has ended.
            ("fork", _) => {
                // SAFETY: this process has one thread.
                match unsafe { libc::fork() } {
                    0 => Value::Int(-1),
                    child => {
                        let mut status = 0;
                        // SAFETY: the child is this process' own, and the place is this function's.
                        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                        Value::Int(libc::WEXITSTATUS(status).into())
                    }
                }
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
            // Says this to stderr, and "out" to stdout first.
            ("say", Some(Value::Str(words))) => {
                print!("out ");
                std::io::stdout().flush().unwrap();
                eprint!("{words}");
                Value::None
            }
            // Says this, then ends as `die` would.
            ("say_and_die", Some(Value::Str(words))) => {
                eprint!("{words}");
                match args.get(1) {
                    Some(Value::Int(how)) => die(*how),
                    _ => panic!("as asked"),
                }
            }
            // Starts a program that outlives it with its stderr, says its process id, and dies.
            ("leave_a_child", _) => {
                let child = Command::new("setsid").args(["sleep", "100"]).spawn().unwrap();
                eprintln!("{}", child.id());
                die(9)
            }
            // What a file says.
            ("read", Some(Value::Str(path))) => Value::Str(std::fs::read_to_string(path).unwrap()),
            // The numbers of its open descriptors.
            ("table", _) => {
                let numbers: Vec<String> = std::fs::read_dir("/proc/self/fd")
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                // But for the listing's own.
                let open =
                    |number: &String| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
                Value::Str(numbers.into_iter().filter(open).collect::<Vec<_>>().join(" "))
            }
            // Takes so many bytes of memory, and says whether it got them.
            ("allocate", Some(Value::Int(bytes))) => {
                let mut memory: Vec<u8> = Vec::new();
                Value::Bool(memory.try_reserve_exact(bytes.unsigned_abs() as usize).is_ok())
            }
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
            // So many bytes, with all descriptors closed that are not its own, and a file of this name
            // opened in the place of each.
            ("careless", Some(Value::Int(len))) => {
                let Some(Value::Str(file)) = args.get(1) else { panic!("no file") };
                for number in 3..1100 {
                    // SAFETY: nothing here owns one of them.
                    if unsafe { libc::close(number) } == 0 {
                        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
                        // SAFETY: nothing here owns that number.
                        unsafe { libc::dup2(file.as_raw_fd(), number) };
                        std::mem::forget(file);
                    }
                }
                Value::Bytes(vec![7; len.unsigned_abs() as usize])
            }
            // So many bytes.
            ("bytes", Some(Value::Int(len))) => Value::Bytes(vec![7; len.unsigned_abs() as usize]),
            _ => Value::Tuple(args),
        };
        answer.start_value();
        fault_point("model.encoding");
        answer.value(&value);
    }

    fn interrupter(&mut self) -> Option<fn()> {
        matches!(&*self.name, "interruptible" | "waits_when_struck" | "contract")
            .then_some(strike as fn())
    }

    fn forget_interrupt(&mut self) {
        INTERRUPTED.store(false, Ordering::Relaxed);
    }

    fn idle(&mut self) {
        fault_point("model.idling");
    }

    fn tidy(&mut self) {
        fault_point("model.tidying");
        // Longer than the audits give an idle worker that takes no task.
        if self.name == "slow_tidy" && self.calls == 1 {
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    fn finalize(self) {
        fault_point("model.finalizing");
        if self.name == "finalize_hangs" {
            loop {
                std::thread::park();
            }
        }
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static STRIKES: AtomicI64 = AtomicI64::new(0);

fn strike() {
    // SAFETY: no preconditions; so for the next one.
    let (thread, process) = (unsafe { libc::gettid() }, unsafe { libc::getpid() });
    if thread != process {
        std::process::abort();
    }
    STRIKES.fetch_add(1, Ordering::Relaxed);
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Has the kernel give the next interrupt to another thread, and waits until that one has passed it
/// on.
fn elsewhere() {
    std::thread::spawn(|| std::thread::sleep(Duration::from_secs(100)));
    // SAFETY: all zeros are an empty set on Linux.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    let real_time = || libc::SIGRTMIN()..=libc::SIGRTMAX();
    for number in real_time() {
        // SAFETY: a set, and a signal.
        unsafe { libc::sigaddset(&raw mut signals, number) };
    }
    let mask = |how, set: &libc::sigset_t| {
        // SAFETY: this thread's mask; nobody wants the old one.
        unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) };
    };
    mask(libc::SIG_BLOCK, &signals);
    let is_pending = || {
        // SAFETY: as above.
        let mut pending: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: writes into the set.
        unsafe { libc::sigpending(&raw mut pending) };
        // SAFETY: a set, and a signal.
        real_time().any(|number| unsafe { libc::sigismember(&raw const pending, number) } == 1)
    };
    // It may have come before the mask.
    while !is_pending() && !INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    mask(libc::SIG_UNBLOCK, &signals);
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

fn decode(
    signature: &Signature,
    task: &[u8],
    in_place: &mut InPlace<'_>,
) -> Result<Vec<Value>, MalformedTask> {
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
            Kind::Any => match reader.argument()? {
                Argument::Value(value) => value.to_owned(),
                Argument::Placed(tensor) => {
                    Value::Tensor(in_place.copy(&tensor).map_err(|_| MalformedTask)?)
                }
            },
        });
    }
    reader.finish()?;
    Ok(values)
}
