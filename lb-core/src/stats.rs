//! What [`crate::DataPlane::stats`] returns: owned numbers, consistent enough to show, never locked while shown.

use std::net::SocketAddr;

use config::{BackendAddr, BackendId, Name};

use crate::{CloseReason, Standing};

/// The whole data plane at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaneStats {
    /// In configuration order.
    pub services: Vec<ServiceStats>,
    pub workers: usize,
    /// Workers that relay small pieces by io_uring.
    pub ringed_workers: u64,
    /// Client connections now, over all services, removed ones included.
    pub active: u64,
    /// Client connections accepted since the start, over all services, removed ones included.
    pub accepted: u64,
    /// Connections at once beyond which clients wait in the kernel's backlog.
    pub max_connections: u32,
    /// Listening sockets (one per worker and address) that do not accept just now: at the limit or out of resources.
    pub paused_listeners: u64,
}

/// One service since it first appeared in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStats {
    pub name: Name,
    /// Addresses it accepts on.
    pub listeners: Vec<SocketAddr>,
    pub active: u64,
    pub accepted: u64,
    /// Bytes from clients that went to backends.
    pub bytes_in: u64,
    /// Bytes from backends that went to clients.
    pub bytes_out: u64,
    /// Connects to a further candidate after one failed.
    pub retries: u64,
    /// TLS handshakes with clients that were completed, those of resumed sessions included.
    pub tls_handshakes: u64,
    pub tls_resumed: u64,
    /// Clients that wait for a place at a backend.
    pub queued: u64,
    /// Client connections at once, beyond which clients wait in the kernel's backlog; `None`: no limit of its own.
    pub max_connections: Option<u32>,
    pub closes: CloseCounts,
    /// In configuration order.
    pub backends: Vec<BackendStats>,
}

/// One backend since it first appeared in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStats {
    pub id: BackendId,
    pub address: BackendAddr,
    pub standing: Standing,
    /// At once, as its standing or the configuration says; `None`: no limit.
    pub max_connections: Option<u32>,
    /// Connections now, those still connecting included.
    pub active: u64,
    /// Connects attempted.
    pub connects: u64,
    pub connect_failures: u64,
    /// Bytes sent to it.
    pub bytes_in: u64,
    /// Bytes received from it.
    pub bytes_out: u64,
}

/// Ended connections by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloseCounts(pub(crate) [u64; CloseReason::ALL.len()]);

impl CloseCounts {
    /// Every reason with its count, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.into_iter().zip(self.0)
    }

    pub fn of(&self, reason: CloseReason) -> u64 {
        self.iter().find_map(|(r, count)| (r == reason).then_some(count)).unwrap_or(0)
    }
}
