//! The steering core: from check results and traffic's failures to which backends take connections and which routes are
//! announced. Pure: it takes what happened and the time, and hands out [`Effects`]; `task` is its driver.
//!
//! Owns the health book, every VIP's life cycle and the journal. One chain per decision, each link an event that names
//! its cause: check failed → backend down → service short → VIP changed → UPDATE sent → acknowledged.
#![deny(clippy::disallowed_methods)]

mod peers;
mod routes;
pub mod task;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::RouteSet;
use config::{Backend, BackendId, Config, Name, Service};
use health::{Book, Epoch, Health, Report, ServiceHealth, Target, Transition, VipHealth, evaluate};
use lb_core::Eligible;

use crate::events::{Event, EventId, EventKind, Journal};
use crate::vip::life_cycle::{Input, LifeCycle, Phase};

/// A data-plane thread that has not turned its loop for this long serves nobody: the VIPs are withdrawn.
pub const STALL_BOUND: Duration = Duration::from_secs(3);

/// What is to be done about what happened. All of it, in this order.
#[derive(Debug, Default)]
pub struct Effects {
    pub eligible: Vec<(BackendId, Eligible)>,
    /// Set when the routes to announce have changed.
    pub desired: Option<Arc<RouteSet>>,
    /// VIPs that entered a phase, for the host to work towards the next.
    pub entered: Vec<Entered>,
    pub events: Vec<Event>,
}

/// A VIP has entered a phase of its life cycle.
#[derive(Debug, Clone, Copy)]
pub struct Entered {
    pub address: IpAddr,
    pub phase: Phase,
    /// While draining: when all is to be over.
    pub deadline: Instant,
}

struct VipState {
    config: config::Vip,
    life_cycle: LifeCycle,
    since: Instant,
    /// What its health amounts to, in words.
    health: String,
    /// Why it is on its way up or down, in words.
    way: String,
    /// Counts once it drains.
    deadline: Instant,
    /// The newest event about it: the cause of what the host brings about next.
    last_event: EventId,
}

/// How many backends a service had and needed when it was last judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    healthy: u32,
    short: bool,
}

pub struct Steer {
    config: Arc<Config>,
    book: Book,
    vips: BTreeMap<IpAddr, VipState>,
    tallies: BTreeMap<Name, Tally>,
    /// What the data plane has been told.
    told: HashMap<BackendId, Eligible>,
    plane_stalled: bool,
    draining: bool,
    /// What was noted about each peer lately, so that a peer cannot flood the journal.
    noted: BTreeMap<Name, peers::Notes>,
    /// The event of the newest UPDATE to each peer, by the version of its routes.
    sent: BTreeMap<Name, (u64, EventId)>,
    routes: Arc<RouteSet>,
    /// The newest change of a VIP that no decision about routes names yet.
    last_vip_change: Option<EventId>,
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
            draining: false,
            noted: BTreeMap::new(),
            sent: BTreeMap::new(),
            routes: Arc::new(RouteSet::empty(now)),
            last_vip_change: None,
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
                    known.config = vip.clone();
                    known.life_cycle.set_policy(vip, now);
                    let leaves = matches!(known.life_cycle.phase(), Phase::Withdrawn | Phase::Quiet);
                    if leaves && !self.draining {
                        self.vip_input(vip.address, Input::Undrain, "configured again", cause, now);
                    }
                }
                None => self.add_vip(vip, now),
            }
        }
        let gone: Vec<IpAddr> =
            self.vips.keys().filter(|a| config.vips.iter().all(|v| v.address != **a)).copied().collect();
        let meant: Vec<IpAddr> = if self.draining { self.vips.keys().copied().collect() } else { gone };
        for address in meant {
            let why = if self.draining { "planned stop" } else { "no longer configured" };
            self.drain_vip(address, now + config.global.drain_timeout, why, cause, now);
        }
        self.judge(cause, now);
        checks
    }

    /// The host has done what a VIP's life cycle wanted.
    pub fn vip(&mut self, address: IpAddr, input: Input, why: &str, now: Instant) {
        let cause = self.vips.get(&address).map_or(EventId::NONE, |vip| vip.last_event);
        self.vip_input(address, input, why, cause, now);
        let is_over = self.vips.get(&address).is_some_and(|v| v.life_cycle.phase() == Phase::AddressDown);
        if is_over && !self.draining {
            self.vips.remove(&address);
            // Configured again while it was on its way out?
            let config = Arc::clone(&self.config);
            if let Some(vip) = config.vips.iter().find(|v| v.address == address) {
                self.add_vip(vip, now);
            }
        }
        self.judge(EventId::NONE, now);
    }

    /// The host cannot yet bring about what a VIP's phase asks for.
    pub fn vip_waits(&mut self, address: IpAddr, why: String) {
        if let Some(vip) = self.vips.get_mut(&address) {
            vip.way = why;
        }
    }

    /// A planned stop has begun; all is to be over by `deadline`.
    pub fn drain(&mut self, why: &str, deadline: Instant, now: Instant) {
        self.draining = true;
        let cause = self.journal.record(now, EventKind::Draining, "", why, EventId::NONE);
        let all: Vec<IpAddr> = self.vips.keys().copied().collect();
        for address in all {
            self.drain_vip(address, deadline, why, cause, now);
        }
        self.decide_routes(cause, now);
    }

    pub fn report(&mut self, report: &Report, now: Instant) {
        let was_stale = self.book.get(&report.id).is_some_and(health::Entry::is_stale);
        let transition = self.book.record(report);
        self.take_transition(transition, was_stale, report.at.min(now));
    }

    /// Live traffic could not reach a backend.
    pub fn connect_failed(&mut self, id: &BackendId, detail: &str, now: Instant) {
        let transition = self.book.connect_failed(id, detail, now);
        self.take_transition(transition, false, now);
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
        let vips = self.vips.values().filter_map(|v| v.life_cycle.poll_timeout());
        vips.chain(self.book.poll_timeout()).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let mut cause = EventId::NONE;
        for transition in self.book.handle_timeout(now) {
            cause = self.record_transition(&transition, now);
        }
        for vip in self.vips.values_mut() {
            let before = vip.life_cycle.phase();
            vip.life_cycle.handle_timeout(now);
            let changed =
                vip.note_change(before, "healthy for announce_delay", cause, now, &mut self.journal);
            self.last_vip_change = changed.or(self.last_vip_change);
            self.effects.entered.extend(changed.map(|_| vip.entered()));
        }
        self.judge(cause, now);
    }

    /// What is to be done since this was last called.
    pub fn take_effects(&mut self) -> Effects {
        self.effects.events = self.journal.take_fresh();
        std::mem::take(&mut self.effects)
    }

    fn add_vip(&mut self, vip: &config::Vip, now: Instant) {
        let state = VipState {
            config: vip.clone(),
            life_cycle: LifeCycle::new(vip),
            since: now,
            health: "not checked yet".into(),
            way: "just configured".into(),
            deadline: now,
            last_event: EventId::NONE,
        };
        self.effects.entered.push(state.entered());
        self.vips.insert(vip.address, state);
    }

    fn drain_vip(&mut self, address: IpAddr, deadline: Instant, why: &str, cause: EventId, now: Instant) {
        let Some(vip) = self.vips.get_mut(&address) else { return };
        match vip.life_cycle.phase() {
            Phase::Withdrawn | Phase::Quiet | Phase::Closed | Phase::AddressDown => return,
            Phase::Init | Phase::AddressUp | Phase::Listening => {}
            Phase::Announced | Phase::Degraded | Phase::LastResort => {}
        }
        vip.deadline = deadline;
        self.vip_input(address, Input::Drain, why, cause, now);
    }

    fn take_transition(&mut self, transition: Option<Transition>, fresh_again: bool, now: Instant) {
        match transition {
            Some(transition) => {
                let cause = self.record_transition(&transition, now);
                self.judge(cause, now);
            }
            None if fresh_again => self.judge(EventId::NONE, now),
            None => {}
        }
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

    /// Draws every conclusion from the book: eligibility, services, VIPs, routes.
    fn judge(&mut self, cause: EventId, now: Instant) {
        let config = Arc::clone(&self.config);
        self.tell_plane(&config);
        let mut short_events = BTreeMap::new();
        let tallies: Vec<ServiceHealth<'_>> =
            config.services.iter().map(|s| ServiceHealth::tally(s, &self.book, usable)).collect();
        for tally in &tallies {
            let id = note_service(&mut self.tallies, &mut self.journal, tally, cause, now);
            short_events.extend(id.map(|id| (tally.name.clone(), id)));
        }
        for vip in &config.vips {
            let serving = serving(&config, vip.address);
            let of_vip: Vec<_> = tallies.iter().filter(|t| serving.contains(&t.name)).copied().collect();
            let verdict = if self.plane_stalled {
                VipHealth::Stale { services: serving.into_iter().cloned().collect() }
            } else {
                evaluate(&of_vip)
            };
            let own_cause =
                of_vip.iter().rev().find_map(|t| short_events.get(t.name).copied()).unwrap_or(cause);
            let why = why(&verdict, &of_vip, self.plane_stalled);
            self.vip_input(vip.address, Input::Health(verdict), &why, own_cause, now);
        }
        self.decide_routes(cause, now);
    }

    fn tell_plane(&mut self, config: &Config) {
        for service in &config.services {
            for backend in &service.backends {
                let id = service.backend_id(backend);
                let up = !backend.disabled && self.book.get(&id).is_some_and(|entry| entry.health().is_up());
                let eligible = if up { Eligible::Yes } else { Eligible::No };
                if self.told.get(&id) != Some(&eligible) {
                    self.told.insert(id.clone(), eligible);
                    self.effects.eligible.push((id, eligible));
                }
            }
        }
    }

    fn vip_input(&mut self, address: IpAddr, input: Input, why: &str, cause: EventId, now: Instant) {
        if let Some(vip) = self.vips.get_mut(&address) {
            let before = vip.life_cycle.phase();
            match &input {
                Input::Health(_) => why.clone_into(&mut vip.health),
                Input::Drain | Input::Undrain | Input::AddressGone => why.clone_into(&mut vip.way),
                Input::AddressReady
                | Input::ListenersReady
                | Input::WithdrawAcked
                | Input::TrafficEnded
                | Input::ConnectionsClosed => {}
            }
            vip.life_cycle.handle(input, now);
            let changed = vip.note_change(before, why, cause, now, &mut self.journal);
            self.last_vip_change = changed.or(self.last_vip_change);
            self.effects.entered.extend(changed.map(|_| vip.entered()));
        }
    }

    fn decide_routes(&mut self, cause: EventId, now: Instant) {
        let wanted = routes::wanted(self.vips.iter().map(|(a, v)| (*a, &v.config, v.life_cycle.desire())));
        if wanted == self.routes.routes {
            return;
        }
        let changed = self.last_vip_change.take().unwrap_or(cause);
        self.routes = Arc::new(RouteSet {
            version: self.routes.version + 1,
            decided: now,
            cause: changed.0,
            routes: wanted,
        });
        self.effects.desired = Some(Arc::clone(&self.routes));
    }
}

impl VipState {
    /// Why it is where it is, in words.
    fn reason(&self, now: Instant) -> String {
        let left = self.deadline.saturating_duration_since(now).as_secs_f64();
        let way = &self.way;
        match self.life_cycle.phase() {
            Phase::Listening | Phase::Announced | Phase::Degraded | Phase::LastResort => self.health.clone(),
            Phase::Init | Phase::AddressUp | Phase::AddressDown => way.clone(),
            Phase::Withdrawn => format!("{way}; waits until no new connection arrives"),
            Phase::Quiet => format!("{way}; waits for its connections to end, for {left:.0} s at most"),
            Phase::Closed => format!("{way}; its address goes last"),
        }
    }

    fn entered(&self) -> Entered {
        Entered { address: self.config.address, phase: self.life_cycle.phase(), deadline: self.deadline }
    }

    /// Records that the VIP moved, if it did.
    fn note_change(
        &mut self,
        before: Phase,
        why: &str,
        cause: EventId,
        now: Instant,
        journal: &mut Journal,
    ) -> Option<EventId> {
        let phase = self.life_cycle.phase();
        if before == phase {
            return None;
        }
        self.since = now;
        let text = format!("{} → {}: {why}", before.as_str(), phase.as_str());
        self.last_event =
            journal.record(now, EventKind::VipChanged, self.config.address.to_string(), text, cause);
        Some(self.last_event)
    }
}

/// Whether a backend may take traffic at all.
fn usable(backend: &Backend) -> bool {
    !backend.disabled && backend.weight.as_u16() > 0
}

fn targets(service: &Service) -> impl Iterator<Item = Target> + '_ {
    service.backends.iter().filter(|b| !b.disabled).map(|backend| Target {
        id: service.backend_id(backend),
        address: backend.address.socket_addr(),
        check: service.check.clone(),
        passive: service.passive,
    })
}

/// The names of the services of a VIP.
fn serving(config: &Config, vip: IpAddr) -> Vec<&Name> {
    config.services.iter().filter(|s| s.vips.contains(&vip)).map(|s| &s.name).collect()
}

fn note_service(
    known: &mut BTreeMap<Name, Tally>,
    journal: &mut Journal,
    tally: &ServiceHealth<'_>,
    cause: EventId,
    now: Instant,
) -> Option<EventId> {
    let fresh = Tally { healthy: tally.healthy, short: tally.healthy < tally.min_healthy };
    let before = known.insert(tally.name.clone(), fresh);
    let kind = match (before.map(|t| t.short), fresh.short) {
        (Some(true) | None, false) => EventKind::ServiceWhole,
        (Some(false), true) => EventKind::ServiceShort,
        (Some(true) | None, true) | (Some(false), false) => return None,
    };
    let text = format!("{} of {} backends healthy, needs {}", tally.healthy, tally.total, tally.min_healthy);
    Some(journal.record(now, kind, tally.name.as_str(), text, cause))
}

fn why(verdict: &VipHealth, services: &[ServiceHealth<'_>], plane_stalled: bool) -> String {
    if plane_stalled {
        return "a data-plane thread hangs".into();
    }
    let count = |name: &Name| services.iter().find(|s| s.name == name).map(|s| (s.healthy, s.total));
    match verdict {
        VipHealth::Short { services } | VipHealth::AllDown { services } => {
            let counts =
                services.iter().filter_map(|name| count(name).map(|(h, t)| format!("{name} {h} of {t}")));
            format!("healthy backends: {}", counts.collect::<Vec<_>>().join(", "))
        }
        VipHealth::Healthy | VipHealth::Pending { .. } | VipHealth::Stale { .. } => verdict.to_string(),
    }
}
