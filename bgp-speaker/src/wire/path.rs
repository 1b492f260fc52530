//! The way an UPDATE says its prefixes are reached: next hop and AS path. For looking at only; nothing is decided by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use config::Community;

use super::attribute::{AS_PATH, COMMUNITIES, MP_REACH_NLRI, NEXT_HOP, read_asn, read_attribute};
use super::reader::Reader;

/// AS numbers kept of a path.
const MAX_HOPS: usize = 64;

/// Next hop and AS path, as far as they can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    /// NEXT_HOP, or the global half of MP_REACH_NLRI's next hop.
    pub next_hop: Option<IpAddr>,
    /// Sets and sequences alike, nearest first, cut off behind 64.
    pub as_path: Vec<u32>,
    /// It carries GRACEFUL_SHUTDOWN (RFC 8326): whoever announces it would rather not be used.
    pub graceful_shutdown: bool,
}

impl Path {
    pub(super) fn read(attributes: &[u8], as4: bool) -> Self {
        let mut path = Path::default();
        let mut reader = Reader::new(attributes);
        while let Some(attribute) = read_attribute(&mut reader) {
            match attribute.kind {
                AS_PATH => path.as_path = read_hops(attribute.value, as4),
                NEXT_HOP => path.next_hop = address(attribute.value).or(path.next_hop),
                MP_REACH_NLRI => path.next_hop = multiprotocol_next_hop(attribute.value).or(path.next_hop),
                COMMUNITIES => path.graceful_shutdown = has_graceful_shutdown(attribute.value),
                _ => {}
            }
        }
        path
    }
}

fn has_graceful_shutdown(value: &[u8]) -> bool {
    value.chunks_exact(4).any(|community| *community == Community::GRACEFUL_SHUTDOWN.0.to_be_bytes())
}

fn read_hops(value: &[u8], as4: bool) -> Vec<u32> {
    let (mut reader, mut hops) = (Reader::new(value), Vec::new());
    while let (Some(_kind), Some(count)) = (reader.u8(), reader.u8()) {
        hops.extend((0..count).map_while(|_| read_asn(&mut reader, as4)));
    }
    hops.truncate(MAX_HOPS);
    hops
}

fn multiprotocol_next_hop(value: &[u8]) -> Option<IpAddr> {
    let mut reader = Reader::new(value);
    let _family = (reader.u16()?, reader.u8()?);
    address(reader.block8()?)
}

/// Four octets, or the first sixteen.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let mut reader = Reader::new(octets);
    match octets.len() {
        4 => reader.array::<4>().map(|octets| Ipv4Addr::from(octets).into()),
        _ => reader.array::<16>().map(|octets| Ipv6Addr::from(octets).into()),
    }
}
