//! placeholder
pub mod error;
mod host;
pub mod peer;
mod ring;
mod shm;
mod sync;
mod sys;
mod wire;
