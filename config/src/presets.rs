//! What `[contrail]` stands for: the VIPs and the three services of a stock deployment. Pure.
//!
//! Ports, check and time-outs are those of the role that is replaced: plain TCP checks every 2 s, rise 2, fall 3;
//! three minutes for contrail-api; connections closed with RST (`option nolinger`).

use std::net::IpAddr;
use std::time::Duration;

use crate::findings::{At, Finding, Findings};
use crate::raw::{Raw, RawBackend, RawContrail, RawService, RawVip, default_name};
use crate::reader::List;
use crate::types::Name;
use crate::value::Node;

/// Front ports, and the ports of backends where the file says nothing else.
pub(crate) const API_PORT: u16 = 8082;
pub(crate) const DISCOVERY_PORT: u16 = 5998;
pub(crate) const ANALYTICS_PORT: u16 = 8081;

const API_IDLE: Duration = Duration::from_secs(180);

/// One of the three.
struct Stock<'r> {
    name: &'static str,
    port: u16,
    backend_port: u16,
    nodes: &'r List<Node>,
    is_wanted: bool,
    /// Idle time-out where it is not the usual one.
    idle: Option<Duration>,
}

/// Puts what `[contrail]` stands for in front of what the file spells out. A `[[vip]]` with the address of one of its
/// VIPs takes that one's place.
pub(crate) fn apply(raw: &mut Raw, findings: &mut Findings) {
    let Some(contrail) = raw.contrail.take() else { return };
    warn_of_even_number(&contrail, findings);
    let stock_services = services(&contrail, findings);
    raw.services.splice(0..0, stock_services);
    let is_spelled_out = |vip: &At<IpAddr>| {
        raw.vips.iter().any(|own| own.address.as_ref().is_some_and(|address| address.value == vip.value))
    };
    let vips = contrail.vips.items.iter().filter(|vip| !is_spelled_out(vip));
    let stock_vips: Vec<RawVip> = vips.map(|vip| RawVip::stock(vip.clone(), findings)).collect();
    raw.vips.splice(0..0, stock_vips);
}

fn warn_of_even_number(contrail: &RawContrail, findings: &mut Findings) {
    let count = contrail.controllers.items.len();
    if contrail.controllers.is_complete && count > 0 && count.is_multiple_of(2) {
        let message = format!("an even number of controllers ({count}): ZooKeeper needs a majority");
        findings.push(
            Finding::warning(&contrail.controllers.place, message)
                .expected("an odd number of nodes: 1, 3, 5 ..")
                .help("an even number survives no more failures than one node less"),
        );
    }
}

fn services(contrail: &RawContrail, findings: &mut Findings) -> Vec<RawService> {
    let RawContrail { controllers, analytics, .. } = contrail;
    let all = [
        Stock {
            name: "contrail-api",
            port: API_PORT,
            backend_port: contrail.api_port,
            nodes: controllers,
            is_wanted: true,
            idle: Some(API_IDLE),
        },
        Stock {
            name: "contrail-discovery",
            port: DISCOVERY_PORT,
            backend_port: contrail.discovery_port,
            nodes: controllers,
            is_wanted: true,
            idle: None,
        },
        Stock {
            name: "contrail-analytics-api",
            port: ANALYTICS_PORT,
            backend_port: contrail.analytics_port,
            nodes: analytics,
            is_wanted: analytics.is_given,
            idle: None,
        },
    ];
    all.into_iter().filter(|stock| stock.is_wanted).map(|stock| service(contrail, &stock, findings)).collect()
}

fn service(contrail: &RawContrail, stock: &Stock<'_>, findings: &mut Findings) -> RawService {
    let place = &contrail.place;
    let backend = |node: &At<Node>, findings: &mut Findings| {
        let address = At::new(node.value.with_port(stock.backend_port), &node.place);
        RawBackend::stock(default_name(&node.value, &node.place, findings), address, findings)
    };
    let backends = stock.nodes.items.iter().map(|node| backend(node, findings)).collect();
    let mut service = RawService::stock(place, findings);
    service.name = Name::new(stock.name).ok().map(|name| At::new(name, place));
    // If there is none, that has been said.
    service.vips = List { is_given: true, ..contrail.vips.clone() };
    service.ports = List {
        items: vec![At::new(stock.port, place)],
        is_given: true,
        is_complete: true,
        place: place.clone(),
    };
    service.linger = false;
    if let Some(idle) = stock.idle {
        service.timeouts.client = idle;
        service.timeouts.server = idle;
    }
    service.backends = backends;
    service
}
