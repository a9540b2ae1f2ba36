//! Results as a run could bring them: a row for everything that the benchmark may measure.

use std::sync::LazyLock;
use std::time::Duration;

use crate::measure::{Latencies, Turn};
use crate::rows::{Figures, Machine, Measured, Results, Row};

/// Repeats of each row.
const REPEATS: usize = 3;

/// All cases.
pub(crate) fn results() -> (Results, Vec<Measured>) {
    static RESULTS: LazyLock<(Results, Vec<Measured>)> = LazyLock::new(made);
    RESULTS.clone()
}

fn made() -> (Results, Vec<Measured>) {
    let mut run = Run { random: 0x9E37_79B9_7F4A_7C15, measured: Vec::new() };
    run.hot_and_limits();
    run.parked_and_load();
    run.throughput();
    run.growth();
    run.tensors();
    run.cost();
    run.rivals();
    let machine = Machine {
        cpu: "AMD EPYC 9B14".to_owned(),
        cpus: 2,
        kernel: "6.1.0-41-cloud-amd64".to_owned(),
        python: "3.11.2".to_owned(),
        unix_time: 1_795_671_420,
        busy_percent: 0.7,
        steal_percent: 0.4,
    };
    let rows = run.measured.iter().map(|one| one.row.clone()).collect();
    (Results { machine, commit: "6d9de87-dirty".to_owned(), rows }, run.measured)
}

struct Run {
    random: u64,
    measured: Vec<Measured>,
}

const WORKLOADS: [(&str, f64); 2] = [("noop", 180.0), ("big_model", 1120.0)];
const POLICIES: [(&str, f64); 3] = [("adaptive", 230.0), ("spin", 220.0), ("park", 5200.0)];

impl Run {
    fn hot_and_limits(&mut self) {
        for (workload, base) in WORKLOADS {
            let row = |system: &str, policy: Option<&str>| Row {
                slots: policy.map(|_| 64),
                policy: policy.map(str::to_owned),
                ..calls("hot", system, workload)
            };
            for (policy, more) in POLICIES {
                self.add(row("nearcall", Some(policy)), base + more, 0.12, 3000);
                let mut overhead = row("overhead", Some(policy));
                overhead.figures.p50_ns = Some(more);
                overhead.figures.p99_ns = Some(more * 3.1);
                overhead.repeats = vec![overhead.figures; REPEATS];
                self.measured.push(Measured { row: overhead, latencies: None });
            }
            self.add(row("in-process", None), base, 0.06, 3000);
        }
        for (system, ns) in [("cache-line", 118.0), ("futex", 43_800.0), ("lock", 9.0)] {
            let limit =
                Row { case: "limits".to_owned(), system: system.to_owned(), ..Row::default() };
            self.add(limit, ns, 0.1, 3000);
        }
    }

    fn parked_and_load(&mut self) {
        for (period, samples) in [(10.0, 600), (100.0, 100), (1000.0, 10)] {
            for (system, ns) in [("nearcall", 61e3), ("futex", 46e3), ("futex + python", 57e3)] {
                let mut row = calls("parked", system, "big_model");
                row.workload = row.workload.filter(|_| system != "futex");
                row.policy = (system == "nearcall").then(|| "adaptive".to_owned());
                row.period_ms = Some(period);
                self.add(row, ns * (1.0 + period / 2000.0), 0.25, samples);
            }
        }
        for load in [10, 30, 50, 70, 90] {
            let row = Row {
                policy: Some("adaptive".to_owned()),
                workers: Some(2),
                load_percent: Some(load),
                ..calls("load", "nearcall", "big_model")
            };
            self.add(row, 1500.0 / (1.0 - f64::from(load) / 105.0), 0.3, 3000);
        }
    }

    fn throughput(&mut self) {
        for submitters in [1usize, 4, 16, 64] {
            let many = submitters as f64;
            for workers in [1, 2] {
                for (policy, more) in POLICIES {
                    let row = Row {
                        policy: Some(policy.to_owned()),
                        submitters: Some(submitters),
                        workers: Some(workers),
                        slots: Some(64),
                        ..calls("throughput", "nearcall", "big_model")
                    };
                    self.add(row, (1120.0 + more) * many / (workers as f64).min(many), 0.2, 400);
                }
            }
            for (system, ns) in
                [("in-process, thread state kept", 1300.0), ("in-process, plain attach", 9300.0)]
            {
                let mut row = calls("throughput", system, "big_model");
                row.submitters = Some(submitters);
                row.workers = None;
                self.add(row, ns * if many > 1.0 { many * 2.4 } else { 1.0 }, 0.4, 400);
            }
        }
        for (pipelined, ns) in [(8, 400.0), (64, 310.0)] {
            let row = Row {
                policy: Some("adaptive".to_owned()),
                pipelined: Some(pipelined),
                slots: Some(64),
                ..calls("throughput", "nearcall", "noop")
            };
            self.add(row, ns, 0.2, 400);
        }
    }

    fn growth(&mut self) {
        let base = |workload: &str| Row {
            policy: Some("adaptive".to_owned()),
            slots: Some(64),
            ..calls("growth", "nearcall", workload)
        };
        for slots in [64usize, 256, 1024, 4096, 16_384, 65_535] {
            let ns = 410.0 + (slots as f64).log2();
            self.add(Row { slots: Some(slots), ..base("noop") }, ns, 0.1, 1000);
        }
        for bytes in [64usize, 256, 1024, 4096, 16_384, 65_536, 1 << 20] {
            for system in ["nearcall", "in-process"] {
                let ours = system == "nearcall";
                let mut row = base(&format!("echo_{bytes}"));
                row.payload_bytes = Some(bytes);
                row.system = system.to_owned();
                row.policy = row.policy.filter(|_| ours);
                row.slots = row.slots.filter(|_| ours);
                let ns = if ours { 430.0 } else { 200.0 } + bytes as f64 / 12.0;
                self.add(row, ns, 0.1, 500);
            }
        }
        for workers in [1usize, 2, 4, 8, 16] {
            let row = Row { workers: Some(workers), submitters: Some(16), ..base("big_model") };
            self.add(row, 16.0 * 1400.0 / (workers as f64).min(2.0), 0.3, 500);
        }
    }

    fn tensors(&mut self) {
        let large = 16 << 20;
        let row = |system: &str, workload: &str, bytes: usize, variant: &str| Row {
            policy: (system == "nearcall").then(|| "adaptive".to_owned()),
            slots: (system == "nearcall").then_some(64),
            payload_bytes: Some(bytes),
            variant: Some(variant.to_owned()),
            ..calls("tensors", system, workload)
        };
        for bytes in [1 << 10, 64 << 10, 1 << 20, large] {
            let spin = |variant| Row {
                policy: Some("spin".to_owned()),
                ..row("nearcall", "first", bytes, variant)
            };
            self.add(spin("in place"), 1_900.0, 0.1, 500);
            self.add(spin("copied"), 4_000.0 + bytes as f64 * 1.5, 0.1, 50);
        }
        for policy in ["adaptive", "spin"] {
            for (variant, ns) in [("in place", 2.05e6), ("in place, huge pages", 1.65e6)] {
                let sum = row("nearcall", "sum", large, variant);
                self.add(Row { policy: Some(policy.to_owned()), ..sum }, ns, 0.1, 50);
            }
        }
        for (memory, ns) in [("memory as numpy takes it", 1.6e6), ("small pages", 2e6)] {
            self.add(row("in-process", "sum", large, memory), ns, 0.1, 50);
        }
        for (variant, ns) in [("in place, answer reused", 4e6), ("copied, fresh answer", 15e6)] {
            self.add(row("nearcall", "scaled", large, variant), ns + 4e6, 0.1, 50);
            self.add(row("overhead", "scaled", large, variant), ns, 0.1, 50);
        }
        for (variant, ns) in [("warm memory", 3.8e6), ("fresh memory", 9e6)] {
            let memcpy = row("memcpy", "", large, variant);
            self.add(Row { workload: None, ..memcpy }, ns, 0.1, 50);
            if let Some(last) = self.measured.last_mut() {
                last.row.figures.bytes_per_second = Some(large as f64 / ns * 1e9);
            }
        }
    }

    fn cost(&mut self) {
        for (policy, more) in POLICIES {
            let row =
                Row { policy: Some(policy.to_owned()), ..calls("cost", "nearcall", "big_model") };
            self.add(row, 1120.0 + more, 0.1, 500);
            if let Some(last) = self.measured.last_mut() {
                last.row.figures.cpu_s_per_million = Some(2e-3 * (1120.0 + more / 3.0));
            }
        }
        let idle = Row {
            policy: Some("adaptive".to_owned()),
            variant: Some("idle".to_owned()),
            figures: Figures { cpu_percent: Some(0.014), ..Figures::default() },
            ..calls("cost", "nearcall", "noop")
        };
        self.measured.push(Measured { row: idle, latencies: None });
        for (system, ms) in [("nearcall", 32.0), ("python3 -c", 18.0)] {
            let mut row = calls("cost", system, "noop");
            row.variant = Some("start to first answer".to_owned());
            self.add(row, ms * 1e6, 0.05, 10);
        }
    }

    fn rivals(&mut self) {
        let systems = [
            ("nearcall", 230.0),
            ("multiprocessing.Pool", 166e3),
            ("ProcessPoolExecutor", 179e3),
            ("unix socket + msgpack", 22e3),
            ("zeromq ipc", 115e3),
            ("iceoryx2, spinning", 5300.0),
            ("iceoryx2, blocking", 74e3),
            ("in-process, thread state kept", 20.0),
            ("in-process, plain attach", 9100.0),
        ];
        for (workload, base) in WORKLOADS {
            for (system, more) in systems {
                let threads: &[usize] =
                    if system.starts_with("in-process") { &[1, 4, 16] } else { &[1] };
                for &submitters in threads {
                    let mut row = calls("rivals", system, workload);
                    row.submitters = Some(submitters);
                    row.policy = (system == "nearcall").then(|| "adaptive".to_owned());
                    let many = if submitters > 1 { 2.4 * submitters as f64 } else { 1.0 };
                    self.add(row, (base + more) * many, 0.3, 1000);
                }
            }
            let row =
                Row { pipelined: Some(64), ..calls("rivals", "unix socket + msgpack", workload) };
            self.add(row, base + 9000.0, 0.3, 1000);
        }
    }

    /// A row whose latencies are spread around a median, with a tail.
    fn add(&mut self, row: Row, median_ns: f64, spread: f64, samples: u64) {
        let mut all = Latencies::new().unwrap();
        let mut repeats = Vec::new();
        for _ in 0..REPEATS {
            let mut latencies = Latencies::new().unwrap();
            let mut seconds = 0.0;
            for _ in 0..samples {
                let normal: f64 = (0..12).map(|_| self.random()).sum::<f64>() - 6.0;
                let tail = (self.random() * samples as f64 / 8.0).max(0.02).powf(-0.7).max(1.0);
                let ns = median_ns * (spread * normal).exp() * tail;
                seconds += ns / 1e9;
                latencies.record(Duration::from_nanos(ns as u64));
            }
            let seconds = seconds / row.submitters.unwrap_or(1) as f64;
            all.add(&latencies).unwrap();
            repeats.push(Figures::of(&Turn { latencies, seconds, cpu_seconds: None }));
        }
        let row =
            Row { samples: Some(all.count()), figures: Figures::median(&repeats), repeats, ..row };
        self.measured.push(Measured { row, latencies: Some(all) });
    }

    /// From 0 to 1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn calls(case: &str, system: &str, workload: &str) -> Row {
    Row {
        case: case.to_owned(),
        system: system.to_owned(),
        workload: Some(workload.to_owned()),
        submitters: Some(1),
        workers: Some(1),
        ..Row::default()
    }
}
