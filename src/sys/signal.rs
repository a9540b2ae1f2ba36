//! The signal by which the host asks a worker to break off a call.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use libc::c_int;
use rustix::process::{Signal, pidfd_send_signal};

use super::process::Process;

/// A real-time signal from the middle of their range, because models and what they import use
/// neither it nor depend on it: SIGINT is set by asyncio in the middle of a call, SIGUSR1 and
/// SIGUSR2 by whoever wants stacks or settings, timers by profilers, SIGURG by Go, the first
/// real-time ones by glibc and .NET.
const INTERRUPT: c_int = 50;

impl Process {
    /// Asks it to break off the call that it runs. For one that has prepared for it: others end.
    pub(crate) fn interrupt(&self) {
        // SAFETY: a number between the real-time signals of the kernel, and none of libc's own.
        let signal = unsafe { Signal::from_raw_unchecked(INTERRUPT) };
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}

static ACT: OnceLock<fn()> = OnceLock::new();

/// Has `act` called whenever this process is asked to break off a call: on its first thread, in
/// between whatever that does, and a system call that it waits in ends with EINTR. Once in a process.
///
/// `act` must be async-signal-safe.
pub(crate) fn on_interrupt(act: fn()) -> io::Result<()> {
    ACT.get_or_init(|| act);
    // SAFETY: all zeros are a valid sigaction, with an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = received as *const () as usize;
    // Not SA_RESTART: Python looks for interrupts when a call of the system was interrupted.
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: a handler that calls nothing but async-signal-safe functions.
    match unsafe { libc::sigaction(INTERRUPT, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn received(number: c_int) {
    // SAFETY: gives the address of this thread's own variable; so below.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: no preconditions; so for the next one.
    let process = unsafe { libc::getpid() };
    // SAFETY: as above.
    if unsafe { libc::gettid() } != process {
        // The kernel takes any thread; what the signal is about is the first one's.
        // SAFETY: a signal to a thread of this process, by the number that it has for life.
        unsafe { libc::syscall(libc::SYS_tgkill, process, process, number) };
    } else if let Some(act) = ACT.get() {
        act();
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// A clock that sends the interrupt's signal to the thread that has made it.
pub(crate) struct Reminder(libc::timer_t);

// SAFETY: a number by which the kernel knows the timer; any thread may set it.
unsafe impl Send for Reminder {}
// SAFETY: as for `Send`.
unsafe impl Sync for Reminder {}

impl Reminder {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: all zeros are a valid sigevent.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = INTERRUPT;
        // SAFETY: no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: reads the event, and writes the timer's number.
        match unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } {
            0 => Ok(Self(timer)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends the signal once, after so many milliseconds; never, if they are none. It may be called
    /// in the handler.
    pub(crate) fn set(&self, milliseconds: u32) {
        // SAFETY: all zeros are a valid itimerspec: once.
        let mut time: libc::itimerspec = unsafe { MaybeUninit::zeroed().assume_init() };
        time.it_value.tv_sec = (milliseconds / 1000).into();
        time.it_value.tv_nsec = (milliseconds % 1000 * 1_000_000).into();
        // SAFETY: a timer of this process, which is never deleted; reads the time.
        unsafe { libc::timer_settime(self.0, 0, &raw const time, ptr::null_mut()) };
    }
}

/// What `act` returns. What this process does upon SIGINT is afterwards as before, whatever `act`
/// does about it.
pub(crate) fn keeping_sigint<T>(act: impl FnOnce() -> T) -> T {
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: writes what is now into memory of the right type, and changes nothing.
    let known = unsafe { libc::sigaction(libc::SIGINT, ptr::null(), before.as_mut_ptr()) } == 0;
    let result = act();
    if known {
        // SAFETY: as it was before, and so as sound.
        unsafe { libc::sigaction(libc::SIGINT, before.as_ptr(), ptr::null_mut()) };
    }
    result
}
