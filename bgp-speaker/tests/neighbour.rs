//! A hostile peer and a good one: the good one's session notices nothing, and memory stays flat.
#![allow(clippy::disallowed_methods, reason = "tests over real sockets own their clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bgp_speaker::wire::keepalive;
use bgp_speaker::{PeerEvent, PeerState, Speaker};
use common::*;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

const OURS: u32 = 64512;
const THEIRS: u32 = 64513;
/// In KiB.
const MIB: usize = 1024;

/// In KiB, of this process: of both sides of every connection here.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

/// A speaker with a hostile peer and a good one, which reads on in the background.
async fn with_a_neighbour(
    net: u8,
) -> (Speaker, mpsc::Receiver<PeerEvent>, IpAddr, tokio::task::JoinHandle<()>) {
    let mut config = bgp(OURS, [10, 0, 0, 1], &[&format!("127.2.{net}.1:0")]);
    config.connect_retry = Duration::from_millis(10);
    let [hostile, good] = [2, 3].map(|host| SocketAddr::new(IpAddr::V4([127, 2, net, host].into()), 179));
    config.peers.push(passive(peer("scripted", hostile, THEIRS)));
    config.peers.push(passive(peer("good", good, THEIRS)));
    let (speaker, events) = start(&config).await;
    eventually(&speaker, "good", |status| status.state == PeerState::Active).await;
    let mut scripted = Scripted::connect(speaker.listening()[0], good.ip()).await;
    scripted.establish(&open(THEIRS, 0)).await;
    established(&speaker, "good").await;
    let reading = tokio::spawn(async move { while scripted.receive().await.is_some() {} });
    (speaker, events, hostile.ip(), reading)
}

/// A decision reaches the good peer within a second, and its session is the one that it ever had.
async fn neighbour_notices_nothing(speaker: &Speaker, version: u64) {
    let med = version as u32;
    speaker.set_desired(routes(version, &[("192.0.2.1/32", med)]));
    let decided = Instant::now();
    let status = eventually(speaker, "good", |status| status.version_acknowledged >= version).await;
    assert!(decided.elapsed() < Duration::from_secs(1), "{:?}", decided.elapsed());
    assert_eq!((status.established, status.flaps), (1, 0));
}

#[tokio::test]
async fn a_thousand_connections_of_the_peer_itself_cost_neither_memory_nor_the_neighbours_session() {
    let (speaker, _events, from, _reading) = with_a_neighbour(15).await;
    let mut before = 0;
    for round in 1..=10 {
        let mut connections = Vec::new();
        for _ in 0..100 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(from, 0)).unwrap();
            connections.push(socket.connect(speaker.listening()[0]).await.unwrap());
        }
        neighbour_notices_nothing(&speaker, round).await;
        drop(connections);
        // What the first rounds allocate is kept for the next ones.
        before = if round == 2 { resident() } else { before };
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < MIB * 8, "grown by {grown} KiB");
}

#[tokio::test]
async fn thousands_of_hostile_rounds_leave_resident_memory_flat_and_the_neighbour_alone() {
    const ROUNDS: u64 = 2000;
    let (speaker, mut events, from, _reading) = with_a_neighbour(16).await;
    let draining = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let hello = open(THEIRS, 90).encode().to_vec();
    let flood = message(2, &[0, 2, 8, 10, 0, 0]).repeat(40);
    let told = [hello.clone(), keepalive().to_vec()].concat();
    let courses = [
        vec![0x47; 3000],
        hello[..hello.len() / 2].to_vec(),
        message(9, &[]),
        message(5, &[0, 1, 0, 1]),
        [&told[..], &flood, &hello].concat(),
        [&told[..], &message(2, &[0, 0, 0, 0, 33])].concat(),
        vec![0xFF; 18],
    ];
    let mut before = 0;
    for round in 0..ROUNDS {
        if round % 25 == 0 {
            // Otherwise most rounds end before they begin: a peer like this is not listened to for a while.
            eventually(&speaker, "scripted", |status| status.state == PeerState::Active).await;
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let mut stream = socket.connect(speaker.listening()[0]).await.unwrap();
        let course = &courses[round as usize % courses.len()];
        // An error: it was refused, because the last round is not forgiven yet.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, course).await;
        if round % 3 == 0 {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        if round % 200 == 199 {
            neighbour_notices_nothing(&speaker, round).await;
        }
        before = if round == ROUNDS / 5 { resident() } else { before };
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < MIB * 8, "grown by {grown} KiB");
    let heard = status(&speaker, "scripted").messages_in;
    assert!(heard.open >= 10 && heard.update >= 40, "{heard:?}");
    draining.abort();
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_costs_a_bounded_amount_and_not_the_neighbours_session() {
    let (speaker, _events, from, _reading) = with_a_neighbour(17).await;
    let prefixes: Vec<_> = (0..200).map(|host| format!("10.0.0.{host}/32")).collect();
    let all: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), 1)).collect();
    speaker.set_desired(routes(1, &all));
    eventually(&speaker, "scripted", |status| status.state == PeerState::Active).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    let mut scripted = Scripted::new(socket.connect(speaker.listening()[0]).await.unwrap());
    scripted.establish(&open(THEIRS, 0)).await;
    established(&speaker, "scripted").await;
    let before = resident();
    // Each would be answered with all routes, and no answer is read.
    let refreshes = message(5, &[0, 1, 0, 1]).repeat(100);
    for _ in 0..200 {
        tokio::io::AsyncWriteExt::write_all(&mut scripted.stream, &refreshes).await.unwrap();
    }
    eventually(&speaker, "scripted", |status| status.messages_in.route_refresh >= 20_000).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < MIB * 8, "grown by {grown} KiB");
    neighbour_notices_nothing(&speaker, 2).await;
}
