//! The only door to atomics: `core`'s, or those of a model checker ([`modelled`]).

#[cfg(loom)]
pub(crate) mod modelled;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use modelled::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use core::hint::spin_loop;

#[cfg(loom)]
pub(crate) use modelled::spin_loop;

/// A SeqCst fence for a thread whose last step was a read-modify-write on an atomic.
///
/// On x86-64 every such step is a full barrier already (`lock` prefix), and a second one, `mfence`,
/// costs more than the step. So there this only keeps the compiler from moving anything. (Linux
/// calls it `smp_mb__after_atomic`.)
#[inline(always)]
#[cfg_attr(loom, track_caller)]
pub(crate) fn fence_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}
