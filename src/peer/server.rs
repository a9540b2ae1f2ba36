//! The fork server: imports the model once, then makes workers on request and reaps them.
//!
//! Mechanism only. How many workers there are, and when one is replaced, is the host's business.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::forked;
use super::last_words::Words;
use super::notice::Notice;
use super::rights;
use super::serve::{End, Worker};
use super::{Handler, Runtime};
use crate::error::PeerError;
use crate::faults;
use crate::shm::{LAYOUT_VERSION, LargeArea, Region, bytes_to_map};
use crate::sys::memory::FileIdentity;
use crate::sys::pipe::{self, Outlet};
use crate::sys::socket::Watch;
use crate::sys::{memory, process, socket};
use crate::wire::{
    FromServer, MAX_MESSAGE, PythonError, Setup, StartMethod, ToServer, decode_message,
    encode_message,
};

/// How long the host may take to make room in the control socket.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// How long a worker that was condemned waits for its end. If it does not come, nobody has condemned
/// it: its claim was overwritten.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// What `nearcall-worker --version` tells about its language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Language {
    /// Python's minor version, as in `3.11`.
    pub python: String,
    /// The libpython that the worker runs, as the dynamic linker found it.
    pub libpython: String,
}

/// What `nearcall-worker --version --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The version of the `nearcall` library.
    pub(crate) nearcall: String,
    /// The version of the segment's layout.
    pub(crate) layout: u32,
    /// Absent for a worker without Python.
    #[serde(flatten)]
    pub(crate) language: Option<Language>,
}

impl Version {
    /// This build's.
    pub(crate) fn own(language: Option<Language>) -> Self {
        Self { nearcall: env!("CARGO_PKG_VERSION").to_owned(), layout: LAYOUT_VERSION, language }
    }

    /// Whether a host and a worker of these versions understand each other.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        (&self.nearcall, self.layout) == (&other.nearcall, other.layout)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (layout {})", self.nearcall, self.layout)
    }
}

/// What `--version --json` prints.
pub fn version_json(language: Option<&Language>) -> String {
    // Numbers and strings: there is nothing that could fail.
    serde_json::to_string(&Version::own(language.cloned())).unwrap_or_default()
}

/// What a worker's process was started with, and how another like it is started.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// The arguments that are the worker's own.
    pub arguments: Vec<String>,
    /// The program, and what stands between it and the worker's own arguments.
    pub program: Vec<OsString>,
}

impl CommandLine {
    /// That of a program which is a worker and nothing else.
    pub fn of_this_process() -> Self {
        Self {
            arguments: std::env::args().skip(1).collect(),
            program: vec!["/proc/self/exe".into()],
        }
    }
}

/// The whole program of a worker binary: reads the process' arguments, answers `--version`,
/// or serves as fork server or as a worker that was started from scratch.
///
/// `language` is `None` for a worker without Python.
pub fn run<R: Runtime>(language: Option<&Language>, runtime: impl FnOnce() -> R) -> ExitCode {
    ExitCode::from(run_as(CommandLine::of_this_process(), language, runtime))
}

/// As [`run`], for a program that is not a worker alone. Gives the exit status: the process must end
/// with it, and without running whatever else it would run at its end.
///
/// All descriptors above 2 are closed but those that the arguments name.
pub fn run_as<R: Runtime>(
    command_line: CommandLine,
    language: Option<&Language>,
    runtime: impl FnOnce() -> R,
) -> u8 {
    let CommandLine { arguments, program } = command_line;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["--version"] => {
            print_version(language);
            return 0;
        }
        ["--version", "--json"] => {
            println!("{}", version_json(language));
            return 0;
        }
        ["--serve", control, segment, button] => {
            serve([control, segment, button], program, runtime)
        }
        ["--worker", control, segment, button, setup, place, incarnation] => {
            worker_from_scratch([control, segment, button, setup], place, incarnation, runtime)
        }
        _ => {
            eprintln!(
                "nearcall-worker is started by the nearcall library, not by hand.\n\
                 nearcall-worker --version [--json] tells what it was built for."
            );
            return 2;
        }
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("nearcall-worker (pid {}): {error}", process::own_pid());
            1
        }
    }
}

fn print_version(language: Option<&Language>) {
    println!("nearcall-worker {} (layout {LAYOUT_VERSION})", env!("CARGO_PKG_VERSION"));
    if let Some(language) = language {
        println!("Python {} ({})", language.python, language.libpython);
    }
}

/// What a process of the engine is given: its end of the control socket, the segment, and the button that
/// makes the host's event loop look.
struct Station {
    control: OwnedFd,
    segment: OwnedFd,
    button: OwnedFd,
    region: Region,
}

impl Station {
    fn open([control, segment, button]: [&str; 3]) -> Result<Self, PeerError> {
        let control = inherited(control)?;
        let segment = inherited(segment)?;
        let button = inherited(button)?;
        let system = |action| move |source| PeerError::System { action, source };
        let bytes = bytes_to_map(segment.as_fd()).map_err(system("look at the segment"))?;
        let base = memory::map_shared(segment.as_fd(), bytes).map_err(system("map the segment"))?;
        // SAFETY: `base` was just mapped with `bytes` bytes, and nothing ever unmaps it; this
        // process reaches it through the region only.
        let region = unsafe { Region::attach(base, bytes) }
            .map_err(|error| PeerError::Segment { reason: error.0 })?;
        Ok(Self { control, segment, button, region })
    }

    fn tell(&self, message: &FromServer) -> Result<(), PeerError> {
        self.tell_with(message, None)
    }

    fn tell_with(
        &self,
        message: &FromServer,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), PeerError> {
        tell(self.control.as_fd(), message, descriptor)
    }
}

fn tell(
    control: BorrowedFd<'_>,
    message: &FromServer,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), PeerError> {
    let packet =
        encode_message(message).ok_or(PeerError::Control { reason: "message too long" })?;
    socket::send(control, &packet, descriptor, Instant::now() + SEND_PATIENCE)
        .map_err(|source| PeerError::System { action: "write to the host", source })
}

/// The next message from the host; `None` when it has closed the connection.
fn hear(control: BorrowedFd<'_>) -> Result<Option<ToServer>, PeerError> {
    let system = |source| PeerError::System { action: "read from the host", source };
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        match socket::receive(control, &mut buffer) {
            Ok(Some((length, _))) => {
                let packet = buffer.get(..length).unwrap_or_default();
                return decode_message(packet)
                    .map(Some)
                    .map_err(|_| PeerError::Control { reason: "a message that is none" });
            }
            Ok(None) => {
                socket::readable(&[control], None).map_err(system)?;
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(system(error)),
        }
    }
}

fn hear_setup(control: BorrowedFd<'_>) -> Result<Option<Setup>, PeerError> {
    match hear(control)? {
        Some(ToServer::Setup(setup)) => Ok(Some(setup)),
        None | Some(ToServer::Stop) => Ok(None),
        Some(_) => Err(PeerError::Control { reason: "the first message is no setup" }),
    }
}

fn inherited(number: &str) -> Result<OwnedFd, PeerError> {
    let number: i32 = number
        .parse()
        .ok()
        .filter(|number| *number > 2)
        .ok_or(PeerError::Control { reason: "a descriptor that is no number" })?;
    // SAFETY: the process that has started this one opened it for us alone; each number is
    // adopted once.
    let descriptor = unsafe { process::adopt(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).map_err(|error| {
        PeerError::System { action: "adopt a descriptor", source: error.into() }
    })?;
    Ok(descriptor)
}

/// Cuts an exception so that its message fits in a packet.
fn fitting(mut error: PythonError) -> PythonError {
    error.fit(MAX_MESSAGE - 1024);
    error
}

/// A worker as its parent sees it.
struct Child {
    place: u16,
    incarnation: u32,
    pid: Pid,
    pidfd: OwnedFd,
    words: Words,
}

fn serve<R: Runtime>(
    given: [&str; 3],
    program: Vec<OsString>,
    runtime: impl FnOnce() -> R,
) -> Result<(), PeerError> {
    rights::keep_only(&given)?;
    process::set_signals();
    faults::arm_server();
    let station = Station::open(given)?;
    let system = |action| move |source| PeerError::System { action, source };
    let pidfd = process::own_pidfd().map_err(system("open a pidfd"))?;
    let hello = FromServer::Hello { pid: process::own_pid() };
    station.tell_with(&hello, Some(pidfd.as_fd()))?;
    drop(pidfd);
    let Some(setup) = hear_setup(station.control.as_fd())? else { return Ok(()) };

    let mut runtime = runtime();
    let threads = match runtime.import(&setup) {
        Ok(threads) => threads,
        Err(error) => return station.tell(&FromServer::ImportFailed(fitting(error))),
    };
    let from_scratch = match setup.start_method {
        StartMethod::Fork => false,
        StartMethod::Auto => threads.threads > 1,
        StartMethod::Spawn => true,
    };
    station.tell(&FromServer::Imported(threads))?;

    let outlet = Outlet::open();
    let children = Vec::new();
    let mut server = Server { station, setup, runtime, program, from_scratch, children, outlet };
    match server.serve() {
        Ok(Role::Worker { place, incarnation }) => {
            be_worker(server.station, &server.setup, server.runtime, place, incarnation)
        }
        result => {
            server.end_children();
            if result.is_ok() {
                server.runtime.end();
            }
            result.map(|_| ())
        }
    }
}

/// What this process is after the server's loop: a fork returns there twice.
enum Role {
    /// Still the server, told to end.
    Server,
    /// A worker, just forked.
    Worker { place: u16, incarnation: u32 },
}

/// What a server has waited for.
struct Happened {
    /// The host has said something.
    request: bool,
    /// The children that have ended, and those whose words can be passed on, by index.
    ended: Vec<usize>,
    spoke: Vec<usize>,
}

struct Server<R> {
    station: Station,
    setup: Setup,
    runtime: R,
    /// What starts a worker from scratch.
    program: Vec<OsString>,
    from_scratch: bool,
    children: Vec<Child>,
    /// Where the children's words go.
    outlet: Outlet,
}

impl<R: Runtime> Server<R> {
    fn serve(&mut self) -> Result<Role, PeerError> {
        loop {
            let Happened { request, ended, spoke } = self.wait()?;
            // Deaths first: a request may be for the place of the dead. From the last one on: the
            // place of one that is taken out is filled from there.
            for index in (0..self.children.len()).rev() {
                if ended.contains(&index) {
                    let child = self.children.swap_remove(index);
                    faults::point("server.noticed");
                    let exited = bury(child, &mut self.outlet);
                    faults::point("server.reaped");
                    self.station.tell(&exited)?;
                } else if spoke.contains(&index)
                    && let Some(child) = self.children.get_mut(index)
                {
                    child.words.pass_on(&mut self.outlet);
                }
            }
            if request {
                match hear(self.station.control.as_fd())? {
                    Some(ToServer::Spawn { worker, incarnation }) => {
                        faults::point("server.heard");
                        if let role @ Role::Worker { .. } = self.spawn(worker, incarnation)? {
                            return Ok(role);
                        }
                    }
                    Some(ToServer::Setup(_)) => {
                        return Err(PeerError::Control { reason: "a second setup" });
                    }
                    Some(ToServer::Stop) | None => return Ok(Role::Server),
                }
            }
        }
    }

    /// Waits until something happens.
    fn wait(&self) -> Result<Happened, PeerError> {
        let mut watched = vec![Watch::Read(self.station.control.as_fd())];
        watched.extend(self.children.iter().map(|child| Watch::Read(child.pidfd.as_fd())));
        let mut speakers = Vec::new();
        for (index, child) in self.children.iter().enumerate() {
            if let Some(awaited) = child.words.awaited(&self.outlet) {
                watched.push(awaited);
                speakers.push(index);
            }
        }
        let ready = socket::ready(&watched, None)
            .map_err(|source| PeerError::System { action: "poll", source })?;
        let mut ready = ready.into_iter();
        let request = ready.next().unwrap_or(false);
        // As many as there are children; the speakers keep the rest.
        let mut which = |indices: Vec<usize>| {
            let ready = ready.by_ref().take(indices.len());
            indices.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(i, _)| i).collect()
        };
        let ended = which((0..self.children.len()).collect());
        let spoke = which(speakers);
        Ok(Happened { request, ended, spoke })
    }

    fn end_children(&mut self) {
        for child in &self.children {
            process::kill_group(child.pid);
        }
        for child in self.children.drain(..) {
            bury(child, &mut self.outlet);
        }
    }

    fn spawn(&mut self, place: u16, incarnation: u32) -> Result<Role, PeerError> {
        let made = if self.from_scratch {
            self.make_from_scratch(place, incarnation)
        } else {
            match self.make_by_fork() {
                Ok(None) => return Ok(Role::Worker { place, incarnation }),
                Ok(Some(made)) => Ok(made),
                Err(error) => Err(error),
            }
        };
        let watched = made.and_then(|(pid, words)| {
            let pidfd = process::pidfd_of_child(pid).inspect_err(|_| {
                // Nobody would watch it, and its place would be given to another.
                process::kill_group(pid);
                process::kill(pid);
                process::reap(pid);
            });
            Ok(Child { place, incarnation, pid, pidfd: pidfd?, words })
        });
        match watched {
            Ok(child) => {
                let message = FromServer::Spawned {
                    worker: place,
                    incarnation,
                    pid: child.pid.as_raw().cast_unsigned(),
                };
                faults::point("server.telling");
                let told = self.station.tell_with(&message, Some(child.pidfd.as_fd()));
                self.children.push(child);
                told?;
                faults::point("server.told");
            }
            Err(error) => self.station.tell(&FromServer::SpawnFailed {
                worker: place,
                incarnation,
                errno: error.raw_os_error().unwrap_or(0),
            })?,
        }
        Ok(Role::Server)
    }

    /// The child's id and words; `None` in the child.
    fn make_by_fork(&mut self) -> io::Result<Option<(Pid, Words)>> {
        let server = process::own_pid();
        let (listening, speaking) = pipe::pipe()?;
        self.runtime.before_fork();
        faults::point("server.forking");
        // SAFETY: this process has one thread: it was counted after the import, and nothing of
        // ours starts any.
        match unsafe { process::fork() } {
            Ok(process::Fork::Parent(pid)) => {
                faults::point("server.forked");
                self.runtime.after_fork_parent();
                Ok(Some((pid, Words::new(listening))))
            }
            Ok(process::Fork::Child) => {
                // First of all, so that nobody outlives the host.
                let alone = process::die_with_parent(server).and(process::lead_group());
                if alone.and(pipe::speak_into(speaking)).is_err() {
                    process::exit_now(1);
                }
                // What is the server's: others' pidfds and words, the host's stderr.
                self.children.clear();
                self.outlet = Outlet::Nowhere;
                self.runtime.after_fork_child();
                Ok(None)
            }
            Err(error) => {
                self.runtime.after_fork_parent();
                Err(error)
            }
        }
    }

    fn make_from_scratch(&self, place: u16, incarnation: u32) -> io::Result<(Pid, Words)> {
        let (ours, theirs) = socket::pair()?;
        let (listening, speaking) = pipe::pipe()?;
        let packet = encode_message(ToServer::Setup(self.setup.clone()))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        socket::send(ours.as_fd(), &packet, None, Instant::now())?;
        let Station { control, segment, button, .. } = &self.station;
        let descriptors = [control.as_fd(), segment.as_fd(), button.as_fd(), theirs.as_fd()];
        let (program, arguments) =
            self.program.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--worker");
        command.args(descriptors.map(|descriptor| memory::number_of(descriptor).to_string()));
        command.args([place.to_string(), incarnation.to_string()]);
        process::prepare(&mut command, &descriptors);
        command.stderr(speaking);
        Ok((Pid::from_raw(command.spawn()?.id().cast_signed()), Words::new(listening)))
    }
}

/// Reaps a child that has ended, and ends what it has left in its process group.
fn bury(child: Child, outlet: &mut Outlet) -> FromServer {
    // Before the reaping: until then nobody else can have the group's number.
    process::kill_group(child.pid);
    FromServer::Exited {
        worker: child.place,
        incarnation: child.incarnation,
        pid: child.pid.as_raw().cast_unsigned(),
        exit: process::reap(child.pid),
        last_words: child.words.end(outlet),
    }
}

fn worker_from_scratch<R: Runtime>(
    [control, segment, button, setup]: [&str; 4],
    place: &str,
    incarnation: &str,
    runtime: impl FnOnce() -> R,
) -> Result<(), PeerError> {
    rights::keep_only(&[control, segment, button, setup])?;
    process::set_signals();
    let not_a_number = PeerError::Control { reason: "a place that is no number" };
    let (Ok(place), Ok(incarnation)) = (place.parse(), incarnation.parse()) else {
        return Err(not_a_number);
    };
    let station = Station::open([control, segment, button])?;
    let heard = hear_setup(inherited(setup)?.as_fd())?;
    let Some(setup) = heard else { return Ok(()) };
    let mut runtime = runtime();
    let imported = rights::limit(&setup.limits).and_then(|()| runtime.import(&setup));
    match imported {
        Ok(_) => be_worker(station, &setup, runtime, place, incarnation),
        Err(error) => station.tell(&FromServer::InitializeFailed {
            worker: place,
            incarnation,
            error: fitting(error),
        }),
    }
}

/// The rest of a worker's life. Never returns: what the fork has copied must not run twice.
fn be_worker<R: Runtime>(
    station: Station,
    setup: &Setup,
    runtime: R,
    place: u16,
    incarnation: u32,
) -> ! {
    let life = AssertUnwindSafe(|| serve_tasks(station, setup, runtime, place, incarnation));
    process::exit_now(match catch_unwind(life) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            eprintln!("nearcall-worker (pid {}): {error}", process::own_pid());
            1
        }
        // The panic has printed itself. The server's frames below must not see it.
        Err(_) => 101,
    })
}

/// Constructs the model, serves until there is a reason to stop, gives the exit status.
fn serve_tasks<R: Runtime>(
    mut station: Station,
    setup: &Setup,
    mut runtime: R,
    place: u16,
    incarnation: u32,
) -> Result<i32, PeerError> {
    faults::arm(place, incarnation);
    faults::point("start.forked");
    station.region.populate();
    faults::point("start.populated");
    // Where a model that closes descriptors by number is less likely to come upon them.
    let system = |action| move |source| PeerError::System { action, source };
    for descriptor in [&mut station.segment, &mut station.button] {
        *descriptor = memory::duplicate_high(descriptor.as_fd())
            .map_err(system("keep a descriptor of the engine's"))?;
    }
    let identity_of = |descriptor: &OwnedFd| {
        FileIdentity::of(descriptor.as_fd()).map_err(system("look at a descriptor of the engine's"))
    };
    let (identity, of_button) = (identity_of(&station.segment)?, identity_of(&station.button)?);
    forked::watch().map_err(system("map a page"))?;
    // Again in a worker from scratch, where nothing changes by it.
    let model = rights::limit(&setup.limits).and_then(|()| runtime.instantiate());
    forked::leave_if_forked();
    let model = match model {
        Ok(model) => model,
        Err(error) => {
            let error = fitting(error);
            station.tell(&FromServer::InitializeFailed { worker: place, incarnation, error })?;
            return Ok(1);
        }
    };
    let Station { control, segment, button, region } = station;
    // Never closed: they may be somebody else's by then, and the process ends anyway.
    let (segment, button) = (ManuallyDrop::new(segment), ManuallyDrop::new(button));
    let notice = Notice::new(button.as_fd(), of_button);
    let large = LargeArea::new(segment.as_fd(), identity, *region.layout());
    // SAFETY: the mapping lasts as long as the process; the host initialised the lock before it
    // started the fork server, and has one worker at a place at a time.
    let worker = unsafe { Worker::new(&region, large, notice, place, setup.patience, model) };
    let mut worker =
        worker.ok_or(PeerError::Segment { reason: "it has no such place for a worker" })?;
    if setup.interrupts {
        // SAFETY: the same mapping; this is the thread that was started or forked.
        worker = unsafe { worker.with_interrupts() }
            .map_err(|source| PeerError::System { action: "handle a signal", source })?;
    }
    faults::point("start.initialised");
    tell(control.as_fd(), &FromServer::Ready { worker: place, incarnation }, None)?;
    // A worker at work talks through the segment only.
    drop(control);
    match worker.run() {
        (End::Ordered, model) => {
            faults::point("end.finalize");
            model.finalize();
            Ok(0)
        }
        (End::Condemned, _) => {
            // The supervisor's SIGKILL is on its way; nothing may be touched before it comes.
            std::thread::sleep(KILL_PATIENCE);
            Err(PeerError::Segment { reason: "the claim on a task was overwritten" })
        }
        (End::Hoarding, _) => Err(PeerError::Hoarding),
        (End::Broken, _) => Err(PeerError::Segment { reason: "its lock or its slots are broken" }),
    }
}
