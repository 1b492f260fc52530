//! Where services listen: the two ways to say it, conflicts between listeners, and backends that lead back to us.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::findings::{At, Finding, Findings};
use crate::raw::{Raw, RawService};
use crate::types::BackendAddr;

pub(super) fn check(raw: &Raw, findings: &mut Findings) {
    for service in &raw.services {
        check_form(service, findings);
    }
    check_references(raw, findings);
    check_conflicts(raw, findings);
    check_loops(raw, findings);
}

fn check_form(service: &RawService, findings: &mut Findings) {
    const EXPECTED: &str = "either `vip` and `ports`, or `listen`";
    let (vip, ports, listen) = (&service.vips, &service.ports, &service.listen);
    let finding = match (vip.is_given, ports.is_given, listen.is_given) {
        (true, true, false) | (false, false, true) => return,
        (false, false, false) => Finding::error(&service.place, "the service listens nowhere"),
        (true, false, false) => Finding::error(&vip.place, "`vip` without `ports`"),
        (false, true, false) => Finding::error(&ports.place, "`ports` without `vip`"),
        (true, _, true) => {
            Finding::error(&listen.place, "`listen` together with `vip`").related(&vip.place, "`vip` is here")
        }
        (false, true, true) => Finding::error(&listen.place, "`listen` together with `ports`")
            .related(&ports.place, "`ports` is here"),
    };
    findings.push(finding.expected(EXPECTED));
}

fn check_references(raw: &Raw, findings: &mut Findings) {
    let unreadable = raw.vips.iter().find(|vip| vip.address.is_none());
    let known: HashSet<IpAddr> =
        raw.vips.iter().filter_map(|vip| vip.address.as_ref()).map(|a| a.value).collect();
    for vip in raw.services.iter().flat_map(|service| &service.vips.items) {
        if !known.contains(&vip.value) {
            let finding = Finding::error(&vip.place, format!("no [[vip]] has the address {}", vip.value));
            let finding = finding.expected(match super::vip::addresses(raw) {
                list if list.is_empty() => "the address of a [[vip]]".to_owned(),
                list => format!("one of {list}"),
            });
            findings.push(match unreadable {
                Some(vip) => finding.related(&vip.place, "this one has no address that can be read"),
                None => finding,
            });
        }
    }
}

/// A listener and whose it is.
struct Listener {
    address: At<SocketAddr>,
    owner: String,
}

fn listeners(raw: &Raw) -> Vec<Listener> {
    let admin = raw.admin.listen.value.map(|address| Listener {
        address: At::new(address, &raw.admin.listen.place),
        owner: "[admin]".to_owned(),
    });
    let bgp = raw.bgp.iter().flat_map(|bgp| &bgp.listen.items);
    let bgp = bgp.map(|address| Listener { address: address.clone(), owner: "[bgp]".to_owned() });
    let of_service = |service: &RawService| {
        let name = service.name.as_ref().map(|name| format!(" \"{}\"", name.value)).unwrap_or_default();
        let owned = |address| Listener { address, owner: format!("service{name}") };
        service.listeners().into_iter().map(owned).collect::<Vec<_>>()
    };
    admin.into_iter().chain(bgp).chain(raw.services.iter().flat_map(of_service)).collect()
}

fn wildcard_of(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Two listeners on one address and port, and wildcards that cover another's. An IPv6 wildcard covers no IPv4 address.
fn check_conflicts(raw: &Raw, findings: &mut Findings) {
    let listeners = listeners(raw);
    let mut first: HashMap<SocketAddr, &Listener> = HashMap::new();
    for listener in &listeners {
        first.entry(listener.address.value).or_insert(listener);
    }
    for listener in &listeners {
        let address = listener.address.value;
        let Some(earlier) = first.get(&address).filter(|earlier| !std::ptr::eq(**earlier, listener)) else {
            continue;
        };
        let finding = Finding::error(&listener.address.place, format!("{address} is listened on twice"));
        let finding = finding.related(&earlier.address.place, format!("first by {}", earlier.owner));
        findings.push(finding.expected("each address and port once"));
    }
    for listener in &listeners {
        let address = listener.address.value;
        let wildcard = first.get(&wildcard_of(address)).filter(|_| wildcard_of(address) != address);
        let Some(wildcard) = wildcard else { continue };
        let message = format!("{address} is covered by {} of {}", wildcard.address.value, wildcard.owner);
        let finding = Finding::error(&listener.address.place, message);
        let finding = finding.related(&wildcard.address.place, "the wildcard");
        findings.push(finding.expected("another port, or a specific address instead of the wildcard"));
    }
}

/// Backends that are this load balancer itself.
fn check_loops(raw: &Raw, findings: &mut Findings) {
    let ours: HashSet<SocketAddr> =
        raw.services.iter().flat_map(RawService::listeners).map(|listener| listener.value).collect();
    let vips: HashSet<IpAddr> =
        raw.vips.iter().filter_map(|vip| vip.address.as_ref()).map(|address| address.value).collect();
    let backends = raw.services.iter().flat_map(|service| &service.backends);
    for address in backends.filter_map(|backend| backend.address.as_ref()) {
        let (ip, whole) = match address.value {
            BackendAddr::Ip(whole) => (whole.ip(), Some(whole)),
            BackendAddr::ClientPort(ip) => (ip, None),
            BackendAddr::Name { .. } | BackendAddr::Unix(_) => continue,
        };
        let is_ours = |whole: &SocketAddr| {
            ours.contains(whole) || (ip.is_loopback() && ours.contains(&wildcard_of(*whole)))
        };
        let message = if vips.contains(&ip) {
            format!("the backend's address {ip} is a VIP of this load balancer: connections would loop")
        } else if let Some(whole) = whole.filter(is_ours) {
            format!("the backend {whole} is a listener of this load balancer: connections would loop")
        } else {
            continue;
        };
        findings
            .push(Finding::error(&address.place, message).expected("an address that a backend itself has"));
    }
}
