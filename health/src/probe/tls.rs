//! TLS towards a backend, for `kind = "tls"` and `kind = "https"`, by the service's `backend_tls`.
//!
//! Certificates and keys are read when a target is configured. rustls bounds what a backend can send in a handshake (64 KiB
//! a message); the stream's bound and the attempt's timeout hold for all of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use config::{BackendTls, CertificateFiles, Endpoint};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Ending;
use super::stream::Stream;
use crate::outcome::{CheckStatus, Target};

/// Ready to shake hands, or why it cannot be.
pub(super) type Prepared = Result<Client, String>;

/// Everything a handshake with one backend needs.
#[derive(Clone)]
pub(super) struct Client {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the files of each `backend_tls` amount to, each read once.
#[derive(Default)]
pub(crate) struct Clients {
    read: Vec<(BackendTls, Result<Arc<ClientConfig>, String>)>,
}

impl Clients {
    pub(super) fn prepare(&mut self, target: &Target, endpoint: &Endpoint) -> Prepared {
        let tls = &target.backend_tls;
        let name = server_name(tls, target.host.as_deref(), endpoint)?;
        let known = self.read.iter().find(|(read, _)| read == tls).map(|(_, config)| config.clone());
        let config = known.unwrap_or_else(|| {
            let config = client_config(tls).map(Arc::new);
            self.read.push((tls.clone(), config.clone()));
            config
        })?;
        Ok(Client { connector: TlsConnector::from(config), name })
    }
}

pub(super) async fn shake_hands(stream: Stream, prepared: &Prepared) -> Result<TlsStream<Stream>, Ending> {
    let Client { connector, name } = match prepared {
        Ok(client) => client,
        Err(why) => return Err(Ending::new(CheckStatus::TlsFailed, format!("{why},"))),
    };
    connector.connect(name.clone(), stream).await.map_err(|error| {
        // Without what rustls says of it, it is "invalid data".
        let words = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => inner.to_string(),
            None => super::connect::in_words(&error),
        };
        Ending::new(CheckStatus::TlsFailed, format!("{words},"))
    })
}

/// Which TLS it became, in words.
pub(super) fn version(stream: &TlsStream<Stream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2 established",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3 established",
        Some(_) | None => "established",
    }
}

/// The name asked for and verified; with an address no name is sent.
fn server_name(
    tls: &BackendTls,
    host: Option<&str>,
    endpoint: &Endpoint,
) -> Result<ServerName<'static>, String> {
    match (tls.server_name.as_deref().or(host), endpoint) {
        (Some(name), _) => ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no name that a certificate can be for")),
        (None, Endpoint::Tcp(address)) => Ok(ServerName::IpAddress(address.ip().into())),
        (None, Endpoint::Unix(_)) if !tls.verify => Ok(ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())),
        (None, Endpoint::Unix(_)) => {
            Err("a Unix socket has no name to verify: set backend_tls.server_name".into())
        }
    }
}

fn client_config(tls: &BackendTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), Arc::clone(&provider))
            .build()
            .map_err(|e| format!("backend_tls.ca: {e}"))?
    } else {
        Arc::new(Unverified(Arc::clone(&provider)))
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &tls.client {
        None => Ok(builder.with_no_client_auth()),
        Some(CertificateFiles { certificate, key }) => {
            let in_file =
                |file: &std::path::Path, e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| in_file(certificate, &e))?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| in_file(key, &e))?;
            builder.with_client_auth_cert(chain, private).map_err(|e| in_file(certificate, &e))
        }
    }
}

fn roots(tls: &BackendTls) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = &tls.ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let missing = "this host has no CA certificates: set backend_tls.ca";
        return if roots.is_empty() { Err(missing.into()) } else { Ok(roots) };
    };
    let in_file = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| in_file(&e))? {
        roots.add(certificate.map_err(|e| in_file(&e))?).map_err(|e| in_file(&e))?;
    }
    if roots.is_empty() { Err(in_file(&"no certificate in it")) } else { Ok(roots) }
}

/// `verify = false`: whoever has the key to the certificate it shows will do.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
