//! A progress bar on stderr, and only on a terminal.

use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar, or nothing at all where nobody would see it.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that counts up to `total` things.
    pub(crate) fn of_tasks(title: String, total: u64) -> Self {
        Self::new(stderr().is_terminal(), Some(total), "{msg:34} {wide_bar} {pos}/{len}")
            .titled(title)
    }

    /// A bar over the bytes of an input, which has no end if it is a pipe. It would be in the way
    /// of lines that go to the same terminal.
    pub(crate) fn of_bytes(total: Option<u64>, lines_on_stdout: bool) -> Self {
        let visible = stderr().is_terminal() && !(lines_on_stdout && stdout().is_terminal());
        let template = match total {
            Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
            None => "{spinner} {bytes} {bytes_per_sec}",
        };
        Self::new(visible, total, template)
    }

    fn new(visible: bool, total: Option<u64>, template: &str) -> Self {
        if !visible {
            return Self(ProgressBar::hidden());
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        // A template that does not parse leaves the default style, which shows the same.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn titled(self, title: String) -> Self {
        self.0.set_message(title);
        self
    }

    /// How far it is.
    pub(crate) fn set(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
