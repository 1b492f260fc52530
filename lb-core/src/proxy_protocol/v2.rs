//! Version 2: sixteen octets, the addresses, TLVs (§2.2).
//!
//! ```text
//!  0            12        13        14       16
//! +------------+---------+---------+--------+-----------+------+
//! | signature  | version | family  | length | addresses | TLVs |
//! |            | command | protocol|        |           |      |
//! +------------+---------+---------+--------+-----------+------+
//!                                            '---- length -----'
//! ```

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Decoded, Header, LONGEST, Malformed};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Decoded>, Malformed> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes.get(..compared) != SIGNATURE.get(..compared) {
        return Err(Malformed::Signature);
    }
    let Some(&[.., command, family, high, low]) = bytes.first_chunk::<FIXED>() else { return Ok(None) };
    let octets = u16::from_be_bytes([high, low]);
    let length = FIXED + usize::from(octets);
    if length > LONGEST {
        return Err(Malformed::TooLong);
    }
    let addresses = match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED | UDP4 | UDP6 | UNIX_STREAM | UNIX_DATAGRAM) => None,
        (PROXY, TCP4 | TCP6) => Some(family),
        (PROXY, other) => return Err(Malformed::Family(other)),
        (other, _) => return Err(Malformed::Command(other)),
    };
    let Some(rest) = bytes.get(FIXED..length) else { return Ok(None) };
    let header = match addresses {
        None => Header::Unknown,
        Some(TCP4) => tcp::<4>(rest).ok_or(Malformed::TooShort(octets))?,
        Some(_) => tcp::<16>(rest).ok_or(Malformed::TooShort(octets))?,
    };
    Ok(Some(Decoded { header, length }))
}

/// Two addresses of `N` octets, then two ports.
fn tcp<const N: usize>(bytes: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *rest.first_chunk::<4>()?;
    let address = |ip: [u8; N], port| SocketAddr::new(IpAddr::from(ip), u16::from_be_bytes(port));
    Some(Header::Addresses { source: address(*source, [a, b]), destination: address(*destination, [c, d]) })
}

pub(super) fn encode(
    bytes: &mut &mut [u8],
    source: SocketAddr,
    destination: SocketAddr,
) -> std::io::Result<()> {
    let (family, length): (u8, u16) = if source.is_ipv4() { (TCP4, 12) } else { (TCP6, 36) };
    bytes.write_all(&SIGNATURE)?;
    bytes.write_all(&[PROXY, family])?;
    bytes.write_all(&length.to_be_bytes())?;
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => bytes.write_all(&ip.octets())?,
            IpAddr::V6(ip) => bytes.write_all(&ip.octets())?,
        }
    }
    bytes.write_all(&source.port().to_be_bytes())?;
    bytes.write_all(&destination.port().to_be_bytes())
}
