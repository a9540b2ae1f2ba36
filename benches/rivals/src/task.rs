//! What is asked of a rival, and what it must answer.

use anyhow::bail;
use nearcall_bench::order::Order;
use nearcall_bench::workload::{BIG_MODEL_ANSWER, Workload};

/// The workloads that every rival serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// [`Workload::Noop`], with the call's number.
    Noop,
    /// [`Workload::BigModel`].
    BigModel,
}

/// What comes back for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The call's number.
    pub(crate) call: u64,
    /// The integer that the model returned.
    pub(crate) value: i64,
    /// The length of the text beside it, which must be empty.
    pub(crate) text: usize,
}

impl Task {
    /// Of an order.
    ///
    /// # Errors
    /// For other workloads.
    pub(crate) fn of(order: &Order) -> anyhow::Result<Self> {
        match order.workload {
            Some(Workload::Noop) => Ok(Self::Noop),
            Some(Workload::BigModel) => Ok(Self::BigModel),
            Some(other) => bail!("{} is not called through it", other.name()),
            None => bail!("nothing to call"),
        }
    }

    /// The method of the model.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Noop => Workload::Noop.method(),
            Self::BigModel => Workload::BigModel.method(),
        }
    }

    /// Whether the answer is the right one.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn check(self, answer: Answer) -> anyhow::Result<()> {
        let expected = match self {
            Self::Noop => answer.call.cast_signed(),
            Self::BigModel => BIG_MODEL_ANSWER,
        };
        if answer.value != expected || answer.text != 0 {
            bail!(
                "a wrong answer from {}: ({}, a text of {} bytes) instead of ({expected}, none)",
                self.method(),
                answer.value,
                answer.text,
            );
        }
        Ok(())
    }

    /// Checks the answer to the only call that is on its way.
    ///
    /// # Errors
    /// When it is wrong, or the answer to another call.
    pub(crate) fn check_call(self, call: u64, answer: Answer) -> anyhow::Result<()> {
        if answer.call != call {
            bail!("the answer to call {} came for call {call}", answer.call);
        }
        self.check(answer)
    }
}
