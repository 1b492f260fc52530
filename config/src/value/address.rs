//! Addresses: of hosts, of listeners, of backends, and networks of clients. Pure; resolves no name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{Refused, text};
use crate::model::LogTarget;
use crate::types::BackendAddr;

/// Why no host can have `address` as its own and be reached at it; `None` if one can.
pub(crate) fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => Some("is no address of a host"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("is no address of a host"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("is in 0.0.0.0/8, which no host can use"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is the broadcast address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("is an IPv4-mapped address: write it as IPv4")
        }
        _ => None,
    }
}

/// Whether `address` means nothing beyond one link.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The address of a host. No link-local IPv6 address, as there is no place for its scope.
pub(crate) fn host_address(value: &DeValue<'_>) -> Result<IpAddr, Refused> {
    const EXPECTED: &str = "the IPv4 or IPv6 address of a host, in quotes";
    let address = text(EXPECTED, |text| text.parse::<IpAddr>().ok())(value)?;
    let scopeless =
        (address.is_ipv6() && is_link_local(address)).then_some("is a link-local address without a scope");
    match unusable(address).or(scopeless) {
        Some(why) => Err(Refused::because(format!("{address} {why}"), EXPECTED)),
        None => Ok(address),
    }
}

/// The address of a host that is valid beyond one link.
pub(crate) fn global_address(value: &DeValue<'_>) -> Result<IpAddr, Refused> {
    let address = host_address(value)?;
    if is_link_local(address) {
        return Err(Refused::because(
            format!("{address} is a link-local address"),
            "an IPv4 or IPv6 address that is valid beyond its link, in quotes",
        ));
    }
    Ok(address)
}

/// The address of a BGP peer; an IPv6 link-local one with its interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PeerAddress {
    pub(crate) ip: IpAddr,
    pub(crate) interface: Option<String>,
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

pub(crate) fn peer_address(value: &DeValue<'_>) -> Result<PeerAddress, Refused> {
    const EXPECTED: &str =
        "an IPv4 or IPv6 address, an IPv6 link-local one with its interface: \"fe80::1%eth0\"";
    let because = |why: String| Err(Refused::because(why, EXPECTED));
    let written = value.as_str().ok_or_else(|| Refused::expected(EXPECTED))?;
    let (ip, interface) = written.split_once('%').map_or((written, None), |(ip, name)| (ip, Some(name)));
    let ip = ip.parse::<IpAddr>().map_err(|_| Refused::expected(EXPECTED))?;
    let interface = interface.map(str::to_owned);
    if let Some(why) = unusable(ip) {
        return because(format!("{ip} {why}"));
    }
    match (ip.is_ipv6() && is_link_local(ip), &interface) {
        (true, None) => because(format!("{ip} is a link-local address without an interface")),
        (true, Some(name)) if !is_interface(name) => because(format!("{name:?} is no name of an interface")),
        (false, Some(_)) => because(format!("{ip} is no IPv6 link-local address, so it has no interface")),
        (true, Some(_)) | (false, None) => Ok(PeerAddress { ip, interface }),
    }
}

/// Whether Linux accepts `name` for an interface (`dev_valid_name`).
pub(crate) fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
}

/// An address and port to listen on; the address may be a wildcard.
pub(crate) fn listen_address(value: &DeValue<'_>) -> Result<SocketAddr, Refused> {
    const EXPECTED: &str =
        "an address and a port of 1..65535, such as \"10.84.13.100:8082\" or \"[2001:db8::1]:8082\"";
    let address = text(EXPECTED, |text| text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0))(value)?;
    match unusable(address.ip()) {
        Some(why) if !address.ip().is_unspecified() => {
            Err(Refused::because(format!("{} {why}", address.ip()), EXPECTED))
        }
        _ => Ok(address),
    }
}

/// A node of the short form, whose port is another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Ip(IpAddr),
    Name(Arc<str>),
}

impl Node {
    pub(crate) fn with_port(&self, port: u16) -> BackendAddr {
        match self {
            Node::Ip(ip) => BackendAddr::Ip(SocketAddr::new(*ip, port)),
            Node::Name(host) => BackendAddr::Name { host: Arc::clone(host), port, answer: None },
        }
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Ip(ip) => ip.fmt(f),
            Node::Name(host) => host.fmt(f),
        }
    }
}

/// A host of the short form, by address or by name.
pub(crate) fn node(value: &DeValue<'_>) -> Result<Node, Refused> {
    match value.as_str() {
        Some(name) if is_host_name(name) => Ok(Node::Name(name.into())),
        _ => host_address(value).map(Node::Ip).map_err(|refused| Refused {
            expected: "the IPv4 or IPv6 address of a host, or its name, in quotes".to_owned(),
            ..refused
        }),
    }
}

/// Where a backend is reached.
pub(crate) fn backend_address(value: &DeValue<'_>) -> Result<BackendAddr, Refused> {
    const EXPECTED: &str = "ip:port or name:port with a port of 1..65535, \
                            an ip alone (the port that the client used), or unix:/path";
    let written = value.as_str().ok_or_else(|| Refused::expected(EXPECTED))?;
    let address = parse_backend(written).ok_or_else(|| Refused::expected(EXPECTED))?;
    let ip = match &address {
        BackendAddr::Ip(address) => Some(address.ip()),
        BackendAddr::ClientPort(ip) => Some(*ip),
        BackendAddr::Name { .. } | BackendAddr::Unix(_) => None,
    };
    match ip.and_then(|ip| Some((ip, unusable(ip)?))) {
        Some((ip, why)) => Err(Refused::because(format!("{ip} {why}"), EXPECTED)),
        None => Ok(address),
    }
}

fn parse_backend(text: &str) -> Option<BackendAddr> {
    if let Some(path) = text.strip_prefix("unix:") {
        return is_socket_path(path).then(|| BackendAddr::Unix(Path::new(path).into()));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(BackendAddr::Ip(address));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(BackendAddr::ClientPort(ip));
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| is_number && *port != 0)?;
    is_host_name(host).then(|| BackendAddr::Name { host: host.into(), port, answer: None })
}

/// The longest path of a Unix socket: `sun_path` less its final NUL (unix(7)).
pub(crate) const SOCKET_PATH: usize = 107;

fn is_socket_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= SOCKET_PATH && !path.contains('\0')
}

/// A host name (RFC 1123 §2.1): labels of 1..63 letters, digits and inner hyphens, 253 in all; the last one is no number,
/// so that it cannot be taken for an address.
pub(crate) fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// Where the log goes.
pub(crate) fn log_target(value: &DeValue<'_>) -> Result<LogTarget, Refused> {
    const EXPECTED: &str = "\"stderr\", \"journald\", \"syslog\", or \"syslog://IP:PORT\" (UDP)";
    let read = |text: &str| match text {
        "stderr" => Some(LogTarget::Stderr),
        "journald" => Some(LogTarget::Journald),
        "syslog" => Some(LogTarget::Syslog),
        _ => {
            let address = text.strip_prefix("syslog://")?.parse::<SocketAddr>().ok()?;
            let is_usable = address.port() != 0 && unusable(address.ip()).is_none();
            is_usable.then_some(LogTarget::SyslogUdp(address))
        }
    };
    text(EXPECTED, read)(value)
}

/// Clients' addresses: a network, or one address.
pub(crate) fn network(value: &DeValue<'_>) -> Result<IpNet, Refused> {
    const EXPECTED: &str = "a network such as \"10.84.0.0/16\" or \"2001:db8::/32\", or an address";
    let read = |text: &str| text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
    let network = text(EXPECTED, read)(value)?;
    let is_mapped = matches!(network.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if is_mapped {
        return Err(Refused::because(format!("{network} is IPv4-mapped: write it as IPv4"), EXPECTED));
    }
    if network.trunc() != network {
        let message = format!("{network} has bits beyond its prefix");
        return Err(Refused::because(message, format!("\"{}\", or a longer prefix", network.trunc())));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(text: &str) -> Option<String> {
        parse_backend(text).map(|address| format!("{address:?}"))
    }

    #[test]
    fn each_form_of_a_backends_address_is_told_from_the_others() {
        for (text, form) in [
            ("10.0.0.1:80", "Ip("),
            ("[2001:db8::1]:80", "Ip("),
            ("10.0.0.1", "ClientPort("),
            ("2001:db8::1", "ClientPort("),
            ("node-1.example.org:80", "Name {"),
            ("node:80", "Name {"),
            ("unix:/run/app.sock", "Unix("),
        ] {
            assert!(backend(text).is_some_and(|read| read.starts_with(form)), "{text}");
            assert_eq!(parse_backend(text).map(|address| address.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_no_address_of_a_backend_is_refused() {
        let long = "a".repeat(64);
        for text in [
            "",
            "node",
            "10.0.0.1:0",
            "10.0.0.256:80",
            "node:0",
            "node:+80",
            "node:65536",
            "-node:80",
            "node_1:80",
            "node.:80",
            "a..b:80",
            "unix:",
            "unix:app.sock",
            "::1:80:x",
            &format!("{long}:80"),
        ] {
            assert_eq!(backend(text), None, "{text:?}");
        }
    }
}
