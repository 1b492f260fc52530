//! VIPs: unique, used, reachable, and no other address of ours.

use std::collections::HashSet;
use std::net::IpAddr;

use super::refuse_duplicates;
use crate::findings::{Finding, Findings};
use crate::raw::{Raw, RawService};

pub(super) fn check(raw: &Raw, findings: &mut Findings) {
    let given = || raw.vips.iter().filter_map(|vip| vip.address.as_ref());
    refuse_duplicates(
        given(),
        |address| format!("VIPs with the address {address}"),
        "an address of its own",
        findings,
    );
    let users = |address: IpAddr| {
        let uses = move |service: &&RawService| service.vips.items.iter().any(|vip| vip.value == address);
        raw.services.iter().filter(uses)
    };
    let known: HashSet<IpAddr> = given().map(|address| address.value).collect();
    let is_known = |service: &RawService| {
        service.vips.is_complete && service.vips.items.iter().all(|vip| known.contains(&vip.value))
    };
    let all_known = raw.services.iter().all(is_known);
    for address in given() {
        if address.value.is_loopback() {
            let message = format!("{} is a loopback address: only this host reaches it", address.value);
            findings.push(Finding::warning(&address.place, message));
        }
        if users(address.value).next().is_none() {
            if all_known {
                let finding =
                    Finding::error(&address.place, format!("no service uses the VIP {}", address.value));
                findings.push(finding.expected("a [[service]] with this address as `vip`, or no [[vip]]"));
            }
        } else if !users(address.value).any(|service| service.required) {
            let message =
                format!("no service of the VIP {} is `required`: it is always healthy", address.value);
            findings.push(Finding::warning(&address.place, message));
        }
    }
    check_router_id(raw, findings);
}

fn check_router_id(raw: &Raw, findings: &mut Findings) {
    let Some(router_id) = raw.bgp.as_ref().and_then(|bgp| bgp.router_id.as_ref()) else { return };
    let id = IpAddr::V4(router_id.value.as_ipv4());
    let vip = raw.vips.iter().filter_map(|vip| vip.address.as_ref()).find(|address| address.value == id);
    if let Some(vip) = vip {
        let message = "`router_id` is a VIP: every load balancer of the VIP would have the same identifier";
        let finding = Finding::warning(&router_id.place, message).related(&vip.place, "the VIP");
        findings.push(finding.expected("an address that only this host has"));
    }
}

/// The addresses of the VIPs, each once, as a message lists them.
pub(super) fn addresses(raw: &Raw) -> String {
    let mut seen = HashSet::new();
    let given = raw.vips.iter().filter_map(|vip| vip.address.as_ref()).map(|address| address.value);
    given
        .filter(|address| seen.insert(*address))
        .map(|address| address.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
