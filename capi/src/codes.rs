//! The numbers of the interface. C has them from the header; what comes back from C is a plain number,
//! because one that is no variant must not become one.

use engine::{DType, StartMethod, WaitPolicy};

/// What functions return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Flag {
    /// Done.
    Ok = 0,
    /// The engine is full, or the task is not finished: try again later.
    Again = 1,
    /// The task was not accepted, the engine did not start, or the model raised: the error's code says
    /// which.
    Error = 2,
    /// The model returned what an answer cannot carry.
    Refused = 3,
    /// The worker that ran the task died.
    Died = 4,
    /// The engine was closed before the task was done.
    Closed = 5,
    /// A worker has written what no worker writes.
    Corrupt = 6,
    /// The answer was retrieved before, or the task was abandoned.
    AlreadyRetrieved = 7,
    /// This engine never gave that key.
    Unknown = 8,
    /// This process was forked from the one that started the engine, which still owns it.
    ForkedChild = 9,
    /// The task was not done by its deadline.
    DeadlinePassed = 10,
    /// Somebody has cancelled the task.
    Cancelled = 11,
    /// No worker can be had.
    Unavailable = 12,
    /// The call itself was wrong: a NULL, a text that is not UTF-8, a number that means nothing.
    Misuse = 13,
    /// The library has failed inside. Nothing of the caller's was harmed; the object that was worked on
    /// should be freed.
    Internal = 14,
}

/// What went wrong: the same numbers and words in every language, and from 100 on what only C can do
/// wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Code {
    /// Nothing.
    None = 0,
    /// All slots are taken: try again later.
    Full = 1,
    /// The task does not fit the signature.
    Mismatch = 2,
    /// These reserved tensors have had their task.
    Submitted = 3,
    /// A tensor was to be reserved that cannot be one.
    Tensor = 4,
    /// The task is larger than any can be.
    TooLarge = 5,
    /// There is no shared memory left.
    NoSharedMemory = 6,
    /// The system refused something.
    System = 7,
    /// The engine was shut down, or has given up.
    Closed = 8,
    /// No worker can be had at the moment.
    Unavailable = 9,
    /// The engine is another process'.
    ForkedChild = 10,
    /// No answer yet; the task goes on.
    TimedOut = 11,
    /// The model raised.
    Python = 12,
    /// The model returned what an answer cannot carry.
    Refused = 13,
    /// The worker that ran the task died.
    Died = 14,
    /// The task was not done by its deadline.
    DeadlinePassed = 15,
    /// Somebody has cancelled the task.
    Cancelled = 16,
    /// A worker has written what no worker writes.
    Corrupt = 17,
    /// The answer was retrieved before, or the task was abandoned.
    AlreadyRetrieved = 18,
    /// This engine never gave that key.
    Unknown = 19,
    /// The call itself was wrong.
    Misuse = 100,
    /// The engine did not start.
    Start = 101,
    /// The answer has something else, or nothing, at that position.
    Answer = 102,
    /// The workers were not all replaced.
    Reload = 103,
    /// The library has failed inside.
    Internal = 104,
}

/// The type of a parameter of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Type {
    /// `bool`.
    Bool = 0,
    /// `int`, 64 bits.
    Int = 1,
    /// `float`.
    Float = 2,
    /// `str`.
    Str = 3,
    /// A list of `bool`.
    Bools = 4,
    /// A list of `int`.
    Ints = 5,
    /// A list of `float`.
    Floats = 6,
    /// A list of `str`.
    Strs = 7,
    /// Anything else: `None`, `bytes`, nested lists, dicts, arrays.
    Value = 8,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Kind {
    /// `None`.
    None = 0,
    /// `bool`.
    Bool = 1,
    /// `int`.
    Int = 2,
    /// `float`.
    Float = 3,
    /// `str`.
    Str = 4,
    /// `bytes`.
    Bytes = 5,
    /// `list`.
    List = 6,
    /// `tuple`.
    Tuple = 7,
    /// `dict`.
    Dict = 8,
    /// `numpy.ndarray`.
    Tensor = 9,
}

/// The type of a tensor's elements, in this machine's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Dtype {
    /// `bool`: one byte, 0 is false.
    Bool = 0,
    /// `int8`.
    I8 = 1,
    /// `int16`.
    I16 = 2,
    /// `int32`.
    I32 = 3,
    /// `int64`.
    I64 = 4,
    /// `uint8`.
    U8 = 5,
    /// `uint16`.
    U16 = 6,
    /// `uint32`.
    U32 = 7,
    /// `uint64`.
    U64 = 8,
    /// `float16`.
    F16 = 9,
    /// `float32`.
    F32 = 10,
    /// `float64`.
    F64 = 11,
}

/// How threads that wait for an answer, and workers that wait for a task, pass the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Wait {
    /// Awake for as long as it costs to sleep and be woken, then asleep. The default.
    Adaptive = 0,
    /// Never asleep.
    Spin = 1,
    /// Asleep at once.
    Park = 2,
}

/// How workers come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Start {
    /// Forked, or from scratch if the model's import starts threads. The default.
    Auto = 0,
    /// Forked; if the import starts threads, the engine does not start.
    Fork = 1,
    /// From scratch: each imports the model itself.
    Spawn = 2,
}

/// The element type with this number.
pub(crate) fn dtype(number: i32) -> Option<DType> {
    usize::try_from(number).ok().and_then(|number| DType::ALL.get(number).copied())
}

/// The number of an element type.
pub(crate) fn dtype_number(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::Bool,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        // Those that come later get their number with their name.
        _ => Dtype::U8,
    }
}

/// The wait policy with this number.
pub(crate) fn wait_policy(number: i32) -> Option<WaitPolicy> {
    [WaitPolicy::Adaptive, WaitPolicy::Spin, WaitPolicy::Park]
        .get(usize::try_from(number).ok()?)
        .copied()
}

/// The start method with this number.
pub(crate) fn start_method(number: i32) -> Option<StartMethod> {
    [StartMethod::Auto, StartMethod::Fork, StartMethod::Spawn]
        .get(usize::try_from(number).ok()?)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::error::{RetrieveError, SubmitError, TaskError};
    use engine::{PythonError, Refusal};

    #[test]
    fn codes_are_those_of_every_language() {
        use engine::error::Code as All;
        let here = [
            Code::Full,
            Code::Mismatch,
            Code::Submitted,
            Code::Tensor,
            Code::TooLarge,
            Code::NoSharedMemory,
            Code::System,
            Code::Closed,
            Code::Unavailable,
            Code::ForkedChild,
            Code::TimedOut,
            Code::Python,
            Code::Refused,
            Code::Died,
            Code::DeadlinePassed,
            Code::Cancelled,
            Code::Corrupt,
            Code::AlreadyRetrieved,
            Code::Unknown,
        ];
        for (here, all) in here.iter().zip(All::ALL) {
            assert_eq!(*here as i32, i32::from(all as u8));
            assert_eq!(format!("{here:?}"), format!("{all:?}"));
        }
        assert_eq!(here.len(), All::ALL.len());
    }

    #[test]
    fn flags_are_the_seeds() {
        for (error, flag) in [
            (TaskError::Python(PythonError::new("", "")), Flag::Error),
            (TaskError::Refused(Refusal::MalformedTask), Flag::Refused),
            (TaskError::Closed, Flag::Closed),
            (TaskError::Corrupt { detail: "" }, Flag::Corrupt),
            (TaskError::DeadlinePassed, Flag::DeadlinePassed),
            (TaskError::Cancelled, Flag::Cancelled),
            (TaskError::Unavailable { reason: String::new() }, Flag::Unavailable),
        ] {
            assert_eq!(RetrieveError::Task(error).flag(), flag as i32);
        }
        assert_eq!(RetrieveError::ForkedChild.flag(), Flag::ForkedChild as i32);
        assert_eq!(SubmitError::Full { slots: 1 }.flag(), Flag::Again as i32);
        assert_eq!(SubmitError::ForkedChild.flag(), Flag::Error as i32);
    }

    #[test]
    fn element_types_have_the_numbers_that_c_gives_them() {
        for (number, element) in (0..).zip(DType::ALL) {
            assert_eq!(dtype(number), Some(*element));
            assert_eq!(dtype_number(*element) as i32, number);
        }
        assert_eq!((dtype(-1), dtype(12)), (None, None));
    }

    #[test]
    fn numbers_that_mean_nothing_are_nothing() {
        assert_eq!((wait_policy(3), wait_policy(-1)), (None, None));
        assert_eq!((start_method(3), start_method(-1)), (None, None));
        assert_eq!(wait_policy(Wait::Park as i32), Some(WaitPolicy::Park));
        assert_eq!(start_method(Start::Spawn as i32), Some(StartMethod::Spawn));
    }
}
