//! The service's half: the engine and everything that it owns.

mod answer;
mod book;
mod builder;
mod call_as;
mod core;
mod deadlines;
mod discover;
mod double;
mod engine;
mod free_slots;
mod future;
mod health;
mod large_slots;
mod launch;
mod notices;
mod patience;
mod reserved;
mod supervisor;
mod tensor_room;
mod ticket;
mod wait;

pub use crate::key::Key;
pub use answer::Answer;
pub use builder::Builder;
pub use engine::{Engine, Reload, Shutdown, StartReport};
pub use future::{CallFuture, Completions, PollSpins, TicketFuture};
pub use health::{Health, WorkerHealth, WorkerMemory, WorkerState};
pub use patience::WaitPolicy;
pub use reserved::Reserved;
#[cfg(feature = "fuzzing")]
pub use supervisor::fuzzing;
pub use ticket::{AsKey, Ticket};
pub use wait::Deadline;
