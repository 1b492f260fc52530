//! Reload: a wrong file changes nothing, a good one touches only what it names.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::SOON;
use crate::common::backend::{Backend, Gate, Manner};
use crate::common::bgp_peer::{BgpPeer, Seen};
use crate::common::bgp_wire::Prefix;
use crate::common::configuration::{ROUTER_AS, bgp, bgp_peer, quick_check, service, vip, vip_service};
use crate::common::daemon::Daemon;
use crate::common::eventually::{eventually, throughout};
use crate::common::http::{Connection, backend_of};
use crate::common::load::Load;
use crate::common::ports::Loopback;
use crate::common::status::{Status, is_event, wait_health, wait_phase};

const PORT: u16 = 8082;

/// A running service `web` on a VIP with backends `a`, `b` and `c`, known to a router, and room for more.
struct Lab {
    backends: [Backend; 3],
    peer: BgpPeer,
    daemon: Daemon,
    at: Places,
}

/// Claimed for the whole test.
struct Places {
    local: Loopback,
    vip: Loopback,
    second_vip: Loopback,
    second_front: SocketAddr,
}

impl Places {
    fn front(&self) -> SocketAddr {
        (self.vip.ip(), PORT).into()
    }

    fn peers(&self, peers: &[&BgpPeer]) -> String {
        let tables = peers.iter().enumerate();
        let tables = tables.map(|(n, peer)| bgp_peer(&format!("router-{n}"), peer, self.local.ip(), ""));
        bgp("") + &tables.collect::<String>()
    }

    fn vip(&self, keys: &str) -> String {
        vip(self.vip.ip(), &format!("announce_delay = \"0s\"\n{keys}"))
    }

    fn web(&self, backends: &[&Backend]) -> String {
        vip_service("web", self.vip.ip(), PORT, &quick_check(), backends)
    }
}

fn lab() -> Lab {
    let local = Loopback::take();
    let second_front = local.addr();
    let at = Places { local, vip: Loopback::take(), second_vip: Loopback::take(), second_front };
    let backends = ["a", "b", "c"].map(|name| Backend::http(name, at.local.addr()));
    let peer = BgpPeer::start(ROUTER_AS);
    let daemon =
        Daemon::start(&at.local, &(at.peers(&[&peer]) + &at.vip("") + &at.web(&backends.each_ref())));
    for name in ["a", "b", "c"] {
        wait_health(&daemon, "web", name, "up");
    }
    wait_phase(&daemon, at.vip.ip(), "announced");
    peer.wait_announced(Prefix::host(at.vip.ip()), SOON);
    Lab { backends, peer, daemon, at }
}

impl Lab {
    /// The configuration it was started with.
    fn present(&self) -> String {
        self.at.peers(&[&self.peer]) + &self.at.vip("") + &self.at.web(&self.backends.each_ref())
    }

    /// Records since `mark` that tell of a health transition of a backend of `web`.
    fn health_events(&self, mark: usize) -> Vec<Value> {
        let tells = |r: &Value| {
            ["a", "b", "c"].iter().any(|name| {
                let subject = format!("web/{name}");
                is_event(r, "backend_up", &subject) || is_event(r, "backend_down", &subject)
            })
        };
        self.daemon.records(mark).into_iter().filter(tells).collect()
    }

    /// What `reload` says to a configuration that it must refuse.
    #[track_caller]
    fn refused(&self, config: &str) -> String {
        self.daemon.write_config(config);
        let ran = self.daemon.cli("reload", &[]);
        assert_eq!(ran.code, Some(78), "{ran:?}");
        ran.stderr
    }

    /// Long enough for what a change might wrongly have set off to show.
    #[track_caller]
    fn router_hears_nothing(&self, mark: usize) {
        throughout("the router hears nothing", Duration::from_millis(500), || {
            let news = self.peer.news_since(mark);
            if news.is_empty() { Ok(()) } else { Err(format!("{news:?}")) }
        });
    }
}

#[test]
fn wrong_file_changes_nothing_and_reload_says_what_is_wrong() {
    let lab = lab();
    let load = Load::on(&[lab.at.front()]);
    let (mark, log) = (lab.peer.journal().len(), lab.daemon.stderr().len());
    lab.daemon.write_config(&lab.present().replace("0s", "soon"));
    let ran = lab.daemon.cli("reload", &[]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.stderr.contains("announce_delay") && ran.stderr.contains("soon"), "{}", ran.stderr);
    let status = Status::of(&lab.daemon).unwrap();
    assert_eq!((&status.0["reloads"]["applied"], &status.0["reloads"]["refused"]), (&0.into(), &1.into()));
    assert!(status.0["reloads"]["last_error"].as_str().unwrap().contains("announce_delay"));
    lab.router_hears_nothing(mark);
    assert!(lab.health_events(log).is_empty());
    load.finish_without_failure();
    lab.daemon.reload(&lab.present());
    assert_eq!(Status::of(&lab.daemon).unwrap().0["reloads"]["last_error"], Value::Null);
}

#[test]
fn sighup_applies_a_good_file_and_logs_why_it_refuses_a_wrong_one() {
    let lab = lab();
    let mark = lab.daemon.stderr().len();
    lab.daemon.write_config(&lab.present().replace("0s", "soon"));
    lab.daemon.signal(Signal::HUP);
    lab.daemon.wait_log(mark, SOON, &["announce_delay", "soon"]);
    let [a, b, _] = &lab.backends;
    lab.daemon.write_config(&(lab.at.peers(&[&lab.peer]) + &lab.at.vip("") + &lab.at.web(&[a, b])));
    lab.daemon.signal(Signal::HUP);
    eventually("c is gone", SOON, || Status::of(&lab.daemon).unwrap().backend("web", "c").is_none());
}

#[test]
fn unchanged_file_changes_nothing() {
    let lab = lab();
    let (mark, log) = (lab.peer.journal().len(), lab.daemon.stderr().len());
    let load = Load::on(&[lab.at.front()]);
    for _ in 0..3 {
        lab.daemon.reload(&lab.present());
    }
    lab.router_hears_nothing(mark);
    assert!(lab.health_events(log).is_empty());
    load.finish_without_failure();
}

#[test]
fn backends_come_and_go_under_load_without_a_failed_request_or_a_bgp_message() {
    let lab = lab();
    let (mark, log) = (lab.peer.journal().len(), lab.daemon.stderr().len());
    let [a, b, c] = &lab.backends;
    let base = lab.at.peers(&[&lab.peer]) + &lab.at.vip("");
    let load = Load::on(&[lab.at.front()]);
    for _ in 0..3 {
        for set in [&[a, b][..], &[a], &[a, c], &[a, b, c]] {
            lab.daemon.reload(&(base.clone() + &lab.at.web(set)));
            load.answers(50);
        }
    }
    for name in ["b", "c"] {
        wait_health(&lab.daemon, "web", name, "up");
    }
    load.finish_without_failure();
    lab.router_hears_nothing(mark);
    let of_a: Vec<_> = lab.health_events(log).into_iter().filter(|r| r["subject"] == "web/a").collect();
    assert!(of_a.is_empty(), "a was never touched: {of_a:?}");
}

#[test]
fn unchanged_backend_keeps_health_and_counters() {
    let lab = lab();
    for _ in 0..9 {
        backend_of(lab.at.front()).unwrap();
    }
    let counted = |lab: &Lab| {
        let status = Status::of(&lab.daemon).unwrap();
        let a = status.backend("web", "a").unwrap();
        (a["connections_total"].as_u64().unwrap(), a["since_seconds"].as_f64().unwrap(), a["health"].clone())
    };
    let (total, since, _) = counted(&lab);
    assert!(total >= 3);
    let [a, b, _] = &lab.backends;
    lab.daemon.reload(&(lab.at.peers(&[&lab.peer]) + &lab.at.vip("") + &lab.at.web(&[a, b])));
    let (total_after, since_after, health) = counted(&lab);
    assert!(total_after >= total && since_after >= since, "{total_after} {since_after}");
    assert_eq!(health, "up");
}

#[test]
fn removed_backends_connections_live_on_until_they_end() {
    let lab = lab();
    let gate = Gate::default();
    lab.backends.iter().for_each(|b| b.behave(Manner::Gated(gate.clone())));
    let front = lab.at.front();
    let clients: Vec<_> = (0..3).map(|_| std::thread::spawn(move || backend_of(front))).collect();
    eventually("one request is at each backend", SOON, || lab.backends.iter().all(|b| b.requests() == 1));
    lab.daemon.reload(&(lab.at.peers(&[&lab.peer]) + &lab.at.vip("") + &lab.at.web(&[&lab.backends[0]])));
    gate.open();
    let mut answers: Vec<_> = clients.into_iter().map(|c| c.join().unwrap().unwrap()).collect();
    answers.sort();
    assert_eq!(answers, ["a", "b", "c"]);
}

#[test]
fn services_come_and_go_under_load_and_no_other_service_notices() {
    let lab = lab();
    let mark = lab.peer.journal().len();
    let load = Load::on(&[lab.at.front()]);
    let mut kept = Connection::open(lab.at.front()).unwrap();
    let second = service("second", &[lab.at.second_front], &quick_check(), &[&lab.backends[0]]);
    for _ in 0..3 {
        lab.daemon.reload(&(lab.present() + &second));
        wait_health(&lab.daemon, "second", "a", "up");
        assert_eq!(backend_of(lab.at.second_front).unwrap(), "a");
        load.answers(50);
        lab.daemon.reload(&lab.present());
        eventually("the second service is gone", SOON, || backend_of(lab.at.second_front).is_err());
        assert_eq!(kept.get("/").unwrap().status, 200);
        load.answers(50);
    }
    load.finish_without_failure();
    lab.router_hears_nothing(mark);
}

#[test]
fn listener_added_to_a_service_leaves_the_present_ones_open() {
    let lab = lab();
    let load = Load::on(&[lab.at.front()]);
    let mut kept = Connection::open(lab.at.front()).unwrap();
    kept.get("/").unwrap();
    let more =
        lab.present().replace(&format!("ports = [{PORT}]"), &format!("ports = [{PORT}, {}]", PORT + 1));
    lab.daemon.reload(&more);
    backend_of((lab.at.vip.ip(), PORT + 1).into()).unwrap();
    assert_eq!(kept.get("/").unwrap().status, 200);
    lab.daemon.reload(&lab.present());
    assert_eq!(kept.get("/").unwrap().status, 200);
    load.finish_without_failure();
}

#[test]
fn peers_come_and_go_and_the_first_one_hears_nothing() {
    let lab = lab();
    let mark = lab.peer.journal().len();
    let load = Load::on(&[lab.at.front()]);
    let second = BgpPeer::start(ROUTER_AS);
    let rest = lab.at.vip("") + &lab.at.web(&lab.backends.each_ref());
    lab.daemon.reload(&(lab.at.peers(&[&lab.peer, &second]) + &rest));
    second.wait_announced(Prefix::host(lab.at.vip.ip()), SOON);
    let left = second.journal().len();
    lab.daemon.reload(&lab.present());
    let (_, code, subcode) = second.wait_notification(left, SOON);
    assert_eq!((code, subcode), (6, 3), "Cease, Peer De-configured");
    second.journal().wait_since(left, SOON, |seen| *seen == Seen::Closed).unwrap();
    load.finish_without_failure();
    lab.router_hears_nothing(mark);
}

#[test]
fn changed_attributes_are_exactly_one_update() {
    let lab = lab();
    let mark = lab.peer.journal().len();
    let prefix = Prefix::host(lab.at.vip.ip());
    let rest = lab.at.web(&lab.backends.each_ref());
    lab.daemon.reload(&(lab.at.peers(&[&lab.peer]) + &lab.at.vip("announce = { med = 7 }\n") + &rest));
    lab.peer.wait_attributes(prefix, SOON, |a| a.med == Some(7));
    let after = lab.peer.journal().len();
    lab.router_hears_nothing(after);
    let news = lab.peer.updates_since(mark);
    assert_eq!(news.len(), 1, "{news:?}");
    assert!(news[0].withdrawn.is_empty() && news[0].announced == [prefix]);
}

#[test]
fn vips_come_and_go_and_the_first_one_stays_announced() {
    let lab = lab();
    let load = Load::on(&[lab.at.front()]);
    let (first, second) = (Prefix::host(lab.at.vip.ip()), Prefix::host(lab.at.second_vip.ip()));
    let more = lab.present()
        + &vip(lab.at.second_vip.ip(), "announce_delay = \"0s\"\n")
        + &vip_service("second", lab.at.second_vip.ip(), PORT, &quick_check(), &[&lab.backends[0]]);
    let mark = lab.peer.journal().len();
    lab.daemon.reload(&more);
    lab.peer.wait_announced(second, SOON);
    assert_eq!(backend_of((lab.at.second_vip.ip(), PORT).into()).unwrap(), "a");
    lab.daemon.reload(&lab.present());
    lab.peer.wait_withdrawn(second, SOON);
    eventually("its listener is closed", SOON, || backend_of((lab.at.second_vip.ip(), PORT).into()).is_err());
    load.finish_without_failure();
    let news = lab.peer.updates_since(mark);
    assert!(news.iter().all(|u| !u.announced.contains(&first) && !u.withdrawn.contains(&first)), "{news:?}");
}

/// A change that cannot be put to work: somebody else has the port.
#[test]
fn refused_change_costs_no_session_even_where_it_would_have_ended_them_all() {
    let lab = lab();
    let taken = std::net::TcpListener::bind(lab.at.second_front).unwrap();
    let mark = lab.peer.journal().len();
    let extra = service("extra", &[taken.local_addr().unwrap()], &quick_check(), &[&lab.backends[0]]);
    // Without any BGP, and with every session changed.
    let without_bgp = lab.at.vip("") + &lab.at.web(&lab.backends.each_ref()) + &extra;
    let changed = lab.present().replace("[[vip]]", "hold_time = \"30s\"\n[[vip]]") + &extra;
    for config in [without_bgp, changed] {
        let ran = lab.refused(&config);
        assert!(ran.contains("nothing was changed"), "{ran}");
    }
    lab.router_hears_nothing(mark);
    lab.daemon.reload(&lab.present());
    lab.router_hears_nothing(mark);
    assert!(backend_of(lab.at.front()).is_ok());
}

#[test]
fn reload_during_a_planned_stop_is_refused_and_announces_nothing() {
    let lab = lab();
    let gate = Gate::default();
    for backend in &lab.backends {
        backend.behave(Manner::Gated(gate.clone()));
    }
    let front = lab.at.front();
    let before: usize = lab.backends.iter().map(Backend::requests).sum();
    let client = std::thread::spawn(move || backend_of(front));
    eventually("the request is at a backend", SOON, || {
        lab.backends.iter().map(Backend::requests).sum::<usize>() > before
    });
    lab.daemon.signal(Signal::TERM);
    lab.peer.wait_withdrawn(Prefix::host(lab.at.vip.ip()), SOON);
    let mark = lab.peer.journal().len();
    let second = vip(lab.at.second_vip.ip(), "announce_delay = \"0s\"\n")
        + &vip_service("second", lab.at.second_vip.ip(), PORT, &quick_check(), &[&lab.backends[0]]);
    let ran = lab.refused(&(lab.present() + &second));
    assert!(ran.contains("stopping"), "{ran}");
    lab.router_hears_nothing(mark);
    gate.open();
    assert!(client.join().unwrap().is_ok());
}

#[test]
fn vip_removed_by_mistake_comes_back_while_it_still_drains() {
    let lab = lab();
    let mut held = Connection::open(lab.at.front()).unwrap();
    held.get("/").unwrap();
    let without = lab.at.peers(&[&lab.peer])
        + &service("web", &[lab.at.second_front], &quick_check(), &lab.backends.each_ref());
    lab.daemon.reload(&without);
    lab.peer.wait_withdrawn(Prefix::host(lab.at.vip.ip()), SOON);
    let mark = lab.peer.journal().len();
    lab.daemon.reload(&lab.present());
    eventually("it is announced again", SOON, || !lab.peer.updates_since(mark).is_empty());
    assert!(backend_of(lab.at.front()).is_ok());
    held.get("/").unwrap();
}
