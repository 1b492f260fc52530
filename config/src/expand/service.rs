//! `[[service]]` and what is in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Text, addresses, list, or_empty, quoted, time};
use crate::model::{
    Backend, BackendTls, Balance, Check, CheckKind, ClientAuth, ClientLimits, CloseNotify, HttpCheck, OnDown,
    Passive, ProxyVersion, Rate, Service, SourceAddress, Timeouts, TlsVersion,
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
    tls(out, service);
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

fn tls(out: &mut Text, service: &Service) {
    let tls = service.tls.as_ref();
    let certificates = tls.map_or(&[][..], |tls| &tls.certificates);
    let (client_auth, client_ca) = match tls.map(|tls| &tls.client_auth) {
        None | Some(ClientAuth::None) => ("none", None),
        Some(ClientAuth::Optional(ca)) => ("optional", Some(ca)),
        Some(ClientAuth::Required(ca)) => ("required", Some(ca)),
    };
    let min_version = match tls.map(|tls| tls.min_version) {
        None | Some(TlsVersion::Tls12) => "1.2",
        Some(TlsVersion::Tls13) => "1.3",
    };
    let pairs = [
        ("certificate", list(certificates.iter().map(|files| file(Some(&files.certificate))))),
        ("key", list(certificates.iter().map(|files| file(Some(&files.key))))),
        ("key_password_file", file(tls.and_then(|tls| tls.key_password_file.as_ref()))),
        ("client_ca", file(client_ca)),
        ("client_auth", quoted(client_auth)),
        ("min_version", quoted(min_version)),
        ("alpn", list(tls.map_or(&[][..], |tls| &tls.alpn).iter().map(quoted))),
    ];
    out.inline("tls", &pairs);
    let routes = service.sni_routes.iter();
    let routes = routes.map(|route| format!("{} = {}", quoted(&route.pattern), quoted(&route.service)));
    out.key("sni_routes", format_args!("{{ {} }}", routes.collect::<Vec<_>>().join(", ")));
    let close_notify = match service.backend_tls.close_notify {
        CloseNotify::Required => "required",
        CloseNotify::Optional => "optional",
    };
    let BackendTls { enabled, ca, server_name, verify, client, close_notify: _ } = &service.backend_tls;
    let pairs = [
        ("enabled", enabled.to_string()),
        ("ca", file(ca.as_ref())),
        ("server_name", or_empty(server_name.as_ref())),
        ("verify", verify.to_string()),
        ("certificate", file(client.as_ref().map(|files| &files.certificate))),
        ("key", file(client.as_ref().map(|files| &files.key))),
        ("close_notify", quoted(close_notify)),
    ];
    out.inline("backend_tls", &pairs);
}

fn file(path: Option<&PathBuf>) -> String {
    or_empty(path.map(|path| path.display()))
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
    let stock = HttpCheck::default();
    let (kind, http) = match &check.kind {
        CheckKind::None => ("none", &stock),
        CheckKind::Tcp => ("tcp", &stock),
        CheckKind::Http(http) => ("http", http),
        CheckKind::Https(http) => ("https", http),
        CheckKind::Tls => ("tls", &stock),
        CheckKind::SendExpect(_) => ("send_expect", &stock),
        CheckKind::Agent { .. } => ("agent", &stock),
    };
    let range = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let status = http.expect_status.iter().map(range).collect::<Vec<_>>().join(",");
    let (send, expect) = dialog(&check.kind);
    let pairs = [
        ("kind", quoted(kind)),
        ("interval", time(check.interval)),
        ("fast_interval", check.fast_interval.map_or_else(|| quoted(""), time)),
        ("down_interval", check.down_interval.map_or_else(|| quoted(""), time)),
        ("timeout", time(check.timeout)),
        ("rise", check.rise.to_string()),
        ("fall", check.fall.to_string()),
        ("port", check.port.unwrap_or(0).to_string()),
        ("path", quoted(&http.path)),
        ("host", or_empty(http.host.as_ref())),
        ("method", quoted(&http.method)),
        ("expect_status", quoted(status)),
        ("expect_body", or_empty(http.expect_body.as_ref())),
        ("send", send),
        ("expect", expect),
    ];
    out.inline("check", &pairs);
}

/// `send` and `expect`.
fn dialog(kind: &CheckKind) -> (String, String) {
    match kind {
        CheckKind::SendExpect(steps) => (
            list(steps.iter().map(|step| bytes(&step.send))),
            list(steps.iter().map(|step| bytes(&step.expect))),
        ),
        CheckKind::Agent { send } => (bytes(send), quoted("")),
        CheckKind::None | CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Https(_) | CheckKind::Tls => {
            (quoted(""), quoted(""))
        }
    }
}

/// As text where it is one that reads back as these bytes.
fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("hex:") => quoted(text),
        _ => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            quoted(format_args!("hex:{digits}"))
        }
    }
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
