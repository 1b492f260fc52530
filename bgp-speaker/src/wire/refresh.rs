//! ROUTE-REFRESH (RFC 2918) and its demarcation (RFC 7313).

use bytes::{BufMut, BytesMut};
use config::Family;

use super::SAFI_UNICAST;
use super::error::WireError;
use super::header::{HEADER_LEN, MessageKind, write_message};
use super::nlri::{afi, family_of};
use super::reader::Reader;

/// What a ROUTE-REFRESH says (RFC 7313 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// Send everything again.
    Request = 0,
    /// BoRR: everything follows.
    Begin = 1,
    /// EoRR: that was everything.
    End = 2,
}

/// A ROUTE-REFRESH for a family we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    pub family: Family,
    pub kind: RefreshKind,
}

impl Refresh {
    /// `None`: to be ignored, as an unknown subtype or family is (RFC 2918 §4, RFC 7313 §5).
    pub fn decode(body: &[u8]) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(body);
        let (Some(afi), Some(subtype), Some(safi)) = (reader.u16(), reader.u8(), reader.u8()) else {
            return Ok(None);
        };
        let kind = match subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            _ => return Ok(None),
        };
        if kind != RefreshKind::Request && !reader.is_empty() {
            // What of it fits a NOTIFICATION, its length as it was.
            let mut message = BytesMut::new();
            let length = u16::try_from(HEADER_LEN + body.len()).unwrap_or(u16::MAX);
            message.put_bytes(0xFF, 16);
            message.put_u16(length);
            message.put_u8(MessageKind::RouteRefresh as u8);
            message.put_slice(body);
            return Err(WireError::RefreshLength(message.to_vec()));
        }
        Ok(family_of(afi, safi).map(|family| Refresh { family, kind }))
    }

    pub fn encode(&self) -> BytesMut {
        let [high, low] = afi(self.family).to_be_bytes();
        let mut out = BytesMut::new();
        write_message(&mut out, MessageKind::RouteRefresh, &[&[high, low, self.kind as u8, SAFI_UNICAST]]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_back_as_itself() {
        for family in [Family::Ipv4, Family::Ipv6] {
            for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End] {
                let refresh = Refresh { family, kind };
                assert_eq!(Refresh::decode(&refresh.encode()[HEADER_LEN..]), Ok(Some(refresh)));
            }
        }
    }

    #[test]
    fn an_unknown_family_or_subtype_is_ignored() {
        assert_eq!(Refresh::decode(&[0, 1, 0, 128]), Ok(None));
        assert_eq!(Refresh::decode(&[0, 25, 0, 1]), Ok(None));
        assert_eq!(Refresh::decode(&[0, 1, 3, 1]), Ok(None));
    }

    #[test]
    fn a_demarcation_of_the_wrong_length_is_invalid_message_length_with_the_whole_message() {
        let error = Refresh::decode(&[0, 1, 1, 1, 9]).unwrap_err().notification();
        assert_eq!((error.code(), error.subcode()), (7, 1));
        assert_eq!(error.data().len(), 24);
        assert_eq!(error.data().last(), Some(&9));
    }
}
