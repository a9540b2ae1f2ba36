//! Call Python models from a Rust service at close to the price of a function call.
#![doc = ""]

pub mod error;
mod faults;
mod host;
mod key;
pub mod peer;
mod ring;
mod shm;
mod sync;
mod sys;
mod wire;

pub use host::{Answer, AsKey, Builder, Deadline, Engine, Key, Shutdown, StartReport, Ticket};
pub use wire::{
    Arg, Args, Exit, Kind, Len, Map, Parameter, PythonError, Refusal, Scalar, Seq, Signature,
    StartMethod, Task, Value, ValueRef,
};

/// CPUs that this process may use: its affinity and its cgroup's quota, not the machine's.
pub fn available_cpus() -> usize {
    sys::cpus::available()
}
