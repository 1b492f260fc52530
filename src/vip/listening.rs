//! Which service listens where while VIPs come and go. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use config::{Service, Vip};

/// What `current` listens on that belongs to VIPs which neither `vips` nor `services` know any more: it stays open
/// until the routes and the traffic have moved.
pub fn on_other_addresses(current: &[Service], services: &[Service], vips: &[Vip]) -> Vec<Service> {
    let gone =
        |service: &Service, ip: IpAddr| service.vips.contains(&ip) && vips.iter().all(|v| v.address != ip);
    current
        .iter()
        .filter_map(|service| {
            let mut left = service.clone();
            left.listen.retain(|l| gone(service, l.ip()) && !services.iter().any(|s| s.listen.contains(l)));
            (!left.listen.is_empty()).then_some(left)
        })
        .collect()
}

/// `services` with what is `leaving` added, without listeners on `closed` VIPs.
pub fn merged(services: &[Service], leaving: &[Service], closed: &BTreeSet<IpAddr>) -> Vec<Service> {
    let mut all = services.to_vec();
    for old in leaving {
        match all.iter_mut().find(|s| s.name == old.name) {
            Some(same) => {
                same.listen.extend(old.listen.iter().copied());
                same.vips.extend(old.vips.iter().copied());
            }
            None => all.push(old.clone()),
        }
    }
    for service in &mut all {
        service.listen.retain(|l| !(service.vips.contains(&l.ip()) && closed.contains(&l.ip())));
    }
    all
}
