//! A real router in a namespace: what the tests ask of every implementation.

mod bird1;
mod bird2;
mod birdc;
mod frr;
mod gobgp;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::common::process::Process;
use crate::netns::Namespace;

/// The implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bird2,
    Bird1,
    Frr,
    Gobgp,
}

/// One BGP session with the load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The router's address.
    pub own: IpAddr,
    /// The load balancer's address.
    pub peer: IpAddr,
    pub ipv4: bool,
    pub ipv6: bool,
    /// The router's interface, where the addresses are link-local.
    pub interface: Option<&'static str>,
}

/// How a router speaks on all of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    pub local_as: u32,
    pub remote_as: u32,
    /// In seconds; keepalives every third of it.
    pub hold_time: u16,
    /// TCP-MD5 (RFC 2385).
    pub password: Option<&'static str>,
    /// GTSM (RFC 5082).
    pub ttl_security: bool,
    /// How far away the load balancer is; 1: on the same link.
    pub hops: u8,
    /// The router never dials.
    pub passive: bool,
    /// The router says that it knows 4-octet AS numbers (RFC 6793).
    pub four_octet_as: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// BFD (RFC 5880) with this interval in milliseconds both ways, missed after three.
    pub bfd: Option<u32>,
    /// The router announces [`ROUTE4`] and [`ROUTE6`], as far as a session's families go.
    pub announces: bool,
}

/// What a router announces when it is told to.
pub const ROUTE4: &str = "10.77.0.0/16";
pub const ROUTE6: &str = "fd77::/32";

/// A route in the router's BGP table.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub next_hop: IpAddr,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub as_path: Vec<u32>,
    /// `AS:VALUE`.
    pub communities: BTreeSet<String>,
    /// `GLOBAL:LOCAL1:LOCAL2`.
    pub large_communities: BTreeSet<String>,
    /// In bits per second (draft-ietf-idr-link-bandwidth).
    pub link_bandwidth: Option<f64>,
}

pub trait Router {
    /// Whether the session with this address is Established.
    fn is_established(&self, peer: IpAddr) -> bool;

    /// The best route to a prefix in the BGP table.
    fn route(&self, prefix: &str) -> Option<Route>;

    /// Asks the peer for its routes again (RFC 2918), keeping the session.
    fn refresh(&self, session: &Session);

    /// Ends the session; it may come back.
    fn clear(&self, session: &Session);

    /// Ends the session until further notice with a text for the peer (RFC 9003).
    fn shut_down(&self, session: &Session, text: &str);

    /// Takes over another manner without a restart of the process.
    fn reconfigure(&self, sessions: &[Session], manner: &Manner);

    /// The processes that speak BGP.
    fn speakers(&self) -> Vec<&Process>;

    /// The processes that speak BFD.
    fn bfd_speakers(&self) -> Vec<&Process> {
        self.speakers()
    }

    /// Whether the neighbor at this address has said that BFD is administratively down, where the router tells.
    fn was_told_admin_down(&self, _peer: IpAddr) -> bool {
        false
    }
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Bird2, Kind::Bird1, Kind::Frr, Kind::Gobgp];

    /// Its column of the table of scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bird2 => "bird2",
            Kind::Bird1 => "bird1",
            Kind::Frr => "frr",
            Kind::Gobgp => "gobgp",
        }
    }

    /// The Debian package it comes from, and a file of it.
    pub fn package(self) -> (&'static str, PathBuf) {
        match self {
            Kind::Bird2 => ("bird2", "/usr/sbin/bird".into()),
            Kind::Bird1 => ("bird", bird1::directory().join("bird")),
            Kind::Frr => ("frr", frr::DIRECTORY.into()),
            Kind::Gobgp => ("gobgpd", "/usr/bin/gobgpd".into()),
        }
    }

    pub fn is_installed(self) -> bool {
        self.package().1.exists()
    }

    /// GoBGP has a BGP table only.
    pub fn has_kernel_routes(self) -> bool {
        self != Kind::Gobgp
    }

    /// Starts it inside `namespace`; does not wait.
    pub fn start(self, namespace: &Namespace, sessions: &[Session], manner: &Manner) -> Box<dyn Router> {
        match self {
            Kind::Bird2 => Box::new(bird2::Bird2::start(namespace, sessions, manner)),
            Kind::Bird1 => Box::new(bird1::Bird1::start(namespace, sessions, manner)),
            Kind::Frr => Box::new(frr::Frr::start(namespace, sessions, manner)),
            Kind::Gobgp => Box::new(gobgp::Gobgp::start(namespace, sessions, manner)),
        }
    }
}

impl Session {
    /// The families' names, of which `ipv4` and `ipv6` are what BIRD and FRR call them.
    pub fn families(&self) -> impl Iterator<Item = &'static str> {
        [(self.ipv4, "ipv4"), (self.ipv6, "ipv6")].into_iter().filter(|(on, _)| *on).map(|(_, name)| name)
    }
}

/// The path of a file in `dir`, as an argument.
fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Bits per second from the low half of a link bandwidth community: octets per second as an IEEE 754 number.
fn bits_per_second(octets: f64) -> f64 {
    octets * 8.0
}
