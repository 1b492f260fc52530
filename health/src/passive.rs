//! Passive checks: failed connects and immediate resets of live traffic, counted per backend in a sliding window. Pure.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::time::Instant;

use config::Passive;

/// The newest failures of one backend: at most `failures` instants, none older than `window`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    recent: VecDeque<Instant>,
}

/// Enough failures came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Burst {
    pub failures: usize,
    /// When the first of them came.
    pub since: Instant,
}

impl Failures {
    /// Takes in one failure; `Some` when it completes `failures` within `window`, and the count starts again.
    pub fn record(&mut self, policy: &Passive, now: Instant) -> Option<Burst> {
        while self.recent.front().is_some_and(|&at| now.saturating_duration_since(at) > policy.window) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        let failures = self.recent.len();
        let since = *self.recent.front()?;
        if failures < policy.failures as usize {
            return None;
        }
        self.recent.clear();
        Some(Burst { failures, since })
    }

    pub fn clear(&mut self) {
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: Passive = Passive { enabled: true, failures: 3, window: Duration::from_secs(10) };

    fn seconds(start: Instant, s: u64) -> Instant {
        start + Duration::from_secs(s)
    }

    #[test]
    fn three_failures_within_the_window_are_a_burst() {
        let (mut failures, t) = (Failures::default(), crate::testing::start());
        assert_eq!(failures.record(&POLICY, t), None);
        assert_eq!(failures.record(&POLICY, seconds(t, 4)), None);
        assert_eq!(failures.record(&POLICY, seconds(t, 10)), Some(Burst { failures: 3, since: t }));
    }

    #[test]
    fn the_window_slides() {
        let (mut failures, t) = (Failures::default(), crate::testing::start());
        assert_eq!(failures.record(&POLICY, t), None);
        assert_eq!(failures.record(&POLICY, seconds(t, 9)), None);
        assert_eq!(failures.record(&POLICY, seconds(t, 11)), None, "the first is older than the window");
        assert!(failures.record(&POLICY, seconds(t, 18)).is_some());
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_failures() {
        let (mut failures, t) = (Failures::default(), crate::testing::start());
        for _ in 0..10_000 {
            failures.record(&POLICY, t);
            assert!(failures.recent.len() < 3);
        }
    }
}
