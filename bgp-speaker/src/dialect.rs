//! How one session says a route: its attributes, its next hops, and what cannot be said on it.
//!
//! Pure. Attribute values are encoded by `bgpkit-parser`; which ones there are, and AS_TRANS, is decided here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgpkit_parser::error::EncodingError;
use bgpkit_parser::models::{
    AsPath, AsPathSegment, AsnLength, AttrFlags, Attribute, AttributeValue, Community as WireCommunity,
    ExtendedCommunity, LargeCommunity as WireLargeCommunity, LinkBandwidth, Origin,
};
use bytes::BytesMut;
use config::{Asn, Community, Family};
use ipnet::IpNet;

use crate::fsm::Params;
use crate::pack::MAX_ATTRIBUTES;
use crate::route::Attributes;
use crate::status::Negotiated;
use crate::wire::{Open, role};

/// AS numbers in one segment: its count is one octet.
const SEGMENT_HOPS: usize = 255;

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
    pub next_hops: NextHops,
    /// Our role towards the peer asks for the OTC attribute (RFC 9234 §5).
    pub only_to_customer: bool,
}

/// Where the peer sends what the routes attract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextHops {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6NextHop>,
    /// IPv4 routes may have the IPv6 next hop (RFC 8950); only without an IPv4 one.
    pub v4_over_v6: bool,
}

/// RFC 2545 §3: 16 octets, or 32 with a link-local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6NextHop {
    pub global: Ipv6Addr,
    /// Only where the peer is on the same link.
    pub link_local: Option<Ipv6Addr>,
}

/// What comes with an IPv4 route.
pub(crate) enum Ipv4Way {
    /// Classic NLRI with NEXT_HOP.
    Classic(Ipv4Addr),
    /// MP_REACH_NLRI (RFC 8950 §3).
    Multiprotocol(Ipv6NextHop),
}

impl NextHops {
    /// The override for its family, else the session's own address for its own family. On a session over link-local
    /// addresses without a global override both halves of the IPv6 next hop are the link-local address: RFC 2545 does not
    /// foresee that, and routers read it.
    pub fn of(local: IpAddr, configured: Option<IpAddr>, v4_over_v6: bool) -> Self {
        let mut hops = NextHops { v4_over_v6, ..NextHops::default() };
        for address in [Some(local), configured].into_iter().flatten() {
            match address {
                IpAddr::V4(address) => hops.v4 = Some(address),
                IpAddr::V6(global) => {
                    let link_local = match local {
                        IpAddr::V6(local) if local.is_unicast_link_local() => Some(local),
                        IpAddr::V6(_) | IpAddr::V4(_) => None,
                    };
                    hops.v6 = Some(Ipv6NextHop { global, link_local });
                }
            }
        }
        hops
    }

    pub(crate) fn for_v4(&self) -> Option<Ipv4Way> {
        let over_v6 = || self.v6.filter(|_| self.v4_over_v6).map(Ipv4Way::Multiprotocol);
        self.v4.map(Ipv4Way::Classic).or_else(over_v6)
    }
}

impl Dialect {
    /// Of a session that was just agreed on. Our role counts whether or not the peer said its own (RFC 9234 §4.2).
    pub(crate) fn of(params: &Params, negotiated: &Negotiated, next_hops: NextHops) -> Self {
        Dialect {
            local_as: params.local_as,
            internal: params.internal(),
            as4: negotiated.as4,
            families: negotiated.families.clone(),
            next_hops,
            only_to_customer: params.role().is_some_and(role::marks_only_to_customer),
        }
    }

    /// Why a route cannot be told to this peer; `None`: it can.
    pub fn obstacle(&self, prefix: &IpNet, attributes: &Attributes) -> Option<String> {
        let family = Family::of(prefix.addr());
        if !self.families.contains(&family) {
            return Some(format!("{family} was not negotiated; check `families` here and on the peer"));
        }
        let has_next_hop = match family {
            Family::Ipv4 => self.next_hops.for_v4().is_some(),
            Family::Ipv6 => self.next_hops.v6.is_some(),
        };
        if !has_next_hop {
            return Some(format!("no {family} next hop on this session; set the peer's `next_hop`"));
        }
        let octets = attributes_bound(attributes);
        (octets > MAX_ATTRIBUTES)
            .then(|| format!("its attributes take up to {octets} octets, an UPDATE has {MAX_ATTRIBUTES}"))
    }

    /// `attributes` without what this session does not say, so that a change of that is none.
    pub fn effective(&self, mut attributes: Attributes) -> Attributes {
        if self.internal {
            attributes.prepend = 0;
        } else {
            attributes.local_pref = 0;
        }
        attributes
    }

    /// In the order of their types (RFC 4271 §4.3); NEXT_HOP only for classic NLRI.
    pub(crate) fn encode(
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
        if let Some(bits) = attributes.link_bandwidth {
            let community = link_bandwidth(self.local_as, bits);
            values.push(AttributeValue::ExtendedCommunities(vec![community]));
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
        if self.only_to_customer {
            values.push(AttributeValue::OnlyToCustomer(self.local_as.as_u32().into()));
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

/// No fewer octets than [`Dialect::encode`] gives in any dialect.
fn attributes_bound(attributes: &Attributes) -> usize {
    const FIXED: usize = 96;
    // Twice: AS_PATH and AS4_PATH.
    let paths = 2 * 4 * (1 + usize::from(attributes.prepend));
    FIXED + paths + 4 * attributes.communities.len() + 12 * attributes.large_communities.len()
}

fn wire_community(community: Community) -> WireCommunity {
    // Halves of 16 bits: the only ones the encoder does not cut.
    WireCommunity::Custom((community.0 >> 16).into(), (community.0 & 0xFFFF) as u16)
}

/// Non-transitive, two-octet AS or AS_TRANS, octets per second (draft-ietf-idr-link-bandwidth §2).
fn link_bandwidth(local_as: Asn, bits_per_second: u64) -> ExtendedCommunity {
    #[allow(clippy::cast_precision_loss, reason = "the community has 24 bits of precision")]
    let bandwidth = bits_per_second as f32 / 8.0;
    ExtendedCommunity::LinkBandwidth(LinkBandwidth {
        global_admin: Open::short_as(local_as),
        bandwidth,
        transitive: false,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{attributes, dialect};

    fn hops(local: &str, configured: Option<&str>) -> NextHops {
        NextHops::of(local.parse().unwrap(), configured.map(|text| text.parse().unwrap()), false)
    }

    fn v6(global: &str, link_local: Option<&str>) -> Option<Ipv6NextHop> {
        let link_local = link_local.map(|text| text.parse().unwrap());
        Some(Ipv6NextHop { global: global.parse().unwrap(), link_local })
    }

    #[test]
    fn the_next_hop_is_the_override_or_the_sessions_own_address_of_that_family() {
        let both = |hops: NextHops| (hops.v4, hops.v6);
        let (a, b) = ("192.0.2.1".parse().ok(), v6("2001:db8::1", None));
        assert_eq!(both(hops("192.0.2.1", None)), (a, None));
        assert_eq!(both(hops("192.0.2.1", Some("2001:db8::1"))), (a, b));
        assert_eq!(both(hops("192.0.2.9", Some("192.0.2.1"))), (a, None));
        assert_eq!(both(hops("2001:db8::1", Some("192.0.2.1"))), (a, b));
    }

    #[test]
    fn over_link_local_addresses_the_next_hop_has_a_global_and_a_link_local_half() {
        assert_eq!(hops("fe80::1", Some("2001:db8::1")).v6, v6("2001:db8::1", Some("fe80::1")));
        assert_eq!(hops("fe80::1", None).v6, v6("fe80::1", Some("fe80::1")));
    }

    #[test]
    fn an_ipv4_route_has_an_ipv6_next_hop_only_where_that_was_negotiated_and_there_is_no_other() {
        let prefix = "192.0.2.10/32".parse().unwrap();
        let over = |v4_over_v6, configured: Option<&str>| Dialect {
            next_hops: NextHops { v4_over_v6, ..hops("2001:db8::1", configured) },
            ..dialect()
        };
        let obstacle = over(false, None).obstacle(&prefix, &attributes(1));
        assert!(obstacle.unwrap().contains("next_hop"));
        assert_eq!(over(true, None).obstacle(&prefix, &attributes(1)), None);
        assert!(matches!(over(true, None).next_hops.for_v4(), Some(Ipv4Way::Multiprotocol(_))));
        assert!(matches!(over(true, Some("192.0.2.1")).next_hops.for_v4(), Some(Ipv4Way::Classic(_))));
    }

    #[test]
    fn the_link_bandwidth_is_in_octets_per_second_and_has_two_octets_for_the_as() {
        for (asn, said) in [(64512_u32, [0xFC, 0]), (4_200_000_001, [0x5B, 0xA0])] {
            let dialect = Dialect { local_as: Asn::new(asn).unwrap(), ..dialect() };
            let attributes = Attributes { link_bandwidth: Some(10_000_000_000), ..attributes(1) };
            let octets = dialect.encode(&attributes, None).unwrap();
            let mut expected = vec![0xC0, 16, 8, 0x40, 4, said[0], said[1]];
            expected.extend(1.25e9_f32.to_be_bytes());
            assert!(octets.windows(expected.len()).any(|window| window == expected), "{octets:02x?}");
        }
    }

    #[test]
    fn towards_customers_peers_and_clients_a_route_is_marked_only_to_customer_with_our_as() {
        let marked = Dialect { only_to_customer: true, ..dialect() }.encode(&attributes(1), None).unwrap();
        assert!(marked.ends_with(&[0xC0, 35, 4, 0, 0, 0xFC, 0]), "{marked:02x?}");
        let unmarked = dialect().encode(&attributes(1), None).unwrap();
        assert_eq!(unmarked.len() + 7, marked.len());
    }
}
