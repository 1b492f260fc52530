//! Changes into UPDATEs: as few as the 4096-octet limit allows, routes with equal attributes together, withdrawals first.
//!
//! Pure. Attribute values are encoded by `bgpkit-parser`; what it cannot get wrong-proof (lengths, splitting, the
//! multiprotocol attributes, AS_TRANS) is done here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgpkit_parser::error::EncodingError;
use bgpkit_parser::models::{
    AsPath, AsPathSegment, AsnLength, AttrFlags, Attribute, AttributeValue, Community as WireCommunity,
    LargeCommunity as WireLargeCommunity, Origin,
};
use bytes::{BufMut, BytesMut};
use config::{Asn, Community, Family};
use ipnet::IpNet;

use crate::route::Attributes;
use crate::wire::{
    self, HEADER_LEN, MAX_MESSAGE_LEN, MessageKind, SAFI_UNICAST, encoded_len, write_message, write_prefix,
};

/// Octets of a whole UPDATE besides withdrawn routes, attributes and NLRI.
const UPDATE_OVERHEAD: usize = HEADER_LEN + 2 + 2;
/// Octets of MP_REACH_NLRI (IPv6, one next hop) and of MP_UNREACH_NLRI besides the prefixes, extended length.
const REACH_OVERHEAD: usize = 4 + 2 + 1 + 1 + 16 + 1;
const UNREACH_OVERHEAD: usize = 4 + 2 + 1;
/// AS numbers in one segment: its count is one octet.
const SEGMENT_HOPS: usize = 255;
/// What attributes may take; leaves room for the longest prefix in either encoding.
const MAX_ATTRIBUTES: usize = MAX_MESSAGE_LEN - UPDATE_OVERHEAD - REACH_OVERHEAD - 17;

/// How one session says things: fixed from Established to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    pub local_as: Asn,
    /// iBGP: no AS_PATH, but LOCAL_PREF.
    pub internal: bool,
    /// AS numbers take four octets (RFC 6793).
    pub as4: bool,
    /// Negotiated.
    pub families: Vec<Family>,
    pub next_hop_v4: Option<Ipv4Addr>,
    pub next_hop_v6: Option<Ipv6Addr>,
}

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

impl Dialect {
    /// Next hops are the override for its family, else the session's own address for its own family.
    pub fn next_hops(local: IpAddr, configured: Option<IpAddr>) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let (mut v4, mut v6) = (None, None);
        for address in [Some(local), configured].into_iter().flatten() {
            match address {
                IpAddr::V4(address) => v4 = Some(address),
                // A link-local address alone is no next hop (RFC 2545 §3).
                IpAddr::V6(address) if address.is_unicast_link_local() => {}
                IpAddr::V6(address) => v6 = Some(address),
            }
        }
        (v4, v6)
    }

    /// Why a route cannot be told to this peer; `None`: it can.
    pub fn obstacle(&self, prefix: &IpNet, attributes: &Attributes) -> Option<String> {
        let family = Family::of(prefix.addr());
        if !self.families.contains(&family) {
            return Some(format!("{family} was not negotiated; check `families` here and on the peer"));
        }
        let has_next_hop = match family {
            Family::Ipv4 => self.next_hop_v4.is_some(),
            Family::Ipv6 => self.next_hop_v6.is_some(),
        };
        if !has_next_hop {
            return Some(format!("no {family} next hop on this session; set the peer's `next_hop`"));
        }
        let octets = attributes_bound(attributes);
        (octets > MAX_ATTRIBUTES)
            .then(|| format!("its attributes take up to {octets} octets, an UPDATE has {MAX_ATTRIBUTES}"))
    }

    /// `attributes` without what this session does not say, so that a change of that is none.
    pub fn effective(&self, attributes: &Attributes) -> Attributes {
        let mut effective = attributes.clone();
        if self.internal {
            effective.prepend = 0;
        } else {
            effective.local_pref = 0;
        }
        effective
    }

    /// Whether `desired` would be said as `effective`, which [`Dialect::effective`] made, was.
    pub(crate) fn says_the_same(&self, effective: &Attributes, desired: &Attributes) -> bool {
        let Attributes { med, local_pref, prepend, communities, large_communities } = desired;
        effective.med == *med
            && (!self.internal || effective.local_pref == *local_pref)
            && (self.internal || effective.prepend == *prepend)
            && effective.communities == *communities
            && effective.large_communities == *large_communities
    }

    /// In the order of their types (RFC 4271 §4.3); NEXT_HOP only for classic NLRI.
    fn encode_attributes(
        &self,
        attributes: &Attributes,
        next_hop: Option<Ipv4Addr>,
    ) -> Result<BytesMut, EncodingError> {
        let mut values = vec![AttributeValue::Origin(Origin::IGP)];
        let hops = if self.internal { 0 } else { 1 + usize::from(attributes.prepend) };
        let needs_as4_path = !self.as4 && hops != 0 && self.local_as.as_u32() > u32::from(u16::MAX);
        let said = if needs_as4_path { Asn::TRANS } else { self.local_as };
        values.push(AttributeValue::AsPath(path(said, hops)));
        values.extend(next_hop.map(|next_hop| AttributeValue::NextHop(next_hop.into())));
        values.push(AttributeValue::MultiExitDiscriminator(attributes.med));
        if self.internal {
            values.push(AttributeValue::LocalPreference(attributes.local_pref));
        }
        if !attributes.communities.is_empty() {
            values.push(AttributeValue::Communities(
                attributes.communities.iter().copied().map(wire_community).collect(),
            ));
        }
        if needs_as4_path {
            values.push(AttributeValue::As4Path(path(self.local_as, hops)));
        }
        if !attributes.large_communities.is_empty() {
            let large = attributes.large_communities.iter();
            values.push(AttributeValue::LargeCommunities(
                large.map(|c| WireLargeCommunity::new(c.0, [c.1, c.2])).collect(),
            ));
        }
        let width = if self.as4 { AsnLength::Bits32 } else { AsnLength::Bits16 };
        let mut out = BytesMut::new();
        for value in values {
            encode_attribute(value, width, &mut out)?;
        }
        Ok(out)
    }
}

fn path(asn: Asn, hops: usize) -> AsPath {
    let hops = vec![asn.as_u32(); hops];
    AsPath::from_segments(hops.chunks(SEGMENT_HOPS).map(AsPathSegment::sequence).collect::<Vec<_>>())
}

/// No fewer octets than [`Dialect::encode_attributes`] gives in any dialect.
fn attributes_bound(attributes: &Attributes) -> usize {
    const FIXED: usize = 64;
    // Twice: AS_PATH and AS4_PATH.
    let paths = 2 * 4 * (1 + usize::from(attributes.prepend));
    FIXED + paths + 4 * attributes.communities.len() + 12 * attributes.large_communities.len()
}

fn wire_community(community: Community) -> WireCommunity {
    // Halves of 16 bits: the only ones the encoder does not cut.
    WireCommunity::Custom((community.0 >> 16).into(), (community.0 & 0xFFFF) as u16)
}

/// One attribute, with the extended length where it needs one.
fn encode_attribute(
    value: AttributeValue,
    width: AsnLength,
    out: &mut BytesMut,
) -> Result<(), EncodingError> {
    let start = out.len();
    let mut attribute = Attribute::from(value);
    if attribute.encode_to(width, out).is_err() {
        out.truncate(start);
        attribute.flag |= AttrFlags::EXTENDED;
        attribute.encode_to(width, out)?;
    }
    Ok(())
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
        if let (Some(next_hop), false) = (dialect.next_hop_v4, v4.is_empty()) {
            let octets = dialect.encode_attributes(attributes, Some(next_hop))?;
            for chunk in chunks(&v4, MAX_MESSAGE_LEN - UPDATE_OVERHEAD - octets.len()) {
                write_update(out, &[], &octets, &prefixes(chunk));
                count += 1;
            }
        }
        if let (Some(next_hop), false) = (dialect.next_hop_v6, v6.is_empty()) {
            let octets = dialect.encode_attributes(attributes, None)?;
            for chunk in chunks(&v6, MAX_MESSAGE_LEN - UPDATE_OVERHEAD - octets.len() - REACH_OVERHEAD) {
                // First, as RFC 7606 §5.1 asks, so that the routes are found whatever follows.
                let mut attributes = multiprotocol_reach(next_hop, chunk);
                attributes.extend_from_slice(&octets);
                write_update(out, &[], &attributes, &[]);
                count += 1;
            }
        }
    }
    Ok(count)
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

/// RFC 4760 §3.
fn multiprotocol_reach(next_hop: Ipv6Addr, chunk: &[&IpNet]) -> BytesMut {
    let mut value = BytesMut::new();
    value.put_u16(wire::afi(Family::Ipv6));
    value.put_slice(&[SAFI_UNICAST, 16]);
    value.put_slice(&next_hop.octets());
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
    use config::LargeCommunity;

    use super::*;
    use crate::wire::{AttributeContext, Disposition, Framer, Update};

    fn dialect() -> Dialect {
        Dialect {
            local_as: Asn::new(4_200_000_001).unwrap(),
            internal: false,
            as4: true,
            families: vec![Family::Ipv4, Family::Ipv6],
            next_hop_v4: Some([192, 0, 2, 1].into()),
            next_hop_v6: Some("2001:db8::1".parse().unwrap()),
        }
    }

    fn attributes() -> Attributes {
        Attributes { med: 100, local_pref: 100, prepend: 0, communities: vec![], large_communities: vec![] }
    }

    /// Each UPDATE's withdrawn and announced prefixes, after asserting that each is acceptable.
    fn read_back(octets: &BytesMut, dialect: &Dialect) -> Vec<Said> {
        let context =
            AttributeContext { as4: dialect.as4, internal: dialect.internal, families: &dialect.families };
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
    fn the_next_hop_is_the_override_or_the_sessions_own_address_of_that_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let hops = |local, configured| Dialect::next_hops(ip(local), configured);
        let (a, b) = ("192.0.2.1".parse().ok(), "2001:db8::1".parse().ok());
        assert_eq!(hops("192.0.2.1", None), (a, None));
        assert_eq!(hops("192.0.2.1", Some(ip("2001:db8::1"))), (a, b));
        assert_eq!(hops("192.0.2.9", Some(ip("192.0.2.1"))), (a, None));
        assert_eq!(hops("2001:db8::1", Some(ip("192.0.2.1"))), (a, b));
        assert_eq!(hops("fe80::1", None), (None, None));
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
            let context = AttributeContext { as4: true, internal: false, families: &families };
            assert_eq!(Update::decode(frame.body, context).unwrap().end_of_rib(), Some(family));
        }
    }
}
