//! `tls`, `sni_routes` and `backend_tls` of a service as they were written.

use std::path::PathBuf;

use toml::de::DeValue;

use crate::findings::{At, Finding, Place};
use crate::model::{BackendTls, CertificateFiles, ClientAuth, CloseNotify, SniRoute, Tls, TlsVersion};
use crate::raw::bgp::name;
use crate::reader::{List, Table};
use crate::types::Name;
use crate::value::{Refused, boolean, choice, is_host_name, or_empty, path, text};

/// `tls = { .. }` or `[service.tls]`.
#[derive(Debug)]
pub(crate) struct RawTls {
    /// Empty: bytes are passed through.
    pub(crate) certificates: List<PathBuf>,
    pub(crate) keys: List<PathBuf>,
    pub(crate) key_password_file: At<Option<PathBuf>>,
    pub(crate) client_ca: At<Option<PathBuf>>,
    pub(crate) client_auth: At<WhichClients>,
    pub(crate) min_version: TlsVersion,
    pub(crate) alpn: List<String>,
    pub(crate) place: Place,
}

/// Which clients need a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhichClients {
    None,
    Optional,
    Required,
}

/// `backend_tls = { .. }` or `[service.backend_tls]`.
#[derive(Debug)]
pub(crate) struct RawBackendTls {
    pub(crate) enabled: bool,
    pub(crate) ca: At<Option<PathBuf>>,
    pub(crate) server_name: Option<String>,
    pub(crate) verify: bool,
    pub(crate) certificate: At<Option<PathBuf>>,
    pub(crate) key: At<Option<PathBuf>>,
    pub(crate) close_notify: CloseNotify,
}

/// An entry of `sni_routes`.
#[derive(Debug)]
pub(crate) struct RawRoute {
    /// In lower case.
    pub(crate) pattern: At<String>,
    pub(crate) service: At<Name>,
}

const CLIENTS: &[(&str, Option<WhichClients>)] = &[
    ("none", Some(WhichClients::None)),
    ("optional", Some(WhichClients::Optional)),
    ("required", Some(WhichClients::Required)),
];
const VERSIONS: &[(&str, Option<TlsVersion>)] =
    &[("1.2", Some(TlsVersion::Tls12)), ("1.3", Some(TlsVersion::Tls13))];

const CLOSE_NOTIFY: &[(&str, Option<CloseNotify>)] =
    &[("required", Some(CloseNotify::Required)), ("optional", Some(CloseNotify::Optional))];

impl RawTls {
    pub(crate) fn read(mut tls: Table<'_, '_>) -> Self {
        RawTls {
            certificates: read_paths(&mut tls, "certificate"),
            keys: read_paths(&mut tls, "key"),
            key_password_file: tls.value("key_password_file", or_empty(path), None),
            client_ca: tls.value("client_ca", or_empty(path), None),
            client_auth: tls.value("client_auth", choice(CLIENTS), WhichClients::None),
            min_version: tls.value("min_version", choice(VERSIONS), TlsVersion::Tls12).value,
            alpn: tls.list("alpn", protocol),
            place: tls.place,
        }
    }

    /// `None`: bytes are passed through.
    pub(crate) fn resolve(self) -> Option<Tls> {
        let pairs = self.certificates.items.into_iter().zip(self.keys.items);
        let certificates: Vec<_> = pairs
            .map(|(certificate, key)| CertificateFiles { certificate: certificate.value, key: key.value })
            .collect();
        let client_auth = match (self.client_auth.value, self.client_ca.value) {
            (WhichClients::Optional, Some(ca)) => ClientAuth::Optional(ca),
            (WhichClients::Required, Some(ca)) => ClientAuth::Required(ca),
            (WhichClients::None, _) | (_, None) => ClientAuth::None,
        };
        (!certificates.is_empty()).then(|| Tls {
            certificates,
            key_password_file: self.key_password_file.value,
            client_auth,
            min_version: self.min_version,
            alpn: self.alpn.items.into_iter().map(|protocol| protocol.value).collect(),
        })
    }
}

impl RawBackendTls {
    pub(crate) fn read(mut tls: Table<'_, '_>) -> Self {
        RawBackendTls {
            enabled: tls.value("enabled", boolean, false).value,
            ca: tls.value("ca", or_empty(path), None),
            server_name: tls.value("server_name", or_empty(server_name), None).value,
            verify: tls.value("verify", boolean, true).value,
            certificate: tls.value("certificate", or_empty(path), None),
            key: tls.value("key", or_empty(path), None),
            close_notify: tls.value("close_notify", choice(CLOSE_NOTIFY), CloseNotify::Required).value,
        }
    }

    pub(crate) fn resolve(self) -> BackendTls {
        let client = self.certificate.value.zip(self.key.value);
        BackendTls {
            enabled: self.enabled,
            ca: self.ca.value,
            server_name: self.server_name,
            verify: self.verify,
            client: client.map(|(certificate, key)| CertificateFiles { certificate, key }),
            close_notify: self.close_notify,
        }
    }
}

impl RawRoute {
    pub(crate) fn read_all(service: &mut Table<'_, '_>) -> Vec<Self> {
        let mut routes = Vec::new();
        for (pattern, target) in service.map("sni_routes", name) {
            let lower = pattern.value.to_ascii_lowercase();
            if is_host_name(lower.strip_prefix("*.").unwrap_or(&lower)) {
                routes.push(RawRoute { pattern: At::new(lower, &pattern.place), service: target });
            } else {
                let message = format!("{:?} is no server name", pattern.value);
                let finding = Finding::error(&pattern.place, message);
                service.findings.push(finding.expected("a host name; its first label may be *"));
            }
        }
        routes
    }

    /// Exact names first, then patterns, the longest first: the first that fits is the one.
    pub(crate) fn resolve_all(routes: Vec<Self>) -> Vec<SniRoute> {
        let mut routes: Vec<_> = routes
            .into_iter()
            .map(|route| SniRoute { pattern: route.pattern.value, service: route.service.value })
            .collect();
        routes.sort_by(|a, b| {
            let rank = |route: &SniRoute| {
                let is_pattern = route.pattern.starts_with('*');
                (is_pattern, std::cmp::Reverse(if is_pattern { route.pattern.len() } else { 0 }))
            };
            rank(a).cmp(&rank(b)).then_with(|| a.pattern.cmp(&b.pattern))
        });
        routes
    }
}

/// One path or a list of them; `""` stands for none.
fn read_paths(tls: &mut Table<'_, '_>, key: &'static str) -> List<PathBuf> {
    let List { items, is_complete, place, .. } = tls.one_or_list(key, or_empty(path));
    let items: Vec<_> =
        items.into_iter().filter_map(|At { value, place }| Some(At { value: value?, place })).collect();
    List { is_given: !items.is_empty() || !is_complete, items, is_complete, place }
}

fn server_name(value: &DeValue<'_>) -> Result<String, Refused> {
    text("a host name", |name| is_host_name(name).then(|| name.to_owned()))(value)
}

/// The name of a protocol (RFC 7301 §3.1), which all registered ones can be written as.
fn protocol(value: &DeValue<'_>) -> Result<String, Refused> {
    let fits = |name: &str| (1..=255).contains(&name.len());
    text("the name of a protocol such as \"http/1.1\", 1..255 bytes", |name| {
        fits(name).then(|| name.to_owned())
    })(value)
}
