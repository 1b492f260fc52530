//! The figures a speaker is held to: `cargo test --release -p bgp-speaker --test figures -- --nocapture --test-threads 1`.
//! A debug build is allowed fifty times as long: it only shows that nothing got stuck.
#![allow(clippy::disallowed_methods, reason = "what is measured is time")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp_speaker::{PeerEvent, PeerState, Speaker};
use common::*;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const OURS: u32 = 64512;
const THEIRS: u32 = 64513;
const PEERS: u8 = 64;
const DECISION: Duration = Duration::from_millis(5);
const RE_ANNOUNCEMENT: Duration = Duration::from_millis(200);
const RESIDENT_KIB: usize = 30 * 1024;
const SESSION_UP: Duration = Duration::from_secs(1);

fn allowed(bound: Duration) -> Duration {
    if cfg!(debug_assertions) { bound * 50 } else { bound }
}

/// A speaker with 64 Established sessions to peers that read everything and say nothing more.
async fn with_64_peers(net: u8) -> (Speaker, mpsc::Receiver<PeerEvent>, JoinSet<()>) {
    let mut config = bgp(OURS, [10, 0, 0, 1], &[&format!("127.4.{net}.1:0")]);
    let address = |n: u8| IpAddr::V4([127, 4, net, 10 + n].into());
    for n in 0..PEERS {
        let at = std::net::SocketAddr::new(address(n), 179);
        config.peers.push(passive(peer(&format!("peer-{n}"), at, THEIRS)));
    }
    let (speaker, events) = start(&config).await;
    let mut reading = JoinSet::new();
    for n in 0..PEERS {
        eventually(&speaker, &format!("peer-{n}"), |status| status.state == PeerState::Active).await;
        let mut scripted = Scripted::connect(speaker.listening()[0], address(n)).await;
        scripted.establish(&open(THEIRS, 0)).await;
        reading.spawn(async move {
            let mut room = vec![0; 65_536];
            while scripted.stream.read(&mut room).await.is_ok_and(|count| count > 0) {}
        });
    }
    for n in 0..PEERS {
        established(&speaker, &format!("peer-{n}")).await;
    }
    (speaker, events, reading)
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_decision_is_on_the_wire_to_64_peers_within_5_ms() {
    let (speaker, mut events, _reading) = with_64_peers(1).await;
    let mut latencies = Vec::new();
    for version in 1..=50 {
        let prefixes: &[(&str, u32)] = if version % 2 == 0 { &[] } else { &[("192.0.2.1/32", 1)] };
        speaker.set_desired(routes(version, prefixes));
        for _peer in 0..PEERS {
            latencies.push(
                event(&mut events, |event| match event {
                    PeerEvent::Sent { since_decided, .. } => Some(since_decided),
                    _ => None,
                })
                .await,
            );
        }
    }
    latencies.sort();
    let (median, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    eprintln!("decision to write, {} samples: median {median:?}, p99 {p99:?}", latencies.len());
    assert!(p99 < allowed(DECISION), "p99 {p99:?}");
}

#[tokio::test]
async fn re_announcing_256_routes_to_64_peers_takes_200_ms_and_30_mib_at_most() {
    let (speaker, _events, _reading) = with_64_peers(2).await;
    let prefixes: Vec<String> = (0..=255).map(|n| format!("10.0.0.{n}/32")).collect();
    let mut slowest = Duration::ZERO;
    for version in 1..=5 {
        let all: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), version as u32)).collect();
        let desired = routes(version, &all);
        let start = Instant::now();
        speaker.set_desired(desired);
        let settled = speaker.settled(version, start + PATIENCE).await;
        assert_eq!(settled.acked.len(), usize::from(PEERS));
        slowest = slowest.max(start.elapsed());
    }
    let resident = resident_kib();
    eprintln!("64 peers x 256 routes: slowest of 5 {slowest:?}, resident {resident} KiB with the peers");
    assert!(slowest < allowed(RE_ANNOUNCEMENT), "{slowest:?}");
    assert!(resident < RESIDENT_KIB, "{resident} KiB");
}

/// How long until the session is up once a router is there that was away for three dials.
async fn session_up_after_absence(net: u8, router_dials: bool) -> Duration {
    let mut ours = bgp(OURS, [10, 0, 0, 1], &[&format!("127.4.{net}.1:0")]);
    ours.connect_retry = Duration::from_secs(5);
    // A port that nobody has: the router gives it up when it is stopped, and gets it back.
    let mut theirs = bgp(THEIRS, [10, 0, 0, 2], &[&format!("127.4.{net}.2:0")]);
    let (placeholder, _) = start(&theirs).await;
    theirs.listen = placeholder.listening();
    placeholder.shutdown("", Instant::now() + PATIENCE).await;
    let mut to_router = peer("router", theirs.listen[0], THEIRS);
    to_router.local_address = Some(IpAddr::V4([127, 4, net, 1].into()));
    ours.peers.push(to_router);
    let (speaker, _events) = start(&ours).await;
    // Into its back-off.
    eventually(&speaker, "router", |status| status.connection_attempts >= 4).await;
    let mut to_us = peer("us", speaker.listening()[0], OURS);
    to_us.local_address = Some(IpAddr::V4([127, 4, net, 2].into()));
    to_us.passive = !router_dials;
    theirs.peers.push(to_us);
    let start_of_router = Instant::now();
    let (_router, _router_events) = start(&theirs).await;
    established(&speaker, "router").await;
    start_of_router.elapsed()
}

#[tokio::test]
async fn a_session_is_up_within_a_second_of_the_routers_being_ready() {
    let took = session_up_after_absence(3, true).await;
    eprintln!("session up {took:?} after the router, which dials");
    assert!(took < allowed(SESSION_UP), "{took:?}");
}

#[tokio::test]
async fn a_session_is_up_within_a_second_of_a_router_that_never_dials() {
    let took = session_up_after_absence(4, false).await;
    eprintln!("session up {took:?} after the router, which we dial");
    assert!(took < allowed(SESSION_UP), "{took:?}");
}
