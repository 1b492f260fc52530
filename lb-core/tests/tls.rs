//! Clients that speak TLS: what is agreed in the handshake, who is let in, and who never finishes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod pki;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use lb_core::CloseReason;
use pki::*;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

fn ping(client: &mut Client) {
    client.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = client_config_with(&tls.authority, &[version], None);
        let mut client = handshaken(tls.lab.connect(), config, NAME).unwrap();
        assert_eq!(client.conn.protocol_version(), Some(expected));
        ping(&mut client);
    }
    assert_eq!((tls.lab.stats().tls_handshakes, tls.lab.stats().tls_resumed), (2, 0));
}

#[test]
fn a_client_below_the_least_version_is_refused() {
    let server = Server::echo();
    let tls = TlsLab::with(ONE_WORKER, &[server.address], "min_version = \"1.3\"", |_| {});
    let config = client_config_with(&tls.authority, &[&TLS12], None);
    let refusal = refusal(tls.lab.connect(), config, NAME);
    assert!(refusal.contains("ProtocolVersion"), "{refusal}");
    tls.lab.await_close(CloseReason::TlsHandshakeFailed);
    ping(&mut tls.connect());
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    let server = Server::echo();
    let (authority, folder) = (Authority::new("ca"), Folder::new());
    let names = [["first.example.org"], ["*.example.org"], ["www.example.org"]];
    let leaves: Vec<_> = names.iter().map(|names| authority.issue(names)).collect();
    for (index, leaf) in leaves.iter().enumerate() {
        folder.put(&index.to_string(), leaf);
    }
    let keys = r#"tls = { certificate = ["{}/0.pem", "{}/1.pem", "{}/2.pem"], key = ["{}/0.key", "{}/1.key", "{}/2.key"] }"#;
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| configure(service, &folder, keys));
    let shown = |name: &str| {
        let client = handshaken(lab.connect(), client_config(&authority), name).unwrap();
        client.conn.peer_certificates().unwrap()[0].clone()
    };
    assert!(shown("first.example.org") == leaves[0].der);
    assert!(shown("www.example.org") == leaves[2].der, "its own before the pattern's");
    assert!(shown("other.example.org") == leaves[1].der);
    let refusal = refusal(lab.connect(), client_config(&authority), "a.b.example.org");
    assert!(refusal.contains("first.example.org"), "the first is shown to who asks for another: {refusal}");
}

#[test]
fn the_first_protocol_in_common_is_agreed_and_without_one_the_client_is_refused() {
    let server = Server::echo();
    let tls = TlsLab::with(ONE_WORKER, &[server.address], r#"alpn = ["h2", "http/1.1"]"#, |_| {});
    let offering = |protocol: &[u8]| {
        let mut config = Arc::unwrap_or_clone(client_config(&tls.authority));
        config.alpn_protocols = vec![b"unheard-of".to_vec(), protocol.to_vec()];
        Arc::new(config)
    };
    let client = handshaken(tls.lab.connect(), offering(b"http/1.1"), NAME).unwrap();
    assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refusal = refusal(tls.lab.connect(), offering(b"imap"), NAME);
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
    ping(&mut tls.connect());
}

#[test]
fn a_required_client_certificate_is_required_and_judged_by_the_ca() {
    let server = Server::echo();
    let keys = r#"client_auth = "required", client_ca = "{}/ca.pem""#;
    let tls = TlsLab::with(ONE_WORKER, &[server.address], keys, |_| {});
    let stranger = Authority::new("another ca").issue(&["client"]);
    for version in [&TLS12, &TLS13] {
        let config = |leaf| client_config_with(&tls.authority, &[version], leaf);
        let certified = tls.authority.issue(&["client"]);
        ping(&mut handshaken(tls.lab.connect(), config(Some(&certified)), NAME).unwrap());
        let none = refusal(tls.lab.connect(), config(None), NAME);
        assert!(none.contains("CertificateRequired") || none.contains("HandshakeFailure"), "{none}");
        let strange = refusal(tls.lab.connect(), config(Some(&stranger)), NAME);
        assert!(strange.contains("UnknownCA"), "{strange}");
        let expired = tls.authority.issue_expired(&["client"]);
        let expired = refusal(tls.lab.connect(), config(Some(&expired)), NAME);
        assert!(expired.contains("CertificateExpired"), "{expired}");
    }
}

#[test]
fn an_optional_client_certificate_may_be_missing_but_not_wrong() {
    let server = Server::echo();
    let keys = r#"client_auth = "optional", client_ca = "{}/ca.pem""#;
    let tls = TlsLab::with(ONE_WORKER, &[server.address], keys, |_| {});
    ping(&mut tls.connect());
    let stranger = Authority::new("another ca").issue(&["client"]);
    let config = client_config_with(&tls.authority, rustls::DEFAULT_VERSIONS, Some(&stranger));
    let refusal = refusal(tls.lab.connect(), config, NAME);
    assert!(refusal.contains("UnknownCA"), "{refusal}");
}

#[test]
fn garbage_is_answered_with_an_alert_and_counted() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.lab.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let answer = read_all(&mut client);
    assert_eq!(answer.first(), Some(&21), "an alert record");
    tls.lab.await_close(CloseReason::TlsHandshakeFailed);
    assert_eq!(tls.lab.backend(0).connects, 0);
}

#[test]
fn a_client_that_never_finishes_its_handshake_costs_its_own_place_only() {
    let server = Server::echo();
    let tls = TlsLab::with(ONE_WORKER, &[server.address], "", |service| {
        service.timeouts.client = Duration::from_millis(300);
    });
    let mut silent = tls.lab.connect();
    let mut half = tls.lab.connect();
    half.write_all(&[22, 3, 1, 1, 0, 1, 0, 0, 252]).unwrap();
    ping(&mut tls.connect());
    eventually("both have been closed", || tls.lab.stats().closes.of(CloseReason::TlsTimeout) == 2);
    assert_reset(&mut silent);
    assert_reset(&mut half);
    assert_eq!(tls.lab.backend(0).connects, 1);
}

#[test]
fn a_session_is_resumed_on_whatever_worker_the_client_comes_to() {
    let server = Server::echo();
    let workers = (4, 1000);
    let tls = TlsLab::with(workers, &[server.address], "", |_| {});
    for version in [&TLS12, &TLS13] {
        let config = client_config_with(&tls.authority, &[version], None);
        let kinds: Vec<_> = (0..12)
            .map(|_| {
                let mut client = handshaken(tls.lab.connect(), config.clone(), NAME).unwrap();
                ping(&mut client);
                client.conn.handshake_kind().unwrap()
            })
            .collect();
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    }
    assert_eq!((tls.lab.stats().tls_handshakes, tls.lab.stats().tls_resumed), (24, 22));
}
