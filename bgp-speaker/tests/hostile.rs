//! Scripted peers over real sockets that do what no good peer does: each costs its own session only.
#![allow(clippy::disallowed_methods, reason = "tests over real sockets own their clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bgp_speaker::wire::{MessageKind, Notification, Refresh, RefreshKind, keepalive};
use bgp_speaker::{PeerEvent, PeerState, Speaker};
use common::*;
use config::{Family, HoldTime};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

const OURS: u32 = 64512;
const THEIRS: u32 = 64513;

/// A speaker with one passive peer, and the address that peer connects from.
async fn speaker(net: u8) -> (Speaker, mpsc::Receiver<PeerEvent>, IpAddr) {
    let mut config = bgp(OURS, [10, 0, 0, 1], &[&format!("127.2.{net}.1:0")]);
    config.connect_retry = Duration::from_millis(80);
    let from = SocketAddr::new(IpAddr::V4([127, 2, net, 2].into()), 179);
    config.peers.push(passive(peer("scripted", from, THEIRS)));
    let (speaker, events) = start(&config).await;
    (speaker, events, from.ip())
}

/// Connects as soon as the speaker listens to this peer again.
async fn connect(speaker: &Speaker, from: IpAddr) -> Scripted {
    eventually(speaker, "scripted", |status| status.state == PeerState::Active).await;
    Scripted::connect(speaker.listening()[0], from).await
}

async fn connect_established(speaker: &Speaker, from: IpAddr) -> Scripted {
    let mut scripted = connect(speaker, from).await;
    scripted.establish(&open(THEIRS, 90)).await;
    established(speaker, "scripted").await;
    scripted
}

fn said(code: u8, subcode: u8, data: &[u8]) -> Notification {
    Notification::new(code, subcode, data.to_vec())
}

#[tokio::test]
async fn garbage_is_answered_with_connection_not_synchronized() {
    let (speaker, _events, from) = speaker(1).await;
    let mut scripted = connect(&speaker, from).await;
    scripted.send(b"GET / HTTP/1.1\r\nHost: router\r\n\r\n").await;
    assert_eq!(scripted.farewell().await, said(1, 1, &[]));
    let status = eventually(&speaker, "scripted", |status| status.last_sent.is_some()).await;
    assert_eq!(status.last_sent.unwrap().code, Some((1, 1)));
}

#[tokio::test]
async fn each_defect_gets_its_notification_and_the_next_session_works() {
    let (speaker, _events, from) = speaker(2).await;
    let with_header = |length: u16, kind: u8| {
        let mut octets = vec![0xFF; 16];
        octets.extend(length.to_be_bytes());
        octets.push(kind);
        octets
    };
    let mut wrong_as = open(64999, 90);
    wrong_as.my_as = 64999;
    let before_open: [(Vec<u8>, Notification); 5] = [
        (with_header(18, 1), said(1, 2, &[0, 18])),
        (with_header(5000, 2), said(1, 2, &[0x13, 0x88])),
        (with_header(19, 9), said(1, 3, &[9])),
        (keepalive().to_vec(), said(5, 1, &[4])),
        (wrong_as.encode().to_vec(), said(2, 2, &[])),
    ];
    for (octets, expected) in before_open {
        let mut scripted = connect(&speaker, from).await;
        scripted.send(&octets).await;
        assert_eq!(scripted.farewell().await, expected);
    }
    let once_established: [(Vec<u8>, Notification); 3] = [
        (open(THEIRS, 90).encode().to_vec(), said(5, 3, &[1])),
        ([with_header(24, 2), vec![0, 0, 0, 9, 0]].concat(), said(3, 1, &[])),
        ([with_header(24, 5), vec![0, 1, 1, 1, 0]].concat(), {
            said(7, 1, &[with_header(24, 5), vec![0, 1, 1, 1, 0]].concat())
        }),
    ];
    for (octets, expected) in once_established {
        let mut scripted = connect_established(&speaker, from).await;
        scripted.send(&octets).await;
        assert_eq!(scripted.farewell().await, expected);
    }
    connect_established(&speaker, from).await;
}

#[tokio::test]
async fn a_stranger_is_closed_at_once_without_a_word_and_counted() {
    let (speaker, _events, _from) = speaker(3).await;
    let mut stranger = TcpStream::connect(speaker.listening()[0]).await.unwrap();
    let mut nothing = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut nothing)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)));
    assert_eq!((nothing.len(), speaker.strangers_refused()), (0, 1));
}

#[tokio::test]
async fn a_thousand_strangers_leave_a_session_alone() {
    let (speaker, _events, from) = speaker(4).await;
    let _scripted = connect_established(&speaker, from).await;
    for _ in 0..1000 {
        drop(TcpStream::connect(speaker.listening()[0]).await);
    }
    let deadline = Instant::now() + PATIENCE;
    while speaker.strangers_refused() < 1000 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let status = status(&speaker, "scripted");
    assert_eq!((status.state, status.flaps), (PeerState::Established, 0));
}

#[tokio::test]
async fn a_peer_that_sends_one_octet_at_a_time_establishes() {
    let (speaker, _events, from) = speaker(5).await;
    let mut scripted = connect(&speaker, from).await;
    scripted.stream.set_nodelay(true).unwrap();
    let hello = [&open(THEIRS, 90).encode()[..], &keepalive()].concat();
    for octet in hello {
        scripted.send(&[octet]).await;
        tokio::task::yield_now().await;
    }
    established(&speaker, "scripted").await;
}

#[tokio::test]
async fn a_peer_that_resets_at_each_octet_of_its_open_costs_nothing() {
    let (speaker, mut events, from) = speaker(6).await;
    let hello = open(THEIRS, 90).encode();
    for length in 0..hello.len() {
        let mut scripted = connect(&speaker, from).await;
        scripted.send(&hello[..length]).await;
        scripted.stream.set_zero_linger().unwrap();
        drop(scripted);
        event(&mut events, |event| matches!(event, PeerEvent::AttemptFailed { .. }).then_some(())).await;
    }
    connect_established(&speaker, from).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_reset_before_the_hold_time_is_over() {
    let mut config = bgp(OURS, [10, 0, 0, 1], &["127.2.7.1:0"]);
    let mut silent = passive(peer("scripted", "127.2.7.2:179".parse().unwrap(), THEIRS));
    silent.hold_time = HoldTime::from_secs(3).unwrap();
    config.peers.push(silent);
    let (speaker, mut events) = start(&config).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.2.7.2:0".parse().unwrap()).unwrap();
    let mut scripted = Scripted::new(socket.connect(speaker.listening()[0]).await.unwrap());
    scripted.establish(&open(THEIRS, 3)).await;
    established(&speaker, "scripted").await;
    // Far more than the peer's window takes, so that it stays in our send buffer.
    let prefixes: Vec<_> = (0..3000).map(|n| format!("10.0.{}.{}/32", n / 200, n % 200)).collect();
    let desired: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), 1)).collect();
    speaker.set_desired(routes(1, &desired));
    let alive = tokio::spawn(async move {
        while tokio::io::AsyncWriteExt::write_all(&mut scripted.stream, &keepalive()).await.is_ok() {
            tokio::time::sleep_until((Instant::now() + Duration::from_millis(200)).into()).await;
        }
    });
    let reason = event(&mut events, |event| match event {
        PeerEvent::Down { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason.code, Some((8, 0)), "{reason}");
    assert_eq!(status(&speaker, "scripted").messages_in.notification, 0);
    tokio::time::timeout(PATIENCE, alive).await.expect("the connection is reset").unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_left_when_the_hold_time_is_over() {
    let (speaker, mut events, from) = speaker(8).await;
    let mut scripted = connect(&speaker, from).await;
    scripted.establish(&open(THEIRS, 3)).await;
    assert_eq!(scripted.farewell().await, said(4, 0, &[]));
    let reason = event(&mut events, |event| match event {
        PeerEvent::Down { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason.await.code, Some((4, 0)));
}

#[tokio::test]
async fn a_flood_of_routes_is_dropped_and_counted_while_decisions_still_get_out() {
    let (speaker, mut events, from) = speaker(9).await;
    let scripted = connect_established(&speaker, from).await;
    let attributes: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 1, 0x40, 3, 4, 127, 2, 9, 2];
    let mut flood = Vec::new();
    for n in 0..1000_u16 {
        let mut body = vec![0, 0, 0, attributes.len() as u8];
        body.extend_from_slice(attributes);
        for host in 0..200 {
            let [high, low] = n.to_be_bytes();
            body.extend([32, 11, high, low, host]);
        }
        flood.extend([0xFF; 16]);
        flood.extend((19 + body.len() as u16).to_be_bytes());
        flood.push(2);
        flood.extend(body);
    }
    let (mut reading, mut writing) = scripted.stream.into_split();
    let flooding = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut writing, &flood).await.unwrap();
        writing
    });
    let draining =
        tokio::spawn(async move { while reading.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {} });
    for version in 1..=20 {
        let prefixes: &[(&str, u32)] = if version % 2 == 0 { &[] } else { &[("192.0.2.1/32", 1)] };
        speaker.set_desired(routes(version, prefixes));
        let latency = event(&mut events, |event| match event {
            PeerEvent::Sent { since_decided, .. } => Some(since_decided),
            _ => None,
        });
        assert!(latency.await < Duration::from_secs(1));
    }
    let status = eventually(&speaker, "scripted", |status| status.prefixes_dropped == 200_000).await;
    assert_eq!((status.state, status.updates_malformed), (PeerState::Established, 0));
    drop(flooding.await.unwrap());
    draining.abort();
}

#[tokio::test]
async fn a_refresh_is_answered_between_its_demarcations() {
    let (speaker, mut events, from) = speaker(10).await;
    speaker.set_desired(routes(1, &[("192.0.2.1/32", 1)]));
    let mut scripted = connect(&speaker, from).await;
    scripted.establish(&open(THEIRS, 90)).await;
    let announcement = scripted.expect(MessageKind::Update).await;
    for _end_of_rib in [Family::Ipv4, Family::Ipv6] {
        scripted.expect(MessageKind::Update).await;
    }
    let refresh = |kind| Refresh { family: Family::Ipv4, kind };
    scripted.send(&refresh(RefreshKind::Request).encode()).await;
    let demarcation = scripted.expect(MessageKind::RouteRefresh).await;
    assert_eq!(Refresh::decode(&demarcation.body), Ok(Some(refresh(RefreshKind::Begin))));
    assert_eq!(scripted.expect(MessageKind::Update).await, announcement);
    let demarcation = scripted.expect(MessageKind::RouteRefresh).await;
    assert_eq!(Refresh::decode(&demarcation.body), Ok(Some(refresh(RefreshKind::End))));
    event(&mut events, |event| matches!(event, PeerEvent::RefreshRequested { .. }).then_some(())).await;
}

#[tokio::test]
async fn the_first_thing_a_session_says_is_every_route_and_then_end_of_rib() {
    let (speaker, _events, from) = speaker(11).await;
    speaker.set_desired(routes(1, &[("192.0.2.1/32", 1), ("192.0.2.2/32", 1), ("192.0.2.3/32", 2)]));
    let mut scripted = connect(&speaker, from).await;
    scripted.establish(&open(THEIRS, 90)).await;
    let families = [Family::Ipv4, Family::Ipv6];
    let context = bgp_speaker::wire::AttributeContext {
        as4: true,
        internal: false,
        families: &families,
        v4_over_v6: false,
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = scripted.expect(MessageKind::Update).await;
        let update = bgp_speaker::wire::Update::decode(&message.body, context).unwrap();
        seen.push((update.announced_count(), update.end_of_rib()));
    }
    assert_eq!(seen, [(2, None), (1, None), (0, Some(Family::Ipv4)), (0, Some(Family::Ipv6))]);
}

#[tokio::test]
async fn the_peers_last_words_are_shown() {
    let (speaker, _events, from) = speaker(12).await;
    let mut scripted = connect_established(&speaker, from).await;
    scripted.send(&said(6, 2, b"\x07see you").encode()).await;
    let status = eventually(&speaker, "scripted", |status| status.last_received.is_some()).await;
    assert_eq!(status.last_received.unwrap().text, "Cease/Administrative Shutdown: see you");
    assert_eq!(scripted.receive_until_end().await, 0, "a NOTIFICATION is not answered");
}

#[tokio::test]
async fn a_second_connection_of_an_established_peer_is_rejected_and_counted() {
    let (speaker, _events, from) = speaker(13).await;
    let _scripted = connect_established(&speaker, from).await;
    let mut second = Scripted::connect(speaker.listening()[0], from).await;
    assert_eq!(second.farewell().await, said(6, 5, &[]));
    let status = status(&speaker, "scripted");
    assert_eq!((status.connections_refused, status.state), (1, PeerState::Established));
}

/// In OpenSent it has our OPEN and we none of its; in OpenConfirm no KEEPALIVE of its.
async fn connect_in(state: PeerState, speaker: &Speaker, from: IpAddr) -> Scripted {
    if state == PeerState::Established {
        return connect_established(speaker, from).await;
    }
    let mut scripted = connect(speaker, from).await;
    scripted.expect(MessageKind::Open).await;
    if state == PeerState::OpenConfirm {
        scripted.send(&open(THEIRS, 90).encode()).await;
        scripted.expect(MessageKind::Keepalive).await;
    }
    scripted
}

#[tokio::test]
async fn each_message_in_each_state_that_does_not_expect_it_is_that_fsm_error() {
    let (speaker, _events, from) = speaker(14).await;
    let hello = open(THEIRS, 90).encode().to_vec();
    let (update, refresh) = (message(2, &[0, 0, 0, 0]), message(5, &[0, 1, 0, 1]));
    let alive = keepalive().to_vec();
    let (sent, confirm, up) = (PeerState::OpenSent, PeerState::OpenConfirm, PeerState::Established);
    let unexpected = [
        (sent, &update, said(5, 1, &[2])),
        (sent, &alive, said(5, 1, &[4])),
        (sent, &refresh, said(5, 1, &[5])),
        (confirm, &hello, said(5, 2, &[1])),
        (confirm, &update, said(5, 2, &[2])),
        (confirm, &refresh, said(5, 2, &[5])),
        (up, &hello, said(5, 3, &[1])),
    ];
    for (state, octets, expected) in unexpected {
        let mut scripted = connect_in(state, &speaker, from).await;
        scripted.send(octets).await;
        assert_eq!(scripted.farewell().await, expected, "{state}");
    }
    // And what a state does expect leaves it in peace.
    let mut scripted = connect_in(up, &speaker, from).await;
    for octets in [&update, &alive, &refresh] {
        scripted.send(octets).await;
    }
    // Beside the two that came too early.
    let status = eventually(&speaker, "scripted", |status| status.messages_in.route_refresh == 3).await;
    assert_eq!(status.state, PeerState::Established);
}
