//! Fellow hosts: the others of the cluster, with which this host has sessions of its own (`[[bgp.peer]] fellow`). Pure.
//!
//! A router that gets one more way to a VIP moves some of the flows that are in the middle there, and their new host resets
//! them. So a host that is about to announce a VIP tells its fellows first, with a path that carries GRACEFUL_SHUTDOWN and
//! goes to nobody else ([`Phase::Arriving`]). Whoever hears that lets newcomers wait: short connections end, the route
//! moves, and what was not answered asks again after a second and goes where the route leads.
//!
//! A fellow can do no more with that than to make newcomers wait for [`LONGEST`] every [`AGAIN`].
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::Name;

use super::Steer;
use super::others::Session;
use crate::events::{EventId, EventKind};
use crate::vip::life_cycle::Phase;

/// Newcomers wait no longer than this for a fellow, whatever it does: a SYN that is dropped comes again after 1 s.
const LONGEST: Duration = Duration::from_millis(900);
/// What a router takes, at most, from the UPDATE to its forwarding table.
const ROUTER_GRACE: Duration = Duration::from_millis(300);
/// A host that has just started waits so long for its sessions with its fellows before it announces anything: whoever is not there by then is not told.
const STARTING: Duration = Duration::from_secs(2);
/// Nor do they wait more often than this.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether newcomers are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Held,
    Open,
}

/// What the peers with a session show, fellows or not: a reload may make one a fellow.
#[derive(Debug)]
pub(super) struct Fellows {
    /// When this host began.
    began: Instant,
    sessions: BTreeMap<Name, Session>,
    waits: BTreeMap<IpAddr, Wait>,
}

/// Newcomers to one VIP wait, or have waited lately.
#[derive(Debug)]
struct Wait {
    /// For whom.
    fellow: Name,
    began: Instant,
    /// `None`: no longer.
    until: Option<Instant>,
}

/// What a fellow shows of a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Coming,
    There,
}

impl Fellows {
    pub(super) fn new(now: Instant) -> Self {
        Fellows { began: now, sessions: BTreeMap::new(), waits: BTreeMap::new() }
    }

    fn shown(&self, fellow: &Name, vip: IpAddr) -> Shown {
        match self.sessions.get(fellow) {
            Some(session) if session.coming.contains(&vip) => Shown::Coming,
            Some(session) if session.vips.contains(&vip) => Shown::There,
            Some(_) | None => Shown::Nothing,
        }
    }

    /// Takes in what the sessions show now. Which VIPs are newly announced, and as on their way only.
    fn hear(&mut self, sessions: BTreeMap<Name, Session>) -> Vec<(Name, IpAddr)> {
        let mut arriving = Vec::new();
        for (name, session) in &sessions {
            let known = self.sessions.get(name).filter(|known| known.since == session.since);
            let new = |vip: &&IpAddr| known.is_none_or(|known| !known.vips.contains(*vip));
            arriving.extend(session.coming.iter().filter(new).map(|vip| (name.clone(), *vip)));
        }
        self.sessions = sessions;
        arriving
    }

    /// It is there: the routers move now. It is gone: there is nothing to wait for.
    fn follow(&mut self, now: Instant) {
        let ends: Vec<(IpAddr, Instant)> = self
            .waits
            .iter()
            .filter_map(|(vip, wait)| match self.shown(&wait.fellow, *vip) {
                Shown::Coming => None,
                Shown::There => Some((*vip, now + ROUTER_GRACE)),
                Shown::Nothing => Some((*vip, now)),
            })
            .collect();
        for (vip, end) in ends {
            if let Some(until) = self.waits.get_mut(&vip).and_then(|wait| wait.until.as_mut()) {
                *until = end.min(*until);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waits.values().filter_map(|wait| wait.until).min()
    }

    /// VIPs for which the time to wait is over.
    fn over(&mut self, now: Instant) -> Vec<IpAddr> {
        self.waits.retain(|_, wait| wait.until.is_some() || now < wait.began + AGAIN);
        let mut over = Vec::new();
        for (vip, wait) in &mut self.waits {
            if wait.until.is_some_and(|until| until <= now) {
                wait.until = None;
                over.push(*vip);
            }
        }
        over
    }
}

impl Steer {
    /// The names of the configured fellows.
    pub(super) fn fellow_names(&self) -> BTreeSet<Name> {
        let peers = self.config.bgp.iter().flat_map(|bgp| &bgp.peers);
        peers.filter(|peer| peer.fellow).map(|peer| peer.name.clone()).collect()
    }

    /// Takes in what the sessions show.
    pub(super) fn hear_fellows(&mut self, sessions: &[Session], now: Instant) {
        let names = self.fellow_names();
        let by_name = sessions.iter().map(|session| (session.peer.clone(), session.clone())).collect();
        let arriving = self.fellows.hear(by_name);
        self.know_fellows();
        for (fellow, vip) in arriving.into_iter().filter(|(peer, _)| names.contains(peer)) {
            self.wait_for(fellow, vip, now);
        }
        self.fellows.follow(now);
        self.end_waits(now);
    }

    /// Which VIPs have a fellow with a session, as of now, and which wait for one.
    pub(super) fn know_fellows(&mut self) {
        let (there, missing): (Vec<Name>, Vec<Name>) =
            self.fellow_names().into_iter().partition(|name| self.fellows.sessions.contains_key(name));
        let by = self.fellows.began + STARTING;
        for vip in self.vips.values_mut() {
            let any = |names: &[Name]| names.iter().any(|fellow| vip.config().peers.contains(fellow));
            let (has_fellows, waits) = (any(&there), any(&missing));
            vip.set_fellows(has_fellows, waits.then_some(by));
        }
    }

    /// Lets newcomers to a VIP wait, if it has any and they have not waited just now.
    fn wait_for(&mut self, fellow: Name, address: IpAddr, now: Instant) {
        let phase = self.vips.get(&address).map(|vip| vip.life_cycle().phase());
        let draws = matches!(phase, Some(Phase::Announced | Phase::Degraded | Phase::LastResort));
        if !draws || self.fellows.waits.get(&address).is_some_and(|wait| now < wait.began + AGAIN) {
            return;
        }
        let text = format!("it is about to announce {address}: newcomers wait until the routers have moved");
        self.journal.record(now, EventKind::PeerNote, fellow.as_str(), text, EventId::NONE);
        let wait = Wait { fellow, began: now, until: Some(now + LONGEST) };
        self.fellows.waits.insert(address, wait);
        self.effects.doors.push((address, Door::Held));
    }

    /// Lets in whoever has waited for long enough; a drain that has begun meanwhile sees to that itself.
    pub(super) fn end_waits(&mut self, now: Instant) {
        for address in self.fellows.over(now) {
            if self.vips.get(&address).is_some_and(|vip| !vip.life_cycle().phase().is_leaving()) {
                self.effects.doors.push((address, Door::Open));
            }
        }
    }
}
