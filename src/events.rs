//! The journal: every transition is an event with an id, a time and the id of the event that caused it.
//!
//! Owned by the steering core and pure: times are handed in. Bounded: the oldest events make room. It must not log or
//! do I/O; whoever drives the core takes the fresh events with [`Journal::take_fresh`] and writes them to the log.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

/// How many events are remembered.
const CAPACITY: usize = 4096;

/// Identifies an event for the life of the process; later events have larger ids. 0 is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId(pub u64);

impl EventId {
    pub const NONE: EventId = EventId(0);
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of thing happened: the closed set that logs and tests match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    ConfigurationApplied,
    BackendUp,
    BackendDown,
    /// Its results are missing: nothing is known of it any more.
    CheckStale,
    CheckFresh,
    /// An agent changed what its backend may get, not its health.
    AgentSaid,
    ServiceShort,
    ServiceWhole,
    PlaneStalled,
    PlaneTurning,
    VipChanged,
    UpdateSent,
    UpdateAcknowledged,
    PeerUp,
    PeerDown,
    PeerNote,
    BfdUp,
    BfdDown,
    Draining,
    Undrained,
    Released,
    TrafficEnded,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::ConfigurationApplied => "configuration_applied",
            EventKind::BackendUp => "backend_up",
            EventKind::BackendDown => "backend_down",
            EventKind::CheckStale => "check_stale",
            EventKind::CheckFresh => "check_fresh",
            EventKind::AgentSaid => "agent_said",
            EventKind::ServiceShort => "service_short",
            EventKind::ServiceWhole => "service_whole",
            EventKind::PlaneStalled => "plane_stalled",
            EventKind::PlaneTurning => "plane_turning",
            EventKind::VipChanged => "vip_changed",
            EventKind::UpdateSent => "update_sent",
            EventKind::UpdateAcknowledged => "update_acknowledged",
            EventKind::PeerUp => "peer_up",
            EventKind::PeerDown => "peer_down",
            EventKind::PeerNote => "peer_note",
            EventKind::BfdUp => "bfd_up",
            EventKind::BfdDown => "bfd_down",
            EventKind::Draining => "draining",
            EventKind::Undrained => "undrained",
            EventKind::Released => "released",
            EventKind::TrafficEnded => "traffic_ended",
        }
    }

    /// Whether an operator would want to be told even at log level `warn`.
    pub fn is_bad_news(self) -> bool {
        match self {
            EventKind::BackendDown
            | EventKind::CheckStale
            | EventKind::ServiceShort
            | EventKind::PlaneStalled
            | EventKind::PeerDown
            | EventKind::BfdDown => true,
            EventKind::ConfigurationApplied
            | EventKind::BackendUp
            | EventKind::CheckFresh
            | EventKind::AgentSaid
            | EventKind::ServiceWhole
            | EventKind::PlaneTurning
            | EventKind::VipChanged
            | EventKind::UpdateSent
            | EventKind::UpdateAcknowledged
            | EventKind::PeerUp
            | EventKind::PeerNote
            | EventKind::BfdUp
            | EventKind::Draining
            | EventKind::Undrained
            | EventKind::Released
            | EventKind::TrafficEnded => false,
        }
    }
}

/// One transition. `subject` is what changed (`contrail-api/10.84.14.1`, a VIP, a peer); `text` says how, in words.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: EventId,
    pub at: Instant,
    pub kind: EventKind,
    pub subject: String,
    pub text: String,
    pub cause: EventId,
    /// Time between the event at the root of the chain of causes and this one, milliseconds.
    pub since_root_ms: f64,
}

/// The bounded ring of events. Single owner; see the module's text.
#[derive(Debug, Default)]
pub struct Journal {
    last: u64,
    ring: VecDeque<Event>,
    fresh: usize,
}

impl Journal {
    /// Records an event and returns its id, to be named as the cause of what follows from it.
    pub fn record(
        &mut self,
        at: Instant,
        kind: EventKind,
        subject: impl Into<String>,
        text: impl Into<String>,
        cause: EventId,
    ) -> EventId {
        self.last += 1;
        let id = EventId(self.last);
        let root = self.root_of(cause).map_or(at, |event| event.at);
        let since_root_ms = at.saturating_duration_since(root).as_secs_f64() * 1e3;
        if self.ring.len() == CAPACITY {
            self.ring.pop_front();
        }
        self.ring.push_back(Event {
            id,
            at,
            kind,
            subject: subject.into(),
            text: text.into(),
            cause,
            since_root_ms,
        });
        self.fresh = (self.fresh + 1).min(CAPACITY);
        id
    }

    /// The events recorded since this was last called, oldest first.
    pub fn take_fresh(&mut self) -> Vec<Event> {
        let from = self.ring.len() - self.fresh.min(self.ring.len());
        self.fresh = 0;
        self.ring.range(from..).cloned().collect()
    }

    /// All that is remembered, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.ring.iter()
    }

    /// What is remembered of the events after `id`, oldest first.
    pub fn after(&self, id: EventId) -> Vec<Event> {
        let from = self.ring.partition_point(|event| event.id <= id);
        self.ring.range(from..).cloned().collect()
    }

    /// The event `id`, while it is remembered.
    pub fn find(&self, id: EventId) -> Option<&Event> {
        let oldest = self.ring.front()?.id.0;
        self.ring.get(usize::try_from(id.0.checked_sub(oldest)?).ok()?)
    }

    /// The first cause of `id` that is still remembered. Ends because a cause is always older than its effect.
    fn root_of(&self, id: EventId) -> Option<&Event> {
        let mut event = self.find(id)?;
        while let Some(cause) = self.find(event.cause) {
            event = cause;
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn origin() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        Instant::now()
    }

    #[test]
    fn the_time_since_the_root_cause_is_carried_along_the_chain() {
        let (mut journal, t0) = (Journal::default(), origin());
        let down = journal.record(t0, EventKind::BackendDown, "api/a", "refused", EventId::NONE);
        let short = journal.record(t0, EventKind::ServiceShort, "api", "0 of 1", down);
        let sent =
            journal.record(t0 + Duration::from_millis(2), EventKind::UpdateSent, "tor-a", "withdrawn", short);
        assert_eq!(journal.find(sent).map(|e| e.since_root_ms), Some(2.0));
    }

    #[test]
    fn a_full_ring_forgets_the_oldest_and_still_finds_the_newest() {
        let (mut journal, t0) = (Journal::default(), origin());
        let first = journal.record(t0, EventKind::ConfigurationApplied, "", "", EventId::NONE);
        let mut last = first;
        for _ in 0..CAPACITY {
            last = journal.record(t0, EventKind::PeerNote, "", "", first);
        }
        assert!(journal.find(first).is_none());
        assert_eq!(journal.find(last).map(|e| e.id), Some(last));
        assert_eq!(journal.take_fresh().len(), CAPACITY);
        assert!(journal.take_fresh().is_empty());
    }
}
