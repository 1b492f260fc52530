//! What the BGP peers report, written into the journal: the links of the chain after the decision.

use std::collections::VecDeque;
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
pub struct Notes(VecDeque<(String, Instant)>);

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

impl Steer {
    pub fn peer_event(&mut self, event: &PeerEvent, now: Instant) {
        let note =
            |kind, peer: &config::Name, text: String| (kind, peer.to_string(), text, EventId::NONE, now);
        let (kind, subject, text, cause, at) = match event {
            PeerEvent::Up { peer, negotiated, local, remote } => {
                self.noted.remove(peer);
                let text = format!(
                    "Established from {local} to {remote}, router id {}, hold time {} s",
                    negotiated.remote_router_id, negotiated.hold_time
                );
                note(EventKind::PeerUp, peer, text)
            }
            PeerEvent::Down { peer, reason } => {
                note(EventKind::PeerDown, peer, format!("session lost: {reason}"))
            }
            PeerEvent::AttemptFailed { peer, reason } => {
                note(EventKind::PeerNote, peer, format!("no session: {reason}"))
            }
            PeerEvent::RefreshRequested { peer, family } => {
                note(EventKind::PeerNote, peer, format!("asked for all {family} routes again"))
            }
            PeerEvent::TaskFailed { peer, text } => {
                note(EventKind::PeerNote, peer, format!("its task failed and is started again: {text}"))
            }
            PeerEvent::Sent { peer, cause, announced, withdrawn, since_decided, .. } => {
                let text = format!("UPDATE written: {}", change(announced, withdrawn));
                let (cause, at) = self.decision(*cause, *since_decided, now);
                (EventKind::UpdateSent, peer.to_string(), text, cause, at)
            }
            PeerEvent::Acked { peer, version, cause, since_decided } => {
                let (decision, at) = self.decision(*cause, *since_decided, now);
                let sent = self.sent.get(peer).filter(|(of, _)| of == version);
                let cause = sent.map_or(decision, |(_, event)| *event);
                (EventKind::UpdateAcknowledged, peer.to_string(), "the peer's TCP has it".into(), cause, at)
            }
        };
        if let PeerEvent::AttemptFailed { peer, .. } | PeerEvent::RefreshRequested { peer, .. } = event
            && !self.noted.entry(peer.clone()).or_default().is_news(&text, now)
        {
            return; // said already; `bgp` counts them
        }
        let id = self.journal.record(at, kind, subject, text, cause);
        if let PeerEvent::Sent { peer, version, .. } = event {
            self.sent.insert(peer.clone(), (*version, id));
        }
    }

    /// The deciding event, and when what followed it by `since_decided` happened.
    fn decision(&self, cause: u64, since_decided: Duration, now: Instant) -> (EventId, Instant) {
        let cause = EventId(cause);
        (cause, self.journal.find(cause).map_or(now, |event| event.at + since_decided))
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
