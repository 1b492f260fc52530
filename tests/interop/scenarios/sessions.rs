//! How sessions come up, which families they carry, how they end and come back.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Row, scenarios};
use crate::common::SOON;
use crate::common::configuration::LOCAL_AS;
use crate::common::eventually::eventually;
use crate::lab::{LB4, LB6, Lab, Options, ROUTER4, VIP4, VIP6, host, over_ipv4, over_ipv6, session};
use crate::router::{Kind, Manner, Session};

scenarios! {
    each_family_on_its_own_session: bird2 bird1 frr gobgp;
    both_families_on_one_ipv4_session: bird2 frr gobgp, not bird1 "a daemon per family";
    both_families_on_one_ipv6_session: bird2 frr gobgp, not bird1 "a daemon per family";
    ipv4_with_an_ipv6_next_hop: bird2 frr gobgp, not bird1 "no RFC 8950";
    link_local_addresses: bird2 bird1 frr gobgp;
    inside_the_as: bird2 bird1 frr gobgp;
    four_octet_as_numbers: bird2 bird1 frr gobgp;
    peer_that_knows_two_octet_as_numbers_only: bird2 bird1 frr, not gobgp "always 4-octet";
    router_that_never_dials: bird2 bird1 frr gobgp;
    router_dials_and_we_never_do: bird2 bird1 frr gobgp;
    both_sides_dial: bird2 bird1 frr gobgp;
    router_asks_for_the_routes_again: bird2 bird1 frr, not gobgp "never asks: it keeps what it was told";
    router_clears_the_session: bird2 bird1 frr gobgp;
    router_shuts_the_session_down_and_says_why: bird2 bird1 frr gobgp;
    router_that_restarts_learns_the_vip_again: bird2 bird1 frr gobgp;
    router_that_freezes_is_left_when_the_hold_time_is_over: bird2 bird1 frr gobgp;
    routes_of_the_router_are_dropped_and_counted: bird2 bird1 frr gobgp;
}

fn is_established(peer: &Value) -> bool {
    peer["state"] == "Established"
}

fn each_family_on_its_own_session(router: Kind) {
    let lab = Lab::announced(router, Options::default());
    lab.wait_established();
    for (vip, next_hop) in [(VIP4, LB4), (VIP6, LB6)] {
        let route = lab.wait_rib(vip);
        assert_eq!((route.next_hop.to_string().as_str(), route.as_path), (next_hop, vec![LOCAL_AS]));
        if !router.has_kernel_routes() {
            continue;
        }
        lab.wait_fib(vip);
        for backend in ["a", "b"] {
            eventually(&format!("{backend} answers behind {vip}"), SOON, || {
                lab.fetch(vip).unwrap() == backend
            });
        }
    }
}

fn both_families_on_one_ipv4_session(router: Kind) {
    let options = Options {
        sessions: vec![over_ipv4(&["ipv4", "ipv6"])],
        peer: format!("next_hop = \"{LB6}\"\n"),
        ..Options::default()
    };
    let lab = Lab::announced(router, options);
    assert_eq!(lab.wait_rib(VIP4).next_hop.to_string(), LB4);
    assert_eq!(lab.wait_rib(VIP6).next_hop.to_string(), LB6);
}

fn both_families_on_one_ipv6_session(router: Kind) {
    let options = Options {
        sessions: vec![over_ipv6(&["ipv4", "ipv6"])],
        peer: format!("next_hop = \"{LB4}\"\n"),
        ..Options::default()
    };
    let lab = Lab::announced(router, options);
    assert_eq!(lab.wait_rib(VIP4).next_hop.to_string(), LB4);
    assert_eq!(lab.wait_rib(VIP6).next_hop.to_string(), LB6);
}

/// Without any IPv4 address between the two (RFC 8950).
fn ipv4_with_an_ipv6_next_hop(router: Kind) {
    let mut options = Options {
        sessions: vec![over_ipv6(&["ipv4", "ipv6"])],
        peer: "extended_next_hop = true\n".into(),
        ..Options::default()
    };
    options.manner.extended_next_hop = true;
    let lab = Lab::start(router, options);
    for vip in [VIP4, VIP6] {
        assert_eq!(lab.wait_rib(vip).next_hop.to_string(), LB6);
    }
    // FRR puts it into the kernel too, but finds the way there only by router advertisements.
    if router == Kind::Bird2 {
        eventually("the kernel has the route", SOON, || !lab.router_ns.routes(&host(VIP4)).is_empty());
        assert!(lab.fetch(VIP4).is_ok());
    }
}

/// The router is `fe80::1` on its link; BIRD 1.6 has IPv4 on a session of its own.
fn link_local_addresses(router: Kind) {
    let link_local = Session { interface: Some("to-lb"), ..session("fe80::1", "fe80::2", &["ipv6"]) };
    let options = Options { sessions: vec![over_ipv4(&["ipv4"]), link_local], ..Options::default() };
    let lab = Lab::announced(router, options);
    let route = lab.wait_rib(VIP6);
    assert_eq!(route.next_hop.to_string(), "fe80::2");
    if router.has_kernel_routes() {
        assert_eq!(lab.wait_fib(VIP6), "fe80::2");
        assert!(lab.fetch(VIP6).is_ok());
    }
}

fn inside_the_as(router: Kind) {
    let mut options = Options::default();
    options.manner.local_as = LOCAL_AS;
    options.vip += "announce = { local_pref = 150 }\n";
    let lab = Lab::announced(router, options);
    for (vip, next_hop) in [(VIP4, LB4), (VIP6, LB6)] {
        let route = lab.wait_rib(vip);
        assert_eq!(route.next_hop.to_string(), next_hop);
        assert_eq!((route.local_pref, route.as_path), (Some(150), vec![]));
    }
}

fn four_octet_as_numbers(router: Kind) {
    let ours = 4_200_000_001;
    let mut options = Options { local_as: ours, ..Options::default() };
    options.manner = Manner { local_as: 4_200_000_002, remote_as: ours, ..options.manner };
    let lab = Lab::announced(router, options);
    for vip in [VIP4, VIP6] {
        assert_eq!(lab.wait_rib(vip).as_path, [ours]);
    }
}

/// BIRD 1.6 sees AS_TRANS for a neighbour, and our AS in AS4_PATH (RFC 6793). BIRD 2 takes no 4-octet neighbour then, and
/// FRR no AS4_PATH, nor IPv6; they have a neighbour of a 2-octet AS.
fn peer_that_knows_two_octet_as_numbers_only(router: Kind) {
    let (ours, remote_as) = if router == Kind::Bird1 { (4_200_000_001, 23456) } else { (LOCAL_AS, LOCAL_AS) };
    let mut options = Options { local_as: ours, ..Options::default() };
    options.manner = Manner { four_octet_as: false, remote_as, ..options.manner };
    let lab = Lab::start(router, options);
    lab.wait_announced(VIP4);
    assert_eq!(lab.wait_rib(VIP4).as_path, [ours]);
    let peer = lab.wait_peer(0, "the session is up", is_established);
    assert_eq!(peer["negotiated"]["as4"], false, "{peer}");
}

fn router_that_never_dials(router: Kind) {
    let mut options = Options::default();
    options.manner.passive = true;
    Lab::announced(router, options);
}

fn listening() -> String {
    format!("listen = [\"{LB4}:179\", \"[{LB6}]:179\"]\n")
}

fn router_dials_and_we_never_do(router: Kind) {
    let options = Options { bgp: listening(), peer: "passive = true\n".into(), ..Options::default() };
    let lab = Lab::announced(router, options);
    assert_eq!(lab.peer(0)["connection_attempts"], 0);
}

/// Whoever dials first, or both at once: one session is left (RFC 4271 §6.8).
fn both_sides_dial(router: Kind) {
    let lab = Lab::announced(router, Options { bgp: listening(), ..Options::default() });
    lab.wait_established();
    for session in [0, 1] {
        lab.wait_peer(session, "the session is up", is_established);
    }
}

fn router_asks_for_the_routes_again(router: Kind) {
    let lab = Lab::announced(router, Options::default());
    for (number, session) in lab.options().sessions.iter().enumerate() {
        let before = lab.wait_peer(number, "the session is up", is_established);
        let mark = lab.router_events.stdout().len();
        lab.router().refresh(session);
        let count = |peer: &Value, way: &str, kind: &str| peer[way][kind].as_u64().unwrap_or(0);
        let after = lab.wait_peer(number, "the refresh is answered", |peer| {
            count(peer, "messages_in", "route_refresh") > count(&before, "messages_in", "route_refresh")
                && count(peer, "messages_out", "update") > count(&before, "messages_out", "update")
        });
        assert_eq!((&after["established"], &after["flaps"]), (&json!(1), &json!(0)));
        let events = lab.router_events.stdout().since(mark);
        assert!(!events.iter().any(|line| line.what.starts_with("Deleted")), "{events:?}");
    }
    for vip in [VIP4, VIP6] {
        lab.wait_announced(vip);
    }
}

fn router_clears_the_session(router: Kind) {
    let lab = Lab::announced(router, Options::default());
    lab.wait_peer(0, "the session is up", is_established);
    lab.router().clear(&lab.options().sessions[0]);
    let again = |peer: &Value| peer["flaps"] == 1 && peer["established"] == 2 && is_established(peer);
    let peer = lab.wait_peer(0, "the session ended and came back", again);
    assert_eq!(peer["last_received"]["code"][0], 6, "a Cease: {peer}");
    lab.wait_announced(VIP4);
    assert_eq!(lab.peer(1)["flaps"], 0, "the other session is untouched");
}

fn router_shuts_the_session_down_and_says_why(router: Kind) {
    let lab = Lab::announced(router, Options::default());
    lab.router().shut_down(&lab.options().sessions[0], "maintenance");
    let peer = lab.wait_peer(0, "the session has ended", |peer| peer["flaps"] == 1);
    assert_eq!(peer["last_received"]["code"], json!([6, 2]), "{peer}");
    assert!(peer["last_received"]["text"].as_str().unwrap().contains("maintenance"), "{peer}");
    let seen = lab.daemon.cli("bgp", &[]).stdout;
    assert!(seen.contains("received 6/2") && seen.contains("maintenance"), "{seen}");
}

fn router_that_restarts_learns_the_vip_again(router: Kind) {
    let mut lab = Lab::announced(router, Options::default());
    lab.restart_router();
    lab.wait_established();
    for vip in [VIP4, VIP6] {
        lab.wait_rib(vip);
        lab.wait_announced(vip);
    }
}

fn router_that_freezes_is_left_when_the_hold_time_is_over(router: Kind) {
    let lab = Lab::announced(router, Options { bgp: "hold_time = \"3s\"\n".into(), ..Options::default() });
    lab.wait_peer(0, "the session is up", is_established);
    let speakers = lab.router().speakers();
    speakers.iter().for_each(|process| process.signal(Signal::STOP));
    let peer = lab.wait_peer(0, "the session has ended", |peer| peer["flaps"] == 1);
    assert_eq!(peer["last_sent"]["code"], json!([4, 0]), "{peer}");
    speakers.iter().for_each(|process| process.signal(Signal::CONT));
    lab.wait_peer(0, "the session is back", is_established);
    lab.wait_announced(VIP4);
}

fn routes_of_the_router_are_dropped_and_counted(router: Kind) {
    let mut options = Options::default();
    options.manner.announces = true;
    let lab = Lab::announced(router, options);
    for session in [0, 1] {
        let dropped = |peer: &Value| peer["prefixes_dropped"].as_u64() >= Some(1);
        let peer = lab.wait_peer(session, "the router's route is counted", dropped);
        assert_eq!((&peer["updates_malformed"], &peer["flaps"]), (&json!(0), &json!(0)), "{peer}");
    }
    let routes = lab.lb_ns.run(&["ip", "route", "show"]);
    assert!(routes.contains(&format!("default via {ROUTER4}")) && !routes.contains("10.77."), "{routes}");
}
