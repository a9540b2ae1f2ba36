//! Callers of every kind, and the check of how each task ends.

mod awaiting;

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nearcall::error::{CallError, RetrieveError, SubmitError, TaskError, WaitError};
use nearcall::{Answer, DType, Key, Reserved, Task, TensorSpec, Ticket, Value, ValueRef};

use crate::orders::{self, Deed};
use crate::plan::{Order, Place, TICK, Weather};
use crate::round::Scene;
use crate::tally::{Sheet, lock};
use crate::watch::{self, PATIENCE, Told};

/// The most tasks that a caller has at a time.
const BATCH: u64 = 8;
/// The most that one who submits by the clock has.
const OPEN_LOOP: usize = 64;
/// How long a caller stays away after a refusal.
const AFTER_REFUSAL: Duration = Duration::from_micros(100);
/// How long one who asks again and again stays away in between. Not a yield: on Linux 6.18 threads
/// that yield again and again keep all others off the CPUs, for seconds.
const BETWEEN_LOOKS: Duration = Duration::from_micros(20);

/// How a caller goes about a batch of tasks.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `call`, which waits.
    Call,
    /// `call` with a deadline that may pass.
    HastyCall,
    /// Submit some, wait for each, in another order.
    Wait,
    /// Submit some, ask for each again and again.
    Poll,
    /// Submit some, await all at once.
    Await,
    /// The same, and drop some of the futures.
    AwaitAndDrop,
    /// Drop some tickets.
    Drop,
    /// Wait by value, and not for long: the task is abandoned then.
    GiveUp,
    /// With deadlines that may pass.
    Deadline,
    /// Cancel some.
    Cancel,
}

impl Way {
    fn draw(dice: &mut Rng) -> Self {
        match dice.u32(..100) {
            0..20 => Self::Call,
            20..25 => Self::HastyCall,
            25..50 => Self::Wait,
            50..60 => Self::Poll,
            60..70 => Self::Await,
            70..75 => Self::AwaitAndDrop,
            75..80 => Self::Drop,
            80..85 => Self::GiveUp,
            85..93 => Self::Deadline,
            _ => Self::Cancel,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::HastyCall => "call with a deadline",
            Self::Wait => "submit and wait",
            Self::Poll => "submit and retrieve",
            Self::Await => "submit and await",
            Self::AwaitAndDrop => "submit, await and drop",
            Self::Drop => "submit and drop",
            Self::GiveUp => "submit and give up",
            Self::Deadline => "submit by a deadline",
            Self::Cancel => "submit and cancel",
        }
    }
}

/// What may end a task, beside what may end any.
#[derive(Debug, Clone, Copy, Default)]
struct Terms {
    deadline: Option<Instant>,
    /// What `cancel` has said.
    cancelled: Option<bool>,
}

/// A task that was accepted and has not ended.
struct Pending<'e> {
    order: Order,
    ticket: Ticket<'e>,
    terms: Terms,
}

/// A thread that submits tasks.
pub(crate) struct Submitter<'s> {
    scene: &'s Scene<'s>,
    sheet: &'s Sheet,
    lane: u64,
}

impl<'s> Submitter<'s> {
    pub(crate) fn new(scene: &'s Scene<'s>, lane: u64) -> Self {
        Self { scene, sheet: scene.record.sheet(lane), lane }
    }

    /// Batch after batch, each when the one before is over.
    pub(crate) fn closed_loop(&self) {
        for act in self.scene.first_act().. {
            if self.scene.is_over() {
                break;
            }
            let mut dice = self.scene.plan.dice(self.lane, act);
            let way = Way::draw(&mut dice);
            self.sheet.begin(act, way.name());
            self.batch(way, &mut dice);
        }
        self.sheet.end();
    }

    /// Tasks by the clock, whether those before are over or not.
    pub(crate) fn open_loop(&self) {
        let mut keys: VecDeque<(Order, Key, Instant)> = VecDeque::new();
        for act in self.scene.first_act().. {
            if self.scene.is_over() {
                break;
            }
            let mut dice = self.scene.plan.dice(self.lane, act);
            self.sheet.begin(act, "by the clock");
            for _ in 0..dice.u64(1..=32) {
                let order = self.draw(&mut dice);
                // The others need room too.
                if keys.len() >= OPEN_LOOP.min(self.scene.engine.slots() / 4) {
                    self.sheet.tally().aside("held back");
                } else if let Some(ticket) = self.submit_once(&order, None) {
                    keys.push_back((order, ticket.into_key(), Instant::now()));
                }
            }
            self.scene.pause(dice.u64(1..=3));
            keys.retain(|(order, key, since)| !self.is_over(order, *key, *since));
        }
        for (order, key, since) in keys {
            while !self.is_over(&order, key, since) {
                thread::sleep(TICK);
            }
        }
        self.sheet.end();
    }

    fn draw(&self, dice: &mut Rng) -> Order {
        Order::draw(dice, self.sheet.next_number(self.lane))
    }

    fn batch(&self, way: Way, dice: &mut Rng) {
        if let Way::Call | Way::HastyCall = way {
            let order = self.draw(dice);
            let hasty = Duration::from_micros(dice.u64(50..3000));
            let limit = if matches!(way, Way::HastyCall) { hasty } else { PATIENCE };
            return self.call(&order, limit);
        }
        let tasks: Vec<(Order, u64)> =
            (0..dice.u64(1..=BATCH)).map(|_| (self.draw(dice), dice.u64(20..3000))).collect();
        // How each is dealt with, whether it is accepted or not.
        let mut choices: Vec<(bool, u64)> =
            tasks.iter().map(|_| (dice.bool(), dice.u64(..300))).collect();
        let mut shuffled: Vec<usize> = (0..tasks.len()).collect();
        dice.shuffle(&mut shuffled);

        let mut pending = Vec::new();
        for (order, micros) in &tasks {
            let limit = Duration::from_micros(*micros);
            let limit = matches!(way, Way::Deadline).then_some(limit);
            // Who holds tasks does not wait for room: all could do so, for each other.
            let patient = pending.is_empty();
            let Some(accepted) = self.submit(order, limit, patient) else { break };
            pending.push(accepted);
        }
        choices.truncate(pending.len());
        match way {
            Way::Poll => self.poll(pending),
            Way::Await => self.await_all(pending, &[(false, 0); BATCH as usize]),
            Way::AwaitAndDrop => self.await_all(pending, &choices),
            Way::Drop => {
                let (dropped, kept): (Vec<_>, Vec<_>) =
                    pending.into_iter().zip(choices).partition(|(_, (drop, _))| *drop);
                for (pending, _) in dropped {
                    self.abandon(pending.ticket);
                }
                kept.into_iter().for_each(|(pending, _)| self.wait(pending));
            }
            Way::GiveUp => {
                for (pending, (_, micros)) in pending.into_iter().zip(choices) {
                    self.give_up(pending, Duration::from_micros(micros));
                }
            }
            Way::Cancel => {
                for (pending, (chosen, micros)) in pending.iter_mut().zip(&choices) {
                    if *chosen {
                        thread::sleep(Duration::from_micros(*micros));
                        pending.terms.cancelled = Some(self.scene.engine.cancel(&pending.ticket));
                    }
                }
                pending.into_iter().for_each(|pending| self.wait(pending));
            }
            _ => {
                let mut pending: Vec<_> = pending.into_iter().map(Some).collect();
                for index in shuffled {
                    if let Some(pending) = pending.get_mut(index).and_then(Option::take) {
                        self.wait(pending);
                    }
                }
            }
        }
    }

    /// One task that does something special, waited for.
    pub(crate) fn order(&self, deed: Deed, amount: i64, limit: Option<Duration>) {
        let order = Order::to(self.sheet.next_number(self.lane), deed, amount);
        self.submit_and_wait(&order, limit);
    }

    /// The same with a padding in place.
    pub(crate) fn order_in_place(&self, deed: Deed, amount: i64, dice: &mut Rng) {
        let order = Order::to(self.sheet.next_number(self.lane), deed, amount).in_place(dice);
        self.submit_and_wait(&order, None);
    }

    fn submit_and_wait(&self, order: &Order, limit: Option<Duration>) {
        if let Some(pending) = self.submit(order, limit, true) {
            self.wait(pending);
        }
    }

    /// Fills all slots with ordinary tasks and waits for them. Says whether all were taken, and done
    /// well.
    pub(crate) fn fill_and_wait(&self) -> bool {
        let before = { self.sheet.tally().failed.clone() };
        let mut pending = Vec::new();
        while let Some(ticket) = {
            let order = Order::to(self.sheet.next_number(self.lane), Deed::Answer, 0);
            self.submit_once(&order, None).map(|ticket| Pending {
                order,
                ticket,
                terms: Terms::default(),
            })
        } {
            pending.push(ticket);
        }
        let full = pending.len() == self.scene.engine.slots();
        pending.into_iter().for_each(|pending| self.wait(pending));
        full && self.sheet.tally().failed == before
    }

    /// Submits what a shutdown finds: tasks that run and tasks that wait.
    pub(crate) fn leave_tasks(&self, count: usize, dice: &mut Rng) -> Vec<(Order, Key, Instant)> {
        (0..count)
            .filter_map(|_| {
                let number = self.sheet.next_number(self.lane);
                let order = Order::to(number, Deed::Sleep, dice.i64(0..20_000));
                let order = if dice.u32(..8) == 0 { order.in_place(dice) } else { order };
                let ticket = self.submit_once(&order, None)?;
                Some((order, ticket.into_key(), Instant::now()))
            })
            .collect()
    }

    fn submit(&self, order: &Order, limit: Option<Duration>, patient: bool) -> Option<Pending<'s>> {
        let began = Instant::now();
        loop {
            // Before the submit: it is not to end before its time.
            let deadline = limit.map(|limit| Instant::now() + limit);
            if let Some(ticket) = self.submit_once(order, deadline) {
                let terms = Terms { deadline, cancelled: None };
                return Some(Pending { order: *order, ticket, terms });
            }
            if !patient || self.scene.is_over() {
                return None;
            }
            self.look_at_refusals(began);
            thread::sleep(AFTER_REFUSAL);
        }
    }

    /// The others' tasks end, and workers come back: there must be room at last.
    fn look_at_refusals(&self, began: Instant) {
        if began.elapsed() > PATIENCE {
            self.sheet.tally().hung += 1;
            let text = format!("nothing was accepted for {PATIENCE:?}");
            watch::hang(self.scene.engine, self.scene.record, text);
        }
    }

    fn submit_once(&self, order: &Order, deadline: Option<Instant>) -> Option<Ticket<'s>> {
        let submit = |task: &Task<'_>, place: Option<Reserved<'s>>| match (place, deadline) {
            (Some(mut place), Some(deadline)) => place.submit_by(task, deadline),
            (Some(mut place), None) => place.submit(task),
            (None, Some(deadline)) => self.scene.engine.submit_by(task, deadline),
            (None, None) => self.scene.engine.submit(task),
        };
        match self.with_task(order, submit) {
            Ok(ticket) => {
                self.sheet.tally().tasks += 1;
                Some(ticket)
            }
            Err(error) => {
                self.refused(&error);
                None
            }
        }
    }

    /// Has an order's task submitted, with its tensors if it has any.
    fn with_task<T, E: From<SubmitError>>(
        &self,
        order: &Order,
        submit: impl FnOnce(&Task<'_>, Option<Reserved<'s>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let task =
            Task::new().int(order.number.cast_signed()).int(order.deed.code()).int(order.amount);
        let Some(place) = order.place else {
            let padding = Value::Str(order.padding.to_owned());
            return submit(&task.value(&padding).value(&Value::None), None);
        };
        if place.is_tried {
            drop(self.reserve(order, place)?);
            self.sheet.tally().aside("tensors dropped");
        }
        let reserved = self.reserve(order, place)?;
        self.sheet.tally().aside("tensors in place");
        let task = task.reserved(0);
        match place.has_output {
            true => submit(&task.reserved(1), Some(reserved)),
            false => submit(&task.value(&Value::None), Some(reserved)),
        }
    }

    /// Reserves an order's tensors, and writes its padding.
    fn reserve(&self, order: &Order, place: Place) -> Result<Reserved<'s>, SubmitError> {
        let Place { has_output, micros, .. } = place;
        let padding = order.padding.as_bytes();
        let shape = [padding.len()];
        let specs = [TensorSpec::input(DType::U8, &shape), TensorSpec::output(DType::U8, &shape)];
        let mut reserved = self.scene.engine.reserve(&specs[..1 + usize::from(has_output)])?;
        let (first, second) = padding.split_at(padding.len() / 3);
        for (at, piece) in [(first.len(), second), (0, first)] {
            if let Err(error) = reserved.write(0, at, piece) {
                self.sheet.tally().wrong += 1;
                self.scene.record.find(format!("WRONG: write: {error}"));
            }
            if micros > 0 {
                thread::sleep(Duration::from_micros(micros));
            }
        }
        Ok(reserved)
    }

    /// A task that was not accepted is none.
    fn refused(&self, error: &SubmitError) {
        match error {
            SubmitError::Full { .. } => self.sheet.tally().aside("full"),
            SubmitError::Unavailable { .. } => self.sheet.tally().aside("unavailable at submit"),
            SubmitError::NoSharedMemory { .. } => self.sheet.tally().aside("no shared memory"),
            error => {
                self.sheet.tally().wrong += 1;
                self.scene.record.find(format!("WRONG: submit: {error}"));
            }
        }
    }

    fn call(&self, order: &Order, limit: Duration) {
        let began = Instant::now();
        loop {
            let since = Instant::now();
            let terms = Terms { deadline: Some(since + limit), cancelled: None };
            let called = self.with_task(order, |task, place| match place {
                Some(mut place) => place.call(task, limit),
                None => self.scene.engine.call(task, limit),
            });
            match called {
                Err(CallError::Submit(error)) => self.refused(&error),
                Err(CallError::Wait(error)) => {
                    self.sheet.tally().tasks += 1;
                    return self.judge(order, None, terms, Err(error), since);
                }
                Ok(answer) => {
                    self.sheet.tally().tasks += 1;
                    return self.judge(order, None, terms, Ok(answer), since);
                }
                // `CallError` may get more.
                Err(_) => return,
            }
            if self.scene.is_over() {
                return;
            }
            self.look_at_refusals(began);
            thread::sleep(AFTER_REFUSAL);
        }
    }

    fn wait(&self, pending: Pending<'_>) {
        let since = Instant::now();
        let result = self.scene.engine.wait(&pending.ticket, PATIENCE);
        self.judge(&pending.order, Some(pending.ticket.key()), pending.terms, result, since);
    }

    fn poll(&self, mut pending: Vec<Pending<'_>>) {
        let since = Instant::now();
        while !pending.is_empty() {
            pending.retain(|p| !self.is_over(&p.order, p.ticket.key(), since));
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Looks whether a task is over, and judges it.
    pub(crate) fn is_over(&self, order: &Order, key: Key, since: Instant) -> bool {
        let result = match self.scene.engine.retrieve(key) {
            Ok(None) if since.elapsed() < PATIENCE => return false,
            Ok(None) => Err(WaitError::TimedOut),
            Ok(Some(answer)) => Ok(answer),
            Err(error) => Err(error.into()),
        };
        // Nobody was waiting: how soon the error came cannot be said.
        self.judge(order, Some(key), Terms::default(), result, Instant::now());
        true
    }

    fn give_up(&self, pending: Pending<'_>, limit: Duration) {
        let Pending { order, ticket, terms } = pending;
        let (key, since) = (ticket.key(), Instant::now());
        match self.scene.engine.wait(ticket, limit) {
            Err(WaitError::TimedOut) => self.sheet.tally().fail("abandoned"),
            result => self.judge(&order, Some(key), terms, result, since),
        }
    }

    fn abandon(&self, ticket: Ticket<'_>) {
        drop(ticket);
        self.sheet.tally().fail("abandoned");
    }

    /// Counts how a task has ended, and says if it may not have ended so.
    fn judge(
        &self,
        order: &Order,
        key: Option<Key>,
        terms: Terms,
        result: Result<Answer, WaitError>,
        waiting_since: Instant,
    ) {
        let now = Instant::now();
        let (reason, verdict) = match &result {
            Ok(answer) => ("answered", self.check_answer(order, terms, answer)),
            Err(WaitError::TimedOut) => {
                let text =
                    format!("{order:?} {key:?} {terms:?} in round {}", self.scene.plan.index);
                self.sheet.tally().hung += 1;
                watch::hang(self.scene.engine, self.scene.record, text);
                return;
            }
            Err(WaitError::Retrieve(RetrieveError::Task(error))) => {
                if let TaskError::Died { pid, .. } = error {
                    lock(&self.scene.told).push(Told { pid: *pid, waiting_since, at: now });
                }
                self.check_error(order, terms, error, now)
            }
            Err(error) => {
                self.sheet.tally().lost += 1;
                self.scene.record.find(format!("LOST: {order:?} {key:?}: {error}"));
                return;
            }
        };
        let mut tally = self.sheet.tally();
        if reason == "answered" {
            tally.answered += 1;
        } else {
            tally.fail(reason);
        }
        if let Err(complaint) = verdict {
            if self.scene.is_strict {
                tally.wrong += 1;
                let what = match &result {
                    Ok(answer) => format!("{:?}", answer.value()),
                    Err(error) => error.to_string(),
                };
                self.scene.record.find(format!(
                    "WRONG: {complaint}: {order:?} {key:?} {terms:?}: {what} in round {} ({:?})",
                    self.scene.plan.index, self.scene.plan.weather,
                ));
            } else {
                tally.aside("not judged");
            }
        }
        drop(tally);
        // Whoever was told of an early end may have been faster than the worker that had the task in
        // its hands.
        if !matches!(reason, "deadline" | "cancelled") {
            self.scene.ledger.note_end(order.number);
        }
        if let Some(key) = key
            && order.number.is_multiple_of(16)
        {
            self.ask_again(order, key);
        }
    }

    fn check_answer(
        &self,
        order: &Order,
        terms: Terms,
        answer: &Answer,
    ) -> Result<(), &'static str> {
        let padding = order.padding.as_bytes();
        let is_answered = match order.deed {
            Deed::Answer | Deed::Sleep | Deed::Compute | Deed::Stop => true,
            Deed::Scribble | Deed::Keep => true,
            Deed::Stumble => self.scene.plan.retries > 0,
            Deed::Raise | Deed::Oversize | Deed::Die | Deed::Exit | Deed::Lie => false,
        };
        if !is_answered {
            return Err("an answer to what has none");
        }
        let found = match answer.get(1) {
            Some(ValueRef::Str(text)) if order.place.is_none() => text.as_bytes(),
            Some(ValueRef::Tensor(tensor))
                if order.place.is_some()
                    && (tensor.dtype(), &tensor.shape()[..]) == (DType::U8, &[padding.len()]) =>
            {
                tensor.bytes()
            }
            _ => return Err("the answer's padding is something else"),
        };
        if answer.int(0) != Ok(orders::answer(order.number, padding)) || found != padding {
            return Err("the answer is another one");
        }
        if terms.cancelled == Some(true) {
            return Err("answered after it was cancelled");
        }
        if self.scene.ledger.runs(order.number) == Some(0) {
            return Err("answered, and has not run");
        }
        Ok(())
    }

    /// The reason by which an error is counted, and whether it may be.
    fn check_error(
        &self,
        order: &Order,
        terms: Terms,
        error: &TaskError,
        now: Instant,
    ) -> (&'static str, Result<(), &'static str>) {
        let holds = |condition, complaint| if condition { Ok(()) } else { Err(complaint) };
        let retries = self.scene.plan.retries as usize;
        let (reason, mut verdict) = match error {
            TaskError::Python(error) => {
                let expected = orders::answer(order.number, order.padding.as_bytes()).to_string();
                let raised = order.deed == Deed::Raise && error.message == expected;
                ("python", holds(raised, "raised, and should not have, or otherwise"))
            }
            TaskError::Refused(_) => {
                ("refused", holds(order.deed == Deed::Oversize, "refused what fits"))
            }
            TaskError::Died { report, .. } => {
                let bystander = report.killed_for.is_some_and(|reason| reason.contains("deadline"));
                // Where all end, or all are suspect, nothing is tried again.
                let tries_again =
                    !self.scene.is_closing && self.scene.plan.weather != Weather::Hostile;
                let earlier = report.earlier.len();
                let tried = if tries_again { earlier == retries } else { earlier <= retries };
                let verdict = holds(!bystander, "its worker was killed for another task")
                    .and(holds(tried, "tried more or less often than it may be"));
                ("died", verdict)
            }
            TaskError::DeadlinePassed => {
                let passed = terms.deadline.is_some_and(|deadline| deadline <= now);
                ("deadline", holds(passed, "ended before its deadline"))
            }
            TaskError::Cancelled => {
                let cancelled = terms.cancelled == Some(true);
                ("cancelled", holds(cancelled, "nobody has cancelled it"))
            }
            TaskError::Unavailable { .. } => ("unavailable", Ok(())),
            TaskError::Closed => ("closed", holds(self.scene.is_closing, "nobody has closed it")),
            TaskError::Corrupt { .. } => (
                "corrupt",
                holds(self.scene.plan.weather == Weather::Hostile, "nobody has written nonsense"),
            ),
            _ => ("other", Err("an error that the storm does not know")),
        };
        if terms.cancelled == Some(true) && reason != "cancelled" {
            verdict = verdict.and(Err("it was cancelled, and ended otherwise"));
        }
        (reason, verdict)
    }

    /// A task that has ended cannot end again.
    fn ask_again(&self, order: &Order, key: Key) {
        let again = self.scene.engine.retrieve(key);
        if !matches!(again, Err(RetrieveError::AlreadyRetrieved { .. })) {
            self.sheet.tally().duplicated += 1;
            let text = again.map(|answer| format!("{answer:?}"));
            self.scene.record.find(format!("DUPLICATED: {order:?} {key:?}: then {text:?}"));
        }
    }
}
