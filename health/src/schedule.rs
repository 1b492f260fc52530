//! When a target is due: a regular grid with a phase of its own, and a little jitter around it. Pure and seeded.
//!
//! The phase comes from the seed (the router id) and the backend's name, so backends are not probed at the same instant
//! and neither do the hosts of one cluster probe the same backend at the same instant. Jitter does not add up: the mean
//! rate is exactly one check per interval. A check that outlasts its interval is followed by the next one at once, by
//! one only.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use config::BackendId;

/// First checks of all targets come within this, so that a start or reload is decided fast without a burst.
const FIRST_SPREAD: Duration = Duration::from_millis(200);
/// Jitter is at most this part of an interval to either side.
const JITTER_PART: u32 = 16;
/// Below this an interval is taken as this, so that the grid always advances.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    /// The next regular time, without jitter.
    grid: Instant,
    due: Instant,
    random: SplitMix64,
}

impl Schedule {
    pub fn new(seed: u64, id: &BackendId, interval: Duration, now: Instant) -> Self {
        let interval = interval.max(SHORTEST);
        let mut random = SplitMix64(seed ^ fnv1a(id));
        let phase = random.fraction();
        let first = now + interval.min(FIRST_SPREAD).mul_f64(phase);
        let mut schedule = Schedule { interval, grid: now + interval.mul_f64(phase), due: now, random };
        schedule.set_due(first);
        schedule
    }

    /// When the next attempt starts.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The attempt that was due has ended.
    pub fn finished(&mut self, now: Instant) {
        let jitter = self.interval / JITTER_PART;
        let planned = self.grid + (jitter * 2).mul_f64(self.random.fraction());
        let planned = planned.checked_sub(jitter).unwrap_or(planned);
        self.set_due(planned.max(now));
    }

    /// Moves the grid to its first point at least half an interval after `due`.
    fn set_due(&mut self, due: Instant) {
        self.due = due;
        let behind = (due + self.interval / 2).saturating_duration_since(self.grid);
        let steps = behind.as_nanos().div_ceil(self.interval.as_nanos());
        self.grid += self.interval.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
    }
}

/// Sebastiano Vigna's generator: eight bytes of state, good enough to spread checks.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `0.0..1.0`.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// FNV-1a over `service/backend`: the same phase in every build, unlike the standard library's hasher.
fn fnv1a(id: &BackendId) -> u64 {
    let bytes = id.service.as_str().bytes().chain([b'/']).chain(id.backend.as_str().bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use config::Name;
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> BackendId {
        BackendId {
            service: Name::new("contrail-api").unwrap(),
            backend: Name::new(&format!("ctrl-{n}")).unwrap(),
        }
    }

    #[test]
    fn first_checks_come_at_once_but_not_together() {
        let now = crate::testing::start();
        let mut first: Vec<_> =
            (0..64).map(|n| Schedule::new(1, &id(n), Duration::from_secs(2), now).due() - now).collect();
        first.sort();
        assert!(first.iter().all(|&d| d < FIRST_SPREAD));
        let in_first_half = first.iter().filter(|&&d| d < FIRST_SPREAD / 2).count();
        assert!((16..=48).contains(&in_first_half), "{in_first_half} of 64 in the first half");
        first.dedup();
        assert_eq!(first.len(), 64, "no two at the same instant");
    }

    #[test]
    fn hosts_started_together_probe_one_backend_at_different_phases() {
        let now = crate::testing::start();
        let second = |seed| {
            let mut s = Schedule::new(seed, &id(1), Duration::from_secs(2), now);
            s.finished(s.due());
            s.due()
        };
        let (a, b) = (second(0x0A54_0E0B), second(0x0A54_0E0C));
        assert!(a.max(b) - a.min(b) > Duration::from_millis(50));
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let now = crate::testing::start();
        let times = || {
            let mut s = Schedule::new(7, &id(3), Duration::from_secs(1), now);
            (0..20)
                .map(|_| {
                    let due = s.due();
                    s.finished(due);
                    due
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(times(), times());
    }

    #[test]
    fn a_check_that_outlasts_its_interval_is_followed_at_once_by_one_only() {
        let now = crate::testing::start();
        let interval = Duration::from_millis(200);
        let mut s = Schedule::new(7, &id(3), interval, now);
        let end = s.due() + interval * 10;
        s.finished(end);
        assert_eq!(s.due(), end);
        s.finished(end);
        assert!(s.due() > end + interval / 3);
    }

    proptest! {
        #[test]
        fn no_target_starves_and_none_is_hammered(
            seed in any::<u64>(),
            interval_ms in 1u64..60_000,
            took in proptest::collection::vec(0.0f64..3.0, 1..100),
        ) {
            let now = crate::testing::start();
            let interval = Duration::from_millis(interval_ms);
            let mut s = Schedule::new(seed, &id(1), interval, now);
            prop_assert!(s.due() - now <= FIRST_SPREAD.min(interval));
            for part in took {
                let started = s.due();
                let ended = started + interval.mul_f64(part);
                s.finished(ended);
                prop_assert!(s.due() >= ended, "one attempt at a time");
                prop_assert!(s.due() >= started + interval.mul_f64(0.4));
                prop_assert!(s.due() <= ended.max(started + interval.mul_f64(1.6)));
            }
        }

        #[test]
        fn the_mean_rate_is_one_per_interval(seed in any::<u64>()) {
            let now = crate::testing::start();
            let interval = Duration::from_secs(1);
            let mut s = Schedule::new(seed, &id(1), interval, now);
            for _ in 0..1000 {
                s.finished(s.due());
            }
            let total = s.due() - now;
            prop_assert!(total > interval * 998 && total < interval * 1002, "{:?}", total);
        }
    }
}
