//! How many CPUs this process may use: its affinity and its cgroup's quota, not the machine's.

use std::num::NonZeroUsize;

/// CPUs available to this process, at least 1.
pub(crate) fn available() -> usize {
    // The standard library looks at the affinity mask and at the quotas of both versions of
    // cgroups, at this process' group and all above it, rounded down.
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
