//! Path attributes of a received UPDATE: the walk over them and what each defect costs (RFC 7606).
//!
//! Routes are discarded, so values are only judged, never kept. The one table here says per attribute which flags and
//! values are right and whether a wrong one costs the attribute or the routes; the few defects that cost the session
//! come out as [`WireError`].

use config::Family;

use super::error::WireError;
use super::nlri::{Prefixes, family_of};
use super::reader::Reader;

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

pub(crate) const ORIGIN: u8 = 1;
pub(crate) const AS_PATH: u8 = 2;
pub(crate) const NEXT_HOP: u8 = 3;
pub(crate) const LOCAL_PREF: u8 = 5;
pub(crate) const COMMUNITIES: u8 = 8;
pub(crate) const MP_REACH_NLRI: u8 = 14;
pub(crate) const MP_UNREACH_NLRI: u8 = 15;

/// What a session makes of the same octets.
#[derive(Debug, Clone, Copy)]
pub struct AttributeContext<'a> {
    /// AS numbers take four octets (RFC 6793).
    pub as4: bool,
    /// An internal session (iBGP).
    pub internal: bool,
    /// Families that were negotiated; others are ignored (RFC 4760 §7).
    pub families: &'a [Family],
    /// IPv4 routes may have an IPv6 next hop (RFC 8950 §3).
    pub v4_over_v6: bool,
}

/// What a malformed attribute costs, mildest first (RFC 7606 §2); session reset is an error instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    Accept,
    AttributeDiscard,
    TreatAsWithdraw,
}

/// What the attributes of one UPDATE say.
#[derive(Debug)]
pub(super) struct Walked<'a> {
    pub(super) reach: Option<Prefixes<'a>>,
    pub(super) unreach: Option<Prefixes<'a>>,
    pub(super) disposition: Disposition,
    /// There are attributes besides MP_UNREACH_NLRI.
    pub(super) others: bool,
    pub(super) seen: Seen,
    /// The first defect that costs the routes; it costs the session where no route is found (RFC 7606 §5.2).
    pub(super) first_error: Option<WireError>,
}

/// Which attribute types have come by.
#[derive(Debug, Default)]
pub(super) struct Seen([u128; 2]);

impl Seen {
    /// Whether `kind` is new.
    fn insert(&mut self, kind: u8) -> bool {
        let bit = 1 << (kind & 0x7F);
        let [low, high] = &mut self.0;
        let half = if kind < 0x80 { low } else { high };
        let fresh = *half & bit == 0;
        *half |= bit;
        fresh
    }

    pub(super) fn contains(&self, kind: u8) -> bool {
        let [low, high] = self.0;
        (if kind < 0x80 { low } else { high }) & 1 << (kind & 0x7F) != 0
    }
}

/// One attribute where it lies: `octets` is all of it, header included, as a NOTIFICATION's data wants it.
pub(super) struct Attribute<'a> {
    flags: u8,
    pub(super) kind: u8,
    pub(super) value: &'a [u8],
    octets: &'a [u8],
}

/// A defect and its price.
struct Fault(Disposition, WireError);

/// `None`: the header or the length runs over the end.
pub(super) fn read_attribute<'a>(reader: &mut Reader<'a>) -> Option<Attribute<'a>> {
    let whole = reader.rest();
    let (flags, kind) = (reader.u8()?, reader.u8()?);
    let value = if flags & EXTENDED_LENGTH != 0 { reader.block16()? } else { reader.block8()? };
    let octets = whole.get(..whole.len() - reader.rest().len())?;
    Some(Attribute { flags, kind, value, octets })
}

impl<'a> Walked<'a> {
    pub(super) fn walk(attributes: &'a [u8], context: AttributeContext<'_>) -> Result<Self, WireError> {
        let mut walked = Walked {
            reach: None,
            unreach: None,
            disposition: Disposition::Accept,
            others: false,
            seen: Seen::default(),
            first_error: None,
        };
        let mut reader = Reader::new(attributes);
        while !reader.is_empty() {
            let Some(attribute) = read_attribute(&mut reader) else {
                // RFC 7606 §4: the NLRI is still found through the total length.
                walked.others = true;
                walked.fault(Fault(Disposition::TreatAsWithdraw, WireError::MalformedAttributeList));
                break;
            };
            walked.one(&attribute, context)?;
        }
        Ok(walked)
    }

    fn one(&mut self, attribute: &Attribute<'a>, context: AttributeContext<'_>) -> Result<(), WireError> {
        self.others |= attribute.kind != MP_UNREACH_NLRI;
        let multiprotocol = matches!(attribute.kind, MP_REACH_NLRI | MP_UNREACH_NLRI);
        if !self.seen.insert(attribute.kind) {
            // RFC 7606 §3 (g): the first one counts, but of these two there must be only one.
            if multiprotocol {
                return Err(WireError::MalformedAttributeList);
            }
            self.disposition = self.disposition.max(Disposition::AttributeDiscard);
            return Ok(());
        }
        if let Err(fault) = check_flags(attribute)? {
            self.fault(fault);
        }
        match attribute.kind {
            MP_REACH_NLRI => self.reach = read_reach(attribute, context)?,
            MP_UNREACH_NLRI => self.unreach = read_unreach(attribute, context)?,
            _ => {
                if let Err(fault) = check_value(attribute, context) {
                    self.fault(fault);
                }
            }
        }
        Ok(())
    }

    pub(super) fn missing(&mut self, kind: u8) {
        self.fault(Fault(Disposition::TreatAsWithdraw, WireError::MissingWellKnown(kind)));
    }

    fn fault(&mut self, Fault(disposition, error): Fault) {
        self.disposition = self.disposition.max(disposition);
        if disposition == Disposition::TreatAsWithdraw {
            self.first_error.get_or_insert(error);
        }
    }
}

/// Wrong flags cost the routes (RFC 7606 §3 c); a well-known attribute that nobody knows costs the session
/// (RFC 4271 §6.3).
fn check_flags(attribute: &Attribute<'_>) -> Result<Result<(), Fault>, WireError> {
    let class = attribute.flags & (OPTIONAL | TRANSITIVE);
    let expected = match attribute.kind {
        1 | 2 | 3 | 5 | 6 => TRANSITIVE,
        4 | 9 | 10 | MP_REACH_NLRI | MP_UNREACH_NLRI => OPTIONAL,
        7 | 8 | 16 | 17 | 18 | 25 | 32 | 35 => OPTIONAL | TRANSITIVE,
        _ if class & OPTIONAL == 0 => {
            return Err(WireError::UnrecognizedWellKnown(attribute.octets.to_vec()));
        }
        _ => class,
    };
    Ok(if class == expected {
        Ok(())
    } else {
        Err(Fault(Disposition::TreatAsWithdraw, WireError::AttributeFlags(attribute.octets.to_vec())))
    })
}

/// The table of RFC 7606 §7, RFC 6793 §6, RFC 7607 §2, RFC 8092 §5 and RFC 9234 §5.
fn check_value(attribute: &Attribute<'_>, context: AttributeContext<'_>) -> Result<(), Fault> {
    use Disposition::{AttributeDiscard, TreatAsWithdraw};
    let length = attribute.value.len();
    let octets = || attribute.octets.to_vec();
    let wrong_length = |disposition| Err(Fault(disposition, WireError::AttributeLength(octets())));
    let multiple_of = |unit: usize| length != 0 && length.is_multiple_of(unit);
    match attribute.kind {
        1 => match attribute.value {
            [0..=2] => Ok(()),
            [_] => Err(Fault(TreatAsWithdraw, WireError::InvalidOrigin(octets()))),
            _ => wrong_length(TreatAsWithdraw),
        },
        2 if path_is_sound(attribute.value, context.as4) => Ok(()),
        2 => Err(Fault(TreatAsWithdraw, WireError::MalformedAsPath)),
        3 | 4 if length != 4 => wrong_length(TreatAsWithdraw),
        // Of no meaning from an external peer (RFC 7606 §7.5, §7.9, §7.10).
        5 | 9 | 10 if !context.internal => wrong_length(AttributeDiscard),
        5 | 9 if length != 4 => wrong_length(TreatAsWithdraw),
        10 if !multiple_of(4) => wrong_length(TreatAsWithdraw),
        6 if length != 0 => wrong_length(AttributeDiscard),
        7 if !aggregator_is_sound(attribute.value, context.as4) => wrong_length(AttributeDiscard),
        8 if !multiple_of(4) => wrong_length(TreatAsWithdraw),
        16 if !multiple_of(8) => wrong_length(TreatAsWithdraw),
        25 if !multiple_of(20) => wrong_length(TreatAsWithdraw),
        32 if !multiple_of(12) => wrong_length(TreatAsWithdraw),
        35 if length != 4 => wrong_length(TreatAsWithdraw),
        // A 4-octet speaker must not send these to one (RFC 6793 §4.1, §6).
        17 if context.as4 || !path_is_sound(attribute.value, true) => wrong_length(AttributeDiscard),
        18 if context.as4 || !aggregator_is_sound(attribute.value, true) => wrong_length(AttributeDiscard),
        _ => Ok(()),
    }
}

/// RFC 7606 §7.2: segments of sets and sequences, none empty, none cut off; no AS 0 (RFC 7607); no confederation
/// segment, since we are in none (RFC 5065 §5).
fn path_is_sound(path: &[u8], as4: bool) -> bool {
    let mut reader = Reader::new(path);
    while !reader.is_empty() {
        let (Some(1 | 2), Some(count @ 1..)) = (reader.u8(), reader.u8()) else { return false };
        for _ in 0..count {
            if !matches!(read_asn(&mut reader, as4), Some(1..)) {
                return false;
            }
        }
    }
    true
}

fn aggregator_is_sound(value: &[u8], as4: bool) -> bool {
    let mut reader = Reader::new(value);
    matches!(read_asn(&mut reader, as4), Some(1..)) && reader.u32().is_some() && reader.is_empty()
}

pub(super) fn read_asn(reader: &mut Reader<'_>, as4: bool) -> Option<u32> {
    if as4 { reader.u32() } else { reader.u16().map(u32::from) }
}

/// MP_REACH_NLRI (RFC 4760 §3). Not being able to find its routes costs the session (RFC 7606 §5.3, §7.11).
fn read_reach<'a>(
    attribute: &Attribute<'a>,
    context: AttributeContext<'_>,
) -> Result<Option<Prefixes<'a>>, WireError> {
    let malformed = || WireError::OptionalAttribute(attribute.octets.to_vec());
    let mut reader = Reader::new(attribute.value);
    let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else { return Err(malformed()) };
    let (Some(next_hop), Some(_reserved)) = (reader.block8(), reader.u8()) else { return Err(malformed()) };
    let Some(family) = family_of(afi, safi).filter(|family| context.families.contains(family)) else {
        return Ok(None);
    };
    // Global, or global and link-local (RFC 2545 §3).
    let is_v6 = matches!(next_hop.len(), 16 | 32);
    let next_hop_fits = match family {
        Family::Ipv4 => next_hop.len() == 4 || context.v4_over_v6 && is_v6,
        Family::Ipv6 => is_v6,
    };
    if !next_hop_fits {
        return Err(malformed());
    }
    Prefixes::parse(family, reader.rest()).map(Some).ok_or_else(malformed)
}

/// MP_UNREACH_NLRI (RFC 4760 §4).
fn read_unreach<'a>(
    attribute: &Attribute<'a>,
    context: AttributeContext<'_>,
) -> Result<Option<Prefixes<'a>>, WireError> {
    let malformed = || WireError::OptionalAttribute(attribute.octets.to_vec());
    let mut reader = Reader::new(attribute.value);
    let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else { return Err(malformed()) };
    let Some(family) = family_of(afi, safi).filter(|family| context.families.contains(family)) else {
        return Ok(None);
    };
    Prefixes::parse(family, reader.rest()).map(Some).ok_or_else(malformed)
}
