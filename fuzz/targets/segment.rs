//! The host over a segment into which anything is written between any two of its steps.
//!
//! There are no processes: what an honest worker does is done by call, what a broken one does is a
//! write, and time passes by call too. While the host looks at a slot, all else in the segment is poisoned: a read or write that
//! leaves the slot is one that AddressSanitizer stops.

#![no_main]

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nearcall::error::{RetrieveError, SubmitError, TaskError, WaitError};
use nearcall::fuzzing::{ANSWER_LEN, CLAIM, CLAIM_END, DONE, Host, Places, RUNNING, Settings};
use nearcall::peer::{AnswerBuf, Outcome};
use nearcall::{Answer, Key, PythonError, Value};
use nearcall_fuzz::{Input, tell};

/// Steps of one input.
const MOST_STEPS: usize = 200;

/// The pace of the audits.
const TICK: Duration = Duration::from_millis(100);

/// Audits after which everything is as it should be: a task that nobody runs is looked at for 6 s.
const MOST_AUDITS: usize = 200;

/// Audits after which an idle worker that takes no task is replaced, but one.
const MOST_NEGLECTED: u32 = 9;

/// How often all slots are used, at most, until all answers are right again.
const MOST_TURNS: usize = 8;

/// A generation is a number of 47 bits.
const LAST_GENERATION: u64 = (1 << 47) - 1;

unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const c_void, size: usize);
    fn __asan_unpoison_memory_region(start: *const c_void, size: usize);
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (slots, workers) = (1 + input.below(4), 1 + input.below(3));
    let settings = Settings {
        slots,
        workers,
        retries: [0, 2][input.below(2)],
        interrupt: [None, Some(2 * TICK)][input.below(2)],
        // At the range's start, in its middle, at its end, where it wraps.
        origin: [1, 1 << 46, LAST_GENERATION - 2][input.below(3)],
    };
    let ending = input.below(3);
    let mut run = Run::new(settings);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    if ending > 0 {
        run.recover(ending == 1);
        run.serve_on();
    }
    run.finish();
});

/// How a task stands with the one who submitted it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Standing {
    /// Accepted; it has to end.
    Owed,
    /// It has ended, or was abandoned: its key is used up.
    Over,
}

/// What was written over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Harm {
    None,
    /// Tasks and answers, their lengths, the futexes.
    Payload,
    /// The words that say how far a task is.
    Words,
    /// All else: the ring, its head, the workers' words.
    Ring,
}

/// By what the host has ended a task before it had an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Cancelled,
    Late,
    Died,
    Unavailable,
    Closed,
}

struct Task {
    key: Key,
    standing: Standing,
    /// What a worker has published for it.
    outcome: Option<Vec<u8>>,
    verdict: Option<Verdict>,
    /// The moment at which it is late.
    deadline: Option<Duration>,
    /// Workers that have died of it.
    deaths: u32,
    text: String,
}

/// A worker, as it sees itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Worker {
    /// There is none.
    Nobody,
    Idle,
    Runs(Key),
    /// Its outcome is not published yet.
    Finished(Key),
    /// It has lost its task, and leaves.
    Leaves,
}

impl Worker {
    fn task(self) -> Option<Key> {
        match self {
            Self::Runs(key) | Self::Finished(key) => Some(key),
            _ => None,
        }
    }
}

struct Run {
    host: Host,
    at: Places,
    base: *mut u8,
    settings: Settings,
    tasks: Vec<Task>,
    workers: Vec<Worker>,
    /// Running tasks that are condemned: their workers must not publish.
    condemned: Vec<Key>,
    /// Time that has passed.
    now: Duration,
    /// Audits since a worker has looked for a task.
    neglected: u32,
    answer: Answer,
    /// The worst that was written that no honest worker writes: then tasks may end in other ways.
    harm: Harm,
    /// Starts of workers have failed since the last that succeeded.
    starts_fail: bool,
    /// No worker can be had.
    unavailable: bool,
    closed: bool,
}

impl Run {
    fn new(settings: Settings) -> Self {
        let host = Host::new(settings).expect("there is room for a small segment");
        let mut run = Self {
            at: host.places(),
            base: host.base(),
            host,
            settings,
            tasks: Vec::new(),
            workers: vec![Worker::Nobody; settings.workers],
            condemned: Vec::new(),
            now: Duration::ZERO,
            neglected: 0,
            answer: Answer::new(),
            harm: Harm::None,
            starts_fail: false,
            unavailable: false,
            closed: false,
        };
        run.hire();
        run
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(22) {
            0..=2 => self.submit(input),
            3 | 4 => {
                let task = input.below(self.tasks.len());
                self.retrieve(task);
            }
            5 => self.wait(input),
            6 => self.abandon(input),
            7 => self.cancel(input),
            8 => self.count(),
            9 | 10 => {
                let passed = [Duration::ZERO, TICK, TICK, 15 * TICK][input.below(4)];
                self.round(passed);
            }
            11 => self.bury(input),
            12 => self.hire(),
            13 => self.fail_starts(),
            14 | 15 => self.claim(input),
            16 => self.finish_task(input),
            17 => self.publish(input),
            18 => self.scribble_on_a_slot(input),
            19 => self.scribble_on_the_ring(input),
            20 => self.scribble_on_a_worker(input),
            _ => self.scribble_anywhere(input),
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        // Into the entry, beside the slot's words, into its body, and too large.
        let len = [0, 7, 47, 48, 111, 112, 200, 253, 254, 400][input.below(10)];
        let within = [None, None, Some(Duration::ZERO), Some(3 * TICK)][input.below(4)];
        self.submit_text(len, within);
    }

    fn submit_text(&mut self, len: usize, within: Option<Duration>) -> Option<Key> {
        let text: String = (b'a'..=b'z').map(char::from).cycle().take(len).collect();
        // Nobody writes where a task stands that is owed an answer.
        for task in self.tasks.iter().filter(|task| task.standing == Standing::Owed) {
            let (words, body) = self.slot(task.key);
            self.poison(words, self.at.slot_words);
            self.poison(body, self.at.body);
        }
        let submitted = self.host.submit(&text, within);
        self.unpoison();
        tell(format_args!("submit {len} bytes within {within:?}: {submitted:?}"));
        match submitted {
            Ok(key) => {
                assert!(!self.closed && !self.unavailable && len < 254);
                let other = self.tasks.iter().find(|task| {
                    task.key == key
                        || task.standing == Standing::Owed && index(task.key) == index(key)
                });
                assert!(other.is_none(), "{key:?} in a slot that is taken");
                self.tasks.push(Task {
                    key,
                    standing: Standing::Owed,
                    outcome: None,
                    verdict: None,
                    deadline: within.map(|within| self.now + within),
                    deaths: 0,
                    text,
                });
                return Some(key);
            }
            Err(SubmitError::TooLarge { .. }) => assert!(len >= 254),
            // To look may free a slot whose words were put right by the look before.
            Err(SubmitError::Full { .. }) => {
                assert!(self.harm >= Harm::Words || self.host.in_use() == self.settings.slots);
            }
            Err(SubmitError::Unavailable { .. }) => assert!(self.unavailable),
            Err(error) => panic!("{error}"),
        }
        None
    }

    fn retrieve(&mut self, task: usize) {
        let Some(Task { key, .. }) = self.tasks.get(task) else { return };
        let (key, mut answer) = (*key, std::mem::take(&mut self.answer));
        let retrieved = self.guarded(key, |host| host.retrieve(key, &mut answer));
        self.answer = answer;
        self.judge(task, retrieved);
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        let task = input.below(self.tasks.len());
        let Some(Task { key, .. }) = self.tasks.get(task) else { return };
        let key = *key;
        let waited = self.guarded(key, |host| host.wait(key));
        let retrieved = match waited {
            Ok(answer) => {
                self.answer = answer;
                Ok(true)
            }
            Err(WaitError::TimedOut) => Ok(false),
            Err(WaitError::Retrieve(error)) => Err(error),
            Err(error) => panic!("{error}"),
        };
        self.judge(task, retrieved);
    }

    /// Each task ends once, and then never again; without scribbles with what was published.
    fn judge(&mut self, task: usize, retrieved: Result<bool, RetrieveError>) {
        let Some(task) = self.tasks.get_mut(task) else { return };
        tell(format_args!("retrieve {:?}, {:?}: {retrieved:?}", task.key, task.standing));
        match (task.standing, retrieved) {
            (Standing::Owed, Ok(false)) => {
                let over = task.outcome.is_some() || task.verdict.is_some();
                assert!(self.harm > Harm::None || !over, "{:?} is over", task.key);
            }
            (Standing::Owed, Ok(true)) => {
                task.standing = Standing::Over;
                let found = format!("{:?}", self.answer.value());
                if self.harm == Harm::None {
                    assert_eq!(task.verdict, None);
                    let published = task.outcome.as_deref().expect("nobody has published it");
                    let Ok(Outcome::Value(value)) = Outcome::decode(published) else {
                        panic!("{published:?} is no value")
                    };
                    assert_eq!(found, format!("{value:?}"));
                }
            }
            (Standing::Owed, Err(RetrieveError::Task(error))) => {
                task.standing = Standing::Over;
                let fits = match &error {
                    TaskError::Python(_) => task.verdict.is_none() && task.outcome.is_some(),
                    TaskError::Cancelled => task.verdict == Some(Verdict::Cancelled),
                    TaskError::DeadlinePassed => task.verdict == Some(Verdict::Late),
                    TaskError::Unavailable { .. } => task.verdict == Some(Verdict::Unavailable),
                    TaskError::Closed => task.verdict == Some(Verdict::Closed),
                    TaskError::Died { report, .. } => {
                        task.verdict == Some(Verdict::Died)
                            && report.earlier.len() == self.settings.retries as usize
                    }
                    _ => false,
                };
                assert!(
                    self.harm > Harm::None || fits,
                    "{error}, after {:?} {:?}",
                    task.outcome,
                    task.verdict
                );
            }
            (Standing::Over, Err(RetrieveError::AlreadyRetrieved { .. })) => {}
            (standing, retrieved) => panic!("{:?} {standing:?}: {retrieved:?}", task.key),
        }
    }

    fn abandon(&mut self, input: &mut Input<'_>) {
        let task = input.below(self.tasks.len());
        let Some(Task { key, .. }) = self.tasks.get(task) else { return };
        let key = *key;
        tell(format_args!("abandon {key:?}"));
        self.guarded(key, |host| host.abandon(key));
        self.tasks[task].standing = Standing::Over;
    }

    fn cancel(&mut self, input: &mut Input<'_>) {
        let number = input.below(self.tasks.len());
        let Some(Task { key, .. }) = self.tasks.get(number) else { return };
        let key = *key;
        let cancelled = self.guarded(key, |host| host.cancel(key));
        tell(format_args!("cancel {key:?}: {cancelled}"));
        let task = &mut self.tasks[number];
        let is_open = task.is_open();
        assert!(self.harm > Harm::None || cancelled == is_open, "{key:?}, open: {is_open}");
        assert!(!cancelled || task.standing == Standing::Owed);
        if cancelled {
            task.verdict = Some(Verdict::Cancelled);
        }
    }

    fn count(&self) {
        let owed = self.tasks.iter().filter(|task| task.standing == Standing::Owed).count();
        assert!((owed..=self.settings.slots).contains(&self.host.in_use()));
    }

    /// A round of the supervisor's. Tasks whose deadline has passed are over after it, those that were
    /// over before are condemned.
    fn round(&mut self, passed: Duration) {
        // An honest worker looks before it is replaced for not looking.
        if self.harm < Harm::Words && self.neglected >= MOST_NEGLECTED {
            for place in 0..self.settings.workers {
                self.claim_at(place);
            }
        }
        self.neglected += 1;
        tell(format_args!("round after {passed:?}"));
        self.now += passed;
        let grace = self.settings.interrupt;
        for worker in &self.workers {
            if let Worker::Runs(key) = *worker
                && grace.is_none()
                && self.tasks.iter().any(|task| task.key == key && task.is_stopped())
            {
                self.condemned.push(key);
            }
        }
        self.host.round(passed);
        for task in &mut self.tasks {
            // Abandoned ones too: somebody may run them.
            let runs = task.outcome.is_none() && task.verdict.is_none();
            if runs && task.deadline.is_some_and(|deadline| self.now >= deadline) {
                task.verdict = Some(Verdict::Late);
            }
        }
        assert!(self.harm >= Harm::Words || !self.host.rebuilds(), "nothing is wrong");
    }

    /// A worker dies, or all that were killed do.
    fn bury(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.settings.workers + 1);
        if place < self.settings.workers {
            // What is not broken, no worker finds broken.
            let broken = input.below(16) == 15 && self.harm >= Harm::Words;
            self.bury_at(place, broken);
        } else {
            self.bury_killed();
        }
    }

    fn bury_killed(&mut self) {
        for place in 0..self.settings.workers {
            if self.host.is_killed(place) || self.workers[place] == Worker::Leaves {
                self.bury_at(place, false);
            }
        }
    }

    fn bury_at(&mut self, place: usize, broken: bool) {
        let worker = std::mem::replace(&mut self.workers[place], Worker::Nobody);
        if worker == Worker::Nobody {
            return;
        }
        tell(format_args!("bury worker {place}: {worker:?}, broken: {broken}"));
        self.host.bury(place, broken);
        self.condemned.retain(|condemned| Some(*condemned) != worker.task());
        let had = |task: &&mut Task| worker.task() == Some(task.key) && task.is_open();
        if let Some(task) = self.tasks.iter_mut().find(had) {
            task.deaths += 1;
            if task.deaths > self.settings.retries {
                task.verdict = Some(Verdict::Died);
            }
        }
        self.note_availability();
    }

    /// Workers begin wherever there is none.
    fn hire(&mut self) {
        for place in 0..self.settings.workers {
            if self.workers[place] == Worker::Nobody && self.host.hire(place) {
                tell(format_args!("worker {place} begins"));
                self.workers[place] = Worker::Idle;
                (self.starts_fail, self.unavailable) = (false, false);
            }
        }
    }

    fn fail_starts(&mut self) {
        self.starts_fail = true;
        let available = self.host.fail_starts();
        tell(format_args!("starts fail, tasks are taken: {available}"));
        self.note_availability();
        assert_eq!(available, !self.unavailable);
    }

    /// If nobody serves, and nobody can: what waits is over, and nothing new is taken.
    fn note_availability(&mut self) {
        let nobody = self.workers.iter().all(|worker| *worker == Worker::Nobody);
        if self.starts_fail && nobody {
            self.unavailable = true;
            let open = self.tasks.iter_mut().filter(|task| task.is_open());
            open.for_each(|task| task.verdict = Some(Verdict::Unavailable));
        }
    }

    fn claim(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.settings.workers);
        self.claim_at(place);
    }

    fn claim_at(&mut self, place: usize) -> Option<Key> {
        if self.workers[place] != Worker::Idle {
            return None;
        }
        self.neglected = 0;
        let claimed = self.host.claim(place as u16);
        tell(format_args!(
            "worker {place} claims {claimed:?}",
            claimed = claimed.as_ref().map(|c| c.0)
        ));
        if self.harm == Harm::None {
            let runs = |key| self.workers.iter().any(|worker| worker.task() == Some(key));
            let waits = |task: &&Task| task.is_open() && !runs(task.key);
            match &claimed {
                None => assert_eq!(self.tasks.iter().filter(waits).count(), 0, "it waits"),
                Some((key, bytes)) => {
                    let task = self.tasks.iter().filter(waits).find(|task| task.key == *key);
                    let task = task.expect("it waits");
                    assert!(bytes.ends_with(task.text.as_bytes()), "another task");
                }
            }
        }
        let (key, _) = claimed?;
        self.workers[place] = Worker::Runs(key);
        Some(key)
    }

    /// The worker is the one that publishes, from here on.
    fn finish_task(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.settings.workers);
        self.finish_at(place);
    }

    fn finish_at(&mut self, place: usize) {
        let Worker::Runs(key) = self.workers[place] else { return };
        let finished = self.host.finish(place as u16, key);
        tell(format_args!("worker {place} finishes {key:?}: {finished}"));
        let condemned = self.condemned.contains(&key);
        let told = self.settings.interrupt.is_some() && self.is_stopped(key);
        assert!(
            self.harm > Harm::Payload || told || finished != condemned,
            "{key:?}, condemned: {condemned}"
        );
        self.workers[place] = if finished { Worker::Finished(key) } else { Worker::Leaves };
    }

    fn is_stopped(&self, key: Key) -> bool {
        self.tasks.iter().any(|task| task.key == key && task.is_stopped())
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.settings.workers);
        let mut buffer = AnswerBuf::new(self.at.body);
        match input.below(6) {
            0 => buffer.python_error(PythonError::new("ValueError", "no")),
            1 => {
                buffer.start_value();
                buffer.bytes(&[7; 200]);
            }
            2 => {
                buffer.start_value();
                buffer.value(&Value::Tuple(vec![Value::Int(1), Value::Str("two".to_owned())]));
            }
            3 => {
                // What no honest worker makes.
                self.harm = self.harm.max(Harm::Payload);
                let len = input.below(256);
                return self.publish_at(place, input.bytes(len));
            }
            _ => {
                buffer.start_value();
                buffer.int(7);
            }
        }
        self.publish_at(place, buffer.finish());
    }

    fn publish_at(&mut self, place: usize, outcome: &[u8]) {
        self.finish_at(place);
        let Worker::Finished(key) = self.workers[place] else { return };
        tell(format_args!("worker {place} publishes {key:?}"));
        self.host.publish(place as u16, key, outcome);
        self.workers[place] = Worker::Idle;
        if let Some(task) = self.tasks.iter_mut().find(|task| task.key == key) {
            task.outcome = Some(outcome.to_vec());
        }
    }

    /// Publishes 7.
    fn answer_at(&mut self, place: usize) {
        let mut buffer = AnswerBuf::new(self.at.body);
        buffer.start_value();
        buffer.int(7);
        self.publish_at(place, buffer.finish());
    }

    /// Words that are near to what could be there.
    fn scribble_on_a_slot(&mut self, input: &mut Input<'_>) {
        let slot = self.at.slots + input.below(self.settings.slots) * self.at.slot_words;
        let latest = self.tasks.iter().rev().find(|task| self.slot(task.key).0 == slot);
        let generation = latest.map_or(0, |task| task.key.get() >> 16);
        match input.below(4) {
            0 | 1 => {
                let word = [DONE, CLAIM][input.below(2)];
                let phase = u64::from(input.byte() % 8);
                let owner = [0, 1, 2, 0x3FFE, 0x3FFF][input.below(5)];
                let step = [0, 1, LAST_GENERATION, 2, 1 << 46, 1 << 45][input.below(6)];
                let generation = generation.wrapping_add(step) & LAST_GENERATION;
                self.write(slot + word, generation << 17 | owner << 3 | phase);
            }
            2 => {
                let len = [0, 1, 111, 112, 113, 255, 256, 257, 1 << 24, 1 << 31, u32::MAX];
                let waiter = u64::from(input.byte());
                let len = u64::from(len[input.below(11)]);
                self.write(slot + ANSWER_LEN / 8 * 8, len << 32 | waiter);
            }
            _ => {
                // An outcome, in the words or in the body.
                let bytes = input.below(64);
                let start = match input.below(2) {
                    0 => slot + ANSWER_LEN + 4,
                    _ => {
                        self.at.bodies + (slot - self.at.slots) / self.at.slot_words * self.at.body
                    }
                };
                for (index, bytes) in input.bytes(bytes).chunks(8).enumerate() {
                    self.write(start + 8 * index, Input(bytes).u64());
                }
            }
        }
    }

    fn scribble_on_the_ring(&mut self, input: &mut Input<'_>) {
        let tail = self.host.tail();
        let near = tail.wrapping_add_signed(i64::from(input.byte() as i8) / 8);
        if input.below(2) == 0 {
            return self.write(self.at.head, near);
        }
        // An entry of this round or of another, for a key of this engine or for none.
        let lap = u64::from(input.byte() & 1) << 63;
        let key = match self.tasks.get(input.below(self.tasks.len() + 1)) {
            Some(task) => task.key.get(),
            None => input.u64(),
        };
        let entry = self.at.ring + (near as usize % self.at.entries) * 64;
        self.write(entry, key & !(1 << 63) | lap);
        self.write(entry + 8, u64::from(input.byte()));
    }

    fn scribble_on_a_worker(&mut self, input: &mut Input<'_>) {
        let words = self.at.workers + input.below(self.settings.workers) * self.at.worker_words;
        let word = words + input.below(self.at.worker_words / 8) * 8;
        let value = [0, 1, 2, 3, 1 << 32, u64::MAX][input.below(6)];
        self.write(word, value);
    }

    fn scribble_anywhere(&mut self, input: &mut Input<'_>) {
        let word =
            (usize::from(input.byte()) << 8 | usize::from(input.byte())) % (self.at.bytes / 8);
        let value = input.u64();
        self.write(8 * word, value);
    }

    fn write(&mut self, offset: usize, value: u64) {
        // A worker that says, and whose claim says, that it runs a task is believed: whether it does,
        // only a deadline can tell. So nobody lies about that here.
        let in_words = offset.checked_sub(self.at.workers);
        let in_words = in_words.filter(|_| offset < self.at.ring).map(|o| o % self.at.worker_words);
        let value = if in_words == Some(RUNNING) { value | 0xFFFF } else { value };
        tell(format_args!("write {value:#x} at {offset}"));
        self.harm = self.harm.max(self.harm_of(offset));
        assert!(offset < self.at.bytes && offset.is_multiple_of(8));
        // SAFETY: inside the segment.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: mapped while the host lives, aligned, and used through atomics by all.
        unsafe { &*word.cast::<AtomicU64>() }.store(value, Ordering::Relaxed);
    }

    /// Nobody writes any more what no worker writes, and workers do what they get: every task ends and
    /// every slot is free again, by itself. Those that have a task answer it, or die first.
    fn recover(&mut self, all_die: bool) {
        tell(format_args!("recover"));
        if all_die {
            (0..self.settings.workers).for_each(|place| self.bury_at(place, false));
        }
        for _ in 0..MOST_AUDITS {
            self.serve_all();
            self.round(TICK);
            (0..self.tasks.len()).for_each(|task| self.retrieve(task));
            if self.host.in_use() == 0 {
                break;
            }
        }
        let owed = self.tasks.iter().find(|task| task.standing == Standing::Owed);
        let owed = owed.map(|task| task.key);
        assert!(owed.is_none(), "{owed:?} does not end");
        assert_eq!(self.host.in_use(), 0, "slots in use, all tasks are over");
    }

    /// After some turns of all slots, in which what was written there comes up, all is as before.
    fn serve_on(&mut self) {
        for _ in 0..MOST_TURNS {
            self.tasks.clear();
            self.hire();
            // One that is not taken has met a head that is not where the host believes it.
            let taken = (0..self.settings.slots).all(|_| self.submit_text(200, None).is_some());
            let answered = |run: &mut Self| {
                (0..run.tasks.len()).all(|task| {
                    run.retrieve(task);
                    run.tasks[task].standing == Standing::Over && run.answer.int(0) == Ok(7)
                })
            };
            self.serve_all();
            if answered(self) && taken && self.host.in_use() == 0 {
                return;
            }
            self.recover(false);
        }
        panic!("it does not serve as before");
    }

    fn serve_all(&mut self) {
        self.bury_killed();
        self.hire();
        for place in 0..self.settings.workers {
            loop {
                self.answer_at(place);
                if self.claim_at(place).is_none() {
                    break;
                }
            }
        }
        self.bury_killed();
    }

    /// What a write at this place may do harm to.
    fn harm_of(&self, offset: usize) -> Harm {
        if offset >= self.at.bodies {
            return Harm::Payload;
        }
        let Some(in_slots) = offset.checked_sub(self.at.slots) else { return Harm::Ring };
        match in_slots % self.at.slot_words {
            DONE | CLAIM => Harm::Words,
            _ => Harm::Payload,
        }
    }

    /// The engine ends: no task is owed any more.
    fn finish(mut self) {
        self.host.close();
        self.closed = true;
        let open = self.tasks.iter_mut().filter(|task| task.is_open());
        open.for_each(|task| task.verdict = Some(Verdict::Closed));
        assert!(matches!(self.host.submit("late", None), Err(SubmitError::Closed { .. })));
        for task in 0..self.tasks.len() {
            self.retrieve(task);
            self.retrieve(task);
            assert_eq!(self.tasks[task].standing, Standing::Over, "{:?}", self.tasks[task].key);
        }
        // What turns out to be wrong after the end is not put right any more.
        let in_use = self.host.in_use();
        assert!(self.harm >= Harm::Words || in_use == 0, "{in_use} slots in use");
    }

    /// Where the slot of a key stands: words and body.
    fn slot(&self, key: Key) -> (usize, usize) {
        let index = index(key);
        let words = self.at.slots + index * self.at.slot_words;
        (words, self.at.bodies + index * self.at.body)
    }

    /// Runs what concerns the task of `key` and nothing else in the segment: not even the part of its
    /// slot that the task stands in.
    fn guarded<T>(&self, key: Key, act: impl FnOnce(&Host) -> T) -> T {
        let (words, body) = self.slot(key);
        self.poison(0, words);
        self.poison(words + CLAIM_END, body - (words + CLAIM_END));
        self.poison(body + self.at.body, self.at.bytes - (body + self.at.body));
        let result = act(&self.host);
        self.unpoison();
        result
    }

    fn poison(&self, start: usize, size: usize) {
        assert!(start + size <= self.at.bytes);
        let start = self.base.wrapping_add(start);
        // SAFETY: marks bytes of the segment; none is changed.
        unsafe { __asan_poison_memory_region(start.cast(), size) };
    }

    fn unpoison(&self) {
        // SAFETY: as in `poison`.
        unsafe { __asan_unpoison_memory_region(self.base.cast(), self.at.bytes) };
    }
}

impl Task {
    /// Whether it waits or runs, and somebody wants its outcome.
    fn is_open(&self) -> bool {
        self.standing == Standing::Owed && self.outcome.is_none() && self.verdict.is_none()
    }

    /// Whether the host has ended it, so that whoever runs it is stopped.
    fn is_stopped(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Cancelled | Verdict::Late))
    }
}

fn index(key: Key) -> usize {
    usize::from(key.get() as u16)
}
