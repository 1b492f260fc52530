//! `[[service]]` and what is in it, as it was written.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::bgp::name;
use super::{HOUR, MILLISECOND, WEEK};
use crate::findings::{At, Findings, Place};
use crate::model::{Balance, Passive, Timeouts};
use crate::reader::{List, Table};
use crate::schema;
use crate::types::{Name, Weight};
use crate::value::{
    Refused, backend_address, boolean, choice, duration, global_address, integer, listen_address,
};

mod check;

pub(crate) use self::check::RawCheck;

/// `[[service]]`, or a service of `[contrail]`.
#[derive(Debug)]
pub(crate) struct RawService {
    pub(crate) name: Option<At<Name>>,
    pub(crate) vips: List<IpAddr>,
    pub(crate) ports: List<u16>,
    pub(crate) listen: List<SocketAddr>,
    pub(crate) required: bool,
    pub(crate) min_healthy: At<u32>,
    pub(crate) balance: Balance,
    pub(crate) tcp_keepalive: bool,
    pub(crate) linger: bool,
    pub(crate) timeouts: Timeouts,
    pub(crate) retries: u32,
    pub(crate) check: RawCheck,
    pub(crate) passive: Passive,
    pub(crate) backends: Vec<RawBackend>,
    pub(crate) place: Place,
}

/// `[[service.backend]]`, or a node of `[contrail]`.
#[derive(Debug)]
pub(crate) struct RawBackend {
    /// `None`: it was refused, or there is no address to take it from.
    pub(crate) name: Option<At<Name>>,
    pub(crate) address: Option<At<SocketAddr>>,
    pub(crate) weight: Weight,
    pub(crate) backup: bool,
    pub(crate) disabled: bool,
}

const BALANCE: &[(&str, Option<Balance>)] = &[
    ("round_robin", Some(Balance::RoundRobin)),
    ("least_conn", None),
    ("source", None),
    ("random", None),
    ("first", None),
];
const PORT: RangeInclusive<u16> = 1..=u16::MAX;

impl RawService {
    pub(crate) fn read(mut service: Table<'_, '_>) -> Self {
        let name = service.required("name", name);
        service.optional("send_proxy", choice(&[("off", Some(())), ("v1", None), ("v2", None)]));
        service.optional("accept_proxy", choice(&[("off", Some(())), ("required", None)]));
        service.optional("on_down", choice(&[("keep", Some(())), ("close", None)]));
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
        RawService {
            name: None,
            vips: service.one_or_list("vip", global_address),
            ports: service.list("ports", integer(PORT)),
            listen: service.list("listen", listen_address),
            required: service.value("required", boolean, true).value,
            min_healthy: service.value("min_healthy", integer(1..=u32::MAX), 1),
            balance: service.value("balance", choice(BALANCE), Balance::RoundRobin).value,
            tcp_keepalive: service.value("tcp_keepalive", boolean, false).value,
            linger: service.value("linger", boolean, true).value,
            timeouts: read_timeouts(service.table("timeouts", &schema::TIMEOUTS)),
            retries: service.value("retries", integer(0..=100), 3).value,
            check: RawCheck::read(service.table("check", &schema::CHECK)),
            passive: read_passive(service.table("passive", &schema::PASSIVE)),
            backends: Vec::new(),
            place: service.place,
        }
    }
}

fn read_timeouts(mut timeouts: Table<'_, '_>) -> Timeouts {
    let seconds = Duration::from_secs;
    let mut read =
        |key, most, default| timeouts.value(key, duration(MILLISECOND..=most), seconds(default)).value;
    Timeouts {
        connect: read("connect", HOUR, 5),
        client: read("client", WEEK, 50),
        server: read("server", WEEK, 50),
        client_fin: read("client_fin", WEEK, 30),
        server_fin: read("server_fin", WEEK, 30),
        queue: seconds(5),
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

impl RawBackend {
    fn read(mut backend: Table<'_, '_>) -> Self {
        let address = backend.required("address", backend_address);
        let name = match &address {
            Some(address) if !backend.has("name") => {
                Name::new(&address.value.to_string()).ok().map(|name| At::new(name, &address.place))
            }
            _ => backend.optional("name", name),
        };
        RawBackend { name, address, ..Self::read_rest(&mut backend) }
    }

    /// A node of `[contrail]`.
    pub(crate) fn stock(name: Option<At<Name>>, address: At<SocketAddr>, findings: &mut Findings) -> Self {
        let mut nothing = Table::absent(&address.place, &schema::BACKEND, findings);
        RawBackend { name, address: Some(address.clone()), ..Self::read_rest(&mut nothing) }
    }

    fn read_rest(backend: &mut Table<'_, '_>) -> Self {
        let weight = |value: &toml::de::DeValue<'_>| Ok::<_, Refused>(Weight::new(integer(0..=256)(value)?)?);
        RawBackend {
            name: None,
            address: None,
            weight: backend.value("weight", weight, Weight::ONE).value,
            backup: backend.value("backup", boolean, false).value,
            disabled: backend.value("disabled", boolean, false).value,
        }
    }
}
