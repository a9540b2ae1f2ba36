//! The subcommand `bench` as a person would type it. A script stands in for the Python, and
//! another for the yardstick, so nothing is measured; but for the last test, which has real
//! workers (as in `python.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder of the test's own, where the command runs.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir(desk.path("tmp")).unwrap();
        desk.script("python", "echo /nowhere/python; echo 3.11.2");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn bench(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearcall"));
        command
            .arg("bench")
            .args(arguments)
            .current_dir(&self.0)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        command
    }

    /// The limits, told by a yardstick that answers each order with this line.
    fn limits(&self, reply: &str) -> Command {
        self.script("yardstick", &format!("while read -r order; do echo '{reply}'; done"));
        self.bench(&["--case", "limits", "--python", "./python", "--yardstick", "./yardstick"])
    }

    /// Results with a row of the engine's, with this p50 in each of three repeats.
    fn results(&self, name: &str, p50: u32) {
        let row = json!({
            "case": "hot", "system": "nearcall", "p50_ns": p50,
            "repeats": [{"p50_ns": p50 - 1}, {"p50_ns": p50}, {"p50_ns": p50 + 1}],
        });
        let results = json!({"machine": {"cpus": 2}, "commit": "abc", "rows": [row]});
        fs::write(self.path(name), results.to_string()).unwrap();
    }
}

/// What came to stdout, and to stderr, once it ended with this status.
fn expect(mut command: Command, status: i32) -> (String, String) {
    let Output { status: ended, stdout, stderr } = command.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(ended.code(), Some(status), "{stderr}");
    (stdout, stderr)
}

const DONE: &str = r#"{"Done":{"latencies":[[50,3],[60,1]],"seconds":0.5,"cpu_seconds":null}}"#;

#[test]
fn a_run_writes_its_files_and_prints_its_tables() {
    let desk = Desk::new();
    let (stdout, stderr) = expect(desk.limits(DONE), 0);
    assert!(stdout.contains("Python 3.11.2") && stdout.contains("cache-line"), "{stdout}");
    assert!(stderr.contains("limits: repeat 5 of 5"), "{stderr}");
    let json = fs::read(desk.path("target/nearcall/bench.json")).unwrap();
    let results: Value = serde_json::from_slice(&json).unwrap();
    let rows = results["rows"].as_array().unwrap();
    let systems: Vec<_> = rows.iter().map(|row| row["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["cache-line", "futex", "lock"]);
    assert_eq!((&rows[0]["p50_ns"], &rows[0]["samples"]), (&json!(50.0), &json!(20)));
    assert_eq!(rows[0]["repeats"].as_array().unwrap().len(), 5);
    let page = fs::read_to_string(desk.path("target/nearcall/report.html")).unwrap();
    assert!(page.contains("cache-line"));
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
    // By default it is this file that is compared.
    let old = "target/nearcall/bench.json";
    let (stdout, _) = expect(desk.bench(&["--compare", old]), 0);
    assert!(stdout.contains("nothing changed"), "{stdout}");
}

#[test]
fn files_go_where_they_are_told_to() {
    let desk = Desk::new();
    let mut command = desk.limits(DONE);
    command.args(["--json", "a/b.json"]);
    expect(command, 0);
    assert!(desk.path("a/b.json").is_file() && desk.path("a/report.html").is_file());
    let mut command = desk.limits(DONE);
    command.args(["--json", "b.json", "--report", "c/page.html"]);
    expect(command, 0);
    assert!(desk.path("b.json").is_file() && desk.path("c/page.html").is_file());
    assert!(!desk.path("target").exists());
}

#[test]
fn what_cannot_be_had_here_is_noted_and_has_no_row() {
    let desk = Desk::new();
    let (_, stderr) = expect(desk.limits(r#"{"Skipped":"two CPUs are needed"}"#), 0);
    assert_eq!(stderr.matches("futex is left out: two CPUs are needed").count(), 1, "{stderr}");
    let json = fs::read(desk.path("target/nearcall/bench.json")).unwrap();
    let results: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(results["rows"], json!([]));
}

#[test]
fn a_wrong_answer_fails_the_run_and_nothing_is_written_or_left() {
    let desk = Desk::new();
    let (stdout, stderr) = expect(desk.limits(r#"{"Failed":"49 instead of 50"}"#), 1);
    assert!(stderr.contains("49 instead of 50") && stderr.contains("limits"), "{stderr}");
    assert_eq!(stdout, "");
    assert!(!desk.path("target").exists());
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
    assert_eq!(processes_of(&desk), Vec::<Pid>::new());

    // An engine that does not start is a turn that fails, too.
    let load = ["--case", "load", "--python", "./python", "--worker", "/bin/false"];
    let (_, stderr) = expect(desk.bench(&load), 1);
    assert!(stderr.contains("the engine could not be started"), "{stderr}");
}

#[test]
fn a_run_that_cannot_begin_says_what_is_missing() {
    let desk = Desk::new();
    let quick = ["--quick", "--python", "./python", "--yardstick", "./nothing"];
    for (arguments, expected) in [
        (&quick[..], ["./nothing is not there", "make bench"]),
        (
            &[
                "--case",
                "rivals",
                "--python",
                "./python",
                "--rivals",
                "no",
                "--yardstick",
                "python",
            ],
            ["no is not there", "--rivals FILE"],
        ),
        (&["--quick", "--python", "no-python"], ["no-python", "no usable Python"]),
        (&["--case", "cold"], ["'cold'", "hot, limits, awaited, parked"]),
        (&["--compare", "a.json", "--quick"], ["--quick", "cannot be used with"]),
    ] {
        let (_, stderr) = expect(desk.bench(arguments), 2);
        assert!(expected.iter().all(|text| stderr.contains(text)), "{stderr}");
    }
    assert!(!desk.path("target").exists());
}

#[test]
fn two_files_are_compared() {
    let desk = Desk::new();
    desk.results("old.json", 1_000);
    desk.results("new.json", 2_000);
    let compare = ["--compare", "old.json", "--json", "new.json"];
    let (stdout, stderr) = expect(desk.bench(&compare), 0);
    assert!(stdout.contains("Slower:") && stdout.contains("hot: nearcall"), "{stdout}");
    assert_eq!(stderr, "");
    let compare = ["--compare", "new.json", "--json", "old.json"];
    assert!(expect(desk.bench(&compare), 0).0.contains("Faster:"));
}

#[test]
fn files_that_are_not_there_or_no_results_are_named() {
    let desk = Desk::new();
    desk.results("old.json", 1_000);
    let (_, stderr) = expect(desk.bench(&["--compare", "old.json"]), 2);
    assert!(stderr.contains("target/nearcall/bench.json cannot be read"), "{stderr}");
    assert!(stderr.contains("`make bench`"), "{stderr}");
    for (text, expected) in
        [("{", "EOF"), ("[]", "bad.json"), ("{\"rows\": 3}", "expected a sequence")]
    {
        fs::write(desk.path("bad.json"), text).unwrap();
        let bad = ["--compare", "bad.json", "--json", "old.json"];
        let (_, stderr) = expect(desk.bench(&bad), 2);
        assert!(stderr.contains("bad.json has no results in it"), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

/// The default environment, which has numpy, and the worker that was built for it.
fn environment() -> Option<(String, String)> {
    let listed = std::env::var("NEARCALL_TEST_PYTHONS").unwrap_or_default();
    // minor=environment=worker, separated by semicolons.
    let first: Vec<_> = listed.split(';').next().unwrap_or_default().split('=').collect();
    let [_, environment, worker] = first.as_slice() else {
        eprintln!("SKIPPED: no $NEARCALL_TEST_PYTHONS; `make test` makes them");
        return None;
    };
    Some((environment.to_string(), worker.to_string()))
}

#[test]
fn arrays_are_left_out_where_there_is_no_numpy() {
    let desk = Desk::new();
    // Runs, and cannot import anything.
    let own = desk.path("python").display().to_string();
    desk.script(
        "python",
        &format!("case \"$*\" in *numpy*) exit 1;; esac; echo {own}; echo 3.11.2"),
    );
    let tensors = ["--case", "tensors", "--python", "./python"];
    let (_, stderr) = expect(desk.bench(&tensors), 0);
    let note = format!("arrays are left out: {own} has no numpy");
    assert_eq!(stderr.matches(&note).count(), 1, "{stderr}");
    let json = fs::read(desk.path("target/nearcall/bench.json")).unwrap();
    let results: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(results["rows"], json!([]));
}

#[test]
fn arrays_are_measured_with_the_numpy_that_is_named() {
    let Some((environment, worker)) = environment() else { return };
    let desk = Desk::new();
    let arguments = ["--quick", "--case", "tensors", "--python", "./python"];
    let mut command = desk.bench(&arguments);
    command.args(["--numpy-python", &environment, "--worker", &worker]);
    let (stdout, _) = expect(command, 0);
    // Targets are told of, met or not.
    for told in ["array in place", "16 MiB summed", "16 MiB answer"] {
        assert!(stdout.contains(told), "{told}: {stdout}");
    }
    let json = fs::read(desk.path("target/nearcall/bench.json")).unwrap();
    let results: Value = serde_json::from_slice(&json).unwrap();
    let rows = results["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 26);
    for row in rows {
        let has = |figure: &str| row[figure].as_f64().is_some_and(|value| value > 0.0);
        assert!(has("p50_ns") && row["repeats"].as_array().unwrap().len() == 5, "{row}");
        let whole = row["workload"] == "first"
            || row["system"] == "nearcall" && row["workload"] == "scaled";
        assert_eq!(has("bytes_per_second"), !whole, "{row}");
    }
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    let Some((environment, worker)) = environment() else { return };
    let desk = Desk::new();
    let load = ["--case", "load", "--python", &environment, "--worker", &worker];
    let mut child = desk.bench(&load).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(stderr.next().unwrap().unwrap(), "load: repeat 1 of 3");
    thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!desk.path("target").exists());
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
    let patience = Instant::now() + Duration::from_secs(5);
    while !processes_of(&desk).is_empty() {
        assert!(Instant::now() < patience, "{:?} are still there", processes_of(&desk));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Processes whose environment names the test's folder.
fn processes_of(desk: &Desk) -> Vec<Pid> {
    let folder = desk.path("tmp").display().to_string();
    let pid = |path: PathBuf| {
        let environment = fs::read(Path::new(&path).join("environ")).ok()?;
        let named = String::from_utf8_lossy(&environment).contains(&folder);
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        named.then(|| Pid::from_raw(pid))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| pid(entry.ok()?.path())).collect()
}
