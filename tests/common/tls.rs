//! Certificates made as the tests run, a client that trusts them, and a backend that ends TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::SOON;

/// A certificate for one name that vouches for itself, in files.
pub struct Certificate {
    made: CertifiedKey<rcgen::KeyPair>,
    name: String,
    folder: TempDir,
}

impl Certificate {
    pub fn of(name: &str) -> Self {
        let made = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).expect("a file");
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
        Certificate { made, name: name.to_owned(), folder }
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// What a client that trusts only this certificate and asks for its name gets in answer to `GET /`.
    pub fn ask(&self, addr: SocketAddr) -> io::Result<String> {
        self.ask_as(addr, self.client(ALL_VERSIONS, None)).map(|(answer, _)| answer)
    }

    /// A client that trusts only this certificate, speaks these versions, and shows this certificate of its own.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Certificate>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.made.cert.der().clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let key = PrivatePkcs8KeyDer::from(own.made.signing_key.serialize_der());
                config.with_client_auth_cert(vec![own.made.cert.der().clone()], key.into()).expect("a key")
            }
        }
    }

    /// What such a client gets, and the protocol that was agreed (ALPN).
    pub fn ask_as(&self, addr: SocketAddr, client: ClientConfig) -> io::Result<(String, Option<Vec<u8>>)> {
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(client), name).map_err(io::Error::other)?;
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(SOON))?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let answer = answer.rsplit("\r\n").next().unwrap_or_default().to_owned();
        Ok((answer, stream.conn.alpn_protocol().map(<[u8]>::to_vec)))
    }

    /// A backend on `addr` that speaks TLS with this certificate and answers each request with `text`; it lives as long as
    /// the test.
    pub fn serve(&self, addr: SocketAddr, text: &'static str) {
        let key = PrivatePkcs8KeyDer::from(self.made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![self.made.cert.der().clone()], key.into())
            })
            .expect("a configuration");
        let config = Arc::new(config);
        let listener = TcpListener::bind(addr).unwrap_or_else(|e| panic!("TLS backend on {addr}: {e}"));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let config = Arc::clone(&config);
                // A check may end it at any point.
                thread::spawn(move || answer(stream, config, text));
            }
        });
    }
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, text: &str) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    super::http::read_head(&mut stream)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    stream.write_all(format!("{head}{text}").as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
