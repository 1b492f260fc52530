//! A service's TLS under one configuration: what it terminates with, encrypts again with, and where it routes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use config::{BackendAddr, CloseNotify, Name, Service};
use rustls::pki_types::ServerName;

use super::TlsFailure;
use super::client::Reencryption;
use super::files::TlsFileError;
use super::routes::SniRoutes;
use super::server::Termination;
use super::session::Session;
use crate::backend::Backend;

/// The default is a service without TLS.
#[derive(Debug, Default)]
pub(crate) struct ServiceTls {
    termination: Option<Arc<Termination>>,
    reencryption: Option<Arc<Reencryption>>,
    routes: SniRoutes,
    /// The name that every backend's certificate has to be made for, and that it is asked for (SNI).
    server_name: Option<ServerName<'static>>,
    /// Without it: of those backends that are configured by name. Others are known by their address, and sent no SNI.
    host_names: HashMap<Name, ServerName<'static>>,
    close_notify: CloseNotify,
}

impl ServiceTls {
    /// Reads the files again. What has not changed is taken over from `previous`.
    pub(crate) fn load(service: &Service, previous: Option<&ServiceTls>) -> Result<Self, TlsFileError> {
        let termination = match &service.tls {
            Some(tls) => Some(Termination::load(tls, previous.and_then(|tls| tls.termination.as_ref()))?),
            None => None,
        };
        let backend_tls = &service.backend_tls;
        if !backend_tls.enabled {
            let routes = SniRoutes::new(&service.sni_routes);
            return Ok(ServiceTls { termination, routes, ..ServiceTls::default() });
        }
        let server_name = match &backend_tls.server_name {
            Some(name) => Some(server_name_of(name)?),
            None => None,
        };
        let mut host_names = HashMap::new();
        for backend in &service.backends {
            if let BackendAddr::Name { host, .. } = &backend.address {
                host_names.insert(backend.name.clone(), server_name_of(host)?);
            }
        }
        Ok(ServiceTls {
            termination,
            reencryption: Some(Reencryption::load(
                backend_tls,
                previous.and_then(|tls| tls.reencryption.as_ref()),
            )?),
            routes: SniRoutes::new(&service.sni_routes),
            server_name,
            host_names,
            close_notify: backend_tls.close_notify,
        })
    }

    pub(crate) fn is_terminated(&self) -> bool {
        self.termination.is_some()
    }

    /// Whether TLS is spoken with the backends.
    pub(crate) fn is_begun_anew(&self) -> bool {
        self.reencryption.is_some()
    }

    pub(crate) fn is_routed(&self) -> bool {
        !self.routes.is_empty()
    }

    /// The service that a name in a ClientHello leads to.
    pub(crate) fn route(&self, name: &str) -> Option<&Name> {
        self.routes.find(name)
    }

    /// A client's session that begins with these bytes; `None`: TLS is not terminated.
    pub(crate) fn accept(&self, first: Vec<u8>) -> Option<Result<Session, TlsFailure>> {
        self.termination.as_ref().map(|termination| Session::accept(termination.config.clone(), first))
    }

    /// A new session with a backend; `None`: it does not speak TLS.
    pub(crate) fn session_with(&self, backend: &Backend) -> Option<Result<Session, TlsFailure>> {
        let reencryption = self.reencryption.as_ref()?;
        let name = self.server_name.as_ref().or_else(|| self.host_names.get(&backend.id().backend));
        let name = name.cloned().unwrap_or_else(|| ServerName::IpAddress(ip_of(backend.address()).into()));
        let session = Session::connect(reencryption.config.clone(), name);
        Some(session.map(|session| session.expecting(self.close_notify)))
    }
}

/// What a certificate has to be for where no name is known. Behind a Unix socket that is this host.
fn ip_of(address: &BackendAddr) -> IpAddr {
    match address {
        BackendAddr::Ip(address) => address.ip(),
        BackendAddr::ClientPort(ip) => *ip,
        BackendAddr::Name { .. } | BackendAddr::Unix(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn server_name_of(name: &str) -> Result<ServerName<'static>, TlsFileError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsFileError::ServerName { name: name.to_owned() })
}
