//! What two OPENs have in common, or why they do not suit each other (RFC 4271 §6.2).

use bytes::BytesMut;
use config::{Family, Role};

use super::Params;
use crate::status::Negotiated;
use crate::wire::{Capability, Open, WireError, role};

/// Our OPEN. Graceful restart is not in it: our forwarding dies with us.
pub(super) fn our_open(params: &Params) -> Open {
    Open {
        my_as: Open::short_as(params.local_as),
        hold_time: params.hold_time,
        router_id: params.router_id,
        capabilities: offer(params),
    }
}

/// The capabilities we announce.
pub(crate) fn offer(params: &Params) -> Vec<Capability> {
    let mut offer = Capability::offer(params.local_as, &params.families);
    if offers_extended_next_hop(params) {
        offer.push(Capability::ExtendedNextHop { v4_over_v6: true });
    }
    offer.extend(params.role().map(|role| Capability::Role(role::number(role))));
    offer
}

fn offers_extended_next_hop(params: &Params) -> bool {
    params.extended_next_hop && params.families.contains(&Family::Ipv4)
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
    let remote_role = match params.role() {
        Some(role) => suitable_role(role, params.role_strict, open)?,
        None => None,
    };
    Ok(Negotiated {
        hold_time: open.hold_time.as_secs().min(params.hold_time.as_secs()),
        capabilities: open.capabilities.iter().map(Capability::name).collect(),
        remote_router_id: open.router_id,
        as4: open.four_octet_as().is_some(),
        route_refresh: open.has(Capability::RouteRefresh),
        enhanced_refresh: open.has(Capability::EnhancedRefresh),
        extended_messages: open.has(Capability::ExtendedMessage),
        extended_next_hop: families.contains(&Family::Ipv4)
            && offers_extended_next_hop(params)
            && open.has(Capability::ExtendedNextHop { v4_over_v6: true }),
        remote_role: remote_role.map(role::name),
        families,
    })
}

/// The peer's role where it says one; it must be the counterpart of ours, and be said the same way each time
/// (RFC 9234 §4.2).
fn suitable_role(ours: Role, strict: bool, open: &Open) -> Result<Option<Role>, WireError> {
    let expected = role::counterpart(ours);
    let mut said = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::Role(number) => Some(*number),
        _ => None,
    });
    let mismatch = |got: String| Err(WireError::RoleMismatch { got, expected: role::name(expected) });
    let Some(first) = said.next() else {
        return if strict { mismatch("says no role".to_owned()) } else { Ok(None) };
    };
    if said.any(|other| other != first) {
        return mismatch("says more than one role".to_owned());
    }
    match role::of_number(first) {
        Some(role) if role == expected => Ok(Some(role)),
        Some(role) => mismatch(format!("says role {}", role::name(role))),
        None => mismatch(format!("says role {first}")),
    }
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
            role: None,
            role_strict: false,
            extended_next_hop: false,
            has_key: false,
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

    const ROLES: [Role; 5] =
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

    fn with_roles(ours: Role, theirs: &[u8], strict: bool) -> Result<Negotiated, WireError> {
        let params = Params { role: Some(ours), role_strict: strict, ..params(BOTH) };
        let said: Vec<_> = theirs.iter().map(|number| Capability::Role(*number)).collect();
        negotiate(&params, &open(&[&[V4], &said[..]].concat()))
    }

    #[test]
    fn of_all_pairs_of_roles_exactly_the_allowed_ones_are_negotiated() {
        use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
        let allowed = [
            (Provider, Customer),
            (Customer, Provider),
            (RouteServer, RouteServerClient),
            (RouteServerClient, RouteServer),
            (Peer, Peer),
        ];
        for (ours, theirs) in ROLES.into_iter().flat_map(|ours| ROLES.map(|theirs| (ours, theirs))) {
            match with_roles(ours, &[role::number(theirs)], false) {
                Ok(agreed) => {
                    assert!(allowed.contains(&(ours, theirs)), "{ours:?} with {theirs:?}");
                    assert_eq!(agreed.remote_role, Some(role::name(theirs)));
                }
                Err(error) => {
                    assert!(!allowed.contains(&(ours, theirs)), "{ours:?} with {theirs:?}");
                    let error = error.notification();
                    assert_eq!((error.code(), error.subcode(), error.data()), (2, 11, &[][..]));
                }
            }
        }
    }

    #[test]
    fn a_role_that_is_unassigned_or_said_in_two_ways_is_a_mismatch_and_one_said_twice_is_none() {
        let customer = role::number(Role::Customer);
        assert!(with_roles(Role::Provider, &[customer, customer], false).is_ok());
        for said in [&[customer, role::number(Role::Peer)][..], &[9]] {
            let error = with_roles(Role::Provider, said, false).unwrap_err().notification();
            assert_eq!((error.code(), error.subcode()), (2, 11));
        }
    }

    #[test]
    fn a_peer_without_a_role_is_refused_only_in_strict_mode() {
        assert_eq!(with_roles(Role::Customer, &[], false).unwrap().remote_role, None);
        let error = with_roles(Role::Customer, &[], true).unwrap_err();
        assert_eq!(error.to_string(), "the peer says no role, expected role provider");
        assert_eq!(error.notification().subcode(), 11);
    }

    #[test]
    fn inside_an_as_there_are_no_roles() {
        let mut params = Params { role: Some(Role::Peer), role_strict: true, ..params(BOTH) };
        params.local_as = params.remote_as;
        assert!(negotiate(&params, &open(&[V4, Capability::Role(0)])).is_ok());
        assert!(!offer(&params).iter().any(|capability| matches!(capability, Capability::Role(_))));
    }

    #[test]
    fn extended_next_hops_and_messages_are_negotiated_only_where_both_sides_offer_them() {
        let theirs = [V4, Capability::ExtendedMessage, Capability::ExtendedNextHop { v4_over_v6: true }];
        let both = |extended_next_hop, families: &[Family], theirs: &[Capability]| {
            let agreed = negotiate(&Params { extended_next_hop, ..params(families) }, &open(theirs)).unwrap();
            (agreed.extended_messages, agreed.extended_next_hop)
        };
        assert_eq!(both(true, BOTH, &theirs), (true, true));
        assert_eq!(both(false, BOTH, &theirs), (true, false));
        assert_eq!(both(true, BOTH, &[V4]), (false, false));
        assert!(!both(true, BOTH, &[V4, Capability::ExtendedNextHop { v4_over_v6: false }]).1);
        assert!(!both(true, &[Family::Ipv6], &[V6, theirs[2]]).1);
    }

    #[test]
    fn graceful_restart_is_understood_and_never_offered() {
        let theirs = [V4, Capability::GracefulRestart { notification: true }];
        let agreed = negotiate(&params(BOTH), &open(&theirs)).unwrap();
        assert!(agreed.capabilities.contains(&"graceful restart, notifications included".to_owned()));
        for role in ROLES {
            let params = Params { role: Some(role), extended_next_hop: true, ..params(BOTH) };
            let ours = our_open(&params);
            let encoded = Open::decode(&ours.encode()[crate::wire::HEADER_LEN..]).unwrap();
            assert_eq!(encoded, ours);
            let graceful = |capability: &Capability| matches!(capability, Capability::GracefulRestart { .. });
            assert!(!encoded.capabilities.iter().any(graceful));
        }
    }
}
