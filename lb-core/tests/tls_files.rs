//! Certificate and key files: what cannot be used is said before anything changes, and a reload takes up what is new.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod pki;

use std::io::{Read, Write};
use std::path::Path;

use common::*;
use pki::*;
use rustls::HandshakeKind;

fn shown(client: &Client) -> Vec<u8> {
    client.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_reload_shows_the_new_certificate_to_new_connections_and_leaves_the_old_alone() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    let mut old = tls.connect();
    let renewed = tls.authority.issue(&[NAME]);
    tls.folder.put("server", &renewed);
    assert!(shown(&tls.connect()) == shown(&old), "files are read by a reload, not by a handshake");
    tls.lab.apply(std::slice::from_ref(&tls.lab.service));
    assert!(shown(&tls.connect()) == renewed.der.to_vec());
    old.write_all(b"still here").unwrap();
    let mut answer = [0; 10];
    old.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"still here");
}

#[test]
fn a_reload_of_the_same_files_leaves_sessions_good() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    let config = client_config(&tls.authority);
    let kind = || {
        let mut client = handshaken(tls.lab.connect(), config.clone(), NAME).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        client.conn.handshake_kind().unwrap()
    };
    assert_eq!(kind(), HandshakeKind::Full);
    tls.lab.apply(std::slice::from_ref(&tls.lab.service));
    assert_eq!(kind(), HandshakeKind::Resumed);
    tls.folder.put("server", &tls.authority.issue(&[NAME]));
    tls.lab.apply(std::slice::from_ref(&tls.lab.service));
    assert_eq!(kind(), HandshakeKind::Full);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_file_and_changes_nothing() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    let TlsLab { lab, authority, folder } = &tls;
    folder.put("other", &authority.issue(&[NAME]));
    folder.write("empty.pem", "nothing\n");
    std::fs::copy(fixture("encrypted.key"), folder.path("encrypted.key")).unwrap();
    std::fs::copy(fixture("encrypted.pem"), folder.path("encrypted.pem")).unwrap();
    std::fs::copy(fixture("old-format.key"), folder.path("old-format.key")).unwrap();
    folder.write("wrong.password", "battery staple\n");
    for (certificate, key, more, expected) in [
        ("missing.pem", "server.key", "", "cannot read {}/missing.pem"),
        ("server.pem", "missing.key", "", "cannot read {}/missing.key"),
        ("empty.pem", "server.key", "", "{}/empty.pem holds no certificate"),
        ("server.pem", "empty.pem", "", "{}/empty.pem holds no private key"),
        (
            "server.pem",
            "other.key",
            "",
            "the key in {}/other.key does not belong to the certificate in {}/server.pem",
        ),
        (
            "encrypted.pem",
            "encrypted.key",
            "",
            "the key in {}/encrypted.key is encrypted: name the file with its password",
        ),
        (
            "encrypted.pem",
            "encrypted.key",
            r#", key_password_file = "{}/wrong.password""#,
            "the key in {}/encrypted.key cannot be decrypted with the password in {}/wrong.password",
        ),
        (
            "encrypted.pem",
            "old-format.key",
            "",
            "the key in {}/old-format.key is encrypted in OpenSSL's own old format",
        ),
        (
            "server.pem",
            "server.key",
            r#", client_auth = "required", client_ca = "{}/empty.pem""#,
            "{}/empty.pem holds no certificate",
        ),
    ] {
        let mut changed = lab.service.clone();
        let keys = format!("tls = {{ certificate = \"{{}}/{certificate}\", key = \"{{}}/{key}\"{more} }}");
        configure(&mut changed, folder, &keys);
        let error = lab.plane.prepare(&[changed]).unwrap_err().to_string();
        let folder = folder.path("").display().to_string();
        let expected = format!("service web: {}", expected.replace("{}", folder.trim_end_matches('/')));
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    tls.connect();
}

#[test]
fn an_encrypted_key_is_decrypted_with_its_password() {
    let server = Server::echo();
    let folder = Folder::new();
    folder.write("password", "correct horse\n");
    let keys = |certificate: &Path, key: &Path| {
        let (certificate, key) = (certificate.display(), key.display());
        format!(
            "tls = {{ certificate = \"{certificate}\", key = \"{key}\", key_password_file = \"{{}}/password\" }}"
        )
    };
    let keys = keys(&fixture("encrypted.pem"), &fixture("encrypted.key"));
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| configure(service, &folder, &keys));
    let refused = refusal(lab.connect(), client_config(&Authority::new("ca")), NAME);
    assert!(refused.contains("UnknownIssuer") || refused.contains("invalid peer certificate"), "{refused}");
}

#[test]
fn an_expired_certificate_is_used_all_the_same() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    tls.folder.put("server", &tls.authority.issue_expired(&[NAME]));
    tls.lab.apply(std::slice::from_ref(&tls.lab.service));
    let refused = refusal(tls.lab.connect(), client_config(&tls.authority), NAME);
    assert!(refused.contains("expired"), "{refused}");
}
