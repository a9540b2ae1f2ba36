//! From a mapping's address to its parts: the one place where shared bytes get types.

use core::mem::offset_of;
use core::ptr::NonNull;
use std::io;
use std::os::fd::BorrowedFd;

use crate::sync::{AtomicU64, Ordering};
use crate::sys::{memory, robust_mutex};
use crate::wire::RawWriter;

use super::STANDBY;
use super::layout::{
    CompletionWords, ConsumerEnd, EntryWords, Header, HostWords, INLINE_BYTES, LAYOUT_VERSION,
    Layout, MAGIC, Sizes, SlotWords, WorkerWords, completed_words,
};

/// How much of the segment behind `descriptor` is to be mapped: not the large area, which makes the file
/// longer than that. Believed only after [`Region::attach`] has held it against the layout.
///
/// # Errors
/// What the system said.
pub(crate) fn bytes_to_map(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    let mut word = Payload::new();
    let offset = offset_of!(Header, segment_bytes) as u64;
    memory::read_at(descriptor, offset, size_of::<u64>(), &mut word)?;
    let said = word.as_slice().try_into().map_or(0, u64::from_le_bytes);
    Ok(said.min(memory::size_of_shared(descriptor)?))
}

/// Private bytes of a payload: small ones without an allocation.
pub(crate) type Payload = smallvec::SmallVec<[u8; INLINE_BYTES]>;

/// Why mapped memory is not a segment that this process can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttachError(pub(crate) &'static str);

/// A mapped segment with a known layout.
///
/// # Invariants
/// `base` is the page-aligned start of `layout.segment_bytes` mapped bytes, readable and writable,
/// that stay mapped while the region (or a copy of it) lives. All access to them goes through
/// atomics or raw pointers, in every process: no reference to plain bytes in them exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a region is an address and numbers; what it points to is atomics, or bytes reached
// through raw pointers by whoever owns the slot they belong to (`shm::state`), threads and
// processes alike.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

/// The ring's words: what both of its ends need.
#[derive(Clone, Copy)]
pub(crate) struct RingWords<'a> {
    /// A power of two of entries.
    pub(crate) entries: &'a [EntryWords],
    /// The consumers' position.
    pub(crate) head: &'a AtomicU64,
}

/// What workers tell an event loop of the host's.
#[derive(Clone, Copy)]
pub(crate) struct Completed<'a> {
    pub(crate) words: &'a CompletionWords,
    /// A bit for each slot.
    pub(crate) slots: &'a [AtomicU64],
}

impl Region {
    /// # Safety
    /// `base` and `layout` must keep the invariants of [`Region`] for as long as the result or a
    /// copy of it is used.
    pub(crate) unsafe fn new(base: NonNull<u8>, layout: Layout) -> Self {
        Self { base, layout }
    }

    /// Reads the header of a mapping of `mapped` bytes and holds it against this build.
    ///
    /// # Safety
    /// `base` must be the page-aligned start of `mapped` bytes, readable and writable, that stay
    /// mapped while the result or a copy of it is used, and are accessed as [`Region`] demands.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) unsafe fn attach(base: NonNull<u8>, mapped: u64) -> Result<Self, AttachError> {
        if mapped < size_of::<Header>() as u64 {
            return Err(AttachError("it is smaller than its header"));
        }
        // SAFETY: at least a header's bytes are mapped at the page-aligned `base`, and a header
        // consists of atomics.
        let header = unsafe { base.cast::<Header>().as_ref() };
        // Acquire: pairs with the Release in `publish`; the rest of the header is complete.
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(AttachError("it does not start with the magic number"));
        }
        // Relaxed: ordered by the load of `magic` above.
        if header.layout_version.load(Ordering::Relaxed) != LAYOUT_VERSION {
            return Err(AttachError("its layout is of another version"));
        }
        let sizes = Sizes {
            slots: header.slots.load(Ordering::Relaxed),
            slot_bytes: header.slot_bytes.load(Ordering::Relaxed),
            workers: header.workers.load(Ordering::Relaxed),
            payload_bytes: header.payload_bytes.load(Ordering::Relaxed),
        };
        let layout = Layout::new(sizes).ok_or(AttachError("its sizes are outside their limits"))?;
        let written = header.segment_bytes.load(Ordering::Relaxed);
        if layout.segment_bytes != written || layout.segment_bytes > mapped {
            return Err(AttachError("its size does not fit its header"));
        }
        // SAFETY: the caller vouches for the mapping, the check above for its size.
        Ok(unsafe { Self::new(base, layout) })
    }

    /// Makes a fresh segment, which is zeros, one that workers can attach to.
    pub(crate) fn publish(&self) {
        for words in self.workers() {
            // Relaxed: published with the header. A place has nobody to wake before it has a worker.
            words.parked.store(STANDBY, Ordering::Relaxed);
        }
        self.publish_header();
    }

    /// Writes the header, the magic number last.
    pub(crate) fn publish_header(&self) {
        let Sizes { slots, slot_bytes, workers, payload_bytes } = self.layout.sizes;
        let header = self.header();
        // Relaxed: published by the Release store below.
        header.layout_version.store(LAYOUT_VERSION, Ordering::Relaxed);
        header.slots.store(slots, Ordering::Relaxed);
        header.slot_bytes.store(slot_bytes, Ordering::Relaxed);
        header.workers.store(workers, Ordering::Relaxed);
        header.payload_bytes.store(payload_bytes, Ordering::Relaxed);
        header.segment_bytes.store(self.layout.segment_bytes, Ordering::Relaxed);
        // Release: pairs with the Acquire in `attach`.
        header.magic.store(MAGIC, Ordering::Release);
    }

    /// Makes a free lock of the workers' lock.
    ///
    /// # Safety
    /// Nobody may have the lock, wait for it, or come to want it while this runs.
    ///
    /// # Errors
    /// What pthread said.
    pub(crate) unsafe fn initialise_lock(&self) -> io::Result<()> {
        for word in &self.consumer_end().lock {
            // Relaxed: whoever uses the lock is started later.
            word.store(0, Ordering::Relaxed);
        }
        // SAFETY: the lock's bytes are inside the mapping and aligned; the caller vouches that
        // nobody uses them.
        unsafe { robust_mutex::initialise(self.lock()) }
    }

    /// Puts all pages into this process' page tables.
    pub(crate) fn populate(&self) {
        // SAFETY: the invariants of the region; the host has reserved all pages.
        unsafe { memory::populate(self.base, self.layout.segment_bytes as usize) };
    }

    #[inline]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The address `offset` bytes into the segment.
    ///
    /// # Safety
    /// `offset` must be at most `layout.segment_bytes`.
    #[inline]
    unsafe fn at(&self, offset: u64) -> NonNull<u8> {
        // SAFETY: the caller keeps `offset` within the mapping, so the sum does not leave it.
        unsafe { self.base.add(offset as usize) }
    }

    fn header(&self) -> &Header {
        // SAFETY: `Layout` puts the header inside the segment.
        let at = unsafe { self.at(self.layout.header) };
        // SAFETY: mapped, aligned (offset 0 of a page), and made of atomics only.
        unsafe { at.cast().as_ref() }
    }

    #[inline]
    pub(crate) fn host(&self) -> &HostWords {
        // SAFETY: `Layout` puts it inside the segment.
        let at = unsafe { self.at(self.layout.host) };
        // SAFETY: mapped, 64-byte aligned by `Layout`, and made of atomics only.
        unsafe { at.cast().as_ref() }
    }

    #[inline]
    fn consumer_end(&self) -> &ConsumerEnd {
        // SAFETY: `Layout` puts it inside the segment.
        let at = unsafe { self.at(self.layout.consumer_end) };
        // SAFETY: mapped, 64-byte aligned by `Layout`, and made of atomics only.
        unsafe { at.cast().as_ref() }
    }

    /// The workers' lock: `MUTEX_BYTES` bytes, aligned to 64.
    pub(crate) fn lock(&self) -> NonNull<u8> {
        NonNull::from(&self.consumer_end().lock).cast()
    }

    #[inline]
    pub(crate) fn ring(&self) -> RingWords<'_> {
        // SAFETY: `Layout` puts the ring inside the segment.
        let at = unsafe { self.at(self.layout.ring) };
        let at = NonNull::slice_from_raw_parts(at.cast(), self.layout.ring_entries as usize);
        // SAFETY: `ring_entries` entries are mapped there, 128-byte aligned by `Layout`, and they
        // are made of atomics only.
        let entries = unsafe { at.as_ref() };
        RingWords { entries, head: &self.consumer_end().head }
    }

    /// The words of all workers: those that serve, and those that may be about to.
    #[inline]
    pub(crate) fn workers(&self) -> &[WorkerWords] {
        // SAFETY: `Layout` puts the table inside the segment.
        let at = unsafe { self.at(self.layout.workers) };
        let at = NonNull::slice_from_raw_parts(at.cast(), self.layout.places as usize);
        // SAFETY: that many entries are mapped there, 128-byte aligned by `Layout`, and they are
        // made of atomics only.
        unsafe { at.as_ref() }
    }

    pub(crate) fn completed(&self) -> Completed<'_> {
        // SAFETY: `Layout` puts the words inside the segment.
        let words = unsafe { self.at(self.layout.completions) };
        // SAFETY: likewise the bits.
        let slots = unsafe { self.at(self.layout.completed) };
        let count = completed_words(self.layout.sizes.slots) as usize;
        let slots = NonNull::slice_from_raw_parts(slots.cast(), count);
        // SAFETY: mapped, 64-byte aligned by `Layout`, and made of atomics only.
        let words = unsafe { words.cast().as_ref() };
        // SAFETY: that many words are mapped there, 64-byte aligned by `Layout`, and they are atomics.
        let slots = unsafe { slots.as_ref() };
        Completed { words, slots }
    }

    /// The slot at `index`, if there is one.
    #[inline]
    pub(crate) fn slot(&self, index: u16) -> Option<Slot<'_>> {
        if u32::from(index) >= self.layout.sizes.slots {
            return None;
        }
        let words = self.layout.slots + u64::from(index) * size_of::<SlotWords>() as u64;
        let body = self.layout.bodies + u64::from(index) * u64::from(self.layout.sizes.slot_bytes);
        // SAFETY: `index` is below `slots`, so `Layout` has these words inside the segment.
        let words = unsafe { self.at(words) };
        // SAFETY: likewise the body.
        let body = unsafe { self.at(body) };
        // SAFETY: mapped, 128-byte aligned by `Layout`, and made of atomics only.
        let words = unsafe { words.cast().as_ref() };
        Some(Slot { words, body, room: self.layout.sizes.slot_bytes as usize })
    }
}

/// One slot.
///
/// # Invariants
/// `body` is the 64-byte aligned start of `room` mapped bytes that belong to this slot alone.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) words: &'a SlotWords,
    body: NonNull<u8>,
    room: usize,
}

impl Slot<'_> {
    /// The largest payload that fits it, in bytes.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Where a payload of `len` bytes stands whose small ones are at `small`.
    #[inline]
    fn place(&self, small: &[AtomicU64; INLINE_BYTES / 8], len: usize) -> NonNull<u8> {
        if len <= INLINE_BYTES { NonNull::from(small).cast() } else { self.body }
    }

    /// Records that the task will have `len` bytes and gives the writer for it; `None` when the
    /// slot has no room for it.
    ///
    /// # Safety
    /// The caller must be the one thread of the host that has the slot for filling.
    #[inline]
    pub(crate) unsafe fn task_writer(&self, len: usize) -> Option<RawWriter> {
        if len > self.room {
            return None;
        }
        // Relaxed: published with the task by the Release that pushes its entry.
        self.words.task_len.store(len as u32, Ordering::Relaxed);
        let start = self.place(&self.words.task, len);
        // SAFETY: the task's area has at least `len` bytes (the small one or the body, by size),
        // they are mapped while the region is, and no reference to plain bytes of it exists. That
        // nobody else writes there is the caller's promise.
        Some(unsafe { RawWriter::new(start.as_ptr(), len) })
    }

    /// Copies a task of `len` bytes out, into `into`, whose old contents go.
    ///
    /// # Errors
    /// A length that the slot does not have.
    #[inline]
    pub(crate) fn copy_task(&self, len: usize, into: &mut Payload) -> Result<(), BadLength> {
        self.copy(self.place(&self.words.task, len), len, into)
    }

    /// As [`task_writer`](Self::task_writer), for the answer.
    ///
    /// # Safety
    /// The caller must be the worker that has claimed the slot and not published its outcome yet.
    #[inline]
    pub(crate) unsafe fn answer_writer(&self, len: usize) -> Option<RawWriter> {
        if len > self.room {
            return None;
        }
        // Relaxed: published with the answer by the Release of `ring::publish`.
        self.words.answer_len.store(len as u32, Ordering::Relaxed);
        let start = self.place(&self.words.answer, len);
        // SAFETY: as in `task_writer`.
        Some(unsafe { RawWriter::new(start.as_ptr(), len) })
    }

    /// Copies the answer out, into `into`, whose old contents go.
    ///
    /// # Errors
    /// A length that the slot does not have.
    #[inline]
    pub(crate) fn copy_answer(&self, into: &mut Payload) -> Result<(), BadLength> {
        // Relaxed: the caller has seen DONE, which publishes it (Acquire).
        let len = self.words.answer_len.load(Ordering::Relaxed) as usize;
        self.copy(self.place(&self.words.answer, len), len, into)
    }

    #[inline]
    fn copy(&self, start: NonNull<u8>, len: usize, into: &mut Payload) -> Result<(), BadLength> {
        if len > self.room {
            return Err(BadLength);
        }
        let words = NonNull::slice_from_raw_parts(start.cast::<AtomicU64>(), len.div_ceil(8));
        // SAFETY: the small areas and the body are 8-byte aligned, mapped, and a multiple of 8
        // bytes long, so the rounded-up length stays inside; atomics may be shared with writers in
        // other processes.
        let words = unsafe { words.as_ref() };
        copy_words(words, len, into);
        Ok(())
    }
}

/// Copies the first `len` bytes of shared words, at most all of them, into `into`, whose old
/// contents go. Each word is read once, and nothing is believed: not that the bytes stand still.
#[inline]
pub(crate) fn copy_words(words: &[AtomicU64], len: usize, into: &mut Payload) {
    into.clear();
    into.reserve(words.len() * 8);
    // SAFETY: room for `8 * words.len()` bytes was reserved; the vector is this thread's own memory.
    unsafe { load_words(words, into.as_mut_ptr()) };
    // SAFETY: `8 * words.len()` bytes were reserved and written.
    unsafe { into.set_len(len.min(words.len() * 8)) };
}

/// As [`copy_words`], for `len` bytes from any address on, to the end of `into`.
///
/// # Safety
/// The 8-byte words that the bytes are in must be mapped, with pages behind them, and be written through
/// atomics or raw pointers only.
///
/// # Errors
/// There is no memory for them; nothing has changed then.
pub(crate) unsafe fn append_shared(
    start: NonNull<u8>,
    len: usize,
    into: &mut Payload,
) -> io::Result<()> {
    into.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    if len == 0 {
        return Ok(());
    }
    let skip = start.addr().get() % 8;
    // SAFETY: the start of the word that the first byte is in, which the caller vouches for.
    let first = unsafe { start.sub(skip) };
    let words = NonNull::slice_from_raw_parts(first.cast::<AtomicU64>(), (skip + len).div_ceil(8));
    // SAFETY: the words that the bytes are in: mapped, and shared as the caller says.
    let mut words = unsafe { words.as_ref() };
    // Relaxed: as in `load_words`.
    let part = |word: &AtomicU64| word.load(Ordering::Relaxed).to_ne_bytes();
    let end = into.len() + len;
    if skip > 0
        && let Some((first, others)) = words.split_first()
    {
        into.extend(part(first).into_iter().skip(skip).take(len));
        words = others;
    }
    let (whole, rest) = words.split_at((end - into.len()) / 8);
    let before = into.len();
    // SAFETY: `before <= end`, for which there is room.
    let target = unsafe { into.as_mut_ptr().add(before) };
    // SAFETY: behind it there is room for what is missing, of which these are at most all; the vector is
    // this thread's own memory.
    unsafe { load_words(whole, target) };
    // SAFETY: so many bytes were just written, within the capacity.
    unsafe { into.set_len(before + 8 * whole.len()) };
    if let Some(last) = rest.first() {
        into.extend(part(last).into_iter().take(end - into.len()));
    }
    Ok(())
}

/// Copies shared words to `target`, each read once. For what no cache holds this is as fast as `memcpy`.
///
/// # Safety
/// There must be room for `8 * words.len()` bytes, which nobody else has.
#[inline]
unsafe fn load_words(words: &[AtomicU64], target: *mut u8) {
    for (index, word) in words.iter().enumerate() {
        // Relaxed: the caller has seen the word that publishes them (Acquire).
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        // SAFETY: `index < words.len()`, so this is inside.
        let target = unsafe { target.add(8 * index) };
        // SAFETY: as above, and the caller vouches for the memory.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), 8) };
    }
}

/// A payload length larger than its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLength;
