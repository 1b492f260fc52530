//! Holds back a VIP that comes and goes, after RFC 2439 but on our own transitions: fast down, slower up each time. Pure.
//!
//! Each time its route is made worse by its health counts one, in however many steps until it is made better again; what has counted halves every `half_life`. The first
//! costs nothing. From the second on, the time that a VIP must be fit before its route is made better doubles with each,
//! up to `max_delay`. A host that is known to be the last with the address is not held back: `steer::others` sees to that.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use config::Flap;

/// What is doubled where `announce_delay` is shorter.
const LEAST_BASE: Duration = Duration::from_secs(1);
/// Beyond it more makes no difference: half an hour doubled so often is years.
const MAX_PENALTY: f64 = 32.0;

/// One VIP's record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Governor {
    penalty: f64,
    /// When `penalty` was that.
    at: Option<Instant>,
}

impl Governor {
    /// The VIP's route was made worse.
    pub fn lowered(&mut self, flap: &Flap, now: Instant) {
        self.penalty = (self.penalty(flap, now) + 1.0).min(MAX_PENALTY);
        self.at = Some(now);
    }

    /// How often it was made worse lately.
    pub fn penalty(&self, flap: &Flap, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let half_lives =
            now.saturating_duration_since(at).as_secs_f64() / flap.half_life.as_secs_f64().max(1e-3);
        self.penalty * (-half_lives).exp2()
    }

    /// How long it must be fit before its route is made better; never shorter than `announce_delay`.
    pub fn delay(&self, announce_delay: Duration, flap: &Flap, now: Instant) -> Duration {
        let doublings = (self.penalty(flap, now) - 1.0).max(0.0);
        if doublings == 0.0 {
            return announce_delay;
        }
        let base = announce_delay.max(LEAST_BASE).as_secs_f64();
        let held = (base * doublings.exp2()).min(flap.max_delay.as_secs_f64());
        announce_delay.max(Duration::from_secs_f64(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAP: Flap = Flap { half_life: Duration::from_secs(60), max_delay: Duration::from_secs(120) };
    const DELAY: Duration = Duration::from_secs(5);

    fn origin() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        Instant::now()
    }

    /// The delay after each of `count` times, `apart` from each other.
    fn delays(count: u32, apart: Duration, flap: &Flap) -> Vec<f64> {
        let (mut governor, start) = (Governor::default(), origin());
        let after = |n| {
            let now = start + apart * n;
            governor.lowered(flap, now);
            governor.delay(DELAY, flap, now).as_secs_f64()
        };
        (0..count).map(after).collect()
    }

    #[test]
    fn the_first_time_costs_nothing_and_each_further_one_doubles_up_to_the_cap() {
        let all = delays(8, Duration::ZERO, &FLAP);
        assert_eq!(all, [5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0, 120.0]);
    }

    #[test]
    fn what_lies_far_apart_is_forgotten() {
        let all = delays(20, Duration::from_secs(600), &FLAP);
        assert!(all.iter().all(|delay| (5.0..5.1).contains(delay)), "{all:?}");
    }

    #[test]
    fn without_a_max_delay_nothing_is_held_back() {
        let flap = Flap { max_delay: Duration::ZERO, ..FLAP };
        assert_eq!(delays(5, Duration::ZERO, &flap), [5.0; 5]);
    }

    #[test]
    fn a_flapping_vip_recovers_its_good_name_with_the_half_life() {
        let (mut governor, start) = (Governor::default(), origin());
        (0..4).for_each(|_| governor.lowered(&FLAP, start));
        assert_eq!(governor.penalty(&FLAP, start + FLAP.half_life), 2.0);
        assert_eq!(governor.delay(DELAY, &FLAP, start + FLAP.half_life), 2 * DELAY);
    }

    #[test]
    fn even_a_thousand_times_are_no_trouble() {
        let all = delays(1000, Duration::ZERO, &FLAP);
        assert_eq!(all.last(), Some(&120.0));
    }
}
