//! Timers as a table of deadlines.

use std::time::Instant;

/// Timers of one connection (RFC 4271 §8.1.3, RFC 9687 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    ConnectRetry,
    Hold,
    Keepalive,
    SendHold,
}

/// When each timer expires; absent: it does not run.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    connect_retry: Option<Instant>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    send_hold: Option<Instant>,
}

impl Timers {
    /// In the order in which simultaneous expiries are handled.
    const ALL: [Timer; 4] = [Timer::ConnectRetry, Timer::Hold, Timer::SendHold, Timer::Keepalive];

    fn slot(&mut self, timer: Timer) -> &mut Option<Instant> {
        match timer {
            Timer::ConnectRetry => &mut self.connect_retry,
            Timer::Hold => &mut self.hold,
            Timer::Keepalive => &mut self.keepalive,
            Timer::SendHold => &mut self.send_hold,
        }
    }

    /// Starts or restarts; `None` stops.
    pub(crate) fn set(&mut self, timer: Timer, deadline: Option<Instant>) {
        *self.slot(timer) = deadline;
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::ConnectRetry => self.connect_retry,
            Timer::Hold => self.hold,
            Timer::Keepalive => self.keepalive,
            Timer::SendHold => self.send_hold,
        }
    }

    pub(crate) fn stop_all(&mut self) {
        *self = Timers::default();
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        [self.connect_retry, self.hold, self.keepalive, self.send_hold].into_iter().flatten().min()
    }

    /// Stops and returns a timer that has expired.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Timer> {
        Self::ALL.into_iter().find(|&timer| {
            let slot = self.slot(timer);
            let due = slot.is_some_and(|deadline| deadline <= now);
            if due {
                *slot = None;
            }
            due
        })
    }
}
