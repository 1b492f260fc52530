//! What the routers hold, judged against what was decided and what is really there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp_speaker::PeerEvent;
use bgp_speaker::simulation::{Link, Path};
use config::{Community, Name, PeerSet};

use super::oracle::desired;
use super::world::World;
use crate::steer::Duty;
use crate::vip::life_cycle::Desire;

/// From a decision to the peer's table: what the network takes, twice.
pub const PROPAGATION: Duration = Duration::from_millis(200);
/// How long an address that somebody took off goes unnoticed: it is looked for every second, and the word of it waits behind
/// an answer that may be half a second on its way.
const UNNOTICED: Duration = Duration::from_millis(1600);

/// One peer; while there is trouble with it, what it holds may be old.
pub struct Peer {
    pub link: Link,
    pub name: Name,
    pub trouble_until: Instant,
    /// The newest version of the routes that its TCP has acknowledged on this session.
    acknowledged: u64,
    /// Since when it has a session.
    pub up_since: Option<Instant>,
    /// Since when it holds something else than it should.
    differs_since: BTreeMap<IpAddr, Instant>,
}

impl Peer {
    pub fn new(name: Name, seed: u64, now: Instant) -> Self {
        let link = Link::new(name.clone(), seed, now);
        Peer {
            link,
            name,
            trouble_until: now,
            acknowledged: 0,
            up_since: None,
            differs_since: BTreeMap::new(),
        }
    }

    /// Our speaker tells of it.
    pub fn heard(&mut self, event: &PeerEvent, now: Instant) {
        match event {
            PeerEvent::Up { .. } => self.up_since = Some(now),
            PeerEvent::Acked { version, .. } => self.acknowledged = *version,
            PeerEvent::Down { .. } => self.acknowledged = 0,
            _ => {}
        }
    }

    /// Our speaker is another.
    pub fn forget(&mut self) {
        (self.acknowledged, self.up_since) = (0, None);
    }

    fn gets(&self, peers: &PeerSet) -> bool {
        match peers {
            PeerSet::All => true,
            PeerSet::Named(names) => names.contains(&self.name),
        }
    }
}

impl World {
    /// Invariants 1 and 2 as the routers see them.
    pub fn judge_peers(&mut self) {
        let (now, routes) = (self.now, self.oracle.routes.clone());
        let addresses = [100, 101, 102].map(|host| IpAddr::from([192, 0, 2, host]));
        for peer in &mut self.peers {
            let Some(held) = peer.link.held() else {
                peer.differs_since.clear();
                continue;
            };
            for address in &addresses {
                let held = held_as(held.get(&(*address).into()));
                if held > Desire::Draining || (held > Desire::Withdrawn && self.is_alone) {
                    self.arrivals.insert(*address, now);
                }
                let route = routes.as_ref().and_then(|routes| routes.routes.get(&(*address).into()));
                let is_wanted = route.is_some_and(|route| peer.gets(&route.peers));
                let wanted = routes.as_ref().filter(|_| is_wanted);
                let wanted = wanted.map_or(Desire::Withdrawn, |routes| desired(routes, *address));
                // On the wire they are the same.
                let wanted = if wanted == Desire::Arriving { Desire::LastResort } else { wanted };
                if held == wanted || now < peer.trouble_until {
                    peer.differs_since.remove(address);
                } else {
                    let version = routes.as_ref().map_or(0, |routes| routes.version);
                    assert!(
                        version == 0 || peer.acknowledged != version,
                        "{} has acknowledged that {address} is {wanted:?}, and holds it as {held:?}",
                        peer.name
                    );
                    let since = *peer.differs_since.entry(*address).or_insert(now);
                    assert!(
                        now <= since + PROPAGATION,
                        "{} holds {address} as {held:?}, wanted is {wanted:?}",
                        peer.name
                    );
                }
                if held == Desire::Withdrawn || now < peer.trouble_until {
                    continue;
                }
                let was_stolen =
                    self.stolen.get(address).is_some_and(|at| now <= *at + UNNOTICED + PROPAGATION);
                let excused = was_stolen || self.host.capped.contains(address);
                let there = self.host.addresses.contains(address);
                assert!(
                    there || excused,
                    "{} sends traffic for {address}, which is not on the host",
                    peer.name
                );
                let open = self.host.listening.contains(address);
                assert!(open || excused, "{} sends traffic for {address}, where nothing listens", peer.name);
            }
        }
    }

    /// Whether every peer holds what the state of the world deserves, and the reason if not.
    pub fn is_converged(&self) -> Result<(), String> {
        if !self.is_running || self.duty != Duty::Serving {
            return Err("the process is not serving".into());
        }
        for peer in &self.peers {
            let Some(held) = peer.link.held().filter(|_| peer.link.is_established()) else {
                return Err(format!("no session with {}", peer.name));
            };
            for vip in &self.config.vips {
                let deserved = if peer.gets(&vip.peers) {
                    self.oracle.deserves(vip, self.now)
                } else {
                    Desire::Withdrawn
                };
                let held = held_as(held.get(&vip.address.into()));
                if held != deserved {
                    return Err(format!(
                        "{} holds {} as {held:?}, deserved is {deserved:?}",
                        peer.name, vip.address
                    ));
                }
            }
            if held.len() > self.config.vips.len() {
                return Err(format!("{} holds what is not configured: {:?}", peer.name, held.keys()));
            }
        }
        Ok(())
    }
}

/// As what a peer holds a VIP.
fn held_as(path: Option<&Path>) -> Desire {
    let Some(path) = path else { return Desire::Withdrawn };
    let shuts_down = path.communities.contains(&Community::GRACEFUL_SHUTDOWN.0);
    match (path.med, shuts_down) {
        (100, false) => Desire::Normal,
        (200, false) => Desire::Degraded,
        (200, true) => Desire::Draining,
        (u32::MAX, true) => Desire::LastResort,
        other => panic!("no such route is wanted: {other:?}"),
    }
}
