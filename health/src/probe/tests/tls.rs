//! `kind = "tls"` and `kind = "https"` against a rustls server, and against what only pretends to be one.

use std::io::Write as _;

use config::{BackendTls, CloseNotify};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::*;

fn certificate(name: &str) -> CertifiedKey<KeyPair> {
    generate_simple_self_signed([name.to_owned()]).unwrap()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A backend that answers over TLS, and shows its certificate so many times.
async fn server(certified: &CertifiedKey<KeyPair>, copies: usize) -> SocketAddr {
    let chain = vec![certified.cert.der().clone(); copies];
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready").await;
                }
                let _ = stream.read(&mut request).await; // until the check is over
            });
        }
    });
    address
}

async fn check_tls(address: SocketAddr, kind: CheckKind, tls: BackendTls) -> Outcome {
    let mut target = target("a", address, kind);
    target.backend_tls = tls;
    target.check.timeout = LONG;
    attempt(&target).await
}

fn by_ca(ca: &NamedTempFile, name: &str) -> BackendTls {
    let ca = Some(ca.path().to_owned());
    BackendTls {
        enabled: false,
        ca,
        server_name: Some(name.into()),
        verify: true,
        client: None,
        close_notify: CloseNotify::Required,
    }
}

fn unverified() -> BackendTls {
    BackendTls {
        enabled: false,
        ca: None,
        server_name: None,
        verify: false,
        client: None,
        close_notify: CloseNotify::Required,
    }
}

#[tokio::test]
async fn a_certificate_by_the_right_ca_with_the_right_name_passes() {
    let certified = certificate("api.example.org");
    let (address, ca) = (server(&certified, 1).await, file(&certified.cert.pem()));
    let tls = by_ca(&ca, "api.example.org");
    let outcome = check_tls(address, CheckKind::Tls, tls.clone()).await;
    assert_outcome(&outcome, Verdict::Passed, &format!("TLS with {address}: TLS 1.3 established in "));

    let mut by_host = target("a", address, CheckKind::Tls);
    by_host.backend_tls = BackendTls { server_name: None, ..tls.clone() };
    assert_outcome(&attempt(&by_host).await, Verdict::Failed, "invalid peer certificate");
    by_host.host = Some("api.example.org".into());
    assert_outcome(&attempt(&by_host).await, Verdict::Passed, "TLS 1.3 established");

    let https = CheckKind::Https(config::HttpCheck { expect_body: Some("ready".into()), ..http() });
    let outcome = check_tls(address, https, tls).await;
    assert_outcome(
        &outcome,
        Verdict::Passed,
        &format!("GET / from {address} over TLS: 200 with \"ready\" in "),
    );
    assert_eq!((outcome.status, outcome.code), (CheckStatus::AnswerGood, Some(200)));
}

#[tokio::test]
async fn a_wrong_name_or_an_unknown_issuer_fails_and_is_called_so() {
    let (certified, other) = (certificate("api.example.org"), certificate("api.example.org"));
    let address = server(&certified, 1).await;
    let ca = file(&certified.cert.pem());
    for kind in [CheckKind::Tls, CheckKind::Https(http())] {
        let outcome = check_tls(address, kind.clone(), by_ca(&ca, "www.example.org")).await;
        assert_outcome(&outcome, Verdict::Failed, "invalid peer certificate: certificate not valid for name");
        assert_eq!(outcome.status, CheckStatus::TlsFailed);
        let outcome = check_tls(address, kind, by_ca(&file(&other.cert.pem()), "api.example.org")).await;
        assert_outcome(&outcome, Verdict::Failed, "invalid peer certificate: ");
    }
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let address = server(&certificate("whatever"), 1).await;
    assert_outcome(&check_tls(address, CheckKind::Tls, unverified()).await, Verdict::Passed, "established");
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_named() {
    let address = server(&certificate("api.example.org"), 1).await;
    let empty = file("no certificate\n");
    let outcome = check_tls(address, CheckKind::Tls, by_ca(&empty, "api.example.org")).await;
    assert_outcome(&outcome, Verdict::Failed, &format!("{}: no certificate in it", empty.path().display()));
    let gone = BackendTls { ca: Some("/nonexistent/ca.pem".into()), ..by_ca(&empty, "api.example.org") };
    let outcome = check_tls(address, CheckKind::Tls, gone).await;
    assert_outcome(&outcome, Verdict::Failed, "/nonexistent/ca.pem: ");
}

#[tokio::test]
async fn a_huge_certificate_chain_ends_at_the_bound() {
    let address = server(&certificate("api.example.org"), 1000).await;
    let outcome = check_tls(address, CheckKind::Tls, unverified()).await;
    assert_outcome(&outcome, Verdict::Failed, &format!("TLS with {address}: "));
    assert_eq!(outcome.status, CheckStatus::TlsFailed);
}

#[tokio::test]
async fn what_is_no_tls_fails() {
    let address = backend_that(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let outcome = check_tls(address, CheckKind::Tls, unverified()).await;
    assert_outcome(&outcome, Verdict::Failed, "corrupt message");
}

#[tokio::test]
async fn a_handshake_that_drips_cannot_stretch_the_timeout() {
    let address = backend_that(|mut stream| async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        // The beginning of a record as long as one may be.
        let _ = stream.write_all(&[22, 3, 3, 0x40, 0]).await;
        while stream.write_all(&[2]).await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    let mut target = target("a", address, CheckKind::Tls);
    target.backend_tls = unverified();
    target.check.timeout = SHORT;
    let outcome = attempt(&target).await;
    assert_outcome(&outcome, Verdict::Failed, "connected, but no complete handshake within 150ms");
    assert_eq!(outcome.status, CheckStatus::TlsTimedOut);
}
