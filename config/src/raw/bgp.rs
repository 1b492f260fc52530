//! `[bgp]` and `[[bgp.peer]]` as they were written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::attributes::read_overrides;
use super::{HOUR, MILLISECOND, SECOND, read_each};
use crate::findings::{At, Finding, Place};
use crate::model::{AttributeOverrides, Bfd, Role};
use crate::reader::{List, Table};
use crate::schema;
use crate::types::{Asn, Family, HoldTime, Name, RouterId};
use crate::value::{
    PeerAddress, Refused, boolean, choice, duration, host_address, integer, listen_address, or_empty, path,
    peer_address, typed,
};

/// `[bgp]`.
#[derive(Debug)]
pub(crate) struct RawBgp {
    pub(crate) local_as: Option<At<Asn>>,
    pub(crate) router_id: Option<At<RouterId>>,
    pub(crate) listen: List<SocketAddr>,
    pub(crate) connect_retry: Duration,
    pub(crate) hold_time: At<HoldTime>,
    pub(crate) peers: Vec<RawPeer>,
}

/// `[[bgp.peer]]`.
#[derive(Debug)]
pub(crate) struct RawPeer {
    pub(crate) name: Option<At<Name>>,
    pub(crate) address: Option<At<PeerAddress>>,
    pub(crate) remote_as: Option<At<Asn>>,
    pub(crate) port: u16,
    pub(crate) local_address: At<Option<IpAddr>>,
    pub(crate) passive: At<bool>,
    /// Empty: the families of the configured VIPs.
    pub(crate) families: List<Family>,
    pub(crate) next_hop: At<Option<IpAddr>>,
    /// `None`: that of `[bgp]`.
    pub(crate) hold_time: Option<At<HoldTime>>,
    pub(crate) multihop: u8,
    pub(crate) ttl_security: bool,
    pub(crate) password_file: At<Option<PathBuf>>,
    pub(crate) bfd: Option<Bfd>,
    pub(crate) role: Option<At<Role>>,
    pub(crate) role_strict: bool,
    pub(crate) extended_next_hop: At<bool>,
    pub(crate) fellow: bool,
    pub(crate) announce: AttributeOverrides,
    pub(crate) degraded: AttributeOverrides,
    pub(crate) place: Place,
}

impl RawBgp {
    pub(crate) fn read(mut bgp: Table<'_, '_>) -> Self {
        let peers = read_each(&mut bgp, "peer", &schema::PEER, RawPeer::read);
        let local_as =
            if peers.is_empty() { bgp.optional("local_as", asn) } else { bgp.required("local_as", asn) };
        let router_id = bgp.required("router_id", router_id);
        RawBgp {
            local_as,
            router_id,
            listen: bgp.list("listen", listen_address),
            connect_retry: bgp
                .value("connect_retry", duration(10 * MILLISECOND..=HOUR), Duration::from_secs(5))
                .value,
            hold_time: bgp.value("hold_time", hold_time, HoldTime::NINE_SECONDS),
            peers,
        }
    }
}

impl RawPeer {
    fn read(mut peer: Table<'_, '_>) -> Self {
        let (role, role_strict) = read_role(&mut peer);
        RawPeer {
            name: peer.required("name", name),
            address: peer.required("address", peer_address),
            remote_as: peer.required("remote_as", asn),
            port: peer.value("port", integer(1..=u16::MAX), 179).value,
            local_address: peer.value("local_address", or_empty(host_address), None),
            passive: peer.value("passive", boolean, false),
            families: peer.list("families", choice(FAMILIES)),
            next_hop: peer.value("next_hop", or_empty(host_address), None),
            hold_time: peer.optional("hold_time", hold_time),
            multihop: peer.value("multihop", integer(1..=u8::MAX), 1).value,
            ttl_security: peer.value("ttl_security", boolean, false).value,
            password_file: peer.value("password_file", or_empty(path), None),
            bfd: read_bfd(peer.table("bfd", &schema::BFD)),
            role,
            role_strict,
            extended_next_hop: peer.value("extended_next_hop", boolean, false),
            fellow: peer.value("fellow", boolean, false).value,
            announce: read_overrides(peer.table("announce", &schema::PEER_ANNOUNCE)),
            degraded: read_overrides(peer.table("degraded", &schema::PEER_DEGRADED)),
            place: peer.place,
        }
    }
}

const FAMILIES: &[(&str, Option<Family>)] = &[("ipv4", Some(Family::Ipv4)), ("ipv6", Some(Family::Ipv6))];

const ROLES: &[(&str, Option<Option<Role>>)] = &[
    ("", Some(None)),
    ("provider", Some(Some(Role::Provider))),
    ("rs", Some(Some(Role::RouteServer))),
    ("rs-client", Some(Some(Role::RouteServerClient))),
    ("customer", Some(Some(Role::Customer))),
    ("peer", Some(Some(Role::Peer))),
];

/// What `enabled = true` alone means.
pub(crate) const BFD: Bfd =
    Bfd { min_tx: Duration::from_millis(300), min_rx: Duration::from_millis(300), multiplier: 3 };

fn read_bfd(mut bfd: Table<'_, '_>) -> Option<Bfd> {
    let enabled = bfd.value("enabled", boolean, false).value;
    let mut interval = |key, default| bfd.value(key, duration(10 * MILLISECOND..=60 * SECOND), default).value;
    let (min_tx, min_rx) = (interval("min_tx", BFD.min_tx), interval("min_rx", BFD.min_rx));
    let multiplier = bfd.value("multiplier", integer(1..=u8::MAX), BFD.multiplier).value;
    enabled.then_some(Bfd { min_tx, min_rx, multiplier })
}

fn read_role(peer: &mut Table<'_, '_>) -> (Option<At<Role>>, bool) {
    let role = peer.optional("role", choice(ROLES));
    let strict = peer.value("role_strict", boolean, false);
    let is_refused = peer.has("role") && role.is_none();
    let role = role.and_then(|At { value, place }| Some(At { value: value?, place }));
    if strict.value && role.is_none() && !is_refused {
        let message = "`role_strict` without `role`: there is nothing to compare the peer's role with";
        let finding = Finding::error(&strict.place, message);
        peer.findings.push(finding.expected("`role`, or role_strict = false"));
    }
    (role, strict.value)
}

pub(super) fn name(value: &DeValue<'_>) -> Result<Name, Refused> {
    typed(Name::new, "a name of 1..64 letters, digits or . _ : [ ] - %")(value)
}

fn asn(value: &DeValue<'_>) -> Result<Asn, Refused> {
    Ok(Asn::new(integer(1..=u32::MAX)(value)?)?)
}

fn router_id(value: &DeValue<'_>) -> Result<RouterId, Refused> {
    const EXPECTED: &str = "an IPv4 address other than 0.0.0.0, in quotes";
    let address = value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
    Ok(RouterId::new(address.ok_or_else(|| Refused::expected(EXPECTED))?)?)
}

fn hold_time(value: &DeValue<'_>) -> Result<HoldTime, Refused> {
    let written = duration(Duration::ZERO..=Duration::from_secs(65_535))(value)?;
    if written.subsec_millis() != 0 {
        return Err(Refused::expected("whole seconds: 0s or 3s..65535s (RFC 4271 §4.2)"));
    }
    Ok(HoldTime::from_secs(written.as_secs())?)
}
