//! The host over a segment into which anything is written between any two of its steps.
//!
//! There are no processes: what an honest worker does is done by call, what a broken one does is a
//! write. While the host looks at a slot, all else in the segment is poisoned: a read or write that
//! leaves the slot is one that AddressSanitizer stops.

#![no_main]

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use nearcall::error::{RetrieveError, SubmitError, TaskError, WaitError};
use nearcall::fuzzing::{ANSWER_LEN, CLAIM, CLAIM_END, DONE, Host, Places};
use nearcall::peer::{AnswerBuf, Outcome};
use nearcall::{Answer, Key, PythonError, Value};
use nearcall_fuzz::{Input, tell};

/// Steps of one input.
const MOST_STEPS: usize = 200;

/// Audits after which everything is as it should be.
const MOST_AUDITS: usize = 40;

/// A generation is a number of 47 bits.
const LAST_GENERATION: u64 = (1 << 47) - 1;

unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const c_void, size: usize);
    fn __asan_unpoison_memory_region(start: *const c_void, size: usize);
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (slots, workers) = (1 + input.below(4), 1 + input.below(3));
    // At the range's start, in its middle, at its end, where it wraps.
    let origin = [1, 1 << 46, LAST_GENERATION - 2][input.below(3)];
    let goes_on = input.below(2) == 0;
    let mut run = Run::new(slots, workers, origin);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    if goes_on && run.harm <= RECOVERS_FROM {
        run.recover();
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

/// What the engine recovers from without an end. From more it does not yet: a `claim` or `done` word
/// of another's slot can cost that slot, a wrong head all (README, "What it does not promise").
const RECOVERS_FROM: Harm = Harm::Payload;

struct Task {
    key: Key,
    standing: Standing,
    /// What a worker has published for it.
    outcome: Option<Vec<u8>>,
    text: String,
}

struct Run {
    host: Host,
    at: Places,
    base: *mut u8,
    slots: usize,
    workers: usize,
    tasks: Vec<Task>,
    /// What each worker has claimed.
    claimed: Vec<Option<Key>>,
    answer: Answer,
    /// The worst that was written that no honest worker writes: then tasks may end in other ways.
    harm: Harm,
    closed: bool,
}

impl Run {
    fn new(slots: usize, workers: usize, origin: u64) -> Self {
        let host = Host::new(slots, workers, origin).expect("there is room for a small segment");
        Self {
            at: host.places(),
            base: host.base(),
            host,
            slots,
            workers,
            tasks: Vec::new(),
            claimed: vec![None; workers],
            answer: Answer::new(),
            harm: Harm::None,
            closed: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=2 => self.submit(input),
            3 | 4 => {
                let task = input.below(self.tasks.len());
                self.retrieve(task);
            }
            5 => self.wait(input),
            6 => self.abandon(input),
            7 => self.count(),
            8 => {
                tell(format_args!("audit"));
                self.host.audit();
            }
            9 => self.bury(input),
            10 | 11 => self.claim(input),
            12 => self.publish(input),
            13 => self.scribble_on_a_slot(input),
            14 => self.scribble_on_the_ring(input),
            _ => self.scribble_anywhere(input),
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        // Into the entry, beside the slot's words, into its body, and too large.
        let len = [0, 7, 47, 48, 111, 112, 200, 253, 254, 400][input.below(10)];
        let text: String = (b'a'..=b'z').map(char::from).cycle().take(len).collect();
        // Nobody writes where a task stands that is owed an answer.
        for task in self.tasks.iter().filter(|task| task.standing == Standing::Owed) {
            let (words, body) = self.slot(task.key);
            self.poison(words, self.at.slot_words);
            self.poison(body, self.at.body);
        }
        let submitted = self.host.submit(&text);
        self.unpoison();
        tell(format_args!("submit {len} bytes: {submitted:?}"));
        match submitted {
            Ok(key) => {
                assert!(!self.closed && len < 254);
                let other = self.tasks.iter().find(|task| {
                    task.key == key
                        || task.standing == Standing::Owed && index(task.key) == index(key)
                });
                assert!(other.is_none(), "{key:?} in a slot that is taken");
                let (standing, outcome) = (Standing::Owed, None);
                self.tasks.push(Task { key, standing, outcome, text });
            }
            Err(SubmitError::TooLarge { .. }) => assert!(len >= 254),
            // To look may free a slot whose words were put right by the look before.
            Err(SubmitError::Full { .. }) => {
                assert!(self.harm >= Harm::Words || self.host.in_use() == self.slots);
            }
            Err(error) => panic!("{error}"),
        }
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
                assert!(
                    self.harm > Harm::None || task.outcome.is_none(),
                    "{:?} was published",
                    task.key
                );
            }
            (Standing::Owed, Ok(true)) => {
                task.standing = Standing::Over;
                let found = format!("{:?}", self.answer.value());
                if self.harm == Harm::None {
                    let published = task.outcome.as_deref().expect("nobody has published it");
                    let Ok(Outcome::Value(value)) = Outcome::decode(published) else {
                        panic!("{published:?} is no value")
                    };
                    assert_eq!(found, format!("{value:?}"));
                }
            }
            (Standing::Owed, Err(RetrieveError::Task(error))) => {
                task.standing = Standing::Over;
                let raised = matches!(error, TaskError::Python(_));
                let fits =
                    raised == task.outcome.is_some() && !matches!(error, TaskError::Corrupt { .. });
                assert!(self.harm > Harm::None || fits, "{error}, after {:?}", task.outcome);
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

    fn count(&self) {
        let owed = self.tasks.iter().filter(|task| task.standing == Standing::Owed).count();
        assert!((owed..=self.slots).contains(&self.host.in_use()));
    }

    /// A worker dies, or all that are faulty do.
    fn bury(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.workers + 1);
        tell(format_args!("bury {place} of {}", self.workers));
        if place < self.workers {
            self.host.bury(place);
            self.claimed[place] = None;
        } else {
            self.host.bury_faulty(self.workers);
            self.claimed.fill(None);
        }
    }

    fn claim(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.workers);
        if self.claimed[place].is_some() {
            return;
        }
        let Some((key, bytes)) = self.host.claim(place as u16) else {
            return tell(format_args!("worker {place} finds nothing to claim"));
        };
        tell(format_args!("worker {place} claims {key:?}"));
        self.claimed[place] = Some(key);
        if self.harm == Harm::None {
            let task = self.tasks.iter().find(|task| task.key == key).expect("it was submitted");
            assert!(bytes.ends_with(task.text.as_bytes()), "another task");
        }
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let place = input.below(self.workers);
        let Some(key) = self.claimed[place].take() else { return };
        tell(format_args!("worker {place} answers {key:?}"));
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
                self.host.answer(place as u16, key, input.bytes(len));
                return;
            }
            _ => {
                buffer.start_value();
                buffer.int(7);
            }
        }
        let outcome = buffer.finish().to_vec();
        let published = self.host.answer(place as u16, key, &outcome);
        assert!(published || self.harm > Harm::None, "{key:?} was taken from worker {place}");
        if let Some(task) = self.tasks.iter_mut().find(|task| task.key == key) {
            task.outcome = Some(outcome);
        }
    }

    /// Words that are near to what could be there.
    fn scribble_on_a_slot(&mut self, input: &mut Input<'_>) {
        let slot = self.at.slots + input.below(self.slots) * self.at.slot_words;
        let latest = self.tasks.iter().rev().find(|task| self.slot(task.key).0 == slot);
        let generation = latest.map_or(0, |task| task.key.get() >> 16);
        match input.below(4) {
            0 | 1 => {
                let word = [DONE, CLAIM][input.below(2)];
                let phase = u64::from(input.byte() % 8);
                let owner = [0, 1, 2, 0x3FFE, 0x3FFF][input.below(5)];
                let step = [0, 1, LAST_GENERATION, 2, 1 << 46][input.below(5)];
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

    fn scribble_anywhere(&mut self, input: &mut Input<'_>) {
        let word =
            (usize::from(input.byte()) << 8 | usize::from(input.byte())) % (self.at.bytes / 8);
        let value = input.u64();
        self.write(8 * word, value);
    }

    fn write(&mut self, offset: usize, value: u64) {
        tell(format_args!("write {value:#x} at {offset}"));
        self.harm = self.harm.max(self.harm_of(offset));
        assert!(offset < self.at.bytes && offset.is_multiple_of(8));
        // SAFETY: inside the segment.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: mapped while the host lives, aligned, and used through atomics by all.
        unsafe { &*word.cast::<AtomicU64>() }.store(value, Ordering::Relaxed);
    }

    /// Nobody writes any more what no worker writes, all workers are replaced, and the new ones do
    /// what they get: every task ends and every slot is free again, by itself.
    fn recover(&mut self) {
        tell(format_args!("recover"));
        (0..self.workers).for_each(|place| self.host.bury(place));
        self.claimed.fill(None);
        for _ in 0..MOST_AUDITS {
            self.host.audit();
            self.host.bury_faulty(self.workers);
            self.serve_all();
            (0..self.tasks.len()).for_each(|task| self.retrieve(task));
            let owed = self.tasks.iter().any(|task| task.standing == Standing::Owed);
            if !owed && self.host.in_use() == 0 {
                break;
            }
        }
        assert_eq!(self.host.in_use(), 0, "slots in use, all tasks are over");
    }

    fn serve_all(&mut self) {
        let mut buffer = AnswerBuf::new(self.at.body);
        buffer.start_value();
        buffer.int(7);
        let outcome = buffer.finish().to_vec();
        while let Some((key, _)) = self.host.claim(0) {
            tell(format_args!("worker 0 claims and answers {key:?}"));
            assert!(self.host.answer(0, key, &outcome), "{key:?} was taken from an honest worker");
            if let Some(task) = self.tasks.iter_mut().find(|task| task.key == key) {
                task.outcome = Some(outcome.clone());
            }
        }
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
        assert!(matches!(self.host.submit("late"), Err(SubmitError::Closed { .. })));
        for task in 0..self.tasks.len() {
            self.retrieve(task);
            self.retrieve(task);
            assert_eq!(self.tasks[task].standing, Standing::Over, "{:?}", self.tasks[task].key);
        }
        assert!(self.harm > Harm::None || self.host.in_use() == 0, "{} in use", self.host.in_use());
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

fn index(key: Key) -> usize {
    usize::from(key.get() as u16)
}
