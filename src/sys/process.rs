//! Processes: start, fork, watch, signal, reap.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::wire::Exit;

use super::memory::keep_over_exec;

/// A process in the words of the kernel: its pidfd never means another one.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

impl Process {
    /// Kills it, stopped or not. One that has ended already stays ended.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// Whether a signal has stopped it (not a debugger, who wants it to stay).
    pub(crate) fn is_stopped(&self) -> bool {
        // "pid (name) state …"; the name may hold anything.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
    }

    /// Kills it and the group that it leads. For one that nobody has reaped: until then its number
    /// is its own.
    pub(crate) fn kill_with_group(&self) {
        if !self.has_ended_by(Instant::now()) {
            kill_group(Pid::from_raw(self.pid.cast_signed()));
        }
        self.kill();
    }

    /// Waits until the kernel says that it has ended; `false` if it has not by then.
    pub(crate) fn has_ended_by(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match super::socket::readable(&[self.pidfd.as_fd()], Some(left)) {
                Ok(ended) if ended == [true] => return true,
                _ if left.is_zero() => return false,
                _ => {}
            }
        }
    }
}

/// This process' id.
pub(crate) fn own_pid() -> u32 {
    std::process::id()
}

/// A pidfd of this process, for somebody else to watch it by.
pub(crate) fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?)
}

/// A pidfd of a child that this process has not reaped yet.
pub(crate) fn pidfd_of_child(pid: Pid) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Has the kernel kill this process when the *thread* that made it ends, and makes sure that its
/// process, `parent`, had not ended before.
pub(crate) fn die_with_parent(parent: u32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid().as_raw().cast_unsigned() == parent {
        Ok(())
    } else {
        // Made without an allocation: this runs between fork and exec.
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Prepares `command` to be a process of the engine: dies with the thread that starts it, reads
/// nothing, writes its output to stderr, has its own session, no blocked signals, default
/// handlers, gains no rights by whatever it executes, and has those of our descriptors that are
/// named.
pub(crate) fn prepare(command: &mut Command, descriptors: &[BorrowedFd<'_>]) {
    let parent = own_pid();
    let numbers: Vec<RawFd> = descriptors.iter().map(|d| super::memory::number_of(*d)).collect();
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let between = move || -> io::Result<()> {
        die_with_parent(parent)?;
        nix::unistd::setsid()?;
        nix::sys::prctl::set_no_new_privs()?;
        let none = nix::sys::signal::SigSet::empty();
        none.thread_set_mask()?;
        nix::unistd::dup2_stdout(super::pipe::stderr())?;
        for number in &numbers {
            // SAFETY: the parent holds it open until the child has been started.
            let descriptor = unsafe { BorrowedFd::borrow_raw(*number) };
            keep_over_exec(descriptor)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made (prctl, getppid, setsid,
    // sigprocmask, dup2, fcntl): no allocation, no lock.
    unsafe { command.pre_exec(between) };
}

/// A descriptor that this process was started with.
///
/// # Safety
/// `number` must be open and belong to nobody else in this process.
pub(crate) unsafe fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the caller vouches for it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Closes every descriptor above 2 but those that this process was given: whatever the host has
/// forgotten to mark stays the host's.
///
/// # Safety
/// Nobody in this process uses any other descriptor: it has just been started.
pub(crate) unsafe fn close_all_but(given: &[RawFd]) {
    let mut given: Vec<u32> = given.iter().map(|number| number.cast_unsigned()).collect();
    given.sort_unstable();
    let mut first = 3;
    for number in given.into_iter().chain([u32::MAX]) {
        // The last one is no descriptor: its range ends one below too, and misses nothing.
        if first < number {
            // SAFETY: the caller's promise.
            unsafe { close_range(first, number - 1) };
        }
        first = number.saturating_add(1);
    }
}

/// # Safety
/// As for [`close_all_but`].
unsafe fn close_range(first: u32, last: u32) {
    // By number: glibc has a function for it only since 2.34.
    // SAFETY: the caller's promise.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Before Linux 5.9, or where a filter does not know the call.
    // SAFETY: the caller's promise.
    unsafe { close_one_by_one(first, last) };
}

/// # Safety
/// As for [`close_all_but`].
unsafe fn close_one_by_one(first: u32, last: u32) {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in open {
        if (first..=last).contains(&number.cast_unsigned()) {
            // The listing's own descriptor is among them, and closed already.
            // SAFETY: the caller's promise.
            unsafe { libc::close(number) };
        }
    }
}

/// What a process can be limited in.
#[derive(Clone, Copy)]
pub(crate) enum Limited {
    /// Bytes of memory of its own that can be written.
    Data,
    /// Open descriptors.
    Descriptors,
    /// Seconds of CPU time.
    Cpu,
}

/// Limits this process, and those that it starts: at `soft` it gets an error or a signal, up to
/// `hard` it may raise that itself.
pub(crate) fn limit(what: Limited, soft: u64, hard: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let resource = match what {
        Limited::Data => Resource::Data,
        Limited::Descriptors => Resource::Nofile,
        Limited::Cpu => Resource::Cpu,
    };
    Ok(setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })?)
}

/// The two sides of a fork.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// Forks.
///
/// # Safety
/// The process must have one thread, or the child must not use anything that another thread may
/// have been changing.
pub(crate) unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: the caller's promise is the one that is needed.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        nix::unistd::ForkResult::Child => Ok(Fork::Child),
    }
}

/// Makes this process the leader of its own process group.
pub(crate) fn lead_group() -> io::Result<()> {
    Ok(nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?)
}

/// Kills a child that was not reaped yet.
pub(crate) fn kill(child: Pid) {
    let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
}

/// Kills all of the group that `leader`, a child not yet reaped, leads.
pub(crate) fn kill_group(leader: Pid) {
    let _ = nix::sys::signal::killpg(leader, Signal::SIGKILL);
}

/// Reaps a child that has ended.
pub(crate) fn reap(child: Pid) -> Exit {
    loop {
        return match waitpid(child, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal as i32),
            Err(nix::Error::EINTR) => continue,
            _ => Exit::Unknown,
        };
    }
}

/// Sets the signals that a process of the engine cannot take over as they are: SIGINT is ignored,
/// because interrupting is the host's business; SIGCHLD is not, or there would be nothing to reap;
/// SIGSEGV and SIGBUS end the process, where a handler of Rust's library, which looks for overflown
/// stacks, would let the first one pass that somebody sends.
pub(crate) fn set_signals() {
    use nix::sys::signal::{SigHandler, signal};
    // SAFETY: ignoring a signal runs no handler.
    let _ = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
    for number in [Signal::SIGCHLD, Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: nor does the default.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
}

/// Keeps signal handlers off this thread.
pub(crate) fn block_signals() {
    let _ = nix::sys::signal::SigSet::all().thread_block();
}

/// Ends the process at once: no destructor, no handler of the parent's that a fork has copied.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// A short-lived program whose output is wanted.
pub(crate) struct Watched {
    child: std::process::Child,
    output: OwnedFd,
}

impl Watched {
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        let parent = own_pid();
        command.stdout(Stdio::piped());
        // SAFETY: only system calls are made between fork and exec, as in `prepare`.
        unsafe {
            command.pre_exec(move || {
                die_with_parent(parent)?;
                nix::sys::signal::SigSet::empty().thread_set_mask()?;
                lead_group()
            })
        };
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Self { child, output: output.into() })
    }

    /// All that it writes until it ends, at most `patience` from now. Whether it ended well can
    /// not be told for sure (a host may reap every child itself), so the output must speak.
    pub(crate) fn output(mut self, patience: std::time::Duration) -> io::Result<Vec<u8>> {
        let deadline = std::time::Instant::now() + patience;
        let mut output = Vec::new();
        let mut buffer = [0; 4096];
        let result = loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() || output.len() > 1 << 20 {
                break Err(io::ErrorKind::TimedOut.into());
            }
            match super::socket::readable(&[self.output.as_fd()], Some(left)) {
                Ok(ready) if ready == [true] => {}
                Ok(_) => continue,
                Err(error) => break Err(error),
            }
            match rustix::io::read(&self.output, &mut buffer) {
                Ok(0) => break Ok(output),
                Ok(length) => output.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        // With whatever it has started; then nothing stays behind, not even a zombie.
        kill_group(Pid::from_raw(self.child.id().cast_signed()));
        let _ = self.child.kill();
        let _ = self.child.wait();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    /// Numbers that nobody else in this program gets to.
    const BASE: RawFd = 700;

    fn open(number: RawFd) {
        let file = std::fs::File::open("/dev/null").unwrap();
        let copy = rustix::io::fcntl_dupfd_cloexec(&file, number).unwrap();
        assert_eq!(copy.into_raw_fd(), number);
    }

    fn is_open(number: RawFd) -> bool {
        std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok()
    }

    #[test]
    fn a_range_of_descriptors_is_closed_with_and_without_the_kernels_help() {
        for close in [close_range, close_one_by_one] {
            (BASE..BASE + 6).for_each(open);
            // SAFETY: this test's own descriptors.
            unsafe { close(BASE.cast_unsigned() + 1, BASE.cast_unsigned() + 4) };
            let left: Vec<RawFd> = (BASE..BASE + 6).filter(|number| is_open(*number)).collect();
            assert_eq!(left, [BASE, BASE + 5]);
            for number in left {
                // SAFETY: as above.
                drop(unsafe { adopt(number) });
            }
        }
    }
}
