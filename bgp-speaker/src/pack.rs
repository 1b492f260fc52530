//! Changes into UPDATEs: as few as the 4096-octet limit allows, routes with equal attributes together, withdrawals first.
//!
//! Pure. What a session says of a route is the matter of [`Dialect`]; lengths, splitting and the multiprotocol attributes
//! are done here.

use std::collections::BTreeMap;

use bgpkit_parser::error::EncodingError;
use bytes::{BufMut, BytesMut};
use config::Family;
use ipnet::IpNet;

use crate::dialect::Ipv4Way;
pub use crate::dialect::{Dialect, Ipv6NextHop, NextHops};
use crate::route::Attributes;
use crate::wire::{
    self, HEADER_LEN, MAX_MESSAGE_LEN, MessageKind, SAFI_UNICAST, encoded_len, write_message, write_prefix,
};

/// Octets of a whole UPDATE besides withdrawn routes, attributes and NLRI.
const UPDATE_OVERHEAD: usize = HEADER_LEN + 2 + 2;
/// Octets of MP_REACH_NLRI (the longest next hop) and of MP_UNREACH_NLRI besides the prefixes, extended length.
const REACH_OVERHEAD: usize = 4 + 2 + 1 + 1 + 32 + 1;
const UNREACH_OVERHEAD: usize = 4 + 2 + 1;
/// What attributes may take; leaves room for the longest prefix in either encoding.
pub(crate) const MAX_ATTRIBUTES: usize = MAX_MESSAGE_LEN - UPDATE_OVERHEAD - REACH_OVERHEAD - 17;

/// What has to be said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub withdrawn: Vec<IpNet>,
    /// By attributes, as [`Dialect::effective`] left them.
    pub announced: BTreeMap<Attributes, Vec<IpNet>>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.announced.is_empty()
    }
}

/// Appends the UPDATEs that say `changes`, and returns how many. Every announced route must have no
/// [`Dialect::obstacle`].
pub fn pack(changes: &Changes, dialect: &Dialect, out: &mut BytesMut) -> Result<u64, EncodingError> {
    let mut count = 0;
    let (v4, v6) = by_family(&changes.withdrawn);
    for chunk in chunks(&v4, MAX_MESSAGE_LEN - UPDATE_OVERHEAD) {
        write_update(out, &prefixes(chunk), &[], &[]);
        count += 1;
    }
    for chunk in chunks(&v6, MAX_MESSAGE_LEN - UPDATE_OVERHEAD - UNREACH_OVERHEAD) {
        write_update(out, &[], &multiprotocol_unreach(Family::Ipv6, chunk), &[]);
        count += 1;
    }
    for (attributes, announced) in &changes.announced {
        let (v4, v6) = by_family(announced);
        match dialect.next_hops.for_v4().filter(|_| !v4.is_empty()) {
            Some(Ipv4Way::Classic(next_hop)) => {
                let octets = dialect.encode(attributes, Some(next_hop))?;
                for chunk in chunks(&v4, MAX_MESSAGE_LEN - UPDATE_OVERHEAD - octets.len()) {
                    write_update(out, &[], &octets, &prefixes(chunk));
                    count += 1;
                }
            }
            Some(Ipv4Way::Multiprotocol(next_hop)) => {
                let octets = dialect.encode(attributes, None)?;
                count += announce_multiprotocol(out, (Family::Ipv4, next_hop), &octets, &v4);
            }
            None => {}
        }
        if let (Some(next_hop), false) = (dialect.next_hops.v6, v6.is_empty()) {
            let octets = dialect.encode(attributes, None)?;
            count += announce_multiprotocol(out, (Family::Ipv6, next_hop), &octets, &v6);
        }
    }
    Ok(count)
}

/// Announcements of one family in MP_REACH_NLRI; returns how many.
fn announce_multiprotocol(
    out: &mut BytesMut,
    (family, next_hop): (Family, Ipv6NextHop),
    attributes: &[u8],
    announced: &[&IpNet],
) -> u64 {
    let mut count = 0;
    for chunk in chunks(announced, MAX_MESSAGE_LEN - UPDATE_OVERHEAD - attributes.len() - REACH_OVERHEAD) {
        // First, as RFC 7606 §5.1 asks, so that the routes are found whatever follows.
        let mut octets = multiprotocol_reach(family, next_hop, chunk);
        octets.extend_from_slice(attributes);
        write_update(out, &[], &octets, &[]);
        count += 1;
    }
    count
}

/// Appends the End-of-RIB marker of `family` (RFC 4724 §2).
pub fn end_of_rib(family: Family, out: &mut BytesMut) {
    match family {
        Family::Ipv4 => write_update(out, &[], &[], &[]),
        Family::Ipv6 => write_update(out, &[], &multiprotocol_unreach(family, &[]), &[]),
    }
}

fn by_family(prefixes: &[IpNet]) -> (Vec<&IpNet>, Vec<&IpNet>) {
    prefixes.iter().partition(|prefix| matches!(prefix, IpNet::V4(_)))
}

/// Runs of prefixes that each take at most `room` octets.
fn chunks<'a, 'b>(prefixes: &'a [&'b IpNet], room: usize) -> impl Iterator<Item = &'a [&'b IpNet]> {
    let mut rest = prefixes;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fits = rest.iter().take_while(|prefix| {
            used += encoded_len(prefix);
            used <= room
        });
        let (chunk, tail) = rest.split_at_checked(fits.count())?;
        rest = tail;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn prefixes(chunk: &[&IpNet]) -> BytesMut {
    let mut out = BytesMut::new();
    chunk.iter().for_each(|prefix| write_prefix(&mut out, prefix));
    out
}

fn write_update(out: &mut BytesMut, withdrawn: &[u8], attributes: &[u8], announced: &[u8]) {
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes();
    let parts = [&length(withdrawn), withdrawn, &length(attributes), attributes, announced];
    write_message(out, MessageKind::Update, &parts);
}

/// RFC 4760 §3, with the next hop of RFC 2545 §3.
fn multiprotocol_reach(family: Family, next_hop: Ipv6NextHop, chunk: &[&IpNet]) -> BytesMut {
    let mut value = BytesMut::new();
    value.put_u16(wire::afi(family));
    value.put_u8(SAFI_UNICAST);
    value.put_u8(if next_hop.link_local.is_some() { 32 } else { 16 });
    value.put_slice(&next_hop.global.octets());
    if let Some(link_local) = next_hop.link_local {
        value.put_slice(&link_local.octets());
    }
    value.put_u8(0);
    chunk.iter().for_each(|prefix| write_prefix(&mut value, prefix));
    extended_attribute(wire::MP_REACH_NLRI, &value)
}

/// RFC 4760 §4.
fn multiprotocol_unreach(family: Family, chunk: &[&IpNet]) -> BytesMut {
    let mut value = BytesMut::new();
    value.put_u16(wire::afi(family));
    value.put_u8(SAFI_UNICAST);
    chunk.iter().for_each(|prefix| write_prefix(&mut value, prefix));
    extended_attribute(wire::MP_UNREACH_NLRI, &value)
}

/// An optional non-transitive attribute with a two-octet length.
fn extended_attribute(kind: u8, value: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(4 + value.len());
    out.put_slice(&[0x90, kind]);
    out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    out.put_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use config::{Asn, Community, LargeCommunity};

    use super::*;
    use crate::fixture;
    use crate::wire::{AttributeContext, Disposition, Framer, Update};

    fn dialect() -> Dialect {
        let global = "2001:db8::1".parse().unwrap();
        Dialect {
            local_as: Asn::new(4_200_000_001).unwrap(),
            families: vec![Family::Ipv4, Family::Ipv6],
            next_hops: NextHops {
                v6: Some(Ipv6NextHop { global, link_local: None }),
                ..fixture::dialect().next_hops
            },
            ..fixture::dialect()
        }
    }

    fn attributes() -> Attributes {
        fixture::attributes(100)
    }

    /// Each UPDATE's withdrawn and announced prefixes, after asserting that each is acceptable.
    fn read_back(octets: &BytesMut, dialect: &Dialect) -> Vec<Said> {
        let context = AttributeContext {
            as4: dialect.as4,
            internal: dialect.internal,
            families: &dialect.families,
            v4_over_v6: dialect.next_hops.v4_over_v6,
        };
        let mut framer = Framer::default();
        let (mut rest, mut updates) = (&octets[..], Vec::new());
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(1000));
            framer.space().put_slice(head);
            rest = tail;
            while let Some(frame) = framer.next_frame().unwrap() {
                let update = Update::decode(frame.body, context).unwrap();
                assert_eq!(update.disposition, Disposition::Accept);
                let mut withdrawn: Vec<_> = update.withdrawn.iter().collect();
                withdrawn.extend(update.unreach.iter().flat_map(|prefixes| prefixes.iter()));
                let mut announced: Vec<_> = update.announced.iter().collect();
                announced.extend(update.reach.iter().flat_map(|prefixes| prefixes.iter()));
                updates.push((withdrawn, announced));
            }
        }
        updates
    }

    fn v4(count: u32) -> Vec<IpNet> {
        (0..count).map(|n| IpNet::from(IpAddr::V4((0x0a00_0000 + n).into()))).collect()
    }

    fn v6(count: u128) -> Vec<IpNet> {
        (0..count).map(|n| IpNet::from(IpAddr::V6(((0x2001_0db8 << 96) + n).into()))).collect()
    }

    /// Withdrawn and announced.
    type Said = (Vec<IpNet>, Vec<IpNet>);

    fn packed(changes: &Changes, dialect: &Dialect) -> (u64, Vec<Said>) {
        let mut out = BytesMut::new();
        let count = pack(changes, dialect, &mut out).unwrap();
        (count, read_back(&out, dialect))
    }

    #[test]
    fn routes_with_equal_attributes_share_one_update() {
        let announced = BTreeMap::from([(attributes(), v4(200))]);
        let (count, updates) = packed(&Changes { withdrawn: vec![], announced }, &dialect());
        assert_eq!((count, updates), (1, vec![(vec![], v4(200))]));
    }

    #[test]
    fn what_does_not_fit_4096_octets_is_split_and_nothing_is_lost() {
        let both = [v4(3000), v6(1000)].concat();
        let changes =
            Changes { withdrawn: both.clone(), announced: BTreeMap::from([(attributes(), both.clone())]) };
        let (count, updates) = packed(&changes, &dialect());
        assert_eq!(count, updates.len() as u64);
        let withdrawn: Vec<_> = updates.iter().flat_map(|(withdrawn, _)| withdrawn.clone()).collect();
        let announced: Vec<_> = updates.iter().flat_map(|(_, announced)| announced.clone()).collect();
        assert_eq!(withdrawn, both);
        assert_eq!(announced, both);
        let first_announcement = updates.iter().position(|(_, announced)| !announced.is_empty());
        let last_withdrawal = updates.iter().rposition(|(withdrawn, _)| !withdrawn.is_empty());
        assert!(last_withdrawal < first_announcement, "withdrawals go first");
    }

    #[test]
    fn the_largest_attributes_without_an_obstacle_still_leave_room_for_every_route() {
        let mut large = attributes();
        large.prepend = 255;
        large.communities = (0..63).map(Community).collect();
        while dialect().obstacle(&v6(1)[0], &large).is_none() {
            large.large_communities.push(LargeCommunity(1, 2, 3));
        }
        assert!(dialect().obstacle(&v4(1)[0], &large).unwrap().contains("octets"));
        large.large_communities.pop();
        for as4 in [true, false] {
            let dialect = Dialect { as4, ..dialect() };
            let announced = BTreeMap::from([(large.clone(), [v4(2), v6(2)].concat())]);
            let (_, updates) = packed(&Changes { withdrawn: vec![], announced }, &dialect);
            let announced: Vec<_> = updates.iter().flat_map(|(_, announced)| announced.clone()).collect();
            assert_eq!(announced, [v4(2), v6(2)].concat());
        }
    }

    #[test]
    fn ipv4_routes_with_an_ipv6_next_hop_go_out_in_mp_reach_nlri_and_lose_nothing() {
        let global = "2001:db8::1".parse().unwrap();
        let link_local = Some("fe80::1".parse().unwrap());
        let next_hops = NextHops { v4: None, v6: Some(Ipv6NextHop { global, link_local }), v4_over_v6: true };
        let dialect = Dialect { next_hops, ..dialect() };
        let announced = BTreeMap::from([(attributes(), [v4(3000), v6(1000)].concat())]);
        let (_, updates) = packed(&Changes { withdrawn: vec![], announced }, &dialect);
        let announced: Vec<_> = updates.iter().flat_map(|(_, announced)| announced.clone()).collect();
        assert_eq!(announced, [v4(3000), v6(1000)].concat());
    }

    #[test]
    fn end_of_rib_is_read_as_such() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut out = BytesMut::new();
            end_of_rib(family, &mut out);
            let mut framer = Framer::default();
            framer.space().put_slice(&out);
            let frame = framer.next_frame().unwrap().unwrap();
            let families = [Family::Ipv4, Family::Ipv6];
            let context =
                AttributeContext { as4: true, internal: false, families: &families, v4_over_v6: false };
            assert_eq!(Update::decode(frame.body, context).unwrap().end_of_rib(), Some(family));
        }
    }
}
