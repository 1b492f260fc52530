//! Bytes between a client that speaks TLS and its backend: nothing lost, every kind of end passed on as what it is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod pki;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;

use common::*;
use lb_core::CloseReason;
use pki::*;

const MIB: usize = 1 << 20;

/// Sends while it reads, to the end of both directions.
fn exchange(client: &mut Client, sent: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = vec![0; 65536];
    for piece in sent.chunks(50_000) {
        client.write_all(piece).unwrap();
        let expected = received.len() + piece.len();
        while received.len() < expected {
            let read = client.read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..read]);
        }
    }
    close_notify(client);
    received.extend(read_to_close_notify(client));
    received
}

#[test]
fn bytes_pass_unchanged_in_both_directions() {
    let server = Server::echo();
    let tls = TlsLab::new(&[server.address]);
    let sent = pattern(8 * MIB);
    assert!(exchange(&mut tls.connect(), &sent) == sent);
    tls.lab.await_close(CloseReason::Completed);
    let stats = tls.lab.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (8 * MIB as u64, 8 * MIB as u64), "without what TLS adds");
    assert_eq!((stats.active, stats.backends[0].active), (0, 0));
}

#[test]
fn a_client_that_closes_its_side_in_order_still_gets_its_answer() {
    let server = Server::new(|mut stream| {
        let question = read_all(&mut stream);
        stream.write_all(&question.repeat(1000)).unwrap();
    });
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.connect();
    client.write_all(b"question").unwrap();
    close_notify(&mut client);
    assert_eq!(read_to_close_notify(&mut client), b"question".repeat(1000));
    tls.lab.await_close(CloseReason::Completed);
}

#[test]
fn a_backend_that_half_closes_is_still_sent_to() {
    let (heard, hears) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        stream.write_all(b"go on").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        heard.send(read_all(&mut stream)).unwrap();
    });
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.connect();
    assert_eq!(read_to_close_notify(&mut client), b"go on");
    client.write_all(b"all of it").unwrap();
    close_notify(&mut client);
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"all of it");
    tls.lab.await_close(CloseReason::Completed);
}

#[test]
fn a_stream_that_ends_without_close_notify_is_no_complete_one_to_the_backend() {
    let (ended, end) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        let mut bytes = Vec::new();
        let outcome = stream.read_to_end(&mut bytes).map_err(|error| error.kind());
        ended.send((bytes, outcome)).unwrap();
    });
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.connect();
    client.write_all(b"cut off").unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    let (bytes, outcome) = end.recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome, Err(std::io::ErrorKind::ConnectionReset));
    assert!(b"cut off".starts_with(&bytes));
    tls.lab.await_close(CloseReason::ClientReset);
}

#[test]
fn a_client_that_got_everything_may_just_go_away() {
    let server = Server::new(|mut stream| {
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"answer").unwrap();
    });
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.connect();
    client.write_all(b"question").unwrap();
    assert_eq!(read_to_close_notify(&mut client), b"answer");
    drop(client);
    tls.lab.await_close(CloseReason::Completed);
}

#[test]
fn a_backends_reset_is_no_end_in_order() {
    let server = Server::new(|mut stream| {
        stream.write_all(b"half an ans").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        reset(stream);
    });
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.connect();
    client.read_exact(&mut [0; 11]).unwrap();
    client.write_all(b"x").unwrap();
    assert_tls_reset(&mut client);
    tls.lab.await_close(CloseReason::ServerReset);
}

#[test]
fn a_slow_reader_holds_its_sender_back_and_loses_nothing() {
    let sent = pattern(48 * MIB);
    let body = sent.clone();
    let server = Server::new(move |mut stream| {
        stream.write_all(&body).unwrap();
    });
    let tls = TlsLab::new(&[server.address]);
    let mut client = tls.connect();
    let (mut last, mut same) = (0, 0);
    eventually("nothing moves any more", || {
        let now = tls.lab.stats().bytes_out;
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        same > 200
    });
    assert!((last as usize) < sent.len() / 2, "{last} bytes are out: in kernel buffers and one of ours");
    assert!(read_to_close_notify(&mut client) == sent);
}

#[test]
fn a_client_that_writes_before_it_reads_anything_holds_itself_back() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (heard, hears) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        wait.lock().unwrap().recv().unwrap();
        heard.send(read_all(&mut stream)).unwrap();
    });
    let tls = TlsLab::new(&[server.address]);
    let sent = pattern(24 * MIB);
    let mut client = tls.connect();
    std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || {
            client.write_all(sent).unwrap();
            close_notify(&mut client);
            assert_eq!(read_to_close_notify(&mut client), b"");
        });
        go.send(()).unwrap();
        assert!(hears.recv_timeout(PATIENCE).unwrap() == *sent);
    });
}
