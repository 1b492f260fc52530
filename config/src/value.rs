//! Single values: from what TOML calls them to what the model does, or what would have been accepted. Pure.
//!
//! Each function here gives a reader: a closure from a TOML value to a `Result`. None of them knows keys or places.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::duration;
use crate::types::Invalid;

/// Why a value is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `None`: there is no more to say than that it is not what is expected.
    pub(crate) message: Option<String>,
    pub(crate) expected: String,
}

impl Refused {
    pub(crate) fn expected(expected: impl Into<String>) -> Self {
        Refused { message: None, expected: expected.into() }
    }

    pub(crate) fn because(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Refused { message: Some(message.into()), expected: expected.into() }
    }
}

/// Splits "why: expected what".
impl From<Invalid> for Refused {
    fn from(Invalid(text): Invalid) -> Self {
        match text.split_once(": expected ") {
            Some((why, expected)) => Refused::because(why, expected),
            None => Refused::expected(text.strip_prefix("expected ").unwrap_or(&text)),
        }
    }
}

/// `value` as a message quotes it.
pub(crate) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The longest text that a message quotes in full.
const QUOTED: usize = 60;

/// `text` in quotes, cut if it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("\"{}...\"", text.get(..end).unwrap_or_default()),
        None => format!("\"{text}\""),
    }
}

/// A text that `read` makes something of.
pub(crate) fn text<T>(
    expected: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> impl Fn(&DeValue<'_>) -> Result<T, Refused> {
    move |value| value.as_str().and_then(&read).ok_or_else(|| Refused::expected(expected))
}

/// A text that a constructor of `types.rs` checks.
pub(crate) fn typed<T>(
    read: impl Fn(&str) -> Result<T, Invalid>,
    expected: &'static str,
) -> impl Fn(&DeValue<'_>) -> Result<T, Refused> {
    move |value| {
        let text = value.as_str().ok_or_else(|| Refused::expected(expected))?;
        read(text).map_err(Refused::from)
    }
}

pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| Refused::expected("true or false"))
}

/// A whole number within `range`, which must fit `T`.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Refused>
where
    T: TryFrom<i128> + PartialOrd + Copy + Display,
{
    move |value| {
        let number = value.as_integer().and_then(|n| i128::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n));
        number.ok_or_else(|| Refused::expected(format!("a whole number, {}..{}", range.start(), range.end())))
    }
}

/// A duration within `range`.
pub(crate) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, Refused> {
    move |value| {
        let read = value.as_str().and_then(duration::parse).filter(|d| range.contains(d));
        read.ok_or_else(|| {
            Refused::expected(format!("{}, {}", duration::EXPECTED, duration::format_range(&range)))
        })
    }
}

/// One of a few words. `None` stands for a word of the interface that is not built yet.
pub(crate) fn choice<T: Copy>(
    choices: &'static [(&'static str, Option<T>)],
) -> impl Fn(&DeValue<'_>) -> Result<T, Refused> {
    move |value| {
        let built = choices.iter().filter(|(_, built)| built.is_some());
        let expected = built.map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        match choices.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, Some(chosen))) => Ok(*chosen),
            Some((word, None)) => Err(not_supported_yet(&format!("\"{word}\""), expected)),
            None => Err(Refused::expected(expected)),
        }
    }
}

/// `what` is part of the interface, but not built.
pub(crate) fn not_supported_yet(what: &str, expected: impl Into<String>) -> Refused {
    Refused::because(format!("{what} is not supported yet"), expected)
}

/// `""` for none, otherwise what `read` accepts.
pub(crate) fn or_empty<T>(
    read: impl Fn(&DeValue<'_>) -> Result<T, Refused>,
) -> impl Fn(&DeValue<'_>) -> Result<Option<T>, Refused> {
    move |value| match value.as_str() {
        Some("") => Ok(None),
        _ => read(value).map(Some).map_err(|refused| Refused {
            expected: format!("{}, or \"\" for none", refused.expected),
            ..refused
        }),
    }
}

pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf, Refused> {
    let fits = |text: &str| !text.is_empty() && !text.contains('\0');
    text("a path", |path| fits(path).then(|| PathBuf::from(path)))(value)
}

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

/// The address of a host of the short form, where a name will be possible.
pub(crate) fn node_address(value: &DeValue<'_>) -> Result<IpAddr, Refused> {
    match value.as_str() {
        Some(name) if name.parse::<IpAddr>().is_err() && is_host_name(name) => {
            Err(not_supported_yet("a host name", "an IPv4 or IPv6 address, in quotes"))
        }
        _ => host_address(value),
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

/// Where a backend is reached.
pub(crate) fn backend_address(value: &DeValue<'_>) -> Result<SocketAddr, Refused> {
    const EXPECTED: &str =
        "ip:port with a port of 1..65535, such as \"10.84.14.1:8082\" or \"[2001:db8::1]:8082\"";
    let written = value.as_str().ok_or_else(|| Refused::expected(EXPECTED))?;
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Refused::expected(EXPECTED)),
        Ok(address) => match unusable(address.ip()) {
            Some(why) => Err(Refused::because(format!("{} {why}", address.ip()), EXPECTED)),
            None => Ok(address),
        },
        Err(_) => Err(match later_backend_address(written) {
            Some(what) => not_supported_yet(what, EXPECTED),
            None => Refused::expected(EXPECTED),
        }),
    }
}

/// What kind of address of the interface `text` is that is not built yet.
fn later_backend_address(text: &str) -> Option<&'static str> {
    match text.rsplit_once(':') {
        Some(("unix", path)) if path.starts_with('/') => Some("a Unix socket"),
        _ if text.parse::<IpAddr>().is_ok() => Some("an address without a port"),
        Some((name, port)) if is_host_name(name) && port.parse::<u16>().is_ok() => Some("a host name"),
        _ => None,
    }
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.split('.').all(is_label) && text.contains(|c: char| c.is_ascii_alphabetic())
}
