//! The intervals of one session (RFC 5880 §6.8.2–§6.8.4): what we want, what we have told the neighbor, what holds, and the
//! Poll Sequence that leads from one to the next (§6.5).
//!
//! Pure. Decides nothing about states.

use std::time::Duration;

/// bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Intervals {
    pub(super) min_tx: Duration,
    pub(super) min_rx: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    Idle,
    /// Our periodic packets carry the Poll bit, until a Final comes.
    Asking,
    /// It came. Copies of it may still be under way and must not end the next sequence, so that waits for a packet
    /// without one.
    Settling,
}

#[derive(Debug)]
pub(super) struct Negotiation {
    wanted: Intervals,
    /// What our packets say.
    advertised: Intervals,
    /// What we go by.
    effective: Intervals,
    poll: Poll,
}

impl Negotiation {
    pub(super) fn new(intervals: Intervals) -> Self {
        Negotiation { wanted: intervals, advertised: intervals, effective: intervals, poll: Poll::Idle }
    }

    pub(super) fn advertised(&self) -> Intervals {
        self.advertised
    }

    pub(super) fn effective(&self) -> Intervals {
        self.effective
    }

    pub(super) fn is_polling(&self) -> bool {
        self.poll == Poll::Asking
    }

    /// Changes what we want. One Poll Sequence at a time (§6.5): while the session is Up, a change during one waits for
    /// its end. While it is not Up nothing depends on the neighbor's consent, and the change holds at once.
    pub(super) fn want(&mut self, intervals: Intervals, is_up: bool) {
        self.wanted = intervals;
        if self.poll == Poll::Idle || !is_up {
            self.ask(is_up);
        }
    }

    /// A packet of the neighbor, with the Final bit or without.
    pub(super) fn heard(&mut self, is_final: bool, is_up: bool) {
        match (self.poll, is_final) {
            (Poll::Asking, true) => {
                self.effective = self.advertised;
                self.poll = Poll::Settling;
            }
            (Poll::Settling, false) => {
                self.poll = Poll::Idle;
                self.ask(is_up);
            }
            (Poll::Idle, _) | (Poll::Asking, false) | (Poll::Settling, true) => {}
        }
    }

    /// Tells the neighbor what we want, if that is new to it.
    fn ask(&mut self, is_up: bool) {
        if self.advertised == self.wanted {
            return;
        }
        self.advertised = self.wanted;
        self.poll = Poll::Asking;
        let Intervals { min_tx, min_rx } = self.advertised;
        // §6.8.3: while Up, sending less often, and expecting to hear more often, wait for the neighbor's Final.
        self.effective = if is_up {
            Intervals { min_tx: self.effective.min_tx.min(min_tx), min_rx: self.effective.min_rx.max(min_rx) }
        } else {
            self.advertised
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(min_tx: u64, min_rx: u64) -> Intervals {
        Intervals { min_tx: Duration::from_millis(min_tx), min_rx: Duration::from_millis(min_rx) }
    }

    #[test]
    fn while_up_sending_less_and_expecting_more_wait_for_the_final() {
        let mut negotiation = Negotiation::new(intervals(300, 300));
        negotiation.want(intervals(500, 100), true);
        assert!(negotiation.is_polling());
        assert_eq!(negotiation.advertised(), intervals(500, 100));
        assert_eq!(negotiation.effective(), intervals(300, 300));
        negotiation.heard(false, true);
        assert_eq!(negotiation.effective(), intervals(300, 300), "no Final yet");
        negotiation.heard(true, true);
        assert!(!negotiation.is_polling());
        assert_eq!(negotiation.effective(), intervals(500, 100));
    }

    #[test]
    fn while_up_sending_more_and_expecting_less_hold_at_once() {
        let mut negotiation = Negotiation::new(intervals(300, 300));
        negotiation.want(intervals(100, 500), true);
        assert!(negotiation.is_polling());
        assert_eq!(negotiation.effective(), intervals(100, 500));
    }

    #[test]
    fn while_not_up_every_change_holds_at_once_and_is_polled_for() {
        let mut negotiation = Negotiation::new(intervals(100, 300));
        negotiation.want(intervals(1000, 100), false);
        assert!(negotiation.is_polling());
        assert_eq!(negotiation.effective(), intervals(1000, 100));
    }

    #[test]
    fn a_change_during_a_poll_sequence_waits_for_its_end_and_for_a_packet_without_final() {
        let mut negotiation = Negotiation::new(intervals(300, 300));
        negotiation.want(intervals(500, 300), true);
        negotiation.want(intervals(700, 300), true);
        assert_eq!(negotiation.advertised(), intervals(500, 300));
        negotiation.heard(true, true);
        assert_eq!(negotiation.effective(), intervals(500, 300));
        negotiation.heard(true, true);
        assert!(!negotiation.is_polling(), "the same Final once more ends nothing");
        negotiation.heard(false, true);
        assert!(negotiation.is_polling());
        assert_eq!(
            (negotiation.advertised(), negotiation.effective()),
            (intervals(700, 300), intervals(500, 300))
        );
        negotiation.heard(true, true);
        assert_eq!(negotiation.effective(), intervals(700, 300));
    }

    #[test]
    fn without_a_change_there_is_no_poll() {
        let mut negotiation = Negotiation::new(intervals(300, 300));
        negotiation.want(intervals(300, 300), true);
        assert!(!negotiation.is_polling());
        negotiation.heard(true, true);
        assert_eq!(negotiation.effective(), intervals(300, 300), "a Final that nobody asked for");
    }
}
