//! `/metrics`: the views as Prometheus text. Built anew on each scrape from copies, so that counting costs the data path
//! nothing and a removed service leaves no series behind. Names and labels are documented in docs/metrics.md.

use std::collections::BTreeMap;

use bgp_speaker::bfd::{BfdStatus, Discards, SessionState};
use bgp_speaker::{PeerEvent, PeerState, PeerStatus};
use prometheus::{Encoder, Histogram, HistogramOpts, Opts, Registry, TextEncoder, core::Collector};

use super::view::{ServiceView, Status};
use crate::app::Daemon;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From a millisecond's fraction to the hold time.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 3.0, 10.0];

/// How long what was decided took to reach the peers. Kept over scrapes; observed by the steering task.
pub struct Latencies {
    sent: Histogram,
    acked: Histogram,
    withdraw_acked: Histogram,
}

impl Latencies {
    pub fn new() -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))
        };
        Ok(Latencies {
            sent: histogram(
                "contrail_lb_bgp_update_sent_seconds",
                "From the decision to change routes until the UPDATE was written to a peer's socket.",
            )?,
            acked: histogram(
                "contrail_lb_bgp_update_acked_seconds",
                "From the decision to change routes until a peer's TCP had acknowledged it.",
            )?,
            withdraw_acked: histogram(
                "contrail_lb_bgp_withdraw_acked_seconds",
                "From the writing of an UPDATE that withdraws until a peer's TCP had acknowledged it.",
            )?,
        })
    }

    pub fn observe(&self, event: &PeerEvent) {
        match event {
            PeerEvent::Sent { since_decided, .. } => self.sent.observe(since_decided.as_secs_f64()),
            PeerEvent::Acked { since_decided, since_sent, withdrawn, .. } => {
                self.acked.observe(since_decided.as_secs_f64());
                if *withdrawn > 0 {
                    self.withdraw_acked.observe(since_sent.as_secs_f64());
                }
            }
            PeerEvent::Up { .. }
            | PeerEvent::Down { .. }
            | PeerEvent::AttemptFailed { .. }
            | PeerEvent::RefreshRequested { .. }
            | PeerEvent::GracefulPathsChanged { .. }
            | PeerEvent::BfdUp { .. }
            | PeerEvent::BfdDown { .. }
            | PeerEvent::TaskFailed { .. } => {}
        }
    }
}

/// One scrape.
pub fn render(daemon: &Daemon, status: &Status) -> String {
    let mut page = Page::default();
    process(&mut page, status);
    for vip in &status.vips {
        let labels = [("vip", vip.address.as_str())];
        page.gauge(
            "vip_announced",
            "1 while the VIP's route is to be announced.",
            &labels,
            f64::from(vip.announce != "withdrawn"),
        );
        page.gauge(
            "vip_peers_holding",
            "Peers that have acknowledged the VIP's route.",
            &labels,
            vip.peers_holding as f64,
        );
        page.gauge(
            "vip_other_paths",
            "Paths of other hosts to the VIP that the peers show.",
            &labels,
            vip.other_paths.len() as f64,
        );
    }
    for service in &status.services {
        one_service(&mut page, service);
    }
    let peers = daemon.peers();
    for peer in &peers {
        one_peer(&mut page, peer);
    }
    if let Some(bfd) = peers.iter().find_map(|peer| peer.bfd.as_ref()) {
        bfd_of_all(&mut page, bfd);
    }
    page.encode(daemon)
}

fn process(page: &mut Page, status: &Status) {
    page.gauge("build_info", "Always 1; the version is the label.", &[("version", status.version)], 1.0);
    page.gauge("ready", "1 while every VIP is announced and acknowledged.", &[], f64::from(status.ready));
    page.gauge("uptime_seconds", "Since the start.", &[], status.uptime_seconds);
    page.gauge("connections", "Client connections now.", &[], status.plane.connections as f64);
    page.gauge(
        "max_connections",
        "Client connections at most.",
        &[],
        f64::from(status.plane.max_connections),
    );
    page.gauge(
        "stalest_turn_seconds",
        "How long ago the slowest data-plane thread last turned its loop.",
        &[],
        status.plane.stalest_turn_seconds,
    );
    page.gauge(
        "paused_listeners",
        "Listening sockets that do not accept just now.",
        &[],
        status.plane.paused_listeners as f64,
    );
    page.gauge(
        "data_plane_engine",
        "Always 1; the label says what moves bytes that come in small pieces.",
        &[("engine", status.plane.engine)],
        1.0,
    );
    for (result, count) in [("applied", status.reloads.applied), ("refused", status.reloads.refused)] {
        page.counter("reloads_total", "Reloads by result.", &[("result", result)], count);
    }
}

fn one_service(page: &mut Page, service: &ServiceView) {
    let name = service.name.as_str();
    let own = [("service", name)];
    page.gauge("service_healthy_backends", "Backends that are up.", &own, f64::from(service.healthy));
    page.gauge(
        "service_min_healthy",
        "Fewer than these: the service is short.",
        &own,
        f64::from(service.min_healthy),
    );
    page.gauge("service_connections", "Client connections now.", &own, service.connections as f64);
    if let Some(limit) = service.max_connections {
        page.gauge("service_max_connections", "Client connections at most.", &own, f64::from(limit));
    }
    page.gauge("service_queued", "Clients that wait for a place at a backend.", &own, service.queued as f64);
    page.counter(
        "service_connections_total",
        "Client connections accepted.",
        &own,
        service.connections_total,
    );
    page.counter("service_retries_total", "Connects to a further backend.", &own, service.retries);
    let full = service.tls_handshakes.saturating_sub(service.tls_resumed);
    for (kind, count) in [("full", full), ("resumed", service.tls_resumed)] {
        let labels = [("service", name), ("kind", kind)];
        page.counter(
            "service_tls_handshakes_total",
            "TLS handshakes with clients, completed.",
            &labels,
            count,
        );
    }
    for (direction, bytes) in [("in", service.bytes_in), ("out", service.bytes_out)] {
        let labels = [("service", name), ("direction", direction)];
        page.counter("service_bytes_total", "Bytes relayed: in from clients, out to them.", &labels, bytes);
    }
    for (reason, count) in &service.closes {
        let labels = [("service", name), ("reason", reason)];
        page.counter("service_closes_total", "Ended connections by reason.", &labels, *count);
    }
    for backend in &service.backends {
        let own = [("service", name), ("backend", backend.name.as_str())];
        page.gauge("backend_up", "1 while the backend is up.", &own, f64::from(backend.health == "up"));
        page.gauge(
            "backend_in_use",
            "1 while the backend takes new connections.",
            &own,
            f64::from(backend.in_use),
        );
        page.gauge("backend_connections", "Connections now.", &own, backend.connections as f64);
        if let Some(limit) = backend.max_connections {
            page.gauge("backend_max_connections", "Connections at most.", &own, f64::from(limit));
        }
        page.counter("backend_connections_total", "Connects attempted.", &own, backend.connections_total);
        page.counter(
            "backend_connect_failures_total",
            "Connects that failed.",
            &own,
            backend.connect_failures,
        );
        for (result, count) in [("passed", backend.checks_passed), ("failed", backend.checks_failed)] {
            let labels = [own[0], own[1], ("result", result)];
            page.counter("backend_checks_total", "Active checks by result.", &labels, count);
        }
        for (direction, bytes) in [("in", backend.bytes_in), ("out", backend.bytes_out)] {
            let labels = [own[0], own[1], ("direction", direction)];
            page.counter(
                "backend_bytes_total",
                "Bytes relayed: in to the backend, out from it.",
                &labels,
                bytes,
            );
        }
    }
}

fn one_peer(page: &mut Page, peer: &PeerStatus) {
    let name = peer.name.as_str();
    let own = [("peer", name)];
    let established = peer.state == PeerState::Established;
    page.gauge("bgp_peer_established", "1 while the session is Established.", &own, f64::from(established));
    page.gauge("bgp_peer_routes_sent", "Routes the peer holds from us.", &own, peer.routes_sent as f64);
    page.counter("bgp_peer_flaps_total", "Established sessions lost.", &own, peer.flaps);
    page.counter(
        "bgp_peer_prefixes_dropped_total",
        "Prefixes from the peer; all are dropped.",
        &own,
        peer.prefixes_dropped,
    );
    if let Some(bfd) = &peer.bfd {
        page.gauge(
            "bfd_up",
            "1 while BFD with the peer is Up.",
            &own,
            f64::from(bfd.state == SessionState::Up),
        );
        page.counter("bfd_down_total", "Times BFD left Up because the path failed.", &own, bfd.failures);
        for (direction, count) in [("in", bfd.packets_in), ("out", bfd.packets_out)] {
            let labels = [own[0], ("direction", direction)];
            page.counter("bfd_packets_total", "BFD Control packets.", &labels, count);
        }
    }
    for (direction, counts) in [("in", &peer.messages_in), ("out", &peer.messages_out)] {
        let by_type = [
            ("open", counts.open),
            ("update", counts.update),
            ("notification", counts.notification),
            ("keepalive", counts.keepalive),
            ("route_refresh", counts.route_refresh),
        ];
        for (kind, count) in by_type {
            let labels = [("peer", name), ("direction", direction), ("type", kind)];
            page.counter("bgp_messages_total", "BGP messages.", &labels, count);
        }
    }
}

/// What the BFD thread says of all sessions together.
fn bfd_of_all(page: &mut Page, bfd: &BfdStatus) {
    let real_time = f64::from(bfd.real_time);
    page.gauge("bfd_real_time", "1 while BFD runs at real-time priority.", &[], real_time);
    let Discards { hop_limit, unknown, invalid } = bfd.discarded;
    for (reason, count) in [("hop_limit", hop_limit), ("unknown", unknown), ("invalid", invalid)] {
        page.counter("bfd_discards_total", "BFD packets discarded.", &[("reason", reason)], count);
    }
}

/// Collects samples into families; a family's label names are those of its first sample.
#[derive(Default)]
struct Page {
    gauges: BTreeMap<&'static str, prometheus::GaugeVec>,
    counters: BTreeMap<&'static str, prometheus::IntCounterVec>,
}

impl Page {
    fn gauge(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: f64) {
        if !self.gauges.contains_key(name) {
            let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
            let Ok(family) = prometheus::GaugeVec::new(options(name, help), &names) else { return };
            self.gauges.insert(name, family);
        }
        let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        if let Some(Ok(gauge)) = self.gauges.get(name).map(|f| f.get_metric_with_label_values(&values)) {
            gauge.set(value);
        }
    }

    fn counter(&mut self, name: &'static str, help: &str, labels: &[(&str, &str)], value: u64) {
        if !self.counters.contains_key(name) {
            let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
            let Ok(family) = prometheus::IntCounterVec::new(options(name, help), &names) else { return };
            self.counters.insert(name, family);
        }
        let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        if let Some(Ok(counter)) = self.counters.get(name).map(|f| f.get_metric_with_label_values(&values)) {
            counter.inc_by(value);
        }
    }

    fn encode(self, daemon: &Daemon) -> String {
        let registry = Registry::new();
        let gauges = self.gauges.into_values().map(|f| Box::new(f) as Box<dyn Collector>);
        let counters = self.counters.into_values().map(|f| Box::new(f) as Box<dyn Collector>);
        let Latencies { sent, acked, withdraw_acked } = daemon.latencies();
        let histograms =
            [sent, acked, withdraw_acked].into_iter().map(|h| Box::new(h.clone()) as Box<dyn Collector>);
        for collector in gauges.chain(counters).chain(histograms) {
            // Names are unique by construction: each family is made once.
            let _ = registry.register(collector);
        }
        let mut text = Vec::new();
        match TextEncoder::new().encode(&registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("contrail_lb_{name}"), help)
}
