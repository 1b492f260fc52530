//! The PROXY protocol: taken from trusted clients only, sent to backends before anything else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::*;
use config::{BackendAddr, ProxyVersion, Service};
use lb_core::CloseReason;
use lb_core::proxy_protocol::{Header, decode, encode};

const SOURCE: &str = "192.0.2.7:4711";
const DESTINATION: &str = "198.51.100.9:443";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Takes the header off what it gets, and answers with it and an echo of the rest.
fn header_reader() -> Server {
    Server::new(|mut stream| {
        let mut bytes = Vec::new();
        let decoded = loop {
            let mut buffer = [0; 512];
            let read = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..read]);
            match decode(&bytes) {
                Ok(Some(decoded)) => break decoded,
                Ok(None) if read > 0 => {}
                other => panic!("{other:?} in {bytes:?}"),
            }
        };
        let Header::Addresses { source, destination } = decoded.header else { panic!("no addresses") };
        stream.write_all(format!("{source} {destination}\n").as_bytes()).unwrap();
        stream.write_all(&bytes[decoded.length..]).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut writer);
    })
}

fn accepting(service: &mut Service) {
    service.accept_proxy = true;
    service.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// What a client gets back that sends this and ends its stream.
fn answer(mut client: TcpStream, bytes: &[u8]) -> String {
    client.write_all(bytes).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    String::from_utf8(read_all(&mut client)).unwrap()
}

#[test]
fn backends_are_told_who_the_client_is_before_its_bytes() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let server = header_reader();
        let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.send_proxy = Some(version));
        let client = lab.connect();
        let expected = format!("{} {}\nhello", client.local_addr().unwrap(), lab.address);
        assert_eq!(answer(client, b"hello"), expected);
        eventually("it is counted", || lab.stats().closes.of(CloseReason::Completed) == 1);
        assert_eq!(lab.stats().bytes_in, 5, "the header is not the client's");
    }
}

#[test]
fn a_client_that_says_nothing_is_announced_all_the_same() {
    let server = header_reader();
    let lab = Lab::with(ONE_WORKER, &[server.address], |s| s.send_proxy = Some(ProxyVersion::V2));
    let mut client = lab.connect();
    let expected = format!("{} {}\n", client.local_addr().unwrap(), lab.address);
    let mut line = vec![0; expected.len()];
    client.read_exact(&mut line).unwrap();
    assert_eq!(line, expected.as_bytes());
}

#[test]
fn behind_a_unix_socket_the_client_is_still_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backend");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let lab = Lab::with(ONE_WORKER, &[DESTINATION.parse().unwrap()], |service| {
        service.backends[0].address = BackendAddr::Unix(path.as_path().into());
        service.send_proxy = Some(ProxyVersion::V1);
    });
    let client = lab.connect();
    let (mut backend, _) = listener.accept().unwrap();
    let expected = encode(ProxyVersion::V1, client.local_addr().unwrap(), lab.address);
    let mut header = vec![0; expected.as_bytes().len()];
    backend.read_exact(&mut header).unwrap();
    assert_eq!(header, expected.as_bytes());
}

#[test]
fn a_header_split_at_every_byte_is_taken_and_the_client_is_whom_it_names() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let server = header_reader();
        let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
            accepting(service);
            service.send_proxy = Some(ProxyVersion::V1);
        });
        let header = encode(version, address(SOURCE), address(DESTINATION));
        let stream = [header.as_bytes(), b"rest"].concat();
        for split in 0..=header.as_bytes().len() {
            let (first, second) = stream.split_at(split);
            let mut client = lab.connect();
            client.set_nodelay(true).unwrap();
            client.write_all(first).unwrap();
            assert_eq!(answer(client, second), format!("{SOURCE} {DESTINATION}\nrest"), "split at {split}");
        }
    }
}

#[test]
fn unknown_and_local_leave_the_connection_s_own_addresses() {
    let server = header_reader();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        accepting(service);
        service.send_proxy = Some(ProxyVersion::V2);
    });
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"] {
        let client = lab.connect();
        let expected = format!("{} {}\nx", client.local_addr().unwrap(), lab.address);
        assert_eq!(answer(client, &[header, b"x"].concat()), expected);
    }
}

#[test]
fn a_backend_without_a_port_is_reached_on_the_listener_s_whatever_the_header_says() {
    // The backend is on another address of this host, on the listener's port; and one more port, that nobody has opened
    // to clients.
    let ip = std::net::Ipv4Addr::new(127, 0, 0, 2);
    let lab = Lab::with(ONE_WORKER, &[address("192.0.2.1:1")], |service| {
        accepting(service);
        service.backends[0].address = BackendAddr::ClientPort(ip.into());
    });
    let _server = Server::at((ip, lab.address.port()).into(), |mut stream| {
        let _ = stream.write_all(b"the listener's");
    });
    let other = Server::at((ip, 0).into(), |mut stream| {
        let _ = stream.write_all(b"another");
    });
    let header = encode(ProxyVersion::V2, address(SOURCE), other.address);
    assert_eq!(answer(lab.connect(), header.as_bytes()), "the listener's");
}

#[test]
fn a_client_that_is_not_trusted_is_reset_whatever_it_says() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        accepting(service);
        service.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    });
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::Untrusted);
    assert_eq!(lab.backend(0).connects, 0);
}

#[test]
fn what_is_no_header_is_reset_at_once_and_counted() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], accepting);
    for (count, bytes) in
        [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 nonsense\r\n", b"\r\n\r\nX"].iter().enumerate()
    {
        let mut client = lab.connect();
        client.write_all(bytes).unwrap();
        assert_reset(&mut client);
        let counted = count as u64 + 1;
        eventually("it is counted", || lab.stats().closes.of(CloseReason::ProxyHeader) == counted);
    }
    assert_eq!(lab.backend(0).connects, 0);
}

#[test]
fn a_client_that_never_finishes_its_header_costs_its_own_slot_until_the_deadline() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        accepting(service);
        service.timeouts.client = Duration::from_millis(300);
    });
    let mut slow = lab.connect();
    slow.write_all(b"PROXY ").unwrap();
    assert_eq!(answer(lab.connect(), b"PROXY UNKNOWN\r\nserved meanwhile"), "served meanwhile");
    assert_reset(&mut slow);
    lab.await_close(CloseReason::ProxyHeader);
}

#[test]
fn a_client_that_leaves_within_its_header_leaves_nothing_behind() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], accepting);
    let mut client = lab.connect();
    client.write_all(b"PROXY TCP4").unwrap();
    reset(client);
    drop(lab.connect());
    eventually("both are gone", || lab.stats().active == 0 && lab.stats().accepted == 2);
}
