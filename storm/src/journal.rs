//! What the engine has said lately (its `tracing` events), for when something hangs.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::tally::lock;

/// So many events are kept.
const KEPT: usize = 200;

/// The last events.
#[derive(Clone)]
pub(crate) struct Journal {
    began: Instant,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Journal {
    /// Listens to all engines of this process from here on.
    pub(crate) fn begin() -> Self {
        let journal = Self { began: Instant::now(), lines: Arc::default() };
        // Nobody else in this program does.
        let _ = tracing::subscriber::set_global_default(journal.clone());
        journal
    }

    /// All that is kept, and forgets it.
    pub(crate) fn take(&self) -> Vec<String> {
        lock(&self.lines).drain(..).collect()
    }
}

impl Subscriber for Journal {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line =
            format!("{:9.4} s {}", self.began.elapsed().as_secs_f64(), event.metadata().level());
        event.record(&mut Text(&mut line));
        let mut lines = lock(&self.lines);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = if field.name() == "message" {
            write!(self.0, " {value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}
