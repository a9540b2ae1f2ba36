//! THE layout of the segment: every type, size and offset, for both sides.
//!
//! `docs/shm-layout.md` has the same as a table; `tests/layout_abi.rs` compares the two. Change
//! anything here and [`LAYOUT_VERSION`] goes up.
//!
//! All words are atomics of fixed width, because another process may write them at any time, and
//! no reference to plain shared bytes exists anywhere: payload is written through raw pointers and
//! read word by word ([`super::region`]).

use core::mem::{align_of, offset_of, size_of};

use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::robust_mutex::MUTEX_BYTES;

/// Goes up with every change of the layout or of what its words mean.
pub(crate) const LAYOUT_VERSION: u32 = 7;

/// "nearcall", little endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"nearcall");

/// A task or an answer of up to this many bytes stands beside the slot's words; more goes to the
/// slot's body.
pub(crate) const INLINE_BYTES: usize = if cfg!(loom) { 8 } else { 112 };

/// A task of up to this many bytes travels in its ring entry.
pub(crate) const ENTRY_BYTES: usize = if cfg!(loom) { 8 } else { 48 };

pub(crate) const MIN_SLOTS: u32 = 1;
pub(crate) const MAX_SLOTS: u32 = 65_535;
pub(crate) const MIN_SLOT_BYTES: u32 = 256;
pub(crate) const MAX_SLOT_BYTES: u32 = 1 << 24;
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 1 << 31;
/// Extents start, and end, at multiples of this: the largest page of the usual kind there is.
pub(crate) const EXTENT_UNIT: u32 = 1 << 16;
/// Those of at least so many bytes at multiples of this: what a huge page has on these platforms.
pub(crate) const HUGE_PAGE: u32 = 1 << 21;
/// How many of them a slot has.
pub(crate) const EXTENTS: u64 = 4;
pub(crate) const MIN_WORKERS: u32 = 1;
pub(crate) const MAX_WORKERS: u32 = 1024;

/// Places for workers that do not serve: a spare, and one that is to replace another.
pub(crate) const EXTRA_PLACES: u32 = 2;

const PAGE: u64 = 4096;

/// This many words of padding; none in a model, where each word costs time.
const fn unmodelled(words: usize) -> usize {
    if cfg!(loom) { 0 } else { words }
}

/// What the segment is. Written once by the host, `magic` last; checked by each worker.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// [`MAGIC`] once everything else is in place (Release; a worker reads it first, Acquire).
    pub(crate) magic: AtomicU64,
    pub(crate) layout_version: AtomicU32,
    pub(crate) slots: AtomicU32,
    pub(crate) slot_bytes: AtomicU32,
    /// Workers that serve at a time. The worker table has [`EXTRA_PLACES`] more.
    pub(crate) workers: AtomicU32,
    /// Size of the whole segment in bytes.
    pub(crate) segment_bytes: AtomicU64,
    /// Bytes of an extent of the large area; 0 where there is none.
    pub(crate) payload_bytes: AtomicU32,
    _zero: [AtomicU32; 7],
}

/// What the host's threads tell the workers. On a line of its own: idle workers look at it again
/// and again, and it changes only when the host gets crowded or ceases to be.
#[repr(C, align(64))]
pub(crate) struct HostWords {
    /// 1 while more host threads wait, awake, than there are CPUs for them and the workers: whoever
    /// has nothing to do yields instead of spinning. A hint.
    pub(crate) crowded: AtomicU32,
    _zero: [AtomicU32; 15],
}

/// The consumers' end of the ring. Written by workers under the lock, read by workers; the host
/// only looks at `head` in its audits. The lock and what it guards share a line on purpose: who
/// takes the one needs the other.
#[repr(C, align(64))]
pub(crate) struct ConsumerEnd {
    /// A robust, process-shared `pthread_mutex_t`. The host never touches it after start.
    pub(crate) lock: [AtomicU64; MUTEX_BYTES / 8],
    /// The next position to take.
    pub(crate) head: AtomicU64,
    _zero: [AtomicU64; 1],
}

/// A worker's words. Two lines, by how often they change.
#[repr(C, align(128))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct WorkerWords {
    /// A futex. [`super::PARKED`], or [`super::STANDBY`] for one that takes no tasks yet, while the
    /// worker sleeps or is about to; set back to [`super::AWAKE`] by whoever wakes it. Changes
    /// rarely, so that a submit reads it from its own cache.
    pub(crate) parked: AtomicU32,
    /// What the host wants of the worker ([`super::Order`]). Written by the supervisor.
    pub(crate) order: AtomicU32,
    /// The key of the task that the worker is to interrupt, if it still runs that one; or 0.
    /// Written by the supervisor.
    pub(crate) interrupt: AtomicU64,
    _zero: [AtomicU64; unmodelled(6)],
    /// 1 while the worker spins for a task: it will look at the ring once more before it parks,
    /// so nobody else has to be woken. Written at each task, hence on its own line.
    pub(crate) searching: AtomicU32,
    /// 1 while the worker does something of its own that may take long, without a task: it frees
    /// what a call has left, or collects garbage. It is not idle then. [`super::BROKEN`] in the end, if
    /// it has found the segment broken.
    pub(crate) away: AtomicU32,
    /// The key of the task that the worker runs, or 0. For those who watch it: whose the task is,
    /// its slot says.
    pub(crate) running: AtomicU64,
    /// Tasks that the worker has done.
    pub(crate) tasks: AtomicU64,
    /// Bytes of tensors that its model has kept beyond their tasks, and keeps.
    pub(crate) kept: AtomicU64,
    _zero2: [AtomicU64; unmodelled(4)],
}

/// An entry of the ring: a line that takes a task to the worker, a small one with all that it
/// needs. Written by the host alone.
#[repr(C, align(64))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct EntryWords {
    /// [`super::state::Entry`], packed; written last.
    pub(crate) entry: AtomicU64,
    /// Bytes of the task.
    pub(crate) len: AtomicU32,
    _zero: AtomicU32,
    /// The task, if it has at most [`ENTRY_BYTES`] bytes.
    pub(crate) task: [AtomicU64; ENTRY_BYTES / 8],
}

/// What workers tell the host's event loop, if it has one. Before the bits of the slots, which are set
/// first ([`Layout::completed`]).
#[repr(C, align(64))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct CompletionWords {
    /// 1 from when the button was pressed until the host looks at the bits: nobody has to press it again.
    /// Set by workers, taken back by the host.
    pub(crate) announced: AtomicU32,
    _zero: [AtomicU32; unmodelled(15)],
}

/// A slot's words, and its small task and answer. Three pairs of lines, by who writes them while a
/// call is hot, so that none of them goes from one CPU to another but to bring the answer.
#[repr(C, align(128))]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct SlotWords {
    /// [`super::state::State`], packed: who published the last outcome, and of which task. Written
    /// by workers, watched by the host.
    pub(crate) done: AtomicU64,
    /// A futex. Who is to be told when the task is done: [`super::SLEEPS`] and [`super::AWAITS`], set by
    /// the host, taken back by whoever tells.
    pub(crate) waiter: AtomicU32,
    /// Bytes of the answer.
    pub(crate) answer_len: AtomicU32,
    /// The answer, if it has at most [`INLINE_BYTES`] bytes.
    pub(crate) answer: [AtomicU64; INLINE_BYTES / 8],

    /// [`super::state::State`], packed: who has which task. Written by workers; by the host only
    /// when something goes another way than usual.
    pub(crate) claim: AtomicU64,
    _zero: [AtomicU64; unmodelled(15)],

    /// Bytes of the task. Written by the host, read by workers only if the task does not fit its
    /// entry; so for the task.
    pub(crate) task_len: AtomicU32,
    _zero2: [AtomicU32; 3],
    /// The task, if it has at most [`INLINE_BYTES`] bytes.
    pub(crate) task: [AtomicU64; INLINE_BYTES / 8],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Header>() == 64 && align_of::<Header>() == 64);
    assert!(offset_of!(Header, magic) == 0);
    assert!(offset_of!(Header, layout_version) == 8);
    assert!(offset_of!(Header, slots) == 12);
    assert!(offset_of!(Header, slot_bytes) == 16);
    assert!(offset_of!(Header, workers) == 20);
    assert!(offset_of!(Header, segment_bytes) == 24);
    assert!(offset_of!(Header, payload_bytes) == 32);

    assert!(size_of::<HostWords>() == 64 && align_of::<HostWords>() == 64);
    assert!(offset_of!(HostWords, crowded) == 0);

    assert!(size_of::<ConsumerEnd>() == 64 && align_of::<ConsumerEnd>() == 64);
    assert!(offset_of!(ConsumerEnd, lock) == 0);
    assert!(offset_of!(ConsumerEnd, head) == 48);

    assert!(size_of::<WorkerWords>() == 128 && align_of::<WorkerWords>() == 128);
    assert!(offset_of!(WorkerWords, parked) == 0);
    assert!(offset_of!(WorkerWords, order) == 4);
    assert!(offset_of!(WorkerWords, interrupt) == 8);
    assert!(offset_of!(WorkerWords, searching) == 64);
    assert!(offset_of!(WorkerWords, away) == 68);
    assert!(offset_of!(WorkerWords, running) == 72);
    assert!(offset_of!(WorkerWords, tasks) == 80);
    assert!(offset_of!(WorkerWords, kept) == 88);

    assert!(size_of::<EntryWords>() == 64 && align_of::<EntryWords>() == 64);
    assert!(offset_of!(EntryWords, entry) == 0);
    assert!(offset_of!(EntryWords, len) == 8);
    assert!(offset_of!(EntryWords, task) == 16);

    assert!(size_of::<CompletionWords>() == 64 && align_of::<CompletionWords>() == 64);
    assert!(offset_of!(CompletionWords, announced) == 0);

    assert!(size_of::<SlotWords>() == 384 && align_of::<SlotWords>() == 128);
    assert!(offset_of!(SlotWords, done) == 0);
    assert!(offset_of!(SlotWords, waiter) == 8);
    assert!(offset_of!(SlotWords, answer_len) == 12);
    assert!(offset_of!(SlotWords, answer) == 16);
    assert!(offset_of!(SlotWords, claim) == 128);
    assert!(offset_of!(SlotWords, task_len) == 256);
    assert!(offset_of!(SlotWords, task) == 272);
};

/// The numbers that a segment is laid out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) slots: u32,
    /// Bytes of a slot's body: a multiple of 64.
    pub(crate) slot_bytes: u32,
    pub(crate) workers: u32,
    /// Bytes of an extent: a multiple of its [`extent_unit`]; 0 for none.
    pub(crate) payload_bytes: u32,
}

/// Where everything stands, in bytes from the segment's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) sizes: Sizes,
    pub(crate) header: u64,
    pub(crate) host: u64,
    pub(crate) consumer_end: u64,
    pub(crate) workers: u64,
    /// Rows of the worker table.
    pub(crate) places: u32,
    pub(crate) ring: u64,
    /// Entries of the ring: a power of two, at least twice the slots and two more.
    pub(crate) ring_entries: u64,
    pub(crate) completions: u64,
    /// A bit for each slot, in words of 64: whether somebody is to be told of its task's end.
    pub(crate) completed: u64,
    pub(crate) slots: u64,
    pub(crate) bodies: u64,
    /// What is mapped, and reserved at start.
    pub(crate) segment_bytes: u64,
    /// Where the large area starts, [`EXTENTS`] for each slot: sparse.
    pub(crate) extents: u64,
}

impl Layout {
    /// How long the file can get: the end of the last extent.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.extents + EXTENTS * u64::from(self.sizes.slots) * u64::from(self.sizes.payload_bytes)
    }

    /// The layout for these sizes; `None` if they are outside their limits.
    pub(crate) const fn new(sizes: Sizes) -> Option<Self> {
        let Sizes { slots, slot_bytes, workers, payload_bytes } = sizes;
        if slots < MIN_SLOTS
            || slots > MAX_SLOTS
            || slot_bytes < MIN_SLOT_BYTES
            || slot_bytes > MAX_SLOT_BYTES
            || !slot_bytes.is_multiple_of(64)
            || workers < MIN_WORKERS
            || workers > MAX_WORKERS
            || payload_bytes > MAX_PAYLOAD_BYTES
            || !payload_bytes.is_multiple_of(extent_unit(payload_bytes))
        {
            return None;
        }
        let header = 0;
        let host = header + size_of::<Header>() as u64;
        let consumer_end = host + size_of::<HostWords>() as u64;
        let worker_table = align_up(consumer_end + size_of::<ConsumerEnd>() as u64, 128);
        let places = workers as u64 + EXTRA_PLACES as u64;
        let ring = worker_table + places * size_of::<WorkerWords>() as u64;
        let entry_bytes = size_of::<EntryWords>() as u64;
        // No more than `slots + 1` entries wait (`ring::producer`); after deaths and faults the
        // supervisor may push tasks once more.
        let ring_entries = (2 * slots as u64 + 2).next_power_of_two();
        let completions = ring + entry_bytes * ring_entries;
        let completed = completions + size_of::<CompletionWords>() as u64;
        let slot_words = align_up(completed + 8 * completed_words(slots) as u64, PAGE);
        let bodies = align_up(slot_words + slots as u64 * size_of::<SlotWords>() as u64, PAGE);
        let segment_bytes = align_up(bodies + slots as u64 * slot_bytes as u64, PAGE);
        Some(Self {
            sizes,
            header,
            host,
            consumer_end,
            workers: worker_table,
            places: workers + EXTRA_PLACES,
            ring,
            ring_entries,
            completions,
            completed,
            slots: slot_words,
            bodies,
            segment_bytes,
            extents: align_up(segment_bytes, extent_unit(payload_bytes) as u64),
        })
    }
}

/// Words of the bits of so many slots.
pub(crate) const fn completed_words(slots: u32) -> u32 {
    slots.div_ceil(u64::BITS)
}

/// What extents of so many bytes start, and end, at multiples of.
pub(crate) const fn extent_unit(payload_bytes: u32) -> u32 {
    if payload_bytes >= HUGE_PAGE { HUGE_PAGE } else { EXTENT_UNIT }
}

const fn align_up(offset: u64, to: u64) -> u64 {
    offset.div_ceil(to) * to
}

/// Every number that `docs/shm-layout.md` tables, as the rows of its tables: the table's name, the
/// numbers that the row starts with, the name that follows them. For `tests/layout_abi.rs`.
pub fn layout_tables() -> Vec<(&'static str, Vec<u64>, String)> {
    use super::state::{Entry, Owner, Phase, State};
    use crate::key::{Generation, Key};

    fn size_of_field<T, F>(_: fn(&T) -> &F) -> u64 {
        size_of::<F>() as u64
    }
    let mut rows = Vec::new();
    let mut row = |table, numbers: &[u64], name: &str| {
        rows.push((table, numbers.to_vec(), name.to_owned()));
    };
    macro_rules! fields {
        ($type:ident: $($field:ident)*) => {
            // Names every field: one that is left out does not compile.
            let _ = |$type { $($field: _),* }: &$type| ();
            $(
                let size = size_of_field(|whole: &$type| &whole.$field);
                row(stringify!($type), &[offset_of!($type, $field) as u64, size], stringify!($field));
            )*
            let (size, align) = (size_of::<$type>() as u64, align_of::<$type>() as u64);
            row("Types", &[size, align], stringify!($type));
        };
    }
    fields!(Header:
        magic layout_version slots slot_bytes workers segment_bytes payload_bytes _zero);
    fields!(HostWords: crowded _zero);
    fields!(ConsumerEnd: lock head _zero);
    fields!(WorkerWords:
        parked order interrupt _zero searching away running tasks kept _zero2);
    fields!(EntryWords: entry len _zero task);
    fields!(CompletionWords: announced _zero);
    fields!(SlotWords: done waiter answer_len answer claim _zero task_len _zero2 task);

    row("Constants", &[MAGIC], "MAGIC");
    row("Constants", &[LAYOUT_VERSION.into()], "LAYOUT_VERSION");
    row("Constants", &[INLINE_BYTES as u64], "INLINE_BYTES");
    row("Constants", &[ENTRY_BYTES as u64], "ENTRY_BYTES");
    row("Constants", &[EXTRA_PLACES.into()], "EXTRA_PLACES");
    row("Constants", &[EXTENT_UNIT.into()], "EXTENT_UNIT");
    row("Constants", &[HUGE_PAGE.into()], "HUGE_PAGE");
    row("Constants", &[EXTENTS], "EXTENTS");
    row("Limits", &[MIN_SLOTS.into(), MAX_SLOTS.into()], "slots");
    row("Limits", &[MIN_SLOT_BYTES.into(), MAX_SLOT_BYTES.into()], "slot_bytes");
    row("Limits", &[MIN_WORKERS.into(), MAX_WORKERS.into()], "workers");
    row("Limits", &[0, MAX_PAYLOAD_BYTES.into()], "payload_bytes");
    let sizes = Sizes { slots: 64, slot_bytes: 4096, workers: 2, payload_bytes: 1 << 26 };
    if let Some(l) = Layout::new(sizes) {
        row("Example", &[l.header, size_of::<Header>() as u64], "header");
        row("Example", &[l.host, size_of::<HostWords>() as u64], "host");
        row("Example", &[l.consumer_end, size_of::<ConsumerEnd>() as u64], "consumer_end");
        row(
            "Example",
            &[l.workers, u64::from(l.places) * size_of::<WorkerWords>() as u64],
            "workers",
        );
        row("Example", &[l.ring, size_of::<EntryWords>() as u64 * l.ring_entries], "ring");
        row("Example", &[l.completions, size_of::<CompletionWords>() as u64], "completions");
        row("Example", &[l.completed, 8], "completed");
        row("Example", &[l.slots, 64 * size_of::<SlotWords>() as u64], "slots");
        row("Example", &[l.bodies, 64 * 4096], "bodies");
        row("Example", &[l.segment_bytes, 0], "segment_bytes");
        row("Example", &[l.extents, (64 * EXTENTS) << 26], "extents");
    }

    // Where the parts of the packed words stand, read off words that differ in one part.
    if let (Some(one), Some(first), Some(second)) =
        (Generation::new(1), Owner::worker(0), Owner::worker(1))
    {
        let state = |owner| State::of(Phase::Done, owner, one).pack() & !7;
        let owner = u64::from((state(first) ^ state(second)).trailing_zeros());
        let generation = u64::from(state(first).trailing_zeros());
        row("State word", &[0, owner], "phase");
        row("State word", &[owner, generation - owner], "owner");
        row("State word", &[generation, Generation::BITS.into()], "generation");
        let key = Key::new(0, one);
        let index = u64::from(key.get().trailing_zeros());
        row("Key", &[0, index], "index");
        row("Key", &[index, Generation::BITS.into()], "generation");
        let entry = |position| Entry::new(key, position, 2).word();
        let lap = u64::from((entry(0) ^ entry(2)).trailing_zeros());
        row("Ring entry", &[0, lap], "key");
        row("Ring entry", &[lap, 1], "lap");
    }
    for phase in [Phase::Running, Phase::Done, Phase::Cancelled, Phase::Condemned] {
        row("Phases", &[phase as u64], &format!("{phase:?}"));
    }
    row("Waiters", &[super::SLEEPS.into()], "SLEEPS");
    row("Waiters", &[super::AWAITS.into()], "AWAITS");
    for order in super::Order::ALL {
        row("Orders", &[order as u64], &format!("{order:?}"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_without_overlap_at_every_limit() {
        for slots in [1, 2, 63, 64, 65_535] {
            for slot_bytes in [256, 4096, 1 << 24] {
                for workers in [1, 2, 1024] {
                    let payload_bytes = match slots {
                        64 => 0,
                        63 => HUGE_PAGE - EXTENT_UNIT,
                        2 => HUGE_PAGE,
                        _ => MAX_PAYLOAD_BYTES,
                    };
                    let sizes = Sizes { slots, slot_bytes, workers, payload_bytes };
                    let l = Layout::new(sizes).unwrap();
                    assert!(l.header + 64 <= l.host);
                    assert!(l.host + 64 <= l.consumer_end);
                    assert!(l.consumer_end + 64 <= l.workers);
                    assert!(l.workers + 128 * u64::from(workers) <= l.ring);
                    assert!(l.ring + 64 * l.ring_entries <= l.completions);
                    assert!(l.completions + 64 <= l.completed);
                    assert!(l.completed + u64::from(slots).div_ceil(64) * 8 <= l.slots);
                    assert!(l.slots + 384 * u64::from(slots) <= l.bodies);
                    assert!(l.bodies + u64::from(slots) * u64::from(slot_bytes) <= l.segment_bytes);
                    let unit = if payload_bytes >= 2 << 20 { 2 << 20 } else { 65_536 };
                    assert!(l.segment_bytes <= l.extents && l.extents.is_multiple_of(unit));
                    assert!(u64::from(payload_bytes).is_multiple_of(unit));
                    assert!(i64::try_from(l.file_bytes()).is_ok(), "a file that large");
                    assert!(l.ring_entries.is_power_of_two());
                    assert!(l.ring_entries >= 2 * u64::from(slots) + 2);
                    assert_eq!(l.workers % 128 + l.slots % 4096 + l.bodies % 4096, 0);
                    assert_eq!(l.completions % 64 + l.completed % 64, 0);
                }
            }
        }
    }

    #[test]
    fn sizes_outside_their_limits_have_no_layout() {
        let good = Sizes { slots: 64, slot_bytes: 4096, workers: 2, payload_bytes: 0 };
        assert!(Layout::new(good).is_some());
        for bad in [
            Sizes { slots: 0, ..good },
            Sizes { slots: 65_536, ..good },
            Sizes { slot_bytes: 0, ..good },
            Sizes { slot_bytes: 4097, ..good },
            Sizes { slot_bytes: (1 << 24) + 64, ..good },
            Sizes { workers: 0, ..good },
            Sizes { workers: 1025, ..good },
            Sizes { payload_bytes: 4096, ..good },
            Sizes { payload_bytes: HUGE_PAGE + EXTENT_UNIT, ..good },
            Sizes { payload_bytes: MAX_PAYLOAD_BYTES + HUGE_PAGE, ..good },
        ] {
            assert_eq!(Layout::new(bad), None, "{bad:?}");
        }
    }
}
