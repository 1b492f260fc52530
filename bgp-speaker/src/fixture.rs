//! What unit tests of several modules begin with: values, and seeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only ever built for tests: to panic is how they fail"
)]

use std::time::Instant;

use config::{Asn, Family, PeerSet};

use crate::dialect::{Dialect, NextHops};
use crate::route::{Attributes, Preference, Route, RouteSet};

pub(crate) fn attributes(med: u32) -> Attributes {
    Attributes {
        med,
        local_pref: 100,
        prepend: 0,
        communities: vec![],
        large_communities: vec![],
        link_bandwidth: None,
    }
}

/// For all peers, at normal preference.
pub(crate) fn route(med: u32) -> Route {
    Route { attributes: attributes(med), preference: Preference::Normal, peers: PeerSet::All }
}

/// A decision for these routes and MEDs.
pub(crate) fn decision(version: u64, routes: &[(&str, u32)], decided: Instant) -> RouteSet {
    let routes = routes.iter().map(|(prefix, med)| (prefix.parse().unwrap(), route(*med)));
    RouteSet { version, cause: version, routes: routes.collect(), ..RouteSet::empty(decided) }
}

/// An external IPv4 session of a 2-octet AS.
pub(crate) fn dialect() -> Dialect {
    Dialect {
        local_as: Asn::new(64512).unwrap(),
        internal: false,
        as4: true,
        families: vec![Family::Ipv4],
        next_hops: NextHops { v4: Some([192, 0, 2, 1].into()), ..NextHops::default() },
        only_to_customer: false,
    }
}

/// Runs a simulation with so many seeds, or as many as `SIMULATION_SEEDS` says; `SIMULATION_SEED` replays one. The seed of one
/// that fails is said.
pub(crate) fn for_each_seed(seeds: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("replay with SIMULATION_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
