//! Routers that are further away, and load balancers beside each other.

use super::{Row, scenarios};
use crate::common::SOON;
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::lab::{
    LB4, LB6, Lab, Options, VIP4, VIP6, admin, backends, configuration, host, network, session,
};
use crate::netns::Namespace;
use crate::router::Kind;

scenarios! {
    router_two_hops_away: bird2 bird1 frr gobgp;
    router_two_hops_away_with_ttl_security: bird2 bird1 frr gobgp;
    two_load_balancers_share_the_traffic: bird2 bird1 frr, not gobgp "no kernel routes";
}

/// The router runs where the client is; the one between only forwards.
fn far(ttl_security: bool) -> Options {
    let mut options = Options {
        sessions: vec![session("10.99.1.2", LB4, &["ipv4"]), session("fd99:1::2", LB6, &["ipv6"])],
        peer: format!("multihop = 2\nttl_security = {ttl_security}\n"),
        far: true,
        ..Options::default()
    };
    options.manner.hops = 2;
    options.manner.ttl_security = ttl_security;
    options
}

fn router_two_hops_away(router: Kind) {
    let lab = Lab::announced(router, far(false));
    assert_eq!(lab.wait_rib(VIP4).next_hop.to_string(), LB4);
    assert_eq!(lab.wait_rib(VIP6).next_hop.to_string(), LB6);
}

fn router_two_hops_away_with_ttl_security(router: Kind) {
    let lab = Lab::announced(router, far(true));
    assert_eq!(lab.wait_rib(VIP4).next_hop.to_string(), LB4);
    assert_eq!(lab.wait_rib(VIP6).next_hop.to_string(), LB6);
}

fn two_load_balancers_share_the_traffic(kind: Kind) {
    let (_client, router_ns, first) = network();
    let second = Namespace::new("lb2");
    router_ns.connect(
        ("to-lb2", &["10.99.3.1/24", "fd99:3::1/64"]),
        &second,
        ("to-router", &["10.99.3.2/24", "fd99:3::2/64"]),
    );
    let options = [
        Options::default(),
        Options {
            sessions: vec![
                session("10.99.3.1", "10.99.3.2", &["ipv4"]),
                session("fd99:3::1", "fd99:3::2", &["ipv6"]),
            ],
            ..Options::default()
        },
    ];
    let sessions = options.each_ref().map(|options| options.sessions.clone()).concat();
    let _router = kind.start(&router_ns, &sessions, &options[0].manner);
    let servers = [&first, &second].map(backends);
    let [first, second] = [(&first, 0), (&second, 1)].map(|(namespace, which)| {
        let config = configuration(&options[which], &servers[which].each_ref());
        Daemon::spawn(admin(), "", &config, &namespace.prefix())
    });
    for vip in [VIP4, VIP6] {
        eventually(&format!("{vip} has two next hops"), SOON, || hops(&router_ns, vip) == 2);
    }
    drop(second);
    for vip in [VIP4, VIP6] {
        eventually(&format!("{vip} has one next hop"), SOON, || hops(&router_ns, vip) == 1);
    }
    drop(first);
    for vip in [VIP4, VIP6] {
        eventually(&format!("{vip} is gone"), SOON, || hops(&router_ns, vip) == 0);
    }
}

/// To how many gateways the kernel sends packets to a VIP.
fn hops(router: &Namespace, vip: &str) -> usize {
    let gateways = |route: &serde_json::Value| route["nexthops"].as_array().map_or(1, Vec::len);
    router.routes(&host(vip)).iter().map(gateways).sum()
}
