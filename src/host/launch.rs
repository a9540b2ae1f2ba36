//! The fork server as the host sees it: start it, talk to it, end it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::builder::Config;
use super::discover::Found;
use crate::sys::process::{self, Process};
use crate::sys::{memory, socket};
use crate::wire::{FromServer, MAX_MESSAGE, ToServer, decode_message, encode_message};

/// Variables by which numeric libraries choose how many threads they start.
const THREAD_VARIABLES: [&str; 4] =
    ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"];

/// How long a packet may wait for room in the socket. Our messages are small and the server
/// reads all the time, unless it is stopped.
const SEND_PATIENCE: Duration = Duration::from_millis(100);

/// How long a server that was told to end may take.
const END_PATIENCE: Duration = Duration::from_millis(200);

/// What arrived from the server.
pub(crate) enum Heard {
    /// A message, with a descriptor if it brought one.
    Message(FromServer, Option<OwnedFd>),
    /// Nothing (more) for now.
    Nothing,
    /// The connection is over, or was never one.
    Gone,
}

/// A running fork server. Dropping it kills it, and with it, by the kernel's hand, its workers.
pub(crate) struct Server {
    child: Child,
    control: OwnedFd,
    /// Its own word for itself, once it has said hello.
    pub(crate) process: Option<Process>,
}

impl Server {
    /// Starts one. Must be called by the thread that lives as long as the engine: the kernel
    /// kills the server when the thread that made it ends.
    pub(crate) fn start(
        config: &Config,
        found: &Found,
        segment: BorrowedFd<'_>,
        button: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let (control, theirs) = socket::pair()?;
        let descriptors = [theirs.as_fd(), segment, button];
        let mut command = Command::new(&found.worker);
        command.args(&found.arguments).arg("--serve");
        command.args(descriptors.map(|descriptor| memory::number_of(descriptor).to_string()));
        if config.clear_environment {
            command.env_clear();
        }
        if config.compute_threads > 0 {
            let threads = config.compute_threads.to_string();
            command.envs(THREAD_VARIABLES.map(|variable| (variable, threads.as_str())));
        }
        command.envs(config.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::inherit());
        process::prepare(&mut command, &descriptors);
        let child = command.spawn()?;
        Ok(Self { child, control, process: None })
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says something; fails when the server is gone or does not listen.
    pub(crate) fn tell(&self, message: &ToServer) -> io::Result<()> {
        let packet =
            encode_message(message).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        socket::send(self.control.as_fd(), &packet, None, Instant::now() + SEND_PATIENCE)
    }

    /// Reads one message, without waiting.
    pub(crate) fn hear(&mut self, buffer: &mut Vec<u8>) -> Heard {
        buffer.resize(MAX_MESSAGE, 0);
        match socket::receive(self.control.as_fd(), buffer) {
            Ok(Some((length, descriptor))) => {
                match decode_message(buffer.get(..length).unwrap_or_default()) {
                    Ok(message) => Heard::Message(message, descriptor),
                    Err(_) => Heard::Gone,
                }
            }
            Ok(None) => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }

    /// Ends it in order, or kills it if it takes too long.
    pub(crate) fn end(self) {
        if self.tell(&ToServer::Stop).is_ok()
            && let Some(process) = &self.process
        {
            let _ = socket::readable(&[process.pidfd.as_fd()], Some(END_PATIENCE));
        }
        // `Drop` kills and reaps.
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &self.process {
            Some(process) => process.kill(),
            None => drop(self.child.kill()),
        }
        // Fails where the host ignores SIGCHLD or reaps every child itself: then it is reaped.
        let _ = self.child.wait();
    }
}
