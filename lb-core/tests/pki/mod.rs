//! Certificates for tests, made as they run, and a client and a server that speak TLS by them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::Service;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use crate::common::*;

pub const NAME: &str = "api.example.org";

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A CA.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |_| {})
    }

    /// One that expired long ago.
    pub fn issue_expired(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf { pem: certificate.pem(), der: certificate.der().clone(), key }
    }
}

/// A certificate with its key.
pub struct Leaf {
    pub pem: String,
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Leaf {
    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// A folder for the files of a configuration.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn put(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.pem"), &leaf.pem);
        self.write(&format!("{name}.key"), leaf.key.serialize_pem());
    }
}

/// Gives a service these keys, in which `{}` stands for the folder.
pub fn configure(service: &mut Service, folder: &Folder, keys: &str) {
    let folder = folder.path("").display().to_string();
    let keys = keys.replace("{}", folder.trim_end_matches('/'));
    let text = format!(
        "[[service]]\nname = \"web\"\nlisten = [\"127.0.0.1:1\"]\ncheck = {{ kind = \"none\" }}\n{keys}\n\
         [[service.backend]]\naddress = \"192.0.2.1:1\"\n"
    );
    let parsed = config::parse(&text, "test").unwrap().config.services.remove(0);
    service.tls = parsed.tls;
    service.backend_tls = parsed.backend_tls;
    service.accept_proxy = parsed.accept_proxy;
    service.trusted_proxies = parsed.trusted_proxies;
    service.send_proxy = parsed.send_proxy;
}

/// A plane whose only service ends TLS with a certificate for [`NAME`], in front of these backends.
pub struct TlsLab {
    pub lab: Lab,
    pub authority: Authority,
    pub folder: Folder,
}

impl TlsLab {
    pub fn new(backends: &[SocketAddr]) -> Self {
        Self::with(ONE_WORKER, backends, "", |_| {})
    }

    /// With more keys of `tls`.
    pub fn with(
        size: (usize, u32),
        backends: &[SocketAddr],
        keys: &str,
        change: impl FnOnce(&mut Service),
    ) -> Self {
        let (authority, folder) = (Authority::new("ca"), Folder::new());
        folder.put("server", &authority.issue(&[NAME]));
        folder.write("ca.pem", authority.pem());
        let keys =
            format!("tls = {{ certificate = \"{{}}/server.pem\", key = \"{{}}/server.key\", {keys} }}");
        let lab = Lab::with(size, backends, |service| {
            configure(service, &folder, &keys);
            change(service);
        });
        TlsLab { lab, authority, folder }
    }

    /// A client that trusts the lab's CA, after its handshake.
    pub fn connect(&self) -> Client {
        handshaken(connect(self.lab.address), client_config(&self.authority), NAME).unwrap()
    }
}

pub type Client = StreamOwned<ClientConnection, TcpStream>;

pub fn client_config(authority: &Authority) -> Arc<ClientConfig> {
    client_config_with(authority, rustls::DEFAULT_VERSIONS, None)
}

pub fn client_config_with(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<&Leaf>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder.with_client_auth_cert(vec![leaf.der.clone()], leaf.key_der()).unwrap(),
    })
}

/// A client on this connection, after its handshake.
pub fn handshaken(mut stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> io::Result<Client> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Why a handshake that has to fail did: the library's words. In TLS 1.3 a client learns only when it reads that it was
/// refused.
pub fn refusal(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> String {
    let outcome = handshaken(stream, config, name).and_then(|mut client| client.read(&mut [0]));
    outcome.unwrap_err().to_string()
}

/// Ends our side of the stream in order, and leaves the other open.
pub fn close_notify(client: &mut Client) {
    client.conn.send_close_notify();
    client.flush().unwrap();
}

/// Reads to an end that is close_notify.
pub fn read_to_close_notify(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads until the connection is reset.
pub fn assert_tls_reset(client: &mut Client) {
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

pub fn server_config(leaf: &Leaf, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider()).build().unwrap(),
        ),
    };
    Arc::new(builder.with_single_cert(vec![leaf.der.clone()], leaf.key_der()).unwrap())
}

/// A backend that speaks TLS.
pub fn tls_server(
    config: Arc<ServerConfig>,
    script: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> Server {
    Server::new(move |stream| {
        if let Ok(stream) = accept(config.clone(), stream) {
            script(stream);
        }
    })
}

/// The server's side of a handshake.
pub fn accept(
    config: Arc<ServerConfig>,
    mut stream: TcpStream,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let mut connection = ServerConnection::new(config).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Sends back what comes, and ends in order when its peer does.
pub fn echo(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    let mut buffer = vec![0; 65536];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(buffer.get(..read).unwrap()).is_err() {
            return;
        }
    }
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
