//! `[[service]]` and what is in it.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Text, addresses, list, or_empty, quoted, time};
use crate::model::{
    Backend, Balance, Check, CheckKind, ClientLimits, HttpCheck, OnDown, Passive, ProxyVersion, Rate,
    Service, SourceAddress, Timeouts,
};

pub(super) fn service(out: &mut Text, service: &Service) {
    out.header("[[service]]");
    out.key("name", quoted(&service.name));
    if service.vips.is_empty() {
        out.key("listen", addresses(&service.listen));
    } else {
        out.key("vip", list(service.vips.iter().map(quoted)));
        out.key("ports", list(ports(service)));
    }
    out.key("required", service.required);
    out.key("min_healthy", service.min_healthy);
    connections(out, service);
    timeouts(out, &service.timeouts);
    out.key("retries", service.retries);
    check(out, &service.check);
    let Passive { enabled, failures, window } = service.passive;
    let pairs =
        [("enabled", enabled.to_string()), ("failures", failures.to_string()), ("window", time(window))];
    out.inline("passive", &pairs);
    out.key("slow_start", time(service.slow_start));
    let on_down = match service.on_down {
        OnDown::Keep => "keep",
        OnDown::Close => "close",
    };
    out.key("on_down", quoted(on_down));
    for backend in &service.backends {
        self::backend(out, backend);
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// The ports of a service with VIPs, as ranges where they follow each other: it listens on every one of them on every
/// VIP.
fn ports(service: &Service) -> impl Iterator<Item = String> + '_ {
    let first = service.vips.first().copied();
    let ports = service.listen.iter().filter(|address| Some(address.ip()) == first).map(SocketAddr::port);
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges.into_iter().map(|(first, last)| {
        if first == last { first.to_string() } else { quoted(format_args!("{first}-{last}")) }
    })
}

/// Who may connect, how many, and who is picked and told what about them.
fn connections(out: &mut Text, service: &Service) {
    let balance = match service.balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastConn => "least_conn",
        Balance::Source => "source",
        Balance::Random => "random",
        Balance::First => "first",
    };
    out.key("balance", quoted(balance));
    out.key("max_connections", service.max_connections.unwrap_or(0));
    let ClientLimits { connections, rate } = service.client_limits;
    let rate = match rate {
        Some(Rate { count, per }) if per == SECOND => format!("{count}/s"),
        Some(Rate { count, per: _ }) => format!("{count}/m"),
        None => "0/s".to_owned(),
    };
    let connections = connections.unwrap_or(0).to_string();
    out.inline("client_limits", &[("connections", connections), ("rate", quoted(rate))]);
    let source_address = match service.source_address {
        SourceAddress::Kernel => String::new(),
        SourceAddress::Fixed(address) => address.to_string(),
        SourceAddress::Transparent => "transparent".to_owned(),
    };
    out.key("source_address", quoted(source_address));
    out.key("tcp_keepalive", service.tcp_keepalive);
    out.key("linger", service.linger);
    let send_proxy = match service.send_proxy {
        None => "off",
        Some(ProxyVersion::V1) => "v1",
        Some(ProxyVersion::V2) => "v2",
    };
    out.key("send_proxy", quoted(send_proxy));
    out.key("accept_proxy", quoted(if service.accept_proxy { "required" } else { "off" }));
    out.key("trusted_proxies", list(service.trusted_proxies.iter().map(quoted)));
    out.key("allow", list(service.allow.iter().map(quoted)));
    out.key("deny", list(service.deny.iter().map(quoted)));
}

fn timeouts(out: &mut Text, timeouts: &Timeouts) {
    let Timeouts { connect, client, server, client_fin, server_fin, queue } = *timeouts;
    let pairs = [
        ("connect", connect),
        ("client", client),
        ("server", server),
        ("client_fin", client_fin),
        ("server_fin", server_fin),
        ("queue", queue),
    ];
    out.inline("timeouts", &pairs.map(|(key, value)| (key, time(value))));
}

fn check(out: &mut Text, check: &Check) {
    let (kind, http) = match &check.kind {
        CheckKind::None => ("none", String::new()),
        CheckKind::Tcp => ("tcp", String::new()),
        CheckKind::Http(http) => ("http", http_keys(http)),
        CheckKind::Https(http) => ("https", http_keys(http)),
        CheckKind::Tls => ("tls", String::new()),
        CheckKind::SendExpect(_) => ("send_expect", String::new()),
        CheckKind::Agent { .. } => ("agent", String::new()),
    };
    let (interval, timeout, port) = (time(check.interval), time(check.timeout), check.port.unwrap_or(0));
    let Check { rise, fall, .. } = check;
    out.key(
        "check",
        format_args!(
            "{{ kind = \"{kind}\", interval = {interval}, timeout = {timeout}, rise = {rise}, fall = {fall}, port = {port}{http} }}"
        ),
    );
}

fn http_keys(http: &HttpCheck) -> String {
    let range = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let status = http.expect_status.iter().map(range).collect::<Vec<_>>().join(",");
    format!(
        ", path = {}, host = {}, method = {}, expect_status = {}, expect_body = {}",
        quoted(&http.path),
        or_empty(http.host.as_ref()),
        quoted(&http.method),
        quoted(status),
        or_empty(http.expect_body.as_ref())
    )
}

fn backend(out: &mut Text, backend: &Backend) {
    out.header("[[service.backend]]");
    out.key("name", quoted(&backend.name));
    out.key("address", quoted(&backend.address));
    out.key("weight", backend.weight.as_u16());
    out.key("max_connections", backend.max_connections.unwrap_or(0));
    out.key("backup", backend.backup);
    out.key("disabled", backend.disabled);
}
