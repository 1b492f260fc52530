//! What the socket tests share: configurations on loopback, waiting with a deadline, and a scripted peer.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests over real sockets own their clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::wire::{Capability, Frame, Framer, MessageKind, Notification, Open, keepalive};
use bgp_speaker::{Attributes, PeerEvent, PeerState, PeerStatus, Preference, Route, RouteSet, Speaker};
use bytes::BytesMut;
use config::{Asn, Bgp, Community, Family, HoldTime, LargeCommunity, Name, Peer, PeerSet, RouterId};
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Far beyond what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn asn(value: u32) -> Asn {
    Asn::new(value).unwrap()
}

/// One peer and a service, because a configuration needs one.
const CONFIGURATION: &str = r#"
    [bgp]
    local_as = 64512
    router_id = "192.0.2.1"
    [[bgp.peer]]
    name = "peer"
    address = "192.0.2.2"
    remote_as = 64513
    families = ["ipv4", "ipv6"]
    [[service]]
    name = "s"
    listen = ["127.0.0.1:1"]
    backend = [{ address = "127.0.0.1:2" }]
"#;

fn configuration() -> Bgp {
    let parsed = config::parse(CONFIGURATION, "test");
    parsed.unwrap_or_else(|problems| panic!("{}", problems.render(false))).config.bgp.unwrap()
}

/// A speaker that listens on `listen`, with peers to be added.
pub fn bgp(local_as: u32, router_id: [u8; 4], listen: &[&str]) -> Bgp {
    Bgp {
        local_as: asn(local_as),
        router_id: RouterId::new(router_id.into()).unwrap(),
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        connect_retry: Duration::from_millis(800),
        peers: vec![],
    }
}

/// A peer that is dialled at `address`, from an address of its own so that many peers share one loopback.
pub fn peer(peer_name: &str, address: SocketAddr, remote_as: u32) -> Peer {
    let mut peer = configuration().peers.remove(0);
    (peer.name, peer.remote_as) = (name(peer_name), asn(remote_as));
    (peer.address, peer.port) = (address.ip(), address.port());
    peer
}

pub fn passive(mut peer: Peer) -> Peer {
    peer.passive = true;
    peer
}

pub fn attributes(med: u32) -> Attributes {
    Attributes {
        med,
        local_pref: 100,
        prepend: 0,
        communities: vec![Community::parse("64512:100").unwrap()],
        large_communities: vec![LargeCommunity(64512, 1, 2)],
        link_bandwidth: None,
    }
}

/// A decision taken now; nothing is watched.
pub fn routes(version: u64, routes: &[(&str, u32)]) -> Arc<RouteSet> {
    let route = |med: &u32| Route {
        attributes: attributes(*med),
        preference: Preference::Normal,
        peers: PeerSet::All,
    };
    let routes: BTreeMap<IpNet, Route> =
        routes.iter().map(|(prefix, med)| (prefix.parse().unwrap(), route(med))).collect();
    Arc::new(RouteSet { version, cause: version * 10, routes, ..RouteSet::empty(Instant::now()) })
}

pub async fn start(config: &Bgp) -> (Speaker, mpsc::Receiver<PeerEvent>) {
    let (sender, receiver) = mpsc::channel(4096);
    (Speaker::start(config, 7, sender).await.unwrap(), receiver)
}

pub fn status(speaker: &Speaker, peer: &str) -> PeerStatus {
    speaker.peers().into_iter().find(|status| status.name.as_str() == peer).unwrap()
}

/// Returns once `condition` holds of the peer's status.
pub async fn eventually(
    speaker: &Speaker,
    peer: &str,
    condition: impl Fn(&PeerStatus) -> bool,
) -> PeerStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(speaker, peer);
        if condition(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "still {status:#?}");
        tokio::time::sleep_until((Instant::now() + Duration::from_millis(2)).into()).await;
    }
}

pub async fn established(speaker: &Speaker, peer: &str) -> PeerStatus {
    eventually(speaker, peer, |status| status.state == PeerState::Established).await
}

/// The next event that `wanted` picks.
pub async fn event<T>(
    events: &mut mpsc::Receiver<PeerEvent>,
    mut wanted: impl FnMut(PeerEvent) -> Option<T>,
) -> T {
    let next = async {
        loop {
            let event = events.recv().await.expect("the speaker lives");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("the event comes in time")
}

/// A message of a scripted peer's other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageKind,
    pub body: Vec<u8>,
}

/// A hand-driven BGP speaker at the other end of a socket.
pub struct Scripted {
    pub stream: TcpStream,
    framer: Framer,
}

impl Scripted {
    pub fn new(stream: TcpStream) -> Self {
        Scripted { stream, framer: Framer::default() }
    }

    /// Connects to `speaker` from `local`, the address it knows this peer by.
    pub async fn connect(speaker: SocketAddr, local: IpAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(local, 0)).unwrap();
        Scripted::new(socket.connect(speaker).await.unwrap())
    }

    pub async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        Scripted::new(accepted.expect("the speaker dials in time").unwrap().0)
    }

    pub async fn send(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).await.unwrap();
    }

    /// The next message; `None` at the end of the stream.
    pub async fn receive(&mut self) -> Option<Message> {
        let next = async {
            loop {
                if let Some(Frame { kind, body }) = self.framer.next_frame().unwrap() {
                    return Some(Message { kind, body: body.to_vec() });
                }
                match self.stream.read_buf(&mut self.framer.space()).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the speaker says something in time")
    }

    /// How many messages but KEEPALIVEs and UPDATEs come before the end of the stream.
    pub async fn receive_until_end(&mut self) -> usize {
        let mut count = 0;
        while let Some(message) = self.receive().await {
            count += usize::from(!matches!(message.kind, MessageKind::Keepalive | MessageKind::Update));
        }
        count
    }

    pub async fn expect(&mut self, kind: MessageKind) -> Message {
        loop {
            let message = self.receive().await.expect("a message, not the end");
            if message.kind == kind {
                return message;
            }
            assert_eq!(message.kind, MessageKind::Keepalive, "{message:?} instead of {kind:?}");
        }
    }

    /// The NOTIFICATION that ends this connection.
    pub async fn farewell(&mut self) -> Notification {
        loop {
            let message = self.receive().await.expect("a NOTIFICATION, not the end");
            if message.kind == MessageKind::Notification {
                assert_eq!(self.receive().await, None, "nothing follows a NOTIFICATION");
                return Notification::decode(&message.body).unwrap();
            }
        }
    }

    /// Exchanges OPENs and KEEPALIVEs.
    pub async fn establish(&mut self, open: &Open) {
        self.send(&open.encode()).await;
        self.expect(MessageKind::Open).await;
        self.send(&keepalive()).await;
        self.expect(MessageKind::Keepalive).await;
    }
}

/// The scripted peer's OPEN.
pub fn open(local_as: u32, hold_time: u64) -> Open {
    let local_as = asn(local_as);
    Open {
        my_as: Open::short_as(local_as),
        hold_time: HoldTime::from_secs(hold_time).unwrap(),
        router_id: RouterId::new([10, 255, 0, 1].into()).unwrap(),
        capabilities: Capability::offer(local_as, &[Family::Ipv4, Family::Ipv6]),
    }
}

pub fn garbage(length: usize) -> BytesMut {
    BytesMut::from(&vec![0x47; length][..])
}

/// A message of this type.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = 19 + body.len() as u16;
    [&[0xFF; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}
