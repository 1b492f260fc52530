//! The resolved configuration: every default filled in, every reference checked, every value in range.
//! `PartialEq` is what a reload diffs by: equal means untouched.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

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
    pub engine: Engine,
    pub drain_timeout: Duration,
    pub log: Log,
}

/// What moves the bytes of relayed connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// As [`Engine::IoUring`] where a thread has several connections, as [`Engine::Epoll`] where it has few.
    #[default]
    Auto,
    /// io_uring for what comes in small pieces, where the kernel has it and permits it; epoll for the rest.
    IoUring,
    Epoll,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub target: LogTarget,
    pub access: AccessLog,
}

/// Where the log goes, access records included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    Stderr,
    /// Its native socket, with fields.
    Journald,
    /// `/dev/log`.
    Syslog,
    /// RFC 5424 over UDP.
    SyslogUdp(SocketAddr),
}

/// One record per connection, at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    /// The fields of HAProxy's `option tcplog`.
    Tcplog,
    Json,
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
    /// The interface of a link-local `address` (`fe80::1%eth0`).
    pub interface: Option<String>,
    /// `None`: no BFD with this peer.
    pub bfd: Option<Bfd>,
    /// Our BGP role towards this peer (RFC 9234); eBGP only.
    pub role: Option<Role>,
    /// Refuse a peer that does not say its role (RFC 9234 §4.2).
    pub role_strict: bool,
    /// Offer IPv4 routes with an IPv6 next hop (RFC 8950); IPv6 sessions only.
    pub extended_next_hop: bool,
    /// Another host of the same cluster, not a router: the two tell each other when they come back.
    pub fellow: bool,
    /// What this peer gets instead of a VIP's own attributes.
    pub announce: AttributeOverrides,
    /// The same while the VIP is degraded.
    pub degraded: AttributeOverrides,
}

/// `bfd` of a peer (RFC 5880 §6.8.1); single hop, or multihop where the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bfd {
    pub min_tx: Duration,
    pub min_rx: Duration,
    /// 1..=255.
    pub multiplier: u8,
}

/// A BGP role (RFC 9234 §4.1): what we are to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Provider,
    RouteServer,
    RouteServerClient,
    Customer,
    Peer,
}

/// Per peer: each field that is there replaces the VIP's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributeOverrides {
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub prepend: Option<u8>,
    /// Sorted, without repeats.
    pub communities: Option<Vec<Community>>,
    /// Sorted, without repeats.
    pub large_communities: Option<Vec<LargeCommunity>>,
    /// Bits per second.
    pub link_bandwidth: Option<u64>,
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
    pub flap: Flap,
    pub peers: PeerSet,
}

/// How a VIP that comes and goes is held back (after RFC 2439; see `docs/configuration.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flap {
    /// In which the penalty halves.
    pub half_life: Duration,
    /// The longest that recovery is put off; zero: never.
    pub max_delay: Duration,
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
    /// Link bandwidth extended community (draft-ietf-idr-link-bandwidth), in bits per second.
    pub link_bandwidth: Option<u64>,
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
    /// Client connections at once; beyond it they wait in the kernel's backlog. `None`: no limit.
    pub max_connections: Option<u32>,
    pub client_limits: ClientLimits,
    pub source_address: SourceAddress,
    pub tcp_keepalive: bool,
    /// `false`: what we end ourselves (a timeout) is closed with RST, as with HAProxy's `option nolinger`. A complete stream
    /// ends with a FIN all the same.
    pub linger: bool,
    /// Towards the backends.
    pub send_proxy: Option<ProxyVersion>,
    /// Every client connection begins with a PROXY header, v1 or v2; only from `trusted_proxies`.
    pub accept_proxy: bool,
    /// Not empty with `accept_proxy`.
    pub trusted_proxies: Vec<IpNet>,
    /// Empty: all.
    pub allow: Vec<IpNet>,
    /// Looked at before `allow`.
    pub deny: Vec<IpNet>,
    /// `None`: bytes are passed through.
    pub tls: Option<Tls>,
    /// Pass-through by the name in the ClientHello: exact names first, then `*.` patterns, the longest first.
    pub sni_routes: Vec<SniRoute>,
    pub backend_tls: BackendTls,
    pub timeouts: Timeouts,
    /// Connects to further distinct candidates after the first fails.
    pub retries: u32,
    pub check: Check,
    pub passive: Passive,
    /// How long a backend that comes (back) up takes to reach its whole weight.
    pub slow_start: Duration,
    pub on_down: OnDown,
    /// In file order; names are unique within the service; never empty.
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConn,
    /// By client address, with rendezvous hashing: the same on every host with the same configuration.
    Source,
    /// Two distinct draws, the less loaded.
    Random,
    /// The first in file order that is not full.
    First,
}

/// Per client address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// At once; `None`: no limit.
    pub connections: Option<u32>,
    /// New ones; `None`: no limit.
    pub rate: Option<Rate>,
}

/// So many in such a time; `count` is also the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// The address backends see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceAddress {
    /// Whatever the kernel picks.
    Kernel,
    Fixed(IpAddr),
    /// The client's own (`IP_TRANSPARENT`).
    Transparent,
}

/// Version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// What becomes of established connections of a backend that goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    Keep,
    Close,
}

/// Terminating TLS. Files are read at start and again on reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM chains, each with its key; chosen by SNI, the first is the default. Never empty.
    pub certificates: Vec<CertificateFiles>,
    /// Of every key.
    pub key_password_file: Option<PathBuf>,
    pub client_auth: ClientAuth,
    pub min_version: TlsVersion,
    /// Offered in this order (ALPN); empty: none.
    pub alpn: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Client certificates, and the CA file they are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Optional(PathBuf),
    Required(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// Whose connections with a server name go to which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniRoute {
    /// Lower case; `*.` in front stands for one label.
    pub pattern: String,
    pub service: Name,
}

/// TLS towards the backends; also what https and tls checks go by, enabled or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    pub enabled: bool,
    /// PEM; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// `None`: the backend's name, or no SNI with an address.
    pub server_name: Option<String>,
    pub verify: bool,
    /// For backends that ask for one.
    pub client: Option<CertificateFiles>,
    pub close_notify: CloseNotify,
}

/// Whether a stream that a backend ends without close_notify counts as complete for a client that speaks no TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CloseNotify {
    /// It may have been cut off: the client is reset.
    #[default]
    Required,
    /// The client sees an end, as with HAProxy.
    Optional,
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
    /// Longest wait for a place at a backend; zero: no queue.
    pub queue: Duration,
}

/// Active check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub kind: CheckKind,
    pub interval: Duration,
    /// Instead of `interval` while the health is changing: some results of the other kind, not yet enough.
    pub fast_interval: Option<Duration>,
    /// Instead of `interval` while it is down.
    pub down_interval: Option<Duration>,
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
    /// The same over TLS, by the service's `backend_tls`.
    Https(HttpCheck),
    /// The TLS handshake completes, by the service's `backend_tls`.
    Tls,
    SendExpect(Vec<SendExpect>),
    /// HAProxy's agent protocol; what is sent first may be empty.
    Agent {
        send: Vec<u8>,
    },
}

/// A step: send, then wait until what came back contains `expect`. Either may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendExpect {
    pub send: Vec<u8>,
    pub expect: Vec<u8>,
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

/// What a check of kind `http` asks that says nothing else.
impl Default for HttpCheck {
    fn default() -> Self {
        HttpCheck {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            expect_status: vec![(200, 399)],
            expect_body: None,
        }
    }
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
    /// At once; `None`: no limit.
    pub max_connections: Option<u32>,
    /// Used only while no primary is up.
    pub backup: bool,
    pub disabled: bool,
}

impl Service {
    pub fn backend_id(&self, backend: &Backend) -> BackendId {
        BackendId { service: self.name.clone(), backend: backend.name.clone() }
    }
}
