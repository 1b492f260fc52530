//! What becomes of a service's connections: PROXY headers, source addresses, who is picked.

use crate::findings::{Finding, Findings};
use crate::model::{Balance, CheckKind, SourceAddress};
use crate::raw::{Raw, RawService};
use crate::types::{BackendAddr, Family};

pub(super) fn check(raw: &Raw, findings: &mut Findings) {
    for service in &raw.services {
        check_proxies(service, findings);
        check_source_address(service, findings);
        check_first(service, findings);
        check_ports(service, findings);
    }
}

fn check_proxies(service: &RawService, findings: &mut Findings) {
    let (accept, trusted) = (&service.accept_proxy, &service.trusted_proxies);
    if accept.value && !trusted.is_given {
        let message = "`accept_proxy` without `trusted_proxies`: nobody could connect";
        let expected = "`trusted_proxies`, the networks whose headers are believed";
        findings.push(Finding::error(&accept.place, message).expected(expected));
    } else if !accept.value && trusted.is_given {
        let message = "`trusted_proxies` has no effect without accept_proxy = \"required\"";
        findings.push(Finding::warning(&trusted.place, message));
    }
}

/// Whether each backend can be reached from the address that was asked for.
fn check_source_address(service: &RawService, findings: &mut Findings) {
    let source = &service.source_address;
    if source.value == SourceAddress::Kernel {
        return;
    }
    for address in service.backends.iter().filter_map(|backend| backend.address.as_ref()) {
        let family = match &address.value {
            BackendAddr::Ip(address) => Some(Family::of(address.ip())),
            BackendAddr::ClientPort(ip) => Some(Family::of(*ip)),
            BackendAddr::Name { .. } => None,
            BackendAddr::Unix(_) => {
                let message = "a connection to a Unix socket has no `source_address`";
                let finding = Finding::error(&address.place, message).related(&source.place, "it is here");
                findings.push(finding.expected("an address and a port, or no `source_address`"));
                continue;
            }
        };
        if let (SourceAddress::Fixed(ip), Some(family)) = (source.value, family)
            && Family::of(ip) != family
        {
            let message = format!("{} cannot be reached from {ip}: another family", address.value);
            let finding = Finding::error(&address.place, message).related(&source.place, "`source_address`");
            findings.push(finding.expected(format!("an {} address", Family::of(ip))));
        }
    }
}

/// With `first` a backend without a limit takes everything from those behind it.
fn check_first(service: &RawService, findings: &mut Findings) {
    if service.balance.value != Balance::First {
        return;
    }
    let primaries: Vec<_> = service.backends.iter().filter(|backend| !backend.backup).collect();
    let Some((_, before)) = primaries.split_last() else { return };
    if before.iter().any(|backend| backend.max_connections.is_none()) {
        let message = "with \"first\" a backend without `max_connections` leaves nothing for those after it";
        findings.push(
            Finding::warning(&service.balance.place, message)
                .expected("`max_connections` for every backend but the last"),
        );
    }
}

/// A backend that has no port of its own has none for its checks either.
fn check_ports(service: &RawService, findings: &mut Findings) {
    if service.check.kind == CheckKind::None || service.check.port.is_some() {
        return;
    }
    for address in service.backends.iter().filter_map(|backend| backend.address.as_ref()) {
        if matches!(address.value, BackendAddr::ClientPort(_)) {
            let message = format!("{} has no port, so there is none to check", address.value);
            let finding = Finding::error(&address.place, message);
            findings.push(finding.expected("a port, or `port` in `check`, or kind = \"none\" there"));
        }
    }
}
