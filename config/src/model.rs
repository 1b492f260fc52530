//! The resolved configuration: every default filled in, every reference checked, every value in range.
//! `PartialEq` is what a reload diffs by: equal means untouched.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::types::*;

/// One whole, valid configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub global: Global,
    pub admin: Admin,
    /// `None`: no `[bgp]` table; nothing is announced.
    pub bgp: Option<Bgp>,
    /// In file order; addresses are unique.
    pub vips: Vec<Vip>,
    /// In file order; names are unique.
    pub services: Vec<Service>,
}

/// `[global]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// Data-plane threads; `None` = one per available core.
    pub threads: Option<usize>,
    /// Client connections at once; `None` = derived from the file-descriptor limit.
    pub max_connections: Option<u32>,
    pub drain_timeout: Duration,
    pub log: Log,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `None`: no runtime socket.
    pub socket: Option<PathBuf>,
    /// `None`: no HTTP.
    pub listen: Option<SocketAddr>,
    /// HTTP basic auth for everything but `/healthz` and `/readyz`.
    pub auth: Option<AdminAuth>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAuth {
    pub user: String,
    /// Read at start and again on reload; one line, trailing white space is ignored.
    pub password_file: PathBuf,
}

/// `[bgp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bgp {
    pub local_as: Asn,
    pub router_id: RouterId,
    pub listen: Vec<SocketAddr>,
    pub connect_retry: Duration,
    /// Names and addresses are unique.
    pub peers: Vec<Peer>,
}

/// `[[bgp.peer]]`, with `[bgp]`'s defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub name: Name,
    pub address: IpAddr,
    pub remote_as: Asn,
    pub port: u16,
    pub local_address: Option<IpAddr>,
    pub passive: bool,
    /// Sorted, without repeats, never empty.
    pub families: Vec<Family>,
    /// Next hop override for routes of its own family; the other family uses the session's own address.
    pub next_hop: Option<IpAddr>,
    pub hold_time: HoldTime,
    /// TTL of an eBGP session, 1..=255.
    pub multihop: u8,
    /// GTSM (RFC 5082): send 255, accept `>= 255 - (multihop - 1)`.
    pub ttl_security: bool,
    /// TCP-MD5 (RFC 2385) key file; read at start and again on reload.
    pub password_file: Option<PathBuf>,
}

/// `[[vip]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// Announced as /32 or /128.
    pub address: IpAddr,
    /// `None`: the operator puts the address on the host.
    pub interface: Option<String>,
    pub announce: Announce,
    pub degraded: Degraded,
    pub on_short: OnShort,
    pub on_all_down: OnAllDown,
    pub announce_delay: Duration,
    pub peers: PeerSet,
}

/// Attributes at normal preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    pub med: u32,
    /// Sent to iBGP peers only (RFC 4271 §5.1.5).
    pub local_pref: u32,
    /// How often our AS is put in front once more, 0..=16; eBGP only.
    pub prepend: u8,
    /// Sorted, without repeats; at most 63 (one attribute of 255 octets).
    pub communities: Vec<Community>,
    /// Sorted, without repeats; at most 21.
    pub large_communities: Vec<LargeCommunity>,
}

/// What changes of [`Announce`] while degraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    pub med: u32,
    pub local_pref: u32,
    pub prepend: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnShort {
    Degrade,
    Withdraw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAllDown {
    Withdraw,
    LastResort,
    Hold,
}

/// Which peers a VIP goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerSet {
    All,
    /// Sorted, each the name of a configured peer.
    Named(Vec<Name>),
}

impl PeerSet {
    pub fn contains(&self, peer: &Name) -> bool {
        match self {
            PeerSet::All => true,
            PeerSet::Named(names) => names.contains(peer),
        }
    }
}

/// `[[service]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: Name,
    /// The VIPs it serves (`vip` may be one address or a list); empty with explicit `listen` addresses.
    pub vips: Vec<IpAddr>,
    /// Every address it accepts on, VIP × ports or as given; unique over all services.
    pub listen: Vec<SocketAddr>,
    pub required: bool,
    pub min_healthy: u32,
    pub balance: Balance,
    pub tcp_keepalive: bool,
    /// `false`: what we end ourselves (a timeout) is closed with RST, as with HAProxy's `option nolinger`. A complete stream
    /// ends with a FIN all the same.
    pub linger: bool,
    pub timeouts: Timeouts,
    /// Connects to further distinct candidates after the first fails.
    pub retries: u32,
    pub check: Check,
    pub passive: Passive,
    /// In file order; names are unique within the service; never empty.
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a backend has accepted, per attempt.
    pub connect: Duration,
    /// Idle: nothing from the client, and it reads nothing we have for it.
    pub client: Duration,
    /// Idle on the backend's side.
    pub server: Duration,
    /// Idle after the client half-closed / while only the client is left to finish.
    pub client_fin: Duration,
    pub server_fin: Duration,
}

/// Active check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub kind: CheckKind,
    pub interval: Duration,
    /// Covers the whole attempt: connect, send, answer.
    pub timeout: Duration,
    /// 1..=100 good results in a row raise a backend that is down.
    pub rise: u8,
    /// 1..=100 bad results in a row lower one that is up.
    pub fall: u8,
    /// Instead of the backend's own port.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// No active check: up unless live traffic says otherwise.
    None,
    /// The TCP handshake completes.
    Tcp,
    Http(HttpCheck),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    pub method: String,
    pub path: String,
    /// `Host` header; `None`: the backend's `ip:port`.
    pub host: Option<String>,
    /// Inclusive ranges of accepted status codes.
    pub expect_status: Vec<(u16, u16)>,
    /// A text that the first 64 KiB of the body must contain.
    pub expect_body: Option<String>,
}

/// Failed connects of live traffic count as failed checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passive {
    pub enabled: bool,
    pub failures: u32,
    pub window: Duration,
}

/// `[[service.backend]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub name: Name,
    pub address: BackendAddr,
    pub weight: Weight,
    /// Used only while no primary is up.
    pub backup: bool,
    pub disabled: bool,
}

impl Service {
    pub fn backend_id(&self, backend: &Backend) -> BackendId {
        BackendId { service: self.name.clone(), backend: backend.name.clone() }
    }
}
