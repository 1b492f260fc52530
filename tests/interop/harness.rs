//! The harness itself: what a scripted speaker announces is found where the scenarios look for it.

use std::net::SocketAddr;

use crate::common::SOON;
use crate::common::bgp_peer::{BgpPeer, Seen};
use crate::common::bgp_wire::frame;
use crate::common::configuration::LOCAL_AS;
use crate::common::eventually::eventually;
use crate::lab::{LB4, Options, ROUTER4, VIP4, can_run, network};
use crate::router::Kind;

#[test]
fn what_a_scripted_speaker_announces_is_in_the_table_and_the_kernel_and_leaves_both() {
    for kind in Kind::ALL.into_iter().filter(|kind| can_run(*kind)) {
        scripted_route_reaches_rib_and_fib_and_leaves_both(kind);
    }
}

fn scripted_route_reaches_rib_and_fib_and_leaves_both(kind: Kind) {
    let (_client, router_ns, lb_ns) = network();
    let options = Options::default();
    let router = kind.start(&router_ns, &options.sessions, &options.manner);
    let speaker = BgpPeer::start(LOCAL_AS);
    let address = SocketAddr::new(ROUTER4.parse().unwrap(), 179);
    // FRR resets sessions until it knows its interfaces: dial again whenever the connection is gone.
    eventually("the session is Established", SOON, || {
        let gone = speaker.journal().since(0).last().is_none_or(|seen| seen.what == Seen::Closed);
        if gone {
            lb_ns.within(|| speaker.dial(address)).map_err(|e| e.to_string())?;
        }
        let established = router.is_established(LB4.parse().unwrap());
        if established { Ok(()) } else { Err(format!("{:?}", speaker.news_since(0).last())) }
    });

    let attributes = [
        &[0x40, 1, 1, 0][..],
        &[0x40, 2, 6, 2, 1, 0, 0, 0xFC, 0],
        &[0x40, 3, 4, 10, 99, 2, 2],
        &[0x80, 4, 4, 0, 0, 0, 7],
        &[0xC0, 8, 4, 0xFC, 0, 0, 100],
        &[0xC0, 32, 12, 0, 0, 0xFC, 0, 0, 0, 0, 1, 0, 0, 0, 2],
    ]
    .concat();
    let length = u8::try_from(attributes.len()).unwrap();
    speaker.send(&frame(2, &[&[0, 0, 0, length][..], &attributes, &[32, 10, 84, 13, 100]].concat()));
    let prefix = format!("{VIP4}/32");
    let route = eventually("the route is in the RIB", SOON, || router.route(&prefix));
    assert_eq!((route.next_hop.to_string().as_str(), route.med), (LB4, Some(7)));
    assert_eq!(route.as_path, [LOCAL_AS]);
    assert_eq!(route.communities.into_iter().collect::<Vec<_>>(), ["64512:100"]);
    assert_eq!(route.large_communities.into_iter().collect::<Vec<_>>(), ["64512:1:2"]);
    if kind.has_kernel_routes() {
        eventually("the route is in the FIB", SOON, || !router_ns.routes(&prefix).is_empty());
    }

    speaker.send(&frame(2, &[0, 5, 32, 10, 84, 13, 100, 0, 0]));
    eventually("the route has left the FIB", SOON, || router_ns.routes(&prefix).is_empty());
    eventually("the route has left the RIB", SOON, || router.route(&prefix).is_none());
}
