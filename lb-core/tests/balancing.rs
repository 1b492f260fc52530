//! The algorithms through the whole data plane; what each promises is tested beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::*;
use config::{Balance, Service, Weight};
use lb_core::{Eligible, Standing};

const FOUR_WORKERS: (usize, u32) = (4, 1000);

fn lab(servers: &[Server], balance: Balance, change: impl FnOnce(&mut Service)) -> Lab {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Lab::with(FOUR_WORKERS, &addresses, |service| {
        service.balance = balance;
        change(service);
    })
}

fn echo_servers() -> [Server; 3] {
    [Server::echo(), Server::echo(), Server::echo()]
}

fn held(lab: &Lab) -> TcpStream {
    let mut client = lab.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

fn active(lab: &Lab) -> [u64; 3] {
    [0, 1, 2].map(|index| lab.backend(index).active)
}

#[test]
fn least_conn_spreads_held_connections_by_weight_whatever_the_workers() {
    let servers = echo_servers();
    let lab = lab(&servers, Balance::LeastConn, |service| {
        service.backends[0].weight = Weight::new(2).unwrap();
    });
    let mut clients: Vec<_> = (0..40).map(|_| held(&lab)).collect();
    assert_eq!(active(&lab), [20, 10, 10]);
    // Whoever loses connections gets the next ones.
    lab.plane.kill_backend(&lab.id(1));
    clients.extend((0..10).map(|_| held(&lab)));
    assert_eq!(active(&lab), [20, 10, 10]);
}

#[test]
fn least_conn_does_not_flood_a_backend_that_comes_back() {
    let servers = echo_servers();
    let lab = lab(&servers, Balance::LeastConn, |_| {});
    lab.set(2, Eligible::No);
    let mut clients: Vec<_> = (0..40).map(|_| held(&lab)).collect();
    lab.set(2, Eligible::Yes);
    clients.extend((0..12).map(|_| held(&lab)));
    let [a, b, back] = active(&lab);
    assert!((1..=8).contains(&back), "{back} of the 12 new ones, beside {a} and {b}");
}

#[test]
fn a_source_keeps_its_backend_and_goes_to_another_only_while_that_is_down() {
    let servers = echo_servers();
    let lab = lab(&servers, Balance::Source, |_| {});
    (0..10).for_each(|_| drop(held(&lab)));
    let chosen = (0..3).find(|index| lab.backend(*index).connects == 10).unwrap();
    lab.set(chosen, Eligible::No);
    (0..10).for_each(|_| drop(held(&lab)));
    let next = (0..3).find(|index| *index != chosen && lab.backend(*index).connects == 10).unwrap();
    lab.set(chosen, Eligible::Yes);
    drop(held(&lab));
    assert_eq!((lab.backend(chosen).connects, lab.backend(next).connects), (11, 10));
}

#[test]
fn random_draws_leave_no_backend_far_behind() {
    let servers = echo_servers();
    let lab = lab(&servers, Balance::Random, |_| {});
    let _clients: Vec<_> = (0..60).map(|_| held(&lab)).collect();
    assert!(active(&lab).iter().all(|active| (15..=25).contains(active)), "{:?}", active(&lab));
}

#[test]
fn first_fills_the_backends_in_their_order() {
    let servers = echo_servers();
    let lab = lab(&servers, Balance::First, |service| {
        service.backends.iter_mut().for_each(|backend| backend.max_connections = Some(3));
    });
    let clients: Vec<_> = (0..7).map(|_| held(&lab)).collect();
    assert_eq!(active(&lab), [3, 3, 1]);
    drop(clients);
    eventually("all have ended", || active(&lab) == [0, 0, 0]);
    let _one = held(&lab);
    assert_eq!(active(&lab), [1, 0, 0]);
}

#[test]
fn a_part_of_its_weight_is_a_part_of_its_turns_and_the_others_keep_their_shares() {
    let servers = echo_servers();
    let lab = lab(&servers, Balance::RoundRobin, |_| {});
    lab.set(0, Standing { weight_percent: 50, ..Standing::UP });
    (0..50).for_each(|_| drop(held(&lab)));
    let connects = [0, 1, 2].map(|index| lab.backend(index).connects);
    assert_eq!(connects, [10, 20, 20]);
}
