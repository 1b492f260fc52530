//! Rise/fall: one backend's health as a counter over its check results. Pure; knows nothing of targets or words.
#![deny(clippy::disallowed_methods)]

use std::time::Instant;

/// Whether a backend is believed to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Not checked yet; gets no traffic.
    Unknown,
    Up,
    Down,
}

impl Health {
    pub fn is_up(self) -> bool {
        self == Health::Up
    }
    /// Whether anything has been found out yet.
    pub fn is_known(self) -> bool {
        self != Health::Unknown
    }
    /// A word for logs, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// A conclusive check result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    Good,
    Bad,
}

/// Equal results in a row, up to and including the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streak {
    pub kind: Observation,
    pub length: u32,
    /// When the first of them came.
    pub since: Instant,
}

/// The counter. The first result decides at once; afterwards `rise` good results in a row raise what is down and `fall`
/// bad ones in a row lower what is up.
#[derive(Debug, Clone)]
pub(crate) struct RiseFall {
    health: Health,
    streak: Option<Streak>,
}

impl RiseFall {
    pub fn new(health: Health) -> Self {
        RiseFall { health, streak: None }
    }

    pub fn health(&self) -> Health {
        self.health
    }

    pub fn streak(&self) -> Option<Streak> {
        self.streak
    }

    /// Takes in one result; answers whether the health changed.
    pub fn observe(&mut self, kind: Observation, rise: u8, fall: u8, now: Instant) -> bool {
        let streak = match self.streak {
            Some(s) if s.kind == kind => Streak { length: s.length.saturating_add(1), ..s },
            Some(_) | None => Streak { kind, length: 1, since: now },
        };
        self.streak = Some(streak);
        let before = self.health;
        self.health = match (before, kind) {
            (Health::Unknown, Observation::Good) => Health::Up,
            (Health::Unknown, Observation::Bad) => Health::Down,
            (Health::Down, Observation::Good) if streak.length >= u32::from(rise) => Health::Up,
            (Health::Up, Observation::Bad) if streak.length >= u32::from(fall) => Health::Down,
            (Health::Up | Health::Down, Observation::Good | Observation::Bad) => before,
        };
        self.health != before
    }

    /// Sets the health for another reason than a check; the next streak starts from nothing.
    pub fn force(&mut self, health: Health) {
        *self = RiseFall::new(health);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Instant {
        crate::testing::start()
    }

    #[test]
    fn the_first_result_decides_at_once() {
        for (kind, expected) in [(Observation::Good, Health::Up), (Observation::Bad, Health::Down)] {
            let mut state = RiseFall::new(Health::Unknown);
            assert!(state.observe(kind, 2, 3, now()));
            assert_eq!(state.health(), expected);
        }
    }

    #[test]
    fn the_result_that_decided_first_counts_towards_no_later_change() {
        let mut state = RiseFall::new(Health::Unknown);
        state.observe(Observation::Bad, 2, 3, now());
        assert!(!state.observe(Observation::Good, 2, 3, now()));
        assert!(state.observe(Observation::Good, 2, 3, now()));
    }

    #[test]
    fn one_contrary_result_starts_the_count_again() {
        let mut state = RiseFall::new(Health::Up);
        for kind in
            [Observation::Bad, Observation::Bad, Observation::Good, Observation::Bad, Observation::Bad]
        {
            assert!(!state.observe(kind, 2, 3, now()));
        }
        assert!(state.observe(Observation::Bad, 2, 3, now()));
    }

    #[test]
    fn forcing_forgets_the_streak() {
        let mut state = RiseFall::new(Health::Down);
        state.observe(Observation::Good, 2, 3, now());
        state.force(Health::Down);
        assert!(!state.observe(Observation::Good, 2, 3, now()));
    }

    proptest! {
        /// Against the definition: the health after n results is that of the last run that was long enough.
        #[test]
        fn health_never_flips_early_and_never_late(
            rise in 1u8..6, fall in 1u8..6, good in proptest::collection::vec(any::<bool>(), 1..200)
        ) {
            let mut state = RiseFall::new(Health::Unknown);
            let mut model = Health::Unknown;
            for (i, &ok) in good.iter().enumerate() {
                let run = good[..=i].iter().rev().take_while(|&&g| g == ok).count();
                model = match (model, ok) {
                    (Health::Unknown, true) => Health::Up,
                    (Health::Unknown, false) => Health::Down,
                    (Health::Down, true) if run >= usize::from(rise) => Health::Up,
                    (Health::Up, false) if run >= usize::from(fall) => Health::Down,
                    (same, _) => same,
                };
                let kind = if ok { Observation::Good } else { Observation::Bad };
                let before = state.health();
                let changed = state.observe(kind, rise, fall, now());
                prop_assert_eq!(state.health(), model);
                prop_assert_eq!(changed, before != model);
            }
        }
    }
}
