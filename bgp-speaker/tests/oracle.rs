//! Two independent decoders read what we build, and arbitrary octets are read without a panic.
//!
//! Where a decoder and we disagree about bad input, the RFC decides; those tests are beside the code and cite it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_speaker::Attributes;
use bgp_speaker::pack::{Changes, Dialect, Ipv6NextHop, NextHops, pack};
use bgp_speaker::wire::{
    AttributeContext, Capability, Cease, Disposition, Framer, HEADER_LEN, MessageKind, Notification, Open,
    Refresh, RefreshKind, Update,
};
use bgpkit_parser::models::{
    AsPathSegment, AsnLength, BgpMessage, ExtendedCommunity, MetaCommunity, NextHopAddress,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::{BufMut, Bytes, BytesMut};
use config::{Asn, Community, Family, HoldTime, LargeCommunity, RouterId};
use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use rustbgpd_wire as oracle;

const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// What one UPDATE says, whoever read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Said {
    withdrawn: BTreeSet<IpNet>,
    announced: BTreeSet<IpNet>,
    next_hop: Option<IpAddr>,
    link_local: Option<Ipv6Addr>,
    path: Vec<u32>,
    med: Option<u32>,
    local_pref: Option<u32>,
    communities: Vec<u32>,
    large: Vec<(u32, u32, u32)>,
    /// The community as it is on the wire.
    link_bandwidth: Option<[u8; 8]>,
    only_to_customer: Option<u32>,
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let communities = btree_set(any::<u32>().prop_map(Community), 0..80);
    let large = btree_set(any::<(u32, u32, u32)>().prop_map(|c| LargeCommunity(c.0, c.1, c.2)), 0..30);
    let bandwidth = prop::option::of(any::<u64>());
    (any::<u32>(), any::<u32>(), 0..=16_u8, communities, large, bandwidth).prop_map(
        |(med, local_pref, prepend, communities, large, link_bandwidth)| Attributes {
            link_bandwidth,
            med,
            local_pref,
            prepend,
            communities: communities.into_iter().collect(),
            large_communities: large.into_iter().collect(),
        },
    )
}

fn dialect() -> impl Strategy<Value = Dialect> {
    let asn = prop_oneof![1..=65535_u32, 65536..=u32::MAX];
    let flags = any::<(bool, bool, bool)>();
    (asn, flags, next_hops()).prop_map(|(asn, (internal, as4, only_to_customer), next_hops)| Dialect {
        local_as: Asn::new(asn).unwrap(),
        internal,
        as4,
        families: BOTH.to_vec(),
        next_hops,
        only_to_customer,
    })
}

/// One for each family, one way or the other.
fn next_hops() -> impl Strategy<Value = NextHops> {
    // A link-local half that is not link-local is none to one of the decoders.
    let link_local = (0..=u64::MAX).prop_map(|host| Ipv6Addr::from((0xFE80_u128 << 112) + u128::from(host)));
    let v6 = (any::<Ipv6Addr>(), prop::option::of(link_local))
        .prop_map(|(global, link_local)| Ipv6NextHop { global, link_local });
    (prop::option::of(any::<Ipv4Addr>()), v6).prop_map(|(v4, v6)| NextHops {
        v4,
        v6: Some(v6),
        v4_over_v6: v4.is_none(),
    })
}

/// No default route: one of the decoders guesses at path identifiers behind it.
fn prefixes(most: usize) -> impl Strategy<Value = BTreeSet<IpNet>> {
    let v4 = (any::<Ipv4Addr>(), 1..=32_u8).prop_map(|(a, bits)| IpNet::new(a.into(), bits).unwrap().trunc());
    let v6 =
        (any::<Ipv6Addr>(), 1..=128_u8).prop_map(|(a, bits)| IpNet::new(a.into(), bits).unwrap().trunc());
    btree_set(prop_oneof![v4, v6], 0..most)
}

/// Cuts what was packed into whole messages.
fn messages(octets: &[u8]) -> Vec<Bytes> {
    let mut rest = octets;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
        assert!((HEADER_LEN..=4096).contains(&length));
        let (message, tail) = rest.split_at(length);
        messages.push(Bytes::copy_from_slice(message));
        rest = tail;
    }
    messages
}

fn context(dialect: &Dialect) -> AttributeContext<'_> {
    AttributeContext {
        as4: dialect.as4,
        internal: dialect.internal,
        families: &dialect.families,
        v4_over_v6: dialect.next_hops.v4_over_v6,
    }
}

fn read_by_us(message: &[u8], dialect: &Dialect) -> (BTreeSet<IpNet>, BTreeSet<IpNet>) {
    let update = Update::decode(&message[HEADER_LEN..], context(dialect)).unwrap();
    assert_eq!(update.disposition, Disposition::Accept);
    let unreach = update.unreach.iter().flat_map(|prefixes| prefixes.iter());
    let reach = update.reach.iter().flat_map(|prefixes| prefixes.iter());
    (update.withdrawn.iter().chain(unreach).collect(), update.announced.iter().chain(reach).collect())
}

fn v4_net(prefix: &oracle::Ipv4Prefix) -> IpNet {
    IpNet::new(prefix.addr.into(), prefix.len).unwrap()
}

fn net(entry: &oracle::NlriEntry) -> IpNet {
    match &entry.prefix {
        oracle::Prefix::V4(prefix) => v4_net(prefix),
        oracle::Prefix::V6(prefix) => IpNet::new(prefix.addr.into(), prefix.len).unwrap(),
    }
}

fn read_by_rustbgpd(message: &Bytes, dialect: &Dialect) -> Said {
    let decoded = oracle::decode_message(&mut message.clone(), oracle::MAX_MESSAGE_LEN).unwrap();
    let oracle::Message::Update(update) = decoded else { panic!("{decoded:?}") };
    let parsed = update.parse(dialect.as4, false, &[]).unwrap();
    let mut said = Said {
        withdrawn: parsed.withdrawn.iter().map(|entry| v4_net(&entry.prefix)).collect(),
        announced: parsed.announced.iter().map(|entry| v4_net(&entry.prefix)).collect(),
        ..Said::default()
    };
    let (body, mut multiprotocol) = (!said.announced.is_empty(), false);
    for attribute in &parsed.attributes {
        match attribute {
            oracle::PathAttribute::Origin(origin) => assert_eq!(*origin, oracle::Origin::Igp),
            oracle::PathAttribute::AsPath(path) => said.path = path.segments.iter().flat_map(hops).collect(),
            oracle::PathAttribute::NextHop(next_hop) => said.next_hop = Some((*next_hop).into()),
            oracle::PathAttribute::Med(med) => said.med = Some(*med),
            oracle::PathAttribute::LocalPref(local_pref) => said.local_pref = Some(*local_pref),
            oracle::PathAttribute::Communities(communities) => said.communities.clone_from(communities),
            oracle::PathAttribute::LargeCommunities(large) => {
                said.large = large.iter().map(|c| (c.global_admin, c.local_data1, c.local_data2)).collect();
            }
            oracle::PathAttribute::ExtendedCommunities(communities) => {
                let [community] = &communities[..] else { panic!("{communities:?}") };
                said.link_bandwidth = Some(community.as_u64().to_be_bytes());
            }
            oracle::PathAttribute::OnlyToCustomer(asn) => said.only_to_customer = Some(*asn),
            oracle::PathAttribute::MpReachNlri(reach) => {
                multiprotocol = true;
                (said.next_hop, said.link_local) = (Some(reach.next_hop), reach.link_local_next_hop);
                said.announced.extend(reach.announced.iter().map(net));
            }
            oracle::PathAttribute::MpUnreachNlri(unreach) => {
                said.withdrawn.extend(unreach.withdrawn.iter().map(net));
            }
            other => panic!("{other:?} was not asked for"),
        }
    }
    // Its opinion on next hops is not asked: they are arbitrary here.
    let next_hop_matters = said.next_hop.is_none_or(is_usable);
    if next_hop_matters {
        oracle::validate::validate_update_attributes(
            &parsed.attributes,
            body || multiprotocol,
            body,
            !dialect.internal,
        )
        .unwrap();
    }
    said
}

/// The classic NLRI of a message that may be malformed elsewhere.
fn classic_prefixes(body: &[u8], dialect: &Dialect) -> Option<BTreeSet<IpNet>> {
    let decoded = oracle::UpdateMessage::decode(&mut &body[..], body.len()).ok()?;
    let parsed = decoded.parse_revised(dialect.as4, dialect.internal, false, &[]).ok()?;
    Some(parsed.update.announced.iter().map(|entry| v4_net(&entry.prefix)).collect())
}

fn is_usable(next_hop: IpAddr) -> bool {
    match next_hop {
        IpAddr::V4(hop) => {
            !(hop.is_unspecified()
                || hop.is_multicast()
                || hop.is_loopback()
                || hop.octets()[0] >= 240
                || hop.octets()[0] == 0)
        }
        IpAddr::V6(hop) => !(hop.is_unspecified() || hop.is_multicast() || hop.is_loopback()),
    }
}

fn hops(segment: &oracle::AsPathSegment) -> Vec<u32> {
    match segment {
        oracle::AsPathSegment::AsSequence(hops) => hops.clone(),
        oracle::AsPathSegment::AsSet(_) => panic!("we send no sets"),
    }
}

fn read_by_bgpkit(message: &Bytes, dialect: &Dialect) -> Said {
    let width = if dialect.as4 { AsnLength::Bits32 } else { AsnLength::Bits16 };
    let decoded = parse_bgp_message(&mut message.clone(), false, &width).unwrap();
    let BgpMessage::Update(update) = decoded else { panic!("{decoded:?}") };
    assert_eq!(update.attributes.validation_warnings(), []);
    let mut said = Said {
        withdrawn: update.withdrawn_prefixes.iter().map(|prefix| prefix.prefix).collect(),
        announced: update.announced_prefixes.iter().map(|prefix| prefix.prefix).collect(),
        next_hop: update.attributes.next_hop(),
        med: update.attributes.multi_exit_discriminator(),
        local_pref: update.attributes.local_preference(),
        only_to_customer: update.attributes.only_to_customer().map(u32::from),
        ..Said::default()
    };
    if let Some(nlri) = update.attributes.get_reachable_nlri() {
        said.next_hop = nlri.next_hop.map(|next_hop| next_hop.addr());
        said.link_local = nlri.next_hop.and_then(link_local_half);
        said.announced.extend(nlri.prefixes.iter().map(|prefix| prefix.prefix));
    }
    if let Some(nlri) = update.attributes.get_unreachable_nlri() {
        said.withdrawn.extend(nlri.prefixes.iter().map(|prefix| prefix.prefix));
    }
    for segment in update.attributes.effective_as_path().iter().flat_map(|path| path.segments.clone()) {
        let AsPathSegment::AsSequence(hops) = segment else { panic!("{segment:?}") };
        said.path.extend(hops.iter().map(|hop| u32::from(*hop)));
    }
    for community in update.attributes.iter_communities() {
        match community {
            MetaCommunity::Plain(community) => said.communities.push(plain(community)),
            MetaCommunity::Large(large) => {
                said.large.push((large.global_admin, large.local_data[0], large.local_data[1]));
            }
            MetaCommunity::Extended(ExtendedCommunity::LinkBandwidth(community)) => {
                assert!(!community.transitive);
                let [high, low] = community.global_admin.to_be_bytes();
                let [a, b, c, d] = community.bandwidth.to_be_bytes();
                said.link_bandwidth = Some([0x40, 4, high, low, a, b, c, d]);
            }
            other => panic!("{other:?} was not asked for"),
        }
    }
    said
}

fn link_local_half(next_hop: NextHopAddress) -> Option<Ipv6Addr> {
    match next_hop {
        NextHopAddress::Ipv6LinkLocal(_, link_local) => Some(link_local),
        _ => None,
    }
}

fn plain(community: bgpkit_parser::models::Community) -> u32 {
    use bgpkit_parser::models::Community as Plain;
    match community {
        Plain::NoExport => Community::NO_EXPORT.0,
        Plain::NoAdvertise => Community::NO_ADVERTISE.0,
        Plain::NoExportSubConfed => 0xFFFF_FF03,
        Plain::Custom(high, low) => u32::from(high) << 16 | u32::from(low),
    }
}

/// What we meant to say of `attributes` in an UPDATE that announces.
fn meant(attributes: &Attributes, dialect: &Dialect) -> Said {
    let hops = if dialect.internal { 0 } else { 1 + usize::from(attributes.prepend) };
    Said {
        path: vec![dialect.local_as.as_u32(); hops],
        med: Some(attributes.med),
        local_pref: dialect.internal.then_some(attributes.local_pref),
        communities: attributes.communities.iter().map(|community| community.0).collect(),
        large: attributes.large_communities.iter().map(|c| (c.0, c.1, c.2)).collect(),
        link_bandwidth: attributes.link_bandwidth.map(|bits| {
            let [high, low] = Open::short_as(dialect.local_as).to_be_bytes();
            let [a, b, c, d] = (bits as f32 / 8.0).to_be_bytes();
            [0x40, 4, high, low, a, b, c, d]
        }),
        only_to_customer: dialect.only_to_customer.then_some(dialect.local_as.as_u32()),
        ..Said::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_we_build_two_independent_decoders_and_we_read_alike(
        attributes in attributes(),
        dialect in dialect(),
        withdrawn in prefixes(60),
        announced in prefixes(600),
    ) {
        let effective = dialect.effective(attributes.clone());
        let groups = BTreeMap::from([(effective, announced.iter().copied().collect::<Vec<_>>())]);
        let changes = Changes { withdrawn: withdrawn.iter().copied().collect(), announced: groups };
        let mut octets = BytesMut::new();
        let count = pack(&changes, &dialect, &mut octets).unwrap();
        let messages = messages(&octets);
        prop_assert_eq!(messages.len() as u64, count);
        let (mut all_withdrawn, mut all_announced) = (BTreeSet::new(), BTreeSet::new());
        for message in &messages {
            let said = read_by_rustbgpd(message, &dialect);
            prop_assert_eq!(&read_by_bgpkit(message, &dialect), &said);
            let (withdrawn, announced) = read_by_us(message, &dialect);
            prop_assert_eq!((&withdrawn, &announced), (&said.withdrawn, &said.announced));
            if let Some(prefix) = announced.first() {
                let v6 = dialect.next_hops.v6.unwrap();
                let (next_hop, link_local) = match (Family::of(prefix.addr()), dialect.next_hops.v4) {
                    (Family::Ipv4, Some(v4)) => (v4.into(), None),
                    (Family::Ipv4, None) | (Family::Ipv6, _) => (v6.global.into(), v6.link_local),
                };
                let prefixes = (said.withdrawn.clone(), said.announced.clone());
                let meant = Said {
                    withdrawn: prefixes.0,
                    announced: prefixes.1,
                    next_hop: Some(next_hop),
                    link_local,
                    ..meant(&attributes, &dialect)
                };
                prop_assert_eq!(said, meant);
            }
            all_withdrawn.extend(withdrawn);
            all_announced.extend(announced);
        }
        prop_assert_eq!((all_withdrawn, all_announced), (withdrawn, announced));
    }

    #[test]
    fn an_open_is_read_alike(asn in 1..=u32::MAX, hold in prop_oneof![Just(0_u64), 3..=65535_u64], id in 1..=u32::MAX) {
        let asn = Asn::new(asn).unwrap();
        let open = Open {
            my_as: Open::short_as(asn),
            hold_time: HoldTime::from_secs(hold).unwrap(),
            router_id: RouterId::new(id.into()).unwrap(),
            capabilities: [Capability::offer(asn, &BOTH), vec![
                Capability::ExtendedNextHop { v4_over_v6: true },
                Capability::Role(3),
            ]].concat(),
        };
        let octets = open.encode().freeze();
        prop_assert_eq!(Open::decode(&octets[HEADER_LEN..]).unwrap(), open);
        let decoded = oracle::decode_message(&mut octets.clone(), oracle::MAX_MESSAGE_LEN).unwrap();
        let oracle::Message::Open(theirs) = decoded else { panic!("{decoded:?}") };
        prop_assert_eq!((theirs.hold_time, theirs.bgp_identifier), (hold as u16, Ipv4Addr::from(id)));
        let four_octets = oracle::Capability::FourOctetAs { asn: asn.as_u32() };
        prop_assert!(theirs.capabilities.contains(&four_octets));
        prop_assert!(theirs.capabilities.contains(&oracle::Capability::EnhancedRouteRefresh));
        prop_assert!(theirs.capabilities.contains(&oracle::Capability::ExtendedMessage));
        let role = oracle::Capability::Role { role: oracle::BgpRole::Customer };
        prop_assert!(theirs.capabilities.contains(&role));
        let next_hops = theirs.capabilities.iter().filter_map(|capability| match capability {
            oracle::Capability::ExtendedNextHop(families) => Some(families.len()),
            _ => None,
        });
        prop_assert_eq!(next_hops.collect::<Vec<_>>(), [1]);
        prop_assert_eq!(theirs.capabilities.len(), 8);
        let decoded = parse_bgp_message(&mut octets.clone(), false, &AsnLength::Bits16).unwrap();
        prop_assert!(matches!(decoded, BgpMessage::Open(open) if open.hold_time == hold as u16));
    }

    #[test]
    fn a_notification_is_read_alike(text in ".{0,80}") {
        let octets = Notification::cease(Cease::AdministrativeShutdown, &text).encode().freeze();
        let decoded = oracle::decode_message(&mut octets.clone(), oracle::MAX_MESSAGE_LEN).unwrap();
        let oracle::Message::Notification(theirs) = decoded else { panic!("{decoded:?}") };
        prop_assert_eq!((theirs.code, theirs.subcode), (oracle::NotificationCode::Cease, 2));
        let expected = Notification::decode(&octets[HEADER_LEN..]).unwrap();
        prop_assert_eq!(&theirs.data[..], expected.data());
        let said = oracle::notification::decode_shutdown_communication(&theirs.data).unwrap_or_default();
        prop_assert!(text.starts_with(&said));
    }

    #[test]
    fn arbitrary_octets_are_read_without_a_panic(octets in vec(any::<u8>(), 0..600), as4: bool, internal: bool) {
        let context = AttributeContext { as4, internal, families: &BOTH, v4_over_v6: as4 };
        let _ = Update::decode(&octets, context).map(|update| (update.end_of_rib(), update.announced.iter().count()));
        let _ = Open::decode(&octets);
        let _ = Refresh::decode(&octets);
        let _ = Notification::decode(&octets).map(|notification| notification.describe());
        let mut framer = Framer::default();
        framer.space().put_slice(&octets);
        while let Ok(Some(_)) = framer.next_frame() {}
    }

    #[test]
    fn a_valid_update_with_some_octets_changed_is_read_without_a_panic_and_errors_have_a_notification(
        attributes in attributes(),
        dialect in dialect(),
        announced in prefixes(20),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let groups = BTreeMap::from([(attributes, announced.into_iter().collect::<Vec<_>>())]);
        let mut octets = BytesMut::new();
        pack(&Changes { withdrawn: vec![], announced: groups }, &dialect, &mut octets).unwrap();
        for message in messages(&octets) {
            let mut body = message[HEADER_LEN..].to_vec();
            for (place, octet) in &changes {
                let place = place.index(body.len());
                body[place] = *octet;
            }
            body.truncate(cut.index(body.len() * 4).max(4));
            let context = context(&dialect);
            match Update::decode(&body, context) {
                Ok(update) => {
                    let announced: BTreeSet<_> = update.announced.iter().collect();
                    prop_assert_eq!(update.announced.iter().count(), update.announced.len());
                    // A different reading of the same octets would be worse than refusing them.
                    if let Some(theirs) = classic_prefixes(&body, &dialect) {
                        prop_assert_eq!(announced, theirs);
                    }
                }
                Err(error) => {
                    let notification = error.notification();
                    prop_assert_eq!(notification.code(), 3);
                    prop_assert!(notification.encode().len() <= 4096);
                }
            }
        }
    }
}

#[test]
fn a_refresh_is_read_alike() {
    for (family, afi) in [(Family::Ipv4, 1), (Family::Ipv6, 2)] {
        for (kind, subtype) in [(RefreshKind::Request, 0), (RefreshKind::Begin, 1), (RefreshKind::End, 2)] {
            let mut octets = Refresh { family, kind }.encode().freeze();
            let decoded = oracle::decode_message(&mut octets, oracle::MAX_MESSAGE_LEN).unwrap();
            let oracle::Message::RouteRefresh(theirs) = decoded else { panic!("{decoded:?}") };
            assert_eq!((theirs.afi_raw, theirs.subtype_raw, theirs.safi_raw), (afi, subtype, 1));
        }
    }
}

#[test]
fn a_keepalive_is_read_alike() {
    let mut octets = bgp_speaker::wire::keepalive().freeze();
    let decoded = oracle::decode_message(&mut octets, oracle::MAX_MESSAGE_LEN).unwrap();
    assert_eq!(decoded, oracle::Message::Keepalive);
    assert_eq!(MessageKind::Keepalive as u8, 4);
}
