//! Who may come: by network, by how many and by how fast. Each refusal is a RST with a reason of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use common::*;
use config::Rate;
use lb_core::CloseReason;
use rustix::net::{AddressFamily, SocketType, bind, socket};

/// A client with this loopback address.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn echoes(client: &mut TcpStream) -> bool {
    let mut answer = [0];
    client.write_all(b"x").is_ok() && client.read_exact(&mut answer).is_ok()
}

#[test]
fn denied_networks_are_looked_at_before_allowed_ones_and_others_are_refused() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        service.deny = vec!["127.0.0.3/32".parse().unwrap()];
        service.allow = vec!["127.0.0.2/31".parse().unwrap()];
    });
    assert!(echoes(&mut connect_from(2, lab.address)));
    for refused in [3, 4] {
        assert_reset(&mut connect_from(refused, lab.address));
    }
    assert_eq!(lab.stats().closes.of(CloseReason::Denied), 2);
    assert_eq!(lab.backend(0).connects, 1);
}

#[test]
fn a_client_with_all_of_its_connections_is_refused_another_until_one_ends() {
    let server = Server::echo();
    let options = (3, 1000);
    let lab = Lab::with(options, &[server.address], |service| service.client_limits.connections = Some(2));
    let mut held = [connect_from(2, lab.address), connect_from(2, lab.address)];
    assert!(held.iter_mut().all(echoes));
    assert_reset(&mut connect_from(2, lab.address));
    lab.await_close(CloseReason::ClientConnections);
    assert!(echoes(&mut connect_from(3, lab.address)), "another client is not held up");
    eventually("the other client is gone", || lab.stats().active == 2);
    drop(held);
    eventually("both have ended", || lab.stats().active == 0);
    assert!(echoes(&mut connect_from(2, lab.address)));
}

#[test]
fn a_client_that_comes_too_fast_is_refused_and_others_are_not() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        service.client_limits.rate = Some(Rate { count: 3, per: Duration::from_secs(3600) });
    });
    assert!((0..3).all(|_| echoes(&mut connect_from(2, lab.address))));
    assert_reset(&mut connect_from(2, lab.address));
    assert!(echoes(&mut connect_from(3, lab.address)));
    assert_eq!(lab.stats().closes.of(CloseReason::ClientRate), 1);
    // A reload that leaves the rate as it is does not forgive.
    lab.apply(std::slice::from_ref(&lab.service));
    assert_reset(&mut connect_from(2, lab.address));
}
