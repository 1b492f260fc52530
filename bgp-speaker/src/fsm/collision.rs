//! Which of two connections with one peer survives (RFC 4271 §6.8, RFC 6286 §2.3).

use config::{Asn, RouterId};

use super::Slot;

/// The connection opened by the side with the larger BGP identifier; with equal ones, the larger AS number.
pub(super) fn survivor(local: (RouterId, Asn), remote: (RouterId, Asn)) -> Slot {
    let rank = |(id, asn): (RouterId, Asn)| (u32::from(id.as_ipv4()), asn);
    if rank(local) > rank(remote) { Slot::Outbound } else { Slot::Inbound }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(id: [u8; 4], asn: u32) -> (RouterId, Asn) {
        (RouterId::new(id.into()).unwrap(), Asn::new(asn).unwrap())
    }

    #[test]
    fn the_larger_identifier_keeps_its_connection_and_both_sides_agree() {
        let (low, high) = (side([10, 0, 0, 2], 9), side([10, 0, 1, 1], 1));
        assert_eq!(survivor(high, low), Slot::Outbound);
        assert_eq!(survivor(low, high), Slot::Inbound);
    }

    #[test]
    fn with_equal_identifiers_the_larger_as_keeps_its_connection() {
        let (low, high) = (side([10, 0, 0, 1], 64512), side([10, 0, 0, 1], 4_200_000_000));
        assert_eq!(survivor(high, low), Slot::Outbound);
        assert_eq!(survivor(low, high), Slot::Inbound);
    }
}
