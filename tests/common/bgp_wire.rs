//! As much of the BGP wire format as a scripted peer needs (RFC 4271, 4760, 6793, 1997, 8092), written independently of
//! the speaker under test.
//!
//! Decoding is strict: the speaker under test has to be right, so whatever this does not understand is an error.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const HEADER: usize = 19;

/// An announced or withdrawn prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    pub addr: IpAddr,
    pub len: u8,
}

impl Prefix {
    /// /32 or /128.
    pub fn host(addr: IpAddr) -> Self {
        Prefix { addr, len: if addr.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub version: u8,
    pub my_as: u16,
    pub hold_time: u16,
    pub id: Ipv4Addr,
    /// Code and value, in the order sent.
    pub capabilities: Vec<(u8, Vec<u8>)>,
}

/// Path attributes; what was not sent is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub origin: Option<u8>,
    /// Type and members of each segment.
    pub as_path: Option<Vec<(u8, Vec<u32>)>>,
    pub next_hop: Option<IpAddr>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: Vec<u32>,
    pub large_communities: Vec<(u32, u32, u32)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    pub announced: Vec<Prefix>,
    pub withdrawn: Vec<Prefix>,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Open(Open),
    Update(Update),
    Notification { code: u8, subcode: u8, data: Vec<u8> },
    Keepalive,
    RouteRefresh(Vec<u8>),
}

/// A message of `kind` with `body`, header included.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).expect("a short message");
    let mut bytes = vec![0xFF; 16];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

pub fn keepalive() -> Vec<u8> {
    frame(4, &[])
}

pub fn notification(code: u8, subcode: u8) -> Vec<u8> {
    frame(3, &[code, subcode])
}

/// An OPEN with multiprotocol IPv4 and IPv6 unicast, route refresh and four-octet AS numbers.
pub fn open(asn: u32, hold_time: u16, id: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 65, 4];
    capabilities.extend_from_slice(&asn.to_be_bytes());
    let mut body = vec![4];
    body.extend_from_slice(&u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend_from_slice(&hold_time.to_be_bytes());
    body.extend_from_slice(&id.octets());
    let length = u8::try_from(capabilities.len()).expect("few capabilities");
    body.extend_from_slice(&[length + 2, 2, length]);
    body.extend_from_slice(&capabilities);
    frame(1, &body)
}

/// Takes bytes apart; every failure says where.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(|| format!("truncated {what}"))?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        self.take(N, what)?.try_into().map_err(|_| format!("truncated {what}"))
    }
    fn u8(&mut self, what: &str) -> Result<u8, String> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }
    fn u16(&mut self, what: &str) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }
    fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }
    fn sub(&mut self, n: usize, what: &str) -> Result<Cursor<'a>, String> {
        self.take(n, what).map(Cursor)
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Decodes one whole message of type `kind`.
pub fn decode(kind: u8, body: &[u8]) -> Result<Message, String> {
    let mut body = Cursor(body);
    match kind {
        1 => decode_open(&mut body).map(Message::Open),
        2 => decode_update(&mut body).map(Message::Update),
        3 => {
            let (code, subcode) = (body.u8("code")?, body.u8("subcode")?);
            Ok(Message::Notification { code, subcode, data: body.0.to_vec() })
        }
        4 if body.is_empty() => Ok(Message::Keepalive),
        5 => Ok(Message::RouteRefresh(body.0.to_vec())),
        _ => Err(format!("message type {kind} with {} bytes", body.0.len())),
    }
}

fn decode_open(body: &mut Cursor<'_>) -> Result<Open, String> {
    let version = body.u8("version")?;
    let my_as = body.u16("my AS")?;
    let hold_time = body.u16("hold time")?;
    let id = Ipv4Addr::from(body.array::<4>("identifier")?);
    let length = body.u8("parameters' length")?;
    let mut parameters = body.sub(length.into(), "parameters")?;
    let mut capabilities = Vec::new();
    while !parameters.is_empty() {
        let (kind, length) = (parameters.u8("parameter type")?, parameters.u8("parameter length")?);
        let mut value = parameters.sub(length.into(), "parameter")?;
        if kind != 2 {
            return Err(format!("optional parameter {kind}"));
        }
        while !value.is_empty() {
            let (code, length) = (value.u8("capability code")?, value.u8("capability length")?);
            capabilities.push((code, value.take(length.into(), "capability")?.to_vec()));
        }
    }
    if !body.is_empty() {
        return Err("bytes after the optional parameters".into());
    }
    Ok(Open { version, my_as, hold_time, id, capabilities })
}

fn decode_update(body: &mut Cursor<'_>) -> Result<Update, String> {
    let mut update = Update::default();
    let length = body.u16("withdrawn routes length")?;
    let mut withdrawn = body.sub(length.into(), "withdrawn routes")?;
    while !withdrawn.is_empty() {
        update.withdrawn.push(prefix(&mut withdrawn, 1)?);
    }
    let length = body.u16("attributes length")?;
    let mut attributes = body.sub(length.into(), "attributes")?;
    let mut seen = Vec::new();
    while !attributes.is_empty() {
        let (flags, kind) = (attributes.u8("flags")?, attributes.u8("type")?);
        let length =
            if flags & 0x10 == 0 { attributes.u8("length")?.into() } else { attributes.u16("length")? };
        let mut value = attributes.sub(length.into(), "attribute")?;
        if seen.contains(&kind) {
            return Err(format!("attribute {kind} twice"));
        }
        seen.push(kind);
        attribute(flags, kind, &mut value, &mut update).map_err(|e| format!("attribute {kind}: {e}"))?;
        if !value.is_empty() {
            return Err(format!("attribute {kind}: {} bytes too long", value.0.len()));
        }
    }
    while !body.is_empty() {
        update.announced.push(prefix(body, 1)?);
    }
    Ok(update)
}

fn attribute(flags: u8, kind: u8, value: &mut Cursor<'_>, update: &mut Update) -> Result<(), String> {
    const WELL_KNOWN: u8 = 0x40;
    const OPTIONAL: u8 = 0x80;
    const OPTIONAL_TRANSITIVE: u8 = 0xC0;
    let expected = match kind {
        1 | 2 | 3 | 5 => WELL_KNOWN,
        4 | 14 | 15 => OPTIONAL,
        _ => OPTIONAL_TRANSITIVE,
    };
    if flags & !0x10 != expected {
        return Err(format!("flags {flags:#04x}"));
    }
    let out = &mut update.attributes;
    match kind {
        1 => out.origin = Some(value.u8("origin")?),
        2 => {
            let mut segments = Vec::new();
            while !value.is_empty() {
                let (kind, count) = (value.u8("segment type")?, value.u8("segment length")?);
                let members = (0..count).map(|_| value.u32("AS")).collect::<Result<_, _>>()?;
                segments.push((kind, members));
            }
            out.as_path = Some(segments);
        }
        3 => out.next_hop = Some(Ipv4Addr::from(value.array::<4>("next hop")?).into()),
        4 => out.med = Some(value.u32("MED")?),
        5 => out.local_pref = Some(value.u32("LOCAL_PREF")?),
        8 => {
            while !value.is_empty() {
                out.communities.push(value.u32("community")?);
            }
        }
        14 => {
            let family = (value.u16("AFI")?, value.u8("SAFI")?);
            let length = value.u8("next hop length")?;
            match (family, length) {
                ((2, 1), 16 | 32) => {
                    out.next_hop = Some(Ipv6Addr::from(value.array::<16>("next hop")?).into());
                    value.take(usize::from(length) - 16, "link-local next hop")?;
                }
                other => return Err(format!("family and next hop length {other:?}")),
            }
            value.u8("reserved")?;
            while !value.is_empty() {
                update.announced.push(prefix(value, 2)?);
            }
        }
        15 => {
            let (afi, _safi) = (value.u16("AFI")?, value.u8("SAFI")?);
            while !value.is_empty() {
                update.withdrawn.push(prefix(value, afi)?);
            }
        }
        32 => {
            while !value.is_empty() {
                out.large_communities.push((value.u32("global")?, value.u32("1")?, value.u32("2")?));
            }
        }
        _ => return Err("nobody asked for it".into()),
    }
    Ok(())
}

fn prefix(from: &mut Cursor<'_>, afi: u16) -> Result<Prefix, String> {
    let len = from.u8("prefix length")?;
    let bytes = from.take(usize::from(len).div_ceil(8), "prefix")?;
    let mut octets = [0; 16];
    octets.get_mut(..bytes.len()).ok_or("a prefix of more than 128 bits")?.copy_from_slice(bytes);
    let addr: IpAddr = match (afi, octets) {
        (1, [a, b, c, d, ..]) if len <= 32 => Ipv4Addr::new(a, b, c, d).into(),
        (2, octets) if len <= 128 => Ipv6Addr::from(octets).into(),
        _ => return Err(format!("a /{len} of family {afi}")),
    };
    Ok(Prefix { addr, len })
}
