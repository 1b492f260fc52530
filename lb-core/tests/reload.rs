//! A new configuration touches only what it names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use common::*;
use lb_core::{CloseReason, DataPlane, Eligible, PrepareError, Standing};

fn ask(client: &mut TcpStream, question: &[u8]) {
    client.write_all(question).unwrap();
    let mut answer = vec![0; question.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, question);
}

#[test]
fn the_same_configuration_keeps_listeners_connections_health_and_counters() {
    let server = Server::echo();
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    ask(&mut client, b"before");
    let applied = lab.apply(std::slice::from_ref(&lab.service));
    assert_eq!((applied.opened.len(), applied.kept, applied.closed.len()), (0, 1, 0));
    ask(&mut client, b"after!");
    drop(client);
    lab.await_close(CloseReason::Completed);
    ask(&mut lab.connect(), b"new");
    assert_eq!(lab.backend(0).standing.eligible, Eligible::Yes);
    eventually("both are counted", || lab.stats().bytes_in == 15);
    assert_eq!(lab.stats().accepted, 2);
}

#[test]
fn another_weight_keeps_the_backend_another_address_makes_it_unknown() {
    let (server, other) = (Server::saying("0"), Server::saying("1"));
    let lab = Lab::new(&[server.address]);
    let mut changed = lab.service.clone();
    changed.backends[0].weight = config::Weight::new(7).unwrap();
    lab.apply(std::slice::from_ref(&changed));
    assert_eq!(lab.backend(0).standing.eligible, Eligible::Yes);
    changed.backends[0].address = other.address.into();
    lab.apply(std::slice::from_ref(&changed));
    assert_eq!(lab.backend(0).standing.eligible, Eligible::No);
    assert_reset(&mut lab.connect());
    lab.set(0, Eligible::Yes);
    assert_eq!(read_all(&mut lab.connect()), b"1");
}

#[test]
fn a_new_service_is_opened_and_an_old_one_closed_without_touching_its_connections() {
    let server = Server::echo();
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    ask(&mut client, b"before");

    let port = Reserved::new(LOCALHOST);
    let mut other = service(port.address, &[server.address]);
    other.name = name("other");
    let applied = lab.apply(std::slice::from_ref(&other));
    assert_eq!((applied.opened, applied.kept, applied.closed), (vec![port.address], 0, vec![lab.address]));

    assert!(TcpStream::connect(lab.address).is_err(), "the old address is closed");
    ask(&mut client, b"after!");
    lab.plane.set_standing(&[(other.backend_id(&other.backends[0]), Standing::UP)]);
    ask(&mut connect(port.address), b"new");
    let stats = lab.plane.stats();
    assert_eq!((stats.services.len(), stats.accepted, stats.active >= 1), (1, 2, true));
}

#[test]
fn an_address_can_move_to_another_service_while_it_listens() {
    let (one, two) = (Server::saying("1"), Server::saying("2"));
    let lab = Lab::new(&[one.address]);
    assert_eq!(read_all(&mut lab.connect()), b"1");
    let mut moved = service(lab.address, &[two.address]);
    moved.name = name("moved");
    let applied = lab.apply(std::slice::from_ref(&moved));
    assert_eq!(applied.kept, 1);
    lab.plane.set_standing(&[(moved.backend_id(&moved.backends[0]), Standing::UP)]);
    assert_eq!(read_all(&mut lab.connect()), b"2");
}

#[test]
fn clients_that_wait_at_a_listener_are_served_before_it_closes() {
    let server = Server::echo();
    // At the limit clients wait in the kernel's queue, which is what a close must not lose.
    let options = (2, 1);
    let lab = Lab::with(options, &[server.address], |_| {});
    let mut first = lab.connect();
    ask(&mut first, b"first");
    let mut waiting: Vec<_> = (0..8).map(|_| lab.connect()).collect();
    assert_eq!(lab.plane.active(), 1);
    lab.plane.close_listeners();
    assert!(TcpStream::connect(lab.address).is_err());
    assert!(lab.stats().listeners.is_empty());
    for client in &mut waiting {
        ask(client, b"waited");
    }
    ask(&mut first, b"still");
}

#[test]
fn a_close_takes_in_no_crowd_beyond_the_limit() {
    let server = Server::echo();
    let options = (2, 1);
    let lab = Lab::with(options, &[server.address], |_| {});
    let mut first = lab.connect();
    ask(&mut first, b"first");
    let waiting: Vec<_> = (0..300).map(|_| lab.connect()).collect();
    lab.plane.close_listeners();
    assert!(TcpStream::connect(lab.address).is_err());
    assert!((2..=65).contains(&lab.plane.active()), "{}", lab.plane.active());
    ask(&mut first, b"still");
    drop(waiting);
}

#[test]
fn an_address_in_use_is_refused_by_name_and_nothing_changes() {
    let server = Server::saying("0");
    let lab = Lab::new(&[server.address]);
    let foreign = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let taken = foreign.local_addr().unwrap();
    let mut changed = lab.service.clone();
    let free = Reserved::new(LOCALHOST);
    changed.listen = vec![free.address, taken];
    let error = lab.plane.prepare(&[changed]).unwrap_err();
    assert!(matches!(&error, PrepareError::InUse { service, address }
        if service.as_str() == "web" && *address == taken));
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert!(TcpStream::connect(free.address).is_err(), "what was opened before the error is closed again");
    assert_eq!(read_all(&mut lab.connect()), b"0");
}

#[test]
fn another_plane_on_the_same_address_is_noticed_though_both_share_ports() {
    let lab = Lab::new(&[]);
    let other = DataPlane::start(options(ONE_WORKER), std::sync::Arc::new(())).unwrap();
    let error = other.prepare(std::slice::from_ref(&lab.service)).unwrap_err();
    assert!(matches!(error, PrepareError::InUse { .. }));
}

#[test]
fn every_address_and_one_of_them_can_follow_each_other() {
    let server = Server::saying("0");
    let port = Reserved::new(Ipv4Addr::UNSPECIFIED.into());
    let (every, one) = (port.address, SocketAddr::new(LOCALHOST, port.address.port()));
    let lab = Lab::new(&[server.address]);
    let mut changed = lab.service.clone();
    for listen in [vec![one], vec![every], vec![one], vec![one, every]] {
        changed.listen = listen;
        lab.apply(std::slice::from_ref(&changed));
        assert_eq!(read_all(&mut connect(one)), b"0");
    }
}

#[test]
fn what_was_prepared_and_dropped_leaves_nothing() {
    let lab = Lab::new(&[]);
    let port = Reserved::new(LOCALHOST);
    let mut changed = lab.service.clone();
    changed.listen.push(port.address);
    drop(lab.plane.prepare(std::slice::from_ref(&changed)).unwrap());
    assert!(TcpStream::connect(port.address).is_err());
    assert_eq!(lab.apply(std::slice::from_ref(&changed)).opened, [port.address]);
}

#[test]
fn a_connection_outlives_its_backend_s_removal() {
    let (server, other) = (Server::echo(), Server::echo());
    let lab = Lab::new(&[server.address, other.address]);
    let mut client = lab.connect();
    ask(&mut client, b"before");
    let mut changed = lab.service.clone();
    changed.backends.remove(0);
    lab.apply(std::slice::from_ref(&changed));
    ask(&mut client, b"after!");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"");
    lab.await_close(CloseReason::Completed);
    assert_eq!(lab.stats().bytes_in, 12, "the service counts what its former backend did");
}
