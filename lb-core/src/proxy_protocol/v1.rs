//! Version 1: one line of text (§2.1).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Decoded, Header, Malformed};

/// The longest line, its CRLF included: 107 octets (§2.1).
pub(super) const LONGEST: usize = 107;

const SIGNATURE: &[u8] = b"PROXY ";

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Decoded>, Malformed> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes.get(..compared) != SIGNATURE.get(..compared) {
        return Err(Malformed::Signature);
    }
    let line = bytes.get(..LONGEST).unwrap_or(bytes);
    match line.windows(2).position(|two| two == b"\r\n") {
        Some(end) => {
            let line = line.get(SIGNATURE.len()..end).ok_or(Malformed::Line)?;
            let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
            Ok(Some(Decoded { header: header(line).ok_or(Malformed::Line)?, length: end + 2 }))
        }
        None if line.len() < LONGEST => Ok(None),
        None => Err(Malformed::Line),
    }
}

/// What follows `PROXY `: fields with exactly one space in between.
fn header(line: &str) -> Option<Header> {
    let mut fields = line.split(' ');
    let (source, destination) = match fields.next()? {
        "UNKNOWN" => return Some(Header::Unknown),
        "TCP4" => (ip::<Ipv4Addr>(fields.next()?)?, ip::<Ipv4Addr>(fields.next()?)?),
        "TCP6" => (ip::<Ipv6Addr>(fields.next()?)?, ip::<Ipv6Addr>(fields.next()?)?),
        _ => return None,
    };
    let source = SocketAddr::new(source, port(fields.next()?)?);
    let destination = SocketAddr::new(destination, port(fields.next()?)?);
    fields.next().is_none().then_some(Header::Addresses { source, destination })
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

/// Digits only, and no zero in front of others.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().ok())?
}

pub(super) fn encode(
    bytes: &mut &mut [u8],
    source: SocketAddr,
    destination: SocketAddr,
) -> std::io::Result<()> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    write!(bytes, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
}
