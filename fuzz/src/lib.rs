//! What the fuzz targets share: input taken apart, and a count of what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An input, read from the front. Past its end it is all zeros, so that each input means something.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()).checked_rem(limit).unwrap_or(0)
    }

    pub fn u64(&mut self) -> u64 {
        let mut whole = [0; 8];
        let bytes = self.bytes(8);
        whole[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(whole)
    }

    /// So many bytes, or all that are left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Prints what an input does, step by step, if `NEARCALL_FUZZ_TRACE` is set.
pub fn tell(step: std::fmt::Arguments<'_>) {
    static TOLD: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("NEARCALL_FUZZ_TRACE").is_some());
    if *TOLD {
        eprintln!("{step}");
    }
}

/// Counts the bytes that were ever asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(size, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `act`, which may ask for `most` bytes in all, freed ones included. For targets with one
/// thread.
pub fn within<T>(most: usize, act: impl FnOnce() -> T) -> T {
    let before = ASKED.load(Ordering::Relaxed);
    let result = act();
    let asked = ASKED.load(Ordering::Relaxed) - before;
    assert!(asked <= most, "{asked} bytes were asked for, {most} are enough");
    result
}
