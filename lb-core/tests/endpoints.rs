//! Where backends are reached, and what they see a connection come from.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use common::*;
use config::{BackendAddr, SourceAddress};
use lb_core::{CloseReason, ConnectCause};

/// Nobody is asked for it.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 1);

fn lab_of(address: BackendAddr) -> Lab {
    Lab::with(ONE_WORKER, &[NOWHERE], |service| service.backends[0].address = address)
}

#[test]
fn a_backend_without_a_port_is_reached_on_the_port_that_the_client_used() {
    let lab = lab_of(BackendAddr::ClientPort("127.0.0.2".parse().unwrap()));
    let _server =
        Server::at(SocketAddr::new("127.0.0.2".parse().unwrap(), lab.address.port()), |mut stream| {
            stream.write_all(b"same port").unwrap();
        });
    assert_eq!(read_all(&mut lab.connect()), b"same port");
}

#[test]
fn a_backend_behind_a_unix_socket_is_relayed_with_half_closes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backend");
    let listener = UnixListener::bind(&path).unwrap();
    let lab = lab_of(BackendAddr::Unix(path.as_path().into()));
    let sent = pattern(1 << 20);
    let mut client = lab.connect();
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client) == sent);
    backend.join().unwrap();
    lab.await_close(CloseReason::Completed);
}

#[test]
fn a_unix_backend_that_speaks_and_closes_at_once_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backend");
    let listener = UnixListener::bind(&path).unwrap();
    let lab = lab_of(BackendAddr::Unix(path.as_path().into()));
    let backend = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"bye").unwrap());
    let mut client = lab.connect();
    backend.join().unwrap();
    assert_eq!(read_all(&mut client), b"bye");
}

#[test]
fn a_unix_socket_that_nobody_listens_on_or_whose_queue_is_full_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backend");
    let lab = lab_of(BackendAddr::Unix(path.as_path().into()));
    assert_reset(&mut lab.connect());

    let listener =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert_reset(&mut lab.connect());
    assert_eq!(lab.failures.all().pop().unwrap().1.cause, ConnectCause::Refused);
    assert_eq!(lab.stats().closes.of(CloseReason::ConnectFailed), 2);
}

#[test]
fn a_name_without_an_address_yet_is_passed_over() {
    let server = Server::saying("b1");
    let lab = Lab::with(ONE_WORKER, &[NOWHERE, server.address], |service| {
        service.backends[0].address =
            BackendAddr::Name { host: "backend.example".into(), port: 80, answer: None };
    });
    assert_eq!(read_all(&mut lab.connect()), b"b1");
    assert_eq!(lab.failures.all()[0].1.cause, ConnectCause::Unresolved);
}

/// Takes down whom its connections come from, and keeps them open until the client ends.
fn taking_down(peers: &Arc<Mutex<Vec<SocketAddr>>>) -> Server {
    let peers = peers.clone();
    Server::new(move |mut stream| {
        peers.lock().unwrap().push(stream.peer_addr().unwrap());
        stream.write_all(b"x").unwrap();
        let _ = stream.read(&mut [0]);
    })
}

#[test]
fn backends_see_the_configured_source_address() {
    let peers = Arc::default();
    let server = taking_down(&peers);
    let source: IpAddr = "127.0.0.9".parse().unwrap();
    let lab = Lab::with(ONE_WORKER, &[server.address], |s| s.source_address = SourceAddress::Fixed(source));
    let mut client = lab.connect();
    client.read_exact(&mut [0]).unwrap();
    assert_eq!(peers.lock().unwrap()[0].ip(), source);
}

#[test]
fn a_source_address_that_the_host_does_not_have_is_the_host_s_own_failure() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        service.source_address = SourceAddress::Fixed("203.0.113.77".parse().unwrap());
    });
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::Resources);
    assert!(lab.failures.all().is_empty(), "the backend is not blamed");
}
