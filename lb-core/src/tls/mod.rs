//! TLS of the data plane: terminated, begun anew towards the backend, or only looked at to route it.
//!
//! Owns what certificates and keys become ([`server`], [`client`], read from [`files`] outside the data path), one
//! connection's cryptographic state without its socket ([`session`]), the relay that moves bytes through it ([`relay`]),
//! and the server name of connections that are passed through ([`hello`], [`routes`]). It must not accept, connect or
//! pick: the stages of a connection do, and call here in between.
//!
//! rustls does the protocol, with the primitives of AWS-LC. Its unbuffered interface is used: it decrypts from and
//! encrypts into the worker's own buffers, so that an idle connection holds no buffer at all.

mod certificate;
mod client;
mod failure;
mod files;
pub mod hello;
mod layer;
mod relay;
mod routes;
mod server;
mod service;
mod session;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use failure::{CertificateFault, TlsFailure};
pub use files::TlsFileError;
pub(crate) use layer::Shaken;
pub(crate) use relay::{Scratch, Secured};
pub(crate) use service::ServiceTls;

/// The primitives, named explicitly everywhere: a process-wide default is anybody's to change.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};

    use super::*;

    thread_local! {
        static CONFIGS: (Arc<ServerConfig>, Arc<ClientConfig>) = configs();
    }

    /// A server that shows a certificate for `api.example.org`.
    pub(super) fn server_config() -> Arc<ServerConfig> {
        CONFIGS.with(|(server, _)| server.clone())
    }

    /// A client that trusts it.
    pub(super) fn client_config() -> Arc<ClientConfig> {
        CONFIGS.with(|(_, client)| client.clone())
    }

    fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["api.example.org".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    }
}
