//! When to try again: seeded jitter (RFC 4271 §10) and three capped back-offs, by what the attempt cost the peer.
//!
//! A dial that nobody takes costs the peer a SYN, so that a router that is away for a minute is asked often enough to be
//! met within a second of its return. A connection that the peer takes and closes costs it more, and a session that it
//! ends costs it most (§8.1.1, DampPeerOscillations).

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// After the first dial that nobody took, this part of `connect_retry`.
const QUICK: u32 = 20;
/// How long such dials follow each other at an eighth of `connect_retry` at most, in `connect_retry`: a minute by default.
const ABSENCE: u32 = 12;
/// As long as they do, a dial is given up after this part of `connect_retry`, before TCP's own second SYN.
const QUICK_TIMEOUT: u32 = 5;
/// After a peer closed a connection, at least this part of `connect_retry`.
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
    /// The first dial since the peer last spoke BGP.
    absent_since: Option<Instant>,
    /// Dials in a row that nobody took.
    refusals: u32,
    /// Connections in a row that the peer took and closed without an OPEN.
    closes: u32,
    /// Sessions in a row that did not last (RFC 4271 ConnectRetryCounter).
    sessions: u32,
    established: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(base: Duration, seed: u64) -> Self {
        let jitter = Jitter::new(seed);
        Retry { base, jitter, absent_since: None, refusals: 0, closes: 0, sessions: 0, established: None }
    }

    pub(crate) fn set_base(&mut self, base: Duration) {
        self.base = base;
    }

    pub(crate) fn jitter(&mut self) -> &mut Jitter {
        &mut self.jitter
    }

    /// How long a dial may take.
    pub(crate) fn dial_timeout(&mut self, now: Instant) -> Duration {
        let full = if self.is_newly_absent(now) { self.base / QUICK_TIMEOUT } else { self.base };
        self.jitter.shorten(full)
    }

    /// How long to wait after a dial that nobody took.
    pub(crate) fn after_refusal(&mut self, now: Instant) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        let cap = if self.is_newly_absent(now) { self.base / FIRST } else { self.base };
        self.backed_off(self.base / QUICK, self.refusals, cap)
    }

    /// How long to wait after a connection that the peer took and closed before its OPEN.
    pub(crate) fn after_close(&mut self) -> Duration {
        self.closes = self.closes.saturating_add(1);
        self.backed_off(self.base / FIRST, self.closes, self.base)
    }

    /// How long to stay Idle after a session that failed; grows beyond the base, because a peer that refuses us or
    /// breaks the protocol does not get better by asking.
    pub(crate) fn after_session(&mut self, now: Instant) -> Duration {
        let lasted = self.established.take().is_some_and(|since| now - since >= self.base * DAMPED);
        self.sessions = if lasted { 1 } else { self.sessions.saturating_add(1) };
        self.backed_off(self.base / FIRST, self.sessions, self.base * DAMPED)
    }

    /// Somebody speaks BGP there. That TCP works is not enough: a router that holds us off accepts and closes.
    pub(crate) fn answered(&mut self) {
        (self.absent_since, self.refusals, self.closes) = (None, 0, 0);
    }

    pub(crate) fn established(&mut self, now: Instant) {
        self.established = Some(now);
    }

    fn is_newly_absent(&mut self, now: Instant) -> bool {
        now - *self.absent_since.get_or_insert(now) < self.base * ABSENCE
    }

    fn backed_off(&mut self, first: Duration, failures: u32, cap: Duration) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.jitter.shorten((first * (1 << doublings)).min(cap))
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

    /// Whether `actual` is `full` milliseconds less at most a quarter.
    fn is_about(actual: Duration, full: u64) -> bool {
        let full = Duration::from_millis(full);
        full * 3 / 4 <= actual && actual <= full
    }

    #[test]
    fn a_router_that_is_away_for_a_minute_is_dialled_at_least_every_second() {
        for seed in 0..100 {
            let (mut retry, start) = (Retry::new(Duration::from_secs(5), seed), origin());
            let mut now = start;
            while now - start < Duration::from_secs(59) {
                assert!(retry.dial_timeout(now) <= Duration::from_secs(1));
                let pause = retry.after_refusal(now);
                assert!(pause <= Duration::from_millis(625), "{pause:?} after {:?}", now - start);
                now += pause;
            }
        }
    }

    #[test]
    fn one_that_stays_away_is_dialled_every_connect_retry_until_it_speaks_again() {
        let (mut retry, start) = (Retry::new(BASE, 1), origin());
        retry.dial_timeout(start);
        for expected in [400, 800, 1000, 1000] {
            assert!(is_about(retry.after_refusal(start), expected));
        }
        let later = start + BASE * ABSENCE;
        for expected in [6400, 8000, 8000] {
            assert!(is_about(retry.after_refusal(later), expected));
            assert!(is_about(retry.dial_timeout(later), 8000));
        }
        retry.answered();
        assert!(is_about(retry.dial_timeout(later), 1600));
        assert!(is_about(retry.after_refusal(later), 400));
    }

    #[test]
    fn a_peer_that_takes_connections_and_closes_them_is_no_absent_one() {
        let (mut retry, now) = (Retry::new(BASE, 1), origin());
        for expected in [1000, 2000, 4000, 8000, 8000] {
            assert!(is_about(retry.after_close(), expected));
            assert!(retry.after_refusal(now) <= Duration::from_secs(1));
        }
        retry.answered();
        assert!(is_about(retry.after_close(), 1000));
    }

    #[test]
    fn failing_sessions_back_off_to_eight_times_connect_retry_and_a_lasting_one_starts_over() {
        let (mut retry, mut now) = (Retry::new(BASE, 1), origin());
        for expected in [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000] {
            retry.established(now);
            now += Duration::from_secs(1);
            assert!(is_about(retry.after_session(now), expected));
        }
        retry.established(now);
        assert!(is_about(retry.after_session(now + Duration::from_secs(64)), 1000));
    }

    #[test]
    fn equal_seeds_give_equal_jitter_between_three_quarters_and_the_whole() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..1000).map(|_| jitter.shorten(BASE)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).into_iter().all(|duration| is_about(duration, 8000)));
    }
}
