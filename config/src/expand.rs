//! [`Config`] as text: the long form with every built key written out, which parses back to an equal [`Config`]. Pure.

use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::duration;
use crate::model::{
    Admin, Announce, Backend, Balance, Bgp, Check, CheckKind, Config, Degraded, Global, HttpCheck, LogFormat,
    LogLevel, OnAllDown, OnShort, Passive, Peer, PeerSet, Service, Timeouts, Vip,
};

/// The long form of `config`, in TOML.
pub fn expand(config: &Config) -> String {
    let mut out = Text::default();
    global(&mut out, &config.global);
    admin(&mut out, &config.admin);
    if let Some(bgp) = &config.bgp {
        self::bgp(&mut out, bgp);
    }
    for vip in &config.vips {
        self::vip(&mut out, vip);
    }
    for service in &config.services {
        self::service(&mut out, service);
    }
    out.0
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn header(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.push(format_args!("{gap}{header}\n"));
    }

    /// `value` is TOML already.
    fn key(&mut self, key: &str, value: impl Display) {
        self.push(format_args!("{key} = {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.0.write_fmt(text);
    }
}

fn global(out: &mut Text, global: &Global) {
    out.header("[global]");
    out.key("threads", global.threads.unwrap_or(0));
    out.key("max_connections", global.max_connections.unwrap_or(0));
    out.key("drain_timeout", time(global.drain_timeout));
    out.header("[global.log]");
    let level = match global.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let format = match global.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    out.key("level", quoted(level));
    out.key("format", quoted(format));
}

fn admin(out: &mut Text, admin: &Admin) {
    out.header("[admin]");
    out.key("socket", or_empty(admin.socket.as_ref().map(|path| path.display())));
    out.key("listen", or_empty(admin.listen));
    if let Some(auth) = &admin.auth {
        out.key("user", quoted(&auth.user));
        out.key("password_file", quoted(auth.password_file.display()));
    }
}

fn bgp(out: &mut Text, bgp: &Bgp) {
    out.header("[bgp]");
    out.key("local_as", bgp.local_as);
    out.key("router_id", quoted(bgp.router_id));
    out.key("listen", addresses(&bgp.listen));
    out.key("connect_retry", time(bgp.connect_retry));
    for peer in &bgp.peers {
        self::peer(out, peer);
    }
}

fn peer(out: &mut Text, peer: &Peer) {
    out.header("[[bgp.peer]]");
    out.key("name", quoted(&peer.name));
    out.key("address", quoted(peer.address));
    out.key("remote_as", peer.remote_as);
    out.key("port", peer.port);
    out.key("local_address", or_empty(peer.local_address));
    out.key("passive", peer.passive);
    out.key("families", list(peer.families.iter().map(quoted)));
    out.key("next_hop", or_empty(peer.next_hop));
    out.key("hold_time", quoted(format_args!("{}s", peer.hold_time.as_secs())));
    out.key("multihop", peer.multihop);
    out.key("ttl_security", peer.ttl_security);
    out.key("password_file", or_empty(peer.password_file.as_ref().map(|path| path.display())));
}

fn vip(out: &mut Text, vip: &Vip) {
    out.header("[[vip]]");
    out.key("address", quoted(vip.address));
    out.key("interface", or_empty(vip.interface.as_ref()));
    let Announce { med, local_pref, prepend, communities, large_communities, .. } = &vip.announce;
    let (communities, large) = (communities.iter().map(quoted), large_communities.iter().map(quoted));
    out.key(
        "announce",
        format_args!(
            "{{ med = {med}, local_pref = {local_pref}, prepend = {prepend}, communities = {}, large_communities = {} }}",
            list(communities),
            list(large)
        ),
    );
    let Degraded { med, local_pref, prepend } = vip.degraded;
    out.key("degraded", format_args!("{{ med = {med}, local_pref = {local_pref}, prepend = {prepend} }}"));
    let on_short = match vip.on_short {
        OnShort::Degrade => "degrade",
        OnShort::Withdraw => "withdraw",
    };
    let on_all_down = match vip.on_all_down {
        OnAllDown::Withdraw => "withdraw",
        OnAllDown::LastResort => "last_resort",
        OnAllDown::Hold => "hold",
    };
    out.key("on_short", quoted(on_short));
    out.key("on_all_down", quoted(on_all_down));
    out.key("announce_delay", time(vip.announce_delay));
    let peers = match &vip.peers {
        PeerSet::All => &[][..],
        PeerSet::Named(names) => names,
    };
    out.key("peers", list(peers.iter().map(quoted)));
}

fn service(out: &mut Text, service: &Service) {
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
    let balance = match service.balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastConn => "least_conn",
        Balance::Source => "source",
        Balance::Random => "random",
        Balance::First => "first",
    };
    out.key("balance", quoted(balance));
    out.key("tcp_keepalive", service.tcp_keepalive);
    out.key("linger", service.linger);
    timeouts(out, &service.timeouts);
    out.key("retries", service.retries);
    check(out, &service.check);
    let Passive { enabled, failures, window } = service.passive;
    let window = time(window);
    out.key("passive", format_args!("{{ enabled = {enabled}, failures = {failures}, window = {window} }}"));
    for backend in &service.backends {
        self::backend(out, backend);
    }
}

/// The ports of a service with VIPs: it listens on every one of them on every VIP.
fn ports(service: &Service) -> impl Iterator<Item = u16> + '_ {
    let first = service.vips.first().copied();
    service.listen.iter().filter(move |address| Some(address.ip()) == first).map(SocketAddr::port)
}

fn timeouts(out: &mut Text, timeouts: &Timeouts) {
    let Timeouts { connect, client, server, client_fin, server_fin, .. } = *timeouts;
    let [connect, client, server] = [connect, client, server].map(time);
    let [client_fin, server_fin] = [client_fin, server_fin].map(time);
    out.key(
        "timeouts",
        format_args!(
            "{{ connect = {connect}, client = {client}, server = {server}, client_fin = {client_fin}, server_fin = {server_fin} }}"
        ),
    );
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
    out.key("backup", backend.backup);
    out.key("disabled", backend.disabled);
}

/// A TOML basic string (TOML 1.0 §String): on one line, whatever is in it.
fn quoted(value: impl Display) -> String {
    let escape = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", value.to_string().chars().map(escape).collect::<String>())
}

/// `""` stands for none.
fn or_empty(value: Option<impl Display>) -> String {
    value.map_or_else(|| quoted(""), quoted)
}

fn time(value: Duration) -> String {
    quoted(duration::format(value))
}

fn addresses(values: &[SocketAddr]) -> String {
    list(values.iter().map(quoted))
}

fn list(values: impl Iterator<Item = impl Display>) -> String {
    format!("[{}]", values.map(|value| value.to_string()).collect::<Vec<_>>().join(", "))
}
