//! Terminating TLS: from a service's `tls` to what its connections are accepted with.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use config::{ClientAuth, Tls, TlsVersion};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificate::Claims;
use super::files::{self, Contents, Password, TlsFileError};

/// A service's termination under one configuration. Connections keep the one they were accepted with.
#[derive(Debug)]
pub(crate) struct Termination {
    source: (Tls, Contents),
    pub(crate) config: Arc<ServerConfig>,
}

impl Termination {
    /// Reads the files again. Returns `previous` if nothing has changed, so that its tickets stay good.
    pub(crate) fn load(tls: &Tls, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, TlsFileError> {
        let source = (tls.clone(), Contents::read(all_files(tls))?);
        if let Some(previous) = previous.filter(|previous| previous.source == source) {
            return Ok(previous.clone());
        }
        let config = Arc::new(server_config(tls, &source.1)?);
        Ok(Arc::new(Termination { source, config }))
    }
}

/// In the order in which [`server_config`] takes them.
fn all_files(tls: &Tls) -> impl Iterator<Item = &Path> {
    let authorities = match &tls.client_auth {
        ClientAuth::None => None,
        ClientAuth::Optional(file) | ClientAuth::Required(file) => Some(file.as_path()),
    };
    let keys = tls.certificates.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()]);
    tls.key_password_file.as_deref().into_iter().chain(authorities).chain(keys)
}

fn server_config(tls: &Tls, contents: &Contents) -> Result<ServerConfig, TlsFileError> {
    let mut contents = contents.iter();
    let mut next = || contents.next().unwrap_or_default();
    let password = tls.key_password_file.as_deref().map(|file| Password { file, content: next() });
    let verifier = match &tls.client_auth {
        ClientAuth::None => None,
        ClientAuth::Optional(file) => Some((file, files::authorities(file, next())?, false)),
        ClientAuth::Required(file) => Some((file, files::authorities(file, next())?, true)),
    };
    let mut certificates = Certificates::default();
    for files in &tls.certificates {
        let key = files::certified_key(files, next(), next(), password)?;
        certificates.add(key, &files.certificate);
    }

    let versions: &[&SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(super::provider()).with_protocol_versions(versions)?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some((file, roots, required)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, super::provider());
            let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier
                .build()
                .map_err(|error| TlsFileError::Unusable { file: file.clone(), reason: error.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = tls.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    // Tickets are good on every worker and cost no memory here; a cache of sessions would be shared under a lock.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The certificates of a service, by the names they are made for.
#[derive(Debug, Default)]
struct Certificates {
    /// `*.example.org` stands for one label.
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// In configuration order: who asks for no known name gets the first.
    all: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    fn add(&mut self, key: CertifiedKey, file: &Path) {
        let key = Arc::new(key);
        match key.end_entity_cert().ok().and_then(Claims::of) {
            Some(claims) => {
                if claims.not_after.as_secs() < UnixTime::now().as_secs() {
                    tracing::warn!(certificate = %file.display(), "this certificate has expired: clients will refuse it");
                }
                for name in claims.names {
                    self.names.entry(name).or_default().push(key.clone());
                }
            }
            None => tracing::warn!(
                certificate = %file.display(),
                "this certificate's names cannot be read: it is used for clients that ask for no known name"
            ),
        }
        self.all.push(key);
    }

    /// Those made for this name before those made for a pattern of it.
    fn made_for(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let pattern = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let by_pattern = pattern.and_then(|pattern| self.names.get(&pattern));
        self.names.get(name).into_iter().chain(by_pattern).flatten()
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that the client can verify: an RSA and an ECDSA certificate may be made for the same name.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let by_name = hello.server_name().into_iter().flat_map(|name| self.made_for(name));
        by_name.chain(&self.all).find(usable).cloned()
    }
}
