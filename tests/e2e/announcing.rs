//! Announcing: what a router sees of the VIP while backends, sessions and the daemon itself come and go.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::SOON;
use crate::common::backend::{Backend, Gate, Manner};
use crate::common::bgp_peer::{BgpPeer, Seen};
use crate::common::bgp_wire::{Attributes, Message};
use crate::common::configuration::{LOCAL_AS, ROUTER_AS, bgp, bgp_peer, quick_check, vip, vip_service};
use crate::common::daemon::Daemon;
use crate::common::eventually::{eventually, throughout};
use crate::common::http::{Connection, backend_of};
use crate::common::load::Load;
use crate::common::status::{is_event, wait_health};
use crate::lab::{NO_DELAY, PORT, Places, announced};

const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;
fn med(value: u32) -> impl Fn(&Attributes) -> bool {
    move |attributes| attributes.med == Some(value)
}

#[test]
fn nothing_is_announced_before_a_backend_is_healthy_and_then_only_after_announce_delay() {
    let at = Places::take();
    let mut backend = Backend::stopped("a", at.local.addr(), Manner::Http);
    let peer = BgpPeer::start(ROUTER_AS);
    let daemon = Daemon::start(&at.local, &at.config(&peer, "announce_delay = \"1s\"\n", "", &[&backend]));
    peer.wait_established(SOON);
    wait_health(&daemon, "web", "a", "down");
    assert!(peer.routes().is_empty());
    let mark = daemon.stderr().len();
    backend.start_again();
    let up = daemon.wait_log(mark, SOON, &["backend_up", "web/a"]).at;
    let (seen, _) = peer.wait_announced(at.prefix(), SOON);
    let delay = seen.duration_since(up);
    assert!((Duration::from_millis(900)..Duration::from_secs(6)).contains(&delay), "{delay:?}");
    assert_eq!(backend_of(at.front()).unwrap(), "a");
}

#[test]
fn vip_is_withdrawn_when_its_last_backend_dies_and_announced_when_one_is_back() {
    let mut lab = announced("", "");
    lab.a.stop();
    wait_health(&lab.daemon, "web", "a", "down");
    assert!(lab.peer.routes().contains_key(&lab.at.prefix()), "one backend is enough");
    lab.b.stop();
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    lab.a.start_again();
    lab.peer.wait_announced(lab.at.prefix(), SOON);
    assert_eq!(backend_of(lab.at.front()).unwrap(), "a");
}

#[test]
fn hung_backends_withdraw_the_vip_too() {
    let lab = announced("", "");
    lab.a.behave(Manner::Silent);
    lab.b.behave(Manner::Silent);
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
}

#[test]
fn every_configured_attribute_is_on_the_wire_towards_an_external_peer() {
    let keys = "announce = { med = 7, local_pref = 300, prepend = 2, communities = [\"64512:100\", \"no-export\"], \
                large_communities = [\"64512:1:4294967295\"] }\n";
    let lab = announced(keys, "");
    let (_, seen) = lab.peer.wait_announced(lab.at.prefix(), SOON);
    let expected = Attributes {
        origin: Some(0),
        as_path: Some(vec![(2, vec![LOCAL_AS; 3])]),
        next_hop: Some(lab.at.local.ip()),
        med: Some(7),
        local_pref: None,
        communities: vec![LOCAL_AS << 16 | 100, 0xFFFF_FF01],
        large_communities: vec![(LOCAL_AS, 1, u32::MAX)],
    };
    assert_eq!(seen, expected);
}

#[test]
fn internal_peer_gets_local_pref_and_an_empty_as_path() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    let peer = BgpPeer::start(LOCAL_AS);
    let keys = format!("{NO_DELAY}announce = {{ local_pref = 300, prepend = 2 }}\n");
    let _daemon = Daemon::start(&at.local, &at.config(&peer, &keys, "", &[&backend]));
    let (_, seen) = peer.wait_announced(at.prefix(), SOON);
    assert_eq!((seen.local_pref, seen.as_path), (Some(300), Some(vec![])));
}

#[test]
fn peers_next_hop_override_is_announced() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    let peer = BgpPeer::start(ROUTER_AS);
    let config = bgp("")
        + &bgp_peer("tor-a", &peer, at.local.ip(), "next_hop = \"10.84.14.99\"\n")
        + &vip(at.vip.ip(), NO_DELAY)
        + &vip_service("web", at.vip.ip(), PORT, &quick_check(), &[&backend]);
    let _daemon = Daemon::start(&at.local, &config);
    let (_, seen) = peer.wait_announced(at.prefix(), SOON);
    assert_eq!(seen.next_hop, Some("10.84.14.99".parse().unwrap()));
}

#[test]
fn vip_goes_only_to_the_peers_it_names() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    let (named, other) = (BgpPeer::start(ROUTER_AS), BgpPeer::start(ROUTER_AS));
    let config = bgp("")
        + &bgp_peer("named", &named, at.local.ip(), "")
        + &bgp_peer("other", &other, at.local.ip(), "")
        + &vip(at.vip.ip(), &format!("{NO_DELAY}peers = [\"named\"]\n"))
        + &vip_service("web", at.vip.ip(), PORT, &quick_check(), &[&backend]);
    let _daemon = Daemon::start(&at.local, &config);
    named.wait_announced(at.prefix(), SOON);
    other.wait_established(SOON);
    throughout("nothing goes to the other peer", Duration::from_millis(300), || other.routes().is_empty());
}

#[test]
fn short_service_degrades_the_route_and_recovery_restores_it() {
    let mut lab =
        announced("announce = { med = 100 }\ndegraded = { med = 200, prepend = 2 }\n", "min_healthy = 2\n");
    lab.a.stop();
    lab.peer.wait_attributes(lab.at.prefix(), SOON, |a| {
        a.med == Some(200) && a.as_path == Some(vec![(2, vec![LOCAL_AS; 3])])
    });
    assert_eq!(backend_of(lab.at.front()).unwrap(), "b");
    lab.a.start_again();
    lab.peer.wait_attributes(lab.at.prefix(), SOON, med(100));
    lab.a.stop();
    lab.b.stop();
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
}

#[test]
fn on_short_withdraw_withdraws_what_would_be_degraded() {
    let mut lab = announced("on_short = \"withdraw\"\n", "min_healthy = 2\n");
    lab.a.stop();
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
}

#[test]
fn on_all_down_last_resort_keeps_the_route_as_the_worst_of_all() {
    let mut lab = announced("on_all_down = \"last_resort\"\n", "");
    lab.a.stop();
    lab.b.stop();
    lab.peer.wait_attributes(lab.at.prefix(), SOON, |a| {
        a.med == Some(u32::MAX) && a.communities.contains(&GRACEFUL_SHUTDOWN)
    });
}

#[test]
fn on_all_down_hold_leaves_the_route_as_it_is() {
    let mut lab = announced("on_all_down = \"hold\"\n", "");
    let mark = lab.peer.journal().len();
    lab.a.stop();
    lab.b.stop();
    wait_health(&lab.daemon, "web", "a", "down");
    wait_health(&lab.daemon, "web", "b", "down");
    throughout("the router hears nothing", Duration::from_millis(500), || {
        lab.peer.news_since(mark).is_empty()
    });
}

#[test]
fn service_that_is_not_required_does_not_count() {
    let at = Places::take();
    let needed = Backend::http("needed", at.local.addr());
    let spare = Backend::stopped("spare", at.local.addr(), Manner::Http);
    let peer = BgpPeer::start(ROUTER_AS);
    let config = at.config(&peer, NO_DELAY, "", &[&needed])
        + &vip_service(
            "extra",
            at.vip.ip(),
            PORT + 1,
            &format!("{}required = false\n", quick_check()),
            &[&spare],
        );
    let daemon = Daemon::start(&at.local, &config);
    let (_, seen) = peer.wait_announced(at.prefix(), SOON);
    assert_eq!(seen.med, Some(100));
    wait_health(&daemon, "extra", "spare", "down");
    assert!(peer.routes().contains_key(&at.prefix()));
}

#[test]
fn sigterm_withdraws_first_serves_meanwhile_then_ceases_and_exits_0() {
    let mut lab = announced("", "");
    let load = Load::on(&[lab.at.front()]);
    load.answers(50);
    let mark = lab.peer.journal().len();
    lab.daemon.signal(Signal::TERM);
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    // The router sends nobody any more, but who comes is still served.
    assert!(backend_of(lab.at.front()).is_ok());
    load.finish_without_failure();
    let (notified, code, subcode) = lab.peer.wait_notification(mark, SOON);
    assert_eq!((code, subcode), (6, 2), "Cease, Administrative Shutdown");
    let closed = lab.peer.journal().wait_since(mark, SOON, |seen| *seen == Seen::Closed).unwrap();
    assert!(closed.at >= notified);
    lab.daemon.wait_code(SOON, 0);
    let withdrawn = lab.peer.updates_since(mark);
    assert_eq!(withdrawn.iter().map(|u| u.withdrawn.len()).sum::<usize>(), 1, "{withdrawn:?}");
}

#[test]
fn request_in_flight_at_sigterm_is_answered() {
    let mut lab = announced("", "");
    let gate = Gate::default();
    lab.a.behave(Manner::Gated(gate.clone()));
    lab.b.behave(Manner::Gated(gate.clone()));
    let front = lab.at.front();
    let before = lab.a.requests() + lab.b.requests();
    let client = std::thread::spawn(move || backend_of(front));
    eventually("the request is at a backend", SOON, || lab.a.requests() + lab.b.requests() > before);
    let mark = lab.daemon.stderr().len();
    lab.daemon.signal(Signal::TERM);
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    lab.daemon.wait_log(mark, SOON, &["vip_changed", &lab.at.vip.ip().to_string(), "→ quiet"]);
    eventually("new connections are refused", SOON, || TcpStream::connect(front).is_err());
    assert!(lab.daemon.is_running(), "it waits for the request");
    gate.open();
    client.join().unwrap().unwrap();
    lab.daemon.wait_code(SOON, 0);
}

#[test]
fn drain_timeout_bounds_a_connection_that_never_ends() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    let peer = BgpPeer::start(ROUTER_AS);
    let config = at.config(&peer, NO_DELAY, "", &[&backend]);
    let mut daemon = Daemon::start(&at.local, &format!("[global]\ndrain_timeout = \"2s\"\n{config}"));
    peer.wait_announced(at.prefix(), SOON);
    let mut kept = Connection::open(at.front()).unwrap();
    kept.get("/").unwrap();
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    let end = daemon.wait_code(SOON, 0);
    let took = end.duration_since(start);
    assert!((Duration::from_millis(1500)..Duration::from_secs(10)).contains(&took), "{took:?}");
    assert!(kept.get("/").is_err());
}

#[test]
fn second_sigterm_stops_now_and_still_says_goodbye_to_the_router() {
    let mut lab = announced("", "");
    let mut kept = Connection::open(lab.at.front()).unwrap();
    kept.get("/").unwrap();
    let mark = lab.peer.journal().len();
    lab.daemon.signal(Signal::TERM);
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    let start = Instant::now();
    lab.daemon.signal(Signal::TERM);
    lab.daemon.wait_exit(SOON);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    let (_, code, _) = lab.peer.wait_notification(mark, SOON);
    assert_eq!(code, 6);
}

#[test]
fn kill_9_takes_the_session_with_it() {
    let lab = announced("", "");
    let mark = lab.peer.journal().len();
    lab.daemon.signal(Signal::KILL);
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    assert_eq!(lab.peer.news_since(mark), [Seen::Closed]);
}

#[test]
fn losing_the_session_touches_no_connection_and_the_route_comes_back() {
    let mut lab = announced("", "");
    let load = Load::on(&[lab.at.front()]);
    load.answers(20);
    lab.peer.stop();
    load.answers(200);
    lab.peer.listen_again();
    lab.peer.wait_announced(lab.at.prefix(), SOON);
    load.finish_without_failure();
}

#[test]
fn garbage_from_a_peer_gets_its_notification_and_costs_nothing_else() {
    let lab = announced("", "");
    let load = Load::on(&[lab.at.front()]);
    let mark = lab.peer.journal().len();
    lab.peer.send(&[0; 19]);
    let (_, code, subcode) = lab.peer.wait_notification(mark, SOON);
    assert_eq!((code, subcode), (1, 1), "Message Header Error, Connection Not Synchronized");
    lab.peer.journal().wait_since(mark, SOON, |seen| *seen == Seen::Connected).unwrap();
    lab.peer.wait_announced(lab.at.prefix(), SOON);
    load.finish_without_failure();
}

#[test]
fn peer_that_falls_silent_is_given_up_when_the_hold_time_is_over() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    let peer = BgpPeer::start(ROUTER_AS);
    let config = bgp("hold_time = \"3s\"\n")
        + &bgp_peer("tor-a", &peer, at.local.ip(), "")
        + &vip(at.vip.ip(), NO_DELAY)
        + &vip_service("web", at.vip.ip(), PORT, &quick_check(), &[&backend]);
    let daemon = Daemon::start(&at.local, &config);
    peer.wait_announced(at.prefix(), SOON);
    let mark = daemon.stderr().len();
    peer.freeze(true);
    daemon.wait_log(mark, SOON, &["peer_down", "tor-a", "4/0"]);
    assert_eq!(backend_of(at.front()).unwrap(), "a");
    let mark = peer.journal().len();
    peer.freeze(false);
    let (_, code, subcode) = peer.wait_notification(mark, SOON);
    assert_eq!((code, subcode), (4, 0));
    peer.wait_announced(at.prefix(), SOON);
}

#[test]
fn passive_peer_is_waited_for_and_accepted() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    // It dials from 127.0.0.1, as all loopback connections do.
    let peer = BgpPeer::start(ROUTER_AS);
    let listen = at.local.addr();
    let config = bgp(&format!("listen = [\"{listen}\"]\n"))
        + &format!(
            "[[bgp.peer]]\nname = \"tor-a\"\naddress = \"127.0.0.1\"\nremote_as = {ROUTER_AS}\npassive = true\n"
        )
        + &vip(at.vip.ip(), NO_DELAY)
        + &vip_service("web", at.vip.ip(), PORT, &quick_check(), &[&backend]);
    let daemon = Daemon::start(&at.local, &config);
    wait_health(&daemon, "web", "a", "up");
    assert!(peer.journal().since(0).is_empty(), "a passive peer is never dialled");
    eventually("the speaker accepts", SOON, || peer.dial(listen));
    let (_, seen) = peer.wait_announced(at.prefix(), SOON);
    assert_eq!(seen.next_hop, Some(listen.ip()));
}

#[test]
fn stranger_who_dials_is_turned_away() {
    let at = Places::take();
    let backend = Backend::http("a", at.local.addr());
    let (peer, stranger) = (BgpPeer::start(ROUTER_AS), BgpPeer::start(ROUTER_AS));
    let listen = at.local.addr();
    let config = bgp(&format!("listen = [\"{listen}\"]\n"))
        + &bgp_peer("tor-a", &peer, at.local.ip(), "")
        + &vip(at.vip.ip(), NO_DELAY)
        + &vip_service("web", at.vip.ip(), PORT, &quick_check(), &[&backend]);
    let _daemon = Daemon::start(&at.local, &config);
    peer.wait_announced(at.prefix(), SOON);
    eventually("the speaker listens", SOON, || stranger.dial(listen));
    stranger.journal().wait_since(0, SOON, |seen| *seen == Seen::Closed).unwrap();
    let opened = |seen: &Seen| matches!(seen, Seen::Message(Message::Open(_)));
    assert!(stranger.news_since(0).iter().all(|seen| !opened(seen)), "a stranger learns nothing");
    assert!(peer.routes().contains_key(&at.prefix()));
}

#[test]
fn one_log_chain_leads_from_the_failed_check_to_the_update() {
    let mut lab = announced("", "");
    lab.b.stop();
    wait_health(&lab.daemon, "web", "b", "down");
    let mark = lab.daemon.stderr().len();
    lab.a.stop();
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    lab.daemon.wait_log(mark, SOON, &["update_acknowledged"]);
    let records = lab.daemon.records(mark);
    let vip = lab.at.vip.ip().to_string();
    let find = |kind: &str, subject: &str| {
        let found = records.iter().find(|r| is_event(r, kind, subject));
        found.unwrap_or_else(|| panic!("no {kind} of {subject} in {records:#?}"))
    };
    let down = find("backend_down", "web/a");
    let short = find("service_short", "web");
    let changed = find("vip_changed", &vip);
    let sent = find("update_sent", "tor-a");
    let acknowledged = find("update_acknowledged", "tor-a");
    for (effect, cause) in [(short, down), (changed, short), (sent, changed), (acknowledged, sent)] {
        assert_eq!(effect["cause"], cause["id"], "{effect} is not caused by {cause}");
    }
}
