//! Tells the chain of events behind something: from the first cause to the last effect. Pure: reads the journal.

use std::collections::BTreeSet;

use crate::events::{Event, EventId, EventKind, Journal};

/// The chain around one event, oldest first.
#[derive(Debug, Clone)]
pub struct Chain {
    /// What was asked about.
    pub subject: String,
    pub events: Vec<Event>,
    /// Its first cause is older than what is remembered.
    pub is_cut: bool,
    /// Of a VIP: where it is now, and why.
    pub standing: Option<String>,
}

/// Why `subject` (a VIP, `SERVICE/BACKEND`, a service or a peer) is as it is: the chain of its newest change. `None`:
/// nothing about it is remembered.
pub fn why(journal: &Journal, subject: &str) -> Option<Chain> {
    let about = |event: &&Event| event.subject == subject && is_change(event.kind);
    let newest = journal.iter().rev().find(about)?.id;
    let mut ids = BTreeSet::new();
    let mut causes = vec![newest];
    let mut is_cut = false;
    while let Some(event) = causes.pop().filter(|id| *id != EventId::NONE) {
        match journal.find(event) {
            Some(found) => causes.push(found.cause),
            None => is_cut = true,
        }
        ids.insert(event);
    }
    // An effect is younger than its cause: one pass finds them all.
    let mut of_newest = BTreeSet::from([newest]);
    for event in journal.iter().filter(|event| event.id > newest) {
        if of_newest.contains(&event.cause) {
            of_newest.insert(event.id);
        }
    }
    ids.extend(of_newest);
    let events = ids.iter().filter_map(|id| journal.find(*id)).cloned().collect();
    Some(Chain { subject: subject.to_owned(), events, is_cut, standing: None })
}

/// Whether the event says that its subject changed, not only that something was done about it.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::BackendUp
        | EventKind::BackendDown
        | EventKind::CheckStale
        | EventKind::CheckFresh
        | EventKind::AgentSaid
        | EventKind::ServiceShort
        | EventKind::ServiceWhole
        | EventKind::PlaneStalled
        | EventKind::PlaneTurning
        | EventKind::VipChanged
        | EventKind::PeerUp
        | EventKind::PeerDown
        | EventKind::PeerNote
        | EventKind::BfdUp
        | EventKind::BfdDown => true,
        EventKind::ConfigurationApplied
        | EventKind::UpdateSent
        | EventKind::UpdateAcknowledged
        | EventKind::Draining
        | EventKind::Undrained
        | EventKind::Released
        | EventKind::TrafficEnded => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn kinds(chain: &Chain) -> Vec<EventKind> {
        chain.events.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn the_chain_goes_from_the_first_cause_to_the_last_effect_and_leaves_the_rest_out() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        let now = Instant::now();
        let mut journal = Journal::default();
        let mut record = |kind, subject: &str, cause| journal.record(now, kind, subject, "", cause);
        record(EventKind::ConfigurationApplied, "", EventId::NONE);
        let down = record(EventKind::BackendDown, "api/a", EventId::NONE);
        record(EventKind::BackendDown, "api/z", EventId::NONE);
        let short = record(EventKind::ServiceShort, "api", down);
        let vip = record(EventKind::VipChanged, "10.0.0.1", short);
        let sent = record(EventKind::UpdateSent, "tor-a", vip);
        record(EventKind::UpdateSent, "tor-b", EventId::NONE);
        record(EventKind::UpdateAcknowledged, "tor-a", sent);
        let chain = why(&journal, "10.0.0.1").unwrap();
        use EventKind::*;
        let expected = [BackendDown, ServiceShort, VipChanged, UpdateSent, UpdateAcknowledged];
        assert_eq!((kinds(&chain).as_slice(), chain.is_cut), (expected.as_slice(), false));
        assert_eq!(why(&journal, "api/z").unwrap().events.len(), 1);
        assert!(why(&journal, "10.0.0.2").is_none());
    }

    #[test]
    fn a_chain_whose_beginning_is_forgotten_says_so() {
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        let now = Instant::now();
        let mut journal = Journal::default();
        let first = journal.record(now, EventKind::BackendDown, "api/a", "", EventId::NONE);
        while journal.find(first).is_some() {
            journal.record(now, EventKind::PeerNote, "tor-a", "", EventId::NONE);
        }
        journal.record(now, EventKind::VipChanged, "10.0.0.1", "", first);
        assert!(why(&journal, "10.0.0.1").unwrap().is_cut);
    }
}
