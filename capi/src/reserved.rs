//! `nearcall_reserved`: arrays that are written where the model reads them.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use engine::error::{ReservedError, RetrieveError};
use engine::{Reserved as Place, TensorSpec};

use crate::answer::Answer;
use crate::codes;
use crate::engine::{Engine, deadline, running};
use crate::error::Error;
use crate::failure::{Failure, guard, shielded};
use crate::input;
use crate::task::Task;

/// An array to be reserved.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Spec {
    /// The type of its elements: a nearcall_dtype.
    pub dtype: i32,
    /// Whether it is room for the answer: the model writes it, as in numpy's `out=`.
    pub is_output: bool,
    /// The extent of each dimension.
    pub shape: *const usize,
    /// How many dimensions there are.
    pub rank: usize,
}

/// Room for a task's arrays in shared memory, where the model will see them. The caller's; the engine must outlive
/// it. It has a slot until its task is submitted or it is freed. Not to be used by two threads at once.
#[derive(Debug)]
pub struct Reserved {
    place: Place<'static>,
    tensors: usize,
}

impl From<ReservedError> for Failure {
    fn from(error: ReservedError) -> Self {
        match error {
            ReservedError::ForkedChild => Self::Task(RetrieveError::ForkedChild),
            error => Self::Misuse(error.to_string().into()),
        }
    }
}

/// Reserves room for a task's arrays. NEARCALL_FLAG_AGAIN when all slots are taken. `reserved` is NULL if there is
/// none.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_reserve(
    engine: Option<&Engine>,
    tensors: *const Spec,
    count: usize,
    reserved: Option<&mut MaybeUninit<Option<Box<Reserved>>>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let result = reserved.ok_or_else(|| Failure::null("the place for the reserved arrays"))?;
        result.write(None);
        let engine = running(engine)?;
        // SAFETY: the caller's promise.
        let tensors = unsafe { input::items("the arrays", tensors, count) }?;
        let mut specs = Vec::with_capacity(count);
        for tensor in tensors {
            let dtype = codes::dtype(tensor.dtype).ok_or_else(|| {
                Failure::Misuse(format!("{} is no nearcall_dtype", tensor.dtype).into())
            })?;
            // SAFETY: the caller's promise.
            let shape = unsafe { input::items("a shape", tensor.shape, tensor.rank) }?;
            specs.push(if tensor.is_output {
                TensorSpec::output(dtype, shape)
            } else {
                TensorSpec::input(dtype, shape)
            });
        }
        let place = engine.reserve(&specs)?;
        // SAFETY: the lifetime is that of the engine, which the caller keeps for longer.
        let place = unsafe { std::mem::transmute::<Place<'_>, Place<'static>>(place) };
        result.write(Some(Box::new(Reserved { place, tensors: count })));
        Ok(())
    })
}

/// Frees it, and its slot if no task was submitted with it. NULL is nothing to free.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_reserved_free(reserved: Option<Box<Reserved>>) {
    shielded((), || drop(reserved));
}

/// The memory of the array with this number, to be written to until the task is submitted: `bytes` (or NULL) gets
/// how many there are. It starts at a multiple of 64. What was never written is zeros, or what an earlier task has
/// left. NULL, and the reason in the error: for an output, after the submit, and where there is no such array.
///
/// The model sees it read-only; only a worker that means harm could change it.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_reserved_data(
    reserved: Option<&mut Reserved>,
    index: usize,
    bytes: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> *mut c_void {
    let mut found = ptr::null_mut();
    guard(error, || {
        let reserved = reserved.ok_or_else(|| Failure::null("the reserved arrays"))?;
        // SAFETY: C has the memory as it is; the slice is gone before anybody writes there.
        let memory = unsafe { reserved.place.bytes_mut(index) }?;
        if let Some(bytes) = bytes {
            bytes.write(memory.len());
        }
        found = memory.as_mut_ptr().cast();
        Ok(())
    });
    found
}

/// How many arrays were reserved. 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_reserved_count(reserved: Option<&Reserved>) -> usize {
    reserved.map_or(0, |reserved| reserved.tensors)
}

/// Submits the task that these arrays are for, as nearcall_submit_by() does. After an error what was written is
/// there for another try.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_reserved_submit(
    reserved: Option<&mut Reserved>,
    task: Option<&Task>,
    timeout_ns: i64,
    key: Option<&mut MaybeUninit<i64>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let place = key.ok_or_else(|| Failure::null("the place for the key"))?;
        place.write(0);
        let reserved = reserved.ok_or_else(|| Failure::null("the reserved arrays"))?;
        let task = task.ok_or_else(|| Failure::null("the task"))?.arguments()?;
        let ticket = reserved.place.submit_by(task, deadline(timeout_ns))?;
        place.write(ticket.into_key().into());
        Ok(())
    })
}

/// Submits the task that these arrays are for and waits for its answer, as nearcall_call() does.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_reserved_call(
    reserved: Option<&mut Reserved>,
    task: Option<&Task>,
    timeout_ns: i64,
    answer: Option<&mut Answer>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let reserved = reserved.ok_or_else(|| Failure::null("the reserved arrays"))?;
        let task = task.ok_or_else(|| Failure::null("the task"))?.arguments()?;
        let answer = answer.ok_or_else(|| Failure::null("the answer"))?;
        *answer.refill() = reserved.place.call(task, deadline(timeout_ns))?;
        Ok(())
    })
}
