//! What lies in the shared memory. The worker has the same layouts, as formats of Python's
//! `struct` (`python/iceoryx_worker.py`).

use anyhow::Context;
use iceoryx2::prelude::ZeroCopySend;
use nearcall_bench::workload::{FLOATS, INT, STRS};

use crate::task::{Answer, Task};

/// Room for each text.
const TEXT: usize = 16;

/// One call.
#[derive(Debug, Clone, Copy, ZeroCopySend)]
#[type_name("Request")]
#[repr(C)]
pub(super) struct Request {
    call: u64,
    /// Where the answer goes; [`END`] tells the worker to end.
    submitter: u64,
    /// The only argument of `noop`; `int_feature` of `big_model`.
    number: i64,
    floats: [f64; FLOATS.len()],
    lengths: [u32; STRS.len()],
    texts: [[u8; TEXT]; STRS.len()],
}

/// No submitter.
const END: u64 = u64::MAX;

impl Request {
    /// Of a submitter.
    pub(super) fn new(task: Task, call: u64, submitter: usize) -> Self {
        let mut request = Self { call, submitter: submitter as u64, ..Self::end() };
        match task {
            Task::Noop => request.number = call.cast_signed(),
            Task::BigModel => {
                request.number = INT;
                request.floats = FLOATS;
                for (at, text) in STRS.iter().enumerate() {
                    request.lengths[at] = text.len() as u32;
                    request.texts[at][..text.len()].copy_from_slice(text.as_bytes());
                }
            }
        }
        request
    }

    /// Tells a worker to end.
    pub(super) fn end() -> Self {
        Self {
            call: 0,
            submitter: END,
            number: 0,
            floats: [0.0; FLOATS.len()],
            lengths: [0; STRS.len()],
            texts: [[0; TEXT]; STRS.len()],
        }
    }
}

/// One answer.
#[derive(Debug, Clone, Copy, ZeroCopySend)]
#[type_name("Response")]
#[repr(C)]
pub(super) struct Response {
    call: u64,
    worker: u64,
    value: i64,
    length: u64,
    text: [u8; TEXT],
}

impl Response {
    /// The worker that it is from, and what it says.
    pub(super) fn open(&self) -> anyhow::Result<(usize, Answer)> {
        let length = usize::try_from(self.length)?;
        let text = self.text.get(..length).context("a text is cut off")?.len();
        Ok((self.worker as usize, Answer { call: self.call, value: self.value, text }))
    }
}
