//! The steering core: from check results and traffic's failures to which backends take connections and which routes are
//! announced. Pure: it takes what happened and the time, and hands out [`Effects`]; `task` is its driver.
//!
//! Owns the health book, every VIP's life cycle and the journal. One chain per decision, each link an event that names
//! its cause: check failed → backend down → service short → VIP changed → UPDATE sent → acknowledged. `vips` is what
//! happens to VIPs, `judge` draws the conclusions from the book, `peers`, `others` and `fellows` hear from BGP, `why` tells the
//! chain.
#![deny(clippy::disallowed_methods)]

mod fellows;
mod judge;
pub mod others;
mod peers;
mod routes;
pub mod task;
#[cfg(test)]
mod tests;
pub mod view;
pub mod vips;
pub mod why;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::RouteSet;
use config::{BackendId, Config, Name, Service};
use health::{Book, Epoch, Health, Report, Target, Transition};
use ipnet::IpNet;
use lb_core::Standing;

pub use self::fellows::Door;
use self::judge::Tally;
pub use self::vips::Entered;
use self::vips::VipState;
use crate::events::{Event, EventId, EventKind, Journal};
use crate::vip::life_cycle::{Input, Phase};

/// A data-plane thread that has not turned its loop for this long serves nobody: the VIPs are withdrawn.
pub const STALL_BOUND: Duration = Duration::from_secs(3);

/// A result that lay around for longer is told of as it is taken in, not as it was measured.
const LATE: Duration = Duration::from_millis(100);

/// What is to be done about what happened. All of it, in this order.
#[derive(Debug, Default)]
pub struct Effects {
    pub standing: Vec<(BackendId, Standing)>,
    /// How often these are to be checked from now on.
    pub intervals: Vec<(BackendId, Duration)>,
    /// Set when the routes to announce have changed.
    pub desired: Option<Arc<RouteSet>>,
    /// VIPs that entered a phase, for the host to work towards the next.
    pub entered: Vec<Entered>,
    /// VIPs whose newcomers are to wait for a fellow host, or no longer.
    pub doors: Vec<(IpAddr, Door)>,
    pub events: Vec<Event>,
}

/// Whether this host is meant to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Serving,
    /// Until an operator says otherwise.
    Drained,
    /// The process ends: there is no way back.
    Stopping,
}

pub struct Steer {
    config: Arc<Config>,
    book: Book,
    vips: BTreeMap<IpAddr, VipState>,
    tallies: BTreeMap<Name, Tally>,
    /// What the data plane has been told.
    told: HashMap<BackendId, Standing>,
    plane_stalled: bool,
    duty: Duty,
    others: others::Others,
    fellows: fellows::Fellows,
    /// What BGP peers have said and been told.
    peers: BTreeMap<Name, peers::Heard>,
    routes: Arc<RouteSet>,
    /// The event that made each route what it is.
    route_causes: BTreeMap<IpNet, EventId>,
    journal: Journal,
    effects: Effects,
}

impl Steer {
    /// Nothing is known and nothing announced until [`Steer::configure`].
    pub fn new(now: Instant) -> Self {
        let nothing = Config {
            global: config::Global {
                threads: None,
                max_connections: None,
                engine: config::Engine::Auto,
                drain_timeout: Duration::ZERO,
                log: config::Log {
                    level: config::LogLevel::Info,
                    format: config::LogFormat::Text,
                    target: config::LogTarget::Stderr,
                    access: config::AccessLog::Off,
                },
            },
            admin: config::Admin { socket: None, listen: None, auth: None },
            bgp: None,
            vips: Vec::new(),
            services: Vec::new(),
        };
        Steer {
            config: Arc::new(nothing),
            book: Book::new(),
            vips: BTreeMap::new(),
            tallies: BTreeMap::new(),
            told: HashMap::new(),
            plane_stalled: false,
            duty: Duty::Serving,
            others: others::Others::default(),
            fellows: fellows::Fellows::new(now),
            peers: BTreeMap::new(),
            routes: Arc::new(RouteSet::empty(now)),
            route_causes: BTreeMap::new(),
            journal: Journal::default(),
            effects: Effects::default(),
        }
    }

    /// Takes over a configuration and answers what the monitor is to check. VIPs that are gone are drained: they are
    /// withdrawn now and forgotten once their address is off the host.
    pub fn configure(&mut self, config: Arc<Config>, what: &str, now: Instant) -> Vec<(Target, Epoch)> {
        let cause = self.journal.record(now, EventKind::ConfigurationApplied, "", what, EventId::NONE);
        self.config = Arc::clone(&config);
        let targets: Vec<Target> = config.services.iter().flat_map(targets).collect();
        let checks = self.book.reconcile(&targets, now);
        self.told.clear(); // the plane may have taken over new backends
        self.tallies.retain(|name, _| config.services.iter().any(|s| s.name == *name));
        for vip in &config.vips {
            match self.vips.get_mut(&vip.address) {
                Some(known) => {
                    known.reconfigure(vip, now);
                    let leaves = known.life_cycle().phase().is_leaving();
                    if leaves && self.duty == Duty::Serving {
                        self.vip_input(vip.address, Input::Undrain, "configured again", cause, now);
                    }
                }
                None => self.add_vip(vip, cause, now),
            }
        }
        let gone = |address: &IpAddr| config.vips.iter().all(|v| v.address != *address);
        let (meant, why): (Vec<IpAddr>, _) = match self.duty {
            Duty::Serving => (self.vips.keys().copied().filter(gone).collect(), "no longer configured"),
            Duty::Drained => (self.vips.keys().copied().collect(), "this host is drained"),
            Duty::Stopping => (self.vips.keys().copied().collect(), "planned stop"),
        };
        for address in meant {
            self.drain_vip(address, now + config.global.drain_timeout, why, cause, now);
        }
        self.vips.retain(|address, vip| !gone(address) || vip.life_cycle().phase() != Phase::AddressDown);
        let peers = config.bgp.as_ref().map_or(&[][..], |bgp| &bgp.peers);
        self.peers.retain(|name, _| peers.iter().any(|peer| peer.name == *name));
        self.know_fellows();
        self.judge(cause, now);
        checks
    }

    pub fn report(&mut self, report: &Report, now: Instant) {
        let before = self.book.get(&report.id).map(|entry| (entry.is_stale(), entry.agent));
        let transition = self.book.record(report);
        let after = self.book.get(&report.id).map(|entry| (entry.is_stale(), entry.agent));
        // One that lay around is news now, as in the log.
        let lay_around = now.saturating_duration_since(report.at);
        let at = if lay_around > LATE { now } else { report.at.min(now) };
        let mut note = |kind, text| self.journal.record(at, kind, report.id.to_string(), text, EventId::NONE);
        let cause = match (transition, before, after) {
            (Some(transition), _, _) => self.record_transition(&transition, at),
            (None, Some((true, _)), Some((false, _))) => {
                note(EventKind::CheckFresh, "check results come again")
            }
            (None, Some((_, was)), Some((_, is))) if was != is => {
                note(EventKind::AgentSaid, &report.outcome.detail)
            }
            (None, _, _) => return,
        };
        // A result that lay around is old, and what follows from it begins now.
        self.judge(cause, now);
    }

    /// Live traffic could not reach a backend.
    pub fn connect_failed(&mut self, id: &BackendId, detail: &str, now: Instant) {
        if let Some(transition) = self.book.connect_failed(id, detail, now) {
            let cause = self.record_transition(&transition, now);
            self.judge(cause, now);
        }
    }

    /// How long ago the slowest data-plane thread last turned its loop.
    pub fn plane_turned(&mut self, ago: Duration, now: Instant) {
        let stalled = ago > STALL_BOUND;
        if stalled == self.plane_stalled {
            return;
        }
        self.plane_stalled = stalled;
        let (kind, text) = if stalled {
            (EventKind::PlaneStalled, format!("a data-plane thread has not turned its loop for {ago:.1?}"))
        } else {
            (EventKind::PlaneTurning, "every data-plane thread turns again".to_owned())
        };
        let cause = self.journal.record(now, kind, "data plane", text, EventId::NONE);
        self.judge(cause, now);
    }

    /// When [`Steer::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let vips = self.vips.values().filter_map(|v| v.life_cycle().poll_timeout());
        vips.chain(self.book.poll_timeout()).chain(self.fellows.poll_timeout()).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let fresh: Vec<BackendId> =
            self.book.iter().filter(|e| !e.is_stale()).map(|e| e.target.id.clone()).collect();
        let mut cause = EventId::NONE;
        for transition in self.book.handle_timeout(now) {
            cause = self.record_transition(&transition, now);
        }
        for id in fresh.iter().filter(|id| self.book.get(id).is_some_and(health::Entry::is_stale)) {
            let text = "no check result for too long: the checker hangs";
            cause = self.journal.record(now, EventKind::CheckStale, id.to_string(), text, EventId::NONE);
        }
        if cause != EventId::NONE {
            // What has grown stale comes first: no route is raised on it.
            self.judge(cause, now);
        }
        self.end_waits(now);
        self.raise_earned(now);
        self.judge(cause, now);
    }

    /// What is to be done since this was last called.
    pub fn take_effects(&mut self) -> Effects {
        self.effects.events = self.journal.take_fresh();
        self.effects.intervals = self.book.take_intervals();
        std::mem::take(&mut self.effects)
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    fn record_transition(&mut self, transition: &Transition, now: Instant) -> EventId {
        let kind = match transition.to {
            Health::Up => EventKind::BackendUp,
            Health::Down | Health::Unknown => EventKind::BackendDown,
        };
        let Transition { from, to, reason, failing_since, .. } = transition;
        let since = failing_since.map_or_else(String::new, |since| {
            format!("; failing for {:.1} s", now.saturating_duration_since(since).as_secs_f64())
        });
        let text = format!("{} → {}: {reason}{since}", from.as_str(), to.as_str());
        self.journal.record(now, kind, transition.id.to_string(), text, EventId::NONE)
    }
}

fn targets(service: &Service) -> impl Iterator<Item = Target> + '_ {
    service.backends.iter().filter(|b| !b.disabled).map(|backend| Target::of(service, backend))
}
