//! What the data plane tells others as it happens: the seam for passive health checks and the access log.

use std::fmt;
use std::io;
use std::time::Duration;

use config::{BackendAddr, BackendId};

use crate::{AccessRecord, TlsFailure};

/// Called on the data plane's own threads, so an implementation must not block and must not call back into the plane.
pub trait Observer: Send + Sync + 'static {
    /// A client's connection could not be handed to this backend, or came back from it as a reset before the first byte of
    /// an answer. Failures that are this host's own (no descriptor, no source port) are not reported.
    fn connect_failed(&self, backend: &BackendId, failure: &ConnectFailure);

    /// A connection has ended. Only while [`crate::DataPlane::set_recording`] asks for it.
    fn connection_ended(&self, _record: AccessRecord) {}
}

/// Nobody listens.
impl Observer for () {
    fn connect_failed(&self, _: &BackendId, _: &ConnectFailure) {}
}

/// One connect that failed. Displays as what was tried and what came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connect to {address}: {cause} after {after:.1?}")]
pub struct ConnectFailure {
    pub address: BackendAddr,
    pub cause: ConnectCause,
    /// From the connect to its failure, as exact as the event loop's clock.
    pub after: Duration,
}

/// How a connect failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectCause {
    Refused,
    /// Nothing came back within `timeouts.connect`.
    TimedOut,
    /// Reset while it was being made.
    Reset,
    /// Connected, and reset before the backend had sent a byte.
    ResetUnanswered,
    Unreachable,
    /// Its name has no address yet.
    Unresolved,
    /// Connected, but its TLS handshake failed.
    Tls(TlsFailure),
    Other(io::ErrorKind),
}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectCause::Refused => f.write_str("refused"),
            ConnectCause::TimedOut => f.write_str("no answer"),
            ConnectCause::Reset => f.write_str("reset"),
            ConnectCause::ResetUnanswered => f.write_str("reset before an answer"),
            ConnectCause::Unreachable => f.write_str("unreachable"),
            ConnectCause::Unresolved => f.write_str("its name has no address yet"),
            ConnectCause::Tls(failure) => failure.fmt(f),
            ConnectCause::Other(kind) => kind.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_tried_and_what_came_back() {
        let failure = ConnectFailure {
            address: std::net::SocketAddr::from(([10, 84, 14, 2], 8082)).into(),
            cause: ConnectCause::Refused,
            after: Duration::from_micros(312),
        };
        assert_eq!(failure.to_string(), "connect to 10.84.14.2:8082: refused after 312.0µs");
    }
}
