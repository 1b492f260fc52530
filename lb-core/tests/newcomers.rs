//! A door that is held: who begins a handshake waits, whoever is inside notices nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use common::*;

const HELD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 103));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 104));

#[test]
fn newcomers_wait_unanswered_on_one_address_until_they_are_admitted_and_nobody_else_notices() {
    let server = Server::echo();
    let (held, other) = (Reserved::new(HELD), Reserved::new(OTHER));
    let options = (2, 1000);
    let lab =
        Lab::with(options, &[server.address], |service| service.listen = vec![held.address, other.address]);
    let mut inside = connect(held.address);
    let echo = |client: &mut TcpStream| {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    };
    echo(&mut inside);

    lab.plane.hold_newcomers_on(HELD);
    for _ in 0..4 {
        let error = TcpStream::connect_timeout(&held.address, Duration::from_millis(150)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "neither accepted nor refused: {error}");
    }
    echo(&mut inside);
    echo(&mut connect(other.address));

    let waiting = std::thread::spawn(move || TcpStream::connect(held.address));
    lab.plane.admit_newcomers_on(HELD);
    echo(&mut waiting.join().unwrap().unwrap());
    lab.plane.admit_newcomers_on(HELD); // once more changes nothing
    echo(&mut connect(held.address));
}
