//! Values that are valid by construction: each constructor checks the limit and cites where it comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// Why a value was refused, in words an operator can act on: what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// An autonomous system number, 1..=4294967295 (RFC 6793; 0 is reserved by RFC 7607).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Asn(u32);

impl Asn {
    /// AS_TRANS (RFC 6793 §9): stands for a 4-octet number towards a 2-octet speaker.
    pub const TRANS: Asn = Asn(23456);

    pub fn new(value: u32) -> Result<Self, Invalid> {
        match value {
            0 => Err(Invalid("AS 0 is reserved (RFC 7607): expected 1..4294967295".into())),
            v => Ok(Asn(v)),
        }
    }
    pub fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A BGP identifier: any non-zero 32-bit number, written as an IPv4 address (RFC 6286 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RouterId(Ipv4Addr);

impl RouterId {
    pub fn new(value: Ipv4Addr) -> Result<Self, Invalid> {
        if value.is_unspecified() {
            return Err(Invalid(
                "0.0.0.0 is no BGP identifier (RFC 6286): expected another IPv4 address".into(),
            ));
        }
        Ok(RouterId(value))
    }
    pub fn as_ipv4(self) -> Ipv4Addr {
        self.0
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hold time in whole seconds: 0 (no keepalives) or 3..=65535 (RFC 4271 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTime(u16);

impl HoldTime {
    /// What is proposed where the configuration says nothing.
    pub const NINE_SECONDS: HoldTime = HoldTime(9);

    pub fn from_secs(secs: u64) -> Result<Self, Invalid> {
        match u16::try_from(secs) {
            Ok(0) => Ok(HoldTime(0)),
            Ok(s) if s >= 3 => Ok(HoldTime(s)),
            _ => Err(Invalid("expected 0s or 3s..65535s (RFC 4271 §4.2)".into())),
        }
    }
    pub fn as_secs(self) -> u16 {
        self.0
    }
    /// `None`: hold time 0, the session is never timed out.
    pub fn as_duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(u64::from(self.0)))
    }
}

/// A backend's weight, 0..=256; 0 takes no new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Weight(u16);

impl Weight {
    pub const ONE: Weight = Weight(1);

    pub fn new(value: u64) -> Result<Self, Invalid> {
        match u16::try_from(value) {
            Ok(w) if w <= 256 => Ok(Weight(w)),
            _ => Err(Invalid("expected a weight of 0..256".into())),
        }
    }
    pub fn as_u16(self) -> u16 {
        self.0
    }
}

/// A name an operator gave a service, backend or peer: 1..=64 of `A-Z a-z 0-9 . _ : [ ] -`, so that it is safe in
/// a CSV field, a metric label, a log line and a command (`SERVICE/BACKEND`). Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    pub fn new(value: &str) -> Result<Self, Invalid> {
        let fits =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '[' | ']' | '-' | '%');
        if value.is_empty() || value.len() > 64 || !value.chars().all(fits) {
            return Err(Invalid("expected a name of 1..64 letters, digits or . _ : [ ] - %".into()));
        }
        Ok(Name(value.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

/// Which backend of which service: the key under which health, counters and admin state live over a reload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BackendId {
    pub service: Name,
    pub backend: Name,
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

/// Where a backend is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddr {
    Ip(SocketAddr),
    /// The port the client used.
    ClientPort(IpAddr),
    /// Resolved again and again.
    Name {
        host: Arc<str>,
        port: u16,
        /// `None` in a configuration as it was read, and until the first answer.
        answer: Option<IpAddr>,
    },
    Unix(Arc<Path>),
}

impl BackendAddr {
    /// Where a client that used `port` is sent; `None`: a name that is not resolved.
    pub fn for_port(&self, port: u16) -> Option<Endpoint> {
        match self {
            BackendAddr::Ip(address) => Some(Endpoint::Tcp(*address)),
            BackendAddr::ClientPort(ip) => Some(Endpoint::Tcp(SocketAddr::new(*ip, port))),
            BackendAddr::Name { port, answer, .. } => {
                answer.map(|ip| Endpoint::Tcp(SocketAddr::new(ip, *port)))
            }
            BackendAddr::Unix(path) => Some(Endpoint::Unix(Arc::clone(path))),
        }
    }
}

impl From<SocketAddr> for BackendAddr {
    fn from(address: SocketAddr) -> Self {
        BackendAddr::Ip(address)
    }
}

impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendAddr::Ip(address) => address.fmt(f),
            BackendAddr::ClientPort(ip) => ip.fmt(f),
            BackendAddr::Name { host, port, answer: None } => write!(f, "{host}:{port}"),
            BackendAddr::Name { host, port, answer: Some(ip) } => write!(f, "{host}:{port} ({ip})"),
            BackendAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Something to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    Tcp(SocketAddr),
    Unix(Arc<Path>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A standard community `AS:VALUE` or a well-known name (RFC 1997, RFC 7999, RFC 8326).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);
    pub const BLACKHOLE: Community = Community(0xFFFF_029A);
    pub const NO_EXPORT: Community = Community(0xFFFF_FF01);
    pub const NO_ADVERTISE: Community = Community(0xFFFF_FF02);

    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = match text {
            "graceful-shutdown" => Some(Self::GRACEFUL_SHUTDOWN),
            "blackhole" => Some(Self::BLACKHOLE),
            "no-export" => Some(Self::NO_EXPORT),
            "no-advertise" => Some(Self::NO_ADVERTISE),
            _ => None,
        };
        if let Some(c) = known {
            return Ok(c);
        }
        text.split_once(':')
            .and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)))
            .map(|(a, b)| Community(u32::from(a) << 16 | u32::from(b)))
            .ok_or_else(|| {
                Invalid(
                    "expected AS:VALUE (each 0..65535) or no-export, no-advertise, graceful-shutdown, blackhole"
                        .into(),
                )
            })
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::GRACEFUL_SHUTDOWN => f.write_str("graceful-shutdown"),
            Self::BLACKHOLE => f.write_str("blackhole"),
            Self::NO_EXPORT => f.write_str("no-export"),
            Self::NO_ADVERTISE => f.write_str("no-advertise"),
            Community(v) => write!(f, "{}:{}", v >> 16, v & 0xFFFF),
        }
    }
}

/// A large community `GLOBAL:LOCAL1:LOCAL2`, three 32-bit numbers (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl LargeCommunity {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split(':').map(|p| p.parse::<u32>().ok());
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(a)), Some(Some(b)), Some(Some(c)), None) => Ok(LargeCommunity(a, b, c)),
            _ => Err(Invalid("expected GLOBAL:LOCAL1:LOCAL2, each 0..4294967295 (RFC 8092)".into())),
        }
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

/// An address family we announce (unicast only).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        })
    }
}
