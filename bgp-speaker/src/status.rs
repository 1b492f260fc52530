//! What can be seen of the peers from outside: [`PeerStatus`] snapshots and [`PeerEvent`]s. Plain values, no behaviour
//! beyond their texts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use config::{Asn, Family, Name, RouterId};
use ipnet::IpNet;
use serde::Serialize;

use crate::bfd::{BfdStatus, DownReason};
use crate::wire::MessageKind;

/// The states of RFC 4271 §8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PeerState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerState::Idle => "Idle",
            PeerState::Connect => "Connect",
            PeerState::Active => "Active",
            PeerState::OpenSent => "OpenSent",
            PeerState::OpenConfirm => "OpenConfirm",
            PeerState::Established => "Established",
        })
    }
}

/// What both sides agreed on in their OPENs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Negotiated {
    /// The smaller of both sides' hold times, in seconds; 0: the session is never timed out.
    #[serde(rename = "hold_time_seconds")]
    pub hold_time: u16,
    /// Families that both sides speak; sorted.
    pub families: Vec<Family>,
    /// Names of the capabilities the peer sent, in its order.
    pub capabilities: Vec<String>,
    pub remote_router_id: RouterId,
    /// Both sides speak 4-octet AS numbers (RFC 6793).
    pub as4: bool,
    /// The peer answers route refreshes (RFC 2918).
    pub route_refresh: bool,
    /// Refreshes are demarcated (RFC 7313).
    pub enhanced_refresh: bool,
    /// The peer may send messages of up to 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Where both sides say their roles (RFC 9234): the peer's.
    pub remote_role: Option<&'static str>,
}

/// Who ended a session or an attempt at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// We did; where there is a code, we sent that NOTIFICATION.
    Local,
    /// The peer did, with a NOTIFICATION.
    Remote,
    /// TCP did: refused, reset, closed or timed out.
    Transport,
}

/// Why a session or an attempt at one ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloseReason {
    pub origin: Origin,
    /// Code and subcode of the NOTIFICATION, where there was one.
    pub code: Option<(u8, u8)>,
    /// For people: the code's name, the peer's shutdown text (RFC 9003), or the operating system's words.
    pub text: String,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.origin, self.code) {
            (Origin::Local, Some((code, subcode))) => write!(f, "sent {code}/{subcode}: {}", self.text),
            (Origin::Remote, Some((code, subcode))) => write!(f, "received {code}/{subcode}: {}", self.text),
            (_, _) => f.write_str(&self.text),
        }
    }
}

/// Messages by type, one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MessageCounts {
    pub open: u64,
    pub update: u64,
    pub notification: u64,
    pub keepalive: u64,
    pub route_refresh: u64,
}

impl MessageCounts {
    pub(crate) fn count(&mut self, kind: MessageKind) {
        *match kind {
            MessageKind::Open => &mut self.open,
            MessageKind::Update => &mut self.update,
            MessageKind::Notification => &mut self.notification,
            MessageKind::Keepalive => &mut self.keepalive,
            MessageKind::RouteRefresh => &mut self.route_refresh,
        } += 1;
    }
}

impl Negotiated {
    /// How often a KEEPALIVE goes out, before jitter (RFC 4271 §4.4); `None`: never.
    pub fn keepalive(&self) -> Option<Duration> {
        (self.hold_time != 0).then(|| Duration::from_secs(u64::from(self.hold_time)) / 3)
    }
}

/// What a peer says about one of our own prefixes: somebody else announces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnPath {
    pub prefix: IpNet,
    pub next_hop: Option<IpAddr>,
    /// Nearest first; empty inside an AS. The last one is where the path begins.
    pub as_path: Vec<u32>,
    /// It is on its way out, or not quite there yet (RFC 8326).
    pub graceful_shutdown: bool,
}

/// When a peer's timers expire; `None`: it does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// The session ends unless something comes from the peer before.
    pub hold: Option<Instant>,
    /// Our next KEEPALIVE.
    pub keepalive: Option<Instant>,
    /// The next attempt, without a connection.
    pub retry: Option<Instant>,
}

/// A desired route that this peer cannot be told, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unannounced {
    pub prefix: IpNet,
    pub reason: String,
}

/// One peer as it is now. Cheap to clone; ages are the reader's to format.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    pub name: Name,
    pub address: IpAddr,
    pub port: u16,
    /// Of a link-local address.
    pub interface: Option<String>,
    pub passive: bool,
    pub remote_as: Asn,
    /// Names of the capabilities we offer.
    pub offered: Vec<String>,
    pub state: PeerState,
    /// When `state` was entered.
    #[serde(skip)]
    pub since: Instant,
    #[serde(skip)]
    pub deadlines: Deadlines,
    /// The latest end of a session or attempt, whoever caused it.
    pub last_error: Option<CloseReason>,
    /// The latest NOTIFICATION we sent.
    pub last_sent: Option<CloseReason>,
    /// The latest NOTIFICATION we received.
    pub last_received: Option<CloseReason>,
    /// While Established.
    pub negotiated: Option<Negotiated>,
    pub local_address: Option<SocketAddr>,
    pub remote_address: Option<SocketAddr>,
    pub messages_in: MessageCounts,
    pub messages_out: MessageCounts,
    /// While Established: routes of the newest decision for this peer that it can be told.
    pub routes_desired: usize,
    /// Routes the peer holds from us once it has read everything we wrote.
    pub routes_sent: usize,
    /// `routes_sent` as of the newest acknowledged version.
    pub routes_acknowledged: usize,
    /// Meant for this peer, but it cannot be told; sorted by prefix.
    pub unannounced: Vec<Unannounced>,
    /// Newest [`crate::RouteSet::version`] written to the peer's socket, this session.
    pub version_sent: u64,
    /// Newest version that the peer's TCP has acknowledged, this session.
    pub version_acknowledged: u64,
    /// What the peer says about [`crate::RouteSet::watched`] prefixes; sorted, at most one each.
    pub paths: Vec<OwnPath>,
    /// Prefixes the peer announced to us; none was imported.
    pub prefixes_dropped: u64,
    /// UPDATEs with a malformed attribute that cost the peer that attribute or its routes (RFC 7606), not the session.
    pub updates_malformed: u64,
    /// Times we dialled.
    pub connection_attempts: u64,
    /// Connections from the peer that were closed at once: not started, or one too many.
    pub connections_refused: u64,
    /// Times the session reached Established.
    pub established: u64,
    /// Times an Established session went down.
    pub flaps: u64,
    /// Events that found the receiver's queue full.
    pub events_dropped: u64,
    /// `None`: no BFD with this peer.
    pub bfd: Option<BfdStatus>,
}

impl PeerStatus {
    /// Configured, and nothing has happened yet.
    pub(crate) fn new(peer: &config::Peer, now: Instant) -> Self {
        PeerStatus {
            name: peer.name.clone(),
            address: peer.address,
            port: peer.port,
            interface: peer.interface.clone(),
            passive: peer.passive,
            remote_as: peer.remote_as,
            offered: Vec::new(),
            state: PeerState::Idle,
            since: now,
            deadlines: Deadlines::default(),
            last_error: None,
            last_sent: None,
            last_received: None,
            negotiated: None,
            local_address: None,
            remote_address: None,
            messages_in: MessageCounts::default(),
            messages_out: MessageCounts::default(),
            routes_desired: 0,
            routes_sent: 0,
            routes_acknowledged: 0,
            unannounced: Vec::new(),
            paths: Vec::new(),
            version_sent: 0,
            version_acknowledged: 0,
            prefixes_dropped: 0,
            updates_malformed: 0,
            connection_attempts: 0,
            connections_refused: 0,
            established: 0,
            flaps: 0,
            events_dropped: 0,
            bfd: None,
        }
    }

    /// Forgets what was true of the session only.
    pub(crate) fn session_ended(&mut self) {
        self.negotiated = None;
        self.local_address = None;
        self.remote_address = None;
        self.routes_desired = 0;
        self.routes_sent = 0;
        self.routes_acknowledged = 0;
        self.unannounced.clear();
        self.paths.clear();
        self.version_sent = 0;
        self.version_acknowledged = 0;
    }
}

/// What happened to a peer, in order per peer.
#[derive(Debug, Clone)]
pub enum PeerEvent {
    /// The session is Established. Followed by exactly one `Down`.
    Up { peer: Name, negotiated: Negotiated, local: SocketAddr, remote: SocketAddr },
    /// An Established session ended.
    Down { peer: Name, reason: CloseReason },
    /// An attempt that never reached Established ended.
    AttemptFailed { peer: Name, reason: CloseReason },
    /// A change was written to the peer's socket. Never sent for a change that is empty for this peer.
    Sent {
        peer: Name,
        version: u64,
        cause: u64,
        announced: Vec<IpNet>,
        withdrawn: Vec<IpNet>,
        since_decided: Duration,
    },
    /// The peer's TCP has acknowledged the change.
    Acked {
        peer: Name,
        version: u64,
        cause: u64,
        since_decided: Duration,
        /// Since it was handed to the socket.
        since_sent: Duration,
        /// Prefixes that the change withdrew.
        withdrawn: usize,
    },
    /// Of our own prefixes, others carry GRACEFUL_SHUTDOWN than before; [`PeerStatus::paths`] says which.
    GracefulPathsChanged { peer: Name },
    /// The peer asked for everything again (RFC 2918).
    RefreshRequested { peer: Name, family: Family },
    /// The BFD session came Up.
    BfdUp { peer: Name },
    /// The BFD session left Up. Where that is a failure, the BGP session goes with it.
    BfdDown { peer: Name, reason: DownReason },
    /// The peer's task died; it is started again after a back-off. A bug: the text says where.
    TaskFailed { peer: Name, text: String },
}
