//! Two of our speakers over loopback: sessions, routes, acknowledgements, reload and shutdown.
#![allow(clippy::disallowed_methods, reason = "tests over real sockets own their clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bgp_speaker::{PeerEvent, PeerState, Speaker, SpeakerError};
use common::*;
use config::{Bgp, Family};
use tokio::sync::mpsc;

type Events = mpsc::Receiver<PeerEvent>;

const A: u32 = 64512;
const B: u32 = 64513;

/// Two configurations that a test may change before they start: `a` accepts from `b`, `b` will dial `a`.
fn configurations(net: u8, as_a: u32, as_b: u32) -> (Bgp, Bgp) {
    let mut a = bgp(as_a, [10, 0, 0, 1], &[&format!("127.1.{net}.1:0")]);
    a.peers.push(passive(peer("b", format!("127.1.{net}.2:179").parse().unwrap(), as_b)));
    let mut b = bgp(as_b, [10, 0, 0, 2], &[]);
    let mut to_a = peer("a", format!("127.1.{net}.1:179").parse().unwrap(), as_a);
    to_a.local_address = Some(IpAddr::V4([127, 1, net, 2].into()));
    b.peers.push(to_a);
    (a, b)
}

/// Starts both; `b` dials the port that `a` got.
async fn start_both(a: &Bgp, mut b: Bgp) -> (Speaker, Events, Speaker, Events) {
    let (a, a_events) = start(a).await;
    b.peers[0].port = a.listening()[0].port();
    let (b, b_events) = start(&b).await;
    (a, a_events, b, b_events)
}

async fn pair(net: u8) -> (Speaker, Events, Speaker, Events) {
    let (a, b) = configurations(net, A, B);
    start_both(&a, b).await
}

#[tokio::test]
async fn a_dialling_and_a_passive_speaker_establish_and_routes_are_acknowledged() {
    let (a, mut a_events, b, _b_events) = pair(1).await;
    a.set_desired(routes(1, &[("192.0.2.10/32", 100)]));
    let up = event(&mut a_events, |event| match event {
        PeerEvent::Up { negotiated, .. } => Some(negotiated),
        _ => None,
    });
    let negotiated = up.await;
    assert_eq!(negotiated.hold_time, 9);
    assert!(negotiated.as4 && negotiated.enhanced_refresh);
    established(&b, "a").await;
    let settled = a.settled(1, Instant::now() + PATIENCE).await;
    assert_eq!((settled.acked, settled.late), (vec![name("b")], vec![]));
    let status = eventually(&b, "a", |status| status.prefixes_dropped == 1).await;
    assert_eq!(status.updates_malformed, 0);
    a.set_desired(routes(2, &[]));
    let (announced, withdrawn) = event(&mut a_events, |event| match event {
        PeerEvent::Sent { version: 2, announced, withdrawn, .. } => Some((announced, withdrawn)),
        _ => None,
    })
    .await;
    assert_eq!((announced, withdrawn), (vec![], vec!["192.0.2.10/32".parse().unwrap()]));
    event(&mut a_events, |event| {
        matches!(event, PeerEvent::Acked { version: 2, cause: 20, .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_inside_an_as_establishes_over_ipv6() {
    let mut a = bgp(A, [10, 0, 0, 1], &["[::1]:0"]);
    a.peers.push(passive(peer("b", "[::1]:179".parse().unwrap(), A)));
    let mut b = bgp(A, [10, 0, 0, 2], &[]);
    b.peers.push(peer("a", "[::1]:179".parse().unwrap(), A));
    let (a, _a_events, b, _b_events) = start_both(&a, b).await;
    a.set_desired(routes(1, &[("2001:db8::1/128", 5), ("192.0.2.1/32", 5)]));
    eventually(&b, "a", |status| status.prefixes_dropped == 1).await;
    let status = eventually(&a, "b", |status| status.version_acknowledged == 1).await;
    assert_eq!((status.routes_desired, status.routes_sent, status.routes_acknowledged), (1, 1, 1));
    assert_eq!(status.unannounced[0].prefix, "192.0.2.1/32".parse().unwrap());
    assert!(status.unannounced[0].reason.contains("next_hop"));
}

#[tokio::test]
async fn two_speakers_that_dial_each_other_end_with_one_session() {
    let (a, mut a_events) = start(&bgp(A, [10, 0, 0, 1], &["127.1.3.1:0"])).await;
    let (b, mut b_events) = start(&bgp(B, [10, 0, 0, 2], &["127.1.3.2:0"])).await;
    let (mut to_b, mut to_a) = (peer("b", b.listening()[0], B), peer("a", a.listening()[0], A));
    to_b.local_address = Some("127.1.3.1".parse().unwrap());
    to_a.local_address = Some("127.1.3.2".parse().unwrap());
    let mut a_config = bgp(A, [10, 0, 0, 1], &["127.1.3.1:0"]);
    a_config.peers.push(to_b);
    let mut b_config = bgp(B, [10, 0, 0, 2], &["127.1.3.2:0"]);
    b_config.peers.push(to_a);
    let (applied_a, applied_b) = tokio::join!(a.apply(&a_config), b.apply(&b_config));
    applied_a.unwrap();
    applied_b.unwrap();
    let status = established(&a, "b").await;
    established(&b, "a").await;
    // Whatever connection it is, both mean the same one.
    let other = eventually(&b, "a", |other| other.local_address == status.remote_address).await;
    assert_eq!(other.remote_address, status.local_address);
    a.set_desired(routes(1, &[("192.0.2.1/32", 1)]));
    eventually(&b, "a", |status| status.prefixes_dropped == 1).await;
    for events in [&mut a_events, &mut b_events] {
        event(events, |event| matches!(event, PeerEvent::Up { .. }).then_some(())).await;
    }
}

#[tokio::test]
async fn changes_in_a_row_end_in_the_last_one() {
    let (a, mut a_events, b, _b_events) = pair(4).await;
    established(&a, "b").await;
    for version in 1..=200 {
        let prefixes: &[(&str, u32)] = if version % 2 == 0 { &[] } else { &[("192.0.2.1/32", 1)] };
        a.set_desired(routes(version, prefixes));
        if version % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let settled = a.settled(200, Instant::now() + PATIENCE).await;
    assert_eq!(settled.acked, [name("b")]);
    let status = established(&a, "b").await;
    assert_eq!((status.routes_sent, status.version_acknowledged), (0, 200));
    let mut held = false;
    while let Ok(event) = a_events.try_recv() {
        if let PeerEvent::Sent { announced, withdrawn, .. } = event {
            assert!(if held { !withdrawn.is_empty() } else { !announced.is_empty() });
            held = !announced.is_empty();
        }
    }
    assert!(!held, "the peer was left with the route");
    drop(b);
}

#[tokio::test]
async fn a_decision_is_written_within_milliseconds() {
    let (a, mut a_events, b, _b_events) = pair(5).await;
    established(&a, "b").await;
    let mut latencies = Vec::new();
    for version in 1..=50 {
        let prefixes: &[(&str, u32)] = if version % 2 == 0 { &[] } else { &[("192.0.2.1/32", 1)] };
        a.set_desired(routes(version, prefixes));
        let sent = event(&mut a_events, |event| match event {
            PeerEvent::Sent { since_decided, .. } => Some(since_decided),
            _ => None,
        });
        latencies.push(sent.await);
    }
    latencies.sort();
    assert!(latencies[25] < Duration::from_millis(20), "median {:?}", latencies[25]);
    drop(b);
}

#[tokio::test]
async fn a_shutdown_tells_the_peer_why_and_leaves_no_session() {
    let (a, _a_events, b, mut b_events) = pair(6).await;
    established(&b, "a").await;
    a.shutdown("maintenance at noon", Instant::now() + PATIENCE).await;
    let reason = event(&mut b_events, |event| match event {
        PeerEvent::Down { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason.code, Some((6, 2)));
    assert_eq!(reason.text, "Cease/Administrative Shutdown: maintenance at noon");
    assert_eq!(status(&a, "b").state, PeerState::Idle);
}

#[tokio::test]
async fn dropping_the_handle_closes_the_sessions() {
    let (a, a_events, b, mut b_events) = pair(7).await;
    established(&b, "a").await;
    drop((a, a_events));
    let reason = event(&mut b_events, |event| match event {
        PeerEvent::Down { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason.code, Some((6, 2)));
}

#[tokio::test]
async fn a_reload_touches_only_what_it_names() {
    let mut a = bgp(A, [10, 0, 0, 1], &["127.1.8.1:0"]);
    for (peer_name, last) in [("kept", 2), ("changed", 3), ("gone", 4)] {
        let address = format!("127.1.8.{last}:179").parse().unwrap();
        a.peers.push(passive(peer(peer_name, address, B)));
    }
    let (speaker, _events) = start(&a).await;
    let mut others = Vec::new();
    for last in [2, 3, 4, 5] {
        let mut b = bgp(B, [10, 0, 0, last], &[]);
        let mut to_a = peer("a", speaker.listening()[0], A);
        to_a.local_address = Some(IpAddr::V4([127, 1, 8, last].into()));
        b.peers.push(to_a);
        others.push(start(&b).await);
    }
    for peer_name in ["kept", "changed", "gone"] {
        established(&speaker, peer_name).await;
    }
    let (before, listening) = (status(&speaker, "kept"), speaker.listening());
    assert_eq!(status(&others[3].0, "a").state, PeerState::Active, "a stranger still");
    a.peers.retain(|peer| peer.name.as_str() != "gone");
    a.peers[1].families = vec![Family::Ipv4];
    a.peers.push(passive(peer("new", "127.1.8.5:179".parse().unwrap(), B)));
    a.connect_retry = Duration::from_secs(3);
    speaker.apply(&a).await.unwrap();
    let names: Vec<_> = speaker.peers().iter().map(|status| status.name.to_string()).collect();
    assert_eq!(names, ["kept", "changed", "new"]);
    established(&speaker, "new").await;
    established(&speaker, "changed").await;
    let after = status(&speaker, "kept");
    assert_eq!((after.since, after.flaps), (before.since, 0));
    assert_eq!(after.messages_out.update, before.messages_out.update);
    assert_eq!(speaker.listening(), listening);
    let told = |index: usize| status(&others[index].0, "a").last_received.map(|reason| reason.code);
    assert_eq!(told(0), None);
    assert_eq!(told(1), Some(Some((6, 6))));
    assert_eq!(told(2), Some(Some((6, 3))));
}

#[tokio::test]
async fn a_listen_address_that_is_taken_changes_nothing() {
    let taken = std::net::TcpListener::bind("127.1.9.1:0").unwrap();
    let (mut a, b) = configurations(9, A, B);
    a.listen = vec!["127.1.9.1:0".parse().unwrap()];
    let (a_speaker, _a_events, _b, _b_events) = start_both(&a, b).await;
    established(&a_speaker, "b").await;
    a.listen.push(taken.local_addr().unwrap());
    a.peers.clear();
    let refused = a_speaker.apply(&a).await;
    assert!(
        matches!(refused, Err(SpeakerError::Listen { address, .. }) if address == taken.local_addr().unwrap())
    );
    assert_eq!(status(&a_speaker, "b").state, PeerState::Established);
    assert_eq!(a_speaker.listening().len(), 1);
}

#[tokio::test]
async fn with_ttl_security_on_both_sides_the_session_establishes() {
    let (mut a, mut b) = configurations(10, A, B);
    a.peers[0].ttl_security = true;
    b.peers[0].ttl_security = true;
    let (a, _a_events, _b, _b_events) = start_both(&a, b).await;
    established(&a, "b").await;
}

#[tokio::test]
async fn with_ttl_security_a_peer_that_may_be_further_away_does_not_get_through() {
    let (a, mut b) = configurations(11, A, B);
    b.peers[0].ttl_security = true;
    b.connect_retry = Duration::from_millis(200);
    // `a` answers the dial with the listener's TTL of 255, but sends everything after with 1.
    let (a, _a_events, b, _b_events) = start_both(&a, b).await;
    let status = eventually(&b, "a", |status| status.state == PeerState::OpenSent).await;
    assert_eq!(status.messages_in.open, 0);
    assert_ne!(common::status(&a, "b").state, PeerState::Established);
}

#[tokio::test]
async fn settled_tells_who_is_late_and_who_is_down() {
    let (mut a, b) = configurations(12, A, B);
    a.peers.push(passive(peer("absent", "127.1.12.9:179".parse().unwrap(), B)));
    let (a, _a_events, _b, _b_events) = start_both(&a, b).await;
    established(&a, "b").await;
    let settled = a.settled(99, Instant::now() + Duration::from_millis(20)).await;
    assert_eq!((settled.late, settled.down), (vec![name("b")], vec![name("absent")]));
}

/// Writes `key` where both sides of a pair read theirs.
fn write_key(folder: &tempfile::TempDir, key: &str) -> PathBuf {
    let path = folder.path().join("key");
    std::fs::write(&path, format!("{key}\n")).unwrap();
    path
}

#[tokio::test]
async fn with_equal_md5_keys_a_session_establishes_and_survives_a_change_of_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let (mut a_config, mut b_config) = configurations(13, A, B);
    a_config.peers[0].password_file = Some(write_key(&folder, "first"));
    b_config.peers[0].password_file = Some(write_key(&folder, "first"));
    let (a, _a_events, b, _b_events) = start_both(&a_config, b_config.clone()).await;
    established(&a, "b").await;
    write_key(&folder, "second");
    b_config.peers[0].port = a.listening()[0].port();
    a.apply(&a_config).await.unwrap();
    b.apply(&b_config).await.unwrap();
    a.set_desired(routes(1, &[("192.0.2.1/32", 1)]));
    eventually(&b, "a", |status| status.prefixes_dropped == 1).await;
    let status = established(&a, "b").await;
    assert_eq!((status.flaps, status.established), (0, 1));
}

#[tokio::test]
async fn with_another_md5_key_or_none_nothing_gets_through() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (net, other_key) in [(14, Some("other")), (15, None)] {
        let (mut a, mut b) = configurations(net, A, B);
        a.peers[0].password_file = Some(write_key(&folders[0], "ours"));
        b.peers[0].password_file = other_key.map(|key| write_key(&folders[1], key));
        b.connect_retry = Duration::from_millis(100);
        let (a, _a_events, b, _b_events) = start_both(&a, b).await;
        let status = eventually(&b, "a", |status| status.connection_attempts >= 3).await;
        assert_eq!(status.messages_out.open, 0, "the handshake itself does not get through");
        assert!(status.last_error.unwrap().text.contains("did not answer"));
        assert_eq!(common::status(&a, "b").state, PeerState::Active);
    }
}

#[tokio::test]
async fn an_md5_key_that_cannot_be_read_changes_nothing() {
    let (mut a_config, b) = configurations(16, A, B);
    let (a, _a_events, _b, _b_events) = start_both(&a_config, b).await;
    established(&a, "b").await;
    a_config.peers[0].password_file = Some("/nowhere/key".into());
    let refused = a.apply(&a_config).await;
    assert!(matches!(refused, Err(SpeakerError::Password { peer, .. }) if peer == name("b")));
    assert_eq!(status(&a, "b").state, PeerState::Established);
}
