//! Backends that speak TLS: verified, answered for to the observer when that fails, and all in the right order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod pki;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use config::Service;
use lb_core::{CertificateFault, CloseReason, ConnectCause, TlsFailure};
use pki::*;

/// A plane that encrypts towards these backends, whose certificates it judges by `authority`'s.
fn encrypting(
    authority: &Authority,
    keys: &str,
    backends: &[SocketAddr],
    change: impl FnOnce(&mut Service),
) -> Lab {
    let folder = Folder::new();
    folder.write("ca.pem", authority.pem());
    folder.put("client", &authority.issue(&["client"]));
    let keys = format!("backend_tls = {{ enabled = true, ca = \"{{}}/ca.pem\"{keys} }}");
    Lab::with(ONE_WORKER, backends, |service| {
        configure(service, &folder, &keys);
        change(service);
    })
}

fn ping(lab: &Lab) -> TcpStream {
    let mut client = lab.connect();
    client.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    client
}

/// What became of a client whose only backend this is.
fn failure(lab: &Lab) -> ConnectCause {
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::ConnectFailed);
    lab.failures.all().remove(0).1.cause
}

#[test]
fn bytes_pass_unchanged_to_a_backend_that_is_known_by_name_or_by_address() {
    let authority = Authority::new("ca");
    for (keys, names) in [(format!(", server_name = \"{NAME}\""), NAME), (String::new(), "127.0.0.1")] {
        let server = tls_server(server_config(&authority.issue(&[names]), None), echo);
        let lab = encrypting(&authority, &keys, &[server.address], |_| {});
        let sent = pattern(4 << 20);
        let mut client = lab.connect();
        let received = std::thread::scope(|scope| {
            let mut writer = client.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || {
                writer.write_all(sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            read_all(&mut client)
        });
        assert!(received == sent);
        lab.await_close(CloseReason::Completed);
    }
}

/// A plane that speaks TLS on both sides.
fn on_both_sides(authority: &Authority, server: &Server) -> Lab {
    let folder = Folder::new();
    folder.put("server", &authority.issue(&["front.example.org"]));
    folder.write("ca.pem", authority.pem());
    let keys = format!(
        "tls = {{ certificate = \"{{}}/server.pem\", key = \"{{}}/server.key\" }}\n\
         backend_tls = {{ enabled = true, ca = \"{{}}/ca.pem\", server_name = \"{NAME}\" }}"
    );
    Lab::with(ONE_WORKER, &[server.address], |service| configure(service, &folder, &keys))
}

#[test]
fn both_sides_can_be_encrypted() {
    let authority = Authority::new("ca");
    let server = tls_server(server_config(&authority.issue(&[NAME]), None), echo);
    let lab = on_both_sides(&authority, &server);
    let sent = pattern(300_000);
    let mut client = handshaken(lab.connect(), client_config(&authority), "front.example.org").unwrap();
    let mut received = vec![0; sent.len()];
    for (piece, place) in sent.chunks(30_000).zip(received.chunks_mut(30_000)) {
        client.write_all(piece).unwrap();
        client.read_exact(place).unwrap();
    }
    assert!(received == sent);
    close_notify(&mut client);
    assert_eq!(read_to_close_notify(&mut client), b"");
    lab.await_close(CloseReason::Completed);
}

#[test]
fn a_certificate_that_does_not_fit_is_a_failed_connect_and_says_why() {
    let (authority, stranger) = (Authority::new("ca"), Authority::new("another ca"));
    for (leaf, fault) in [
        (stranger.issue(&[NAME]), CertificateFault::UnknownIssuer),
        (authority.issue(&["another.example.org"]), CertificateFault::WrongName),
        (authority.issue_expired(&[NAME]), CertificateFault::Expired),
    ] {
        let server = tls_server(server_config(&leaf, None), echo);
        let keys = format!(", server_name = \"{NAME}\"");
        let lab = encrypting(&authority, &keys, &[server.address], |_| {});
        assert_eq!(failure(&lab), ConnectCause::Tls(TlsFailure::Certificate(fault)));
        let unverified =
            encrypting(&authority, &format!("{keys}, verify = false"), &[server.address], |_| {});
        ping(&unverified);
    }
}

#[test]
fn the_next_backend_is_tried_when_the_handshake_with_one_fails() {
    let authority = Authority::new("ca");
    let wrong = tls_server(server_config(&Authority::new("another ca").issue(&[NAME]), None), echo);
    let plain = Server::saying("220 ready\r\n");
    let right = tls_server(server_config(&authority.issue(&[NAME]), None), echo);
    let backends = [wrong.address, plain.address, right.address];
    let lab = encrypting(&authority, &format!(", server_name = \"{NAME}\""), &backends, |_| {});
    for _ in 0..3 {
        ping(&lab);
    }
    let causes: Vec<_> = lab.failures.all().into_iter().map(|(_, failure)| failure.cause).collect();
    assert!(causes.contains(&ConnectCause::Tls(TlsFailure::Certificate(CertificateFault::UnknownIssuer))));
    assert!(causes.contains(&ConnectCause::Tls(TlsFailure::NotTls)), "{causes:?}");
}

#[test]
fn a_backend_that_does_not_finish_its_handshake_is_given_up_at_the_connect_timeout() {
    let (held, hold) = mpsc::channel();
    let silent = Server::new(move |stream| held.send(stream).unwrap());
    let lab = encrypting(&Authority::new("ca"), "", &[silent.address], |service| {
        service.timeouts.connect = Duration::from_millis(200);
        service.retries = 0;
    });
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::ConnectTimeout);
    drop(hold);
}

#[test]
fn a_backend_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new("ca");
    let server = tls_server(server_config(&authority.issue(&[NAME]), Some(&authority)), echo);
    let certificate = r#", certificate = "{}/client.pem", key = "{}/client.key""#;
    let keys = format!(", server_name = \"{NAME}\"{certificate}");
    ping(&encrypting(&authority, &keys, &[server.address], |_| {}));
}

#[test]
fn the_backend_is_asked_for_by_name_and_not_by_address() {
    let authority = Authority::new("ca");
    for (keys, asked_for) in [(format!(", server_name = \"{NAME}\""), Some(NAME)), (String::new(), None)] {
        let config = server_config(&authority.issue(&[NAME, "127.0.0.1"]), None);
        let (seen, sees) = mpsc::channel();
        let server = tls_server(config, move |stream| {
            seen.send(stream.conn.server_name().map(str::to_owned)).unwrap();
            echo(stream);
        });
        ping(&encrypting(&authority, &keys, &[server.address], |_| {}));
        assert_eq!(sees.recv_timeout(PATIENCE).unwrap().as_deref(), asked_for);
    }
}

#[test]
fn a_backends_stream_that_ends_without_close_notify_is_reset_to_the_client() {
    let authority = Authority::new("ca");
    let server = tls_server(server_config(&authority.issue(&["127.0.0.1"]), None), |mut stream| {
        stream.write_all(b"half an ans").unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let _ = stream.sock.read_to_end(&mut Vec::new());
    });
    let lab = encrypting(&authority, "", &[server.address], |_| {});
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::ServerReset);
}

#[test]
fn with_close_notify_optional_a_backends_fin_is_an_end_and_its_reset_is_none() {
    for resets in [false, true] {
        let authority = Authority::new("ca");
        let server = tls_server(server_config(&authority.issue(&["127.0.0.1"]), None), move |mut stream| {
            stream.write_all(b"answer").unwrap();
            if resets {
                stream.read_exact(&mut [0]).unwrap();
                return reset(stream.sock);
            }
            stream.sock.shutdown(Shutdown::Write).unwrap();
            let _ = stream.sock.read_to_end(&mut Vec::new());
        });
        let lab = encrypting(&authority, ", close_notify = \"optional\"", &[server.address], |_| {});
        let mut client = lab.connect();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        if resets {
            client.write_all(b"x").unwrap();
            assert_reset(&mut client);
            lab.await_close(CloseReason::ServerReset);
        } else {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            drop(client);
            lab.await_close(CloseReason::Completed);
        }
    }
}

#[test]
fn a_stream_that_is_cut_off_reaches_a_client_that_speaks_tls_as_such_and_whole_until_then() {
    let authority = Authority::new("ca");
    let sent = pattern(4 << 20);
    let body = sent.clone();
    let server = tls_server(server_config(&authority.issue(&[NAME]), None), move |mut stream| {
        stream.write_all(&body).unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let _ = stream.sock.read_to_end(&mut Vec::new());
    });
    let lab = on_both_sides(&authority, &server);
    let mut client = handshaken(lab.connect(), client_config(&authority), "front.example.org").unwrap();
    let mut received = Vec::new();
    let error = client.read_to_end(&mut received).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "a FIN without close_notify");
    assert!(received == sent);
}

/// Reads a PROXY header, version 1, and not one byte more.
fn proxy_header(stream: &mut TcpStream) -> String {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        header.extend(byte);
    }
    String::from_utf8(header).unwrap()
}

#[test]
fn the_proxy_header_goes_before_the_handshake_on_both_sides() {
    let authority = Authority::new("ca");
    let config = server_config(&authority.issue(&[NAME]), None);
    let (seen, sees) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        seen.send(proxy_header(&mut stream)).unwrap();
        echo(accept(config.clone(), stream).unwrap());
    });
    let folder = Folder::new();
    folder.put("server", &authority.issue(&["front.example.org"]));
    folder.write("ca.pem", authority.pem());
    let keys = format!(
        "accept_proxy = \"required\"\ntrusted_proxies = [\"127.0.0.1\"]\nsend_proxy = \"v1\"\n\
         tls = {{ certificate = \"{{}}/server.pem\", key = \"{{}}/server.key\" }}\n\
         backend_tls = {{ enabled = true, ca = \"{{}}/ca.pem\", server_name = \"{NAME}\" }}"
    );
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| configure(service, &folder, &keys));
    let mut stream = lab.connect();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n";
    stream.write_all(header.as_bytes()).unwrap();
    let mut client = handshaken(stream, client_config(&authority), "front.example.org").unwrap();
    client.write_all(b"ping").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(sees.recv_timeout(PATIENCE).unwrap(), header);
}
