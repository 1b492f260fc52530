//! Why a relayed connection ended: a closed set, the same in metric labels and in access records.

use std::fmt;

/// Why a client's connection ended. The names ([`CloseReason::as_str`]) are an interface: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// Both sides finished, every byte was delivered.
    Completed,
    /// The client's connection broke.
    ClientReset,
    /// The backend's connection broke after it was established.
    ServerReset,
    /// `timeouts.client`.
    ClientTimeout,
    /// `timeouts.server`.
    ServerTimeout,
    /// `timeouts.client_fin`.
    ClientFinTimeout,
    /// `timeouts.server_fin`.
    ServerFinTimeout,
    /// No candidate accepted; the last one refused or was not reachable.
    ConnectFailed,
    /// No candidate accepted; the last one did not answer within `timeouts.connect`.
    ConnectTimeout,
    /// No backend was eligible.
    NoBackend,
    /// This host ran out of descriptors, memory or source ports.
    Resources,
    /// Ended by command, or because the data plane stopped.
    Killed,
    /// The client is not one of `trusted_proxies`.
    Untrusted,
    /// The client's PROXY header was malformed, or not there in time.
    ProxyHeader,
    /// The client's TLS handshake failed.
    TlsHandshakeFailed,
    /// The client did not finish its TLS handshake, or its ClientHello, in time.
    TlsTimeout,
    /// The client is in one of the `deny` networks, or in none of the `allow` ones.
    Denied,
    /// The client has as many connections as `client_limits` allows it.
    ClientConnections,
    /// The client comes faster than `client_limits` allows it.
    ClientRate,
    /// Every backend was full, and so was the queue, or `timeouts.queue` is 0.
    QueueFull,
    /// `timeouts.queue`: no backend had a place for so long.
    QueueTimeout,
    /// The backend went down, and `on_down` is `close`.
    BackendDown,
}

impl CloseReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [CloseReason; 22] = [
        CloseReason::Completed,
        CloseReason::ClientReset,
        CloseReason::ServerReset,
        CloseReason::ClientTimeout,
        CloseReason::ServerTimeout,
        CloseReason::ClientFinTimeout,
        CloseReason::ServerFinTimeout,
        CloseReason::ConnectFailed,
        CloseReason::ConnectTimeout,
        CloseReason::NoBackend,
        CloseReason::Resources,
        CloseReason::Killed,
        CloseReason::Untrusted,
        CloseReason::ProxyHeader,
        CloseReason::TlsHandshakeFailed,
        CloseReason::TlsTimeout,
        CloseReason::Denied,
        CloseReason::ClientConnections,
        CloseReason::ClientRate,
        CloseReason::QueueFull,
        CloseReason::QueueTimeout,
        CloseReason::BackendDown,
    ];

    /// The stable name: metric label and access record.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::Completed => "completed",
            CloseReason::ClientReset => "client_reset",
            CloseReason::ServerReset => "server_reset",
            CloseReason::ClientTimeout => "client_timeout",
            CloseReason::ServerTimeout => "server_timeout",
            CloseReason::ClientFinTimeout => "client_fin_timeout",
            CloseReason::ServerFinTimeout => "server_fin_timeout",
            CloseReason::ConnectFailed => "connect_failed",
            CloseReason::ConnectTimeout => "connect_timeout",
            CloseReason::NoBackend => "no_backend",
            CloseReason::Resources => "resources",
            CloseReason::Killed => "killed",
            CloseReason::Untrusted => "untrusted",
            CloseReason::ProxyHeader => "proxy_header",
            CloseReason::TlsHandshakeFailed => "tls_handshake_failed",
            CloseReason::TlsTimeout => "tls_timeout",
            CloseReason::Denied => "denied",
            CloseReason::ClientConnections => "client_connections",
            CloseReason::ClientRate => "client_rate",
            CloseReason::QueueFull => "queue_full",
            CloseReason::QueueTimeout => "queue_timeout",
            CloseReason::BackendDown => "backend_down",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_reason_at_its_own_index_with_a_name_of_its_own() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let mut names: Vec<_> = CloseReason::ALL.iter().map(|r| r.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CloseReason::ALL.len());
    }
}
