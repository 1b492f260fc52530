//! Connections are counted, and can be ended, by the local address that they came in on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use common::*;

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 101));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 102));

#[test]
fn what_came_in_on_one_address_is_ended_without_touching_the_same_service_on_another() {
    let server = Server::echo();
    let (one, two) = (Reserved::new(ONE), Reserved::new(TWO));
    let options = (2, 1000);
    let lab =
        Lab::with(options, &[server.address], |service| service.listen = vec![one.address, two.address]);
    let mut on_one: Vec<_> = (0..8).map(|_| connect(one.address)).collect();
    let mut on_two: Vec<_> = (0..3).map(|_| connect(two.address)).collect();
    let active = || (lab.plane.active_on(ONE), lab.plane.active_on(TWO));
    eventually("all are counted", || active() == (8, 3));

    // A service whose address has gone keeps its name and its connections on it.
    let mut moved = lab.service.clone();
    moved.listen = vec![two.address];
    lab.apply(std::slice::from_ref(&moved));
    assert_eq!(active(), (8, 3), "an address is known for as long as there is a connection on it");
    lab.plane.kill_connections_on(ONE);
    assert_eq!(active(), (0, 3));
    on_one.iter_mut().for_each(assert_reset);
    for client in &mut on_two {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!((lab.plane.accepted_on(ONE), lab.plane.accepted_on(TWO)), (8, 3));
}

#[test]
fn every_port_of_an_address_counts_and_an_end_takes_nothing_from_what_was_accepted() {
    let server = Server::saying("x");
    let (one, other) = (Reserved::new(ONE), Reserved::new(ONE));
    let lab =
        Lab::with(ONE_WORKER, &[server.address], |service| service.listen = vec![one.address, other.address]);
    for address in [one.address, other.address, one.address] {
        assert_eq!(read_all(&mut connect(address)), b"x");
    }
    eventually("all have ended", || lab.plane.active_on(ONE) == 0);
    assert_eq!((lab.plane.accepted_on(ONE), lab.plane.accepted_on(TWO)), (3, 0));
}
