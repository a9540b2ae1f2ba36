//! What workers write to stdout and stderr: passed on at once, the end of it kept for their death.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::pipe::{self, Outlet, PIPE_BUF};
use crate::sys::socket::Watch;
use crate::wire::MAX_LAST_WORDS;

/// One worker's words.
pub(super) struct Words {
    /// `None` when nobody can write into it any more.
    pipe: Option<OwnedFd>,
    /// Read, and not passed on yet. While there is any, nothing more is read: the worker waits for
    /// whoever reads stderr, as it would if it wrote there itself.
    pending: Vec<u8>,
    tail: Tail,
}

impl Words {
    /// Of whoever writes into this pipe.
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), pending: Vec::new(), tail: Tail::default() }
    }

    /// What to wait for before the next [`pass_on`](Self::pass_on).
    pub(super) fn awaited<'a>(&'a self, outlet: &'a Outlet) -> Option<Watch<'a>> {
        if self.pending.is_empty() {
            self.pipe.as_ref().map(|pipe| Watch::Read(pipe.as_fd()))
        } else {
            Some(outlet.room())
        }
    }

    /// Passes on what was awaited, without waiting. A packet at a time: there are other workers.
    pub(super) fn pass_on(&mut self, outlet: &mut Outlet) {
        if self.pending.is_empty() {
            self.read(PIPE_BUF);
        }
        self.offer(outlet);
    }

    /// When the worker has ended: the last that it said. What stderr does not take of it now, is
    /// not passed on any more.
    pub(super) fn end(mut self, outlet: &mut Outlet) -> String {
        self.offer(outlet);
        // What is there by now: somebody whom the worker has started may go on writing for ever.
        let mut left = self.pipe.as_ref().map_or(0, |pipe| pipe::available(pipe.as_fd()));
        while left > 0 {
            let read = self.read(left.min(PIPE_BUF));
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
            self.offer(outlet);
        }
        self.tail.text()
    }

    /// Reads at most `limit` bytes, and says how many there were.
    fn read(&mut self, limit: usize) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        let mut buffer = [0; PIPE_BUF];
        let room = buffer.get_mut(..limit).unwrap_or_default();
        let read: io::Result<Option<usize>> = pipe::read(pipe.as_fd(), room);
        let words = match read {
            Ok(Some(length @ 1..)) => buffer.get(..length).unwrap_or_default(),
            Ok(None) => return 0,
            Ok(Some(0)) | Err(_) => {
                self.pipe = None;
                return 0;
            }
        };
        self.pending.extend_from_slice(words);
        self.tail.add(words);
        words.len()
    }

    fn offer(&mut self, outlet: &mut Outlet) {
        while !self.pending.is_empty()
            && let Some(taken) = outlet.offer(&self.pending)
        {
            self.pending.drain(..taken.min(self.pending.len()));
        }
    }
}

/// The last [`MAX_LAST_WORDS`] bytes of what was added.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    /// Whether there was more before.
    cut: bool,
}

impl Tail {
    fn add(&mut self, words: &[u8]) {
        self.bytes.extend_from_slice(words);
        let surplus = self.bytes.len().saturating_sub(MAX_LAST_WORDS);
        self.bytes.drain(..surplus);
        self.cut |= surplus > 0;
    }

    /// As text, from the start of a line if it was cut and has one.
    fn text(&self) -> String {
        let mut bytes = self.bytes.as_slice();
        if self.cut {
            let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            // Else from the start of a character.
            let character = || bytes.iter().position(|byte| byte & 0xC0 != 0x80);
            let start = line.filter(|start| *start < bytes.len()).or_else(character);
            bytes = bytes.get(start.unwrap_or(0)..).unwrap_or_default();
        }
        let text = String::from_utf8_lossy(bytes);
        // Each byte that is no text has become three.
        let surplus = text.len().saturating_sub(MAX_LAST_WORDS);
        (surplus..=text.len()).find_map(|start| text.get(start..)).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn tail(parts: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        parts.iter().for_each(|part| tail.add(part));
        tail.text()
    }

    #[test]
    fn few_words_are_kept_as_they_are() {
        assert_eq!(tail(&[]), "");
        assert_eq!(tail(&[b"one\nt", b"wo \xE2\x82", b"\xAC"]), "one\ntwo €");
        assert_eq!(tail(&[b"\xFF no text"]), "\u{FFFD} no text");
        let full = [b'x'; MAX_LAST_WORDS];
        assert_eq!(tail(&[&full]).len(), MAX_LAST_WORDS);
    }

    #[test]
    fn of_many_words_the_last_whole_lines_are_kept() {
        let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        let kept = tail(&[lines.as_bytes()]);
        assert!(kept.starts_with("line ") && kept.ends_with("line 999\n"), "{kept}");
        assert!((MAX_LAST_WORDS - 10..=MAX_LAST_WORDS).contains(&kept.len()), "{}", kept.len());
        let in_parts: Vec<&[u8]> = lines.as_bytes().chunks(7).collect();
        assert_eq!(tail(&in_parts), kept);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        let euros = "€".repeat(MAX_LAST_WORDS);
        let kept = tail(&[b".", euros.as_bytes()]);
        assert!(kept.chars().all(|character| character == '€'), "{kept}");
        assert!(kept.len() > MAX_LAST_WORDS - 3 && kept.len() <= MAX_LAST_WORDS);
        let kept = tail(&[euros.as_bytes(), b"\n"]);
        assert!(kept.starts_with('€') && kept.ends_with("€\n"), "{kept}");
        // What is no text takes no more room than what is.
        assert!(tail(&[&[0xFF; 2 * MAX_LAST_WORDS]]).len() <= MAX_LAST_WORDS);
    }

    /// An outlet into a pipe, and the pipe's other end.
    fn outlet() -> (Outlet, OwnedFd) {
        let (read, write) = pipe::pipe().unwrap();
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).unwrap();
        (Outlet::Own(write), read)
    }

    fn all(pipe: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; PIPE_BUF];
        while let Ok(Some(length @ 1..)) = pipe::read(pipe.as_fd(), &mut buffer) {
            all.extend_from_slice(&buffer[..length]);
        }
        all
    }

    #[test]
    fn words_are_passed_on_and_kept() {
        let ((mut outlet, stderr), (read, write)) = (outlet(), pipe::pipe().unwrap());
        let mut words = Words::new(read);
        rustix::io::write(&write, b"hello\n").unwrap();
        words.pass_on(&mut outlet);
        assert_eq!(all(&stderr), b"hello\n");
        rustix::io::write(&write, b"good bye\n").unwrap();
        assert_eq!(words.end(&mut outlet), "hello\ngood bye\n");
        assert_eq!(all(&stderr), b"good bye\n");
    }

    #[test]
    fn a_stderr_that_takes_nothing_holds_the_worker_up_and_nobody_else() {
        let ((mut outlet, stderr), (read, write)) = (outlet(), pipe::pipe().unwrap());
        while outlet.offer(&[b'.'; PIPE_BUF]).is_some() {}
        let mut words = Words::new(read);
        rustix::io::write(&write, b"first").unwrap();
        words.pass_on(&mut outlet);
        rustix::io::write(&write, b"second").unwrap();
        for _ in 0..3 {
            // It is room that is awaited, and there is none: no busy loop.
            let awaited = words.awaited(&outlet).unwrap();
            assert!(matches!(awaited, Watch::Write(_)));
            let ready = crate::sys::socket::ready(&[awaited], Some(Duration::ZERO)).unwrap();
            assert_eq!(ready, [false]);
            words.pass_on(&mut outlet);
        }
        assert_eq!(pipe::available(words.pipe.as_ref().unwrap().as_fd()), "second".len());
        all(&stderr);
        words.pass_on(&mut outlet);
        assert!(matches!(words.awaited(&outlet), Some(Watch::Read(_))));
        words.pass_on(&mut outlet);
        assert_eq!(all(&stderr), b"firstsecond");
    }

    #[test]
    fn the_last_words_are_read_though_stderr_takes_none() {
        let ((mut outlet, _stderr), (read, write)) = (outlet(), pipe::pipe().unwrap());
        while outlet.offer(&[b'.'; PIPE_BUF]).is_some() {}
        let mut words = Words::new(read);
        rustix::io::write(&write, b"first ").unwrap();
        words.pass_on(&mut outlet);
        rustix::io::write(&write, b"second").unwrap();
        assert_eq!(words.end(&mut outlet), "first second");
    }

    #[test]
    fn a_stderr_that_nobody_reads_any_more_takes_everything() {
        let ((mut outlet, stderr), (read, write)) = (outlet(), pipe::pipe().unwrap());
        drop(stderr);
        let mut words = Words::new(read);
        for _ in 0..100 {
            rustix::io::write(&write, &[b'x'; PIPE_BUF]).unwrap();
            words.pass_on(&mut outlet);
        }
        assert!(matches!(outlet, Outlet::Nowhere));
        drop(write);
        words.pass_on(&mut outlet);
        assert!(words.awaited(&outlet).is_none(), "a pipe that is closed is watched");
        assert_eq!(words.end(&mut outlet).len(), MAX_LAST_WORDS);
    }

    #[test]
    fn somebody_who_goes_on_writing_does_not_keep_the_end_waiting() {
        let ((mut outlet, _stderr), (read, write)) = (outlet(), pipe::pipe().unwrap());
        let writer =
            std::thread::spawn(
                move || {
                    while rustix::io::write(&write, &[b'y'; PIPE_BUF]).is_ok() {}
                },
            );
        let words = Words::new(read);
        while pipe::available(words.pipe.as_ref().unwrap().as_fd()) == 0 {
            std::thread::yield_now();
        }
        let start = Instant::now();
        assert!(words.end(&mut outlet).ends_with('y'));
        assert!(start.elapsed() < Duration::from_secs(10));
        writer.join().unwrap();
    }
}
