//! Looking at the running daemon: `status`, `bgp`, the JSON API, metrics and health over HTTP.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::common::SOON;
use crate::common::backend::{Backend, Manner};
use crate::common::bgp_peer::BgpPeer;
use crate::common::bgp_wire::{Prefix, frame};
use crate::common::configuration::{ROUTER_AS, bgp, bgp_peer, quick_check, service, vip, vip_service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http::{self, backend_of};
use crate::common::ports::Loopback;
use crate::common::status::{Status, readiness, wait_health, wait_phase};

/// A VIP with one HTTP service of backends `a` (running) and `b` (not), announced to one peer.
struct Lab {
    backends: [Backend; 2],
    peer: BgpPeer,
    daemon: Daemon,
    vip: Loopback,
    _local: Loopback,
}

fn lab() -> Lab {
    let (local, vip_address) = (Loopback::take(), Loopback::take());
    let backends = [Backend::http("a", local.addr()), Backend::stopped("b", local.addr(), Manner::Http)];
    let peer = BgpPeer::start(ROUTER_AS);
    let config = bgp("")
        + &bgp_peer("tor-a", &peer, local.ip(), "")
        + &vip(vip_address.ip(), "announce_delay = \"100ms\"\n")
        + &vip_service("web", vip_address.ip(), 8082, &quick_check(), &backends.each_ref());
    let daemon = Daemon::start(&local, &config);
    peer.wait_announced(Prefix::host(vip_address.ip()), SOON);
    wait_health(&daemon, "web", "b", "down");
    daemon.wait_ready(SOON);
    Lab { backends, peer, daemon, vip: vip_address, _local: local }
}

#[test]
fn status_shows_vip_service_andbackends_to_people_and_to_programs() {
    let lab = lab();
    let text = lab.daemon.cli("status", &[]);
    assert_eq!(text.code, Some(0));
    for word in ["READY", &lab.vip.ip().to_string(), "announced", "web", "a", "UP", "b", "DOWN", "refused"] {
        assert!(text.stdout.contains(word), "no {word} in\n{}", text.stdout);
    }
    let json = lab.daemon.cli("status", &["--json"]);
    let status = Status(serde_json::from_str(&json.stdout).unwrap());
    assert_eq!(status.health("web", "a"), Some("up"));
    assert_eq!(status.health("web", "b"), Some("down"));
    assert_eq!(status.phase(lab.vip.ip()), Some("announced"));
    assert_eq!(status.0["pid"], lab.daemon.id());
}

#[test]
fn bgp_shows_the_session_to_people_and_to_programs() {
    let lab = lab();
    let text = lab.daemon.cli("bgp", &[]);
    assert_eq!(text.code, Some(0));
    for word in ["tor-a", "Established", &ROUTER_AS.to_string(), &lab.peer.addr().ip().to_string()] {
        assert!(text.stdout.contains(word), "no {word} in\n{}", text.stdout);
    }
    let json: Value = serde_json::from_str(&lab.daemon.cli("bgp", &["--json"]).stdout).unwrap();
    let peer = &json[0];
    assert_eq!((&peer["name"], &peer["state"]), (&"tor-a".into(), &"Established".into()));
    assert_eq!(peer["remote_as"], ROUTER_AS);
}

#[test]
fn metrics_tell_ofbackends_traffic_and_sessions() {
    let lab = lab();
    let front = (lab.vip.ip(), 8082).into();
    let before = lab.daemon.metric("contrail_lb_service_connections_total{service=\"web\"}").unwrap();
    for _ in 0..5 {
        assert_eq!(backend_of(front).unwrap(), "a");
    }
    let at = |series: &str| lab.daemon.metric(series).unwrap_or_else(|| panic!("no {series}"));
    eventually("five more connections are counted", SOON, || {
        at("contrail_lb_service_connections_total{service=\"web\"}") == before + 5.0
    });
    assert_eq!(at("contrail_lb_backend_up{backend=\"a\",service=\"web\"}"), 1.0);
    assert_eq!(at("contrail_lb_backend_up{backend=\"b\",service=\"web\"}"), 0.0);
    assert_eq!(at("contrail_lb_bgp_peer_established{peer=\"tor-a\"}"), 1.0);
    assert_eq!(at(&format!("contrail_lb_vip_announced{{vip=\"{}\"}}", lab.vip.ip())), 1.0);
    assert_eq!(at("contrail_lb_ready"), 1.0);
}

#[test]
fn json_api_answers_what_the_verbs_print() {
    let lab = lab();
    let get = |path: &str| -> Value {
        let response = http::get(lab.daemon.admin(), path).unwrap();
        assert_eq!(
            (response.status, response.header("content-type")),
            (200, Some("application/json")),
            "{path}"
        );
        serde_json::from_slice(&response.body).unwrap()
    };
    assert_eq!(Status(get("/api/v1/status")).health("web", "a"), Some("up"));
    assert_eq!(get("/api/v1/services")[0]["name"], "web");
    assert_eq!(get("/api/v1/vips")[0]["phase"], "announced");
    assert_eq!(get("/api/v1/bgp/peers")[0]["state"], "Established");
    assert_eq!(http::get(lab.daemon.admin(), "/api/v1/nonsense").unwrap().status, 404);
}

#[test]
fn readyz_is_200_only_while_every_vip_is_announced() {
    let mut lab = lab();
    assert_eq!(readiness(&lab.daemon).unwrap(), 200);
    lab.backends[0].stop();
    wait_phase(&lab.daemon, lab.vip.ip(), "listening");
    assert_eq!(readiness(&lab.daemon).unwrap(), 503);
    assert_eq!(http::get(lab.daemon.admin(), "/healthz").unwrap().status, 200);
    lab.backends[0].start_again();
    lab.daemon.wait_ready(SOON);
    lab.peer.stop();
    eventually("not ready without a router", SOON, || readiness(&lab.daemon).unwrap() == 503);
}

#[test]
fn admin_http_asks_for_the_password_except_for_health() {
    let local = Loopback::take();
    let backend = Backend::http("a", local.addr());
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "contrail123\n").unwrap();
    let keys = format!("user = \"haproxy\"\npassword_file = {password:?}\n");
    let config = service("web", &[local.addr()], &quick_check(), &[&backend]);
    let daemon = Daemon::start_with_admin(&local, &keys, &config);
    assert_eq!(http::get(daemon.admin(), "/metrics").unwrap().status, 401);
    assert_eq!(http::get(daemon.admin(), "/healthz").unwrap().status, 200);
    let authorization = ("Authorization", "Basic aGFwcm94eTpjb250cmFpbDEyMw==");
    assert_eq!(http::get_with(daemon.admin(), "/metrics", &[authorization]).unwrap().status, 200);

    std::fs::write(&password, "another\n").unwrap();
    daemon.reload(&config);
    assert_eq!(http::get_with(daemon.admin(), "/metrics", &[authorization]).unwrap().status, 401);

    // An empty password protects nothing: refused, and the one before holds.
    std::fs::write(&password, "\n").unwrap();
    let ran = daemon.cli("reload", &[]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    let authorization = ("Authorization", "Basic aGFwcm94eTphbm90aGVy");
    assert_eq!(http::get_with(daemon.admin(), "/metrics", &[authorization]).unwrap().status, 200);
}

/// An UPDATE as a router has it: the host route `vip` by way of `next_hop`, from `ROUTER_AS` and the AS behind it.
fn another_path(vip: Ipv4Addr, next_hop: Ipv4Addr) -> Vec<u8> {
    let path = [ROUTER_AS, 64999].map(u32::to_be_bytes).concat();
    let attributes =
        [&[0x40, 1, 1, 0][..], &[0x40, 2, 10, 2, 2], &path, &[0x40, 3, 4], &next_hop.octets()].concat();
    let mut body = vec![0, 0, 0, u8::try_from(attributes.len()).unwrap()];
    body.extend(attributes);
    body.push(32);
    body.extend(vip.octets());
    frame(2, &body)
}

fn host_route_is_gone(vip: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 5, 32];
    body.extend(vip.octets());
    body.extend([0, 0]);
    frame(2, &body)
}

#[test]
fn what_a_router_says_of_our_vip_is_shown_and_nothing_else_it_says_is_kept() {
    let lab = lab();
    let IpAddr::V4(vip) = lab.vip.ip() else { panic!("IPv4") };
    let next_hop = Ipv4Addr::new(192, 0, 2, 77);
    let paths = || -> Vec<Value> {
        let status = Status::of(&lab.daemon).unwrap();
        status.vip(lab.vip.ip()).unwrap()["other_paths"].as_array().unwrap().clone()
    };
    assert!(paths().is_empty());
    lab.peer.send(&another_path(Ipv4Addr::new(203, 0, 113, 1), next_hop)); // not ours
    lab.peer.send(&another_path(vip, next_hop));
    eventually("the path is shown", SOON, || paths().len() == 1);
    assert_eq!(paths()[0]["next_hop"], "192.0.2.77");
    for (verb, words) in [("status", "192.0.2.77"), ("bgp", "192.0.2.77")] {
        let text = lab.daemon.cli(verb, &[]).stdout;
        assert!(text.contains(words), "no {words} in\n{text}");
    }
    assert_eq!(lab.daemon.ask("show bgp json").unwrap()[0]["paths"].as_array().unwrap().len(), 1);
    lab.peer.send(&host_route_is_gone(vip));
    eventually("it is gone", SOON, || paths().is_empty());
    let text = lab.daemon.cli("status", &[]).stdout;
    assert!(!text.contains("192.0.2.77"), "{text}");
}

#[test]
fn how_long_an_acknowledged_withdraw_took_is_in_the_metrics() {
    let mut lab = lab();
    assert_eq!(lab.daemon.metric("contrail_lb_bgp_withdraw_acked_seconds_count"), Some(0.0));
    lab.backends[0].stop();
    lab.peer.wait_withdrawn(Prefix::host(lab.vip.ip()), SOON);
    eventually("it is counted", SOON, || {
        lab.daemon.metric("contrail_lb_bgp_withdraw_acked_seconds_count") == Some(1.0)
    });
}
