//! The rules, from the documentation and not from the code that is judged by them: what a VIP's services amount to, what
//! that allows, where its life cycle may go, what may begin a chain of events.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use config::{BackendId, Config, OnAllDown, OnShort, Service, Vip};

use super::shadow::Shadow;
use crate::events::EventKind;
use crate::vip::life_cycle::{Desire, Phase};

/// What a VIP's services amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    Healthy,
    Pending { is_short: bool },
    Short,
    AllDown,
    Stale,
}

impl Fitness {
    /// The best route that it allows, with `current` being announced.
    pub fn allows(self, vip: &Vip, current: Desire) -> Desire {
        let short = match vip.on_short {
            OnShort::Degrade => Desire::Degraded,
            OnShort::Withdraw => Desire::Withdrawn,
        };
        match self {
            Fitness::Healthy => Desire::Normal,
            Fitness::Pending { is_short: false } => current,
            Fitness::Pending { is_short: true } => current.min(short),
            Fitness::Short => short,
            Fitness::AllDown if vip.on_all_down == OnAllDown::LastResort => Desire::LastResort,
            Fitness::AllDown if vip.on_all_down == OnAllDown::Hold => current,
            Fitness::AllDown | Fitness::Stale => Desire::Withdrawn,
        }
    }

    pub fn leaves_as_it_is(self, vip: &Vip) -> bool {
        match self {
            Fitness::Pending { .. } => true,
            Fitness::AllDown => vip.on_all_down == OnAllDown::Hold,
            Fitness::Healthy | Fitness::Short | Fitness::Stale => false,
        }
    }
}

impl EventKind {
    /// Whether such an event may be the first of a chain that moves a VIP.
    pub fn begins(self) -> bool {
        match self {
            EventKind::ConfigurationApplied | EventKind::BackendUp | EventKind::BackendDown => true,
            EventKind::CheckStale | EventKind::CheckFresh | EventKind::AgentSaid => true,
            EventKind::PlaneStalled | EventKind::PlaneTurning => true,
            EventKind::Draining | EventKind::Undrained | EventKind::Released => true,
            EventKind::VipChanged | EventKind::ServiceShort | EventKind::ServiceWhole => false,
            EventKind::TrafficEnded | EventKind::UpdateSent => false,
            EventKind::UpdateAcknowledged | EventKind::PeerUp | EventKind::PeerDown => false,
            EventKind::PeerNote | EventKind::BfdUp | EventKind::BfdDown => false,
        }
    }
}

pub fn fitness(config: &Config, vip: &Vip, backends: &BTreeMap<BackendId, Shadow>, now: Instant) -> Fitness {
    let of_vip: Vec<&Service> = config.services.iter().filter(|s| s.vips.contains(&vip.address)).collect();
    let any_required = of_vip.iter().any(|service| service.required);
    let counted = of_vip.into_iter().filter(|service| service.required || !any_required);
    let all: Vec<Fitness> = counted.map(|service| service_fitness(service, backends, now)).collect();
    let has = |wanted: fn(&Fitness) -> bool| all.iter().any(wanted);
    let is_short = has(|f| matches!(f, Fitness::Short | Fitness::AllDown));
    if !any_required && has(|f| *f == Fitness::Healthy) {
        return Fitness::Healthy;
    }
    if has(|f| *f == Fitness::Stale) && (any_required || !has(|f| matches!(f, Fitness::Pending { .. }))) {
        Fitness::Stale
    } else if has(|f| matches!(f, Fitness::Pending { .. })) {
        Fitness::Pending { is_short: is_short && any_required }
    } else if !is_short {
        Fitness::Healthy
    } else if all.iter().all(|f| *f == Fitness::AllDown) {
        Fitness::AllDown
    } else {
        Fitness::Short
    }
}

fn service_fitness(service: &Service, backends: &BTreeMap<BackendId, Shadow>, now: Instant) -> Fitness {
    let usable = service.backends.iter().filter(|b| !b.disabled);
    let shadows: Vec<_> = usable.filter_map(|b| backends.get(&service.backend_id(b))).collect();
    let fresh = shadows.iter().filter(|shadow| !shadow.is_stale(now));
    let healthy = fresh.clone().filter(|shadow| shadow.is_up()).count();
    if healthy >= service.min_healthy as usize {
        Fitness::Healthy
    } else if fresh.clone().any(|shadow| !shadow.is_known()) {
        Fitness::Pending { is_short: false }
    } else if !shadows.is_empty() && fresh.count() == 0 {
        Fitness::Stale
    } else if healthy == 0 {
        Fitness::AllDown
    } else {
        Fitness::Short
    }
}

pub fn is_serving(phase: Phase) -> bool {
    matches!(phase, Phase::Listening | Phase::Announced | Phase::Degraded | Phase::LastResort)
}

/// Its address may have to wait for the BGP sessions, all else has its time.
pub fn is_leaving(phase: Phase) -> bool {
    matches!(phase, Phase::Holding | Phase::Draining | Phase::Withdrawn | Phase::Quiet)
}

/// A host that has just begun waits so long for its sessions with fellow hosts.
pub const STARTING: Duration = Duration::from_secs(2);

/// The longest that the fellow hosts are waited for, and the answers that say so.
pub const ARRIVAL: Duration = Duration::from_millis(1500);

/// The edges of the life cycle.
pub fn may_follow(from: Phase, to: Phase) -> bool {
    use Phase::{AddressDown, AddressUp, Arriving, Closed, Draining, Holding, Init, Quiet, Withdrawn};
    match (from, to) {
        (Init, AddressUp) => true,
        // Through Listening, at once where announce_delay is 0.
        (AddressUp, to) if is_serving(to) || to == Arriving => true,
        (Phase::Listening, Arriving) | (Arriving, Init | Withdrawn) => true,
        (Arriving, to) => is_serving(to),
        (Holding, Draining) | (Withdrawn, Quiet) | (Quiet, Closed) | (Closed, AddressDown) => true,
        (from, Holding) => is_serving(from) && from != Phase::Listening,
        (from, Init) => matches!(from, AddressUp | Withdrawn | Quiet | AddressDown) || is_serving(from),
        (from, Withdrawn) => matches!(from, Init | AddressUp | Phase::Listening | Holding | Draining),
        (Holding | Draining, to) => is_serving(to),
        (from, to) => is_serving(from) && is_serving(to),
    }
}
