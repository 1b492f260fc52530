//! What a peer says about our own prefixes: the one exception to dropping every received route, and read-only.
//!
//! Pure. Owned by a session and gone with it. Holds at most one path per watched prefix, whatever the peer sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::Family;
use ipnet::IpNet;

use crate::route::RouteSet;
use crate::status::{Negotiated, OwnPath};
use crate::wire::{AttributeContext, Disposition, Path, Update};

/// The paths of one session.
#[derive(Debug)]
pub(crate) struct OwnPaths {
    internal: bool,
    negotiated: Negotiated,
    /// Whose `watched` counts.
    watching: Arc<RouteSet>,
    paths: BTreeMap<IpNet, OwnPath>,
}

impl OwnPaths {
    pub(crate) fn new(internal: bool, negotiated: Negotiated, watching: Arc<RouteSet>) -> Self {
        OwnPaths { internal, negotiated, watching, paths: BTreeMap::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OwnPath> {
        self.paths.values()
    }

    /// Which of them are on their way out, or not quite there yet.
    pub(crate) fn graceful(&self) -> BTreeSet<IpNet> {
        self.iter().filter(|path| path.graceful_shutdown).map(|path| path.prefix).collect()
    }

    /// Takes an UPDATE's body. Whether that changed something; one that costs the session changes nothing.
    pub(crate) fn hear(&mut self, body: &[u8]) -> bool {
        let watched = &self.watching.watched;
        if watched.is_empty() {
            return false;
        }
        let context = AttributeContext {
            as4: self.negotiated.as4,
            internal: self.internal,
            families: &self.negotiated.families,
            v4_over_v6: self.negotiated.extended_next_hop,
        };
        let Ok(update) = Update::decode(body, context) else { return false };
        let mut changed = false;
        let unreach = update.unreach.iter().flat_map(|prefixes| prefixes.iter());
        for prefix in update.withdrawn.iter().chain(unreach) {
            changed |= self.paths.remove(&prefix).is_some();
        }
        let reach = update.reach.iter().flat_map(|prefixes| prefixes.iter());
        let mut path = None;
        for prefix in update.announced.iter().chain(reach).filter(|prefix| watched.contains(prefix)) {
            changed = true;
            if update.disposition == Disposition::TreatAsWithdraw {
                self.paths.remove(&prefix);
                continue;
            }
            let path = path.get_or_insert_with(|| update.path(context.as4));
            let Path { next_hop, as_path, graceful_shutdown } = path.clone();
            self.paths.insert(prefix, OwnPath { prefix, next_hop, as_path, graceful_shutdown });
        }
        changed
    }

    /// Goes on with another decision. Returns the families of prefixes that are newly watched: what the peer said of them
    /// was dropped.
    pub(crate) fn watch(&mut self, desired: &Arc<RouteSet>) -> BTreeSet<Family> {
        if Arc::ptr_eq(&self.watching, desired) || self.watching.watched == desired.watched {
            return BTreeSet::new();
        }
        self.paths.retain(|prefix, _| desired.watched.contains(prefix));
        let new = desired.watched.difference(&self.watching.watched);
        let families = new.map(|prefix| Family::of(prefix.addr()));
        let families = families.filter(|family| self.negotiated.families.contains(family)).collect();
        self.watching = Arc::clone(desired);
        families
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::BytesMut;
    use config::RouterId;

    use super::*;
    use crate::dialect::{Dialect, Ipv6NextHop, NextHops};
    use crate::fixture;
    use crate::pack::{Changes, pack};
    use crate::wire::HEADER_LEN;

    const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    #[allow(clippy::disallowed_methods, reason = "a set needs some instant; nothing is measured")]
    fn watching(prefixes: &[&str]) -> Arc<RouteSet> {
        let watched = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        Arc::new(RouteSet { watched, ..RouteSet::empty(Instant::now()) })
    }

    fn own_paths(prefixes: &[&str]) -> OwnPaths {
        let negotiated = Negotiated {
            hold_time: 9,
            families: BOTH.to_vec(),
            capabilities: vec![],
            remote_router_id: RouterId::new([10, 0, 0, 1].into()).unwrap(),
            as4: true,
            route_refresh: true,
            enhanced_refresh: true,
            extended_messages: false,
            extended_next_hop: false,
            remote_role: None,
        };
        OwnPaths::new(false, negotiated, watching(prefixes))
    }

    /// The bodies of UPDATEs that say this.
    fn updates(withdrawn: &[&str], announced: &[IpNet]) -> Vec<Vec<u8>> {
        let v6 = Ipv6NextHop { global: "2001:db8::1".parse().unwrap(), link_local: None };
        let dialect = Dialect {
            families: BOTH.to_vec(),
            next_hops: NextHops { v6: Some(v6), ..fixture::dialect().next_hops },
            ..fixture::dialect()
        };
        let withdrawn = withdrawn.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let announced = BTreeMap::from([(fixture::attributes(1), announced.to_vec())]);
        let mut octets = BytesMut::new();
        pack(&Changes { withdrawn, announced }, &dialect, &mut octets).unwrap();
        let mut bodies = Vec::new();
        while !octets.is_empty() {
            let length = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
            bodies.push(octets.split_to(length)[HEADER_LEN..].to_vec());
        }
        bodies
    }

    fn nets(prefixes: &[&str]) -> Vec<IpNet> {
        prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
    }

    fn hear(paths: &mut OwnPaths, bodies: &[Vec<u8>]) -> bool {
        bodies.iter().fold(false, |changed, body| paths.hear(body) | changed)
    }

    #[test]
    fn what_the_peer_says_of_our_own_prefixes_is_kept_with_next_hop_and_path_until_it_withdraws_it() {
        let mut paths = own_paths(&["192.0.2.1/32", "2001:db8::9/128"]);
        assert!(hear(&mut paths, &updates(&[], &nets(&["192.0.2.1/32", "2001:db8::9/128"]))));
        let known: Vec<_> = paths.iter().cloned().collect();
        assert_eq!(known[0].next_hop, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(known[1].next_hop, Some("2001:db8::1".parse().unwrap()));
        assert!(known.iter().all(|path| path.as_path == [64512]));
        assert!(hear(&mut paths, &updates(&["192.0.2.1/32", "2001:db8::9/128"], &[])));
        assert_eq!(paths.iter().count(), 0);
        assert!(!hear(&mut paths, &updates(&["192.0.2.1/32"], &[])));
    }

    #[test]
    fn of_200_000_other_prefixes_none_is_kept() {
        let mut paths = own_paths(&["10.0.0.7/32"]);
        let flood: Vec<_> =
            (0..200_000).map(|n| IpNet::from(std::net::IpAddr::V4((0x0a00_0000_u32 + n).into()))).collect();
        hear(&mut paths, &updates(&[], &flood));
        assert_eq!(paths.iter().map(|path| path.prefix).collect::<Vec<_>>(), nets(&["10.0.0.7/32"]));
    }

    #[test]
    fn a_newly_watched_prefix_asks_for_its_family_again_and_one_no_longer_watched_is_forgotten() {
        let mut paths = own_paths(&["192.0.2.1/32"]);
        hear(&mut paths, &updates(&[], &nets(&["192.0.2.1/32"])));
        let both = watching(&["192.0.2.1/32", "192.0.2.2/32"]);
        assert_eq!(paths.watch(&both), BTreeSet::from([Family::Ipv4]));
        assert_eq!(paths.watch(&both), BTreeSet::new());
        assert_eq!(paths.iter().count(), 1);
        assert_eq!(paths.watch(&watching(&["192.0.2.2/32"])), BTreeSet::new());
        assert_eq!(paths.iter().count(), 0);
    }
}
