//! The command with real workers and a real Python, as a person would type it.
//!
//! The Pythons come from `$NEARCALL_TEST_PYTHONS` (`make test` sets it). Without it the tests say
//! loudly that they skip.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An environment and the worker built for it.
struct Python {
    environment: PathBuf,
    worker: PathBuf,
}

/// All that were handed to the tests.
fn pythons() -> Vec<Python> {
    let listed = std::env::var("NEARCALL_TEST_PYTHONS").unwrap_or_default();
    let parse = |entry: &str| {
        let mut parts = entry.split('=').skip(1).map(PathBuf::from);
        Some(Python { environment: parts.next()?, worker: parts.next()? })
    };
    let found: Vec<_> = listed.split(';').filter_map(parse).collect();
    if found.is_empty() {
        eprintln!("SKIPPED: no $NEARCALL_TEST_PYTHONS; `make test` makes them");
    }
    found
}

/// The default one.
fn python() -> Option<Python> {
    pythons().into_iter().next()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A folder of the test's own, where the command runs.
struct Desk {
    folder: TempDir,
    python: Python,
}

impl Desk {
    fn new() -> Option<Self> {
        let python = python()?;
        Some(Self { folder: tempfile::tempdir().unwrap(), python })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearcall"));
        command
            .arg(subcommand)
            .arg("--python")
            .arg(&self.python.environment)
            .arg("--worker")
            .arg(&self.python.worker)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// `nearcall run` with one of the repository's models.
    fn run(&self, model: &str) -> Command {
        let mut command = self.command("run");
        command.arg(model).arg("--python-path").arg(repository().join("python/models"));
        command
    }

    /// The same with these lines as tasks.
    fn lines(&self, model: &str, tasks: &str) -> Command {
        self.write("tasks.jsonl", tasks);
        let mut command = self.run(model);
        command.args(["--tasks", "tasks.jsonl"]);
        command
    }
}

fn parse(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What came out, once it ended with this status.
fn expect(mut command: Command, status: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    output
}

fn within<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "no {what} within {patience:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn ended(child: &mut Child) -> i32 {
    within("end", Duration::from_secs(20), || child.try_wait().unwrap()).code().unwrap()
}

fn is_alive(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_function_answers_every_line_in_order() {
    let Some(desk) = Desk::new() else { return };
    let tasks: String = (0..300)
        .map(|n| {
            json!({"float_features": [0.5, -1.5], "str_features": ["straße"], "int_feature": n})
                .to_string()
                + "\n"
        })
        .collect();
    let output = expect(desk.lines("big_model:big_model", &tasks), 0);
    let expected: Vec<_> = (0..300).map(|n| json!({"answer": 2 + 7 + n})).collect();
    assert_eq!(parse(&output.stdout), expected);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_class_has_a_method_and_init_kwargs_and_its_tuples_become_arrays() {
    let Some(desk) = Desk::new() else { return };
    let mut command =
        desk.lines("shared_table:Table", "{\"indices\": [0, 2, 3]}\n{\"indices\": [100000]}\n");
    command.args(["--method", "lookup", "--init", "{\"scale\": 0.5}", "--out", "out.jsonl"]);
    let output = expect(command, 1);
    assert!(stderr(&output).contains("1 of 2 lines have an error"), "{}", stderr(&output));
    let lines = parse(&fs::read(desk.path("out.jsonl")).unwrap());
    assert_eq!(lines[0], json!({"answer": [0.0, 2.0, 4.5]}));
    assert_eq!(lines[1]["error"]["kind"], "IndexError");
    assert!(lines[1]["error"]["traceback"].as_str().unwrap().contains("in lookup"));

    let task = "{\"float_features\": [], \"str_features\": [], \"int_feature\": 3}";
    let mut command = desk.lines("big_model:Engine", task);
    command.args(["--method", "run_big_model"]);
    assert_eq!(parse(&expect(command, 0).stdout), [json!({"answer": [3, ""]})]);
}

#[test]
fn the_seeds_model_runs_unchanged() {
    let Some(desk) = Desk::new() else { return };
    let seed = std::env::var_os("NEARCALL_SEED")
        .map_or_else(|| repository().join("../shared/seed"), PathBuf::from);
    if !seed.join("py4cc1/py4cc.py").exists() {
        eprintln!("SKIPPED: no seed in {} ($NEARCALL_SEED)", seed.display());
        return;
    }
    let task = json!({
        "float_features": [1.1, 11.2, 0.3],
        "str_features": ["abc", "cdavfdv"],
        "int_feature": 27,
    });
    desk.write("tasks.jsonl", &format!("{task}\n").repeat(20));
    let mut command = desk.command("run");
    command.arg("py4cc1.py4cc:Engine").args([
        "--method",
        "run_big_model",
        "--tasks",
        "tasks.jsonl",
    ]);
    command.arg("--python-path").arg(seed).env("PYTHONDONTWRITEBYTECODE", "1");
    assert_eq!(parse(&expect(command, 0).stdout), vec![json!({"answer": [49, ""]}); 20]);
}

#[test]
fn a_model_in_the_current_folder_is_found_and_every_bad_line_has_its_error() {
    let Some(desk) = Desk::new() else { return };
    let model = "
def model(x):
    print('to stderr')
    return {1: b'', 2: [0.0, float('nan')], 3: {'a': (1,)}, 4: object()}[x]
";
    desk.write("own.py", model);
    let tasks = "{\"x\": 3}\n\n[]\n{\"x\": [1, {\"k\": -1e999}]}\n{\"y\": 3}\n{\"x\": 3, \"y\": 1}\n\
                 {\"x\": 99999999999999999999}\n{\"x\": NaN}\n{\"x\": 1}\n{\"x\": 2}\n{\"x\": 4}\n{\"x\": 5}";
    desk.write("tasks.jsonl", tasks);
    let mut command = desk.command("run");
    command.args(["own:model", "--tasks", "tasks.jsonl"]);
    let output = expect(command, 1);
    let lines = parse(&output.stdout);
    assert_eq!(lines[0], json!({"answer": {"a": [1]}}));
    let expected = [
        ("InvalidTask", "line 2: it is blank"),
        ("InvalidTask", "line 3: "),
        ("InvalidTask", "line 4: \"x\" at [1][\"k\"] is -1e999"),
        ("InvalidTask", "line 5: \"x\" is missing"),
        ("InvalidTask", "line 6: \"y\" is not among the names"),
        ("InvalidTask", "line 7: \"x\" is 99999999999999999999"),
        ("InvalidTask", "line 8: it is not JSON"),
        ("NotJson", "answer is bytes"),
        ("NotJson", "answer[1] is the float NaN"),
        ("AnswerRefused", "answer is a object"),
        ("KeyError", "5"),
    ];
    assert_eq!(lines.len(), 1 + expected.len());
    for (line, (kind, message)) in lines[1..].iter().zip(expected) {
        let error = &line["error"];
        assert_eq!(error["kind"], kind, "{line}");
        assert!(error["message"].as_str().unwrap().starts_with(message), "{line}");
        assert_eq!(error["traceback"].as_str().unwrap().is_empty(), kind != "KeyError", "{line}");
    }
    assert!(stderr(&output).contains("to stderr"));
}

#[test]
fn any_json_reaches_the_model_as_python_itself_reads_it_and_comes_back() {
    let Some(desk) = Desk::new() else { return };
    // `repr` tells an int from a float, and the order of a dict.
    let model = "
import json

def model(x, text):
    expected = json.loads(text)
    assert repr(x) == repr(expected), f'{x!r} is not {expected!r}'
    return x
";
    desk.write("own.py", model);
    let deep = "[".repeat(64) + &"]".repeat(64);
    let texts = [
        "null",
        "{}",
        "[]",
        "[[], {}, [[]], {\"\": {}}]",
        "[null, true, 1, 1.0, \"1\", [false], {\"k\": null}]",
        "{\"z\": {\"b\": [1, 2.5], \"a\": {\"n\": null}}, \"y\": [], \"x\": 1e3}",
        "{\"a\": 1, \"b\": 2, \"a\": [3]}",
        "[-9223372036854775808, 9223372036854775807, 0.1, -0.0, 5e-324]",
        "[\"\\u0000\", \"\\ud83e\\udd80\", \"stra\u{df}e\", \"\\\\\\\"\"]",
        &deep,
    ];
    let tasks = texts.map(|text| format!("{{\"x\": {text}, \"text\": {}}}\n", json!(text)));
    desk.write("tasks.jsonl", &tasks.concat());
    let mut command = desk.command("run");
    command.args(["own:model", "--tasks", "tasks.jsonl"]);
    let expected =
        texts.map(|text| json!({"answer": serde_json::from_str::<Value>(text).unwrap()}));
    assert_eq!(parse(&expect(command, 0).stdout), expected);
}

#[test]
fn what_is_nested_too_deep_is_an_error_of_its_line_alone() {
    let Some(desk) = Desk::new() else { return };
    let deep = |depth| format!("{{\"x\": {}{}}}\n", "[".repeat(depth), "]".repeat(depth));
    let tasks = deep(65) + &deep(500_000) + "{\"x\": [1]}\n";
    let lines = parse(&expect(desk.lines("echo:echo", &tasks), 1).stdout);
    for (index, line) in lines[..2].iter().enumerate() {
        let message = line["error"]["message"].as_str().unwrap();
        let start = format!("line {}: \"x\" at [0][0]", index + 1);
        assert!(message.starts_with(&start) && message.contains("too deep"), "{message}");
    }
    assert_eq!(lines[2], json!({"answer": {"x": [1]}}));
}

#[test]
fn arrays_of_numpy_come_out_as_nested_lists_of_numbers() {
    let Some(desk) = Desk::new() else { return };
    let model = "
import numpy

def model(numbers, dtype):
    return {'array': numpy.array(numbers, dtype=dtype)}
";
    desk.write("own.py", model);
    let tasks = [
        json!({"numbers": [[1, 2.5], [-3, 0]], "dtype": "float16"}),
        json!({"numbers": [[1], [2]], "dtype": "uint8"}),
        json!({"numbers": [[], []], "dtype": "float32"}),
        json!({"numbers": [[0.0, 1e10]], "dtype": "float16"}),
    ];
    desk.write("tasks.jsonl", &tasks.map(|task| format!("{task}\n")).concat());
    let mut command = desk.command("run");
    command.args(["own:model", "--tasks", "tasks.jsonl"]);
    let lines = parse(&expect(command, 1).stdout);
    assert_eq!(lines[0], json!({"answer": {"array": [[1.0, 2.5], [-3.0, 0.0]]}}));
    assert_eq!(lines[1], json!({"answer": {"array": [[1], [2]]}}));
    assert_eq!(lines[2], json!({"answer": {"array": [[], []]}}));
    let message = lines[3]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("answer[\"array\"][0][1] is the float inf"), "{message}");
}

#[test]
fn an_empty_file_is_no_error_and_a_first_line_without_names_is() {
    let Some(desk) = Desk::new() else { return };
    assert_eq!(expect(desk.lines("echo:echo", ""), 0).stdout, b"");
    let output = expect(desk.lines("echo:echo", "[null]\n"), 2);
    assert!(stderr(&output).contains("line 1 gives no names: "), "{output:?}");
}

#[test]
fn a_start_that_fails_says_why_and_what_to_do_and_spoils_no_file() {
    let Some(desk) = Desk::new() else { return };
    desk.write("broken.py", "def f():\n    pass\nraise ValueError('not today')\n");
    desk.write("out.jsonl", "precious\n");
    for (model, expected) in [
        ("missing:f", ["No module named 'missing'", "--python-path"]),
        ("broken:f", ["ValueError: not today", "line 3, in <module>"]),
        ("echo:nothing", ["nothing", "echo:nothing"]),
        ("echo", ["\"echo\"", "module:"]),
    ] {
        let mut command = desk.lines(model, "{}");
        command.args(["--out", "out.jsonl"]);
        let output = expect(command, 2);
        for text in expected {
            assert!(stderr(&output).contains(text), "{model}: {}", stderr(&output));
        }
    }
    let mut command = desk.lines("big_model:Engine", "{}");
    command.args(["--init", "{\"sleep\": 1, \"unknown\": 2}", "--method", "run_big_model"]);
    let output = expect(command, 2);
    assert!(stderr(&output).contains("What to do"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(desk.path("out.jsonl")).unwrap(), "precious\n");
}

#[test]
fn the_tasks_file_is_not_overwritten() {
    let Some(desk) = Desk::new() else { return };
    let mut command = desk.lines("echo:echo", "{\"x\": 1}\n");
    command.args(["--out", "./tasks.jsonl"]);
    assert!(stderr(&expect(command, 2)).contains("tasks' file itself"));
    assert_eq!(fs::read_to_string(desk.path("tasks.jsonl")).unwrap(), "{\"x\": 1}\n");
}

#[test]
fn a_pipe_is_answered_line_by_line() {
    let Some(desk) = Desk::new() else { return };
    let mut command = desk.run("echo:Echo");
    let mut child = command
        .args(["--tasks", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tasks = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for n in 0..3 {
        writeln!(tasks, "{{\"n\": {n}}}").unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer, json!({"answer": {"n": n}}));
    }
    drop(tasks);
    assert_eq!(ended(&mut child), 0);
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let Some(desk) = Desk::new() else { return };
    let tasks = "{\"x\": 1}\n".repeat(100_000);
    let mut command = desk.lines("echo:echo", &tasks);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "{\"answer\":{\"x\":1}}\n");
    assert_eq!(ended(&mut child), 0);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn ctrl_c_ends_it_in_order_and_leaves_no_process() {
    let Some(desk) = Desk::new() else { return };
    desk.write(
        "slow.py",
        "import os, time\ndef slow(x):\n    time.sleep(x)\n    return os.getpid()\n",
    );
    desk.write("tasks.jsonl", &("{\"x\": 0.0}\n".repeat(5) + &"{\"x\": 30.0}\n".repeat(50)));
    let mut command = desk.command("run");
    // One thread, so that the quick ones are submitted first.
    command.args(["slow:slow", "--tasks", "tasks.jsonl", "--workers", "2", "--threads", "1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let pids: Vec<_> = (0..5)
        .map(|_| {
            let line: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
            line["answer"].as_i64().unwrap()
        })
        .collect();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(ended(&mut child), 130);
    assert!(answers.next().is_none());
    for pid in pids {
        assert!(!is_alive(pid), "the worker {pid} is still there");
    }
}

#[test]
fn the_demo_has_every_answer_right_and_leaves_nothing() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("tmp")).unwrap();
    let mut command = desk.command("demo");
    command.args(["--tasks", "60", "--threads", "4", "--workers", "2", "--json", "made/demo.json"]);
    command.env("TMPDIR", desk.path("tmp"));
    let output = expect(command, 0);
    let rows: Value =
        serde_json::from_slice(&fs::read(desk.path("made/demo.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    for row in rows.as_array().unwrap() {
        assert_eq!((&row["tasks"], &row["correct"]), (&json!(60), &json!(60)), "{row}");
        assert!(row["per_second"].as_f64().unwrap() > 0.0, "{row}");
        found.push((row["variant"].as_str().unwrap(), row["system"].as_str().unwrap()));
    }
    let pool = "multiprocessing.Pool";
    let all = [("sleep", "nearcall"), ("sleep", pool), ("cpu", "nearcall"), ("cpu", pool)];
    assert_eq!(found, all);
    assert!(String::from_utf8_lossy(&output.stdout).contains("60 of 60"));
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("tmp")).unwrap();
    // Once in the engine's part, once in the pool's.
    for marker in ["nearcall-worker", "pool_driver.py"] {
        let mut command = desk.command("demo");
        command.args(["--tasks", "2000"]).env("TMPDIR", desk.path("tmp")).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let patience = Duration::from_secs(60);
        let started = within(marker, patience, || {
            let found = of_folder(&desk, marker);
            (!found.is_empty()).then_some(found)
        });
        thread::sleep(Duration::from_millis(300));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        assert_eq!(ended(&mut child), 130);
        assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0, "{marker}");
        within("end of all processes", Duration::from_secs(5), || {
            started.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
    }
}

/// Processes with this in their command line whose environment names the test's folder.
fn of_folder(desk: &Desk, marker: &str) -> Vec<i64> {
    let has = |path: &Path, text: &str| {
        fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    let folder = desk.path("tmp").display().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            let own = has(&path.join("environ"), &folder);
            (own && has(&path.join("cmdline"), marker) && !has(&path.join("cmdline"), "demo\0"))
                .then_some(pid)
        })
        .collect()
}

#[test]
fn the_python_files_pass_their_own_tests() {
    for python in pythons() {
        let output = Command::new(python.environment.join("bin/python"))
            .args(["-W", "error", "-m", "unittest", "discover", "-s", "python/tests"])
            .current_dir(repository())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
}
