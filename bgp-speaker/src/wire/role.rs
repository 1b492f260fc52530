//! BGP roles (RFC 9234 §4): their numbers, names and the pairs that suit each other.

use config::Role;

/// RFC 9234 §4.1, table 1.
pub fn number(role: Role) -> u8 {
    match role {
        Role::Provider => 0,
        Role::RouteServer => 1,
        Role::RouteServerClient => 2,
        Role::Customer => 3,
        Role::Peer => 4,
    }
}

/// `None`: unassigned.
pub(crate) fn of_number(number: u8) -> Option<Role> {
    match number {
        0 => Some(Role::Provider),
        1 => Some(Role::RouteServer),
        2 => Some(Role::RouteServerClient),
        3 => Some(Role::Customer),
        4 => Some(Role::Peer),
        _ => None,
    }
}

pub(crate) fn name(role: Role) -> &'static str {
    match role {
        Role::Provider => "provider",
        Role::RouteServer => "rs",
        Role::RouteServerClient => "rs-client",
        Role::Customer => "customer",
        Role::Peer => "peer",
    }
}

/// What the other side of a session has to be (RFC 9234 §4.2, table 2).
pub(crate) fn counterpart(role: Role) -> Role {
    match role {
        Role::Provider => Role::Customer,
        Role::Customer => Role::Provider,
        Role::RouteServer => Role::RouteServerClient,
        Role::RouteServerClient => Role::RouteServer,
        Role::Peer => Role::Peer,
    }
}

/// Whether what a speaker of this role originates is marked with the OTC attribute: it goes to a customer, peer or client
/// (RFC 9234 §5, egress 1).
pub(crate) fn marks_only_to_customer(role: Role) -> bool {
    matches!(role, Role::Provider | Role::Peer | Role::RouteServer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Role; 5] =
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

    #[test]
    fn numbers_and_roles_are_each_others_inverse() {
        for role in ALL {
            assert_eq!(of_number(number(role)), Some(role));
        }
        assert!((5..=255).all(|number| of_number(number).is_none()));
    }

    #[test]
    fn a_counterparts_counterpart_is_the_role_itself() {
        for role in ALL {
            assert_eq!(counterpart(counterpart(role)), role);
        }
    }
}
