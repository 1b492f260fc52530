//! When to try again: seeded jitter (RFC 4271 §10) and two capped back-offs.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Between two attempts at once at least this part of `connect_retry`.
const FIRST: u32 = 8;
/// Sessions that keep failing are retried at most this many `connect_retry` apart (§8.1.1, DampPeerOscillations).
const DAMPED: u32 = 8;

/// A reproducible source of jitter (splitmix64).
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Jitter(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 75 % to 100 % of `full`.
    pub(crate) fn shorten(&mut self, full: Duration) -> Duration {
        self.thousandths(full, 750..=1000)
    }

    /// So many thousandths of `full`.
    pub(crate) fn thousandths(&mut self, full: Duration, range: RangeInclusive<u32>) -> Duration {
        let (least, most) = range.into_inner();
        let choices = u64::from(most.saturating_sub(least)) + 1;
        full / 1000 * (least + (self.next() % choices) as u32)
    }
}

/// How often we failed, and what that means for the next attempt.
#[derive(Debug)]
pub(crate) struct Retry {
    base: Duration,
    jitter: Jitter,
    /// Dials in a row that found nobody who speaks BGP.
    dials: u32,
    /// Sessions in a row that did not last (RFC 4271 ConnectRetryCounter).
    sessions: u32,
    established: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(base: Duration, seed: u64) -> Self {
        Retry { base, jitter: Jitter::new(seed), dials: 0, sessions: 0, established: None }
    }

    pub(crate) fn set_base(&mut self, base: Duration) {
        self.base = base;
    }

    pub(crate) fn jitter(&mut self) -> &mut Jitter {
        &mut self.jitter
    }

    /// How long a dial may take.
    pub(crate) fn dial_timeout(&mut self) -> Duration {
        self.jitter.shorten(self.base)
    }

    /// How long to wait after a dial that found nobody: an eighth of the base, doubling up to the base, so that a
    /// router that comes back is found within that time.
    pub(crate) fn after_dial(&mut self) -> Duration {
        self.dials = self.dials.saturating_add(1);
        self.backed_off(self.dials, 1)
    }

    /// How long to stay Idle after a session that failed; grows beyond the base, because a peer that refuses us or
    /// breaks the protocol does not get better by asking.
    pub(crate) fn after_session(&mut self, now: Instant) -> Duration {
        let lasted = self.established.take().is_some_and(|since| now - since >= self.base * DAMPED);
        self.sessions = if lasted { 1 } else { self.sessions.saturating_add(1) };
        self.backed_off(self.sessions, DAMPED)
    }

    /// Somebody speaks BGP there. That TCP works is not enough: a router that holds us off accepts and closes.
    pub(crate) fn answered(&mut self) {
        self.dials = 0;
    }

    pub(crate) fn established(&mut self, now: Instant) {
        self.established = Some(now);
    }

    fn backed_off(&mut self, failures: u32, cap: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = (self.base / FIRST * (1 << doublings)).min(self.base * cap);
        self.jitter.shorten(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(8);

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; the test moves time itself")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Whether `actual` is `full` seconds less at most a quarter.
    fn is_about(actual: Duration, full: u64) -> bool {
        let full = Duration::from_secs(full);
        full * 3 / 4 <= actual && actual <= full
    }

    #[test]
    fn dials_back_off_to_connect_retry_and_start_over_once_the_peer_speaks() {
        let mut retry = Retry::new(BASE, 1);
        for expected in [1, 2, 4, 8, 8, 8] {
            assert!(is_about(retry.after_dial(), expected));
        }
        retry.answered();
        assert!(is_about(retry.after_dial(), 1));
    }

    #[test]
    fn failing_sessions_back_off_to_eight_times_connect_retry_and_a_lasting_one_starts_over() {
        let (mut retry, mut now) = (Retry::new(BASE, 1), origin());
        for expected in [1, 2, 4, 8, 16, 32, 64, 64] {
            retry.established(now);
            now += Duration::from_secs(1);
            assert!(is_about(retry.after_session(now), expected));
        }
        retry.established(now);
        assert!(is_about(retry.after_session(now + Duration::from_secs(64)), 1));
    }

    #[test]
    fn equal_seeds_give_equal_jitter_between_three_quarters_and_the_whole() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..1000).map(|_| jitter.shorten(BASE)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).into_iter().all(|duration| is_about(duration, 8)));
    }
}
