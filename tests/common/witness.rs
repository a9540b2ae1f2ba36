//! Tells whether a thread makes a system call, by a switch that the kernel asks before each
//! (`Documentation/admin-guide/syscall-user-dispatch.rst`, Linux 5.11).
//!
//! While the thread forbids them, the first one ends in a signal, whose handler allows them again
//! and goes back to before the instruction: it costs time, and is made.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

/// `PR_SET_SYSCALL_USER_DISPATCH`, and what follows it.
const SET_DISPATCH: c_int = 59;
const OFF: c_ulong = 0;
const ON: c_ulong = 1;

const ALLOW: u8 = 0;
const FORBID: u8 = 1;

thread_local! {
    // Without a destructor: the kernel and the handler read it until the thread's end.
    static SWITCH: AtomicU8 = const { AtomicU8::new(ALLOW) };
}

extern "C" fn on_system_call(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    SWITCH.with(|switch| switch.store(ALLOW, Ordering::Relaxed));
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler with SA_SIGINFO the context of the thread, which
    // nobody else has.
    let machine = unsafe { &mut (*context).uc_mcontext };
    // The kernel has restored the registers; the instruction is made once more.
    #[cfg(target_arch = "x86_64")]
    {
        machine.gregs[libc::REG_RIP as usize] -= 2;
    }
    #[cfg(target_arch = "aarch64")]
    {
        machine.pc -= 4;
    }
}

/// Installs the handler and has the kernel ask this thread's switch. `false`: it cannot.
pub(crate) fn begin() -> bool {
    // SAFETY: all zeros are a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_system_call as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: a handler that touches its own thread's words only; nothing else in this
    // program uses the signal.
    let installed = unsafe { libc::sigaction(libc::SIGSYS, &action, ptr::null_mut()) } == 0;
    let switch = SWITCH.with(AtomicU8::as_ptr);
    let none: c_ulong = 0;
    installed
        // SAFETY: the switch lives as long as the thread does.
        && unsafe { libc::prctl(SET_DISPATCH, ON, none, none, switch) } == 0
}

/// The kernel asks no more.
pub(crate) fn end() {
    allow();
    let none: c_ulong = 0;
    // SAFETY: takes the switch away, and nothing else.
    unsafe { libc::prctl(SET_DISPATCH, OFF, none, none, none) };
}

pub(crate) fn forbid() {
    SWITCH.with(|switch| switch.store(FORBID, Ordering::Relaxed));
}

/// Whether there was none since they were forbidden.
pub(crate) fn allow() -> bool {
    SWITCH.with(|switch| switch.swap(ALLOW, Ordering::Relaxed)) == FORBID
}
