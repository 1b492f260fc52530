//! What the router sees of a route's attributes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rustix::process::Signal;

use super::{Row, scenarios};
use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::LOCAL_AS;
use crate::common::load::Load;
use crate::lab::{Lab, Options, PORT, VIP4, VIP6};
use crate::router::{Kind, Route};

scenarios! {
    med_prepend_and_communities_arrive: bird2 bird1 frr gobgp;
    link_bandwidth_arrives: bird2 bird1 frr gobgp;
    drain_says_graceful_shutdown_before_it_withdraws: bird2 bird1 frr gobgp;
    drain_inside_the_as_is_local_pref_0: bird2 bird1 frr gobgp;
    graceful_shutdown_is_seen_when_nothing_is_left: bird2 bird1 frr gobgp;
}

/// `65535:0`, GRACEFUL_SHUTDOWN (RFC 8326), as the routers write it.
const GRACEFUL_SHUTDOWN: [&str; 2] = ["65535:0", "graceful-shutdown"];

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn med_prepend_and_communities_arrive(router: Kind) {
    let mut options = Options::default();
    options.vip += "announce = { med = 7, prepend = 1, communities = [\"64512:100\", \"64512:200\"], \
                    large_communities = [\"64512:1:2\", \"4200000001:3:4294967295\"] }\n";
    let lab = Lab::start(router, options);
    for vip in [VIP4, VIP6] {
        let route = lab.wait_rib(vip);
        assert_eq!((route.med, route.as_path), (Some(7), vec![LOCAL_AS; 2]));
        assert_eq!(route.communities, set(&["64512:100", "64512:200"]));
        assert_eq!(route.large_communities, set(&["64512:1:2", "4200000001:3:4294967295"]));
    }
}

fn link_bandwidth_arrives(router: Kind) {
    let mut options = Options::default();
    options.vip += "announce = { link_bandwidth = \"10Gbit\" }\n";
    let lab = Lab::start(router, options);
    for vip in [VIP4, VIP6] {
        assert_eq!(lab.wait_rib(vip).link_bandwidth, Some(10e9));
    }
}

/// Ends the daemon and answers the route that the router has before it has none. New connections hold the drain up in
/// between, and none of them fails.
fn last_route_of_a_drain(router: Kind, options: Options) -> Route {
    let mut lab = Lab::announced(router, options);
    let service = SocketAddr::new(VIP4.parse().unwrap(), PORT);
    let load = lab.lb_ns.within(|| Load::on(&[service]));
    lab.daemon.signal(Signal::TERM);
    let last = lab.wait_rib_with(VIP4, is_graceful_shutdown);
    load.finish_without_failure();
    lab.wait_no_rib(VIP4);
    lab.daemon.wait_code(SOON * 3, 0);
    last
}

fn is_graceful_shutdown(route: &Route) -> bool {
    GRACEFUL_SHUTDOWN.iter().any(|name| route.communities.contains(*name))
}

fn drain_says_graceful_shutdown_before_it_withdraws(router: Kind) {
    let route = last_route_of_a_drain(router, Options::default());
    assert_eq!(route.as_path.first(), Some(&LOCAL_AS));
}

fn drain_inside_the_as_is_local_pref_0(router: Kind) {
    let mut options = Options::default();
    options.manner.local_as = LOCAL_AS;
    assert_eq!(last_route_of_a_drain(router, options).local_pref, Some(0));
}

fn graceful_shutdown_is_seen_when_nothing_is_left(router: Kind) {
    let mut options = Options::default();
    options.vip += "on_all_down = \"last_resort\"\n";
    let mut lab = Lab::announced(router, options);
    lab.backends.iter_mut().for_each(Backend::stop);
    for vip in [VIP4, VIP6] {
        lab.wait_rib_with(vip, |route| route.med == Some(u32::MAX) && is_graceful_shutdown(route));
    }
}
