//! What ends a call, as one word or number that stays the same in every language.

use std::fmt;

use super::{CallError, RetrieveError, SubmitError, TaskError, WaitError};

/// What went wrong, without the particulars: for other languages, metrics and tests. The numbers and
/// the words stay as they are; new ones may come.
///
/// It tells apart what the seed's flags ([`SubmitError::flag`], [`RetrieveError::flag`]) count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
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
    /// The wait's deadline has passed; the task goes on.
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
}

impl Code {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Full,
        Self::Mismatch,
        Self::Submitted,
        Self::Tensor,
        Self::TooLarge,
        Self::NoSharedMemory,
        Self::System,
        Self::Closed,
        Self::Unavailable,
        Self::ForkedChild,
        Self::TimedOut,
        Self::Python,
        Self::Refused,
        Self::Died,
        Self::DeadlinePassed,
        Self::Cancelled,
        Self::Corrupt,
        Self::AlreadyRetrieved,
        Self::Unknown,
    ];

    /// The word: `"deadline_passed"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Mismatch => "mismatch",
            Self::Submitted => "submitted",
            Self::Tensor => "tensor",
            Self::TooLarge => "too_large",
            Self::NoSharedMemory => "no_shared_memory",
            Self::System => "system",
            Self::Closed => "closed",
            Self::Unavailable => "unavailable",
            Self::ForkedChild => "forked_child",
            Self::TimedOut => "timed_out",
            Self::Python => "python",
            Self::Refused => "refused",
            Self::Died => "died",
            Self::DeadlinePassed => "deadline_passed",
            Self::Cancelled => "cancelled",
            Self::Corrupt => "corrupt",
            Self::AlreadyRetrieved => "already_retrieved",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SubmitError {
    /// What went wrong, without the particulars.
    pub fn code(&self) -> Code {
        match self {
            Self::Full { .. } => Code::Full,
            Self::Mismatch(_) => Code::Mismatch,
            Self::Submitted => Code::Submitted,
            Self::Tensor(_) => Code::Tensor,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::NoSharedMemory { .. } => Code::NoSharedMemory,
            Self::System { .. } => Code::System,
            Self::Closed { .. } => Code::Closed,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::ForkedChild => Code::ForkedChild,
        }
    }
}

impl TaskError {
    /// What went wrong, without the particulars.
    pub fn code(&self) -> Code {
        match self {
            Self::Python(_) => Code::Python,
            Self::Refused(_) => Code::Refused,
            Self::Died { .. } => Code::Died,
            Self::DeadlinePassed => Code::DeadlinePassed,
            Self::Cancelled => Code::Cancelled,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Closed => Code::Closed,
            Self::Corrupt { .. } => Code::Corrupt,
        }
    }
}

impl RetrieveError {
    /// What went wrong, without the particulars.
    pub fn code(&self) -> Code {
        match self {
            Self::Task(error) => error.code(),
            Self::AlreadyRetrieved { .. } => Code::AlreadyRetrieved,
            Self::Unknown { .. } => Code::Unknown,
            Self::ForkedChild => Code::ForkedChild,
        }
    }
}

impl WaitError {
    /// What went wrong, without the particulars.
    pub fn code(&self) -> Code {
        match self {
            Self::TimedOut => Code::TimedOut,
            Self::Retrieve(error) => error.code(),
        }
    }
}

impl CallError {
    /// What went wrong, without the particulars.
    pub fn code(&self) -> Code {
        match self {
            Self::Submit(error) => error.code(),
            Self::Wait(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_are_the_ones_that_other_languages_have() {
        let numbers: Vec<u8> = Code::ALL.iter().map(|code| *code as u8).collect();
        assert_eq!(numbers, (1..=19).collect::<Vec<_>>());
        for code in Code::ALL {
            // `DeadlinePassed` is "deadline_passed".
            let mut word = String::new();
            for letter in format!("{code:?}").chars() {
                if letter.is_uppercase() && !word.is_empty() {
                    word.push('_');
                }
                word.extend(letter.to_lowercase());
            }
            assert_eq!(code.as_str(), word);
        }
    }

    #[test]
    fn an_error_inside_others_keeps_its_code() {
        let error = WaitError::from(TaskError::DeadlinePassed);
        assert_eq!(CallError::from(error).code(), Code::DeadlinePassed);
        assert_eq!(CallError::from(SubmitError::ForkedChild).code(), Code::ForkedChild);
        assert_eq!(WaitError::TimedOut.code(), Code::TimedOut);
    }
}
