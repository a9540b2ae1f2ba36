//! Python processes that end with this one, and the CPU time that all of them use.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nearcall_bench::order::{NotHere, Order};
use nix::sys::{prctl, signal::Signal};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, getpid, getppid};

/// How long a process may take to end once it has been told to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says [`NotHere`] unless the order's Python has this module.
///
/// # Errors
/// That, or what the system says.
pub(crate) fn needs(order: &Order, module: &str) -> anyhow::Result<()> {
    let found = command(&order.python, &format!("import {module}")).output();
    let found = found.with_context(|| format!("{} does not start", order.python.display()))?;
    if !found.status.success() {
        let said = String::from_utf8_lossy(&found.stderr);
        let reason = said.lines().last().unwrap_or("no reason given").to_owned();
        bail!(NotHere(format!("{} has no {module}: {reason}", order.python.display())));
    }
    Ok(())
}

/// A Python with a script that this program carries. Nothing of the user's environment reaches it,
/// and it leaves nothing on the disk. Its stdout is a pipe: the program's own is taken.
pub(crate) fn command(python: &Path, script: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-I", "-B", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A process that runs no longer than this value, nor than the thread that started it.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let parent = getpid();
        let end_with_parent = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before.
            if getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(ESRCH)) }
        };
        // SAFETY: between fork and exec, the closure makes two system calls and touches only what
        // it owns: it allocates nothing and takes no lock.
        unsafe { command.pre_exec(end_with_parent) };
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("{name} does not start"))?))
    }

    /// The process, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Waits for the line with which it says that it is ready.
    ///
    /// # Errors
    /// When it ends or says something else.
    pub(crate) fn ready(&mut self) -> anyhow::Result<()> {
        let mut said = String::new();
        let stdout = self.0.stdout.as_mut().context("no pipe")?;
        BufReader::new(stdout).read_line(&mut said)?;
        if said != "ready\n" {
            bail!("a process did not start");
        }
        Ok(())
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it does not, or says that something went wrong.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            if let Some(status) = self.0.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("a process did not end when told to");
            }
            thread::sleep(Duration::from_millis(1));
        };
        if !status.success() {
            bail!("a process ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails for one that has ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const ESRCH: i32 = nix::errno::Errno::ESRCH as i32;

/// CPU seconds that this process and the others have used so far.
pub(crate) fn cpu_seconds<'a>(others: impl IntoIterator<Item = &'a Process>) -> Option<f64> {
    let used = |clock| clock_gettime(clock).ok().map(|time| Duration::from(time).as_secs_f64());
    let mut all = used(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    for other in others {
        all += used(clock_getcpuclockid(other.pid()).ok()?)?;
    }
    Some(all)
}
