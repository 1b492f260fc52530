//! What real routers sent, octet by octet, is read as what they meant, and as an independent decoder reads it.
//!
//! `fixtures/ROUTER/FAMILY.hex` is one session with each router, a message per line. The root package's interop tests
//! record them anew, as root: `RECORD_PACKETS=1 cargo nextest run --test interop -E 'test(recording)'`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use bgp_speaker::wire::{
    AttributeContext, Capability, Disposition, Frame, Framer, MessageKind, Notification, Open, Refresh,
    RefreshKind, Update,
};
use bgpkit_parser::models::{AsnLength, BgpMessage};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::{BufMut, Bytes};
use config::{Family, HoldTime, RouterId};
use ipnet::IpNet;

/// The recorded sessions.
const FIXTURES: [(Router, Family, &str); 8] = [
    (Router::Bird1, Family::Ipv4, include_str!("fixtures/bird1/ipv4.hex")),
    (Router::Bird1, Family::Ipv6, include_str!("fixtures/bird1/ipv6.hex")),
    (Router::Bird2, Family::Ipv4, include_str!("fixtures/bird2/ipv4.hex")),
    (Router::Bird2, Family::Ipv6, include_str!("fixtures/bird2/ipv6.hex")),
    (Router::Frr, Family::Ipv4, include_str!("fixtures/frr/ipv4.hex")),
    (Router::Frr, Family::Ipv6, include_str!("fixtures/frr/ipv6.hex")),
    (Router::Gobgp, Family::Ipv4, include_str!("fixtures/gobgp/ipv4.hex")),
    (Router::Gobgp, Family::Ipv6, include_str!("fixtures/gobgp/ipv6.hex")),
];

const ROUTER_AS: u32 = 64500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Router {
    Bird1,
    Bird2,
    Frr,
    Gobgp,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Open(Open),
    Keepalive,
    Announced(Vec<IpNet>),
    EndOfRib(Family),
    Refresh(Refresh),
    Notification { code: u8, subcode: u8, text: String },
}

/// The octets of each message.
fn recorded(fixture: &str) -> Vec<Vec<u8>> {
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    fixture.lines().map(|line| line.as_bytes().chunks(2).map(octet).collect()).collect()
}

/// How the session that was recorded reads a message.
fn read(frame: Frame<'_>, family: Family) -> Said {
    match frame.kind {
        MessageKind::Open => Said::Open(Open::decode(frame.body).unwrap()),
        MessageKind::Keepalive => Said::Keepalive,
        MessageKind::Update => {
            let families = [family];
            let context =
                AttributeContext { as4: true, internal: false, families: &families, v4_over_v6: false };
            let update = Update::decode(frame.body, context).unwrap();
            assert_eq!((update.disposition, update.withdrawn.len()), (Disposition::Accept, 0));
            update.end_of_rib().map_or_else(
                || {
                    let multiprotocol = update.reach.iter().flat_map(|prefixes| prefixes.iter());
                    Said::Announced(update.announced.iter().chain(multiprotocol).collect())
                },
                Said::EndOfRib,
            )
        }
        MessageKind::RouteRefresh => Said::Refresh(Refresh::decode(frame.body).unwrap().unwrap()),
        MessageKind::Notification => {
            let notification = Notification::decode(frame.body).unwrap();
            let text = notification.describe();
            Said::Notification { code: notification.code(), subcode: notification.subcode(), text }
        }
    }
}

/// Reads a stream that arrives in pieces of this size.
fn read_stream(octets: &[u8], piece: usize, family: Family) -> Vec<Said> {
    let mut framer = Framer::default();
    let mut said = Vec::new();
    for piece in octets.chunks(piece) {
        framer.space().put_slice(piece);
        while let Some(frame) = framer.next_frame().unwrap() {
            said.push(read(frame, family));
        }
    }
    said
}

/// The session: its OPEN, its route (and from FRR our own one back), End-of-RIB where it sends one before we ask for
/// more, a refresh, and goodbye.
fn expected(router: Router, family: Family) -> Vec<Said> {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let (route, vip) = match family {
        Family::Ipv4 => (net("10.77.0.0/16"), net("10.84.13.100/32")),
        Family::Ipv6 => (net("fd77::/32"), net("fd84::100/128")),
    };
    let open = Open {
        my_as: 64500,
        hold_time: HoldTime::from_secs(9).unwrap(),
        router_id: RouterId::new(Ipv4Addr::new(10, 99, 2, 1)).unwrap(),
        capabilities: capabilities(router, family),
    };
    let mut said = vec![Said::Open(open), Said::Keepalive, Said::Announced(vec![route])];
    match router {
        Router::Bird1 | Router::Bird2 => said.push(Said::EndOfRib(family)),
        Router::Frr => said.push(Said::Announced(vec![vip])),
        Router::Gobgp => {}
    }
    if router != Router::Gobgp {
        said.push(Said::Refresh(Refresh { family, kind: RefreshKind::Request }));
    }
    let text = "Cease/Administrative Shutdown: maintenance".to_owned();
    said.push(Said::Notification { code: 6, subcode: 2, text });
    said
}

/// What each router says it can, in its order.
fn capabilities(router: Router, family: Family) -> Vec<Capability> {
    const LLGR: Capability = Capability::Other(71);
    const FQDN: Capability = Capability::Other(73);
    const ADD_PATH: Capability = Capability::Other(69);
    const REFRESH_BEFORE_ITS_RFC: Capability = Capability::Other(128);
    let multiprotocol = Capability::multiprotocol(family);
    let as4 = Capability::FourOctetAs(ROUTER_AS);
    match router {
        Router::Bird1 | Router::Bird2 => vec![
            multiprotocol,
            Capability::RouteRefresh,
            Capability::GracefulRestart { notification: false },
            as4,
            Capability::EnhancedRefresh,
            LLGR,
        ],
        Router::Frr => vec![
            multiprotocol,
            REFRESH_BEFORE_ITS_RFC,
            Capability::RouteRefresh,
            Capability::EnhancedRefresh,
            as4,
            Capability::ExtendedMessage,
            ADD_PATH,
            FQDN,
            Capability::GracefulRestart { notification: true },
            LLGR,
        ],
        Router::Gobgp => {
            let mut all = vec![Capability::RouteRefresh, FQDN, multiprotocol, as4];
            if family == Family::Ipv4 {
                all.push(Capability::ExtendedNextHop { v4_over_v6: true });
            }
            all
        }
    }
}

#[test]
fn what_each_router_sent_is_read_as_it_was_meant() {
    for (router, family, fixture) in FIXTURES {
        let octets = recorded(fixture).concat();
        assert_eq!(
            read_stream(&octets, octets.len(), family),
            expected(router, family),
            "{router:?} {family}"
        );
    }
}

#[test]
fn what_each_router_sent_may_arrive_in_pieces_of_any_size() {
    for (router, family, fixture) in FIXTURES {
        let octets = recorded(fixture).concat();
        for piece in 1..=40 {
            assert_eq!(read_stream(&octets, piece, family), expected(router, family), "{router:?}, {piece}");
        }
    }
}

#[test]
fn what_each_router_sent_bgpkit_reads_alike() {
    for (router, family, fixture) in FIXTURES {
        let messages = recorded(fixture);
        assert_eq!(messages.len(), expected(router, family).len());
        for (message, said) in messages.into_iter().zip(expected(router, family)) {
            let theirs = parse_bgp_message(&mut Bytes::from(message), false, &AsnLength::Bits32).unwrap();
            assert_alike(&theirs, &said, family);
        }
    }
}

fn assert_alike(theirs: &BgpMessage, ours: &Said, family: Family) {
    match (theirs, ours) {
        (BgpMessage::KeepAlive, Said::Keepalive) => {}
        (BgpMessage::Open(theirs), Said::Open(ours)) => {
            assert_eq!((theirs.asn.to_u32(), theirs.hold_time), (u32::from(ours.my_as), 9));
            assert_eq!(theirs.bgp_identifier, Ipv4Addr::new(10, 99, 2, 1));
        }
        (BgpMessage::Update(theirs), Said::Announced(ours)) => {
            let attributes = &theirs.attributes;
            let classic = theirs.announced_prefixes.iter();
            let reach = attributes.get_reachable_nlri();
            let all = classic.chain(reach.iter().flat_map(|nlri| &nlri.prefixes));
            assert_eq!(all.map(|prefix| prefix.prefix).collect::<Vec<_>>(), *ours);
            let path = attributes.effective_as_path().unwrap().to_u32_vec_opt(false).unwrap();
            assert_eq!(path.first(), Some(&ROUTER_AS));
        }
        (BgpMessage::Update(theirs), Said::EndOfRib(ours)) => {
            assert_eq!((theirs.is_end_of_rib(), *ours), (true, family));
        }
        (BgpMessage::RouteRefresh(_), Said::Refresh(_)) => {}
        (BgpMessage::Notification(theirs), Said::Notification { text, .. }) => {
            assert!(text.ends_with("maintenance"), "{theirs:?}");
        }
        (theirs, ours) => panic!("{theirs:?} and {ours:?}"),
    }
}
