//! `[bgp]`, its peers, and the VIPs.

use super::{Text, addresses, list, or_empty, quoted, time};
use crate::model::{Announce, Bgp, Degraded, OnAllDown, OnShort, Peer, PeerSet, Vip};

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
    out.key("address", quoted(peer.address));
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
}

pub(super) fn vip(out: &mut Text, vip: &Vip) {
    out.header("[[vip]]");
    out.key("address", quoted(vip.address));
    out.key("interface", or_empty(vip.interface.as_ref()));
    let Announce { med, local_pref, prepend, communities, large_communities, .. } = &vip.announce;
    let (communities, large) = (communities.iter().map(quoted), large_communities.iter().map(quoted));
    out.key(
        "announce",
        format_args!(
            "{{ med = {med}, local_pref = {local_pref}, prepend = {prepend}, communities = {}, large_communities = {} }}",
            list(communities),
            list(large)
        ),
    );
    let Degraded { med, local_pref, prepend } = vip.degraded;
    out.key("degraded", format_args!("{{ med = {med}, local_pref = {local_pref}, prepend = {prepend} }}"));
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
    let peers = match &vip.peers {
        PeerSet::All => &[][..],
        PeerSet::Named(names) => names,
    };
    out.key("peers", list(peers.iter().map(quoted)));
}
