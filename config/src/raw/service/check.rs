//! `check` of a service as it was written.

use std::time::Duration;

use toml::de::DeValue;

use super::dialog::Dialog;
use crate::findings::{At, Finding, Place};
use crate::model::{CheckKind, HttpCheck};
use crate::raw::{HOUR, MILLISECOND};
use crate::reader::Table;
use crate::value::{Refused, choice, duration, integer, or_empty, text};

/// `check = { .. }` or `[service.check]`.
#[derive(Debug)]
pub(crate) struct RawCheck {
    pub(crate) kind: CheckKind,
    pub(crate) interval: At<Duration>,
    pub(crate) fast_interval: Option<Duration>,
    pub(crate) down_interval: Option<Duration>,
    pub(crate) timeout: At<Duration>,
    pub(crate) rise: u8,
    pub(crate) fall: u8,
    pub(crate) port: Option<u16>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Tcp,
    Http,
    Https,
    Tls,
    SendExpect,
    Agent,
}

const KINDS: &[(&str, Option<Kind>)] = &[
    ("tcp", Some(Kind::Tcp)),
    ("http", Some(Kind::Http)),
    ("https", Some(Kind::Https)),
    ("tls", Some(Kind::Tls)),
    ("send_expect", Some(Kind::SendExpect)),
    ("agent", Some(Kind::Agent)),
    ("none", Some(Kind::None)),
];

impl RawCheck {
    pub(crate) fn read(mut check: Table<'_, '_>) -> Self {
        let two = Duration::from_secs(2);
        let interval = duration(10 * MILLISECOND..=HOUR);
        let port = check.value("port", integer(0..=u16::MAX), 0).value;
        RawCheck {
            kind: read_kind(&mut check),
            interval: check.value("interval", &interval, two),
            fast_interval: check.value("fast_interval", or_empty(&interval), None).value,
            down_interval: check.value("down_interval", or_empty(&interval), None).value,
            timeout: check.value("timeout", duration(MILLISECOND..=HOUR), two),
            rise: check.value("rise", integer(1..=100), 2).value,
            fall: check.value("fall", integer(1..=100), 3).value,
            port: (port != 0).then_some(port),
            place: check.place,
        }
    }
}

fn read_kind(check: &mut Table<'_, '_>) -> CheckKind {
    let kind = check.value("kind", choice(KINDS), Kind::Tcp);
    let stock = HttpCheck::default();
    let http = HttpCheck {
        method: check.value("method", method, stock.method.clone()).value,
        path: check.value("path", path, stock.path.clone()).value,
        host: check.value("host", or_empty(host), None).value,
        expect_status: check
            .value("expect_status", text(STATUS, parse_status), stock.expect_status.clone())
            .value,
        expect_body: check.value("expect_body", or_empty(body), None).value,
    };
    let dialog = Dialog::read(check);
    if !matches!(kind.value, Kind::SendExpect | Kind::Agent) {
        dialog.warn_of_no_effect(check);
    }
    if !matches!(kind.value, Kind::Http | Kind::Https) && http != stock {
        let message =
            "method, path, host, expect_status and expect_body have no effect on this kind of check";
        let finding = Finding::warning(&check.place, message);
        check.findings.push(finding.help("set kind = \"http\" or \"https\", or leave them out"));
    }
    match kind.value {
        Kind::None => CheckKind::None,
        Kind::Tcp => CheckKind::Tcp,
        Kind::Http => CheckKind::Http(http),
        Kind::Https => CheckKind::Https(http),
        Kind::Tls => CheckKind::Tls,
        Kind::SendExpect => CheckKind::SendExpect(dialog.into_steps(check)),
        Kind::Agent => CheckKind::Agent { send: dialog.into_question(check) },
    }
}

/// A method of capital letters (all registered ones are), but not CONNECT, which asks for a tunnel.
fn method(value: &DeValue<'_>) -> Result<String, Refused> {
    let fits = |method: &str| {
        (1..=16).contains(&method.len())
            && method.bytes().all(|b| b.is_ascii_uppercase())
            && method != "CONNECT"
    };
    text("a method such as \"GET\", \"HEAD\" or \"OPTIONS\"", |method| {
        fits(method).then(|| method.to_owned())
    })(value)
}

/// A request target in origin form (RFC 9112 §3.2.1).
fn path(value: &DeValue<'_>) -> Result<String, Refused> {
    let fits = |path: &str| {
        path.starts_with('/') && path.len() <= 2048 && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
    };
    text("a path and query that start with /, percent-encoded", |path| fits(path).then(|| path.to_owned()))(
        value,
    )
}

fn host(value: &DeValue<'_>) -> Result<String, Refused> {
    let fits = |host: &str| {
        (1..=255).contains(&host.len())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
    };
    text("a host name or address, with a port if need be", |host| fits(host).then(|| host.to_owned()))(value)
}

fn body(value: &DeValue<'_>) -> Result<String, Refused> {
    text("a text of 1..4096 bytes", |body| (1..=4096).contains(&body.len()).then(|| body.to_owned()))(value)
}

const STATUS: &str = "status codes and ranges of 100..599, such as \"200-399\" or \"200,204,301-302\"";

fn parse_status(text: &str) -> Option<Vec<(u16, u16)>> {
    let code = |text: &str| {
        let is_number = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|code| is_number && (100..=599).contains(code))
    };
    let range = |part: &str| {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (code(first.trim())?, code(last.trim())?);
        (first <= last).then_some((first, last))
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::parse_status;

    #[test]
    fn status_codes_and_ranges_are_read() {
        assert_eq!(parse_status("200-399"), Some(vec![(200, 399)]));
        assert_eq!(parse_status("200, 204,301-302"), Some(vec![(200, 200), (204, 204), (301, 302)]));
    }

    #[test]
    fn a_reversed_range_or_a_code_out_of_range_is_refused() {
        for text in ["", "399-200", "99", "600", "2xx", "200-", "200,,204", "+20"] {
            assert_eq!(parse_status(text), None, "{text:?}");
        }
    }
}
