//! An engine used at random, beside a trivial model of it: what runs, what waits, how each key stands.
//!
//! The engine's closure returns only when it is told to, so that how everything stands is known at
//! each step.

#![no_main]

use std::collections::{HashMap, VecDeque};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nearcall::error::{ReservedError, RetrieveError, SubmitError, TaskError, WaitError};
use nearcall::{
    Answer, Args, DType, Deadline, Engine, Key, PythonError, Refusal, Reserved, Signature, Task,
    TensorSpec, Ticket, Value, ValueRef, WaitPolicy,
};
use nearcall_fuzz::Input;

/// Steps of one input.
const MOST_STEPS: usize = 64;

/// What ends at all, ends by then.
const PATIENCE: Duration = Duration::from_secs(10);

const SLOT_BYTES: usize = 256;
/// Nothing is larger than this, tensors in place included.
const PAYLOAD_BYTES: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (slots, workers) = (1 + input.below(4), 1 + input.below(2));
    let policy = [WaitPolicy::Park, WaitPolicy::Adaptive][input.below(2)];
    let gate = Arc::new(Gate::default());
    let engine = {
        let gate = gate.clone();
        Engine::builder("fuzz:target")
            .signature(Signature::new().int("number").int("manner").str("text").value("tensor"))
            .slots(slots)
            .slot_bytes(SLOT_BYTES)
            .payload_bytes(PAYLOAD_BYTES)
            .workers(workers)
            .wait_policy(policy)
            .start_with(move |args: &Args<'_>| model(&gate, args))
            .expect("there is room for a small segment")
    };
    let mut run = Run::new(&engine, gate, slots, workers);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
        run.settle();
    }
    run.finish(&mut input);
});

/// Keeps the tasks inside the closure until each may leave.
#[derive(Default)]
struct Gate {
    passing: Mutex<Passing>,
    change: Condvar,
}

#[derive(Default)]
struct Passing {
    /// Tasks that have entered, in that order.
    entered: Vec<usize>,
    may_leave: Vec<usize>,
    /// All may leave.
    open: bool,
}

impl Gate {
    fn pass(&self, number: usize) {
        let mut passing = self.passing.lock().unwrap();
        passing.entered.push(number);
        self.change.notify_all();
        let waits = |passing: &mut Passing| !passing.open && !passing.may_leave.contains(&number);
        drop(self.change.wait_while(passing, waits).unwrap());
    }

    fn let_out(&self, number: usize) {
        self.passing.lock().unwrap().may_leave.push(number);
        self.change.notify_all();
    }

    fn open(&self) {
        self.passing.lock().unwrap().open = true;
        self.change.notify_all();
    }

    /// Waits until so many have entered, and says which.
    fn entered(&self, count: usize) -> Vec<usize> {
        let passing = self.passing.lock().unwrap();
        let waits = |passing: &mut Passing| passing.entered.len() < count;
        let (passing, _) = self.change.wait_timeout_while(passing, PATIENCE, waits).unwrap();
        passing.entered.clone()
    }
}

/// How a task ends.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Int,
    Tuple,
    Error,
    TooLarge,
    Panic,
}

const MANNERS: [Manner; 5] =
    [Manner::Int, Manner::Tuple, Manner::Error, Manner::TooLarge, Manner::Panic];

fn text_of(number: usize) -> String {
    "x".repeat(number * 29 % 200)
}

/// What stands in the tensor of the task of this number.
fn elements_of(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + number * 7) as u8).collect()
}

fn model(gate: &Gate, args: &Args<'_>) -> Result<Value, PythonError> {
    let [Value::Int(number), Value::Int(manner), Value::Str(text), tensor] = args.values() else {
        return Err(PythonError::new("TypeError", format!("{:?}", args.values())));
    };
    let name = number.to_string();
    let number = *number as usize;
    if *text != text_of(number) {
        return Err(PythonError::new("TypeError", text));
    }
    let is_written = match tensor {
        Value::None => true,
        Value::Tensor(tensor) => tensor.bytes() == elements_of(number, tensor.bytes().len()),
        _ => false,
    };
    if !is_written {
        return Err(PythonError::new("TypeError", "the tensor is another one"));
    }
    gate.pass(number);
    match MANNERS[*manner as usize] {
        Manner::Int => Ok(Value::Int(number as i64)),
        Manner::Tuple => {
            Ok(Value::Tuple(vec![Value::Str(text.clone()), Value::Int(number as i64)]))
        }
        Manner::Error => Err(PythonError::new("ValueError", name)),
        Manner::TooLarge => Ok(Value::Bytes(vec![0; PAYLOAD_BYTES])),
        // A panic, but past the fuzzer's hook, which would end the process.
        Manner::Panic => std::panic::resume_unwind(Box::new(name)),
    }
}

/// How a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Waiting,
    Running,
    /// It has left the closure, or is about to: there will be an outcome to retrieve.
    Done,
    /// The engine was ended at once: done, or closed.
    Cut,
    /// Cancelled before it was done.
    Cancelled,
    /// Not done by its deadline.
    Late,
    /// Retrieved or abandoned.
    Over,
}

struct Known {
    key: Key,
    manner: Manner,
    standing: Standing,
    /// Its deadline is over from the start: it ends when somebody looks for an outcome in vain.
    is_late: bool,
}

struct Run<'e> {
    engine: &'e Engine,
    gate: Arc<Gate>,
    slots: usize,
    workers: usize,
    tasks: Vec<Known>,
    numbers: HashMap<Key, usize>,
    /// Those that somebody holds.
    tickets: Vec<Ticket<'e>>,
    /// Room for tasks to come, and how many bytes their tensors have.
    places: Vec<(Reserved<'e>, usize)>,
    /// Slots were taken for tasks to come: each has used a key up that nobody is given before.
    has_reserved: bool,
    /// Tasks in the ring, in order; abandoned ones too.
    queue: VecDeque<usize>,
    /// Tasks in the closure; abandoned ones too.
    running: Vec<usize>,
    /// Tasks that have entered the closure, in order.
    entered: Vec<usize>,
    closed: bool,
    /// A future had to wait: the engine's own thread keeps deadlines from then on.
    has_awaited: bool,
}

impl<'e> Run<'e> {
    fn new(engine: &'e Engine, gate: Arc<Gate>, slots: usize, workers: usize) -> Self {
        Self {
            engine,
            gate,
            slots,
            workers,
            tasks: Vec::new(),
            numbers: HashMap::new(),
            tickets: Vec::new(),
            places: Vec::new(),
            has_reserved: false,
            queue: VecDeque::new(),
            running: Vec::new(),
            entered: Vec::new(),
            closed: false,
            has_awaited: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=2 => self.submit(input),
            3 => self.submit_what_does_not_fit(input),
            4 | 5 => self.let_one_out(input),
            6 => self.retrieve(input),
            7 => self.wait(input),
            8 => self.retrieve_by_ticket(input),
            9 => match input.below(2) {
                0 => self.wait_by_ticket(input),
                _ => self.await_by_ticket(input),
            },
            10 => self.drop_ticket(input),
            11 => {
                let Some(ticket) = self.take_ticket(input) else { return };
                let key = ticket.key();
                assert_eq!(ticket.into_key(), key);
            }
            12 => self.try_any_key(input),
            13 => self.cancel(input),
            14 => self.cancel_by_ticket(input),
            _ => match input.byte() {
                0..=99 => self.reserve(input),
                100..=199 => self.submit_in_place(input),
                200..=229 => self.drop_place(input),
                230..=250 => self.write_what_does_not_fit(input),
                // Rare: there is not much after it.
                _ => self.shut_down(input),
            },
        }
    }

    /// What follows by itself from the last step: workers take what waits, slots become free.
    fn settle(&mut self) {
        let expected = self.entered.len();
        while self.running.len() < self.workers
            && let Some(number) = self.queue.pop_front()
        {
            // An abandoned one is passed over.
            if self.tasks[number].standing == Standing::Waiting {
                self.tasks[number].standing = Standing::Running;
                self.running.push(number);
                self.entered.push(number);
            }
        }
        if !self.closed {
            let mut entered = self.gate.entered(self.entered.len());
            // Two that are taken together enter in either order.
            entered[expected..].sort_unstable();
            assert_eq!(entered[expected..], self.entered[expected..], "who has entered");
        }
        let in_use = self.tasks.iter().enumerate().filter(|(number, known)| {
            // A slot stays taken until its outcome is, and as long as a worker has it.
            known.standing != Standing::Over
                || self.queue.contains(number)
                || self.running.contains(number)
        });
        let in_use = in_use.count() + self.places.len();
        let deadline = Instant::now() + PATIENCE;
        while self.engine.in_use() != in_use {
            let found = self.engine.in_use();
            assert!(Instant::now() < deadline, "{found} slots in use, not {in_use}");
            yield_now();
        }
    }

    /// Slots that the model holds for taken; right after [`settle`](Self::settle) only.
    fn in_use(&self) -> usize {
        self.engine.in_use()
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let number = self.tasks.len();
        let manner = input.below(MANNERS.len());
        let (in_use, text) = (self.in_use(), text_of(number));
        let task = task(number, manner, &text).value(&Value::None);
        let (deadline, is_late) = self.deadline(input);
        let submitted = match deadline {
            Some(deadline) => self.engine.submit_by(&task, deadline),
            None => self.engine.submit(&task),
        };
        match submitted {
            Ok(ticket) => {
                assert!(in_use < self.slots, "accepted beside {in_use}");
                self.note_submit(ticket, manner, is_late);
            }
            Err(error) => self.judge_refusal(&error, in_use),
        }
    }

    fn deadline(&self, input: &mut Input<'_>) -> (Option<Deadline>, bool) {
        let deadline = [None, None, Some(Deadline::NEVER), Some(Duration::ZERO.into())];
        match deadline[input.below(4)] {
            None => (None, false),
            // When such a task ends is no step of ours then.
            Some(_) if self.has_awaited => (Some(Deadline::NEVER), false),
            Some(deadline) => (Some(deadline), deadline != Deadline::NEVER),
        }
    }

    fn note_submit(&mut self, ticket: Ticket<'e>, manner: usize, is_late: bool) {
        assert!(!self.closed);
        let (key, manner, standing) = (ticket.key(), MANNERS[manner], Standing::Waiting);
        let number = self.tasks.len();
        assert_eq!(self.numbers.insert(key, number), None, "{key:?} was given before");
        self.tickets.push(ticket);
        self.tasks.push(Known { key, manner, standing, is_late });
        self.queue.push_back(number);
    }

    /// A slot was refused beside so many that were taken.
    fn judge_refusal(&self, error: &SubmitError, in_use: usize) {
        match error {
            SubmitError::Full { slots } => {
                assert!(!self.closed);
                assert_eq!((*slots as usize, in_use), (self.slots, self.slots));
            }
            SubmitError::Closed { .. } => assert!(self.closed),
            error => panic!("{error}"),
        }
    }

    fn reserve(&mut self, input: &mut Input<'_>) {
        let in_use = self.in_use();
        let len = [0, 1, 64, 1000, PAYLOAD_BYTES, PAYLOAD_BYTES + 1][input.below(6)];
        let mut specs = vec![TensorSpec::input(DType::U8, &[len])];
        if input.below(2) == 0 {
            specs.push(TensorSpec::output(DType::F64, &[input.below(9)]));
        }
        match self.engine.reserve(&specs) {
            Ok(place) => {
                assert!(!self.closed && in_use < self.slots && len <= PAYLOAD_BYTES);
                self.places.push((place, len));
                self.has_reserved = true;
            }
            Err(SubmitError::TooLarge { needed, room }) => {
                assert_eq!((needed, room), (PAYLOAD_BYTES + 1, PAYLOAD_BYTES));
            }
            Err(error) => self.judge_refusal(&error, in_use),
        }
    }

    fn take_place(&mut self, input: &mut Input<'_>) -> Option<(Reserved<'e>, usize)> {
        let index = input.below(self.places.len());
        (index < self.places.len()).then(|| self.places.swap_remove(index))
    }

    fn drop_place(&mut self, input: &mut Input<'_>) {
        drop(self.take_place(input));
    }

    /// The slot is there already; it is gone if this fails.
    fn submit_in_place(&mut self, input: &mut Input<'_>) {
        let Some((mut place, len)) = self.take_place(input) else { return };
        let number = self.tasks.len();
        let (manner, text) = (input.below(MANNERS.len()), text_of(number));
        let elements = elements_of(number, len);
        let (first, second) = elements.split_at(len / 3);
        place.write(0, first.len(), second).expect("it is inside");
        place.write_bytes(0, 0, first).expect("it is inside");
        let (deadline, is_late) = self.deadline(input);
        let task = task(number, manner, &text);
        let task = match input.below(8) {
            0 => return assert!(place.submit(&task.reserved(2)).is_err(), "there is none"),
            _ => task.reserved(0),
        };
        let submitted = match deadline {
            Some(deadline) => place.submit_by(&task, deadline),
            None => place.submit(&task),
        };
        match submitted {
            Ok(ticket) => self.note_submit(ticket, manner, is_late),
            Err(SubmitError::Closed { .. }) => assert!(self.closed),
            Err(error) => panic!("{error}"),
        }
    }

    fn write_what_does_not_fit(&mut self, input: &mut Input<'_>) {
        let Some((mut place, len)) = self.take_place(input) else { return };
        let written = match input.below(4) {
            0 => place.write(0, len, &[1_u8]),
            1 => place.write(0, usize::MAX - input.below(2), &[1_u8; 2]),
            2 => place.write(2, 0, &[1_u8]),
            _ => place.write(0, 0, &[1_i8]),
        };
        let error = written.expect_err("it does not fit");
        assert!(matches!(
            error,
            ReservedError::Range { .. }
                | ReservedError::NoSuchTensor { .. }
                | ReservedError::Elements { .. }
        ));
        self.places.push((place, len));
    }

    fn submit_what_does_not_fit(&mut self, input: &mut Input<'_>) {
        let text = "x".repeat(PAYLOAD_BYTES);
        let none = Value::None;
        let submitted = match input.below(3) {
            0 => self.engine.submit(&task(1, 2, &text).value(&none)),
            1 => self.engine.submit(&task(1, 2, "")),
            _ => self.engine.submit(&Task::new().int(1).str("").str("").value(&none)),
        };
        let error = submitted.expect_err("it does not fit");
        assert!(matches!(error, SubmitError::TooLarge { .. } | SubmitError::Mismatch(_)));
    }

    fn let_one_out(&mut self, input: &mut Input<'_>) {
        if self.running.is_empty() {
            return;
        }
        let number = self.running.remove(input.below(self.running.len()));
        self.gate.let_out(number);
        if self.tasks[number].standing == Standing::Running {
            self.tasks[number].standing = Standing::Done;
        }
    }

    fn retrieve(&mut self, input: &mut Input<'_>) {
        let number = input.below(self.tasks.len());
        let Some(Known { key, .. }) = self.tasks.get(number) else { return };
        let key = *key;
        // Now and then into an answer that holds something.
        if input.below(2) == 0 {
            return self.judge(number, |engine| engine.retrieve(key));
        }
        let mut answer = Answer::new();
        self.judge(number, |engine| {
            let retrieved = engine.retrieve_into(key, &mut answer);
            if retrieved != Ok(true) {
                assert_eq!(answer.value(), ValueRef::None, "nothing was retrieved");
            }
            Ok(retrieved?.then(|| answer.clone()))
        });
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        let number = input.below(self.tasks.len());
        let Some(Known { key, .. }) = self.tasks.get(number) else { return };
        let (key, time) = (*key, Duration::from_micros(input.below(2) as u64 * 50));
        self.judge(number, |engine| in_time(engine.wait(key, time)));
    }

    fn retrieve_by_ticket(&mut self, input: &mut Input<'_>) {
        if let Some(ticket) = self.take_ticket(input) {
            let number = self.numbers[&ticket.key()];
            self.judge(number, |engine| match input.below(2) {
                0 => engine.retrieve(&ticket),
                _ => in_time(engine.wait(&ticket, Duration::ZERO)),
            });
            self.tickets.push(ticket);
        }
    }

    /// A ticket that is given away is used up: without an answer, the task is abandoned.
    fn wait_by_ticket(&mut self, input: &mut Input<'_>) {
        let Some(ticket) = self.take_ticket(input) else { return };
        let number = self.numbers[&ticket.key()];
        let waits = matches!(self.tasks[number].standing, Standing::Waiting | Standing::Running);
        let time = if waits { Duration::ZERO } else { PATIENCE };
        let mut ticket = Some(ticket);
        self.judge(number, |engine| match ticket.take() {
            Some(ticket) => in_time(engine.wait(ticket, time)),
            None => panic!("task {number} is not answered in time"),
        });
        self.tasks[number].standing = Standing::Over;
    }

    /// A future that is dropped without an answer abandons its task, too.
    fn await_by_ticket(&mut self, input: &mut Input<'_>) {
        let Some(ticket) = self.take_ticket(input) else { return };
        let number = self.numbers[&ticket.key()];
        let mut future = ticket.into_future();
        let mut has_waited = false;
        self.judge(number, |_| {
            match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome.map(Some),
                Poll::Pending => {
                    has_waited = true;
                    Ok(None)
                }
            }
        });
        self.has_awaited |= has_waited;
        self.tasks[number].standing = Standing::Over;
    }

    fn drop_ticket(&mut self, input: &mut Input<'_>) {
        let Some(ticket) = self.take_ticket(input) else { return };
        self.tasks[self.numbers[&ticket.key()]].standing = Standing::Over;
    }

    /// A task that is over for the host is not yet over for the worker that runs it.
    fn cancel(&mut self, input: &mut Input<'_>) {
        let number = input.below(self.tasks.len());
        let Some(Known { key, .. }) = self.tasks.get(number) else { return };
        let cancelled = self.engine.cancel(*key);
        self.note_cancel(number, cancelled);
    }

    fn cancel_by_ticket(&mut self, input: &mut Input<'_>) {
        let Some(ticket) = self.take_ticket(input) else { return };
        let cancelled = self.engine.cancel(&ticket);
        self.note_cancel(self.numbers[&ticket.key()], cancelled);
        self.tickets.push(ticket);
    }

    fn note_cancel(&mut self, number: usize, cancelled: bool) {
        let known = &mut self.tasks[number];
        match known.standing {
            Standing::Waiting | Standing::Running => assert!(cancelled, "task {number}"),
            // Whether its thread was faster.
            Standing::Done => {}
            standing => assert!(!cancelled, "task {number}: {standing:?}"),
        }
        if cancelled {
            known.standing = Standing::Cancelled;
        }
    }

    /// Somebody has looked for an outcome in vain: a test double ends tasks that are late then.
    fn end_late(&mut self) {
        for known in self.tasks.iter_mut().filter(|known| known.is_late) {
            if matches!(known.standing, Standing::Waiting | Standing::Running) {
                known.standing = Standing::Late;
            }
        }
    }

    /// Somebody has perhaps looked in vain: makes sure of it, by one of those that are late.
    fn make_late(&mut self) {
        let late = self.tasks.iter_mut().find(|known| {
            known.is_late && matches!(known.standing, Standing::Waiting | Standing::Running)
        });
        let Some(known) = late else { return };
        assert_eq!(
            self.engine.retrieve(known.key),
            Err(RetrieveError::Task(TaskError::DeadlinePassed))
        );
        known.standing = Standing::Over;
        self.end_late();
    }

    fn take_ticket(&mut self, input: &mut Input<'_>) -> Option<Ticket<'e>> {
        let index = input.below(self.tickets.len());
        (index < self.tickets.len()).then(|| self.tickets.swap_remove(index))
    }

    /// Keys that were given, those near to them, and others.
    fn try_any_key(&mut self, input: &mut Input<'_>) {
        let number = match self.tasks.get(input.below(self.tasks.len() + 1)) {
            Some(Known { key, .. }) => {
                let change = [0, 1, 2, 1 << 16, 1 << 17, 1 << 62][input.below(6)];
                match input.below(2) {
                    0 => key.get().wrapping_add(change),
                    _ => key.get().wrapping_sub(change),
                }
            }
            None => input.u64(),
        };
        let Some(key) = Key::from_number(number) else { return };
        if let Some(number) = self.numbers.get(&key) {
            return self.judge(*number, |engine| engine.retrieve(key));
        }
        match self.engine.retrieve(key) {
            Err(RetrieveError::Unknown { key: unknown }) => assert_eq!(unknown, key),
            // A task that comes when the engine has been closed uses a key up, too.
            Err(RetrieveError::AlreadyRetrieved { .. }) if self.closed || self.has_reserved => {}
            other => panic!("{key:?} was never given: {other:?}"),
        }
    }

    /// Holds what `ask` gets for a task against what is known of it.
    fn judge(
        &mut self,
        number: usize,
        mut ask: impl FnMut(&'e Engine) -> Result<Option<Answer>, RetrieveError>,
    ) {
        let Known { key, manner, standing, is_late } = self.tasks[number];
        let mut asked = ask(self.engine);
        let ended = |error| Err(RetrieveError::Task(error));
        let fits = match standing {
            Standing::Over => asked == Err(RetrieveError::AlreadyRetrieved { key }),
            Standing::Cancelled => asked == ended(TaskError::Cancelled),
            Standing::Late => asked == ended(TaskError::DeadlinePassed),
            Standing::Waiting | Standing::Running => {
                asked == Ok(None) || is_late && asked == ended(TaskError::DeadlinePassed)
            }
            Standing::Done | Standing::Cut => {
                // The closure's thread may still be on its way.
                let deadline = Instant::now() + PATIENCE;
                while asked == Ok(None) {
                    assert!(Instant::now() < deadline, "task {number} has no outcome");
                    yield_now();
                    asked = ask(self.engine);
                }
                self.make_late();
                standing == Standing::Cut && asked == ended(TaskError::Closed)
                    || is_late && asked == ended(TaskError::DeadlinePassed)
                    || is_outcome(number, manner, &asked)
            }
        };
        assert!(fits, "task {number} ({manner:?}, {standing:?}): {asked:?}");
        if asked != Ok(None) {
            self.tasks[number].standing = Standing::Over;
        }
        if matches!(standing, Standing::Waiting | Standing::Running) {
            self.end_late();
        }
    }

    fn shut_down(&mut self, input: &mut Input<'_>) {
        self.gate.open();
        let drains = input.below(2) == 0;
        let time = if drains { PATIENCE } else { Duration::ZERO };
        let report = self.engine.shutdown(time);
        assert!(report.drained || !drains);
        // From the second time on there is nothing to do.
        if !self.closed {
            let standing = if drains { Standing::Done } else { Standing::Cut };
            for known in &mut self.tasks {
                if matches!(known.standing, Standing::Waiting | Standing::Running) {
                    known.standing = standing;
                }
            }
        }
        self.queue.clear();
        self.running.clear();
        self.closed = true;
    }

    /// The engine ends, each task has ended once, and nothing is left.
    fn finish(mut self, input: &mut Input<'_>) {
        self.shut_down(input);
        self.settle();
        for number in 0..self.tasks.len() {
            let key = self.tasks[number].key;
            self.judge(number, |engine| engine.retrieve(key));
            self.judge(number, |engine| engine.retrieve(key));
            assert_eq!(self.tasks[number].standing, Standing::Over);
        }
        self.places.clear();
        self.settle();
        assert_eq!(self.engine.in_use(), 0);
    }
}

fn task(number: usize, manner: usize, text: &str) -> Task<'_> {
    Task::new().int(number as i64).int(manner as i64).str(text)
}

/// A task's deadline, if it has one, and whether it is over.
fn in_time(waited: Result<Answer, WaitError>) -> Result<Option<Answer>, RetrieveError> {
    match waited {
        Ok(answer) => Ok(Some(answer)),
        Err(WaitError::TimedOut) => Ok(None),
        Err(WaitError::Retrieve(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn is_outcome(
    number: usize,
    manner: Manner,
    found: &Result<Option<Answer>, RetrieveError>,
) -> bool {
    let name = number.to_string();
    match (manner, found) {
        (Manner::Int, Ok(Some(answer))) => answer.int(0) == Ok(number as i64),
        (Manner::Tuple, Ok(Some(answer))) => {
            answer.int(1) == Ok(number as i64) && answer.str(0) == Ok(&text_of(number))
        }
        (Manner::Error, Err(RetrieveError::Task(TaskError::Python(error)))) => {
            *error == PythonError::new("ValueError", name)
        }
        (Manner::TooLarge, Err(RetrieveError::Task(TaskError::Refused(refusal)))) => {
            matches!(refusal, Refusal::TooLarge { .. })
        }
        (Manner::Panic, Err(RetrieveError::Task(TaskError::Python(error)))) => {
            *error == PythonError::new("panic", name)
        }
        _ => false,
    }
}
