//! Pairs of processes end with their order, whatever happens to one of the two.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nearcall_bench::clock;
use nearcall_bench::measure::Span;
use nearcall_bench::order::{Order, Pace};
use nearcall_bench::workload::Workload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn order(system: &str) -> Order {
    let span = Span { warm_up: 0.0, measured: 0.01 };
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models").into();
    Order::new(system, span, env!("NEARCALL_BUILT_FOR").into(), models)
}

/// A schedule that leaves the peer the time to start its interpreter.
fn pace(calls: u64) -> Option<Pace> {
    let first_ns = clock::monotonic_ns().unwrap() + 2_000_000_000;
    Some(Pace { first_ns, period_ns: 1_000_000, calls })
}

/// The program.
struct Yardstick {
    process: Child,
    replies: BufReader<ChildStdout>,
}

impl Yardstick {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_nearcall-yardstick"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let replies = BufReader::new(process.stdout.take().unwrap());
        Self { process, replies }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    fn begin(&mut self, order: &Order) {
        let line = serde_json::to_string(order).unwrap() + "\n";
        self.process.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    fn finish(&mut self) -> Value {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// How many latencies the order brings.
    fn count(&mut self, order: &Order) -> u64 {
        self.begin(order);
        let reply = self.finish();
        let Some(pairs) = reply["Done"]["latencies"].as_array() else { panic!("{reply}") };
        pairs.iter().map(|pair| pair[1].as_u64().unwrap()).sum()
    }

    /// Why the order fails.
    fn failure(&mut self) -> String {
        let reply = self.finish();
        let Some(why) = reply["Failed"].as_str() else { panic!("{reply}") };
        why.to_owned()
    }

    /// The peer of the order that is being carried out.
    fn peer(&self) -> Pid {
        soon("the peer starts", || children(self.pid()).first().copied())
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The state and the parent of a process.
fn state(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state parent ...", and a name may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// All children, those that are dead and not waited for included.
fn children(parent: Pid) -> Vec<Pid> {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let pids = names.filter_map(|name| Some(Pid::from_raw(name.to_str()?.parse().ok()?)));
    pids.filter(|pid| state(*pid).is_some_and(|(_, its)| its == parent)).collect()
}

/// Waits for something that must come, for as long as the slowest machine may need.
fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not within a minute");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_an_order_starts_ends_with_it() {
    let mut yardstick = Yardstick::start();
    for system in ["cache-line", "futex", "lock", "futex"] {
        assert!(yardstick.count(&order(system)) > 0);
        assert_eq!(children(yardstick.pid()), []);
    }
}

#[test]
fn at_a_pace_each_call_but_the_first_is_counted() {
    let mut yardstick = Yardstick::start();
    assert_eq!(yardstick.count(&Order { pace: pace(5), ..order("futex") }), 4);
    for workload in [Workload::Noop, Workload::BigModel] {
        let with_python = Order { workload: Some(workload), ..order("futex + python") };
        assert_eq!(yardstick.count(&Order { pace: pace(5), ..with_python }), 4);
        assert_eq!(children(yardstick.pid()), []);
    }
}

#[test]
fn a_schedule_that_has_begun_already_is_refused() {
    let mut yardstick = Yardstick::start();
    let late = Pace { first_ns: 1, period_ns: 1, calls: 5 };
    yardstick.begin(&Order { pace: Some(late), ..order("futex") });
    let why = yardstick.failure();
    assert!(why.contains("due before the pair had started"), "{why}");
    assert_eq!(children(yardstick.pid()), []);
}

#[test]
fn a_peer_that_dies_fails_the_order_and_the_next_one_gets_another() {
    let mut yardstick = Yardstick::start();
    for system in ["futex", "cache-line"] {
        let endless = Span { warm_up: 0.0, measured: 1e6 };
        yardstick.begin(&Order { span: endless, ..order(system) });
        kill(yardstick.peer(), Signal::SIGKILL).unwrap();
        let why = yardstick.failure();
        assert!(why.contains("the peer has ended (signal: 9 (SIGKILL))"), "{why}");
        assert_eq!(children(yardstick.pid()), []);
        assert!(yardstick.count(&order(system)) > 0);
    }
}

#[test]
fn a_peer_that_cannot_start_python_says_why() {
    let mut yardstick = Yardstick::start();
    let nowhere = Order { models: "/nowhere".into(), ..order("futex + python") };
    yardstick.begin(&Order { workload: Some(Workload::Noop), pace: pace(5), ..nowhere });
    let why = yardstick.failure();
    assert!(why.contains("ModuleNotFoundError: No module named 'bench_model'"), "{why}");
    assert_eq!(children(yardstick.pid()), []);
}

#[test]
fn a_peer_dies_with_the_yardstick() {
    let endless = Span { warm_up: 0.0, measured: 1e6 };
    let far = Pace { first_ns: u64::MAX / 4, period_ns: 1, calls: 2 };
    for order in [
        Order { span: endless, ..order("cache-line") },
        Order { span: endless, ..order("futex") },
        Order { pace: Some(far), ..order("futex") },
    ] {
        let mut yardstick = Yardstick::start();
        yardstick.begin(&order);
        let peer = yardstick.peer();
        drop(yardstick);
        soon("the peer ends", || match state(peer) {
            None | Some(('Z' | 'X', _)) => Some(()),
            _ => None,
        });
    }
}
