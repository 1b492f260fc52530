//! A real router in a namespace: what the tests ask of every implementation.

pub mod bird2;
pub mod frr;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use crate::netns::Namespace;

/// What a router is told about its sessions with the load balancer.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// Own and the load balancer's address of each session, one per family.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    pub local_as: u32,
    pub remote_as: u32,
    /// TCP-MD5 (RFC 2385).
    pub password: Option<&'static str>,
    /// GTSM (RFC 5082) for a directly connected peer.
    pub ttl_security: bool,
}

/// A route in the router's BGP table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub next_hop: IpAddr,
    pub med: Option<u32>,
    pub as_path: Vec<u32>,
    /// `AS:VALUE`.
    pub communities: BTreeSet<String>,
    /// `GLOBAL:LOCAL1:LOCAL2`.
    pub large_communities: BTreeSet<String>,
}

/// Makes a module per router with a test per scenario, a function that is generic over the router.
macro_rules! with_every_router {
    ($($scenario:ident)*) => {
        mod bird2 { use crate::router::bird2::Bird2; $(#[test] fn $scenario() { crate::router::on::<Bird2>(super::$scenario::<Bird2>); })* }
        mod frr { use crate::router::frr::Frr; $(#[test] fn $scenario() { crate::router::on::<Frr>(super::$scenario::<Frr>); })* }
    };
}
pub(crate) use with_every_router;

/// Runs a scenario where it can run.
pub fn on<R: Router>(scenario: fn()) {
    if crate::lab::can_run::<R>() {
        scenario();
    }
}

pub trait Router: Sized {
    /// The Debian package it comes from, and a file of it.
    const PACKAGE: (&str, &str);

    /// Starts it inside `namespace`; does not wait.
    fn start(namespace: &Namespace, sessions: &Sessions) -> Self;

    /// Whether the session with this address is Established.
    fn is_established(&self, peer: IpAddr) -> bool;

    /// The best route to a prefix in the BGP table.
    fn route(&self, prefix: &str) -> Option<Route>;

    fn is_installed() -> bool {
        Path::new(Self::PACKAGE.1).exists()
    }
}
