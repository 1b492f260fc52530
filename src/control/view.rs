//! The state to show, as plain data that serialises: what `status --json` and `/api/v1` print. Field names are an API.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp_speaker::{PeerState, PeerStatus};
use config::{Backend, Config, Service, Vip};
use health::{Agent, Condition};
use ipnet::IpNet;
use lb_core::{BackendStats, PlaneStats, ServiceStats};
use serde::Serialize;

use crate::steer::Duty;
use crate::steer::view::{BackendStanding, SteerView, VipStanding};
use crate::vip::life_cycle::Desire;

/// `status --json`, `/api/v1/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub pid: u32,
    pub uptime_seconds: f64,
    pub config_file: String,
    /// Every VIP is announced and its announcement acknowledged by a router.
    pub ready: bool,
    /// Why not, a sentence each.
    pub not_ready: Vec<String>,
    pub draining: bool,
    pub vips: Vec<VipView>,
    pub services: Vec<ServiceView>,
    pub bgp: BgpSummary,
    pub plane: PlaneView,
    pub reloads: Reloads,
}

/// `/api/v1/vips`.
#[derive(Debug, Clone, Serialize)]
pub struct VipView {
    pub address: String,
    /// False: it is on its way out after a reload.
    pub configured: bool,
    pub interface: Option<String>,
    /// Where it is in its life cycle: `listening`, `announced`, `degraded`, `last_resort`, `withdrawn` …
    pub phase: &'static str,
    pub since_seconds: f64,
    /// What the routers are told: `withdrawn`, `normal`, `degraded`, `last_resort`.
    pub announce: &'static str,
    /// Healthy again, and announced in so many seconds.
    pub announce_in_seconds: Option<f64>,
    /// How long it must be healthy, where that is longer than `announce_delay` because it came and went too often.
    pub held_back_seconds: Option<f64>,
    /// Why it is where it is, in words.
    pub reason: String,
    /// Established peers that have acknowledged the route, and those it is meant for.
    pub peers_holding: usize,
    pub peers_meant: usize,
    /// The paths of other hosts to it, as the peers show them; a peer shows one at most, its best.
    pub other_paths: Vec<OtherPathView>,
    pub services: Vec<String>,
}

/// Another host's path to one of our VIPs.
#[derive(Debug, Clone, Serialize)]
pub struct OtherPathView {
    pub peer: String,
    pub next_hop: Option<String>,
    pub as_path: Vec<u32>,
}

/// `/api/v1/services`.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceView {
    pub name: String,
    pub listen: Vec<String>,
    pub vips: Vec<String>,
    pub required: bool,
    /// `ok`, `short` (fewer than `min_healthy`) or `down` (none).
    pub state: &'static str,
    pub healthy: u32,
    pub min_healthy: u32,
    pub connections: u64,
    /// At most, beyond which clients wait in the kernel's backlog; `null`: no limit of its own.
    pub max_connections: Option<u32>,
    /// Clients that wait for a place at a backend.
    pub queued: u64,
    pub connections_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub retries: u64,
    pub tls_handshakes: u64,
    pub tls_resumed: u64,
    /// Ended connections by reason.
    pub closes: BTreeMap<&'static str, u64>,
    pub backends: Vec<BackendView>,
}

#[derive(Debug, Clone, Serialize)]
pub struct BackendView {
    pub name: String,
    pub address: String,
    /// `up`, `down`, `unknown` (not checked yet) or `disabled`.
    pub health: &'static str,
    pub since_seconds: f64,
    pub weight: u16,
    pub backup: bool,
    /// Takes new connections now.
    pub in_use: bool,
    /// What its agent has said; `null`: nothing, or there is none.
    pub agent: Option<AgentView>,
    pub last_check: Option<CheckView>,
    pub checks_passed: u64,
    pub checks_failed: u64,
    pub connections: u64,
    /// At most, beyond which clients queue, by its agent or the configuration; `null`: no limit.
    pub max_connections: Option<u32>,
    pub connections_total: u64,
    pub connect_failures: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// What a backend's agent has said so far; `null`: nothing about it.
#[derive(Debug, Clone, Serialize)]
pub struct AgentView {
    /// `ready`, `drain` or `maint`.
    pub admin: &'static str,
    /// `up`, `down`, `failed` or `stopped`.
    pub condition: Option<&'static str>,
    /// Of the configured weight.
    pub weight_percent: Option<u16>,
    /// 0: no limit.
    pub max_connections: Option<u32>,
}

impl AgentView {
    fn new(agent: &Agent) -> Option<Self> {
        (*agent != Agent::default()).then(|| AgentView {
            admin: agent.admin.as_str(),
            condition: agent.condition.map(Condition::as_str),
            weight_percent: agent.weight_percent,
            max_connections: agent.max_connections,
        })
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct CheckView {
    pub passed: bool,
    /// What was tried and what came back.
    pub detail: String,
    pub age_seconds: f64,
    pub took_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct BgpSummary {
    pub peers: usize,
    pub established: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct PlaneView {
    pub threads: usize,
    /// What moves bytes that come in small pieces: `io_uring` or `epoll`.
    pub engine: &'static str,
    pub connections: u64,
    pub max_connections: u32,
    /// Listening sockets (one per thread and address) that do not accept just now: at a limit, or out of resources.
    pub paused_listeners: u64,
    pub stalest_turn_seconds: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Reloads {
    pub applied: u64,
    pub refused: u64,
    pub last_error: Option<String>,
}

/// `bgp --json`, `/api/v1/bgp/peers`: what the speaker says, with ages.
#[derive(Debug, Clone, Serialize)]
pub struct PeerView {
    pub since_seconds: f64,
    /// How long BFD has been in its state; `null` without BFD.
    pub bfd_since_seconds: Option<f64>,
    /// Until the session ends unless the peer says something; `null`: that timer does not run, as with those below.
    pub hold_expires_in_seconds: Option<f64>,
    /// Until our next KEEPALIVE.
    pub keepalive_in_seconds: Option<f64>,
    /// Until the next attempt.
    pub retry_in_seconds: Option<f64>,
    #[serde(flatten)]
    pub peer: PeerStatus,
}

impl PeerView {
    pub fn new(peer: PeerStatus, now: Instant) -> Self {
        let age = |since| now.saturating_duration_since(since).as_secs_f64();
        let bfd_since_seconds = peer.bfd.as_ref().map(|bfd| age(bfd.since));
        let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now).as_secs_f64());
        PeerView {
            since_seconds: age(peer.since),
            bfd_since_seconds,
            hold_expires_in_seconds: left(peer.deadlines.hold),
            keepalive_in_seconds: left(peer.deadlines.keepalive),
            retry_in_seconds: left(peer.deadlines.retry),
            peer,
        }
    }
}

/// What is known about the process itself.
pub struct About {
    pub uptime: Duration,
    pub config_file: String,
    pub reloads: Reloads,
    pub stalest_turn: Duration,
}

/// Puts the pieces together.
pub fn status(
    about: About,
    config: &Config,
    steer: &SteerView,
    plane: &PlaneStats,
    peers: &[PeerStatus],
) -> Status {
    let mut vips: Vec<VipView> = config.vips.iter().map(|vip| vip_view(vip, config, steer, peers)).collect();
    let leaving = steer.vips.iter().filter(|(address, _)| config.vips.iter().all(|v| v.address != **address));
    vips.extend(leaving.map(|(address, standing)| leaving_view(*address, standing)));
    let not_ready = not_ready(vips.iter().filter(|vip| vip.configured));
    let established = peers.iter().filter(|p| p.state == PeerState::Established).count();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        uptime_seconds: about.uptime.as_secs_f64(),
        config_file: about.config_file,
        ready: not_ready.is_empty() && steer.duty == Duty::Serving,
        not_ready,
        draining: steer.duty != Duty::Serving,
        services: config.services.iter().map(|s| service_view(s, steer, plane)).collect(),
        vips,
        bgp: BgpSummary { peers: peers.len(), established },
        plane: PlaneView {
            threads: plane.workers,
            engine: if plane.ringed_workers == plane.workers as u64 { "io_uring" } else { "epoll" },
            connections: plane.active,
            max_connections: plane.max_connections,
            paused_listeners: plane.paused_listeners,
            stalest_turn_seconds: about.stalest_turn.as_secs_f64(),
        },
        reloads: about.reloads,
    }
}

fn not_ready<'a>(vips: impl Iterator<Item = &'a VipView>) -> Vec<String> {
    vips.filter_map(|vip| {
        if let ("withdrawn", Some(seconds)) = (vip.announce, vip.announce_in_seconds) {
            Some(format!("VIP {} is healthy and announced in {seconds:.1} s (announce_delay)", vip.address))
        } else if vip.announce == "withdrawn" {
            Some(format!("VIP {} is not announced: {}", vip.address, vip.reason))
        } else if vip.peers_holding == 0 && vip.peers_meant > 0 {
            Some(format!("VIP {}: none of its {} BGP peers has the route", vip.address, vip.peers_meant))
        } else {
            None
        }
    })
    .collect()
}

fn vip_view(vip: &Vip, config: &Config, steer: &SteerView, peers: &[PeerStatus]) -> VipView {
    let standing = steer.vips.get(&vip.address);
    let desire = standing.map_or(Desire::Withdrawn, |s| s.desire);
    let meant: Vec<&PeerStatus> = peers.iter().filter(|p| vip.peers.contains(&p.name)).collect();
    let holds = |peer: &PeerStatus| {
        desire != Desire::Withdrawn
            && peer.state == PeerState::Established
            && peer.version_acknowledged >= steer.routes_version
            && peer.unannounced.iter().all(|u| u.prefix.addr() != vip.address)
    };
    VipView {
        address: vip.address.to_string(),
        configured: true,
        interface: vip.interface.clone(),
        phase: standing.map_or("init", |s| s.phase),
        since_seconds: standing.map_or(0.0, |s| s.age.as_secs_f64()),
        announce: desire.as_str(),
        announce_in_seconds: standing.and_then(|s| s.announce_in).map(|d| d.as_secs_f64()),
        held_back_seconds: standing.and_then(|s| s.held_back).map(|d| d.as_secs_f64()),
        reason: format!(
            "{}{}",
            standing.map_or("", |s| s.reason.as_str()),
            if meant.is_empty() { "; no BGP peer is configured for it" } else { "" }
        ),
        peers_holding: meant.iter().filter(|p| holds(p)).count(),
        peers_meant: meant.len(),
        other_paths: other_paths(vip.address, peers),
        services: config
            .services
            .iter()
            .filter(|s| s.vips.contains(&vip.address))
            .map(|s| s.name.to_string())
            .collect(),
    }
}

fn other_paths(vip: IpAddr, peers: &[PeerStatus]) -> Vec<OtherPathView> {
    let shown = peers.iter().flat_map(|peer| peer.paths.iter().map(move |path| (peer, path)));
    shown
        .filter(|(_, path)| path.prefix == IpNet::from(vip))
        .map(|(peer, path)| OtherPathView {
            peer: peer.name.to_string(),
            next_hop: path.next_hop.map(|hop| hop.to_string()),
            as_path: path.as_path.clone(),
        })
        .collect()
}

/// A VIP that is no longer configured and not gone yet.
fn leaving_view(address: IpAddr, standing: &VipStanding) -> VipView {
    VipView {
        address: address.to_string(),
        configured: false,
        interface: None,
        phase: standing.phase,
        since_seconds: standing.age.as_secs_f64(),
        announce: standing.desire.as_str(),
        announce_in_seconds: None,
        held_back_seconds: None,
        reason: standing.reason.clone(),
        peers_holding: 0,
        peers_meant: 0,
        other_paths: Vec::new(),
        services: Vec::new(),
    }
}

fn service_view(service: &Service, steer: &SteerView, plane: &PlaneStats) -> ServiceView {
    let stats = plane.services.iter().find(|s| s.name == service.name);
    let healthy = steer.healthy.get(&service.name).copied().unwrap_or(0);
    let sum = |field: fn(&ServiceStats) -> u64| stats.map_or(0, field);
    ServiceView {
        name: service.name.to_string(),
        listen: service.listen.iter().map(ToString::to_string).collect(),
        vips: service.vips.iter().map(ToString::to_string).collect(),
        required: service.required,
        state: match healthy {
            0 => "down",
            n if n < service.min_healthy => "short",
            _ => "ok",
        },
        healthy,
        min_healthy: service.min_healthy,
        connections: sum(|s| s.active),
        max_connections: stats.and_then(|s| s.max_connections),
        queued: sum(|s| s.queued),
        connections_total: sum(|s| s.accepted),
        bytes_in: sum(|s| s.bytes_in),
        bytes_out: sum(|s| s.bytes_out),
        retries: sum(|s| s.retries),
        tls_handshakes: sum(|s| s.tls_handshakes),
        tls_resumed: sum(|s| s.tls_resumed),
        closes: stats
            .into_iter()
            .flat_map(|s| s.closes.iter())
            .map(|(reason, n)| (reason.as_str(), n))
            .collect(),
        backends: service.backends.iter().map(|b| backend_view(service, b, steer, stats)).collect(),
    }
}

fn backend_view(
    service: &Service,
    backend: &Backend,
    steer: &SteerView,
    stats: Option<&ServiceStats>,
) -> BackendView {
    let id = service.backend_id(backend);
    let standing = steer.backends.get(&id);
    let stats = stats.and_then(|s| s.backends.iter().find(|b| b.id == id));
    let sum = |field: fn(&BackendStats) -> u64| stats.map_or(0, field);
    BackendView {
        name: backend.name.to_string(),
        address: backend.address.to_string(),
        health: if backend.disabled { "disabled" } else { standing.map_or("unknown", |s| s.health) },
        since_seconds: standing.map_or(0.0, |s| s.age.as_secs_f64()),
        weight: backend.weight.as_u16(),
        backup: backend.backup,
        in_use: backend.weight.as_u16() > 0 && stats.is_some_and(|b| b.standing.takes_connections()),
        agent: standing.and_then(|s| AgentView::new(&s.agent)),
        last_check: standing.and_then(check_view),
        checks_passed: standing.map_or(0, |s| s.checks_passed),
        checks_failed: standing.map_or(0, |s| s.checks_failed),
        connections: sum(|b| b.active),
        max_connections: stats.and_then(|b| b.max_connections).filter(|limit| *limit != u32::MAX),
        connections_total: sum(|b| b.connects),
        connect_failures: sum(|b| b.connect_failures),
        bytes_in: sum(|b| b.bytes_in),
        bytes_out: sum(|b| b.bytes_out),
    }
}

fn check_view(standing: &BackendStanding) -> Option<CheckView> {
    let (outcome, age) = standing.last.as_ref()?;
    Some(CheckView {
        passed: standing.last_passed(),
        detail: outcome.detail.clone(),
        age_seconds: age.as_secs_f64(),
        took_ms: outcome.took.as_secs_f64() * 1e3,
    })
}
