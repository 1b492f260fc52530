//! Capabilities (RFC 5492): the ones we know, encoded, decoded and named. Unknown ones are kept by code and ignored.

use bytes::{BufMut, BytesMut};
use config::{Asn, Family};

use super::SAFI_UNICAST;
use super::nlri::{afi, family_of};
use super::reader::Reader;
use super::role;

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ENHANCED_REFRESH: u8 = 70;
/// AFI 1, SAFI 1 in two octets, next hop AFI 2 (RFC 8950 §4).
const V4_OVER_V6: [u8; 6] = [0, 1, 0, 1, 0, 2];

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// RFC 4760 §8.
    Multiprotocol { afi: u16, safi: u8 },
    /// RFC 2918 §2.
    RouteRefresh,
    /// RFC 8950 §4; only whether it has IPv4 unicast with IPv6 next hops is kept.
    ExtendedNextHop { v4_over_v6: bool },
    /// RFC 8654 §3.
    ExtendedMessage,
    /// RFC 9234 §4.1: the role of the sender, as its number.
    Role(u8),
    /// RFC 7313 §3.1.
    EnhancedRefresh,
    /// RFC 6793 §3. The number as sent: whether it is right is the session's business.
    FourOctetAs(u32),
    /// RFC 4724 §3; only whether NOTIFICATIONs are covered (the N bit, RFC 8538 §2) is kept. Never sent.
    GracefulRestart { notification: bool },
    /// Ignored without harm.
    Other(u8),
}

impl Capability {
    pub fn multiprotocol(family: Family) -> Self {
        Capability::Multiprotocol { afi: afi(family), safi: SAFI_UNICAST }
    }

    /// What we announce on every session that speaks `families`.
    pub fn offer(local_as: Asn, families: &[Family]) -> Vec<Self> {
        let mut offer: Vec<Self> = families.iter().copied().map(Self::multiprotocol).collect();
        offer.extend([
            Capability::RouteRefresh,
            Capability::EnhancedRefresh,
            Capability::ExtendedMessage,
            Capability::FourOctetAs(local_as.as_u32()),
        ]);
        offer
    }

    /// `None`: its length does not fit its code.
    pub(super) fn decode(code: u8, value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        let capability = match code {
            MULTIPROTOCOL => {
                let afi = reader.u16()?;
                reader.u8()?;
                Capability::Multiprotocol { afi, safi: reader.u8()? }
            }
            ROUTE_REFRESH => Capability::RouteRefresh,
            EXTENDED_NEXT_HOP => {
                let mut v4_over_v6 = false;
                while !reader.is_empty() {
                    v4_over_v6 |= reader.array()? == V4_OVER_V6;
                }
                Capability::ExtendedNextHop { v4_over_v6 }
            }
            EXTENDED_MESSAGE => Capability::ExtendedMessage,
            ROLE => Capability::Role(reader.u8()?),
            ENHANCED_REFRESH => Capability::EnhancedRefresh,
            FOUR_OCTET_AS => Capability::FourOctetAs(reader.u32()?),
            GRACEFUL_RESTART => {
                let flags = reader.u16()?;
                while !reader.is_empty() {
                    reader.array::<4>()?;
                }
                Capability::GracefulRestart { notification: flags & 0x4000 != 0 }
            }
            other => return Some(Capability::Other(other)),
        };
        reader.is_empty().then_some(capability)
    }

    /// Appends code, length and value. [`Capability::Other`] has no value to send and appends nothing of one.
    pub fn write(&self, out: &mut BytesMut) {
        match *self {
            Capability::Multiprotocol { afi, safi } => {
                out.put_slice(&[MULTIPROTOCOL, 4]);
                out.put_u16(afi);
                out.put_slice(&[0, safi]);
            }
            Capability::RouteRefresh => out.put_slice(&[ROUTE_REFRESH, 0]),
            Capability::ExtendedNextHop { v4_over_v6: true } => {
                out.put_slice(&[EXTENDED_NEXT_HOP, 6]);
                out.put_slice(&V4_OVER_V6);
            }
            Capability::ExtendedNextHop { v4_over_v6: false } => out.put_slice(&[EXTENDED_NEXT_HOP, 0]),
            Capability::ExtendedMessage => out.put_slice(&[EXTENDED_MESSAGE, 0]),
            Capability::Role(role) => out.put_slice(&[ROLE, 1, role]),
            Capability::EnhancedRefresh => out.put_slice(&[ENHANCED_REFRESH, 0]),
            Capability::FourOctetAs(asn) => {
                out.put_slice(&[FOUR_OCTET_AS, 4]);
                out.put_u32(asn);
            }
            Capability::GracefulRestart { notification } => {
                out.put_slice(&[GRACEFUL_RESTART, 2]);
                out.put_u16(if notification { 0x4000 } else { 0 });
            }
            Capability::Other(code) => out.put_slice(&[code, 0]),
        }
    }

    /// As operators know it.
    pub fn name(&self) -> String {
        match *self {
            Capability::Multiprotocol { afi, safi } => match family_of(afi, safi) {
                Some(family) => format!("multiprotocol {family}"),
                None => format!("multiprotocol {afi}/{safi}"),
            },
            Capability::RouteRefresh => "route refresh".to_owned(),
            Capability::ExtendedNextHop { .. } => "extended next hop".to_owned(),
            Capability::ExtendedMessage => "extended message".to_owned(),
            Capability::Role(number) => match role::of_number(number) {
                Some(role) => format!("role {}", role::name(role)),
                None => format!("role {number}"),
            },
            Capability::EnhancedRefresh => "enhanced route refresh".to_owned(),
            Capability::FourOctetAs(asn) => format!("4-octet AS {asn}"),
            Capability::GracefulRestart { notification: true } => {
                "graceful restart, notifications included".to_owned()
            }
            Capability::GracefulRestart { notification: false } => "graceful restart".to_owned(),
            Capability::Other(code) => match code {
                69 => "add-path".to_owned(),
                71 => "long-lived graceful restart".to_owned(),
                73 => "FQDN".to_owned(),
                75 => "software version".to_owned(),
                128 => "route refresh (old)".to_owned(),
                other => format!("capability {other}"),
            },
        }
    }
}
