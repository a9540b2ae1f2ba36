//! The end of tasks for event loops: one descriptor to watch, and the keys of those that are over.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use engine::error::RetrieveError;
use engine::{Completions, Key};

use crate::engine::{Engine, key_of, running};
use crate::error::Error;
use crate::failure::{Failure, guard};

/// An engine's door for event loops.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Opened when it is asked for: from then on somebody must watch it.
    completions: OnceLock<Completions>,
    /// Keys for which the caller had no room.
    waiting: Mutex<Vec<Key>>,
}

/// The descriptor that becomes readable when a task is over that nearcall_notify() was asked for, and stays so until
/// nearcall_dispatch() is called. It may become so for nothing. For poll() and epoll only: nobody else may read from
/// it or close it. It is the same each time, and lives as long as the engine.
/// In a forked child it is of no use, as nearcall_dispatch() says there.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_completions_fd(
    engine: Option<&Engine>,
    fd: Option<&mut MaybeUninit<c_int>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let place = fd.ok_or_else(|| Failure::null("the place for the descriptor"))?;
        place.write(-1);
        let inner = running(engine)?;
        let door = engine.map(|engine| &engine.door).ok_or_else(|| Failure::null("the engine"))?;
        place.write(door.completions.get_or_init(|| inner.completions()).as_raw_fd());
        Ok(())
    })
}

/// Has the key of a task be given by nearcall_dispatch() once the task is over, once. `is_over` gets true if it is
/// over already: then it will not be given. A key that is used up, or was never given, is an error.
#[unsafe(no_mangle)]
pub extern "C" fn nearcall_notify(
    engine: Option<&Engine>,
    key: i64,
    is_over: Option<&mut MaybeUninit<bool>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let place = is_over.ok_or_else(|| Failure::null("the place for the result"))?;
        place.write(false);
        place.write(running(engine)?.notify(key_of(key)?)?);
        Ok(())
    })
}

/// Gives the keys of tasks that are over, as many as there is room for; `count` gets how many. They are to be
/// retrieved; some may have been retrieved or abandoned meanwhile. NEARCALL_FLAG_AGAIN: there are more, which the
/// descriptor will not tell of: call again. Never waits. In a forked child: NEARCALL_FLAG_FORKED_CHILD.
///
/// # Safety
/// The pointers are as the top of this header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nearcall_dispatch(
    engine: Option<&Engine>,
    keys: *mut i64,
    room: usize,
    count: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut Error>,
) -> c_int {
    guard(error, || {
        let count = count.ok_or_else(|| Failure::null("the place for the count"))?;
        count.write(0);
        if keys.is_null() && room > 0 {
            return Err(Failure::null("the place for the keys"));
        }
        let inner = running(engine)?;
        let door = engine.map(|engine| &engine.door).ok_or_else(|| Failure::null("the engine"))?;
        let completions = door.completions.get_or_init(|| inner.completions());
        // Before the lock, which another thread may have held at a fork.
        let mut over = Vec::new();
        if !completions.dispatch(&mut over) {
            return Err(Failure::Task(RetrieveError::ForkedChild));
        }
        let mut waiting = door.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.append(&mut over);
        let given = waiting.len().min(room);
        for (index, key) in waiting.drain(..given).enumerate() {
            // SAFETY: before the end of the room that the caller has.
            let place = unsafe { keys.add(index) };
            // SAFETY: as above.
            unsafe { place.write(key.into()) };
        }
        count.write(given);
        if waiting.is_empty() { Ok(()) } else { Err(Failure::More) }
    })
}
