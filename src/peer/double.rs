//! A slot without an engine around it, for the tests of handlers.

use std::io;

use super::in_place::InPlace;
use crate::shm::{EXTENT_UNIT, Extent, MIN_SLOT_BYTES, Payload, Segment, Sizes};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::Access;
use crate::wire::{AnswerBuf, IntoVec, Outcome, TensorSpec, place, write_placed_tag};

/// A slot into which a handler's tests put tensors, and from which they take answers, as a host does.
#[doc(hidden)]
pub struct SlotDouble {
    segment: Segment,
    /// Where the outputs of the task at hand end.
    outputs: AtomicU64,
}

impl SlotDouble {
    /// # Errors
    /// There is no shared memory.
    pub fn new() -> io::Result<Self> {
        let payload_bytes = EXTENT_UNIT << 9;
        let sizes = Sizes { slots: 1, slot_bytes: MIN_SLOT_BYTES, workers: 1, payload_bytes };
        let segment = Segment::create(sizes);
        let segment = segment.map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(Self { segment, outputs: AtomicU64::new(0) })
    }

    /// As a worker has it.
    pub fn in_place(&self) -> InPlace<'_> {
        InPlace::new(self.segment.large())
    }

    /// As a worker has it.
    pub fn answer(&self) -> AnswerBuf {
        AnswerBuf::new(self.segment.large().room()).with_error_limit(MIN_SLOT_BYTES as usize)
    }

    /// Begins a task with these tensors: the bytes of inputs, nothing for outputs. Gives the encoded
    /// arguments.
    ///
    /// # Errors
    /// No such tensors, or no room for them.
    pub fn begin(
        &self,
        in_place: &mut InPlace<'_>,
        tensors: &[(TensorSpec, &[u8])],
    ) -> io::Result<Vec<Vec<u8>>> {
        let large = self.segment.large();
        let specs: Vec<_> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let (placements, ends) = place(&specs).map_err(io::Error::other)?;
        for (extent, end) in Extent::IN_PLACE.into_iter().zip(ends) {
            large.reserve(0, extent, 0, end as usize)?;
        }
        let [_, outputs] = ends;
        // Relaxed, here and below: for the thread itself.
        self.outputs.store(outputs, Ordering::Relaxed);
        let inputs = large.map(0, Extent::Input, Access::Write)?;
        in_place.begin(0);
        let mut arguments = Vec::new();
        for (placement, (_, bytes)) in placements.iter().zip(tensors) {
            if !placement.is_output {
                let start = inputs.at(placement.offset, bytes.len());
                let start = start.ok_or(io::ErrorKind::InvalidInput)?;
                // SAFETY: inside the mapping, where pages are reserved, and not where `bytes` are.
                unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            }
            let mut argument = Vec::new();
            write_placed_tag(&mut IntoVec(&mut argument)).map_err(io::Error::other)?;
            placement.write(&mut IntoVec(&mut argument)).map_err(io::Error::other)?;
            arguments.push(argument);
        }
        Ok(arguments)
    }

    /// Bytes of tensors that models in this process keep.
    pub fn kept_bytes() -> u64 {
        InPlace::kept_bytes()
    }

    /// An outcome's message with the outputs that it names, which may be as many bytes as the task has.
    ///
    /// # Errors
    /// It is none, or names more.
    pub fn spliced(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let malformed = |error| io::Error::other(format!("{error:?}"));
        let outputs = self.outputs.load(Ordering::Relaxed);
        if Outcome::bytes_placed(message, outputs).map_err(malformed)?.is_none() {
            return Ok(message.to_vec());
        }
        let (large, mut whole) = (self.segment.large(), Payload::new());
        Outcome::splice(message, outputs, &mut whole, |offset, len, into| {
            let (start, mut read) = (offset as usize, Payload::new());
            large.read(0, Extent::Output, start + len, &mut read)?;
            into.extend_from_slice(read.get(start..).unwrap_or_default());
            Ok(())
        })
        .map_err(malformed)?;
        Ok(whole.to_vec())
    }
}

impl std::fmt::Debug for SlotDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotDouble").finish_non_exhaustive()
    }
}
