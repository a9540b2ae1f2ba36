//! Pipes that processes speak into, and the stderr that their words are passed on to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use rustix::fs::{FileType, Mode, OFlags};

/// The most that is written at once: where a pipe says that it has room, it has room for this.
pub(crate) const PIPE_BUF: usize = libc::PIPE_BUF;

/// A pipe, closed on exec: the end to read, which never waits, and the end to write, which does.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// A pipe that several processes press a button of to wake who listens. Bytes in it mean nothing but that
/// there is something to look at.
///
/// Not an eventfd: who may press must not be able to take others' away, nor to make the listener's end one
/// that waits, and what a descriptor is open to can be told from the inode of a pipe alone.
pub(crate) struct Chime {
    listener: OwnedFd,
    button: OwnedFd,
}

impl Chime {
    pub(crate) fn new() -> io::Result<Self> {
        let (listener, button) = pipe()?;
        rustix::fs::fcntl_setfl(&button, OFlags::NONBLOCK)?;
        Ok(Self { listener, button })
    }

    /// The end that becomes readable.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The end for others, to [`press`].
    pub(crate) fn button(&self) -> BorrowedFd<'_> {
        self.button.as_fd()
    }

    /// Has who listens look. Whatever is to be seen must be there before.
    pub(crate) fn ring(&self) {
        // Who answers takes all out first, and looks then. So the pipe never fills, and this never waits,
        // whatever somebody else has made of the button's mode.
        if available(self.listener()) == 0 {
            press(self.button());
        }
    }

    /// Takes out what is there. To be called before the look.
    pub(crate) fn answer(&self) {
        /// What a pipe holds, unless somebody presses all the time.
        const ROUNDS: usize = 16;
        let mut bytes = [0; PIPE_BUF];
        for _ in 0..ROUNDS {
            match read(self.listener(), &mut bytes) {
                Ok(Some(count)) if count == bytes.len() => {}
                _ => return,
            }
        }
    }
}

/// Presses the button of a [`Chime`].
pub(crate) fn press(button: BorrowedFd<'_>) {
    // Fails when the pipe is full: then who listens is told already.
    let _ = rustix::io::write(button, &[1]);
}

/// Descriptor 2.
pub(crate) fn stderr() -> BorrowedFd<'static> {
    // SAFETY: the standard descriptors are open for as long as the process is: a process of the
    // engine is started with them, and nobody adopts them.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Makes `end` what this process writes to as stdout and stderr.
pub(crate) fn speak_into(end: OwnedFd) -> io::Result<()> {
    nix::unistd::dup2_stdout(&end)?;
    nix::unistd::dup2_stderr(&end)?;
    Ok(())
}

/// Reads what is there: `None` for nothing yet, zero bytes for never again.
pub(crate) fn read(pipe: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    would_wait(|| rustix::io::read(pipe, &mut *buffer))
}

/// How many bytes are there to be read.
pub(crate) fn available(pipe: BorrowedFd<'_>) -> usize {
    rustix::io::ioctl_fionread(pipe).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Makes one attempt at something that must not wait; `None`: it would have to.
fn would_wait(mut attempt: impl FnMut() -> rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match attempt() {
            Ok(count) => return Ok(Some(count)),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// This process' stderr, for one that must never wait for whoever reads it.
///
/// The descriptor is shared with the host, which may well want to wait: its mode is not ours to
/// change.
pub(crate) enum Outlet {
    /// A pipe or a terminal, opened once more in a mode of our own.
    Own(OwnedFd),
    /// A socket, which takes the wish with each write.
    Socket,
    /// Anything else: a file, which nobody has to wait for. Or a pipe that may not be opened again:
    /// asked first, and waited for only if somebody else fills it between question and write.
    Asked,
    /// Nobody reads any more.
    Nowhere,
}

impl Outlet {
    pub(crate) fn open() -> Self {
        let again = || {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open("/proc/self/fd/2", flags, Mode::empty())
        };
        let kind =
            rustix::fs::fstat(stderr()).map(|status| FileType::from_raw_mode(status.st_mode));
        match kind {
            Ok(FileType::Socket) => Self::Socket,
            // A file opened again would be written from its start.
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                again().map_or(Self::Asked, Self::Own)
            }
            Ok(_) => Self::Asked,
            Err(_) => Self::Nowhere,
        }
    }

    /// Writes as much as is taken without waiting, of the first [`PIPE_BUF`] bytes; `None` if
    /// nothing is, now. Takes everything once nobody reads any more.
    pub(crate) fn offer(&mut self, words: &[u8]) -> Option<usize> {
        let part = words.get(..PIPE_BUF).unwrap_or(words);
        let written = match self {
            Self::Own(own) => would_wait(|| rustix::io::write(&*own, part)),
            Self::Socket => {
                use rustix::net::SendFlags;
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                would_wait(|| rustix::net::send(stderr(), part, flags))
            }
            Self::Asked => match super::socket::ready(&[self.room()], Some(Duration::ZERO)) {
                Ok(ready) if ready == [true] => would_wait(|| rustix::io::write(stderr(), part)),
                _ => Ok(None),
            },
            Self::Nowhere => return Some(words.len()),
        };
        written.unwrap_or_else(|_| {
            *self = Self::Nowhere;
            Some(words.len())
        })
    }

    /// To be woken by when there is room.
    pub(crate) fn room(&self) -> super::socket::Watch<'_> {
        super::socket::Watch::Write(match self {
            Self::Own(own) => own.as_fd(),
            _ => stderr(),
        })
    }
}
