//! One VIP with one service of two backends, announced to one scripted router: what most tests begin with.

use std::net::SocketAddr;

use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::bgp_peer::BgpPeer;
use crate::common::bgp_wire::Prefix;
use crate::common::configuration::{ROUTER_AS, bgp, bgp_peer, quick_check, vip, vip_service};
use crate::common::daemon::Daemon;
use crate::common::ports::Loopback;
use crate::common::status::{wait_health, wait_phase};

pub const PORT: u16 = 8082;
/// As little delay as there can be, for tests that are about something else.
pub const NO_DELAY: &str = "announce_delay = \"0s\"\n";

/// Where the daemon and its VIP are, each on an address of its own.
pub struct Places {
    pub local: Loopback,
    pub vip: Loopback,
}

impl Places {
    pub fn take() -> Self {
        Places { local: Loopback::take(), vip: Loopback::take() }
    }

    pub fn prefix(&self) -> Prefix {
        Prefix::host(self.vip.ip())
    }

    pub fn front(&self) -> SocketAddr {
        (self.vip.ip(), PORT).into()
    }

    /// One required service `web` on the VIP, announced to `peer`.
    pub fn config(
        &self,
        peer: &BgpPeer,
        vip_keys: &str,
        service_keys: &str,
        backends: &[&Backend],
    ) -> String {
        bgp("")
            + &bgp_peer("tor-a", peer, self.local.ip(), "")
            + &vip(self.vip.ip(), vip_keys)
            + &vip_service("web", self.vip.ip(), PORT, &(quick_check() + service_keys), backends)
    }
}

/// A daemon that has announced its VIP on behalf of backends `a` and `b`.
pub struct Announced {
    pub at: Places,
    pub a: Backend,
    pub b: Backend,
    pub peer: BgpPeer,
    pub daemon: Daemon,
}

pub fn announced(vip_keys: &str, service_keys: &str) -> Announced {
    let at = Places::take();
    let (a, b) = (Backend::http("a", at.local.addr()), Backend::http("b", at.local.addr()));
    let peer = BgpPeer::start(ROUTER_AS);
    let config = at.config(&peer, &format!("{NO_DELAY}{vip_keys}"), service_keys, &[&a, &b]);
    let daemon = Daemon::start(&at.local, &format!("[global]\ndrain_timeout = \"10s\"\n{config}"));
    for backend in ["a", "b"] {
        wait_health(&daemon, "web", backend, "up");
    }
    wait_phase(&daemon, at.vip.ip(), "announced");
    peer.wait_announced(at.prefix(), SOON);
    Announced { at, a, b, peer, daemon }
}
