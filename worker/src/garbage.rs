//! Python's garbage collector, moved from the middle of calls into the pauses between them.

use std::time::Instant;

use pyo3::prelude::*;

use crate::exception;

/// How many times as many new objects as usual a call may make before it is interrupted by a
/// collection. Bounds the memory that garbage takes when there are no pauses: 14,000 objects with
/// the threshold of Python 3.11.
const PATIENCE: i32 = 20;

/// A collection of everything takes at most this share of the time: one that took a millisecond
/// comes again after 100 at the earliest.
const FULL_COLLECTION_SHARE: u32 = 100;

/// Collects the garbage of a generation and of the younger ones (2: all), also if the model has switched
/// the collector off: somebody has to know what is none.
pub(crate) fn collect(py: Python<'_>, generation: i32) {
    let collect = || py.import("gc")?.call_method1("collect", (generation,));
    if let Err(error) = collect() {
        exception::print(py, "gc", &error);
    }
}

/// The collector of a worker whose garbage is collected between calls.
pub(crate) struct Collector {
    is_enabled: Py<PyAny>,
    get_count: Py<PyAny>,
    collect: Py<PyAny>,
    /// Python's own thresholds for its three generations.
    thresholds: (i32, i32, i32),
    /// Before then, not everything is collected again.
    full_not_before: Instant,
}

impl Collector {
    /// Takes the collector over; `None` if the model has switched it off, or nobody can.
    pub(crate) fn take_over(py: Python<'_>) -> Option<Self> {
        let taken = Self::try_take_over(py);
        taken.unwrap_or_else(|error| {
            exception::print(py, "gc", &error);
            None
        })
    }

    fn try_take_over(py: Python<'_>) -> PyResult<Option<Self>> {
        let gc = py.import("gc")?;
        let thresholds: (i32, i32, i32) = gc.call_method0("get_threshold")?.extract()?;
        let enabled: bool = gc.call_method0("isenabled")?.extract()?;
        // Not positive: never by itself.
        if !enabled || thresholds.0 <= 0 {
            return Ok(None);
        }
        let (first, second, third) = thresholds;
        gc.call_method1("set_threshold", (first.saturating_mul(PATIENCE), second, third))?;
        Ok(Some(Self {
            is_enabled: gc.getattr("isenabled")?.unbind(),
            get_count: gc.getattr("get_count")?.unbind(),
            collect: gc.getattr("collect")?.unbind(),
            thresholds,
            full_not_before: Instant::now(),
        }))
    }

    /// Collects what has come together, if it is as much as Python waits for; nothing if the model
    /// has switched the collector off meanwhile.
    pub(crate) fn collect(&mut self) {
        // Attached as PyO3 counts it: exceptions are dropped here.
        Python::attach(|py| {
            if let Err(error) = self.try_collect(py) {
                exception::print(py, "gc", &error);
            }
        });
    }

    fn try_collect(&mut self, py: Python<'_>) -> PyResult<()> {
        let counts: (i32, i32, i32) = self.get_count.bind(py).call0()?.extract()?;
        let now = Instant::now();
        let generation = if counts.2 > self.thresholds.2 && now >= self.full_not_before {
            2
        } else if counts.1 > self.thresholds.1 {
            1
        } else if counts.0 > self.thresholds.0 {
            0
        } else {
            return Ok(());
        };
        if self.is_enabled.bind(py).call0()?.extract()? {
            self.collect.bind(py).call1((generation,))?;
            if generation == 2 {
                self.full_not_before = now + now.elapsed() * FULL_COLLECTION_SHARE;
            }
        }
        Ok(())
    }
}
