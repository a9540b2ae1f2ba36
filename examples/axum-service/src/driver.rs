//! Tokio watches the engine: one descriptor tells that tasks are over whose futures are awaited.

use std::io;

use nearcall::Completions;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes the futures of tasks that are over, until the engine is.
///
/// If this ended earlier, the engine would go on, and wake them from a thread of its own.
pub(crate) async fn drive(completions: Completions) -> io::Result<()> {
    // SAFETY: a `Completions` has the same open descriptor for life.
    let completions = unsafe { AsyncFd::register_with_interest(completions, Interest::READABLE) }?;
    // Of those that `Engine::notify` was asked for: none here, all are awaited.
    let mut keys = Vec::new();
    loop {
        // Cleared before the dispatch: what ends in between makes it readable again.
        completions.readable().await?.clear_ready();
        if !completions.get_ref().dispatch(&mut keys) {
            return Ok(());
        }
    }
}
