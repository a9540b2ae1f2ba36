//! A pair of processes: this one, and a peer that is this program again.
//!
//! The peer is started anew (not forked: this process may have threads and an interpreter). Its
//! stdin is the shared memory, its arguments say whose peer it is and for which order.

use std::io::stdin;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{env, io};

use anyhow::{Context, anyhow, bail, ensure};
use nearcall_bench::order::Order;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::words::{END, ENDED, Mapping, Words};
use crate::{cache_line, futex};

/// The first argument of a peer.
const ROLE: &str = "--peer";

/// The asking side of a pair. The peer ends with it.
pub(crate) struct Pair {
    words: Arc<Mapping>,
    /// Waits for the peer's end. `None` when that was waited for.
    watcher: Mutex<Option<JoinHandle<io::Result<Output>>>>,
}

impl Pair {
    /// Starts the peer. To be called by a thread that lives as long: the peer dies with it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(order: &Order) -> anyhow::Result<Self> {
        let (words, file) = Mapping::create()?;
        let words = Arc::new(words);
        let peer = Command::new(env::current_exe()?)
            .args([ROLE, &std::process::id().to_string(), &serde_json::to_string(order)?])
            .stdin(file)
            .stdout(Stdio::null()) // answers to orders go there
            .stderr(Stdio::piped())
            .spawn()
            .context("the peer could not be started")?;
        let watched = Arc::clone(&words);
        let watcher = Mutex::new(Some(thread::spawn(move || watch(peer, &watched))));
        Ok(Self { words, watcher })
    }

    #[inline]
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// Why the peer has ended although nobody asked it to.
    #[cold]
    pub(crate) fn post_mortem(&self) -> anyhow::Error {
        match self.wait() {
            Ok(output) => anyhow!(
                "the peer has ended ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(error) => error.context("the peer has ended"),
        }
    }

    /// Ends the peer.
    ///
    /// # Errors
    /// It did not end well.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.ask_for_the_end();
        let output = self.wait()?;
        ensure!(output.status.success(), "the peer has ended with {}", output.status);
        Ok(())
    }

    fn ask_for_the_end(&self) {
        self.words.request.store(END, Ordering::Release);
        futex::wake(&self.words.request);
    }

    fn wait(&self) -> anyhow::Result<Output> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let watcher = watcher.take().context("its end was waited for already")?;
        let output = watcher.join().map_err(|_| anyhow!("the peer's watcher has panicked"))?;
        Ok(output?)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.ask_for_the_end();
        // Fails when its end was waited for already.
        let _ = self.wait();
    }
}

/// Waits for the peer's end, and then answers in its place: so who waits for an answer waits for
/// nothing else.
fn watch(peer: Child, words: &Words) -> io::Result<Output> {
    let output = peer.wait_with_output();
    words.answer.store(ENDED, Ordering::Release);
    futex::wake(&words.answer);
    output
}

/// The answering side of a pair: the whole process.
pub(crate) struct Peer {
    order: Order,
    words: Mapping,
}

/// This process as a peer, if its arguments say that it is one. From here on it dies with the
/// thread that started it.
///
/// # Errors
/// It is one, but has no parent any more, or its arguments are not what a [`Pair`] gives.
pub(crate) fn asked_to_be_a_peer() -> anyhow::Result<Option<Peer>> {
    let mut arguments = env::args().skip(1);
    match arguments.next().as_deref() {
        None => return Ok(None),
        Some(ROLE) => {}
        Some(other) => bail!("{other}: orders are read from stdin, there are no arguments"),
    }
    set_pdeathsig(Signal::SIGKILL)?;
    let parent: u32 = arguments.next().context("whose peer?")?.parse()?;
    // It may have died before the line above.
    ensure!(parent_id() == parent, "the process that wanted a peer is gone");
    let order = serde_json::from_str(&arguments.next().context("for which order?")?)?;
    Ok(Some(Peer { order, words: Mapping::open(stdin())? }))
}

impl Peer {
    /// Answers requests until the other side says that it was the last.
    ///
    /// # Errors
    /// What keeps it from answering.
    pub(crate) fn serve(&self) -> anyhow::Result<()> {
        match self.order.system.as_str() {
            cache_line::NAME => cache_line::serve(&self.words),
            futex::NAME => futex::serve(&self.words, |_| Ok(())),
            futex::WITH_PYTHON => futex::serve_with_python(&self.words, &self.order),
            other => bail!("{other} has no peer"),
        }
    }
}
