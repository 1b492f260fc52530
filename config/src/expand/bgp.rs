//! `[bgp]`, its peers, and the VIPs.

use super::{Text, addresses, list, or_empty, quoted, time};
use crate::model::{
    Announce, AttributeOverrides, Bfd, Bgp, Degraded, Flap, OnAllDown, OnShort, Peer, PeerSet, Role, Vip,
};
use crate::raw::{BANDWIDTHS, BFD};
use crate::value::PeerAddress;

pub(super) fn bgp(out: &mut Text, bgp: &Bgp) {
    out.header("[bgp]");
    out.key("local_as", bgp.local_as);
    out.key("router_id", quoted(bgp.router_id));
    out.key("listen", addresses(&bgp.listen));
    out.key("connect_retry", time(bgp.connect_retry));
    for peer in &bgp.peers {
        self::peer(out, peer);
    }
}

fn peer(out: &mut Text, peer: &Peer) {
    out.header("[[bgp.peer]]");
    out.key("name", quoted(&peer.name));
    let address = PeerAddress { ip: peer.address, interface: peer.interface.clone() };
    out.key("address", quoted(address));
    out.key("remote_as", peer.remote_as);
    out.key("port", peer.port);
    out.key("local_address", or_empty(peer.local_address));
    out.key("passive", peer.passive);
    out.key("families", list(peer.families.iter().map(quoted)));
    out.key("next_hop", or_empty(peer.next_hop));
    out.key("hold_time", quoted(format_args!("{}s", peer.hold_time.as_secs())));
    out.key("multihop", peer.multihop);
    out.key("ttl_security", peer.ttl_security);
    out.key("password_file", or_empty(peer.password_file.as_ref().map(|path| path.display())));
    let Bfd { min_tx, min_rx, multiplier } = peer.bfd.unwrap_or(BFD);
    let pairs = [
        ("enabled", peer.bfd.is_some().to_string()),
        ("min_tx", time(min_tx)),
        ("min_rx", time(min_rx)),
        ("multiplier", multiplier.to_string()),
    ];
    out.inline("bfd", &pairs);
    let role = match peer.role {
        None => "",
        Some(Role::Provider) => "provider",
        Some(Role::RouteServer) => "rs",
        Some(Role::RouteServerClient) => "rs-client",
        Some(Role::Customer) => "customer",
        Some(Role::Peer) => "peer",
    };
    out.key("role", quoted(role));
    out.key("role_strict", peer.role_strict);
    out.key("extended_next_hop", peer.extended_next_hop);
    out.key("fellow", peer.fellow);
    out.inline("announce", &overrides(&peer.announce));
    out.inline("degraded", &overrides(&peer.degraded));
}

/// Only what is there: nothing stands for "the VIP's own" but its absence.
fn overrides(of: &AttributeOverrides) -> Vec<(&'static str, String)> {
    let communities = of.communities.as_ref().map(|all| list(all.iter().map(quoted)));
    let large = of.large_communities.as_ref().map(|all| list(all.iter().map(quoted)));
    let pairs = [
        ("med", of.med.map(|med| med.to_string())),
        ("local_pref", of.local_pref.map(|local_pref| local_pref.to_string())),
        ("prepend", of.prepend.map(|prepend| prepend.to_string())),
        ("communities", communities),
        ("large_communities", large),
        ("link_bandwidth", of.link_bandwidth.map(|bits| bandwidth(Some(bits)))),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// In the largest unit that gives a whole number; `""` for none.
fn bandwidth(bits: Option<u64>) -> String {
    let fits = |bits: u64| BANDWIDTHS.into_iter().find(|(_, factor)| bits.is_multiple_of(*factor));
    or_empty(bits.and_then(|bits| fits(bits).map(|(unit, factor)| format!("{}{unit}", bits / factor))))
}

fn announce(out: &mut Text, announce: &Announce) {
    let Announce { med, local_pref, prepend, communities, large_communities, link_bandwidth } = announce;
    let pairs = [
        ("med", med.to_string()),
        ("local_pref", local_pref.to_string()),
        ("prepend", prepend.to_string()),
        ("communities", list(communities.iter().map(quoted))),
        ("large_communities", list(large_communities.iter().map(quoted))),
        ("link_bandwidth", bandwidth(*link_bandwidth)),
    ];
    out.inline("announce", &pairs);
}

pub(super) fn vip(out: &mut Text, vip: &Vip) {
    out.header("[[vip]]");
    out.key("address", quoted(vip.address));
    out.key("interface", or_empty(vip.interface.as_ref()));
    announce(out, &vip.announce);
    let Degraded { med, local_pref, prepend } = vip.degraded;
    let pairs = [("med", med), ("local_pref", local_pref), ("prepend", u32::from(prepend))];
    out.inline("degraded", &pairs.map(|(key, value)| (key, value.to_string())));
    let on_short = match vip.on_short {
        OnShort::Degrade => "degrade",
        OnShort::Withdraw => "withdraw",
    };
    let on_all_down = match vip.on_all_down {
        OnAllDown::Withdraw => "withdraw",
        OnAllDown::LastResort => "last_resort",
        OnAllDown::Hold => "hold",
    };
    out.key("on_short", quoted(on_short));
    out.key("on_all_down", quoted(on_all_down));
    out.key("announce_delay", time(vip.announce_delay));
    let Flap { half_life, max_delay } = vip.flap;
    out.inline("flap", &[("half_life", time(half_life)), ("max_delay", time(max_delay))]);
    let peers = match &vip.peers {
        PeerSet::All => &[][..],
        PeerSet::Named(names) => names,
    };
    out.key("peers", list(peers.iter().map(quoted)));
}
