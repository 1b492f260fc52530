//! The dead-man's switch: a process whose steering hangs must not stay announced.
//!
//! The steering task withdraws whatever else hangs (checks, data plane). Nobody would withdraw for the steering task
//! itself, nor for the runtime it runs on. So a thread of its own, which nothing else in the process can block, looks
//! whether the task still turns, and ends the process if it does not: the kernel then closes the BGP sessions, and the
//! routers forget the routes. A service manager starts it again.
#![allow(clippy::disallowed_methods, reason = "a driver: it measures how long nothing happened")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A steering task that has not turned for this long hangs. It turns every 500 ms at least.
pub const BOUND: Duration = Duration::from_secs(4);
/// Between looks.
const LOOK: Duration = Duration::from_millis(250);
/// A look that comes so late means that all of the process was frozen: that is no news about the task.
const ASLEEP: Duration = Duration::from_secs(1);

/// What the task beats.
#[derive(Debug, Clone, Default)]
pub struct Heart(Arc<AtomicU64>);

impl Heart {
    /// The task turns.
    pub fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Watches until it is dropped.
#[must_use = "dropped, it watches no more"]
pub struct Watchdog {
    _watching: Sender<()>,
}

impl Watchdog {
    /// Calls `hangs` once the heart has not beaten for [`BOUND`].
    pub fn watch(heart: Heart, hangs: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (watching, ended) = channel::<()>();
        let look = move || {
            let mut patience = Patience::new(Instant::now());
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if patience.is_over(heart.0.load(Relaxed), Instant::now()) {
                    hangs();
                    return;
                }
            }
        };
        std::thread::Builder::new().name("watchdog".into()).spawn(look)?;
        Ok(Watchdog { _watching: watching })
    }
}

/// Ends the process without asking anybody: whoever could be asked may hang.
pub fn end_process() {
    eprintln!(
        "contrail-lb: the steering task has not turned for {BOUND:?}: ending the process, so that the routers forget its routes"
    );
    std::process::abort();
}

/// How long the same beat has been seen. Pure.
#[derive(Debug)]
struct Patience {
    beat: u64,
    since: Instant,
    looked: Instant,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Patience { beat: 0, since: now, looked: now }
    }

    fn is_over(&mut self, beat: u64, now: Instant) -> bool {
        let was_asleep = now.saturating_duration_since(self.looked) > ASLEEP;
        self.looked = now;
        if beat != self.beat || was_asleep {
            (self.beat, self.since) = (beat, now);
        }
        now.saturating_duration_since(self.since) > BOUND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every [`LOOK`] for `time`; whether patience was over at any of them.
    fn look(patience: &mut Patience, now: &mut Instant, time: Duration, beat: impl Fn() -> u64) -> bool {
        let end = *now + time;
        let mut is_over = false;
        while *now < end {
            *now += LOOK;
            is_over |= patience.is_over(beat(), *now);
        }
        is_over
    }

    #[test]
    fn patience_is_over_when_the_same_beat_was_seen_for_the_bound() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now);
        assert!(!look(&mut patience, &mut now, BOUND, || 0));
        assert!(look(&mut patience, &mut now, LOOK, || 0));
    }

    #[test]
    fn each_beat_starts_it_anew() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now);
        for beat in 1..10 {
            assert!(!look(&mut patience, &mut now, BOUND - LOOK, || beat));
        }
    }

    #[test]
    fn a_process_that_was_frozen_as_a_whole_gets_the_whole_bound_again() {
        let mut now = Instant::now();
        let mut patience = Patience::new(now);
        assert!(!look(&mut patience, &mut now, BOUND - LOOK, || 0));
        now += Duration::from_secs(3600);
        assert!(!look(&mut patience, &mut now, BOUND - LOOK, || 0));
        assert!(look(&mut patience, &mut now, Duration::from_secs(1), || 0));
    }
}
