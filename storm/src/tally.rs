//! What is counted, and the report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::journal::Journal;
use crate::orders;

/// What one actor counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Tasks that were accepted.
    pub(crate) tasks: u64,
    pub(crate) answered: u64,
    /// Tasks that ended otherwise, by reason.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) reloads: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) wrong: u64,
    pub(crate) hung: u64,
    pub(crate) leaked: u64,
    /// Of things that are no tasks, or not judged: for the log.
    pub(crate) asides: BTreeMap<&'static str, u64>,
    /// From a worker's end, as the kernel tells it, to the error of a caller that was waiting.
    pub(crate) notices: Vec<Duration>,
    /// The same from the kill.
    pub(crate) kills_to_errors: Vec<Duration>,
}

impl Tally {
    pub(crate) fn fail(&mut self, reason: &'static str) {
        *self.failed.entry(reason).or_default() += 1;
    }

    pub(crate) fn aside(&mut self, what: &'static str) {
        *self.asides.entry(what).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.answered += other.answered;
        self.kills += other.kills;
        self.stops += other.stops;
        self.reloads += other.reloads;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.hung += other.hung;
        self.leaked += other.leaked;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
        for (what, count) in &other.asides {
            *self.asides.entry(what).or_default() += count;
        }
        self.notices.extend(&other.notices);
        self.kills_to_errors.extend(&other.kills_to_errors);
    }

    fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.wrong + self.hung + self.leaked == 0
    }
}

/// What an actor shows to the others.
#[derive(Default)]
pub(crate) struct Sheet {
    tally: Mutex<Tally>,
    /// Its tasks so far, over all rounds.
    sequence: AtomicU64,
    /// Counts its acts, so that one that is stuck is seen.
    pub(crate) acts: AtomicU64,
    pub(crate) doing: Mutex<Option<Doing>>,
}

/// What an actor is at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doing {
    pub(crate) act: u64,
    pub(crate) what: &'static str,
    pub(crate) first_task: u64,
    pub(crate) since: Instant,
}

impl Sheet {
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// A number for the next task of this lane.
    pub(crate) fn next_number(&self, lane: u64) -> u64 {
        // Relaxed: a lane has one thread at a time.
        orders::number(lane, self.sequence.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Says what the actor is about to do. Relaxed: for people, and for who looks once a second.
    pub(crate) fn begin(&self, act: u64, what: &'static str) {
        self.acts.fetch_add(1, Ordering::Relaxed);
        let first_task = self.sequence.load(Ordering::Relaxed) + 1;
        *lock(&self.doing) = Some(Doing { act, what, first_task, since: Instant::now() });
    }

    /// The actor is through.
    pub(crate) fn end(&self) {
        *lock(&self.doing) = None;
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that is counted in a storm.
pub(crate) struct Record {
    seconds: u64,
    seed: u64,
    json: Option<PathBuf>,
    pub(crate) began: Instant,
    pub(crate) sheets: Vec<Sheet>,
    pub(crate) journal: Journal,
    findings: AtomicU64,
    doomed: AtomicBool,
}

/// So many findings are told in full.
const TOLD_FINDINGS: u64 = 30;

impl Record {
    pub(crate) fn new(seconds: u64, seed: u64, json: Option<PathBuf>) -> Self {
        Self {
            seconds,
            seed,
            json,
            began: Instant::now(),
            sheets: (0..orders::LANES).map(|_| Sheet::default()).collect(),
            journal: Journal::begin(),
            findings: AtomicU64::new(0),
            doomed: AtomicBool::new(false),
        }
    }

    pub(crate) fn sheet(&self, lane: u64) -> &Sheet {
        &self.sheets[lane as usize]
    }

    /// Tells of something that should not be, or that explains it.
    pub(crate) fn find(&self, text: impl AsRef<str>) {
        if self.findings.fetch_add(1, Ordering::Relaxed) < TOLD_FINDINGS {
            self.say(text);
        }
    }

    pub(crate) fn say(&self, text: impl AsRef<str>) {
        let at = self.began.elapsed().as_secs_f64();
        let _ = writeln!(std::io::stderr(), "storm {at:7.3} s: {}", text.as_ref());
    }

    /// Something hangs: the storm ends. `true` for the first who says so.
    pub(crate) fn doom(&self) -> bool {
        !self.doomed.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        for sheet in &self.sheets {
            total.add(&sheet.tally());
        }
        total
    }

    /// A line about how it goes.
    pub(crate) fn progress(&self) {
        let total = self.total();
        self.say(format!(
            "{} tasks, {} kills, {} stops, {} reloads, {} answered, failed: {}; asides: {}; {}",
            total.tasks,
            total.kills,
            total.stops,
            total.reloads,
            total.answered,
            list(&total.failed),
            list(&total.asides),
            if total.is_clean() { "clean" } else { "NOT CLEAN" },
        ));
    }

    /// Writes the report and prints the last line.
    pub(crate) fn report(&self) -> ExitCode {
        let total = self.total();
        let report = Report::new(self.seconds, self.seed, &total);
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&report).unwrap_or_default();
            let written = path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| std::fs::write(path, text + "\n"));
            if let Err(error) = written {
                self.say(format!("could not write {}: {error}", path.display()));
            }
        }
        if !total.asides.is_empty() {
            self.say(format!("asides: {}", list(&total.asides)));
        }
        let _ = writeln!(std::io::stdout(), "{}", report.line());
        if total.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn list(counts: &BTreeMap<&'static str, u64>) -> String {
    let mut text = String::new();
    for (what, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{what} {count}");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// What `storm.json` holds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seconds: u64,
    seed: u64,
    tasks: u64,
    kills: u64,
    stops: u64,
    reloads: u64,
    answered: u64,
    failed: BTreeMap<&'static str, u64>,
    lost: u64,
    duplicated: u64,
    wrong: u64,
    hung: u64,
    leaked: u64,
    notice_p50_us: Option<f64>,
    notice_max_us: Option<f64>,
    kill_to_error_p50_us: Option<f64>,
}

impl Report {
    fn new(seconds: u64, seed: u64, total: &Tally) -> Self {
        let micros = |duration: &Duration| (duration.as_secs_f64() * 1e7).round() / 10.0;
        let median = |durations: &[Duration]| {
            let mut sorted = durations.to_vec();
            sorted.sort_unstable();
            sorted.get(sorted.len() / 2).map(micros)
        };
        Self {
            seconds,
            seed,
            tasks: total.tasks,
            kills: total.kills,
            stops: total.stops,
            reloads: total.reloads,
            answered: total.answered,
            failed: total.failed.clone(),
            lost: total.lost,
            duplicated: total.duplicated,
            wrong: total.wrong,
            hung: total.hung,
            leaked: total.leaked,
            notice_p50_us: median(&total.notices),
            notice_max_us: total.notices.iter().max().map(micros),
            kill_to_error_p50_us: median(&total.kills_to_errors),
        }
    }

    fn line(&self) -> String {
        let micros = |value: Option<f64>| value.map_or("?".to_owned(), |value| value.to_string());
        format!(
            "storm: {} s, seed {}: tasks {}, kills {}, stops {}, reloads {}, answered {}, failed ({}), \
             lost {}, duplicated {}, wrong {}, hung {}, leaked {}, death to error {} us at the \
             median and {} us at most, {} us from the kill",
            self.seconds,
            self.seed,
            self.tasks,
            self.kills,
            self.stops,
            self.reloads,
            self.answered,
            list(&self.failed),
            self.lost,
            self.duplicated,
            self.wrong,
            self.hung,
            self.leaked,
            micros(self.notice_p50_us),
            micros(self.notice_max_us),
            micros(self.kill_to_error_p50_us),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_flat_object_with_the_promised_fields() {
        let mut tally = Tally { tasks: 3, ..Tally::default() };
        tally.fail("died");
        tally.notices.push(Duration::from_micros(120));
        let value = serde_json::to_value(Report::new(60, 1, &tally)).unwrap();
        let fields = [
            "seconds",
            "seed",
            "tasks",
            "kills",
            "stops",
            "reloads",
            "answered",
            "failed",
            "lost",
            "duplicated",
            "wrong",
            "hung",
            "leaked",
            "notice_p50_us",
            "notice_max_us",
            "kill_to_error_p50_us",
        ];
        let object = value.as_object().unwrap();
        assert_eq!(object.len(), fields.len());
        for field in fields {
            assert!(object.contains_key(field), "{field}");
        }
        assert_eq!(value["failed"]["died"], 1);
        assert_eq!(value["notice_p50_us"], 120.0);
    }

    #[test]
    fn anything_lost_duplicated_wrong_hung_or_leaked_is_a_failure() {
        assert!(Tally { tasks: 9, answered: 9, ..Tally::default() }.is_clean());
        for bad in [
            Tally { lost: 1, ..Tally::default() },
            Tally { duplicated: 1, ..Tally::default() },
            Tally { wrong: 1, ..Tally::default() },
            Tally { hung: 1, ..Tally::default() },
            Tally { leaked: 1, ..Tally::default() },
        ] {
            assert!(!bad.is_clean());
        }
    }
}
