//! `[[service]]` and what is in it, as it was written.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::bgp::name;
use super::{HOUR, MILLISECOND, WEEK};
use crate::findings::{At, Finding, Findings, Place};
use crate::model::{Balance, ClientLimits, OnDown, Passive, ProxyVersion, SourceAddress, Timeouts};
use crate::reader::{List, Table};
use crate::schema;
use crate::types::Name;
use crate::value::{
    Refused, boolean, choice, duration, global_address, host_address, integer, limit, listen_address,
    network, ports, rate,
};

mod backend;
mod check;
mod dialog;
mod tls;

pub(crate) use self::backend::{RawBackend, default_name};
pub(crate) use self::check::RawCheck;
pub(crate) use self::tls::{RawBackendTls, RawRoute, RawTls, WhichClients};

/// `[[service]]`, or a service of `[contrail]`.
#[derive(Debug)]
pub(crate) struct RawService {
    pub(crate) name: Option<At<Name>>,
    pub(crate) vips: List<IpAddr>,
    pub(crate) ports: List<u16>,
    pub(crate) listen: List<SocketAddr>,
    pub(crate) required: bool,
    pub(crate) min_healthy: At<u32>,
    pub(crate) balance: At<Balance>,
    pub(crate) max_connections: Option<u32>,
    pub(crate) client_limits: ClientLimits,
    pub(crate) source_address: At<SourceAddress>,
    pub(crate) tcp_keepalive: bool,
    pub(crate) linger: bool,
    pub(crate) send_proxy: Option<ProxyVersion>,
    pub(crate) accept_proxy: At<bool>,
    pub(crate) trusted_proxies: List<IpNet>,
    pub(crate) allow: List<IpNet>,
    pub(crate) deny: List<IpNet>,
    pub(crate) tls: RawTls,
    pub(crate) sni_routes: Vec<RawRoute>,
    pub(crate) backend_tls: RawBackendTls,
    pub(crate) timeouts: Timeouts,
    pub(crate) retries: u32,
    pub(crate) check: RawCheck,
    pub(crate) passive: Passive,
    pub(crate) slow_start: Duration,
    pub(crate) on_down: OnDown,
    pub(crate) backends: Vec<RawBackend>,
    pub(crate) place: Place,
}

const BALANCE: &[(&str, Option<Balance>)] = &[
    ("round_robin", Some(Balance::RoundRobin)),
    ("least_conn", Some(Balance::LeastConn)),
    ("source", Some(Balance::Source)),
    ("random", Some(Balance::Random)),
    ("first", Some(Balance::First)),
];
const SEND_PROXY: &[(&str, Option<Option<ProxyVersion>>)] =
    &[("off", Some(None)), ("v1", Some(Some(ProxyVersion::V1))), ("v2", Some(Some(ProxyVersion::V2)))];
const ACCEPT_PROXY: &[(&str, Option<bool>)] = &[("off", Some(false)), ("required", Some(true))];
const ON_DOWN: &[(&str, Option<OnDown>)] = &[("keep", Some(OnDown::Keep)), ("close", Some(OnDown::Close))];

impl RawService {
    pub(crate) fn read(mut service: Table<'_, '_>) -> Self {
        let name = service.required("name", name);
        let backends = service.required_tables("backend", &schema::BACKEND);
        let backends =
            backends.into_iter().map(|node| RawBackend::read(service.open(node, &schema::BACKEND)));
        RawService { name, backends: backends.collect(), ..Self::read_rest(service) }
    }

    /// A service of `[contrail]`: what a file that says nothing else gets.
    pub(crate) fn stock(place: &Place, findings: &mut Findings) -> Self {
        Self::read_rest(Table::absent(place, &schema::SERVICE, findings))
    }

    /// Every address it accepts on, as far as known: as given, or VIP × ports.
    pub(crate) fn listeners(&self) -> Vec<At<SocketAddr>> {
        let of_vip = |vip: &At<IpAddr>| {
            let vip = vip.value;
            self.ports.items.iter().map(move |port| At::new(SocketAddr::new(vip, port.value), &port.place))
        };
        if self.listen.is_given {
            self.listen.items.clone()
        } else {
            self.vips.items.iter().flat_map(of_vip).collect()
        }
    }

    fn read_rest(mut service: Table<'_, '_>) -> Self {
        let vips = service.one_or_list("vip", global_address);
        RawService {
            name: None,
            ports: read_ports(&mut service, vips.items.len()),
            vips,
            listen: service.list("listen", listen_address),
            required: service.value("required", boolean, true).value,
            min_healthy: service.value("min_healthy", integer(1..=u32::MAX), 1),
            balance: service.value("balance", choice(BALANCE), Balance::RoundRobin),
            max_connections: service.value("max_connections", limit, None).value,
            client_limits: read_client_limits(service.table("client_limits", &schema::CLIENT_LIMITS)),
            source_address: service.value("source_address", source_address, SourceAddress::Kernel),
            tcp_keepalive: service.value("tcp_keepalive", boolean, false).value,
            linger: service.value("linger", boolean, true).value,
            send_proxy: service.value("send_proxy", choice(SEND_PROXY), None).value,
            accept_proxy: service.value("accept_proxy", choice(ACCEPT_PROXY), false),
            trusted_proxies: service.list("trusted_proxies", network),
            allow: service.list("allow", network),
            deny: service.list("deny", network),
            tls: RawTls::read(service.table("tls", &schema::TLS)),
            sni_routes: RawRoute::read_all(&mut service),
            backend_tls: RawBackendTls::read(service.table("backend_tls", &schema::BACKEND_TLS)),
            timeouts: read_timeouts(service.table("timeouts", &schema::TIMEOUTS)),
            retries: service.value("retries", integer(0..=100), 3).value,
            check: RawCheck::read(service.table("check", &schema::CHECK)),
            passive: read_passive(service.table("passive", &schema::PASSIVE)),
            slow_start: service.value("slow_start", duration(Duration::ZERO..=HOUR), Duration::ZERO).value,
            on_down: service.value("on_down", choice(ON_DOWN), OnDown::Keep).value,
            backends: Vec::new(),
            place: service.place,
        }
    }
}

/// The most listeners that the ports and VIPs of one service may give.
const LISTENERS: usize = 1024;

/// `ports` with its ranges spelled out, which `vips` VIPs multiply.
fn read_ports(service: &mut Table<'_, '_>, vips: usize) -> List<u16> {
    let List { items, is_given, is_complete, place } = service.list("ports", ports);
    let listeners = items.iter().map(|range| range.value.len()).sum::<usize>() * vips.max(1);
    if listeners > LISTENERS {
        let message = format!("{listeners} listeners are too many for one service");
        service.findings.push(Finding::error(&place, message).expected(format!("at most {LISTENERS}")));
        return List { items: Vec::new(), is_given, is_complete: false, place };
    }
    let spelled_out =
        items.into_iter().flat_map(|At { value, place }| value.map(move |n| At::new(n, &place)));
    List { items: spelled_out.collect(), is_given, is_complete, place }
}

fn read_client_limits(mut limits: Table<'_, '_>) -> ClientLimits {
    ClientLimits {
        connections: limits.value("connections", limit, None).value,
        rate: limits.value("rate", rate, None).value,
    }
}

fn source_address(value: &DeValue<'_>) -> Result<SourceAddress, Refused> {
    match value.as_str() {
        Some("") => Ok(SourceAddress::Kernel),
        Some("transparent") => Ok(SourceAddress::Transparent),
        _ => host_address(value).map(SourceAddress::Fixed).map_err(|refused| Refused {
            expected: format!("{}, or \"transparent\", or \"\" for what the kernel picks", refused.expected),
            ..refused
        }),
    }
}

fn read_timeouts(mut timeouts: Table<'_, '_>) -> Timeouts {
    let seconds = Duration::from_secs;
    let queue = timeouts.value("queue", duration(Duration::ZERO..=HOUR), seconds(5)).value;
    let mut read =
        |key, most, default| timeouts.value(key, duration(MILLISECOND..=most), seconds(default)).value;
    Timeouts {
        connect: read("connect", HOUR, 5),
        client: read("client", WEEK, 50),
        server: read("server", WEEK, 50),
        client_fin: read("client_fin", WEEK, 30),
        server_fin: read("server_fin", WEEK, 30),
        queue,
    }
}

fn read_passive(mut passive: Table<'_, '_>) -> Passive {
    let window = duration(10 * MILLISECOND..=HOUR);
    Passive {
        enabled: passive.value("enabled", boolean, true).value,
        failures: passive.value("failures", integer(1..=1_000), 3).value,
        window: passive.value("window", window, Duration::from_secs(10)).value,
    }
}
