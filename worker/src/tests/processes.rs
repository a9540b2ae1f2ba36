//! What concerns the process: threads, forks, its end, and the Python it looks like.

use super::*;
use std::io::Read;
use std::os::fd::AsFd;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe, write};

#[test]
fn the_language_is_the_python_and_library_that_really_run() {
    on_python(|| {
        let language = interpreter::language();
        let (version, library) = Python::attach(|py| {
            let version = py.version_info();
            let name = py.import("sysconfig").unwrap();
            let name = name.call_method1("get_config_var", ("INSTSONAME",)).unwrap();
            (format!("{}.{}", version.major, version.minor), name.extract::<String>().unwrap())
        });
        assert_eq!(language.python, version);
        assert!(Path::new(&language.libpython).is_absolute(), "{language:?}");
        assert!(language.libpython.ends_with(&library), "{language:?}");
    });
}

#[test]
fn the_interpreter_looks_like_the_chosen_executable() {
    in_own_process("tests::processes::the_interpreter_looks_like_the_chosen_executable", || {
        let source = "
import sys
def f():
    return [sys.executable, sys.prefix, sys.argv, sys.flags.isolated]
";
        let mut model = case(source, "f").start().unwrap();
        let Value::List(found) = value(&mut model, &[]) else { panic!() };
        let executable = python_executable();
        let prefix = Command::new(&executable)
            .args(["-c", "import sys; print(sys.prefix, end='')"])
            .output()
            .unwrap();
        let expected = vec![
            Value::Str(executable),
            Value::Str(String::from_utf8(prefix.stdout).unwrap()),
            Value::List(vec![Value::Str(String::new())]),
            Value::Int(0),
        ];
        assert_eq!(found, expected);
    });
}

/// Modules that start threads: in a module of a package, imported relatively, by another one.
fn threaded() -> Folder {
    Folder::new(&[
        ("threaded/__init__.py", ""),
        ("threaded/deep/__init__.py", ""),
        ("threaded/deep/culprit.py", "import json.tool\nfrom ..starter import start\nstart()\n"),
        (
            "threaded/starter.py",
            "
import threading
def start():
    event = threading.Event()
    threads.append((event, threading.Thread(target=event.wait, daemon=True)))
    threads[-1][1].start()
def stop():
    for event, thread in threads:
        event.set()
        thread.join()
threads = []
",
        ),
        ("threaded/middle.py", "from . import starter\nfrom .deep.culprit import start\n"),
        ("outer.py", "import colorsys\nimport threaded.middle\nimport wave\ndef f(): pass\n"),
        ("tidy.py", "from threaded.starter import start, stop\nstart()\nstop()\ndef f(): pass\n"),
        ("first.py", "from threaded.starter import start\nstart()\nimport tabnanny\n"),
        ("before.py", "import first\ndef f(): pass\n"),
        ("own.py", "from threaded.starter import start\nstart()\ndef f(): pass\n"),
        ("late.py", "from threaded.starter import *\ndef preload(): start()\ndef f(): pass\n"),
        ("quiet.py", "import threaded.starter, plistlib\ndef f(): pass\n"),
    ])
}

/// Imports a module as the model; reports the threads beyond those before, and the suspect.
fn threads_of(module: &str, folder: &Folder) -> (u32, Option<String>) {
    let threads = || fs::read_dir("/proc/self/task").unwrap().count() as u32;
    let before = threads();
    let (_, report) = case_of(module, "f").path(folder.path()).import().unwrap();
    assert_eq!(report.threads, threads());
    (report.threads - before, report.suspect)
}

#[test]
fn the_module_that_starts_a_thread_is_named() {
    in_own_process("tests::processes::the_module_that_starts_a_thread_is_named", || {
        let folder = threaded();
        let suspect = |name: &str| Some(name.to_owned());
        assert_eq!(threads_of("quiet", &folder), (0, None));
        assert_eq!(threads_of("tidy", &folder), (0, None));
        assert_eq!(threads_of("outer", &folder), (1, suspect("threaded.deep.culprit")));
        assert_eq!(threads_of("before", &folder), (1, suspect("first")));
        assert_eq!(threads_of("own", &folder), (1, suspect("own")));
        assert_eq!(threads_of("late", &folder), (1, suspect("late, in preload()")));
    });
}

#[test]
fn the_watch_over_imports_leaves_no_trace() {
    on_python(|| {
        let import =
            |py: Python<'_>| py.import("builtins").unwrap().getattr("__import__").unwrap().unbind();
        let before = Python::attach(import);
        case("def f(): pass", "f").start().unwrap();
        case_of("not_there", "f").import_error();
        Python::attach(|py| assert!(import(py).is(&before)));
        // A wrapper that somebody puts around it stays, and works on.
        let source = "
import builtins
inner = builtins.__import__
def wrapper(*args): return inner(*args)
def preload(): builtins.__import__ = wrapper
def f():
    import plistlib
    return builtins.__import__ is wrapper
";
        let mut model = case(source, "f").start().unwrap();
        assert_eq!(value(&mut model, &[]), Value::Bool(true));
        Python::attach(|py| py.import("builtins").unwrap().setattr("__import__", before).unwrap());
    });
}

#[test]
fn a_model_is_alone_until_it_starts_a_thread_which_runs_while_detached() {
    in_own_process(
        "tests::processes::a_model_is_alone_until_it_starts_a_thread_which_runs_while_detached",
        || {
            let source = "
import threading
go, gone = threading.Event(), threading.Event()
def body():
    go.wait()
    gone.set()
def f(what):
    if what == 'start':
        global thread
        thread = threading.Thread(target=body)
        thread.start()
    if what == 'go': go.set()
    if what == 'gone': return gone.is_set()
    if what == 'join': thread.join()
";
            let signature = Signature::new().str("what");
            let mut model = case(source, "f").signature(signature).start().unwrap();
            assert!(model.alone());
            value(&mut model, &task("start"));
            assert!(!model.alone());
            value(&mut model, &task("go"));
            // Only while this thread is detached can the other one get on.
            while value(&mut model, &task("gone")) != Value::Bool(true) {
                model.while_detached(&mut thread::yield_now);
            }
            value(&mut model, &task("join"));
            assert!(model.alone());
        },
    );
}

#[test]
fn a_panic_while_detached_leaves_the_thread_attached() {
    on_python(|| {
        let mut model = case("def f():\n return [1.5]", "f").start().unwrap();
        let wait = || model.while_detached(&mut || resume_unwind(Box::new("in the wait")));
        assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
        assert_eq!(value(&mut model, &[]), Value::List(vec![Value::Float(1.5)]));
    });
}

/// Forks a worker as the fork server does; gives what `worker` returns there.
fn forked(
    runtime: &mut PythonRuntime,
    worker: impl FnOnce(&mut PythonRuntime) -> String,
) -> String {
    let (mut read, wrote) = pipe().map(|(read, wrote)| (fs::File::from(read), wrote)).unwrap();
    runtime.before_fork();
    // SAFETY: this thread goes on in the child, which runs only what a worker runs there.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            runtime.after_fork_child();
            let said = catch_unwind(AssertUnwindSafe(|| worker(runtime)));
            let said = said.unwrap_or_else(|_| "the worker panicked".to_owned());
            write(wrote.as_fd(), said.as_bytes()).unwrap();
            // SAFETY: ends the child at once, as the worker does.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            runtime.after_fork_parent();
            drop(wrote);
            let mut said = String::new();
            read.read_to_string(&mut said).unwrap();
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            said
        }
    }
}

const FORKING: &str = "
import atexit, os, random, sys, tempfile, weakref
try:
    import numpy.random
except ImportError:
    numpy = None

log = []
os.register_at_fork(
    before=lambda: log.append('before'),
    after_in_parent=lambda: log.append('parent'),
    after_in_child=lambda: log.append('child'),
)
shared = tempfile.TemporaryDirectory(dir=os.environ['NEARCALL_TEST_FOLDER'])
atexit.register(os.mkdir, shared.name + '-exit-function')

class Engine:
    def initialize(self):
        self.folder = tempfile.TemporaryDirectory(dir=os.environ['NEARCALL_TEST_FOLDER'])
        atexit.register(os.mkdir, self.folder.name + '-exit-function')

    def run(self, what):
        if what == 'random': return str(random.getrandbits(64))
        if what == 'numpy': return str(numpy.random.randint(2**62) if numpy else os.getpid())
        if what == 'log': return ' '.join(log)
        if what == 'folders': return shared.name + '\\n' + self.folder.name

    def finalize(self):
        os.mkdir(self.folder.name + '-finalize')
        sys.exit('finalize may raise whatever it likes')
";

/// The fork server with [`FORKING`], and a folder for what its workers leave behind.
fn forking() -> (PythonRuntime, Folder) {
    let folder = Folder::new(&[("here", "")]);
    let source =
        FORKING.replace("os.environ['NEARCALL_TEST_FOLDER']", &format!("{:?}", folder.path()));
    let signature = Signature::new().str("what");
    let (runtime, _) = case(&source, "Engine").method("run").signature(signature).import().unwrap();
    (runtime, folder)
}

fn ask(model: &mut PythonModel, what: &str) -> String {
    match value(model, &task(what)) {
        Value::Str(said) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn workers_draw_different_random_numbers() {
    in_own_process("tests::processes::workers_draw_different_random_numbers", || {
        let (mut runtime, _folder) = forking();
        for generator in ["random", "numpy"] {
            let mut draw =
                || forked(&mut runtime, |it| ask(&mut it.instantiate().unwrap(), generator));
            let (one, other) = (draw(), draw());
            assert!(one.parse::<u64>().is_ok(), "{one}");
            assert_ne!(one, other, "{generator}");
        }
    });
}

#[test]
fn fork_hooks_run_on_both_sides() {
    in_own_process("tests::processes::fork_hooks_run_on_both_sides", || {
        let (mut runtime, _folder) = forking();
        let mut log = || forked(&mut runtime, |it| ask(&mut it.instantiate().unwrap(), "log"));
        assert_eq!(log(), "before child");
        assert_eq!(log(), "before parent before child");
    });
}

#[test]
fn a_worker_that_ends_cleans_up_its_own_things_and_not_the_servers() {
    in_own_process(
        "tests::processes::a_worker_that_ends_cleans_up_its_own_things_and_not_the_servers",
        || {
            let (mut runtime, folder) = forking();
            let said = forked(&mut runtime, |it| {
                let mut model = it.instantiate().unwrap();
                let said = ask(&mut model, "folders");
                model.finalize();
                said
            });
            let (shared, own) = said.split_once('\n').unwrap();
            assert!(Path::new(shared).exists());
            assert!(!Path::new(&format!("{shared}-exit-function")).exists());
            assert!(!Path::new(own).exists());
            assert!(Path::new(&format!("{own}-finalize")).exists());
            assert!(Path::new(&format!("{own}-exit-function")).exists());
            drop(folder);
        },
    );
}
