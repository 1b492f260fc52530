//! The event loop's clock: read once per turn, then handed around as a value.
#![allow(clippy::disallowed_methods, reason = "the one place where the data plane reads the time")]

use std::time::{Duration, Instant, SystemTime};

/// Counts from the start of the plane, the same for all its workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// The time of day at which it is `elapsed` since the start.
    pub(crate) fn time_of(&self, elapsed: Duration) -> SystemTime {
        let ago = self.elapsed().saturating_sub(elapsed);
        SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// For the limits on how fast clients may come.
impl governor::clock::Clock for Clock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.elapsed()
    }
}
