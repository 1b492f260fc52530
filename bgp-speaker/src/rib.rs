//! Adj-RIB-Out: what a peer holds from us, and the difference to what it should hold.
//!
//! Pure. Owns the routes sent on the present session; knows nothing of sockets or messages.

use std::collections::BTreeMap;

use config::{Family, Name};
use ipnet::IpNet;

use crate::pack::{Changes, Dialect};
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
    pub(crate) fn advance(&mut self, desired: &RouteSet, peer: &Name, dialect: &Dialect) -> Diff {
        let mut diff = Diff::default();
        let wanted =
            |prefix: &IpNet| desired.routes.get(prefix).is_some_and(|route| route.peers.contains(peer));
        self.sent.retain(|prefix, _| {
            let keep = wanted(prefix);
            if !keep {
                diff.changes.withdrawn.push(*prefix);
            }
            keep
        });
        for (prefix, route) in desired.routes.iter().filter(|(_, route)| route.peers.contains(peer)) {
            let sent = self.sent.get(prefix);
            if sent.is_some_and(|sent| dialect.says_the_same(sent, &route.attributes)) {
                continue;
            }
            if let Some(reason) = dialect.obstacle(prefix, &route.attributes) {
                diff.unannounced.push(Unannounced { prefix: *prefix, reason });
                // What the peer holds is not what is desired, so it must not stay.
                diff.changes.withdrawn.extend(self.sent.remove(prefix).map(|_| *prefix));
                continue;
            }
            let attributes = dialect.effective(&route.attributes);
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

    use config::{Asn, PeerSet};

    use super::*;
    use crate::route::Route;

    fn dialect() -> Dialect {
        Dialect {
            local_as: Asn::new(64512).unwrap(),
            internal: false,
            as4: true,
            families: vec![Family::Ipv4],
            next_hop_v4: Some([192, 0, 2, 1].into()),
            next_hop_v6: None,
        }
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn attributes(med: u32) -> Attributes {
        Attributes { med, local_pref: 100, prepend: 0, communities: vec![], large_communities: vec![] }
    }

    #[allow(clippy::disallowed_methods, reason = "a set needs some instant; nothing is measured")]
    fn desired(routes: &[(&str, u32)]) -> RouteSet {
        let mut set = RouteSet::empty(Instant::now());
        for (prefix, med) in routes {
            let route = Route { attributes: attributes(*med), peers: PeerSet::All };
            set.routes.insert(prefix.parse().unwrap(), route);
        }
        set
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_difference_is_said() {
        let (mut rib, peer) = (AdjRibOut::default(), name("a"));
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
        let (mut rib, peer) = (AdjRibOut::default(), name("a"));
        let mut set = desired(&[("10.0.0.1/32", 1)]);
        rib.advance(&set, &peer, &dialect());
        set.routes.values_mut().for_each(|route| route.peers = PeerSet::Named(vec![name("b")]));
        assert_eq!(rib.advance(&set, &peer, &dialect()).changes.withdrawn, [net("10.0.0.1/32")]);
    }

    #[test]
    fn a_change_that_the_session_does_not_say_is_none() {
        let (mut rib, peer) = (AdjRibOut::default(), name("a"));
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
    fn a_route_that_cannot_be_told_says_why() {
        let (mut rib, peer) = (AdjRibOut::default(), name("a"));
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
        let (mut rib, peer) = (AdjRibOut::default(), name("a"));
        rib.advance(&desired(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 2)]), &peer, &dialect());
        assert_eq!(rib.again(Family::Ipv4).announced.len(), 2);
        assert!(rib.again(Family::Ipv6).is_empty());
    }
}
