//! The only callers of the operating system: thin, each with the contract it needs.

pub(crate) mod cgroup;
pub(crate) mod cpus;
pub(crate) mod futex;
pub(crate) mod memory;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod robust_mutex;
pub(crate) mod signal;
pub(crate) mod socket;
