//! Taking a host out and putting it back: `drain`, `undrain`, and what `events` and `why` tell of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::SOON;
use crate::common::eventually::eventually;
use crate::common::http::{self, backend_of};
use crate::common::load::Load;
use crate::common::status::{wait_health, wait_phase};
use crate::lab::announced;

const GRACEFUL_SHUTDOWN: u32 = 0xFFFF_0000;

#[test]
fn a_drained_host_announces_the_worst_route_then_none_and_then_refuses() {
    let lab = announced("degraded = { med = 200 }\n", "");
    let said = lab.daemon.cli("drain", &["--no-wait"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    lab.peer.wait_attributes(lab.at.prefix(), SOON, |a| {
        a.med == Some(200) && a.communities.contains(&GRACEFUL_SHUTDOWN)
    });
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    wait_phase(&lab.daemon, lab.at.vip.ip(), "address_down");
    assert!(TcpStream::connect(lab.at.front()).is_err());
    let status = lab.daemon.cli("status", &[]).stdout;
    assert!(status.contains("drained by an operator; it is down"), "{status}");
    assert_eq!(http::get(lab.daemon.admin(), "/readyz").unwrap().status, 503);
}

#[test]
fn an_undrained_host_serves_and_announces_again() {
    let lab = announced("", "");
    assert_eq!(lab.daemon.cli("drain", &[]).code, Some(0), "waits until it is done");
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    assert_eq!(lab.daemon.cli("undrain", &[]).code, Some(0));
    lab.peer.wait_announced(lab.at.prefix(), SOON);
    assert!(backend_of(lab.at.front()).is_ok());
    lab.daemon.wait_ready(SOON);
    let why = lab.daemon.cli("why", &[&lab.at.vip.ip().to_string()]).stdout;
    for words in ["this host: by an operator", "→ init", "→ announced"] {
        assert!(why.contains(words), "no {words:?} in\n{why}");
    }
}

#[test]
fn a_drain_ended_before_the_withdrawal_costs_nobody_anything() {
    let lab = announced("", "");
    let load = Load::on(&[lab.at.front()]);
    load.answers(20);
    assert_eq!(lab.daemon.cli("drain", &["--no-wait"]).code, Some(0));
    lab.peer.wait_attributes(lab.at.prefix(), SOON, |a| a.communities.contains(&GRACEFUL_SHUTDOWN));
    assert_eq!(lab.daemon.cli("undrain", &[]).code, Some(0));
    lab.peer.wait_attributes(lab.at.prefix(), SOON, |a| !a.communities.contains(&GRACEFUL_SHUTDOWN));
    load.answers(20);
    load.finish_without_failure();
}

#[test]
fn why_tells_the_steps_from_the_failed_check_to_the_acknowledged_withdraw() {
    let mut lab = announced("", "");
    lab.a.stop();
    wait_health(&lab.daemon, "web", "a", "down");
    lab.b.stop();
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    let vip = lab.at.vip.ip().to_string();
    let kinds = || -> Vec<String> {
        let ran = lab.daemon.cli("why", &[&vip, "--json"]);
        let chain: Value = serde_json::from_str(&ran.stdout).unwrap();
        let events = chain["events"].as_array().unwrap();
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    };
    let expected = [
        "backend_down",
        "service_short",
        "vip_changed",
        "update_sent",
        "update_acknowledged",
        "traffic_ended",
    ];
    eventually("the chain is whole", SOON, || {
        let kinds = kinds();
        (kinds == expected).then_some(()).ok_or(format!("{kinds:?}"))
    });
    let text = lab.daemon.cli("why", &[&vip]).stdout;
    for words in ["web/b: up → down", "refused", "announced → listening", "UPDATE written: withdrawn"] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    let backend = lab.daemon.cli("why", &["web/a"]).stdout;
    assert!(backend.contains("web/a: up → down"), "{backend}");
    let unknown = lab.daemon.cli("why", &["web/z"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(64), ""));
}

#[test]
fn events_are_listed_in_order_and_streamed_as_they_happen() {
    let mut lab = announced("", "");
    let listed = lab.daemon.cli("events", &["--json"]).stdout;
    let ids: Vec<u64> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert!(ids.len() > 3 && ids.is_sorted(), "{ids:?}");

    let mut stream = TcpStream::connect(lab.daemon.admin()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let last = ids.last().unwrap();
    write!(stream, "GET /api/v1/events?follow=true HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {last}\r\n\r\n")
        .unwrap();
    lab.b.stop();
    let mut seen = String::new();
    let mut chunk = [0; 4096];
    while !seen.contains("event: backend_down") {
        let n = stream.read(&mut chunk).unwrap();
        assert_ne!(n, 0, "the stream ended after {seen}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    assert!(seen.contains("text/event-stream"), "{seen}");
    assert!(!seen.contains(&format!("id: {last}\n")), "what was seen before is not sent again");
}

#[test]
fn a_vip_that_comes_and_goes_is_held_back_and_released_by_command() {
    let mut lab = announced("flap = { half_life = \"1h\", max_delay = \"1h\" }\n", "");
    lab.b.stop();
    wait_health(&lab.daemon, "web", "b", "down");
    let vip = lab.at.vip.ip();
    // With announce_delay = "0s" the second time costs 2 s, the fourth 8 s.
    for _ in 0..3 {
        lab.a.stop();
        lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
        lab.a.start_again();
        lab.peer.wait_announced(lab.at.prefix(), SOON);
    }
    lab.a.stop();
    lab.peer.wait_withdrawn(lab.at.prefix(), SOON);
    lab.a.start_again();
    wait_health(&lab.daemon, "web", "a", "up");
    let status = lab.daemon.cli("status", &[]).stdout;
    assert!(status.contains("held back"), "{status}");
    assert_eq!(lab.daemon.cli("release", &[&vip.to_string()]).code, Some(0));
    lab.peer.wait_announced(lab.at.prefix(), std::time::Duration::from_secs(3));
}

#[test]
fn commands_during_a_planned_stop_say_that_there_is_no_way_back() {
    let lab = announced("", "");
    // A connection that stays: the stop waits for it.
    let mut client = TcpStream::connect(lab.at.front()).unwrap();
    client.write_all(b"GET /").unwrap();
    lab.daemon.signal(Signal::TERM);
    eventually("the stop has begun", SOON, || lab.daemon.cli("status", &[]).stdout.contains("planned stop"));
    for verb in ["drain", "undrain"] {
        let said = lab.daemon.cli(verb, &[]);
        assert_eq!(said.code, Some(69), "{said:?}");
        assert!(said.stderr.contains("the daemon is stopping"), "{said:?}");
    }
    let said = lab.daemon.cli("undrain", &["--json"]);
    let outcome: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(outcome["ok"], false);
}
