//! The storm's model: does what a task asks, bad things included, and answers with a number that
//! follows from the task's. The host's half is `storm/`.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearcall::peer::{AnswerBuf, PythonError, Refusal, TaskReader};

#[path = "storm_orders.rs"]
pub(crate) mod orders;

use orders::Deed;

/// The model of one worker.
pub(crate) struct Storm {
    ledger: Ledger,
    runs_allowed: u64,
}

impl Storm {
    pub(crate) fn new() -> Result<Self, PythonError> {
        let variable = |name| {
            std::env::var(name)
                .map_err(|error| PythonError::new("KeyError", format!("{name}: {error}")))
        };
        let path = variable(orders::LEDGER)?;
        let ledger = OpenOptions::new().read(true).write(true).open(&path);
        let ledger = ledger.and_then(|file| Ledger::map(&file));
        Ok(Self {
            ledger: ledger
                .map_err(|error| PythonError::new("OSError", format!("{path}: {error}")))?,
            runs_allowed: variable(orders::RUNS_ALLOWED)?.parse().unwrap_or(1),
        })
    }

    pub(crate) fn handle(&self, task: &[u8], answer: &mut AnswerBuf) {
        let mut reader = TaskReader::new(task);
        let arguments = (|| Ok((reader.int()?, reader.int()?, reader.int()?, reader.str()?)))();
        let Ok::<_, nearcall::peer::MalformedTask>((number, deed, amount, padding)) = arguments
        else {
            return answer.refuse(Refusal::MalformedTask);
        };
        let (number, deed) = (number.cast_unsigned(), Deed::from_code(deed));
        let value = orders::answer(number, padding);
        self.ledger.note_run(number, self.runs_allowed);
        let micros = Duration::from_micros(amount.unsigned_abs());
        match deed {
            Some(Deed::Answer) => {}
            Some(Deed::Sleep) => std::thread::sleep(micros),
            Some(Deed::Compute) => {
                let until = Instant::now() + micros;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            Some(Deed::Raise) => {
                return answer.python_error(PythonError::new("ValueError", value.to_string()));
            }
            Some(Deed::Oversize) => {
                answer.start_value();
                return answer.bytes(&vec![7; amount.unsigned_abs() as usize]);
            }
            Some(Deed::Die) => super::die(amount),
            Some(Deed::Exit) => super::die(-amount),
            Some(Deed::Stop) => {
                // SAFETY: a signal to this process.
                unsafe { libc::raise(libc::SIGSTOP) };
            }
            Some(Deed::Scribble) => scribble(amount.cast_unsigned()),
            // What a scribble has made of a task.
            None => return answer.refuse(Refusal::MalformedTask),
        }
        answer.start_value();
        answer.tuple(2);
        answer.int(value);
        answer.str(padding);
    }
}

/// The ledger, mapped.
struct Ledger(ptr::NonNull<u8>);

impl Ledger {
    fn map(file: &File) -> std::io::Result<Self> {
        let bytes = orders::LEDGER_BYTES as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping of its own; the file has that many bytes, and is never cut.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        let failed = std::io::Error::last_os_error();
        if start == libc::MAP_FAILED {
            return Err(failed);
        }
        ptr::NonNull::new(start.cast()).map(Self).ok_or(failed)
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < orders::LEDGER_BYTES);
        // SAFETY: inside the mapping, by the line above.
        let word = unsafe { self.0.add(offset as usize) };
        // SAFETY: aligned, and mapped until this process ends; every process that writes there
        // writes words.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// Notes that a task runs. Relaxed throughout: counts, which order nothing.
    fn note_run(&self, number: u64, allowed: u64) {
        let runs = self.word(orders::runs_offset(number));
        let count = |word| match orders::runs_of(word) {
            (of, runs) if of == number => Some(orders::runs_word(number, runs + 1)),
            (of, _) if of < number => Some(orders::runs_word(number, 1)),
            // The row belongs to a later task: nothing is known of this one any more.
            _ => None,
        };
        if let Ok(before) = runs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            && orders::runs_of(before).0 == number
            && orders::runs_of(before).1 >= allowed
        {
            self.word(orders::TOO_MANY_RUNS).fetch_add(1, Ordering::Relaxed);
        }
        if self.word(orders::ended_offset(number)).load(Ordering::Relaxed) == number {
            self.word(orders::LATE_RUNS).fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes random bytes somewhere into the segment: what a broken or hostile worker may do.
fn scribble(seed: u64) {
    let Some((start, len)) = segment() else { return };
    let mut state = seed;
    let mut random = |below: usize| {
        state = orders::mix(state);
        (state % below.max(1) as u64) as usize
    };
    let kind = random(8);
    let pieces: Vec<(usize, usize)> = match kind {
        // Single words, anywhere; or where all looks are: header, lock, worker table, ring.
        0 | 1 => (0..64).map(|_| (random(len), 8)).collect(),
        2 | 3 => (0..8).map(|_| (random(len.min(4096)), 8)).collect(),
        // A piece; the first page; all of it.
        4 => vec![(random(len), 4096)],
        5 => vec![(0, 4096)],
        _ => vec![(0, len)],
    };
    let zeros = kind == 7;
    for (at, bytes) in pieces {
        for offset in at..(at + bytes).min(len) {
            let byte = if zeros { 0 } else { random(256) as u8 };
            // SAFETY: inside the mapping, which this process may write.
            let target = unsafe { start.add(offset) };
            // SAFETY: as above. That others read and write there is the point.
            unsafe { target.write_volatile(byte) };
        }
    }
}

/// Where this process has mapped the segment.
fn segment() -> Option<(*mut u8, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains("/dev/shm/nearcall-"))?;
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16).ok());
    Some((ptr::with_exposed_provenance_mut(start?), end? - start?))
}
