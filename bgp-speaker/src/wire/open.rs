//! OPEN (RFC 4271 §4.2) with its optional parameters, plain and extended (RFC 9072).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};
use config::{Asn, HoldTime, RouterId};

use super::capability::Capability;
use super::error::WireError;
use super::header::{MessageKind, write_message};
use super::reader::Reader;

const VERSION: u8 = 4;
const PARAMETER_CAPABILITIES: u8 = 2;
/// Both the length and the type of the first parameter: "extended lengths follow" (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// An OPEN whose fields are each valid in themselves; whether they suit the session is for the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The two-octet field: AS_TRANS for an AS beyond it (RFC 6793 §9).
    pub my_as: u16,
    pub hold_time: HoldTime,
    pub router_id: RouterId,
    /// Of all parameters together, in order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The peer's AS: the 4-octet capability's where there is one.
    pub fn asn(&self) -> u32 {
        self.four_octet_as().unwrap_or(u32::from(self.my_as))
    }

    pub fn four_octet_as(&self) -> Option<u32> {
        self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        })
    }

    pub fn has(&self, wanted: Capability) -> bool {
        self.capabilities.contains(&wanted)
    }

    /// The two-octet stand-in for `asn`.
    pub fn short_as(asn: Asn) -> u16 {
        u16::try_from(asn.as_u32()).unwrap_or(23456)
    }

    /// Version first, because nothing else can be read in another version; then the parameters, then the values.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let version = reader.u8().ok_or(WireError::MalformedOpen)?;
        if version != VERSION {
            return Err(WireError::UnsupportedVersion(version));
        }
        let fixed = (reader.u16(), reader.u16(), reader.u32());
        let (Some(my_as), Some(hold_time), Some(identifier)) = fixed else {
            return Err(WireError::MalformedOpen);
        };
        let capabilities = decode_parameters(reader)?;
        let hold_time = HoldTime::from_secs(u64::from(hold_time))
            .map_err(|_| WireError::UnacceptableHoldTime(hold_time))?;
        let identifier = Ipv4Addr::from(identifier);
        let router_id = RouterId::new(identifier).map_err(|_| WireError::BadIdentifier(identifier))?;
        Ok(Open { my_as, hold_time, router_id, capabilities })
    }

    pub fn encode(&self) -> BytesMut {
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            capability.write(&mut capabilities);
        }
        let mut body = BytesMut::new();
        body.put_u8(VERSION);
        body.put_u16(self.my_as);
        body.put_u16(self.hold_time.as_secs());
        body.put_slice(&self.router_id.as_ipv4().octets());
        match u8::try_from(capabilities.len()) {
            Ok(0) => body.put_u8(0),
            Ok(length) if length <= EXTENDED - 3 => {
                body.put_slice(&[length + 2, PARAMETER_CAPABILITIES, length]);
            }
            _ => {
                let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX);
                body.put_slice(&[EXTENDED, EXTENDED]);
                body.put_u16(length + 3);
                body.put_u8(PARAMETER_CAPABILITIES);
                body.put_u16(length);
            }
        }
        let mut out = BytesMut::new();
        write_message(&mut out, MessageKind::Open, &[&body, &capabilities]);
        out
    }
}

/// The parameters must fill exactly what their length says, and the message exactly end there.
fn decode_parameters(mut reader: Reader<'_>) -> Result<Vec<Capability>, WireError> {
    let length = reader.u8().ok_or(WireError::MalformedOpen)?;
    let mut extended = reader;
    if length != 0 && extended.u8() == Some(EXTENDED) {
        let parameters = extended.block16().ok_or(WireError::MalformedOpen)?;
        return walk_parameters(extended, parameters, |reader| reader.block16());
    }
    let parameters = reader.take(usize::from(length)).ok_or(WireError::MalformedOpen)?;
    walk_parameters(reader, parameters, |reader| reader.block8())
}

fn walk_parameters(
    after: Reader<'_>,
    parameters: &[u8],
    value: for<'a> fn(&mut Reader<'a>) -> Option<&'a [u8]>,
) -> Result<Vec<Capability>, WireError> {
    if !after.is_empty() {
        return Err(WireError::MalformedOpen);
    }
    let mut reader = Reader::new(parameters);
    let mut capabilities = Vec::new();
    while let Some(kind) = reader.u8() {
        let parameter = value(&mut reader).ok_or(WireError::MalformedOpen)?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(WireError::UnsupportedParameter(kind));
        }
        walk_capabilities(parameter, &mut capabilities).ok_or(WireError::MalformedOpen)?;
    }
    Ok(capabilities)
}

fn walk_capabilities(parameter: &[u8], into: &mut Vec<Capability>) -> Option<()> {
    let mut reader = Reader::new(parameter);
    while let Some(code) = reader.u8() {
        into.push(Capability::decode(code, reader.block8()?)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::header::HEADER_LEN;
    use super::*;
    use config::Family;

    fn open() -> Open {
        let asn = Asn::new(4_200_000_001).unwrap();
        Open {
            my_as: Open::short_as(asn),
            hold_time: HoldTime::from_secs(9).unwrap(),
            router_id: RouterId::new([192, 0, 2, 1].into()).unwrap(),
            capabilities: Capability::offer(asn, &[Family::Ipv4, Family::Ipv6]),
        }
    }

    /// An OPEN body with these fixed fields and parameter octets.
    fn body(version: u8, hold_time: u16, identifier: [u8; 4], parameters: &[u8]) -> Vec<u8> {
        let mut body = vec![version, 0xfd, 0xe8];
        body.extend(hold_time.to_be_bytes());
        body.extend(identifier);
        body.extend_from_slice(parameters);
        body
    }

    fn refused(body: &[u8]) -> (u8, u8, Vec<u8>) {
        let notification = Open::decode(body).unwrap_err().notification();
        (notification.code(), notification.subcode(), notification.data().to_vec())
    }

    const ID: [u8; 4] = [192, 0, 2, 9];

    #[test]
    fn what_we_send_reads_back_as_itself() {
        let sent = open();
        assert_eq!(Open::decode(&sent.encode()[HEADER_LEN..]).unwrap(), sent);
        assert_eq!((sent.my_as, sent.asn()), (23456, 4_200_000_001));
    }

    #[test]
    fn capabilities_beyond_255_octets_go_out_with_extended_lengths() {
        let mut sent = open();
        sent.capabilities.extend((0..130).map(|_| Capability::RouteRefresh));
        assert_eq!(Open::decode(&sent.encode()[HEADER_LEN..]).unwrap(), sent);
    }

    #[test]
    fn capabilities_may_come_one_per_parameter_or_all_in_one() {
        let apart = body(4, 9, ID, &[8, 2, 2, 2, 0, 2, 2, 70, 0]);
        let together = body(4, 9, ID, &[6, 2, 4, 2, 0, 70, 0]);
        let extended = body(4, 9, ID, &[255, 255, 0, 7, 2, 0, 4, 2, 0, 70, 0]);
        for body in [apart, together, extended] {
            let open = Open::decode(&body).unwrap();
            assert_eq!(open.capabilities, [Capability::RouteRefresh, Capability::EnhancedRefresh]);
        }
    }

    #[test]
    fn another_version_is_refused_with_the_version_we_speak() {
        assert_eq!(refused(&body(3, 9, ID, &[0])), (2, 1, vec![0, 4]));
        assert_eq!(refused(&body(5, 1, [0; 4], &[200])), (2, 1, vec![0, 4]));
    }

    #[test]
    fn a_hold_time_of_one_or_two_seconds_is_unacceptable() {
        assert_eq!(refused(&body(4, 1, ID, &[0])), (2, 6, vec![]));
        assert_eq!(refused(&body(4, 2, ID, &[0])), (2, 6, vec![]));
        assert!(Open::decode(&body(4, 0, ID, &[0])).is_ok());
        assert!(Open::decode(&body(4, 3, ID, &[0])).is_ok());
    }

    #[test]
    fn an_identifier_of_zero_is_bad() {
        assert_eq!(refused(&body(4, 9, [0; 4], &[0])), (2, 3, vec![]));
    }

    #[test]
    fn an_unknown_optional_parameter_is_unsupported() {
        assert_eq!(refused(&body(4, 9, ID, &[3, 1, 1, 0])), (2, 4, vec![]));
    }

    #[test]
    fn parameters_that_do_not_fill_what_their_length_says_are_malformed() {
        let wrong: [&[u8]; 8] = [
            &[0, 2],
            &[0xc8, 2, 0],
            &[3, 2, 2, 70],
            &[1, 2],
            &[4, 2, 2, 70, 1],
            &[4, 2, 3, 70, 0],
            &[255, 255, 0, 9, 2, 0, 4, 2, 0],
            &[6, 2, 4, 65, 2, 0, 1],
        ];
        for parameters in wrong {
            assert_eq!(refused(&body(4, 9, ID, parameters)), (2, 0, vec![]), "{parameters:?}");
        }
    }

    #[test]
    fn a_known_capability_of_the_wrong_length_is_malformed_and_an_unknown_one_is_ignored() {
        assert_eq!(refused(&body(4, 9, ID, &[5, 2, 3, 65, 1, 0])), (2, 0, vec![]));
        let open = Open::decode(&body(4, 9, ID, &[6, 2, 4, 73, 2, 0, 0])).unwrap();
        assert_eq!(open.capabilities, [Capability::Other(73)]);
    }

    #[test]
    fn the_notification_bit_of_graceful_restart_is_understood() {
        let open = Open::decode(&body(4, 9, ID, &[6, 2, 4, 64, 2, 0x40, 90])).unwrap();
        assert_eq!(open.capabilities, [Capability::GracefulRestart { notification: true }]);
    }
}
