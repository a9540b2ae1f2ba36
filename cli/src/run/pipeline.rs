//! Reader, submitting threads, writer. Each line passes through all three; memory is bounded by
//! the channel before the threads and the window after them.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nearcall::error::{SubmitError, WaitError};
use nearcall::{Engine, Ticket};
use parking_lot::Mutex;

use super::arguments::{arguments, task};
use super::lines::Line;
use super::output::{self, Failure};
use super::window::Window;
use crate::bar::Bar;
use crate::stop::Stop;

/// How long a look for a signal can be put off.
const TICK: Duration = Duration::from_millis(100);

/// Between two tries to submit when all slots are taken, as those of a dead worker's tasks may be
/// for a while.
const FULL_PAUSE: Duration = Duration::from_micros(100);

/// Lines that may be finished before their turn, for each slot.
const AHEAD_PER_SLOT: usize = 4;

/// How many lines came out, and how many of them are errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) lines: u64,
    pub(crate) errors: u64,
}

/// An engine and how it is used. It has at least one slot for each thread.
pub(crate) struct Pipeline<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) threads: usize,
    pub(crate) stop: &'a Stop,
    pub(crate) bar: &'a Bar,
}

/// A finished line.
struct Finished {
    text: Vec<u8>,
    is_error: bool,
    end: u64,
}

impl Pipeline<'_> {
    /// Runs every line through the engine. A closed pipe at the other end, and a signal, end it
    /// early without an error.
    pub(crate) fn run<L>(&self, lines: L, writer: impl Write) -> anyhow::Result<Tally>
    where
        L: Iterator<Item = io::Result<Line>> + Send + 'static,
    {
        let window = Window::new(self.engine.slots() * AHEAD_PER_SLOT);
        let (sender, receiver) = mpsc::sync_channel(self.threads * self.batch());
        let receiver = Mutex::new(receiver);
        let failed = Mutex::new(None);
        // Not one of the scope: it may wait for input for ever, and nobody has to wait for it.
        thread::spawn(move || {
            for line in lines {
                let last = line.is_err();
                if sender.send(line).is_err() || last {
                    break;
                }
            }
        });
        let tally = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|_| scope.spawn(|| self.serve(&receiver, &window, &failed)))
                .collect();
            let window = &window;
            scope.spawn(move || {
                for thread in threads {
                    let _ = thread.join();
                }
                window.close();
            });
            let written = self.write(window, writer);
            // After a failed write nobody must wait for room.
            window.close();
            written
        });
        let read = failed.into_inner().map_or(Ok(()), Err);
        let tally = tally.context("the answers cannot be written")?;
        read.context("the tasks cannot be read")?;
        Ok(tally)
    }

    /// One submitting thread: takes some lines, submits them, brings them to their ends in order.
    ///
    /// Nobody ever waits for a slot that is held by somebody who waits for room in the window:
    /// there are as many slots as all threads together can hold.
    fn serve(
        &self,
        lines: &Mutex<Receiver<io::Result<Line>>>,
        window: &Window<Finished>,
        failed: &Mutex<Option<io::Error>>,
    ) {
        let mut batch = Vec::new();
        while !self.stop.asked() && !window.is_closed() && self.take(lines, failed, &mut batch) {
            let mut begun = Vec::with_capacity(batch.len());
            for line in batch.drain(..) {
                let Some(result) = self.submit(&line) else { return };
                begun.push((line.number, line.end, result));
            }
            for (number, end, result) in begun {
                let result = match result {
                    Ok(ticket) => match self.wait(&ticket) {
                        Some(result) => result,
                        None => return,
                    },
                    Err(failure) => Err(failure),
                };
                let (text, is_error) = match result {
                    Ok(text) => (text, false),
                    Err(failure) => (output::error(&failure), true),
                };
                if !window.put(number - 1, Finished { text, is_error, end }) {
                    return;
                }
            }
        }
    }

    /// Waits a moment for a line, and takes what is there besides it. `false` after the last.
    fn take(
        &self,
        lines: &Mutex<Receiver<io::Result<Line>>>,
        failed: &Mutex<Option<io::Error>>,
        batch: &mut Vec<Line>,
    ) -> bool {
        // The lock is held while waiting: the others could do nothing but wait as well.
        let lines = lines.lock();
        let mut next = match lines.recv_timeout(TICK) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(line) = next {
            match line {
                Ok(line) => batch.push(line),
                // The last thing that the reader says.
                Err(error) => *failed.lock() = Some(error),
            }
            next = (batch.len() < self.batch()).then(|| lines.try_recv().ok()).flatten();
        }
        true
    }

    /// Submits a line's task, or says why it is none; `None` when a signal asked to end.
    fn submit(&self, line: &Line) -> Option<Result<Ticket<'_>, Failure>> {
        let invalid = |problem: &str| Some(Err(Failure::invalid_task(line.number, problem)));
        let text = match &line.text {
            Ok(text) => text,
            Err(long) => return invalid(&long.to_string()),
        };
        // Each value takes at least one byte of a task.
        let room = self.engine.slot_bytes().max(self.engine.payload_bytes());
        let arguments = match arguments(self.engine.signature(), text, room) {
            Ok(arguments) => arguments,
            Err(problem) => return invalid(&problem),
        };
        let task = task(&arguments);
        loop {
            match self.engine.submit(&task) {
                Ok(ticket) => return Some(Ok(ticket)),
                Err(SubmitError::Full { .. }) if self.stop.asked() => return None,
                Err(SubmitError::Full { .. }) => thread::sleep(FULL_PAUSE),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// A task's answer as a line, or its failure; `None` when a signal asked to end.
    fn wait(&self, ticket: &Ticket<'_>) -> Option<Result<Vec<u8>, Failure>> {
        loop {
            match self.engine.wait(ticket, TICK) {
                Ok(answer) => return Some(output::answer(answer.value())),
                Err(WaitError::TimedOut) if self.stop.asked() => return None,
                Err(WaitError::TimedOut) => {}
                Err(WaitError::Retrieve(error)) => return Some(Err(error.into())),
                Err(_) => return None,
            }
        }
    }

    /// Lines that a thread has in hand at once: several, so that workers find the next task
    /// queued and nobody is woken for each one.
    fn batch(&self) -> usize {
        (self.engine.slots() / self.threads).max(1)
    }

    /// Writes finished lines in order, and flushes whenever the next one is not there yet.
    fn write(&self, window: &Window<Finished>, writer: impl Write) -> io::Result<Tally> {
        let mut writer = BufWriter::with_capacity(256 * 1024, writer);
        let mut tally = Tally::default();
        let written = loop {
            let finished = match window.try_take() {
                Some(finished) => finished,
                None => {
                    if let Err(error) = writer.flush() {
                        break Err(error);
                    }
                    match window.take() {
                        Some(finished) => finished,
                        None => break Ok(()),
                    }
                }
            };
            if let Err(error) = writer.write_all(&finished.text) {
                break Err(error);
            }
            tally.lines += 1;
            tally.errors += u64::from(finished.is_error);
            self.bar.set(finished.end);
        };
        match written {
            // Who reads has had enough. What is left in the buffer is for nobody.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                let _ = writer.into_parts();
                Ok(tally)
            }
            other => other.map(|()| tally),
        }
    }
}

#[cfg(test)]
mod tests {
    use nearcall::{Args, PythonError, Signature, Value};

    use super::super::lines::Lines;
    use super::*;

    /// Runs lines through a model that doubles an int `x`, slower for even ones, fails for 13, and
    /// gives back any other value.
    fn run(input: String, writer: impl Write) -> anyhow::Result<Tally> {
        let model = |args: &Args<'_>| match args.get("x") {
            Some(Value::Int(13)) => Err(PythonError::new("ValueError", "unlucky")),
            Some(Value::Int(x)) => {
                if x % 2 == 0 {
                    thread::sleep(Duration::from_micros(200));
                }
                Ok(Value::Int(2 * x))
            }
            other => Ok(other.cloned().into()),
        };
        let engine = Engine::builder("m:f")
            .signature(Signature::new().value("x"))
            .workers(2)
            .payload_bytes(0)
            .start_with(model)
            .unwrap();
        let (stop, bar) = (Stop::default(), Bar::of_bytes(None, false));
        let pipeline = Pipeline { engine: &engine, threads: 8, stop: &stop, bar: &bar };
        pipeline.run(Lines::new(io::Cursor::new(input), 20_000), writer)
    }

    #[test]
    fn one_line_out_for_each_line_in_in_order() {
        let input =
            (0..500).map(|x| format!("{{\"x\": {x}}}\n")).collect::<String>() + "\nbad\n{\"x\": 1}";
        let mut out = Vec::new();
        assert_eq!(run(input, &mut out).unwrap(), Tally { lines: 503, errors: 3 });
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 503);
        for (x, line) in lines[..500].iter().enumerate().filter(|(x, _)| *x != 13) {
            assert_eq!(*line, format!("{{\"answer\":{}}}", 2 * x));
        }
        assert!(
            lines[13].contains("\"kind\":\"ValueError\",\"message\":\"unlucky\""),
            "{}",
            lines[13]
        );
        assert!(lines[500].contains("line 501: it is blank"), "{}", lines[500]);
        assert!(lines[501].contains("line 502: it is not JSON"), "{}", lines[501]);
        assert_eq!(lines[502], "{\"answer\":2}");
    }

    #[test]
    fn any_json_goes_in_and_comes_out() {
        let values = [
            "null",
            "{}",
            "[]",
            "[null,true,1,1.0,\"1\",[[]],{\"k\":{}}]",
            "{\"z\":{\"b\":[1,2.5],\"a\":{\"\":null}},\"y\":-0.1}",
        ];
        let mut out = Vec::new();
        let input = values.map(|value| format!("{{\"x\": {value}}}\n")).concat();
        assert_eq!(run(input, &mut out).unwrap(), Tally { lines: 5, errors: 0 });
        let expected = values.map(|value| format!("{{\"answer\":{value}}}\n")).concat();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_too_large_is_told_before_it_takes_memory() {
        let mut out = Vec::new();
        let values = format!("{{\"x\": [{}0]}}\n", "0,".repeat(5000));
        let input = values + &"9".repeat(20_001) + "\n{\"x\": 1}\n";
        assert_eq!(run(input, &mut out).unwrap(), Tally { lines: 3, errors: 2 });
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.lines().collect();
        // A slot has 4,096 bytes, and the list itself is a value as well.
        assert!(lines[0].contains("at [4095] is one value too many"), "{}", lines[0]);
        assert!(lines[1].contains("line 2: it is longer than 20000 bytes"), "{}", lines[1]);
        assert_eq!(lines[2], "{\"answer\":2}");
    }

    /// Fails once something was written.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_it_quietly_and_a_full_disk_does_not() {
        let input = || (0..2000).map(|x| format!("{{\"x\": {x}}}\n")).collect::<String>();
        assert!(run(input(), Failing(ErrorKind::BrokenPipe)).is_ok());
        let error = run(input(), Failing(ErrorKind::StorageFull)).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }
}
