//! The routes the rest of the process wants announced. Plain values; each peer task compares them with what it sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use config::{Community, LargeCommunity, PeerSet};
use ipnet::IpNet;

/// Everything that should be announced, as of one decision. A newer set replaces an older one whole.
#[derive(Debug, Clone)]
pub struct RouteSet {
    /// Grows with every decision; what [`crate::Speaker::settled`] waits for.
    pub version: u64,
    /// When the decision was taken; latencies are measured from here.
    pub decided: Instant,
    /// The event that caused it, opaque here and handed back in [`crate::PeerEvent`].
    pub cause: u64,
    pub routes: BTreeMap<IpNet, Route>,
    /// Our own prefixes, announced or not: what peers say of them is kept ([`crate::PeerStatus::paths`]), all else is
    /// dropped.
    pub watched: BTreeSet<IpNet>,
}

impl RouteSet {
    /// Nothing is announced. Version 0: older than every decision.
    pub fn empty(decided: Instant) -> Self {
        RouteSet { version: 0, decided, cause: 0, routes: BTreeMap::new(), watched: BTreeSet::new() }
    }
}

/// One route and who gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub attributes: Attributes,
    /// Which of a peer's overrides apply.
    pub preference: Preference,
    pub peers: PeerSet,
}

/// How much a route should attract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    Normal,
    Degraded,
    /// On its way out: as degraded, with GRACEFUL_SHUTDOWN and local-pref 0 (RFC 8326 §4).
    Draining,
    /// Not there yet, as other hosts are told: as the last resort.
    Arriving,
    /// Less than any other path: the worst MED with GRACEFUL_SHUTDOWN and local-pref 0, whatever a peer's overrides say.
    LastResort,
}

/// The attributes an operator chooses. Routes with equal attributes share UPDATEs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// MULTI_EXIT_DISC (RFC 4271 §5.1.4).
    pub med: u32,
    /// LOCAL_PREF, towards iBGP peers only (RFC 4271 §5.1.5).
    pub local_pref: u32,
    /// How often our AS is put in front once more; eBGP only.
    pub prepend: u8,
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
    /// Link bandwidth extended community (draft-ietf-idr-link-bandwidth §2), in bits per second.
    pub link_bandwidth: Option<u64>,
}
