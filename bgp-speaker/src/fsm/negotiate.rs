//! What two OPENs have in common, or why they do not suit each other (RFC 4271 §6.2).

use bytes::BytesMut;
use config::Family;

use super::Params;
use crate::status::Negotiated;
use crate::wire::{Capability, Open, WireError};

/// Our OPEN.
pub(super) fn our_open(params: &Params) -> Open {
    Open {
        my_as: Open::short_as(params.local_as),
        hold_time: params.hold_time,
        router_id: params.router_id,
        capabilities: Capability::offer(params.local_as, &params.families),
    }
}

pub(super) fn negotiate(params: &Params, open: &Open) -> Result<Negotiated, WireError> {
    if open.asn() != params.remote_as.as_u32() {
        return Err(WireError::BadPeerAs { got: open.asn(), expected: params.remote_as.as_u32() });
    }
    // RFC 6286 §2.2: inside an AS identifiers are unique.
    if params.internal() && open.router_id == params.router_id {
        return Err(WireError::BadIdentifier(open.router_id.as_ipv4()));
    }
    let families = common_families(&params.families, open);
    if families.is_empty() {
        let mut wanted = BytesMut::new();
        params.families.iter().for_each(|family| Capability::multiprotocol(*family).write(&mut wanted));
        return Err(WireError::NoCommonFamily(wanted.to_vec()));
    }
    let route_refresh = open.has(Capability::RouteRefresh);
    Ok(Negotiated {
        hold_time: open.hold_time.as_secs().min(params.hold_time.as_secs()),
        families,
        capabilities: open.capabilities.iter().map(Capability::name).collect(),
        remote_router_id: open.router_id,
        as4: open.four_octet_as().is_some(),
        route_refresh,
        enhanced_refresh: open.has(Capability::EnhancedRefresh),
    })
}

/// A peer that names no family at all speaks IPv4 unicast (RFC 4760 §8).
fn common_families(ours: &[Family], open: &Open) -> Vec<Family> {
    let names_any = open.capabilities.iter().any(|c| matches!(c, Capability::Multiprotocol { .. }));
    let theirs = |family: Family| match names_any {
        true => open.has(Capability::multiprotocol(family)),
        false => family == Family::Ipv4,
    };
    ours.iter().copied().filter(|family| theirs(*family)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use config::{Asn, HoldTime, RouterId};

    use super::*;

    fn params(families: &[Family]) -> Params {
        Params {
            local_as: Asn::new(64512).unwrap(),
            router_id: RouterId::new([10, 0, 0, 1].into()).unwrap(),
            remote_as: Asn::new(4_200_000_001).unwrap(),
            hold_time: HoldTime::from_secs(9).unwrap(),
            families: families.to_vec(),
            passive: false,
            connect_retry: Duration::from_secs(5),
        }
    }

    fn open(capabilities: &[Capability]) -> Open {
        Open {
            my_as: 23456,
            hold_time: HoldTime::from_secs(90).unwrap(),
            router_id: RouterId::new([10, 0, 0, 2].into()).unwrap(),
            capabilities: [&[Capability::FourOctetAs(4_200_000_001)], capabilities].concat(),
        }
    }

    const V4: Capability = Capability::Multiprotocol { afi: 1, safi: 1 };
    const V6: Capability = Capability::Multiprotocol { afi: 2, safi: 1 };
    const BOTH: &[Family] = &[Family::Ipv4, Family::Ipv6];

    #[test]
    fn the_smaller_hold_time_and_the_common_families_are_negotiated() {
        let agreed = negotiate(&params(BOTH), &open(&[V6, Capability::RouteRefresh])).unwrap();
        assert_eq!((agreed.hold_time, agreed.families), (9, vec![Family::Ipv6]));
        assert!(agreed.as4 && agreed.route_refresh && !agreed.enhanced_refresh);
        let mut zero = open(&[V4]);
        zero.hold_time = HoldTime::from_secs(0).unwrap();
        assert_eq!(negotiate(&params(BOTH), &zero).unwrap().hold_time, 0, "RFC 4271 §4.2");
    }

    #[test]
    fn a_peer_that_names_no_family_speaks_ipv4_unicast() {
        assert_eq!(negotiate(&params(BOTH), &open(&[])).unwrap().families, [Family::Ipv4]);
    }

    #[test]
    fn no_family_in_common_is_unsupported_capability_with_what_we_need() {
        let error = negotiate(&params(&[Family::Ipv6]), &open(&[V4])).unwrap_err().notification();
        assert_eq!((error.code(), error.subcode(), error.data()), (2, 7, &[1, 4, 0, 2, 0, 1][..]));
    }

    #[test]
    fn another_as_than_configured_is_bad_peer_as_with_and_without_the_4_octet_capability() {
        let mut other = open(&[V4]);
        other.capabilities[0] = Capability::FourOctetAs(65000);
        let mut old = open(&[V4]);
        old.capabilities.remove(0);
        for open in [other, old] {
            let error = negotiate(&params(BOTH), &open).unwrap_err().notification();
            assert_eq!((error.code(), error.subcode()), (2, 2));
        }
    }

    #[test]
    fn our_own_identifier_is_bad_inside_the_as_and_fine_outside() {
        let mut params = params(BOTH);
        let mut same = open(&[V4]);
        same.router_id = params.router_id;
        assert!(negotiate(&params, &same).is_ok());
        params.local_as = params.remote_as;
        let error = negotiate(&params, &same).unwrap_err().notification();
        assert_eq!((error.code(), error.subcode()), (2, 3));
    }
}
