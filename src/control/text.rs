//! Views rendered for people: aligned columns, one screen where possible. Pure: view in, text out.

use std::fmt::Write as _;

use bgp_speaker::bfd::BfdStatus;

use super::view::{BackendView, PeerView, ServiceView, Status, VipView};

/// `contrail-lb status`.
pub fn status(status: &Status) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "contrail-lb {} · pid {} · up {} · {} threads ({}) · {} of {} connections · {}",
        status.version,
        status.pid,
        age(status.uptime_seconds),
        status.plane.threads,
        status.plane.engine,
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
    let mut out = table(&["VIP", "PHASE", "ROUTE", "SINCE", "PEERS", "WHY"], rows);
    for vip in vips.iter().filter(|vip| vip.configured && vip.peers_meant > 0) {
        let _ = writeln!(out, "{}", elsewhere(vip));
    }
    out
}

/// Who else announces a VIP.
fn elsewhere(vip: &VipView) -> String {
    let via = vip.other_paths.iter().map(|path| match &path.next_hop {
        Some(hop) => format!("via {hop} at {}", path.peer),
        None => format!("at {}", path.peer),
    });
    match vip.other_paths.len() {
        0 => format!("  {}: no other host is known to announce it", vip.address),
        n => format!(
            "  {}: also announced by {n} other path{} ({})",
            vip.address,
            if n == 1 { "" } else { "s" },
            via.collect::<Vec<_>>().join(", ")
        ),
    }
}

fn service_block(service: &ServiceView) -> String {
    let limit = service.max_connections.map_or_else(String::new, |limit| format!(" of {limit}"));
    let queued = if service.queued > 0 { format!(", {} queued", service.queued) } else { String::new() };
    let mut out = format!(
        "{} · {} · {} of {} healthy (needs {}) · {}{limit} connections{queued}, {} in all\n",
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
    let agent = backend.agent.as_ref();
    let percent =
        agent.and_then(|agent| agent.weight_percent).map_or_else(String::new, |p| format!(" × {p}%"));
    let weight = format!("{}{percent}{}", backend.weight, if backend.backup { " backup" } else { "" });
    let health = match agent.map(|agent| agent.admin) {
        Some(admin @ ("drain" | "maint")) => format!("{} {admin}", backend.health.to_uppercase()),
        Some(_) | None => backend.health.to_uppercase(),
    };
    let connections = match backend.max_connections {
        Some(limit) => format!("{}/{limit}", backend.connections),
        None => backend.connections.to_string(),
    };
    vec![
        format!("  {}", backend.name),
        backend.address.clone(),
        health,
        age(backend.since_seconds),
        weight,
        connections,
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
    let PeerView { since_seconds, bfd_since_seconds, peer, .. } = view;
    let mut out = format!(
        "{} · {}{} AS {} · {} for {}\n",
        peer.name,
        peer.address,
        peer.interface.as_ref().map_or_else(String::new, |interface| format!("%{interface}")),
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
        if let Some(role) = n.remote_role {
            let _ = writeln!(out, "  peer's role   {role}");
        }
        let _ = writeln!(out, "  peer offers   {}", n.capabilities.join(", "));
    }
    let _ = writeln!(out, "  we offer      {}", peer.offered.join(", "));
    out.push_str(&timers(view));
    let _ = writeln!(
        out,
        "  routes        {} desired, {} sent, {} acknowledged; {} of the peer's dropped",
        peer.routes_desired, peer.routes_sent, peer.routes_acknowledged, peer.prefixes_dropped
    );
    for path in &peer.paths {
        let via = path.next_hop.map_or_else(|| "an unknown next hop".to_owned(), |hop| hop.to_string());
        let by = path.as_path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let way = if path.graceful_shutdown { ", GRACEFUL_SHUTDOWN" } else { "" };
        let _ = writeln!(out, "  another path  {} via {via}, AS path {by}{way}", path.prefix);
    }
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

/// Those that run, with what is left of them.
fn timers(view: &PeerView) -> String {
    let timers = [
        ("session ends without a word in", view.hold_expires_in_seconds),
        ("keepalive in", view.keepalive_in_seconds),
        ("next attempt in", view.retry_in_seconds),
    ];
    let running: Vec<String> =
        timers.iter().filter_map(|(what, left)| Some(format!("{what} {}", age((*left)?)))).collect();
    if running.is_empty() { String::new() } else { format!("  timers        {}\n", running.join(", ")) }
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
