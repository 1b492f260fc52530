//! What is known of a connection at its end: one record for the access log. Pure.
//!
//! Nothing of it costs an allocation or a clock before it is asked for: what happens meanwhile is taken down as a few
//! moments of the event loop's clock ([`Journey`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::Name;

use crate::CloseReason;
use crate::backend::Backend;

/// One connection, at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRecord {
    /// When it was accepted.
    pub accepted_at: SystemTime,
    pub service: Name,
    /// The address that it was accepted on.
    pub listener: SocketAddr,
    /// Whom it was from; with a PROXY header, what that said.
    pub client: SocketAddr,
    /// The backend that took it.
    pub backend: Option<Name>,
    /// Every backend that it was tried with, in order; the last one is `backend`, if that is there.
    pub tried: Vec<Name>,
    /// From the client to the backend.
    pub bytes_in: u64,
    /// From the backend to the client.
    pub bytes_out: u64,
    /// Until there was a place at a backend; `None`: it ended before.
    pub queue: Option<Duration>,
    /// From then until a backend had accepted, failed attempts included; `None`: it ended before.
    pub connect: Option<Duration>,
    pub total: Duration,
    pub reason: CloseReason,
    pub reached: Reached,
    /// Connections at this moment, this one included.
    pub concurrent: Concurrent,
}

/// How far a connection had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The client had to say something first (PROXY header, TLS).
    Opening,
    /// It waited for a place at a backend.
    Queued,
    Connecting,
    Relaying,
    /// The backend had ended its stream; the client was still being sent the rest, or had not ended its own.
    Last,
}

/// Connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrent {
    /// Of the process.
    pub total: u64,
    pub service: u64,
    /// Of the backend; 0 without one.
    pub backend: u64,
}

impl AccessRecord {
    /// HAProxy's two letters for how a session ended (its configuration manual, section 8.5): who or what ended it, and
    /// what it was doing.
    pub fn termination(&self) -> [char; 2] {
        use CloseReason::*;
        let (cause, state) = match self.reason {
            Completed => return ['-', '-'],
            ClientReset => ('C', self.state()),
            ServerReset => ('S', self.state()),
            ClientTimeout | ClientFinTimeout => ('c', self.state()),
            ServerTimeout | ServerFinTimeout => ('s', self.state()),
            ConnectFailed => ('S', 'C'),
            ConnectTimeout => ('s', 'C'),
            NoBackend => ('S', 'C'),
            Resources => ('R', self.state()),
            Killed => ('K', self.state()),
            Untrusted | ProxyHeader | TlsHandshakeFailed => ('P', 'R'),
            TlsTimeout => ('c', 'R'),
            Denied | ClientConnections | ClientRate => ('P', 'R'),
            QueueFull => ('S', 'Q'),
            QueueTimeout => ('s', 'Q'),
            BackendDown => ('D', self.state()),
        };
        [cause, state]
    }

    fn state(&self) -> char {
        match self.reached {
            Reached::Opening => 'R',
            Reached::Queued => 'Q',
            Reached::Connecting => 'C',
            Reached::Relaying => 'D',
            Reached::Last => 'L',
        }
    }
}

/// Moments of a connection's life, by the event loop's clock, and whom it was tried with.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) listener: SocketAddr,
    pub(crate) accepted: Duration,
    /// The client has said what it had to.
    pub(crate) opened: Duration,
    /// There was a place at a backend.
    pub(crate) placed: Option<Duration>,
    /// A backend had accepted.
    pub(crate) connected: Option<Duration>,
    /// Candidates that failed.
    pub(crate) tried: Vec<Arc<Backend>>,
}

impl Journey {
    pub(crate) fn new(listener: SocketAddr, now: Duration) -> Self {
        Journey { listener, accepted: now, opened: now, placed: None, connected: None, tried: Vec::new() }
    }

    pub(crate) fn queue(&self) -> Option<Duration> {
        self.placed.map(|placed| placed.saturating_sub(self.opened))
    }

    pub(crate) fn connect(&self) -> Option<Duration> {
        Some(self.connected?.saturating_sub(self.placed?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(reason: CloseReason, reached: Reached) -> AccessRecord {
        let name = |text| Name::new(text).unwrap();
        AccessRecord {
            accepted_at: SystemTime::UNIX_EPOCH,
            service: name("web"),
            listener: ([192, 0, 2, 1], 80).into(),
            client: ([198, 51, 100, 1], 4711).into(),
            backend: Some(name("b0")),
            tried: vec![name("b0")],
            bytes_in: 0,
            bytes_out: 0,
            queue: None,
            connect: None,
            total: Duration::ZERO,
            reason,
            reached,
            concurrent: Concurrent { total: 1, service: 1, backend: 1 },
        }
    }

    fn letters(reason: CloseReason, reached: Reached) -> String {
        record(reason, reached).termination().iter().collect()
    }

    #[test]
    fn the_letters_are_haproxy_s() {
        use CloseReason::*;
        assert_eq!(letters(Completed, Reached::Last), "--");
        assert_eq!(letters(ClientReset, Reached::Relaying), "CD");
        assert_eq!(letters(ClientReset, Reached::Connecting), "CC");
        assert_eq!(letters(ServerReset, Reached::Relaying), "SD");
        assert_eq!(letters(ClientTimeout, Reached::Relaying), "cD");
        assert_eq!(letters(ServerTimeout, Reached::Relaying), "sD");
        assert_eq!(letters(ClientFinTimeout, Reached::Last), "cL");
        assert_eq!(letters(ConnectFailed, Reached::Connecting), "SC");
        assert_eq!(letters(ConnectTimeout, Reached::Connecting), "sC");
        assert_eq!(letters(NoBackend, Reached::Connecting), "SC");
        assert_eq!(letters(Killed, Reached::Relaying), "KD");
        assert_eq!(letters(ProxyHeader, Reached::Opening), "PR");
    }

    #[test]
    fn every_time_counts_from_the_end_of_the_one_before() {
        let seconds = Duration::from_secs;
        let mut journey = Journey::new(([192, 0, 2, 1], 80).into(), seconds(10));
        assert_eq!((journey.queue(), journey.connect()), (None, None));
        journey.opened = seconds(11);
        journey.placed = Some(seconds(13));
        assert_eq!((journey.queue(), journey.connect()), (Some(seconds(2)), None));
        journey.connected = Some(seconds(18));
        assert_eq!(journey.connect(), Some(seconds(5)));
    }
}
