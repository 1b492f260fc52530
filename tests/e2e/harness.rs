//! The harness itself: mock backends, addresses and the scripted peer do what the other tests rely on.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

use crate::common::backend::{Backend, Gate, Manner};
use crate::common::bgp_peer::{BgpPeer, Seen};
use crate::common::bgp_wire::{self, Message, Prefix, frame};
use crate::common::eventually::eventually;
use crate::common::http::{self, Connection};
use crate::common::load::Load;
use crate::common::ports::{HeldPort, Loopback};
use crate::common::process::{self, Process};
use crate::common::{SOON, journal::Entry};

#[test]
fn loopback_addresses_and_ports_are_handed_out_once() {
    let labs: Vec<_> = (0..50).map(|_| Loopback::take()).collect();
    let mut all: Vec<_> = labs.iter().flat_map(|lab| [lab.addr(), lab.addr()]).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
}

#[test]
fn a_held_ipv6_port_can_be_listened_on_by_a_server() {
    let port = HeldPort::v6();
    let listener = TcpListener::bind(port.addr()).unwrap();
    TcpStream::connect(port.addr()).unwrap();
    listener.accept().unwrap();
}

#[test]
fn http_backend_names_itself_on_kept_and_closed_connections() {
    let lab = Loopback::take();
    let backend = Backend::http("a", lab.addr());
    assert_eq!(http::backend_of(backend.addr()).unwrap(), "a");
    let mut kept = Connection::open(backend.addr()).unwrap();
    for _ in 0..3 {
        assert_eq!(kept.get("/").unwrap().header("x-backend"), Some("a"));
    }
    assert_eq!(kept.get("/bytes/100000").unwrap().body.len(), 100_000);
    assert_eq!((backend.accepted(), backend.requests()), (2, 5));
    drop(kept);
    eventually("both connections are closed", SOON, || backend.open() == 0);
}

#[test]
fn stopped_backend_refuses_ends_its_connections_and_starts_again_on_the_same_port() {
    let lab = Loopback::take();
    let mut backend = Backend::http("a", lab.addr());
    let mut kept = Connection::open(backend.addr()).unwrap();
    kept.get("/").unwrap();
    backend.stop();
    assert!(kept.get("/").is_err());
    assert_eq!(TcpStream::connect(backend.addr()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    backend.start_again();
    assert_eq!(http::backend_of(backend.addr()).unwrap(), "a");
}

#[test]
fn gated_backend_answers_when_the_gate_opens() {
    let lab = Loopback::take();
    let gate = Gate::default();
    let backend = Backend::start("a", lab.addr(), Manner::Gated(gate.clone()));
    let addr = backend.addr();
    let client = std::thread::spawn(move || http::backend_of(addr));
    eventually("the request has arrived", SOON, || backend.requests() == 1);
    assert!(!client.is_finished());
    gate.open();
    assert_eq!(client.join().unwrap().unwrap(), "a");
}

#[test]
fn misbehaving_backends_misbehave_as_named() {
    let lab = Loopback::take();
    let backend = Backend::start("a", lab.addr(), Manner::ResetMidBody);
    assert_eq!(http::get(backend.addr(), "/").unwrap_err().kind(), ErrorKind::ConnectionReset);
    backend.behave(Manner::ResetAtOnce);
    let error = TcpStream::connect(backend.addr()).unwrap().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    backend.behave(Manner::CloseAtOnce);
    assert_eq!(TcpStream::connect(backend.addr()).unwrap().read(&mut [0]).unwrap(), 0);
    backend.behave(Manner::Status(503));
    assert_eq!(http::get(backend.addr(), "/").unwrap().status, 503);
}

#[test]
fn half_closed_connections_carry_data_the_other_way() {
    let lab = Loopback::take();
    let backend = Backend::start("a", lab.addr(), Manner::CountThenAnswer);
    let mut stream = TcpStream::connect(backend.addr()).unwrap();
    stream.write_all(b"12345").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "5 bytes");
    backend.behave(Manner::EndThenRead);
    let mut stream = TcpStream::connect(backend.addr()).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(b"12345").unwrap();
    eventually("the bytes arrive", SOON, || backend.received() == 5);
}

#[test]
fn load_counts_answers_and_failures() {
    let lab = Loopback::take();
    let mut backend = Backend::http("a", lab.addr());
    let load = Load::on(&[backend.addr()]);
    load.answers(100);
    backend.stop();
    backend.start_again();
    load.answers(100);
    let report = load.finish();
    assert!(report.answered["a"] >= 200);
    assert!(!report.failed.is_empty(), "the stop costs the kept connection at least");
}

#[test]
fn scripted_peer_records_what_a_speaker_announces_and_withdraws() {
    let peer = BgpPeer::start(64500);
    let mut speaker = TcpStream::connect(peer.addr()).unwrap();
    speaker.write_all(&bgp_wire::open(64512, 9, Ipv4Addr::new(10, 0, 0, 1))).unwrap();
    speaker.write_all(&bgp_wire::keepalive()).unwrap();
    peer.wait_established(SOON);

    let attributes = [
        &[0x40, 1, 1, 0][..],
        &[0x40, 2, 6, 2, 1, 0, 0, 0xFC, 0],
        &[0x40, 3, 4, 10, 0, 0, 1],
        &[0x80, 4, 4, 0, 0, 0, 100],
        &[0xC0, 8, 4, 0xFC, 0, 0, 7],
    ]
    .concat();
    let mut announce = vec![0, 0, 0, u8::try_from(attributes.len()).unwrap()];
    announce.extend(attributes);
    announce.extend([32, 10, 84, 13, 100]);
    speaker.write_all(&frame(2, &announce)).unwrap();
    let vip = Prefix::host(Ipv4Addr::new(10, 84, 13, 100).into());
    let (_, seen) = peer.wait_announced(vip, SOON);
    assert_eq!(
        (seen.med, seen.as_path, seen.communities),
        (Some(100), Some(vec![(2, vec![64512])]), vec![0xFC00_0007])
    );

    speaker.write_all(&frame(2, &[0, 5, 32, 10, 84, 13, 100, 0, 0])).unwrap();
    peer.wait_withdrawn(vip, SOON);
    speaker.write_all(&bgp_wire::notification(6, 2)).unwrap();
    let (_, code, subcode) = peer.wait_notification(0, SOON);
    assert_eq!((code, subcode), (6, 2));
    drop(speaker);
    peer.journal().wait_since(0, SOON, |seen| *seen == Seen::Closed).unwrap();
}

#[test]
fn frozen_peer_reads_nothing_until_it_goes_on() {
    let peer = BgpPeer::start(64500);
    peer.freeze(true);
    let mut speaker = TcpStream::connect(peer.addr()).unwrap();
    speaker.write_all(&bgp_wire::open(64512, 9, Ipv4Addr::new(10, 0, 0, 1))).unwrap();
    peer.journal().wait_since(0, SOON, |seen| *seen == Seen::Connected).unwrap();
    assert!(peer.news_since(1).is_empty());
    peer.freeze(false);
    let opened = |seen: &Seen| matches!(seen, Seen::Message(Message::Open(_)));
    let Entry { what, .. } = peer.journal().wait_since(0, SOON, opened).unwrap();
    let Seen::Message(Message::Open(open)) = what else { panic!("{what:?}") };
    assert_eq!((open.version, open.my_as, open.hold_time), (4, 64512, 9));
}

#[test]
fn malformed_bytes_are_recorded_as_the_speakers_fault() {
    let peer = BgpPeer::start(64500);
    let mut speaker = TcpStream::connect(peer.addr()).unwrap();
    speaker.write_all(&[0; 19]).unwrap();
    peer.journal().wait_since(0, SOON, |seen| matches!(seen, Seen::Malformed(_))).unwrap();
}

#[test]
fn a_child_does_not_outlive_its_value() {
    let child = Process::start("sleep", &["sleep", "1000"]);
    let id = child.id();
    drop(child);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_command_that_ends_tells_its_code_and_output() {
    let ran = process::run("sh", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(7), "out\n", "err\n"));
}
