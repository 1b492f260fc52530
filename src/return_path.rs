//! Whether a backend's answer to an address that is not this host's could come back to this process: what a service with
//! `source_address = "transparent"` needs of the host's routing.
//!
//! Without it every connect would end in a timeout that names nothing, so a configuration is refused where a part is surely
//! missing. What cannot be seen from here is not guessed at: marks set by a packet filter, and the backends' own routes.
//! Decides over what rtnetlink tells; changes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use config::{Endpoint, Name, Service, SourceAddress};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

/// `RT_TABLE_LOCAL`: looked at first, without a rule of the operator's.
const LOCAL_TABLE: u32 = 255;

/// What is missing for a service.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "service {service} cannot show its backends the clients' own addresses (source_address = \"transparent\"): \
     {missing}; the whole list is in docs/operations.md, \"Client addresses at the backends\""
)]
pub struct NoReturnPath {
    service: Name,
    missing: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// No table has a route that takes packets in for addresses of others.
    Route(Family),
    /// It is in this table, and no rule leads there.
    Rule(Family, u32),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Route(family) => write!(
                f,
                "no {family} route takes the backends' answers into this host: `{} route add local default dev lo table 100`, \
                 and a rule that leads there",
                family.ip()
            ),
            Missing::Rule(family, table) => write!(
                f,
                "no {family} rule leads to table {table}, which would take the backends' answers into this host: \
                 `{} rule add fwmark 1 lookup {table}`",
                family.ip()
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The command that is about its routes.
    fn ip(self) -> &'static str {
        match self {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip -6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// Looks at the host for those of `services` that are transparent and were not `before`: what runs already is not refused
/// for what somebody did to the host since.
pub async fn check(services: &[Service], before: &[Service]) -> Result<(), NoReturnPath> {
    let is_transparent = |service: &&Service| service.source_address == SourceAddress::Transparent;
    let ran = |name: &Name| before.iter().filter(is_transparent).any(|service| service.name == *name);
    let fresh: Vec<(Name, BTreeSet<Family>)> = services
        .iter()
        .filter(|service| is_transparent(service) && !ran(&service.name))
        .map(|service| (service.name.clone(), families(service)))
        .collect();
    if fresh.is_empty() {
        return Ok(());
    }
    // A host that does not tell is not refused.
    let Ok((connection, netlink, _)) = rtnetlink::new_connection() else { return Ok(()) };
    tokio::spawn(connection);
    for (service, families) in fresh {
        for family in families {
            if let Ok(Some(missing)) = look(&netlink, family).await {
                return Err(NoReturnPath { service, missing });
            }
        }
    }
    Ok(())
}

/// In which families its backends can be shown a client: those of the backends that clients come in, too.
fn families(service: &Service) -> BTreeSet<Family> {
    let family = |is_ipv4| if is_ipv4 { Family::Ipv4 } else { Family::Ipv6 };
    let backends = service.backends.iter().filter_map(|backend| match backend.address.for_port(1)? {
        Endpoint::Tcp(address) => Some(family(address.is_ipv4())),
        Endpoint::Unix(_) => None,
    });
    // A PROXY header may name a client of either.
    let has_clients = |of: &Family| {
        service.accept_proxy || service.listen.iter().any(|address| family(address.is_ipv4()) == *of)
    };
    backends.filter(has_clients).collect()
}

async fn look(netlink: &Handle, family: Family) -> Result<Option<Missing>, rtnetlink::Error> {
    let (version, any) = match family {
        Family::Ipv4 => (IpVersion::V4, RouteMessageBuilder::<Ipv4Addr>::new().build()),
        Family::Ipv6 => (IpVersion::V6, RouteMessageBuilder::<Ipv6Addr>::new().build()),
    };
    let routes: Vec<RouteMessage> = netlink.route().get(any).execute().try_collect().await?;
    let rules: Vec<RuleMessage> = netlink.rule().get(version).execute().try_collect().await?;
    let taking = routes.iter().filter(|route| takes_in_others(route)).map(table_of_route).collect();
    Ok(missing(family, &taking, &rules.iter().map(table_of_rule).collect()))
}

/// Whether packets to addresses that nobody has are taken in by this route: one of type `local` that is wider than an
/// address, and not that of 127.0.0.0/8, which every host has.
fn takes_in_others(route: &RouteMessage) -> bool {
    let header = &route.header;
    let whole = if header.address_family == AddressFamily::Inet { 32 } else { 128 };
    let is_loopback = route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => ip.is_loopback(),
        _ => false,
    });
    header.kind == RouteType::Local && header.destination_prefix_length < whole && !is_loopback
}

fn table_of_route(route: &RouteMessage) -> u32 {
    let wide = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or(route.header.table.into())
}

fn table_of_rule(rule: &RuleMessage) -> u32 {
    let wide = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or(rule.header.table.into())
}

/// What is missing where these tables take in packets for others, and rules lead to those.
fn missing(family: Family, taking: &BTreeSet<u32>, led_to: &BTreeSet<u32>) -> Option<Missing> {
    let Some(first) = taking.first() else { return Some(Missing::Route(family)) };
    let is_found = taking.iter().any(|table| *table == LOCAL_TABLE || led_to.contains(table));
    (!is_found).then_some(Missing::Rule(family, *first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, source: &str, listen: &str, backend: &str) -> Service {
        let text = format!(
            "[[service]]\nname = \"{name}\"\nlisten = [\"{listen}\"]\nsource_address = \"{source}\"\n\
             [[service.backend]]\naddress = \"{backend}\"\n"
        );
        config::parse(&text, "test")
            .map_err(|problems| problems.render(false))
            .unwrap()
            .config
            .services
            .remove(0)
    }

    #[test]
    fn a_table_that_takes_in_the_answers_needs_a_rule_unless_it_is_the_one_that_is_always_looked_at() {
        let of = |tables: &[u32]| tables.iter().copied().collect::<BTreeSet<_>>();
        let always = of(&[253, 254, LOCAL_TABLE]);
        let missing = |taking: &[u32], led_to: &BTreeSet<u32>| missing(Family::Ipv4, &of(taking), led_to);
        assert_eq!(missing(&[], &always), Some(Missing::Route(Family::Ipv4)));
        assert_eq!(missing(&[100], &always), Some(Missing::Rule(Family::Ipv4, 100)));
        assert_eq!(missing(&[100], &of(&[100, 254])), None);
        assert_eq!(missing(&[LOCAL_TABLE], &always), None);
    }

    #[test]
    fn only_families_that_backends_and_clients_have_in_common_are_looked_at() {
        let of = |listen, backend| families(&service("web", "transparent", listen, backend));
        assert_eq!(of("192.0.2.1:80", "192.0.2.9:80"), [Family::Ipv4].into());
        assert_eq!(of("[2001:db8::1]:80", "[2001:db8::9]:80"), [Family::Ipv6].into());
        assert_eq!(of("[2001:db8::1]:80", "192.0.2.9:80"), [].into());
    }

    #[tokio::test]
    async fn a_service_that_runs_already_is_not_looked_at_again() {
        let (web, plain) = (
            service("web", "transparent", "192.0.2.1:80", "192.0.2.9:80"),
            service("web", "", "192.0.2.1:80", "192.0.2.9:80"),
        );
        assert_eq!(check(std::slice::from_ref(&web), std::slice::from_ref(&web)).await, Ok(()));
        assert_eq!(check(&[plain], &[web]).await, Ok(()));
    }
}
