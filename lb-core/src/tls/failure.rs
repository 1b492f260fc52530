//! What can go wrong in a TLS connection, as a closed set. Pure.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why a TLS handshake, or a connection after it, failed. Displays as what the operator has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// The peer closed before the handshake was over.
    Gone,
    /// What the peer sent is not TLS.
    NotTls,
    /// The peer broke the protocol, or a record was tampered with.
    Protocol,
    /// No version, cipher suite, group, signature scheme or application protocol in common.
    NothingInCommon,
    /// The peer's certificate.
    Certificate(CertificateFault),
    /// The peer gave up and said this (RFC 8446 §6).
    Alert(u8),
    /// The keys have encrypted as much as they may.
    Exhausted,
    /// This host: no randomness, no time.
    Host,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    Missing,
    UnknownIssuer,
    Expired,
    NotYetValid,
    /// Made for another name.
    WrongName,
    /// Made for something else: a client's shown by a server, or the other way round.
    WrongPurpose,
    Other,
}

impl TlsFailure {
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => TlsFailure::NotTls,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsFailure::NothingInCommon,
            Error::NoCertificatesPresented => TlsFailure::Certificate(CertificateFault::Missing),
            Error::InvalidCertificate(error) => TlsFailure::Certificate(CertificateFault::of(error)),
            Error::AlertReceived(alert) => TlsFailure::Alert(u8::from(*alert)),
            Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => TlsFailure::Host,
            _ => TlsFailure::Protocol,
        }
    }
}

impl CertificateFault {
    fn of(error: &CertificateError) -> Self {
        use CertificateError::*;
        match error {
            UnknownIssuer => CertificateFault::UnknownIssuer,
            Expired | ExpiredContext { .. } => CertificateFault::Expired,
            NotValidYet | NotValidYetContext { .. } => CertificateFault::NotYetValid,
            NotValidForName | NotValidForNameContext { .. } => CertificateFault::WrongName,
            InvalidPurpose | InvalidPurposeContext { .. } => CertificateFault::WrongPurpose,
            _ => CertificateFault::Other,
        }
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsFailure::Gone => f.write_str("TLS: closed during the handshake"),
            TlsFailure::NotTls => f.write_str("TLS: the peer does not speak it"),
            TlsFailure::Protocol => f.write_str("TLS: the peer broke the protocol"),
            TlsFailure::NothingInCommon => f.write_str("TLS: no version, cipher or protocol in common"),
            TlsFailure::Certificate(fault) => write!(f, "TLS: the certificate {fault}"),
            TlsFailure::Alert(alert) => {
                write!(f, "TLS: the peer refused: {:?}", AlertDescription::from(*alert))
            }
            TlsFailure::Exhausted => f.write_str("TLS: the keys are used up"),
            TlsFailure::Host => f.write_str("TLS: this host has no randomness or no time"),
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CertificateFault::Missing => "is missing",
            CertificateFault::UnknownIssuer => "is not signed by a known CA",
            CertificateFault::Expired => "has expired",
            CertificateFault::NotYetValid => "is not valid yet",
            CertificateFault::WrongName => "is made for another name",
            CertificateFault::WrongPurpose => "is made for another purpose",
            CertificateFault::Other => "cannot be used",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_the_operator_has_to_know() {
        let text = |error| TlsFailure::of(&error).to_string();
        assert_eq!(
            text(Error::AlertReceived(AlertDescription::UnknownCA)),
            "TLS: the peer refused: UnknownCA"
        );
        assert_eq!(text(CertificateError::Expired.into()), "TLS: the certificate has expired");
        assert_eq!(text(Error::NoCertificatesPresented), "TLS: the certificate is missing");
        assert_eq!(text(InvalidMessage::InvalidContentType.into()), "TLS: the peer does not speak it");
    }
}
