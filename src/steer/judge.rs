//! Draws the conclusions from the health book: who may take connections, which services are short, what the VIPs are
//! fit for, and so which routes are announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bgp_speaker::RouteSet;
use config::{Backend, Config, Name};
use health::{Entry, ServiceHealth, VipHealth, evaluate};
use ipnet::IpNet;
use lb_core::{Eligible, Standing};

use super::{Steer, routes};
use crate::events::{EventId, EventKind, Journal};
use crate::vip::life_cycle::Input;

/// How many backends a service had and needed when it was last judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) healthy: u32,
    short: bool,
}

impl Steer {
    /// Draws every conclusion from the book: eligibility, services, VIPs, routes.
    pub(super) fn judge(&mut self, cause: EventId, now: Instant) {
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
                let standing = standing(self.book.get(&id).filter(|_| !backend.disabled));
                if self.told.get(&id) != Some(&standing) {
                    self.told.insert(id.clone(), standing);
                    self.effects.standing.push((id, standing));
                }
            }
        }
    }

    pub(super) fn decide_routes(&mut self, cause: EventId, now: Instant) {
        let wanted =
            routes::wanted(self.vips.iter().map(|(a, v)| (*a, v.config(), v.desire())), &self.fellow_names());
        let watched: BTreeSet<IpNet> = self.vips.keys().copied().map(IpNet::from).collect();
        if wanted == self.routes.routes && watched == self.routes.watched {
            return;
        }
        let mut newest = EventId::NONE;
        for address in self.vips.keys() {
            let prefix = IpNet::from(*address);
            if wanted.get(&prefix) == self.routes.routes.get(&prefix) {
                continue;
            }
            let event = self.vips.get(address).map_or(cause, |vip| vip.last_event().max(cause));
            self.route_causes.insert(prefix, event);
            newest = newest.max(event);
        }
        self.routes = Arc::new(RouteSet {
            version: self.routes.version + 1,
            decided: now,
            cause: newest.0,
            routes: wanted,
            watched,
        });
        self.effects.desired = Some(Arc::clone(&self.routes));
    }
}

/// What a backend's health and its agent make of it. One that its agent drains is up and gets no new connection, so that
/// those it has live on whatever `on_down` says.
fn standing(entry: Option<&Entry>) -> Standing {
    let Some(entry) = entry.filter(|entry| entry.health().is_up()) else { return Standing::DOWN };
    let agent = entry.agent;
    let percent = if agent.takes_traffic() { agent.weight_percent.unwrap_or(100) } else { 0 };
    Standing {
        eligible: Eligible::Yes,
        weight_percent: percent.min(100) as u8,
        // An agent's 0 is no limit.
        max_connections: agent.max_connections.map(|limit| if limit == 0 { u32::MAX } else { limit }),
    }
}

/// Whether a backend may take traffic at all.
fn usable(backend: &Backend) -> bool {
    !backend.disabled && backend.weight.as_u16() > 0
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
