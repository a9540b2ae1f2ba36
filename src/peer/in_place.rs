//! Tensors in place, as a worker has them: mapped where they stand, and what becomes of those that a
//! model keeps.

use core::ptr::NonNull;
use std::io;

use super::forked;
use crate::shm::{Extent, LargeArea, MappedExtent};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::Access;
use crate::wire::{Placed, Tensor};

/// Bytes of tensors that live on in this process although their tasks are over.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// How many bytes of tensors a model may keep beyond their tasks, at least; otherwise four payloads.
/// With more, its worker ends.
const MIN_KEPT_LIMIT: u64 = 256 << 20;

/// The tensors in place of the task at hand.
///
/// A slot's extents are mapped when its first such task comes, and stay so: the next finds them warm.
pub struct InPlace<'a> {
    large: LargeArea<'a>,
    /// For each slot, inputs and outputs.
    slots: Vec<[Option<MappedExtent>; 2]>,
    /// The slot of the task at hand.
    index: u16,
    /// How far the task's inputs and outputs reach in their extents.
    used: [usize; 2],
    /// Bytes of outputs that the answer has named.
    named: usize,
    /// Whether something could not be kept: this process must not hand its slot back.
    has_failed: bool,
}

/// Where a tensor's elements are: an address, and how many bytes.
///
/// Mapped, and this process's to read (an output: to write), until the task's outcome is handed over;
/// then only if [`InPlace::keep`] was called before, and as long as what that gave lives. Other
/// processes have the memory too, so no reference to it may exist. Forked children of this one do not
/// have it, but for what a [`ForkCopy`](crate::peer::ForkCopy) gives them.
#[derive(Debug, Clone, Copy)]
pub struct TensorMemory {
    /// The first byte, at a multiple of 64 ([`TENSOR_ALIGNMENT`](crate::peer::TENSOR_ALIGNMENT)). Not
    /// for reads if there are no bytes.
    pub start: NonNull<u8>,
    /// How many bytes there are.
    pub bytes: usize,
    /// Whether they may be written.
    pub writable: bool,
}

impl<'a> InPlace<'a> {
    pub(crate) fn new(large: LargeArea<'a>) -> Self {
        Self { large, slots: Vec::new(), index: 0, used: [0; 2], named: 0, has_failed: false }
    }

    /// From now on it is about the task in this slot.
    #[inline]
    pub(crate) fn begin(&mut self, index: u16) {
        self.index = index;
        self.used = [0; 2];
        self.named = 0;
    }

    fn mapped(&mut self, is_output: bool) -> io::Result<&MappedExtent> {
        let index = usize::from(self.index);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Default::default);
        }
        let place = self.slots.get_mut(index).and_then(|slot| slot.get_mut(usize::from(is_output)));
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        if place.is_none() {
            let (extent, access) = match is_output {
                false => (Extent::Input, Access::Read),
                true => (Extent::Output, Access::Write),
            };
            let mapped = self.large.map(self.index, extent, access)?;
            // A model may fork, and the child live on when the slot is another task's (see `fork_copy`).
            mapped.keep_from_children()?;
            *place = Some(mapped);
        }
        place.as_ref().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Where a tensor of the task stands.
    ///
    /// # Errors
    /// It is beyond its extent ([`io::ErrorKind::InvalidInput`]), or it could not be mapped.
    pub fn memory(&mut self, tensor: &Placed<'_>) -> io::Result<TensorMemory> {
        let (offset, is_output) = (tensor.offset(), tensor.is_output());
        let bytes = usize::try_from(tensor.bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let start = self.mapped(is_output)?.at(offset, bytes);
        let start = start.ok_or(io::ErrorKind::InvalidInput)?;
        // `at` has found the end to be inside. (What has no bytes needs no memory: there may be none.)
        let end = offset as usize + bytes;
        if let Some(used) = self.used.get_mut(usize::from(is_output)) {
            *used = end.max(*used);
        }
        Ok(TensorMemory { start, bytes, writable: is_output })
    }

    /// A copy of a tensor of the task, for a handler that has no use for the memory itself.
    ///
    /// # Errors
    /// As for [`memory`](Self::memory).
    pub fn copy(&mut self, tensor: &Placed<'_>) -> io::Result<Tensor> {
        let TensorMemory { start, bytes, .. } = self.memory(tensor)?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: mapped for as long as the task is at hand; the copy has room for as many.
        unsafe { start.as_ptr().copy_to_nonoverlapping(copy.as_mut_ptr(), bytes) };
        // SAFETY: so many were just written.
        unsafe { copy.set_len(bytes) };
        let shape: Vec<_> = tensor.shape().map(|extent| extent as usize).collect();
        Tensor::from_bytes(tensor.dtype(), &shape, copy)
            .map_err(|_| io::ErrorKind::InvalidInput.into())
    }

    /// Where an output stands whose first byte is at this address, for
    /// [`AnswerBuf::placed`](crate::peer::AnswerBuf::placed). `None`: it is no output of this task, or
    /// the answer has named as many bytes already as there are; then it is to be copied.
    pub fn output_at(&mut self, address: *const u8, bytes: usize) -> Option<u64> {
        let [_, used] = self.used;
        let [_, mapped] = self.slots.get(usize::from(self.index))?;
        let offset = mapped.as_ref()?.offset_of(address.addr(), bytes)?;
        // Neither sum overflows: both are of bytes in the extent.
        let named = self.named + bytes;
        if bytes == 0 || offset as usize + bytes > used || named > used {
            return None;
        }
        self.named = named;
        Some(offset)
    }

    /// Has the model keep what it will not let go: the task's tensors become private copies, where they
    /// are, for as long as the result lives. `None`: there is no memory for that, or the model keeps too
    /// much; the process ends then, instead of handing the task's outcome over.
    pub fn keep(&mut self) -> Option<KeptTensors> {
        // In a child the memory is not there, and maybe other is.
        forked::leave_if_forked();
        let used = self.used;
        let limit = (4 * self.large.room() as u64).max(MIN_KEPT_LIMIT);
        let mut kept = KeptTensors(Vec::new());
        let slot = self.slots.get_mut(usize::from(self.index))?;
        for (place, used) in slot.iter_mut().zip(used) {
            let Some(mut extent) = (if used > 0 { place.take() } else { None }) else { continue };
            // SAFETY: the host has reserved pages for all tensors of a task that is not over, as this
            // one is not; and nobody has an address beyond them: what was kept of earlier tasks of this
            // slot is in mappings of its own.
            let private = unsafe { extent.make_private(used) };
            if private.is_err() {
                // Not unmapped: the model has it.
                core::mem::forget(extent);
                self.has_failed = true;
                continue;
            }
            kept.0.push(extent);
        }
        // Relaxed: a count.
        let all = KEPT.fetch_add(kept.bytes(), Ordering::Relaxed) + kept.bytes();
        self.has_failed |= all > limit;
        if self.has_failed {
            core::mem::forget(kept);
            return None;
        }
        Some(kept)
    }

    /// Whether the process must end with this task.
    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Bytes of tensors that the model has kept, and keeps.
    #[inline]
    pub(crate) fn kept_bytes() -> u64 {
        // Relaxed: a count.
        KEPT.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for InPlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InPlace").field("slot", &self.index).finish_non_exhaustive()
    }
}

/// Memory of tensors that a model has kept beyond their task. Dropping it takes the memory away.
#[derive(Debug)]
pub struct KeptTensors(Vec<MappedExtent>);

impl KeptTensors {
    fn bytes(&self) -> u64 {
        self.0.iter().map(|extent| extent.bytes() as u64).sum()
    }
}

impl Drop for KeptTensors {
    fn drop(&mut self) {
        // Relaxed: a count.
        KEPT.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}
