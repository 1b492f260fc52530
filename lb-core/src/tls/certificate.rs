//! What a certificate says of itself: the names it is made for and how long it is valid. Pure.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A certificate's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// DNS names of the subject alternative names (RFC 5280 §4.2.1.6), in lower case; `*.` stands for one label. The
    /// subject's common name is not among them: no client has looked at it for years (RFC 6125 §6.4.4).
    pub(crate) names: Vec<String>,
    /// Since 1970.
    pub(crate) not_after: Duration,
}

impl Claims {
    /// `None`: it is not a certificate that can be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
        let certificate = certificate.tbs_certificate();
        let names = match certificate.get_extension::<SubjectAltName>().ok()? {
            Some((_, SubjectAltName(names))) => names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
                    _ => None,
                })
                .collect(),
            None => Vec::new(),
        };
        Some(Claims { names, not_after: certificate.validity().not_after.to_unix_duration() })
    }
}
