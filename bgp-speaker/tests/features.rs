//! What sessions negotiate beyond the basics, over real sockets: roles, extended next hops and messages, attributes of a
//! peer's own, link-local peers, and what peers say about our own prefixes.
#![allow(clippy::disallowed_methods, reason = "tests over real sockets own their clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bgp_speaker::wire::{AttributeContext, MessageKind, Refresh, RefreshKind, Update};
use bgp_speaker::{PeerEvent, PeerState, RouteSet, Speaker};
use common::*;
use config::{Bgp, Family, Role};
use ipnet::IpNet;

const A: u32 = 64512;
const B: u32 = 64513;
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// `a` accepts from `b`, which dials it; both are on this address.
fn configurations(address: &str) -> (Bgp, Bgp) {
    let listen = std::net::SocketAddr::new(address.parse().unwrap(), 0);
    let mut a = bgp(A, [10, 0, 0, 1], &[&listen.to_string()]);
    a.peers.push(passive(peer("b", listen, B)));
    let mut b = bgp(B, [10, 0, 0, 2], &[]);
    b.peers.push(peer("a", listen, A));
    b.peers[0].local_address = Some(listen.ip());
    (a, b)
}

async fn start_both(a: &Bgp, mut b: Bgp) -> (Speaker, Speaker) {
    let (a, _events) = start(a).await;
    b.peers[0].port = a.listening()[0].port();
    let (b, _events) = start(&b).await;
    (a, b)
}

fn watching(version: u64, prefixes: &[&str]) -> Arc<RouteSet> {
    let watched = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    Arc::new(RouteSet { version, watched, ..RouteSet::empty(Instant::now()) })
}

#[tokio::test]
async fn roles_that_suit_each_other_are_agreed_on_and_others_are_a_role_mismatch() {
    let (mut a, mut b) = configurations("127.3.1.1");
    (a.peers[0].role, b.peers[0].role) = (Some(Role::Provider), Some(Role::Customer));
    (a.peers[0].role_strict, b.peers[0].role_strict) = (true, true);
    let (speaker, _b) = start_both(&a, b).await;
    let status = established(&speaker, "b").await;
    assert_eq!(status.negotiated.unwrap().remote_role, Some("customer"));
    assert!(status.offered.contains(&"role provider".to_owned()));

    let (mut a, mut b) = configurations("127.3.2.1");
    (a.peers[0].role, b.peers[0].role) = (Some(Role::Provider), Some(Role::Peer));
    let (speaker, _b) = start_both(&a, b).await;
    let refused = |reason: &Option<bgp_speaker::CloseReason>| {
        reason.as_ref().is_some_and(|reason| reason.code == Some((2, 11)))
    };
    let status = eventually(&speaker, "b", |s| refused(&s.last_sent) || refused(&s.last_received)).await;
    assert_eq!(status.established, 0);
}

#[tokio::test]
async fn ipv4_routes_get_through_an_ipv6_session_where_both_offer_extended_next_hops() {
    let (mut a, mut b) = configurations("::1");
    (a.peers[0].extended_next_hop, b.peers[0].extended_next_hop) = (true, true);
    let (a, b) = start_both(&a, b).await;
    b.set_desired(watching(1, &["192.0.2.1/32"]));
    a.set_desired(routes(1, &[("192.0.2.1/32", 5), ("2001:db8::1/128", 5)]));
    let status = eventually(&b, "a", |status| !status.paths.is_empty() && status.prefixes_dropped >= 2).await;
    assert_eq!(status.updates_malformed, 0);
    assert_eq!(status.paths[0].next_hop, Some("::1".parse().unwrap()));
    assert_eq!(status.paths[0].as_path, [A]);
    assert!(status.negotiated.unwrap().extended_next_hop);
    a.set_desired(routes(2, &[]));
    eventually(&b, "a", |status| status.paths.is_empty()).await;
}

/// A speaker with passive peers `scripted`, each at its address, and the connection of the first.
async fn with_scripted(config: &Bgp) -> (Speaker, Scripted, tokio::sync::mpsc::Receiver<PeerEvent>) {
    let (speaker, events) = start(config).await;
    let peer = &config.peers[0];
    eventually(&speaker, peer.name.as_str(), |status| status.state == PeerState::Active).await;
    let mut scripted = Scripted::connect(speaker.listening()[0], peer.address).await;
    scripted.establish(&open(B, 90)).await;
    established(&speaker, peer.name.as_str()).await;
    (speaker, scripted, events)
}

fn scripted_configuration(net: u8) -> Bgp {
    let mut config = bgp(A, [10, 0, 0, 1], &[&format!("127.3.{net}.1:0")]);
    config.peers.push(passive(peer("scripted", format!("127.3.{net}.2:179").parse().unwrap(), B)));
    config
}

/// An UPDATE that announces these prefixes, of any length.
fn update(prefixes: &[IpNet]) -> Vec<u8> {
    let attributes: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 127, 2, 9, 2];
    let mut body = vec![0, 0, 0, attributes.len() as u8];
    body.extend_from_slice(attributes);
    for prefix in prefixes {
        let IpAddr::V4(address) = prefix.addr() else { panic!("{prefix}") };
        body.push(32);
        body.extend(address.octets());
    }
    let mut message = vec![0xFF; 16];
    message.extend((19 + body.len() as u16).to_be_bytes());
    message.push(2);
    message.extend(body);
    message
}

#[tokio::test]
async fn extended_messages_are_taken_from_a_peer_that_offered_them_and_refused_from_one_that_did_not() {
    let config = scripted_configuration(3);
    let prefixes: Vec<_> =
        (0..13_000_u32).map(|n| IpNet::from(IpAddr::V4((0x0b00_0000 + n).into()))).collect();
    let long = update(&prefixes);
    assert!(long.len() > 65_000);
    let (speaker, mut scripted, _events) = with_scripted(&config).await;
    scripted.send(&long).await;
    let status = eventually(&speaker, "scripted", |status| status.prefixes_dropped == 13_000).await;
    assert_eq!((status.state, status.updates_malformed), (PeerState::Established, 0));
    assert!(status.negotiated.unwrap().extended_messages);
    drop((scripted, speaker));

    let (speaker, _events) = start(&scripted_configuration(4)).await;
    eventually(&speaker, "scripted", |status| status.state == PeerState::Active).await;
    let mut scripted = Scripted::connect(speaker.listening()[0], "127.3.4.2".parse().unwrap()).await;
    let mut plain = open(B, 90);
    plain.capabilities.retain(|capability| *capability != bgp_speaker::wire::Capability::ExtendedMessage);
    scripted.establish(&plain).await;
    scripted.send(&long[..19]).await;
    let farewell = scripted.farewell().await;
    assert_eq!((farewell.code(), farewell.subcode()), (1, 2));
}

#[tokio::test]
async fn a_peer_gets_the_attributes_that_are_configured_for_it() {
    let mut config = scripted_configuration(5);
    config.peers[0].announce.med = Some(7);
    let (speaker, mut scripted, _events) = with_scripted(&config).await;
    speaker.set_desired(routes(1, &[("192.0.2.1/32", 100)]));
    let context = AttributeContext { as4: true, internal: false, families: &FAMILIES, v4_over_v6: false };
    loop {
        let message = scripted.expect(MessageKind::Update).await;
        let update = Update::decode(&message.body, context).unwrap();
        if update.announced_count() == 1 {
            let med = [0x80, 4, 4, 0, 0, 0, 7];
            assert!(update.attributes.windows(med.len()).any(|window| window == med));
            break;
        }
    }
}

#[tokio::test]
async fn what_a_peer_says_of_our_own_prefixes_is_shown_and_asked_for_when_they_become_ours() {
    let (speaker, mut scripted, _events) = with_scripted(&scripted_configuration(6)).await;
    let [ours, other]: [IpNet; 2] = ["192.0.2.1/32", "192.0.2.9/32"].map(|text| text.parse().unwrap());
    scripted.send(&update(&[ours, other])).await;
    let status = eventually(&speaker, "scripted", |status| status.prefixes_dropped == 2).await;
    assert_eq!(status.paths, []);
    speaker.set_desired(watching(1, &["192.0.2.1/32"]));
    let asked = loop {
        let message = scripted.receive().await.expect("a refresh");
        if message.kind == MessageKind::RouteRefresh {
            break Refresh::decode(&message.body).unwrap().unwrap();
        }
    };
    assert_eq!(asked, Refresh { family: Family::Ipv4, kind: RefreshKind::Request });
    scripted.send(&update(&[ours, other])).await;
    let status = eventually(&speaker, "scripted", |status| !status.paths.is_empty()).await;
    let path = &status.paths[0];
    assert_eq!((status.paths.len(), path.prefix, &path.as_path[..]), (1, ours, &[64513][..]));
    assert_eq!(path.next_hop, Some("127.2.9.2".parse().unwrap()));
    drop(scripted);
    eventually(&speaker, "scripted", |status| status.paths.is_empty()).await;
}

#[tokio::test]
async fn an_acknowledged_withdrawal_says_how_long_that_took() {
    let (speaker, _scripted, mut events) = with_scripted(&scripted_configuration(7)).await;
    speaker.set_desired(routes(1, &[("192.0.2.1/32", 100), ("192.0.2.2/32", 100)]));
    speaker.settled(1, Instant::now() + PATIENCE).await;
    speaker.set_desired(routes(2, &[]));
    let (withdrawn, since_sent, since_decided) = event(&mut events, |event| match event {
        PeerEvent::Acked { version: 2, withdrawn, since_sent, since_decided, .. } => {
            Some((withdrawn, since_sent, since_decided))
        }
        _ => None,
    })
    .await;
    assert_eq!(withdrawn, 2);
    assert!(since_sent <= since_decided);
}

#[tokio::test]
async fn the_status_says_which_timers_run() {
    let (speaker, _scripted, _events) = with_scripted(&scripted_configuration(8)).await;
    let deadlines = established(&speaker, "scripted").await.deadlines;
    let now = Instant::now();
    let left = deadlines.hold.unwrap() - now;
    assert!(left.as_secs() <= 9 && deadlines.keepalive.unwrap() < deadlines.hold.unwrap());
    assert_eq!(deadlines.retry, None);
}

/// Runs this very test again in a network namespace of its own that has link-local addresses on its loopback.
fn again_with_link_local_addresses(test: &str) -> std::process::Output {
    let script = "ip link set lo up && ip addr add fe80::a/64 dev lo nodad && \
                  ip addr add fe80::b/64 dev lo nodad && exec \"$0\" --exact \"$1\" --nocapture";
    let program = std::env::current_exe().unwrap();
    std::process::Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .arg(program)
        .arg(test)
        .env("LINK_LOCAL_NAMESPACE", "1")
        .output()
        .expect("unshare is there")
}

#[test]
fn a_session_over_link_local_addresses_has_both_halves_of_the_next_hop() {
    if std::env::var_os("LINK_LOCAL_NAMESPACE").is_none() {
        let name = "a_session_over_link_local_addresses_has_both_halves_of_the_next_hop";
        let output = again_with_link_local_addresses(name);
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("unshare failed") || said.contains("not permitted") {
            return eprintln!("skipped, no network namespace of its own: {said}");
        }
        return assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(link_local_session());
}

async fn link_local_session() {
    let mut a = bgp(A, [10, 0, 0, 1], &["[::]:0"]);
    let mut b = bgp(B, [10, 0, 0, 2], &[]);
    let (mut to_b, mut to_a) =
        (peer("b", "[fe80::b]:179".parse().unwrap(), B), peer("a", "[fe80::a]:179".parse().unwrap(), A));
    to_a.local_address = Some("fe80::b".parse().unwrap());
    for peer in [&mut to_a, &mut to_b] {
        (peer.interface, peer.extended_next_hop) = (Some("lo".to_owned()), true);
    }
    a.peers.push(passive(to_b.clone()));
    b.peers.push(to_a);
    let (a, b) = start_both(&a, b).await;
    b.set_desired(watching(1, &["192.0.2.1/32", "2001:db8::1/128"]));
    a.set_desired(routes(1, &[("192.0.2.1/32", 5), ("2001:db8::1/128", 5)]));
    let status = eventually(&b, "a", |status| status.paths.len() == 2).await;
    assert!(status.paths.iter().all(|path| path.next_hop == Some("fe80::a".parse().unwrap())));
    assert_eq!(status.updates_malformed, 0);

    // The same address on another link is somebody else.
    to_b.interface = Some("eth9".to_owned());
    let mut elsewhere = bgp(A, [10, 0, 0, 3], &["[::]:0"]);
    elsewhere.peers.push(passive(to_b));
    let (elsewhere, _events) = start(&elsewhere).await;
    let mut b = bgp(B, [10, 0, 0, 2], &[]);
    let mut to_elsewhere = peer("a", "[fe80::a]:179".parse().unwrap(), A);
    to_elsewhere.port = elsewhere.listening()[0].port();
    to_elsewhere.local_address = Some("fe80::b".parse().unwrap());
    to_elsewhere.interface = Some("lo".to_owned());
    b.peers.push(to_elsewhere);
    let (b, _events) = start(&b).await;
    eventually(&b, "a", |status| status.connection_attempts >= 2).await;
    assert!(elsewhere.strangers_refused() > 0);
}
