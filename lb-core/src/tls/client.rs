//! TLS towards the backends: from a service's `backend_tls` to what its backends are connected with.

use std::path::Path;
use std::sync::Arc;

use config::BackendTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::files::{self, Contents, TlsFileError};

/// A service's re-encryption under one configuration.
#[derive(Debug)]
pub(crate) struct Reencryption {
    source: (BackendTls, Contents),
    pub(crate) config: Arc<ClientConfig>,
}

impl Reencryption {
    /// Reads the files again. Returns `previous` if nothing has changed, so that its sessions stay good. The system's
    /// CAs are read only once the configuration itself changes.
    pub(crate) fn load(tls: &BackendTls, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, TlsFileError> {
        let source = (tls.clone(), Contents::read(all_files(tls))?);
        if let Some(previous) = previous.filter(|previous| previous.source == source) {
            return Ok(previous.clone());
        }
        let config = Arc::new(client_config(tls, &source.1)?);
        Ok(Arc::new(Reencryption { source, config }))
    }
}

/// In the order in which [`client_config`] takes them.
fn all_files(tls: &BackendTls) -> impl Iterator<Item = &Path> {
    let authorities = tls.ca.as_deref().filter(|_| tls.verify);
    let client = tls.client.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()]);
    authorities.into_iter().chain(client)
}

fn client_config(tls: &BackendTls, contents: &Contents) -> Result<ClientConfig, TlsFileError> {
    let mut contents = contents.iter();
    let mut next = || contents.next().unwrap_or_default();
    let builder =
        ClientConfig::builder_with_provider(super::provider()).with_safe_default_protocol_versions()?;
    let builder = match (tls.verify, &tls.ca) {
        (false, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::new())),
        (true, Some(file)) => builder.with_root_certificates(files::authorities(file, next())?),
        (true, None) => builder.with_root_certificates(files::system_authorities()?),
    };
    Ok(match &tls.client {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let key = files::certified_key(files, next(), next(), None)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    })
}

/// With `verify = false`: whatever the backend shows, as long as it has the key to it.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn new() -> Self {
        AnyCertificate(super::provider().signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
