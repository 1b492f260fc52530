//! When a target is due: a regular grid with a phase of its own, and a little jitter around it. Pure and seeded.
//!
//! The grid is laid over wall time, so that the hosts of one cluster share it: a backend's name shifts it, so that one host
//! does not probe all its backends in the same instant, and the host's seed (its router id) times the golden ratio shifts
//! it again. Multiples of the golden ratio spread evenly over an interval, so that hosts whose router ids follow on
//! each other probe a backend in turn, as far as their clocks agree; other router ids, or clocks that do not, spread as
//! chance has it. Jitter does not add up: the mean rate is exactly one check per interval. A check that outlasts its
//! interval is followed by the next one at once, by one only.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use config::BackendId;

/// First checks of all targets come within this, so that a start or reload is decided fast without a burst.
const FIRST_SPREAD: Duration = Duration::from_millis(200);
/// Jitter is at most this part of an interval to either side.
const JITTER_PART: u32 = 16;
/// Below this an interval is taken as this, so that the grid always advances.
const SHORTEST: Duration = Duration::from_millis(1);
/// 2^64 divided by the golden ratio: how far one router id is from the next, in 2^64ths of an interval.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One instant on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub now: Instant,
    /// Since the Unix epoch.
    pub wall: Duration,
}

/// When one target is due; see the module's text.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    origin: Clock,
    /// In 2^64ths of an interval.
    phase: u64,
    /// When the latest attempt was due.
    previous: Option<Instant>,
    due: Instant,
    random: SplitMix64,
}

impl Schedule {
    pub fn new(seed: u64, id: &BackendId, interval: Duration, origin: Clock) -> Self {
        let interval = interval.max(SHORTEST);
        let name = fnv1a(id);
        let mut random = SplitMix64(seed ^ name);
        let due = origin.now + interval.min(FIRST_SPREAD).mul_f64(random.fraction());
        let phase = name.wrapping_add(seed.wrapping_mul(GOLDEN));
        Schedule { interval, origin, phase, previous: None, due, random }
    }

    /// When the next attempt starts.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The attempt that was due has ended.
    pub fn finished(&mut self, now: Instant) {
        self.previous = Some(self.due);
        self.due = self.planned(self.due).max(now);
    }

    /// From now on so often. What is due already comes no later.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        self.interval = interval.max(SHORTEST);
        if let Some(previous) = self.previous {
            self.due = self.due.min(self.planned(previous).max(now));
        }
    }

    /// The first point of the grid at least half an interval after `previous`, with its jitter.
    fn planned(&mut self, previous: Instant) -> Instant {
        let jitter = self.interval / JITTER_PART;
        let planned =
            self.grid_from(previous + self.interval / 2) + (jitter * 2).mul_f64(self.random.fraction());
        planned.checked_sub(jitter).unwrap_or(planned)
    }

    /// The first point of the grid at `from` or later.
    fn grid_from(&self, from: Instant) -> Instant {
        let interval = self.interval.as_nanos();
        let phase = (u128::from(self.phase) * interval) >> 64;
        let wall = (self.origin.wall + from.saturating_duration_since(self.origin.now)).as_nanos();
        let since_point = (wall + interval - phase) % interval;
        let wait = (interval - since_point) % interval;
        from + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

/// Sebastiano Vigna's generator: eight bytes of state, good enough to spread checks.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
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

/// FNV-1a over `service/backend`, stirred: the same phase in every build, unlike the standard library's hasher. FNV's own
/// high bits, which make the phase, hardly differ between names that differ in their last letter.
fn fnv1a(id: &BackendId) -> u64 {
    let bytes = id.service.as_str().bytes().chain([b'/']).chain(id.backend.as_str().bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    SplitMix64(hash).next()
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

    /// Some afternoon.
    fn origin() -> Clock {
        Clock { now: crate::testing::start(), wall: Duration::from_millis(1_795_000_000_123) }
    }

    #[test]
    fn first_checks_come_at_once_but_not_together() {
        let origin = origin();
        let mut first: Vec<_> = (0..64)
            .map(|n| Schedule::new(1, &id(n), Duration::from_secs(2), origin).due() - origin.now)
            .collect();
        first.sort();
        assert!(first.iter().all(|&d| d < FIRST_SPREAD));
        let in_first_half = first.iter().filter(|&&d| d < FIRST_SPREAD / 2).count();
        assert!((16..=48).contains(&in_first_half), "{in_first_half} of 64 in the first half");
        first.dedup();
        assert_eq!(first.len(), 64, "no two at the same instant");
    }

    /// When within an interval a host probes a backend, once it has settled; without jitter, as a part of the interval.
    fn phase(seed: u64, n: usize, origin: Clock) -> f64 {
        let interval = Duration::from_secs(2);
        let s = Schedule::new(seed, &id(n), interval, origin);
        let at = s.grid_from(origin.now) - origin.now + origin.wall;
        (at.as_nanos() % interval.as_nanos()) as f64 / interval.as_nanos() as f64
    }

    /// The longest time, as a part of the interval, in which none of these probes comes.
    fn widest_gap(mut phases: Vec<f64>) -> f64 {
        phases.sort_by(f64::total_cmp);
        let first = phases[0];
        phases.push(first + 1.0);
        phases.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max)
    }

    #[test]
    fn hosts_with_neighbouring_router_ids_probe_a_backend_in_turn_whenever_they_were_started() {
        let origin = origin();
        for (hosts, bound) in [(2, 0.62), (3, 0.39), (5, 0.24), (8, 0.15)] {
            for backend in 0..10 {
                let started_at = |n: u64| Clock {
                    now: origin.now + Duration::from_millis(n * 777),
                    wall: origin.wall + Duration::from_millis(n * 777),
                };
                let of_hosts = (0..hosts).map(|n| phase(0x0A54_0E0B + n, backend, started_at(n))).collect();
                assert!(widest_gap(of_hosts) < bound, "{hosts} hosts, backend {backend}");
            }
        }
    }

    #[test]
    fn a_host_spreads_its_backends_over_the_interval() {
        let of_backends = (0..256).map(|n| phase(0x0A54_0E0B, n, origin())).collect();
        assert!(widest_gap(of_backends) < 0.05);
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let origin = origin();
        let times = || {
            let mut s = Schedule::new(7, &id(3), Duration::from_secs(1), origin);
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
        let interval = Duration::from_millis(200);
        let mut s = Schedule::new(7, &id(3), interval, origin());
        let end = s.due() + interval * 10;
        s.finished(end);
        assert_eq!(s.due(), end);
        s.finished(end);
        assert!(s.due() > end + interval / 3);
    }

    #[test]
    fn a_shorter_interval_brings_the_next_check_forward_and_a_longer_one_puts_nothing_off() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut s = Schedule::new(7, &id(3), minute, origin());
        s.finished(s.due());
        let (before, now) = (s.due(), s.due() - minute / 3);
        s.set_interval(second, now);
        assert!(s.due() >= now && s.due() <= now + second * 2, "{:?}", s.due() - now);
        let soon = s.due();
        s.set_interval(minute, now);
        assert_eq!(s.due(), soon);
        s.finished(soon);
        assert!(s.due() > soon + minute / 3 && s.due() < before + minute * 2);
    }

    #[test]
    fn the_first_check_stays_where_it_is_whatever_the_interval_becomes() {
        let mut s = Schedule::new(7, &id(3), Duration::from_secs(2), origin());
        let first = s.due();
        s.set_interval(Duration::from_millis(10), origin().now);
        assert_eq!(s.due(), first);
    }

    proptest! {
        #[test]
        fn no_target_starves_and_none_is_hammered(
            seed in any::<u64>(),
            interval_ms in 1u64..60_000,
            took in proptest::collection::vec(0.0f64..3.0, 1..100),
        ) {
            let origin = origin();
            let interval = Duration::from_millis(interval_ms);
            let mut s = Schedule::new(seed, &id(1), interval, origin);
            prop_assert!(s.due() - origin.now <= FIRST_SPREAD.min(interval));
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
            let origin = origin();
            let interval = Duration::from_secs(1);
            let mut s = Schedule::new(seed, &id(1), interval, origin);
            for _ in 0..1000 {
                s.finished(s.due());
            }
            let total = s.due() - origin.now;
            prop_assert!(total > interval * 998 && total < interval * 1002, "{:?}", total);
        }
    }
}
