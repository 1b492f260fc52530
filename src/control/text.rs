//! Views rendered for people: aligned columns, one screen where possible. Pure: view in, text out.

use std::fmt::Write as _;

use bgp_speaker::bfd::BfdStatus;

use super::view::{BackendView, PeerView, ServiceView, Status, VipView};

/// `contrail-lb status`.
pub fn status(status: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "contrail-lb {} · pid {} · up {} · {} threads · {} of {} connections · {}",
        status.version,
        status.pid,
        age(status.uptime_seconds),
        status.plane.threads,
        status.plane.connections,
        status.plane.max_connections,
        if status.draining {
            "DRAINING"
        } else if status.ready {
            "READY"
        } else {
            "NOT READY"
        },
    );
    for reason in &status.not_ready {
        let _ = writeln!(out, "  ! {reason}");
    }
    if let Some(error) = &status.reloads.last_error {
        let _ = writeln!(out, "  ! the last reload was refused, the earlier configuration is in force:");
        for line in error.lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
    if !status.vips.is_empty() {
        out.push('\n');
        out.push_str(&vips(&status.vips));
    }
    for service in &status.services {
        out.push('\n');
        out.push_str(&service_block(service));
    }
    out
}

fn vips(vips: &[VipView]) -> String {
    let rows = vips.iter().map(|vip| {
        let held_back = if vip.held_back_seconds.is_some() { ", held back" } else { "" };
        let announce = match vip.announce_in_seconds {
            Some(seconds) => format!("{} (in {seconds:.1} s{held_back})", vip.announce),
            None => vip.announce.to_owned(),
        };
        let meant = format!("{}/{}", vip.peers_holding, vip.peers_meant);
        vec![
            vip.address.clone(),
            vip.phase.to_owned(),
            announce,
            age(vip.since_seconds),
            meant,
            vip.reason.clone(),
        ]
    });
    table(&["VIP", "PHASE", "ROUTE", "SINCE", "PEERS", "WHY"], rows)
}

fn service_block(service: &ServiceView) -> String {
    let mut out = format!(
        "{} · {} · {} of {} healthy (needs {}) · {} connections, {} in all\n",
        service.name,
        service.state.to_uppercase(),
        service.healthy,
        service.backends.len(),
        service.min_healthy,
        service.connections,
        service.connections_total,
    );
    let _ = writeln!(out, "  on {}", service.listen.join(", "));
    let rows = service.backends.iter().map(backend_row);
    let header =
        ["  BACKEND", "ADDRESS", "HEALTH", "SINCE", "WEIGHT", "CONNS", "TOTAL", "FAILED", "LAST CHECK"];
    out.push_str(&table(&header, rows));
    out
}

fn backend_row(backend: &BackendView) -> Vec<String> {
    let check = match &backend.last_check {
        Some(check) => format!("{} ({} ago)", check.detail, age(check.age_seconds)),
        None => "-".to_owned(),
    };
    let weight = format!("{}{}", backend.weight, if backend.backup { " backup" } else { "" });
    vec![
        format!("  {}", backend.name),
        backend.address.clone(),
        backend.health.to_uppercase(),
        age(backend.since_seconds),
        weight,
        backend.connections.to_string(),
        backend.connections_total.to_string(),
        backend.connect_failures.to_string(),
        check,
    ]
}

/// `contrail-lb bgp`.
pub fn bgp(peers: &[PeerView]) -> String {
    if peers.is_empty() {
        return "no BGP peer is configured\n".into();
    }
    peers.iter().map(peer_block).collect::<Vec<_>>().join("\n")
}

fn peer_block(view: &PeerView) -> String {
    let PeerView { since_seconds, bfd_since_seconds, peer } = view;
    let mut out = format!(
        "{} · {} AS {} · {} for {}\n",
        peer.name,
        peer.address,
        peer.remote_as,
        peer.state,
        age(*since_seconds)
    );
    if let (Some(local), Some(remote)) = (peer.local_address, peer.remote_address) {
        let _ = writeln!(out, "  connection    {local} → {remote}");
    }
    if let Some(n) = &peer.negotiated {
        let families: Vec<String> = n.families.iter().map(ToString::to_string).collect();
        let hold =
            if n.hold_time == 0 { "never times out".into() } else { format!("hold time {} s", n.hold_time) };
        let _ =
            writeln!(out, "  negotiated    router id {}, {hold}, {}", n.remote_router_id, families.join(" "));
        let _ = writeln!(out, "  capabilities  {}", n.capabilities.join(", "));
    }
    let _ = writeln!(
        out,
        "  routes        {} desired, {} sent, {} acknowledged; {} of the peer's dropped",
        peer.routes_desired, peer.routes_sent, peer.routes_acknowledged, peer.prefixes_dropped
    );
    for unannounced in &peer.unannounced {
        let _ = writeln!(out, "  ! not sent    {}: {}", unannounced.prefix, unannounced.reason);
    }
    if let (Some(bfd), Some(since)) = (&peer.bfd, bfd_since_seconds) {
        out.push_str(&bfd_lines(bfd, *since));
    }
    for (direction, counts) in [("in ", &peer.messages_in), ("out", &peer.messages_out)] {
        let _ = writeln!(
            out,
            "  messages {direction}  {} open, {} update, {} keepalive, {} notification, {} refresh",
            counts.open, counts.update, counts.keepalive, counts.notification, counts.route_refresh
        );
    }
    let _ = writeln!(
        out,
        "  history       dialled {}×, established {}×, lost {}×",
        peer.connection_attempts, peer.established, peer.flaps
    );
    for (what, reason) in [
        ("last end", &peer.last_error),
        ("last sent", &peer.last_sent),
        ("last received", &peer.last_received),
    ] {
        if let Some(reason) = reason {
            let _ = writeln!(out, "  {what:<13} {reason}");
        }
    }
    out
}

fn bfd_lines(bfd: &BfdStatus, since: f64) -> String {
    let mut out = format!("  bfd           {} for {}", bfd.state, age(since));
    if let Some(detection) = bfd.detection_time {
        let _ = write!(out, ", peer missed after {detection:?}");
    }
    if let Some(interval) = bfd.transmit_interval {
        let _ = write!(out, ", sending every {interval:?}");
    }
    let _ =
        writeln!(out, ", failed {}×{}", bfd.failures, if bfd.real_time { "" } else { ", not in real time" });
    if let Some(reason) = bfd.last_down {
        let _ = writeln!(out, "  bfd last down {reason}");
    }
    if let Some(error) = &bfd.socket_error {
        let _ = writeln!(out, "  ! bfd         no socket: {error}");
    }
    out
}

/// Aligned columns; the last one is not padded.
pub fn table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0usize; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// `4.2s`, `3m12s`, `5h07m`, `12d03h`.
pub fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_as_long_as_it_needs_to_be() {
        let cases =
            [(0.04, "0.0s"), (4.26, "4.3s"), (192.0, "3m12s"), (18_420.0, "5h07m"), (1_047_600.0, "12d03h")];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let rows = vec![vec!["10.84.13.100".into(), "x".into()], vec!["a".into(), String::new()]];
        assert_eq!(table(&["VIP", "WHY"], rows.into_iter()), "VIP           WHY\n10.84.13.100  x\na\n");
    }
}
