//! What the BGP peers report, written into the journal: the links of the chain after the decision.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bgp_speaker::PeerEvent;
use ipnet::IpNet;

use super::Steer;
use crate::events::{EventId, EventKind};

/// A note is news again after so long.
const NOTE_AGAIN: Duration = Duration::from_secs(60);
/// Notes remembered per peer; one that says something new each time is heard so often a minute.
const NOTES: usize = 8;

/// The latest notes about one peer.
#[derive(Debug, Default)]
struct Notes(VecDeque<(String, Instant)>);

impl Notes {
    /// Whether `text` has not been noted lately, and there is room for it. Then it is noted.
    fn is_news(&mut self, text: &str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < NOTE_AGAIN);
        if self.0.len() == NOTES || self.0.iter().any(|(known, _)| known == text) {
            return false;
        }
        self.0.push_back((text.to_owned(), now));
        true
    }
}

/// What one peer said and was told lately.
#[derive(Debug, Default)]
pub struct Heard {
    notes: Notes,
    /// The event of its session's beginning.
    up: EventId,
    /// The version of the newest routes it was sent, and the events of that.
    sent: (u64, Vec<EventId>),
}

impl Steer {
    pub fn peer_event(&mut self, event: &PeerEvent, now: Instant) {
        match event {
            PeerEvent::Up { peer, negotiated, local, remote } => {
                let text = format!(
                    "Established from {local} to {remote}, router id {}, hold time {} s",
                    negotiated.remote_router_id, negotiated.hold_time
                );
                let up = self.journal.record(now, EventKind::PeerUp, peer.as_str(), text, EventId::NONE);
                self.peers.insert(peer.clone(), Heard { up, ..Heard::default() });
            }
            PeerEvent::Down { peer, reason } => {
                let text = format!("session lost: {reason}");
                self.journal.record(now, EventKind::PeerDown, peer.as_str(), text, EventId::NONE);
            }
            PeerEvent::AttemptFailed { peer, reason } => {
                self.note(peer, format!("no session: {reason}"), now);
            }
            PeerEvent::RefreshRequested { peer, family } => {
                self.note(peer, format!("asked for all {family} routes again"), now);
            }
            // The driver shows them to `others`.
            PeerEvent::GracefulPathsChanged { .. } => {}
            PeerEvent::BfdUp { peer } => {
                self.journal.record(now, EventKind::BfdUp, peer.as_str(), "BFD is Up", EventId::NONE);
            }
            PeerEvent::BfdDown { peer, reason } => {
                let text = format!("BFD went down: {reason}");
                self.journal.record(now, EventKind::BfdDown, peer.as_str(), text, EventId::NONE);
            }
            PeerEvent::TaskFailed { peer, text } => {
                let text = format!("its task failed and is started again: {text}");
                self.journal.record(now, EventKind::PeerNote, peer.as_str(), text, EventId::NONE);
            }
            PeerEvent::Sent { peer, version, cause, announced, withdrawn, since_decided } => {
                self.sent(peer, (*version, *cause, *since_decided), announced, withdrawn, now);
            }
            PeerEvent::Acked { peer, version, since_decided, cause, .. } => {
                let sent = self.peers.get(peer).filter(|heard| heard.sent.0 == *version);
                let (decision, at) = self.decision(EventId(*cause), *since_decided, now);
                let causes = sent.map_or_else(|| vec![decision], |heard| heard.sent.1.clone());
                for cause in causes {
                    let text = "the peer's TCP has it";
                    // Not before it was sent, which may be long after the decision: to a session that is new.
                    let at = self.journal.find(cause).map_or(at, |sent| at.max(sent.at));
                    self.journal.record(at, EventKind::UpdateAcknowledged, peer.as_str(), text, cause);
                }
            }
        }
    }

    /// An UPDATE was written: an event for each decision that it carries out.
    fn sent(
        &mut self,
        peer: &config::Name,
        (version, cause, since_decided): (u64, u64, Duration),
        announced: &[IpNet],
        withdrawn: &[IpNet],
        now: Instant,
    ) {
        let up = self.peers.get(peer).map_or(EventId::NONE, |heard| heard.up);
        let cause_of = |prefix: &IpNet| {
            let cause = self.route_causes.get(prefix).copied().unwrap_or(EventId(cause));
            cause.max(up) // what is older than the session is sent because of the session
        };
        let mut changes: BTreeMap<EventId, (Vec<IpNet>, Vec<IpNet>)> = BTreeMap::new();
        for prefix in announced {
            changes.entry(cause_of(prefix)).or_default().0.push(*prefix);
        }
        for prefix in withdrawn {
            changes.entry(cause_of(prefix)).or_default().1.push(*prefix);
        }
        let mut events = Vec::new();
        for (cause, (announced, withdrawn)) in changes {
            let text = format!("UPDATE written: {}", change(&announced, &withdrawn));
            let at = if cause == up { now } else { self.decision(cause, since_decided, now).1 };
            events.push(self.journal.record(at, EventKind::UpdateSent, peer.as_str(), text, cause));
        }
        self.peers.entry(peer.clone()).or_default().sent = (version, events);
    }

    /// Writes down what a peer can cause at will, unless it was said lately; `bgp` counts them all.
    fn note(&mut self, peer: &config::Name, text: String, now: Instant) {
        if self.peers.entry(peer.clone()).or_default().notes.is_news(&text, now) {
            self.journal.record(now, EventKind::PeerNote, peer.as_str(), text, EventId::NONE);
        }
    }

    /// The deciding event, and when what followed it by `since_decided` happened.
    fn decision(&self, cause: EventId, since_decided: Duration, now: Instant) -> (EventId, Instant) {
        let at = self.journal.find(cause).map_or(now, |event| (event.at + since_decided).min(now));
        (cause, at)
    }
}

fn change(announced: &[IpNet], withdrawn: &[IpNet]) -> String {
    let list = |what: &str, nets: &[IpNet]| {
        let names: Vec<String> = nets.iter().map(IpNet::to_string).collect();
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let parts: Vec<String> =
        [list("withdrawn", withdrawn), list("announced", announced)].into_iter().flatten().collect();
    parts.join("; ")
}
