//! Adj-RIB-Out: what a peer holds from us, and the difference to what it should hold.
//!
//! Pure. Owns the routes sent on the present session; knows nothing of sockets or messages.

use std::collections::BTreeMap;

use config::Family;
use ipnet::IpNet;

use crate::pack::{Changes, Dialect};
use crate::policy::Policy;
use crate::route::{Attributes, RouteSet};
use crate::status::Unannounced;

/// What a peer holds once it has read everything that was written.
#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    sent: BTreeMap<IpNet, Attributes>,
}

/// The way from what was sent to what is desired.
#[derive(Debug, Default)]
pub(crate) struct Diff {
    pub(crate) changes: Changes,
    pub(crate) unannounced: Vec<Unannounced>,
}

impl AdjRibOut {
    /// Notes `desired` as sent and returns what has to be said for that to be true.
    pub(crate) fn advance(&mut self, desired: &RouteSet, policy: &Policy, dialect: &Dialect) -> Diff {
        let mut diff = Diff::default();
        let wanted = |prefix: &IpNet| desired.routes.get(prefix).is_some_and(|route| policy.admits(route));
        self.sent.retain(|prefix, _| {
            let keep = wanted(prefix);
            if !keep {
                diff.changes.withdrawn.push(*prefix);
            }
            keep
        });
        for (prefix, route) in desired.routes.iter().filter(|(_, route)| policy.admits(route)) {
            let attributes = dialect.effective(policy.attributes(route));
            if self.sent.get(prefix) == Some(&attributes) {
                continue;
            }
            if let Some(reason) = dialect.obstacle(prefix, &attributes) {
                diff.unannounced.push(Unannounced { prefix: *prefix, reason });
                // What the peer holds is not what is desired, so it must not stay.
                diff.changes.withdrawn.extend(self.sent.remove(prefix).map(|_| *prefix));
                continue;
            }
            diff.changes.announced.entry(attributes.clone()).or_default().push(*prefix);
            self.sent.insert(*prefix, attributes);
        }
        diff
    }

    /// Everything of `family` as if it had never been sent, for a refresh.
    pub(crate) fn again(&self, family: Family) -> Changes {
        let mut changes = Changes::default();
        for (prefix, attributes) in self.sent.iter().filter(|(prefix, _)| Family::of(prefix.addr()) == family)
        {
            changes.announced.entry(attributes.clone()).or_default().push(*prefix);
        }
        changes
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use config::{AttributeOverrides, Name, PeerSet};

    use super::*;
    use crate::fixture::{decision, dialect};
    use crate::route::Preference;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn policy() -> Policy {
        let (announce, degraded) = (AttributeOverrides::default(), AttributeOverrides::default());
        Policy { peer: name("a"), announce, degraded }
    }

    #[allow(clippy::disallowed_methods, reason = "a set needs some instant; nothing is measured")]
    fn desired(routes: &[(&str, u32)]) -> RouteSet {
        decision(1, routes, Instant::now())
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_difference_is_said() {
        let (mut rib, peer) = (AdjRibOut::default(), policy());
        let first = desired(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 1), ("10.0.0.3/32", 2)]);
        let diff = rib.advance(&first, &peer, &dialect());
        assert_eq!(diff.changes.announced.len(), 2, "one group per set of attributes");
        assert!(rib.advance(&first, &peer, &dialect()).changes.is_empty());
        let second = desired(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 5)]);
        let diff = rib.advance(&second, &peer, &dialect()).changes;
        assert_eq!(diff.withdrawn, [net("10.0.0.3/32")]);
        let groups: Vec<_> = diff.announced.into_iter().map(|(a, prefixes)| (a.med, prefixes)).collect();
        assert_eq!(groups, [(5, vec![net("10.0.0.2/32")])]);
        assert_eq!(rib.len(), 2);
    }

    #[test]
    fn a_route_that_is_not_for_this_peer_is_withdrawn_from_it() {
        let (mut rib, peer) = (AdjRibOut::default(), policy());
        let mut set = desired(&[("10.0.0.1/32", 1)]);
        rib.advance(&set, &peer, &dialect());
        set.routes.values_mut().for_each(|route| route.peers = PeerSet::Named(vec![name("b")]));
        assert_eq!(rib.advance(&set, &peer, &dialect()).changes.withdrawn, [net("10.0.0.1/32")]);
    }

    #[test]
    fn a_change_that_the_session_does_not_say_is_none() {
        let (mut rib, peer) = (AdjRibOut::default(), policy());
        let mut set = desired(&[("10.0.0.1/32", 1)]);
        rib.advance(&set, &peer, &dialect());
        set.routes.values_mut().for_each(|route| route.attributes.local_pref = 7);
        assert!(rib.advance(&set, &peer, &dialect()).changes.is_empty());
        let mut internal = AdjRibOut::default();
        let dialect = Dialect { internal: true, ..dialect() };
        internal.advance(&set, &peer, &dialect);
        set.routes.values_mut().for_each(|route| route.attributes.local_pref = 8);
        assert!(!internal.advance(&set, &peer, &dialect).changes.is_empty());
    }

    #[test]
    fn a_route_that_is_degraded_is_said_again_with_what_this_peer_gets_for_it() {
        let (mut rib, mut policy) = (AdjRibOut::default(), policy());
        policy.degraded.med = Some(77);
        let mut set = desired(&[("10.0.0.1/32", 1)]);
        rib.advance(&set, &policy, &dialect());
        set.routes.values_mut().for_each(|route| route.preference = Preference::Degraded);
        let announced = rib.advance(&set, &policy, &dialect()).changes.announced;
        assert_eq!(announced.keys().map(|attributes| attributes.med).collect::<Vec<_>>(), [77]);
    }

    #[test]
    fn a_route_that_cannot_be_told_says_why() {
        let (mut rib, peer) = (AdjRibOut::default(), policy());
        let set = desired(&[("2001:db8::1/128", 1)]);
        let diff = rib.advance(&set, &peer, &dialect());
        assert!(diff.unannounced[0].reason.contains("not negotiated"));
        let both = Dialect { families: vec![Family::Ipv4, Family::Ipv6], ..dialect() };
        let diff = rib.advance(&set, &peer, &both);
        assert!(diff.unannounced[0].reason.contains("next_hop"));
        assert!(diff.changes.is_empty());
        assert_eq!(rib.len(), 0);
    }

    #[test]
    fn a_refresh_says_everything_of_its_family_again() {
        let (mut rib, peer) = (AdjRibOut::default(), policy());
        rib.advance(&desired(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 2)]), &peer, &dialect());
        assert_eq!(rib.again(Family::Ipv4).announced.len(), 2);
        assert!(rib.again(Family::Ipv6).is_empty());
    }
}
