//! What goes wrong, on its way to C; and the wall that no panic passes.

use std::borrow::Cow;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::PythonError;
use engine::error::{
    AnswerError, CallError, ReloadError, RetrieveError, StartError, SubmitError, TaskError,
    WaitError,
};

use crate::codes::{Code, Flag};
use crate::error::Error;

/// Why a function did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    Submit(SubmitError),
    Task(RetrieveError),
    NotFinished,
    TimedOut,
    /// There are more keys than the caller had room for.
    More,
    Start(StartError),
    Reload(ReloadError),
    Answer(AnswerError),
    NoKey(i64),
    Misuse(Cow<'static, str>),
    Internal(String),
}

impl Failure {
    /// A pointer that must not be NULL.
    #[cold]
    #[inline(never)]
    pub(crate) fn null(what: &'static str) -> Self {
        Self::Misuse(format!("{what} is NULL").into())
    }

    pub(crate) fn flag(&self) -> c_int {
        match self {
            Self::Submit(error) => error.flag(),
            Self::Task(error) => error.flag(),
            Self::NotFinished | Self::TimedOut | Self::More => Flag::Again as c_int,
            Self::Start(_) | Self::Reload(_) | Self::Answer(_) => Flag::Error as c_int,
            Self::NoKey(_) => Flag::Unknown as c_int,
            Self::Misuse(_) => Flag::Misuse as c_int,
            Self::Internal(_) => Flag::Internal as c_int,
        }
    }

    pub(crate) fn code(&self) -> c_int {
        match self {
            Self::Submit(error) => c_int::from(error.code() as u8),
            Self::Task(error) => c_int::from(error.code() as u8),
            Self::NotFinished | Self::TimedOut | Self::More => Code::TimedOut as c_int,
            Self::Start(_) => Code::Start as c_int,
            Self::Reload(ReloadError::ForkedChild) => Code::ForkedChild as c_int,
            Self::Reload(ReloadError::Closed) => Code::Closed as c_int,
            Self::Reload(ReloadError::TimedOut { .. }) => Code::TimedOut as c_int,
            Self::Reload(_) => Code::Reload as c_int,
            Self::Answer(_) => Code::Answer as c_int,
            Self::NoKey(_) => Code::Unknown as c_int,
            Self::Misuse(_) => Code::Misuse as c_int,
            Self::Internal(_) => Code::Internal as c_int,
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Self::Submit(error) => error.to_string(),
            Self::Task(error) => error.to_string(),
            Self::NotFinished => "the task is not finished: try again later".to_owned(),
            Self::TimedOut => WaitError::TimedOut.to_string(),
            Self::More => "there are more keys: call again".to_owned(),
            Self::Start(error) => error.to_string(),
            Self::Reload(error) => error.to_string(),
            Self::Answer(error) => error.to_string(),
            Self::NoKey(key) => format!("no engine gives the key {key}: keys are positive"),
            Self::Misuse(text) => text.to_string(),
            Self::Internal(text) => format!("nearcall has failed inside: {text}"),
        }
    }

    /// What Python raised, if it is that.
    pub(crate) fn python(&self) -> Option<&PythonError> {
        match self {
            Self::Task(RetrieveError::Task(TaskError::Python(error)))
            | Self::Start(StartError::Import { error } | StartError::Initialize { error, .. })
            | Self::Reload(ReloadError::Start(
                StartError::Import { error } | StartError::Initialize { error, .. },
            )) => Some(error),
            _ => None,
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        Self::Submit(error)
    }
}

impl From<RetrieveError> for Failure {
    fn from(error: RetrieveError) -> Self {
        Self::Task(error)
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Retrieve(error) => Self::Task(error),
            _ => Self::TimedOut,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Submit(error) => Self::Submit(error),
            CallError::Wait(error) => error.into(),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        Self::Answer(error)
    }
}

/// Runs what a function does. Gives C the flag, and the error what there is to say.
#[inline(always)]
pub(crate) fn guard(
    error: Option<&mut Error>,
    work: impl FnOnce() -> Result<(), Failure>,
) -> c_int {
    // Unwind safe: after a panic the caller is told to free what was worked on, and dropping is all
    // that is done with it then.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {
            if let Some(error) = error {
                error.clear();
            }
            Flag::Ok as c_int
        }
        Ok(Err(failure)) => report(error, failure),
        Err(panic) => report(error, Failure::Internal(panic_text(panic.as_ref()))),
    }
}

#[cold]
#[inline(never)]
fn report(error: Option<&mut Error>, failure: Failure) -> c_int {
    let flag = failure.flag();
    if let Some(error) = error {
        error.set(failure);
    }
    flag
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// Runs what a function does that has no flag: `instead` comes out if it panics.
#[inline]
pub(crate) fn shielded<T>(instead: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_panic_passes_into_c() {
        let mut error = Error::default();
        let flag = guard(Some(&mut error), || panic!("on purpose"));
        assert_eq!(flag, Flag::Internal as c_int);
        assert!(error.text().contains("on purpose"), "{}", error.text());
        assert_eq!(guard(None, || panic!("again")), Flag::Internal as c_int);
        assert_eq!(shielded(7, || panic!("once more")), 7);
    }

    #[test]
    fn what_is_done_takes_an_earlier_error_away() {
        let mut error = Error::default();
        guard(Some(&mut error), || Err(Failure::null("x")));
        assert_eq!(error.text(), "x is NULL");
        assert_eq!(guard(Some(&mut error), || Ok(())), 0);
        assert_eq!(error.text(), "");
    }
}
