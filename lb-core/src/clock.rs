//! The event loop's clock: read once per turn, then handed around as a value.
#![allow(clippy::disallowed_methods, reason = "the one place where the data plane reads the time")]

use std::time::{Duration, Instant};

/// Counts from the start of the plane, the same for all its workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
