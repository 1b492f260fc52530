//! From what each VIP wants to be announced as to the routes themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_speaker::{Attributes, Preference, Route};
use config::{Community, Name, PeerSet, Vip};
use ipnet::IpNet;

use crate::vip::life_cycle::Desire;

/// The host routes of all VIPs that want one.
pub fn wanted<'a>(
    vips: impl Iterator<Item = (IpAddr, &'a Vip, Desire)>,
    fellows: &BTreeSet<Name>,
) -> BTreeMap<IpNet, Route> {
    vips.filter_map(|(address, vip, desire)| {
        let (preference, attributes) = attributes(vip, desire)?;
        let peers = match desire {
            Desire::Arriving => {
                PeerSet::Named(fellows.iter().filter(|name| vip.peers.contains(name)).cloned().collect())
            }
            Desire::Withdrawn | Desire::Draining | Desire::LastResort | Desire::Degraded | Desire::Normal => {
                vip.peers.clone()
            }
        };
        Some((IpNet::from(address), Route { attributes, preference, peers }))
    })
    .collect()
}

fn attributes(vip: &Vip, desire: Desire) -> Option<(Preference, Attributes)> {
    let normal = Attributes {
        med: vip.announce.med,
        local_pref: vip.announce.local_pref,
        prepend: vip.announce.prepend,
        communities: vip.announce.communities.clone(),
        large_communities: vip.announce.large_communities.clone(),
        link_bandwidth: vip.announce.link_bandwidth,
    };
    Some(match desire {
        Desire::Withdrawn => return None,
        Desire::Normal => (Preference::Normal, normal),
        Desire::Degraded => (
            Preference::Degraded,
            Attributes {
                med: vip.degraded.med,
                local_pref: vip.degraded.local_pref,
                prepend: vip.degraded.prepend,
                ..normal
            },
        ),
        Desire::Draining => (
            Preference::Draining,
            Attributes {
                med: vip.degraded.med,
                local_pref: 0,
                prepend: vip.degraded.prepend,
                communities: with_graceful_shutdown(&normal.communities),
                ..normal
            },
        ),
        // The worst that still attracts traffic: any other host wins (RFC 8326 for those who honour it).
        Desire::Arriving | Desire::LastResort => (
            if desire == Desire::Arriving { Preference::Arriving } else { Preference::LastResort },
            Attributes {
                med: u32::MAX,
                local_pref: 0,
                prepend: vip.degraded.prepend,
                communities: with_graceful_shutdown(&normal.communities),
                ..normal
            },
        ),
    })
}

/// Sorted and without repeats, as an attribute's communities are.
fn with_graceful_shutdown(communities: &[Community]) -> Vec<Community> {
    let all = communities.iter().copied().chain([Community::GRACEFUL_SHUTDOWN]);
    all.collect::<BTreeSet<_>>().into_iter().collect()
}
