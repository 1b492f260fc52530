//! Events and chains of events as they are shown: JSON for programs, lines for people, server-sent events for browsers.
//! The pure part; asking the steering task is [`crate::app::Daemon`]'s.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::events::Event;
use crate::steer::why::Chain;

/// One moment by both clocks: what turns an event's time into a date.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub monotonic: Instant,
    pub wall: SystemTime,
}

impl Origin {
    fn wall_time(self, at: Instant) -> OffsetDateTime {
        let after = at.saturating_duration_since(self.monotonic);
        let before = self.monotonic.saturating_duration_since(at);
        OffsetDateTime::from(self.wall + after) - before
    }
}

/// An event, as in `events --json` and `/api/v1/events`. Field names are an API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Grows with every event of this process.
    pub id: u64,
    /// RFC 3339, UTC, microseconds.
    pub time: String,
    /// On the monotonic clock, since the process started.
    pub uptime_ms: f64,
    pub kind: String,
    /// What changed: a VIP, `SERVICE/BACKEND`, a service or a peer.
    pub subject: String,
    /// How, in words.
    pub text: String,
    /// The event that caused it; 0: nothing that is known of.
    pub cause: u64,
    /// Since the first event of the chain of causes.
    pub since_root_ms: f64,
}

impl EventView {
    pub fn new(event: &Event, origin: Origin) -> Self {
        let uptime = event.at.saturating_duration_since(origin.monotonic);
        let wall = origin.wall_time(event.at);
        let whole = wall.replace_microsecond(wall.microsecond()).unwrap_or(wall);
        EventView {
            id: event.id.0,
            time: whole.format(&Rfc3339).unwrap_or_default(),
            uptime_ms: milliseconds(uptime),
            kind: event.kind.as_str().to_owned(),
            subject: event.subject.clone(),
            text: event.text.clone(),
            cause: event.cause.0,
            since_root_ms: (event.since_root_ms * 1e3).round() / 1e3,
        }
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let cause = if self.cause == 0 { String::new() } else { format!(" (by #{})", self.cause) };
        let subject = if self.subject.is_empty() { "this host" } else { &self.subject };
        format!("{}  #{}{cause}  {subject}: {}", self.time, self.id, self.text)
    }

    /// A server-sent event (HTML §9.2): its data is on one line.
    pub fn server_sent(&self) -> String {
        let data = serde_json::to_string(self).unwrap_or_default();
        format!("id: {}\nevent: {}\ndata: {data}\n\n", self.id, self.kind)
    }
}

/// The chain of events behind something, as in `why --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainView {
    pub subject: String,
    /// The beginning of the chain is no longer remembered.
    pub is_cut: bool,
    /// From the first cause to the last effect.
    pub events: Vec<EventView>,
    /// Of a VIP: where it is now, and why.
    #[serde(default)]
    pub standing: Option<String>,
}

impl ChainView {
    pub fn new(chain: &Chain, origin: Origin) -> Self {
        ChainView {
            subject: chain.subject.clone(),
            is_cut: chain.is_cut,
            events: chain.events.iter().map(|event| EventView::new(event, origin)).collect(),
            standing: chain.standing.clone(),
        }
    }

    /// A line for each step: when after the first, how long after the one before, and what.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else {
            let standing = self.standing.as_deref().unwrap_or("nothing is remembered");
            return format!("{}: {standing}\n", self.subject);
        };
        let took = duration(last.uptime_ms - first.uptime_ms);
        let steps = match self.events.len() {
            1 => "1 step".to_owned(),
            n => format!("{n} steps"),
        };
        let _ = writeln!(out, "{}: {steps} in {took}, from {}", self.subject, first.time);
        if self.is_cut {
            out.push_str("  (what came before is no longer remembered)\n");
        }
        let mut before = first.uptime_ms;
        for event in &self.events {
            let (after, step) = (event.uptime_ms - first.uptime_ms, event.uptime_ms - before);
            before = event.uptime_ms;
            let subject = if event.subject.is_empty() { "this host" } else { &event.subject };
            let (after, step) = (duration(after), format!("+{}", duration(step)));
            let _ = writeln!(out, "  {after:>10}  {step:>10}  {subject}: {}", event.text);
        }
        if let Some(standing) = &self.standing {
            let _ = writeln!(out, "  now: {standing}");
        }
        out
    }
}

/// `0.4 ms`, `812 ms`, `4.25 s`.
fn duration(milliseconds: f64) -> String {
    match milliseconds.max(0.0) {
        ms @ 0.0..10.0 => format!("{ms:.1} ms"),
        ms @ 10.0..1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventId, EventKind};

    fn chain() -> ChainView {
        #[allow(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        let start = Instant::now();
        let origin = Origin { monotonic: start, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400) };
        let event = |id, ms, kind, subject: &str, text: &str| Event {
            id: EventId(id),
            at: start + Duration::from_micros(ms),
            kind,
            subject: subject.into(),
            text: text.into(),
            cause: EventId(id - 1),
            since_root_ms: ms as f64 / 1e3,
        };
        let events = vec![
            event(1, 1_500, EventKind::BackendDown, "api/a", "up → down: refused"),
            event(2, 1_620, EventKind::VipChanged, "10.0.0.1", "announced → listening"),
            event(3, 14_620, EventKind::UpdateAcknowledged, "tor-a", "the peer's TCP has it"),
        ];
        ChainView::new(&Chain { subject: "10.0.0.1".into(), events, is_cut: false, standing: None }, origin)
    }

    #[test]
    fn a_chain_tells_each_step_with_the_time_to_it() {
        let expected = "\
10.0.0.1: 3 steps in 13 ms, from 1970-01-02T00:00:00.0015Z
      0.0 ms     +0.0 ms  api/a: up → down: refused
      0.1 ms     +0.1 ms  10.0.0.1: announced → listening
       13 ms      +13 ms  tor-a: the peer's TCP has it
";
        assert_eq!(chain().text(), expected);
    }

    #[test]
    fn a_server_sent_event_has_its_id_its_kind_and_one_line_of_data() {
        let view = &chain().events[1];
        let sent = view.server_sent();
        let data =
            sent.strip_prefix("id: 2\nevent: vip_changed\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(&serde_json::from_str::<EventView>(data).unwrap(), view);
    }

    #[test]
    fn a_line_names_the_event_its_cause_and_its_subject() {
        let line = chain().events[1].line();
        assert_eq!(line, "1970-01-02T00:00:00.00162Z  #2 (by #1)  10.0.0.1: announced → listening");
    }
}
