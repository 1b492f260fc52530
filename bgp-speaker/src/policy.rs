//! What one peer gets of the desired routes: which of them, and with which attributes. Pure.

use config::{AttributeOverrides, Community, Name};

use crate::route::{Attributes, Preference, Route};

/// One peer's configuration as far as it concerns routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) peer: Name,
    /// Instead of a VIP's own attributes.
    pub(crate) announce: AttributeOverrides,
    /// The same while the VIP is degraded.
    pub(crate) degraded: AttributeOverrides,
}

impl Policy {
    pub(crate) fn of(peer: &config::Peer) -> Self {
        Policy { peer: peer.name.clone(), announce: peer.announce.clone(), degraded: peer.degraded.clone() }
    }

    /// Whether the route goes to this peer.
    pub(crate) fn admits(&self, route: &Route) -> bool {
        route.peers.contains(&self.peer)
    }

    /// The route's attributes for this peer. What ranks a route (MED, local-pref, prepend) is overridden only by what is
    /// said for its preference, so that a degraded route never ranks as a normal one; what labels it (communities, link
    /// bandwidth) stays as overridden for a normal one.
    pub(crate) fn attributes(&self, route: &Route) -> Attributes {
        let mut attributes = route.attributes.clone();
        label(&mut attributes, &self.announce);
        match route.preference {
            Preference::Normal => rank(&mut attributes, &self.announce),
            Preference::Degraded => {
                label(&mut attributes, &self.degraded);
                rank(&mut attributes, &self.degraded);
            }
            Preference::Draining => {
                label(&mut attributes, &self.degraded);
                rank(&mut attributes, &self.degraded);
                shut_down_gracefully(&mut attributes);
            }
            Preference::Arriving | Preference::LastResort => {
                attributes.med = u32::MAX;
                shut_down_gracefully(&mut attributes);
            }
        }
        attributes
    }
}

fn rank(attributes: &mut Attributes, overrides: &AttributeOverrides) {
    attributes.med = overrides.med.unwrap_or(attributes.med);
    attributes.local_pref = overrides.local_pref.unwrap_or(attributes.local_pref);
    attributes.prepend = overrides.prepend.unwrap_or(attributes.prepend);
}

fn label(attributes: &mut Attributes, overrides: &AttributeOverrides) {
    if let Some(communities) = &overrides.communities {
        attributes.communities.clone_from(communities);
    }
    if let Some(large) = &overrides.large_communities {
        attributes.large_communities.clone_from(large);
    }
    attributes.link_bandwidth = overrides.link_bandwidth.or(attributes.link_bandwidth);
}

/// RFC 8326 §4: the community tells external peers, local-pref 0 is what it asks of internal ones.
fn shut_down_gracefully(attributes: &mut Attributes) {
    attributes.local_pref = 0;
    if let Err(place) = attributes.communities.binary_search(&Community::GRACEFUL_SHUTDOWN) {
        attributes.communities.insert(place, Community::GRACEFUL_SHUTDOWN);
    }
}

#[cfg(test)]
mod tests {
    use config::PeerSet;

    use super::*;
    use crate::fixture::attributes;

    fn policy(announce: AttributeOverrides, degraded: AttributeOverrides) -> Policy {
        Policy { peer: Name::new("a").unwrap(), announce, degraded }
    }

    fn route(preference: Preference) -> Route {
        let communities = vec![Community(7)];
        Route { attributes: Attributes { communities, ..attributes(100) }, preference, peers: PeerSet::All }
    }

    #[test]
    fn without_overrides_a_peer_gets_what_the_vip_has() {
        let policy = policy(AttributeOverrides::default(), AttributeOverrides::default());
        for preference in [Preference::Normal, Preference::Degraded] {
            let route = route(preference);
            assert_eq!(policy.attributes(&route), route.attributes);
        }
    }

    #[test]
    fn a_peers_overrides_replace_what_they_name() {
        let announce = AttributeOverrides { med: Some(5), prepend: Some(2), ..Default::default() };
        let got = policy(announce, AttributeOverrides::default()).attributes(&route(Preference::Normal));
        assert_eq!((got.med, got.prepend, got.local_pref, got.communities), (5, 2, 100, vec![Community(7)]));
        let announce = AttributeOverrides {
            local_pref: Some(300),
            communities: Some(vec![]),
            link_bandwidth: Some(10),
            ..Default::default()
        };
        let got = policy(announce, AttributeOverrides::default()).attributes(&route(Preference::Normal));
        assert_eq!((got.local_pref, got.communities, got.link_bandwidth), (300, vec![], Some(10)));
    }

    #[test]
    fn a_degraded_route_keeps_a_peers_labels_but_not_its_rank() {
        let announce =
            AttributeOverrides { med: Some(5), communities: Some(vec![Community(9)]), ..Default::default() };
        let degraded = AttributeOverrides { prepend: Some(3), ..Default::default() };
        let got = policy(announce, degraded).attributes(&route(Preference::Degraded));
        assert_eq!((got.med, got.prepend, got.communities), (100, 3, vec![Community(9)]));
    }

    #[test]
    fn a_route_that_drains_is_a_degraded_one_with_graceful_shutdown_and_local_pref_0() {
        let degraded = AttributeOverrides {
            med: Some(9),
            local_pref: Some(300),
            prepend: Some(3),
            ..Default::default()
        };
        let got = policy(AttributeOverrides::default(), degraded).attributes(&route(Preference::Draining));
        assert_eq!((got.med, got.prepend, got.local_pref), (9, 3, 0));
        assert_eq!(got.communities, [Community(7), Community::GRACEFUL_SHUTDOWN]);
    }

    #[test]
    fn a_route_of_last_resort_has_graceful_shutdown_and_local_pref_0_whatever_is_overridden() {
        let announce = AttributeOverrides {
            local_pref: Some(300),
            communities: Some(vec![Community::NO_EXPORT]),
            ..Default::default()
        };
        let got = policy(announce.clone(), announce).attributes(&route(Preference::LastResort));
        assert_eq!((got.local_pref, got.med), (0, u32::MAX));
        assert_eq!(got.communities, [Community::GRACEFUL_SHUTDOWN, Community::NO_EXPORT]);
    }
}
