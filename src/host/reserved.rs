//! Tensors that the host writes where the model reads them.

use core::ptr::NonNull;

use super::answer::Answer;
use super::engine::Engine;
use super::ticket::Ticket;
use super::wait::Deadline;
use crate::error::{CallError, ReservedError, SubmitError};
use crate::key::Key;
use crate::wire::{DType, Element, Placement, Placements, Task, TensorSpec};

/// Room for a task's tensors in shared memory, where the model will see them: what is written here is
/// not copied again. Dropping it gives the slot back.
///
/// Tensors have the numbers in which they were asked for. They start at multiples of 64 bytes, in C
/// order. What was never written is zeros, or what an earlier task of this engine has left there.
///
/// ```
/// use nearcall::{Args, DType, Engine, Signature, Task, TensorSpec, Value};
/// use std::time::Duration;
///
/// let engine = Engine::builder("pictures:Brightness")
///     .signature(Signature::new().value("image").float("scale"))
///     .start_with(|args: &Args<'_>| match args.values() {
///         [Value::Tensor(image), Value::Float(scale)] => {
///             let sum: f32 = image.to_vec::<f32>().unwrap().iter().sum();
///             Ok((f64::from(sum) * scale).into())
///         }
///         _ => Ok(Value::None),
///     })?;
///
/// let mut place = engine.reserve(&[TensorSpec::input(DType::F32, &[2, 3])])?;
/// place.write(0, 0, &[1.0_f32, 2.0, 3.0])?; // a row
/// place.write(0, 3, &[4.0_f32, 5.0, 6.0])?; // the next
/// let answer = place.call(&Task::new().reserved(0).float(0.5), Duration::from_secs(10))?;
/// assert_eq!(answer.float(0)?, 10.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it gives its slot back"]
pub struct Reserved<'e> {
    engine: &'e Engine,
    /// `None` once a task was submitted in it.
    key: Option<Key>,
    tensors: Placements,
    /// Where the inputs' extent is mapped: as much of it as `tensors` take is reserved, and this
    /// guard's alone to write, while it has the slot.
    inputs: Option<NonNull<u8>>,
}

// SAFETY: an address in a mapping that lives as long as the engine that is borrowed, and that only this
// guard writes to.
unsafe impl Send for Reserved<'_> {}
// SAFETY: as for `Send`; nothing is read or written by a shared reference.
unsafe impl Sync for Reserved<'_> {}

impl<'e> Reserved<'e> {
    pub(super) fn new(
        engine: &'e Engine,
        key: Key,
        tensors: Placements,
        inputs: Option<NonNull<u8>>,
    ) -> Self {
        Self { engine, key: Some(key), tensors, inputs }
    }

    fn tensor(&self, index: usize) -> Result<&Placement, ReservedError> {
        let reserved = self.tensors.len();
        self.tensors.get(index).ok_or(ReservedError::NoSuchTensor { index, reserved })
    }

    /// The type of the elements of the tensor at `index`.
    ///
    /// # Errors
    /// No such tensor.
    pub fn dtype(&self, index: usize) -> Result<DType, ReservedError> {
        Ok(self.tensor(index)?.dtype)
    }

    /// The shape of the tensor at `index`.
    ///
    /// # Errors
    /// No such tensor.
    pub fn shape(&self, index: usize) -> Result<&[usize], ReservedError> {
        Ok(self.tensor(index)?.shape())
    }

    /// Whether elements of type `T` can be written into the tensor at `index`.
    pub(crate) fn check_elements<T: Element>(&self, index: usize) -> Result<(), ReservedError> {
        let found = self.dtype(index)?;
        if found != T::DTYPE {
            return Err(ReservedError::Elements { index, given: T::DTYPE, found });
        }
        Ok(())
    }

    /// Where an input stands, and how many bytes it has.
    fn input(&self, index: usize) -> Result<(NonNull<u8>, usize), ReservedError> {
        let tensor = self.tensor(index)?;
        if self.engine.core().in_forked_child() {
            return Err(ReservedError::ForkedChild);
        }
        if self.key.is_none() {
            return Err(ReservedError::Submitted);
        }
        if tensor.is_output {
            return Err(ReservedError::Output { index });
        }
        // No inputs, no address: then all of them are empty.
        let Some(inputs) = self.inputs else { return Ok((NonNull::dangling(), 0)) };
        // SAFETY: the extent is as long as all tensors in it.
        let start = unsafe { inputs.add(tensor.offset as usize) };
        Ok((start, tensor.bytes))
    }

    /// Writes elements into the tensor at `index`, from its element number `first` on, counted in C
    /// order.
    ///
    /// # Errors
    /// Elements of another type or beyond the tensor's end, an output, or no such tensor; nothing is
    /// written then.
    pub fn write<T: Element>(
        &mut self,
        index: usize,
        first: usize,
        elements: &[T],
    ) -> Result<(), ReservedError> {
        self.check_elements::<T>(index)?;
        self.write_bytes(index, first.saturating_mul(size_of::<T>()), T::bytes(elements))
    }

    /// As [`write`](Self::write), for elements that are bytes already, in this machine's order, and
    /// from a byte on.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_bytes(
        &mut self,
        index: usize,
        first: usize,
        bytes: &[u8],
    ) -> Result<(), ReservedError> {
        let (start, room) = self.input(index)?;
        if first.checked_add(bytes.len()).is_none_or(|end| end > room) {
            return Err(ReservedError::Range { index, first, given: bytes.len(), room });
        }
        // SAFETY: inside the tensor, as just checked.
        let start = unsafe { start.add(first) };
        // SAFETY: so many bytes of the tensor, which this guard alone writes to; they are shared
        // memory, and the source is not, so they do not overlap.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(())
    }

    /// The memory of the tensor at `index`, to be filled by whatever writes to a slice: a decoder, a
    /// camera, an `ndarray` view.
    ///
    /// # Errors
    /// An output, or no such tensor.
    ///
    /// # Safety
    /// The memory is shared with the workers. Their models see it read-only and not before the task is
    /// submitted; but a slice must not change while it is borrowed, and no kernel keeps a worker from
    /// it that means harm (it can map the segment once more). So the workers must be trusted not to.
    pub unsafe fn bytes_mut(&mut self, index: usize) -> Result<&mut [u8], ReservedError> {
        let (start, bytes) = self.input(index)?;
        let mut memory = NonNull::slice_from_raw_parts(start, bytes);
        // SAFETY: mapped and reserved, this guard's alone (`&mut self`), and the caller vouches for the
        // workers.
        Ok(unsafe { memory.as_mut() })
    }

    /// Submits the task that these tensors are for: it names them with [`Task::reserved`].
    ///
    /// Then the tensors are the task's: this guard has nothing more to write to.
    ///
    /// # Errors
    /// As for [`Engine::submit`], and nothing has changed then: what was written is there for another
    /// try. [`SubmitError::Submitted`] after a task was submitted.
    pub fn submit(&mut self, task: &Task<'_>) -> Result<Ticket<'e>, SubmitError> {
        let key = self.key.ok_or(SubmitError::Submitted)?;
        let all_slept = self.engine.core().submit_reserved(key, task, &self.tensors)?;
        self.key = None;
        Ok(Ticket::new(self.engine, key, all_slept))
    }

    /// As [`submit`](Self::submit), with a deadline as in [`Engine::submit_by`].
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn submit_by(
        &mut self,
        task: &Task<'_>,
        deadline: impl Into<Deadline>,
    ) -> Result<Ticket<'e>, SubmitError> {
        // Before the task is accepted: it counts from the call.
        let deadline = deadline.into().instant();
        let ticket = self.submit(task)?;
        if let Some(deadline) = deadline {
            self.engine.core().set_deadline(ticket.key(), deadline);
        }
        Ok(ticket)
    }

    /// Submits the task and waits for its answer, as [`Engine::call`] does.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit) and [`Engine::wait`].
    pub fn call(
        &mut self,
        task: &Task<'_>,
        deadline: impl Into<Deadline>,
    ) -> Result<Answer, CallError> {
        self.engine.finish_call(self.submit(task)?, deadline.into())
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.engine.core().give_up_reserved(key);
        }
    }
}

impl std::fmt::Debug for Reserved<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("tensors", &self.tensors).finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes a slot, and room in shared memory for a task's tensors, to be written where the model
    /// will read them.
    ///
    /// All inputs together, and all outputs together, take at most
    /// [`payload_bytes`](Engine::payload_bytes). The room is reserved, so that nobody runs out of memory
    /// while it is written. Up to a quarter of /dev/shm stays reserved for the next such tasks, until
    /// the engine has had no task or guard of any kind for two seconds, or a task finds no room: so only
    /// the first pays for fresh pages.
    ///
    /// The slot is taken for as long as the guard lives.
    ///
    /// # Errors
    /// [`SubmitError::Tensor`] for a shape that no tensor has, [`SubmitError::TooLarge`] beyond the room
    /// there ever is, [`SubmitError::NoSharedMemory`] beyond what there is now; otherwise as for
    /// [`submit`](Engine::submit).
    pub fn reserve(&self, tensors: &[TensorSpec]) -> Result<Reserved<'_>, SubmitError> {
        let (key, placements, inputs) = self.core().reserve(tensors)?;
        Ok(Reserved::new(self, key, placements, inputs))
    }
}
