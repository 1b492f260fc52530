//! `[bgp]` and its peers: unique, able to carry the VIPs that go to them, able to come up at all.

use std::collections::BTreeSet;

use super::refuse_duplicates;
use crate::findings::{At, Finding, Findings};
use crate::raw::{Raw, RawBgp, RawPeer, RawVip};
use crate::reader::nearest;
use crate::resolve::{peer_families, vip_families};
use crate::types::{Asn, Family, Name};

pub(super) fn check(raw: &Raw, findings: &mut Findings) {
    let peers = raw.bgp.as_ref().map_or(&[][..], |bgp| &bgp.peers);
    refuse_duplicates(
        peers.iter().filter_map(|peer| peer.name.as_ref()),
        |n| format!("peers named \"{n}\""),
        "a name of its own",
        findings,
    );
    let addresses = peers.iter().filter_map(|peer| peer.address.as_ref());
    refuse_duplicates(
        addresses,
        |address| format!("peers with the address {address}"),
        "an address of its own",
        findings,
    );
    check_shared_keys(peers, findings);
    if let Some(bgp) = &raw.bgp {
        check_numbers(bgp, findings);
        for peer in peers {
            check_peer(bgp, peer, findings);
            check_capabilities(bgp, peer, findings);
        }
    }
    let of_vips = vip_families(raw);
    for peer in peers {
        check_next_hop(peer, &of_vips, findings);
    }
    for vip in &raw.vips {
        check_peer_names(vip, peers, findings);
        check_carriers(vip, peers, &of_vips, findings);
    }
    if let (true, Some(vip)) = (peers.is_empty(), raw.vips.iter().find_map(|vip| vip.address.as_ref())) {
        let finding = Finding::warning(&vip.place, "there is no BGP peer: no VIP is announced");
        findings.push(finding.expected("[bgp] and at least one [[bgp.peer]]"));
    }
}

/// Linux keeps a TCP-MD5 key by address and VRF, not by link.
fn check_shared_keys(peers: &[RawPeer], findings: &mut Findings) {
    for (index, peer) in peers.iter().enumerate() {
        let Some(address) = peer.address.as_ref().map(|address| &address.value) else { continue };
        for twin in peers.iter().take(index) {
            let of_twin = twin.address.as_ref().map(|address| &address.value);
            let is_twin = of_twin.is_some_and(|twin| twin.ip == address.ip && twin != address);
            if is_twin && twin.password_file.value != peer.password_file.value {
                let message = "a peer with this address on another link has another password, and the kernel keeps \
                               one for an address, whatever the link";
                let finding = Finding::error(&peer.password_file.place, message);
                findings.push(finding.expected("the same `password_file` for both, or none"));
            }
        }
    }
}

fn check_numbers(bgp: &RawBgp, findings: &mut Findings) {
    let remote = bgp.peers.iter().filter_map(|peer| peer.remote_as.as_ref());
    for asn in bgp.local_as.iter().chain(remote) {
        let why = match asn.value.as_u32() {
            _ if asn.value == Asn::TRANS => "AS_TRANS, which no network has (RFC 6793)",
            65_535 | u32::MAX => "reserved (RFC 7300)",
            _ => continue,
        };
        findings.push(Finding::warning(&asn.place, format!("AS {} is {why}", asn.value)));
    }
    let own = bgp.peers.iter().filter_map(|peer| peer.hold_time.as_ref());
    for hold_time in std::iter::once(&bgp.hold_time).chain(own) {
        if hold_time.value.as_duration().is_none() {
            let message = "with a hold time of 0 a peer that is gone without a word is never noticed";
            findings.push(Finding::warning(&hold_time.place, message).expected("3s..65535s"));
        }
    }
}

fn check_peer(bgp: &RawBgp, peer: &RawPeer, findings: &mut Findings) {
    if peer.passive.value && !bgp.listen.is_given {
        let message = "a passive peer is never dialled, and nothing listens for it";
        let finding = Finding::error(&peer.passive.place, message);
        findings.push(finding.expected("`listen` in [bgp], such as [\"0.0.0.0:179\"], or passive = false"));
    }
    if let (Some(local), Some(address)) = (peer.local_address.value, &peer.address) {
        let place = &peer.local_address.place;
        let family = Family::of(address.value.ip);
        if Family::of(local) != family {
            let message = format!("{local} cannot reach {}: another family", address.value);
            findings.push(Finding::error(place, message).expected(format!("an {family} address")));
        }
    }
}

/// What only some sessions can have.
fn check_capabilities(bgp: &RawBgp, peer: &RawPeer, findings: &mut Findings) {
    let extended = &peer.extended_next_hop;
    let is_internal = bgp.local_as.is_some()
        && bgp.local_as.as_ref().map(|asn| asn.value) == peer.remote_as.as_ref().map(|asn| asn.value);
    if let (Some(role), true) = (&peer.role, is_internal) {
        let message = "an internal session has no role (RFC 9234 §4)";
        findings.push(Finding::error(&role.place, message).expected("\"\", or another `remote_as`"));
    }
    if let (true, Some(address)) = (extended.value, &peer.address)
        && address.value.ip.is_ipv4()
    {
        let message = "an IPv4 session needs no IPv6 next hop for IPv4 routes (RFC 8950)";
        findings
            .push(Finding::error(&extended.place, message).expected("false, or a peer with an IPv6 address"));
    }
}

fn check_next_hop(peer: &RawPeer, of_vips: &BTreeSet<Family>, findings: &mut Findings) {
    let Some(next_hop) = peer.next_hop.value else { return };
    let mut families = peer_families(peer, of_vips);
    if peer.extended_next_hop.value {
        families.insert(Family::Ipv6);
    }
    if peer.families.is_complete && !families.is_empty() && !families.contains(&Family::of(next_hop)) {
        let message =
            format!("`next_hop` is an {} address, but no such route goes to this peer", Family::of(next_hop));
        let finding = Finding::error(&peer.next_hop.place, message);
        findings.push(finding.expected(format!("an address of its families: {}", joined(&families))));
    }
}

fn check_peer_names(vip: &RawVip, peers: &[RawPeer], findings: &mut Findings) {
    let unreadable = peers.iter().find(|peer| peer.name.is_none());
    let names = peers.iter().filter_map(|peer| peer.name.as_ref()).map(|name| name.value.as_str());
    let names = Vec::from_iter(names.collect::<BTreeSet<_>>());
    for named in &vip.peers.items {
        let name = named.value.as_str();
        if !names.contains(&name) {
            let expected = match names.as_slice() {
                [] => "the name of a [[bgp.peer]]".to_owned(),
                names => format!("one of {}", names.join(", ")),
            };
            let finding = Finding::error(&named.place, format!("no [[bgp.peer]] is named \"{name}\""));
            let finding = finding.expected(expected);
            let finding = match unreadable {
                Some(peer) => finding.related(&peer.place, "this one has no name that can be read"),
                None => finding,
            };
            findings.push(match nearest(name, &names) {
                Some(near) => finding.help(format!("did you mean \"{near}\"?")),
                None => finding,
            });
        }
    }
}

/// Whether routes of `family` can be sent to `peer`: negotiated, and with a next hop of that family.
fn carries(peer: &RawPeer, family: Family, of_vips: &BTreeSet<Family>) -> bool {
    let session = peer.address.as_ref().map(|address| Family::of(address.value.ip));
    let has_next_hop = session == Some(family)
        || peer.next_hop.value.map(Family::of) == Some(family)
        || peer.extended_next_hop.value;
    peer_families(peer, of_vips).contains(&family) && has_next_hop
}

/// A VIP that no peer can carry is an error; one that a peer named for it cannot carry, a warning.
fn check_carriers(vip: &RawVip, peers: &[RawPeer], of_vips: &BTreeSet<Family>, findings: &mut Findings) {
    let Some(address) = &vip.address else { return };
    let family = Family::of(address.value);
    let is_readable = |peer: &RawPeer| peer.address.is_some() && peer.families.is_complete;
    if peers.is_empty() || !vip.peers.is_complete || !peers.iter().all(is_readable) {
        return;
    }
    let named =
        |name: &At<Name>| peers.iter().find(|p| p.name.as_ref().is_some_and(|own| own.value == name.value));
    let targets: Vec<(&RawPeer, Option<&At<Name>>)> = if vip.peers.is_given {
        vip.peers.items.iter().filter_map(|name| Some((named(name)?, Some(name)))).collect()
    } else {
        peers.iter().map(|peer| (peer, None)).collect()
    };
    let help = format!(
        "`families` must include \"{family}\", and `next_hop` be {family} unless the session is, or with `extended_next_hop`"
    );
    if !targets.is_empty() && !targets.iter().any(|(peer, _)| carries(peer, family, of_vips)) {
        let message = format!("no peer of the VIP {} can carry {family} routes", address.value);
        let finding =
            Finding::error(&address.place, message).expected(format!("a [[bgp.peer]] for {family}"));
        findings.push(finding.help(help));
        return;
    }
    for (peer, name) in targets {
        if let (Some(name), false) = (name, carries(peer, family, of_vips)) {
            let message = format!("the peer \"{}\" cannot carry {family} routes", name.value);
            findings.push(
                Finding::warning(&name.place, message).related(&peer.place, "the peer").help(help.clone()),
            );
        }
    }
}

fn joined(families: &BTreeSet<Family>) -> String {
    families.iter().map(Family::to_string).collect::<Vec<_>>().join(", ")
}
