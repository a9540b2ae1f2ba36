//! The storm's model: does what a task asks, bad things included, and answers with a number that
//! follows from the task's. The host's half is `storm/`.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearcall::fault_point;
use nearcall::peer::{
    AnswerBuf, Argument, DType, InPlace, KeptTensors, PythonError, Refusal, TaskReader,
    TensorMemory, ValueRef,
};

#[path = "storm_orders.rs"]
pub(crate) mod orders;

use orders::Deed;

/// The model of one worker.
pub(crate) struct Storm {
    ledger: Ledger,
    runs_allowed: u64,
    kept: Vec<Kept>,
}

/// A tensor that outlives its task.
struct Kept {
    memory: TensorMemory,
    _tensors: KeptTensors,
    digest: u64,
    /// For how many tasks it stays.
    tasks: u64,
}

/// What a task carries.
struct Order<'a> {
    number: u64,
    deed: Option<Deed>,
    amount: i64,
    padding: Padding<'a>,
    /// Where the answer's padding may stand.
    room: Option<TensorMemory>,
}

/// Bytes that come back with the answer.
enum Padding<'a> {
    Text(&'a str),
    /// A tensor in place, and a copy of it.
    Tensor(TensorMemory, Vec<u8>),
}

impl Padding<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Tensor(_, copy) => copy,
        }
    }
}

impl<'a> Order<'a> {
    /// `None`: what a scribble has made of it.
    fn read(task: &'a [u8], in_place: &mut InPlace<'_>) -> Option<Self> {
        let mut reader = TaskReader::new(task);
        let (number, deed) = (reader.int().ok()?, reader.int().ok()?);
        let amount = reader.int().ok()?;
        let padding = match reader.argument().ok()? {
            Argument::Value(ValueRef::Str(text)) => Padding::Text(text),
            Argument::Value(_) => return None,
            Argument::Placed(tensor) => {
                let memory = in_place.memory(&tensor).ok()?;
                Padding::Tensor(memory, copy(&memory))
            }
        };
        let room = match reader.argument().ok()? {
            Argument::Value(_) => None,
            Argument::Placed(tensor) => Some(in_place.memory(&tensor).ok()?),
        };
        reader.finish().ok()?;
        let (number, deed) = (number.cast_unsigned(), Deed::from_code(deed));
        Some(Self { number, deed, amount, padding, room })
    }
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
            kept: Vec::new(),
        })
    }

    pub(crate) fn handle(
        &mut self,
        task: &[u8],
        in_place: &mut InPlace<'_>,
        answer: &mut AnswerBuf,
    ) {
        self.look_at_kept();
        let Some(order) = Order::read(task, in_place) else {
            return answer.refuse(Refusal::MalformedTask);
        };
        let Order { number, deed, amount, ref padding, room } = order;
        let value = orders::answer(number, padding.bytes());
        let run = self.ledger.note_run(number, self.runs_allowed);
        let micros = Duration::from_micros(amount.unsigned_abs());
        match deed {
            Some(Deed::Answer | Deed::Keep) => {}
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
            Some(Deed::Stumble) => {
                if run == Some(1) {
                    // Half a tensor that must not be seen.
                    if let Some(room) = room {
                        write(&room, 0, &vec![b'!'; padding.bytes().len() / 2]);
                    }
                    super::die(amount);
                }
            }
            Some(Deed::Lie) => return lie(amount.cast_unsigned(), room, answer),
            // What a scribble has made of a task.
            None => return answer.refuse(Refusal::MalformedTask),
        }
        answer.start_value();
        answer.tuple(2);
        answer.int(value);
        match padding {
            Padding::Text(text) => answer.str(text),
            Padding::Tensor(memory, copy) => give_back(memory, copy, room, in_place, answer),
        }
        if deed == Some(Deed::Keep) {
            self.keep(&order, in_place);
        }
    }

    /// Has the order's tensor stay for some tasks.
    fn keep(&mut self, order: &Order<'_>, in_place: &mut InPlace<'_>) {
        let Padding::Tensor(memory, ref copy) = order.padding else { return };
        // Otherwise this process ends with this task.
        if let Some(tensors) = in_place.keep() {
            let (digest, tasks) = (orders::digest(copy), order.amount.unsigned_abs());
            self.kept.push(Kept { memory, _tensors: tensors, digest, tasks });
        }
    }

    /// What was kept must be as it was.
    fn look_at_kept(&mut self) {
        let ledger = &self.ledger;
        self.kept.retain_mut(|kept| {
            kept.tasks = kept.tasks.saturating_sub(1);
            if kept.tasks > 0 {
                return true;
            }
            if orders::digest(&copy(&kept.memory)) != kept.digest {
                ledger.note_changed();
            }
            false
        });
    }
}

/// What stands in a tensor, which others may write to.
fn copy(memory: &TensorMemory) -> Vec<u8> {
    let mut copy = vec![0; memory.bytes];
    // SAFETY: the model has the tensor, or has kept it; the copy is as long.
    unsafe { memory.start.as_ptr().copy_to_nonoverlapping(copy.as_mut_ptr(), memory.bytes) };
    copy
}

/// Writes into a tensor, from its byte `at` on.
fn write(memory: &TensorMemory, at: usize, bytes: &[u8]) {
    // A scribble may have made it shorter, or one to read.
    if !memory.writable || at + bytes.len() > memory.bytes {
        return;
    }
    // SAFETY: inside the tensor, as just checked.
    let start = unsafe { memory.start.add(at) };
    // SAFETY: so many bytes of the tensor, which the model has.
    unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// Answers with the tensor: in place if there is room for that, lent if it is long, or copied.
fn give_back(
    memory: &TensorMemory,
    copy: &[u8],
    room: Option<TensorMemory>,
    in_place: &mut InPlace<'_>,
    answer: &mut AnswerBuf,
) {
    let shape = [copy.len()];
    if let Some(room) = room {
        let (first, rest) = copy.split_at(copy.len() / 2);
        write(&room, 0, first);
        fault_point("model.writing");
        write(&room, first.len(), rest);
        // (What has no bytes has no place.)
        if let Some(offset) = in_place.output_at(room.start.as_ptr(), copy.len()) {
            return answer.placed(DType::U8, &shape, offset);
        }
    }
    answer.tensor(DType::U8, &shape);
    if !answer.reserve(copy.len()) {
        return;
    }
    if answer.lends(copy.len()) {
        // SAFETY: the tensor is there until the outcome is handed over, or kept for a task more.
        unsafe { answer.lend(NonNull::slice_from_raw_parts(memory.start, memory.bytes)) };
    } else {
        answer.elements(copy);
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

    /// Notes that a kept tensor has changed. Relaxed, as below.
    fn note_changed(&self) {
        self.word(orders::CHANGED).fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a task runs. Says for which time, if that is still known. Relaxed throughout: counts,
    /// which order nothing.
    fn note_run(&self, number: u64, allowed: u64) -> Option<u64> {
        let runs = self.word(orders::runs_offset(number));
        let count = |word| match orders::runs_of(word) {
            (of, runs) if of == number => Some(orders::runs_word(number, runs + 1)),
            (of, _) if of < number => Some(orders::runs_word(number, 1)),
            // The row belongs to a later task: nothing is known of this one any more.
            _ => None,
        };
        let before = runs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok();
        let before = before.map(|before| match orders::runs_of(before) {
            (of, runs) if of == number => runs,
            _ => 0,
        });
        if before.is_some_and(|before| before >= allowed) {
            self.word(orders::TOO_MANY_RUNS).fetch_add(1, Ordering::Relaxed);
        }
        if self.word(orders::ended_offset(number)).load(Ordering::Relaxed) == number {
            self.word(orders::LATE_RUNS).fetch_add(1, Ordering::Relaxed);
        }
        before.map(|before| before + 1)
    }
}

/// Numbers below what is asked for, which follow from the seed.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = orders::mix(state);
        (state % below.max(1) as u64) as usize
    }
}

/// Writes random bytes somewhere into the segment: what a broken or hostile worker may do.
fn scribble(seed: u64) {
    let Some(Range { start, end }) = mapping(|_, offset| offset == 0) else { return };
    let mut random = dice(seed);
    let len = end - start;
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
            overwrite(start + offset, if zeros { 0 } else { random(256) as u8 });
        }
    }
}

/// Writes a byte to an address inside a mapping of the segment that may be written.
fn overwrite(address: usize, byte: u8) {
    let target: *mut u8 = ptr::with_exposed_provenance_mut(address);
    // SAFETY: mapped and writable. That others read and write there is the point.
    unsafe { target.write_volatile(byte) };
}

/// Writes anything into the extent for the answer's tensors, and answers with some that no honest worker
/// names, or that one does.
fn lie(seed: u64, room: Option<TensorMemory>, answer: &mut AnswerBuf) {
    /// As in the wire's format: what stands before a tensor in place.
    const PLACED: u8 = 11;
    let mut random = dice(seed);
    let bytes = room.map_or(0, |room| room.bytes);
    let address = room.map_or(0, |room| room.start.addr().get());
    let extent = room.and_then(|_| mapping(|mapping, _| mapping.contains(&address)));
    let extent = extent.unwrap_or_default();
    if !extent.is_empty() {
        // Also behind the room, where the host has reserved nothing.
        let reach = if random(4) == 0 { extent.len() } else { bytes };
        for _ in 0..64.min(reach) {
            overwrite(extent.start + random(reach), random(256) as u8);
        }
    }
    let number = |random: &mut dyn FnMut(usize) -> usize| match random(8) {
        0 => 0,
        1 => 1,
        2 => bytes as u64,
        3 => bytes as u64 + 1,
        4 => extent.len() as u64,
        5 => u64::MAX >> random(64),
        6 => 1 << random(64),
        _ => random(1 + bytes) as u64,
    };
    answer.start_value();
    let tensors = random(4);
    if random(2) == 0 {
        answer.list(tensors + random(2));
    } else {
        answer.tuple(tensors);
    }
    for _ in 0..tensors {
        // Mostly bytes, of one dimension, for the answer.
        let dtype = if random(4) == 0 { random(14) } else { DType::U8 as usize };
        let rank = if random(4) == 0 { random(35) } else { 1 };
        answer.elements(&[PLACED, dtype as u8, rank as u8]);
        for _ in 0..rank {
            answer.elements(&number(&mut random).to_le_bytes());
        }
        let side = if random(4) == 0 { random(3) } else { 1 };
        answer.elements(&[side as u8]);
        answer.elements(&number(&mut random).to_le_bytes());
    }
}

/// The addresses of the first of this process' mappings of the segment that is the one in question, by
/// its addresses and its offset in the file. (Tensors in place are mapped one by one, and some only to be
/// read.)
fn mapping(is_it: impl Fn(&Range<usize>, usize) -> bool) -> Option<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let hex = |digits| usize::from_str_radix(digits, 16).ok();
    maps.lines().filter(|line| line.contains("/dev/shm/nearcall-")).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let addresses = hex(start)?..hex(end)?;
        is_it(&addresses, hex(fields.nth(1)?)?).then_some(addresses)
    })
}
