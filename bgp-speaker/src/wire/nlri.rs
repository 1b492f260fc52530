//! Prefixes on the wire (RFC 4271 §4.3): one octet of length in bits, then only as many octets as that needs.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use config::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::SAFI_UNICAST;
use super::reader::Reader;

/// Address family identifier (RFC 4760 §6).
pub fn afi(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}

/// The family of an AFI and SAFI that we speak.
pub fn family_of(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, SAFI_UNICAST) => Some(Family::Ipv4),
        (2, SAFI_UNICAST) => Some(Family::Ipv6),
        (_, _) => None,
    }
}

/// Prefixes of one family, checked but left where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixes<'a> {
    family: Family,
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Prefixes<'a> {
    /// `None`: a length beyond the family's, or a prefix cut off (RFC 7606 §5.3).
    pub(super) fn parse(family: Family, bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        while !reader.is_empty() {
            read_prefix(family, &mut reader)?;
            count += 1;
        }
        Some(Prefixes { family, bytes, count })
    }

    pub fn family(&self) -> Family {
        self.family
    }
    pub fn len(&self) -> usize {
        self.count
    }
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// The prefixes, host bits cleared (they are "irrelevant", RFC 4271 §4.3).
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + 'a {
        let (family, mut reader) = (self.family, Reader::new(self.bytes));
        std::iter::from_fn(move || read_prefix(family, &mut reader))
    }
}

/// `None` at the end, or where the bytes are no prefix.
fn read_prefix(family: Family, reader: &mut Reader<'_>) -> Option<IpNet> {
    let bits = reader.u8()?;
    let octets = reader.take(usize::from(bits.div_ceil(8)))?;
    match family {
        Family::Ipv4 => {
            Ipv4Net::new(Ipv4Addr::from(padded(octets)?), bits).ok().map(|net| net.trunc().into())
        }
        Family::Ipv6 => {
            Ipv6Net::new(Ipv6Addr::from(padded(octets)?), bits).ok().map(|net| net.trunc().into())
        }
    }
}

fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut address = [0; N];
    address.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(address)
}

/// Octets that `prefix` takes.
pub(crate) fn encoded_len(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len().div_ceil(8))
}

pub(crate) fn write_prefix(out: &mut BytesMut, prefix: &IpNet) {
    out.put_u8(prefix.prefix_len());
    let octets = encoded_len(prefix) - 1;
    match prefix {
        IpNet::V4(net) => out.extend(net.network().octets().iter().take(octets)),
        IpNet::V6(net) => out.extend(net.network().octets().iter().take(octets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(family: Family, bytes: &[u8]) -> Option<Vec<String>> {
        Some(Prefixes::parse(family, bytes)?.iter().map(|prefix| prefix.to_string()).collect())
    }

    #[test]
    fn a_default_route_in_front_stays_a_default_route() {
        // A lenient parser that guesses at path identifiers reads one route, 11.0.0.0/8, here.
        let bytes = [0x00, 0x10, 0x0a, 0x01, 0x08, 0x0b];
        assert_eq!(parse(Family::Ipv4, &bytes).unwrap(), ["0.0.0.0/0", "10.1.0.0/16", "11.0.0.0/8"]);
    }

    #[test]
    fn a_length_beyond_the_family_or_a_prefix_cut_off_is_refused() {
        assert_eq!(parse(Family::Ipv4, &[33, 1, 2, 3, 4, 5]), None);
        assert_eq!(parse(Family::Ipv4, &[255]), None);
        assert_eq!(parse(Family::Ipv4, &[24, 10, 1]), None);
        assert_eq!(parse(Family::Ipv6, &[129; 18]), None);
        assert_eq!(parse(Family::Ipv6, &[128; 16]), None);
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(parse(Family::Ipv4, &[20, 10, 1, 255]).unwrap(), ["10.1.240.0/20"]);
    }
}
