//! Connections that are ended because of their backend: it went down, or somebody says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::*;
use config::OnDown;
use lb_core::{CloseReason, Eligible, Standing};

fn ask(client: &mut TcpStream) {
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

/// Two echo servers with two clients each, by backend, on two workers.
fn lab(on_down: OnDown, servers: &[Server; 2]) -> (Lab, [Vec<TcpStream>; 2]) {
    let options = (2, 1000);
    let lab = Lab::with(options, &servers.each_ref().map(|s| s.address), |service| service.on_down = on_down);
    let mut clients = [vec![], vec![]];
    for number in 0..4 {
        let mut client = lab.connect();
        ask(&mut client);
        clients[number % 2].push(client);
    }
    (lab, clients)
}

#[test]
fn with_on_down_close_the_connections_of_a_backend_that_goes_down_are_reset_and_no_others() {
    let servers = [Server::echo(), Server::echo()];
    let (lab, [mut ended, mut kept]) = lab(OnDown::Close, &servers);
    lab.set(0, Eligible::No);
    ended.iter_mut().for_each(assert_reset);
    kept.iter_mut().for_each(ask);
    eventually("both are counted", || lab.stats().closes.of(CloseReason::BackendDown) == 2);
    assert_eq!((lab.backend(0).active, lab.backend(1).active), (0, 2));
}

#[test]
fn with_on_down_keep_they_go_on_and_so_they_do_with_a_backend_that_only_drains() {
    let servers = [Server::echo(), Server::echo()];
    let (lab, [mut clients, _kept]) = lab(OnDown::Keep, &servers);
    lab.set(0, Eligible::No);
    clients.iter_mut().for_each(ask);

    let servers = [Server::echo(), Server::echo()];
    let (lab, [mut clients, _kept]) = self::lab(OnDown::Close, &servers);
    lab.set(0, Standing { weight_percent: 0, ..Standing::UP });
    clients.iter_mut().for_each(ask);
    ask(&mut lab.connect());
    ask(&mut lab.connect());
    assert_eq!(lab.backend(0).connects, 2, "a backend that drains gets no new connection");
}

#[test]
fn a_chosen_backend_s_connections_are_ended_on_command() {
    let servers = [Server::echo(), Server::echo()];
    let (lab, [mut ended, mut kept]) = lab(OnDown::Keep, &servers);
    lab.plane.kill_backend(&lab.id(0));
    assert_eq!(lab.backend(0).active, 0);
    ended.iter_mut().for_each(assert_reset);
    kept.iter_mut().for_each(ask);
    assert_eq!(lab.stats().closes.of(CloseReason::Killed), 2);
}
