//! The PROXY protocol, versions 1 and 2: who a connection is from, said in front of its bytes
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).
//!
//! Pure: bytes in, a [`Header`] out, and the other way round. Whom a header is taken from and how long one waits for it
//! is for `opening` to say.
//!
//! TLVs of version 2 are skipped, whatever is in them, and not passed on: what is sent names the two addresses and
//! nothing else, as HAProxy does unless it is told otherwise. A header with all its TLVs is at most [`LONGEST`] octets.

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

use config::ProxyVersion;

/// The longest header that is taken: room for a client's certificates in TLVs.
pub const LONGEST: usize = 16 * 1024;

/// Whom a header says that the connection is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It does not say (`UNKNOWN`, `LOCAL`, or no TCP address): the connection's own addresses count.
    Unknown,
    Addresses {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

/// A header at the front of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    pub header: Header,
    /// Octets of it; the stream itself begins behind them.
    pub length: usize,
}

/// Bytes that no valid header begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("neither version's signature")]
    Signature,
    #[error("version 1: no line of the form `PROXY TCP4 source destination port port`")]
    Line,
    #[error("version 2: version and command {0:#04x}")]
    Command(u8),
    #[error("version 2: address family and protocol {0:#04x}")]
    Family(u8),
    #[error("version 2: {0} octets are too few for its addresses")]
    TooShort(u16),
    #[error("longer than {LONGEST} octets")]
    TooLong,
}

/// Reads the header that `bytes` begin with. `None`: so far it is one, but it goes on.
pub fn decode(bytes: &[u8]) -> Result<Option<Decoded>, Malformed> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1::decode(bytes),
        Some(_) => v2::decode(bytes),
    }
}

/// The longest header that is sent: a line of version 1 with two IPv6 addresses.
const LONGEST_SENT: usize = v1::LONGEST;

/// A header to send.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    bytes: [u8; LONGEST_SENT],
    length: usize,
}

impl Encoded {
    fn new(write: impl FnOnce(&mut &mut [u8]) -> std::io::Result<()>) -> Self {
        let mut bytes = [0; LONGEST_SENT];
        let mut rest = &mut bytes[..];
        // It always fits: both versions are shorter with the longest addresses there are.
        let _ = write(&mut rest);
        let length = LONGEST_SENT - rest.len();
        Encoded { bytes, length }
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The header for a connection from `source` that came to `destination`.
pub fn encode(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Encoded {
    let (source, destination) = of_one_family(source, destination);
    Encoded::new(|bytes| match version {
        ProxyVersion::V1 => v1::encode(bytes, source, destination),
        ProxyVersion::V2 => v2::encode(bytes, source, destination),
    })
}

/// A header has room for two addresses of one family: where only one is IPv4, it is written as IPv6 (RFC 4291 §2.5.5.2).
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    match source.is_ipv4() == destination.is_ipv4() {
        true => (source, destination),
        false => (mapped(source), mapped(destination)),
    }
}

#[cfg(test)]
mod tests;
