//! How often each task has run: a file without a name that the workers map.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

use crate::orders;

/// The host's end of the ledger.
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn new() -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("nearcall-storm", MemfdFlags::CLOEXEC)?);
        file.set_len(orders::LEDGER_BYTES)?;
        Ok(Self(file))
    }

    /// Where the workers find it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn read(&self, offset: u64) -> u64 {
        let mut word = [0; 8];
        // A file in memory of a fixed size: nothing can fail.
        let _ = self.0.read_exact_at(&mut word, offset);
        u64::from_ne_bytes(word)
    }

    fn write(&self, offset: u64, word: u64) {
        let _ = self.0.write_all_at(&word.to_ne_bytes(), offset);
    }

    /// How often a task has run, if that is still known.
    pub(crate) fn runs(&self, number: u64) -> Option<u64> {
        match orders::runs_of(self.read(orders::runs_offset(number))) {
            (of, runs) if of == number => Some(runs),
            (of, _) if of < number => Some(0),
            _ => None,
        }
    }

    /// The owner of a task has been told its end: it must not run from here on.
    pub(crate) fn note_end(&self, number: u64) {
        self.write(orders::ended_offset(number), number);
    }

    /// Forgets what was counted so far.
    pub(crate) fn clear_counts(&self) {
        self.write(orders::TOO_MANY_RUNS, 0);
        self.write(orders::LATE_RUNS, 0);
        self.write(orders::CHANGED, 0);
    }

    /// Tensors that models have kept, and that did not stay as they were.
    pub(crate) fn changed(&self) -> u64 {
        self.read(orders::CHANGED)
    }

    /// Tasks that have run more often than they may, and that have run after their end was told.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.read(orders::TOO_MANY_RUNS), self.read(orders::LATE_RUNS))
    }
}
