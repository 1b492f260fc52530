//! BFD over real sockets: two of our speakers, and ours with a neighbor that a test moves by hand.
#![allow(clippy::disallowed_methods, reason = "tests over real sockets own their clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use bgp_speaker::bfd::{BfdStatus, ControlPacket, Diagnostic, DownReason, SessionState};
use bgp_speaker::{PeerEvent, PeerState, Speaker};
use common::*;
use config::{Bfd, Bgp};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

const A: u32 = 64512;
const B: u32 = 64513;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// `a` listens for BGP at 127.3.NET.1, `b` dials it from 127.3.NET.2; `a` runs BFD, at 50 ms.
fn configurations(net: u8) -> (Bgp, Bgp) {
    let (own, others): ([IpAddr; 2], _) = ([[127, 3, net, 1].into(), [127, 3, net, 2].into()], 179);
    let mut a = bgp(A, [10, 0, 0, 1], &[&format!("{}:0", own[0])]);
    let mut to_b = passive(peer("b", SocketAddr::new(own[1], others), B));
    to_b.local_address = Some(own[0]);
    to_b.bfd = Some(Bfd { min_tx: ms(50), min_rx: ms(50), multiplier: 4 });
    a.peers.push(to_b);
    let mut b = bgp(B, [10, 0, 0, 2], &[]);
    let mut to_a = peer("a", SocketAddr::new(own[0], others), A);
    to_a.local_address = Some(own[1]);
    b.peers.push(to_a);
    (a, b)
}

/// Both running, with a BGP session; `b` without BFD.
async fn start_both(net: u8) -> (Bgp, Speaker, mpsc::Receiver<PeerEvent>, Speaker) {
    let (config, b) = configurations(net);
    let (a, events) = start(&config).await;
    let b = dial(&a, b).await;
    established(&a, "b").await;
    (config, a, events, b)
}

async fn dial(a: &Speaker, mut b: Bgp) -> Speaker {
    b.peers[0].port = a.listening()[0].port();
    start(&b).await.0
}

fn bfd(status: &bgp_speaker::PeerStatus) -> &BfdStatus {
    status.bfd.as_ref().unwrap()
}

async fn bfd_is(speaker: &Speaker, peer: &str, state: SessionState) -> BfdStatus {
    let is = |status: &bgp_speaker::PeerStatus| bfd(status).state == state;
    eventually(speaker, peer, is).await.bfd.unwrap()
}

/// The BFD neighbor at 127.3.NET.2 that a test moves by hand.
struct Neighbor {
    sender: UdpSocket,
    receiver: UdpSocket,
    to: SocketAddr,
    /// What it says.
    packet: ControlPacket,
}

impl Neighbor {
    async fn new(net: u8) -> Self {
        let own: IpAddr = [127, 3, net, 2].into();
        let sender = UdpSocket::bind(SocketAddr::new(own, 0)).await.unwrap();
        sender.set_ttl(255).unwrap();
        let packet = ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: SessionState::Down,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            authenticated: false,
            demand: false,
            detect_mult: NonZeroU8::new(10).unwrap(),
            my_discriminator: NonZeroU32::new(77).unwrap(),
            your_discriminator: None,
            // So slow that nothing is missed while a test looks elsewhere.
            desired_min_tx: Duration::from_secs(60),
            required_min_rx: ms(10),
            required_min_echo_rx: Duration::ZERO,
        };
        let receiver = UdpSocket::bind(SocketAddr::new(own, 3784)).await.unwrap();
        Neighbor { sender, receiver, to: SocketAddr::new([127, 3, net, 1].into(), 3784), packet }
    }

    async fn say(&self, state: SessionState) {
        self.send(&ControlPacket { state, ..self.packet }.encode()).await;
    }

    async fn send(&self, octets: &[u8]) {
        self.sender.send_to(octets, self.to).await.unwrap();
    }

    /// The next packet that `wanted` picks.
    async fn hear(&self, wanted: impl Fn(&ControlPacket) -> bool) -> ControlPacket {
        let next = async {
            loop {
                let mut octets = [0; 64];
                let (length, from) = self.receiver.recv_from(&mut octets).await.unwrap();
                assert!(from.port() >= 49152, "RFC 5881 §4: {from}");
                let packet = ControlPacket::decode(&octets[..length]).unwrap();
                if wanted(&packet) {
                    return packet;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the packet comes in time")
    }

    async fn come_up(&mut self) {
        let ours = self.hear(|packet| packet.state == SessionState::Down).await;
        self.packet.your_discriminator = Some(ours.my_discriminator);
        self.say(SessionState::Down).await;
        self.hear(|packet| packet.state == SessionState::Init).await;
        self.say(SessionState::Init).await;
        let polls = self.hear(|packet| packet.state == SessionState::Up && packet.poll).await;
        assert_eq!(polls.your_discriminator, Some(self.packet.my_discriminator));
        self.agree().await;
    }

    /// The end of a Poll Sequence.
    async fn agree(&self) {
        self.send(&ControlPacket { state: SessionState::Up, is_final: true, ..self.packet }.encode()).await;
        self.say(SessionState::Up).await;
    }
}

#[tokio::test]
async fn two_speakers_bring_bfd_up_agree_on_timers_and_tell() {
    let (config, mut b) = configurations(1);
    b.peers[0].bfd = Some(Bfd { min_tx: ms(20), min_rx: ms(80), multiplier: 5 });
    let (a, mut events) = start(&config).await;
    let b = dial(&a, b).await;
    event(&mut events, |event| matches!(event, PeerEvent::BfdUp { .. }).then_some(())).await;
    bfd_is(&b, "a", SessionState::Up).await;
    let agreed =
        eventually(&a, "b", |status| !bfd(status).polling && bfd(status).transmit_interval == Some(ms(80)));
    // b sends every 50 ms, because a wants no more, and is missed after five.
    let agreed = agreed.await.bfd.unwrap();
    assert_eq!(agreed.detection_time, Some(ms(250)));
    assert_eq!((agreed.ups, agreed.failures, agreed.multihop), (1, 0, false));
    assert_eq!(agreed.local_address, Some([127, 3, 1, 1].into()));
    established(&a, "b").await;
    b.shutdown("", Instant::now() + PATIENCE).await;
    let down = event(&mut events, |event| match event {
        PeerEvent::BfdDown { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(down.await, DownReason::NeighborAdminDown);
}

#[tokio::test]
async fn a_neighbor_that_falls_silent_takes_the_session_down_with_cease_bfd_down_and_bgp_may_come_back() {
    let (_, a, mut events, _b) = start_both(2).await;
    let mut neighbor = Neighbor::new(2).await;
    neighbor.come_up().await;
    bfd_is(&a, "b", SessionState::Up).await;
    // From here on it promises a packet every 10 ms, and sends none.
    neighbor.packet.desired_min_tx = ms(10);
    neighbor.say(SessionState::Up).await;
    let reason = event(&mut events, |event| match event {
        PeerEvent::Down { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = reason.await;
    assert_eq!(reason.code, Some((6, 10)), "{reason}");
    let status = established(&a, "b").await;
    assert_eq!((bfd(&status).state, bfd(&status).failures, status.flaps), (SessionState::Down, 1, 1));
    assert_eq!(bfd(&status).local_diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
}

#[tokio::test]
async fn bfd_that_never_came_up_holds_nothing_up() {
    let (_, a, _events, _b) = start_both(3).await;
    let status = status(&a, "b");
    assert_eq!((bfd(&status).state, status.state), (SessionState::Down, PeerState::Established));
}

#[tokio::test]
async fn a_neighbor_held_down_by_its_operator_costs_no_session_and_one_that_fails_does() {
    let (_, a, mut events, _b) = start_both(4).await;
    let mut neighbor = Neighbor::new(4).await;
    let mut down = async |said| {
        neighbor.come_up().await;
        bfd_is(&a, "b", SessionState::Up).await;
        neighbor.say(said).await;
        neighbor.packet.your_discriminator = None;
        let down = event(&mut events, |event| match event {
            PeerEvent::BfdDown { reason, .. } => Some(reason),
            _ => None,
        });
        down.await
    };
    assert_eq!(down(SessionState::AdminDown).await, DownReason::NeighborAdminDown);
    assert_eq!(status(&a, "b").flaps, 0);
    assert_eq!(down(SessionState::Down).await, DownReason::NeighborDown);
    eventually(&a, "b", |status| status.flaps == 1).await;
}

#[tokio::test]
async fn a_shutdown_says_admin_down_before_the_session_ends() {
    let (_, a, _events, b) = start_both(5).await;
    let mut neighbor = Neighbor::new(5).await;
    neighbor.come_up().await;
    bfd_is(&a, "b", SessionState::Up).await;
    a.shutdown("", Instant::now() + PATIENCE).await;
    let last = neighbor.hear(|packet| packet.state == SessionState::AdminDown).await;
    assert_eq!(last.diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
    eventually(&b, "a", |status| status.flaps == 1).await;
}

#[tokio::test]
async fn what_comes_from_afar_from_strangers_or_malformed_is_counted_and_changes_nothing() {
    let (_, a, _events, _b) = start_both(6).await;
    let mut neighbor = Neighbor::new(6).await;
    neighbor.come_up().await;
    bfd_is(&a, "b", SessionState::Up).await;
    neighbor.sender.set_ttl(254).unwrap();
    neighbor.say(SessionState::Down).await;
    neighbor.sender.set_ttl(255).unwrap();
    neighbor.send(&[0x20, 0xC0, 3]).await;
    let stranger = UdpSocket::bind("127.3.6.3:0").await.unwrap();
    stranger.set_ttl(255).unwrap();
    stranger.send_to(&neighbor.packet.encode(), neighbor.to).await.unwrap();
    let status = eventually(&a, "b", |status| bfd(status).discarded.unknown == 1).await;
    let counts = bfd(&status).discarded;
    assert_eq!((counts.hop_limit, counts.invalid), (1, 1));
    assert_eq!((bfd(&status).state, status.flaps), (SessionState::Up, 0));
}

#[tokio::test]
async fn a_reload_of_bfd_alone_polls_for_new_timers_and_touches_no_session() {
    let (mut config, a, _events, _b) = start_both(7).await;
    let mut neighbor = Neighbor::new(7).await;
    neighbor.come_up().await;
    bfd_is(&a, "b", SessionState::Up).await;
    config.peers[0].bfd = Some(Bfd { min_tx: ms(70), min_rx: ms(50), multiplier: 4 });
    a.apply(&config).await.unwrap();
    let polls = neighbor.hear(|packet| packet.poll && packet.desired_min_tx == ms(70)).await;
    assert_eq!(polls.state, SessionState::Up);
    neighbor.agree().await;
    let status = eventually(&a, "b", |status| bfd(status).transmit_interval == Some(ms(70))).await;
    assert_eq!((bfd(&status).ups, status.established, status.flaps), (1, 1, 0));

    config.peers[0].bfd = None;
    a.apply(&config).await.unwrap();
    neighbor.hear(|packet| packet.state == SessionState::AdminDown).await;
    let status = eventually(&a, "b", |status| status.bfd.is_none()).await;
    assert_eq!((status.state, status.flaps), (PeerState::Established, 0));
}

#[tokio::test]
async fn without_its_address_a_session_says_why_and_tries_again() {
    let (mut config, _) = configurations(8);
    // TEST-NET-1 is nobody's.
    config.peers[0].local_address = Some("192.0.2.1".parse().unwrap());
    let (a, _events) = start(&config).await;
    let status = eventually(&a, "b", |status| status.bfd.is_some()).await;
    assert!(bfd(&status).socket_error.is_some() && bfd(&status).local_address.is_none());
}
