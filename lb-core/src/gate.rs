//! When a worker accepts and when it lets clients wait in the kernel's queue. Pure.
//!
//! Two reasons to wait: the plane is full, or the host is out of descriptors or memory. Either way the listeners are
//! taken out of the event loop, so that waiting costs nothing, and the gate is looked at again a little later.

use std::time::Duration;

use crate::wheel::{Tick, Ticks};

/// Other workers' connections end without a word to this one.
const FULL_AGAIN: Duration = Duration::from_millis(20);
const STARVED_AGAIN: Duration = Duration::from_millis(100);
/// Being out of something is over once nothing was missing for this long: the gate opens for every try.
const EPISODE: Duration = Duration::from_secs(5);

/// How many connections there may be, over all workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    pub(crate) open: u64,
    pub(crate) limit: u64,
}

impl Capacity {
    /// Far enough below the limit that listeners do not come and go with every single connection.
    fn has_room(self) -> bool {
        self.open + self.limit / 64 < self.limit
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// At the limit; looked at again at this tick, or when a connection of this worker ends.
    Full(Tick),
    /// Out of descriptors or memory; accepting is tried again at this tick.
    Starved(Tick),
}

impl Gate {
    pub(crate) fn full(now: Tick) -> Self {
        Gate::Full(now.after(Ticks::from(FULL_AGAIN)))
    }

    pub(crate) fn starved(now: Tick) -> Self {
        Gate::Starved(now.after(Ticks::from(STARVED_AGAIN)))
    }

    /// What the gate is at `now`. Changes to [`Gate::Open`] when it is time to accept again.
    pub(crate) fn at(self, now: Tick, capacity: Capacity) -> Self {
        match self {
            Gate::Open => Gate::Open,
            Gate::Full(_) if capacity.has_room() => Gate::Open,
            Gate::Full(until) if now >= until => Gate::full(now),
            Gate::Starved(until) if now >= until => Gate::Open,
            Gate::Full(_) | Gate::Starved(_) => self,
        }
    }

    /// When to look again.
    pub(crate) fn until(self) -> Option<Tick> {
        match self {
            Gate::Open => None,
            Gate::Full(until) | Gate::Starved(until) => Some(until),
        }
    }
}

/// Remembers when the host was last out of descriptors or memory, so that each episode is said once.
#[derive(Debug, Default)]
pub(crate) struct Starvation {
    over: Option<Tick>,
}

impl Starvation {
    /// Takes down that something is missing. Whether an episode begins with it.
    pub(crate) fn note(&mut self, now: Tick) -> bool {
        let over = self.over.replace(now.after(Ticks::from(EPISODE)));
        over.is_none_or(|over| now >= over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 128;

    fn open(open: u64) -> Capacity {
        Capacity { open, limit: LIMIT }
    }

    #[test]
    fn a_full_gate_opens_once_there_is_some_room_not_with_the_first_end() {
        let gate = Gate::full(Tick(0));
        assert_eq!(gate.at(Tick(0), open(LIMIT)), gate);
        assert_eq!(gate.at(Tick(0), open(LIMIT - 1)), gate);
        assert_eq!(gate.at(Tick(0), open(LIMIT - 3)), Gate::Open);
    }

    #[test]
    fn a_limit_of_one_opens_when_that_one_ends() {
        assert_eq!(Gate::full(Tick(0)).at(Tick(0), Capacity { open: 0, limit: 1 }), Gate::Open);
    }

    #[test]
    fn a_gate_that_is_still_full_is_looked_at_again_later() {
        let Some(until) = Gate::full(Tick(0)).until() else { panic!("must be looked at again") };
        assert_eq!(Gate::full(Tick(0)).at(until, open(LIMIT)), Gate::full(until));
    }

    #[test]
    fn each_time_of_starvation_is_told_from_the_tries_within_it() {
        let mut starvation = Starvation::default();
        assert!(starvation.note(Tick(100)));
        for tick in (110..2000).step_by(10) {
            assert!(!starvation.note(Tick(tick)), "one that lasts is said once");
        }
        assert!(starvation.note(Tick(2600)), "the next one is said again");
    }

    #[test]
    fn a_starved_gate_opens_after_its_time_whatever_the_room() {
        let gate = Gate::starved(Tick(0));
        assert_eq!(gate.at(Tick(3), open(0)), gate);
        assert_eq!(gate.at(Tick(11), open(LIMIT)), Gate::Open);
    }
}
