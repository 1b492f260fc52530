//! Which backend a client gets: the exact order, what happens when it cannot be reached, and when there is none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::net::SocketAddr;

use common::*;
use config::Weight;
use lb_core::{CloseReason, ConnectCause, Eligible};

fn named_servers() -> [Server; 3] {
    [Server::saying("0"), Server::saying("1"), Server::saying("2")]
}

fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.address).collect()
}

/// Who answered each of `count` clients, one after the other.
fn answers(lab: &Lab, count: usize) -> String {
    (0..count).map(|_| String::from_utf8(read_all(&mut lab.connect())).unwrap()).collect()
}

#[test]
fn the_sequence_is_smooth_round_robin_on_one_worker_and_on_four() {
    let servers = named_servers();
    for workers in [1, 4] {
        let options = (workers, 1000);
        let lab = Lab::with(options, &addresses(&servers), |service| {
            service.backends[0].weight = Weight::new(5).unwrap();
        });
        assert_eq!(answers(&lab, 14), "00102000010200", "{workers} workers");
    }
}

#[test]
fn a_backend_that_is_not_eligible_gets_nothing_and_comes_back_into_its_place() {
    let servers = named_servers();
    let lab = Lab::new(&addresses(&servers));
    assert_eq!(answers(&lab, 3), "012");
    lab.set(1, Eligible::No);
    assert_eq!(answers(&lab, 4), "2020");
    lab.set(1, Eligible::Yes);
    assert_eq!(answers(&lab, 3), "120");
    assert_eq!(lab.backend(1).standing.eligible, Eligible::Yes);
}

#[test]
fn a_weight_of_zero_gets_nothing() {
    let servers = named_servers();
    let lab = Lab::with(ONE_WORKER, &addresses(&servers), |service| {
        service.backends[1].weight = Weight::new(0).unwrap();
    });
    assert_eq!(answers(&lab, 4), "0202");
}

#[test]
fn a_backup_serves_only_while_no_primary_is_eligible() {
    let servers = named_servers();
    let lab = Lab::with(ONE_WORKER, &addresses(&servers), |service| service.backends[0].backup = true);
    assert_eq!(answers(&lab, 4), "1212");
    lab.set(1, Eligible::No);
    assert_eq!(answers(&lab, 2), "22");
    lab.set(2, Eligible::No);
    assert_eq!(answers(&lab, 2), "00");
}

#[test]
fn without_an_eligible_backend_the_client_is_reset_at_once() {
    let servers = named_servers();
    let lab = Lab::new(&addresses(&servers));
    lab.set_all(Eligible::No);
    assert_reset(&mut lab.connect());
    let stats = lab.stats();
    assert_eq!((stats.closes.of(CloseReason::NoBackend), stats.accepted, stats.active), (1, 1, 0));
    assert!(lab.failures.all().is_empty());
}

#[test]
fn a_refused_client_goes_to_the_next_candidate() {
    let refusing = Refusing::new();
    let server = Server::saying("1");
    let lab = Lab::new(&[refusing.address(), server.address]);
    assert_eq!(answers(&lab, 4), "1111");
    let stats = lab.stats();
    assert!(stats.retries >= 2, "{stats:?}");
    assert_eq!(stats.backends[0].connect_failures, stats.retries);
    let (id, failure) = &lab.failures.all()[0];
    assert_eq!(id.to_string(), "web/b0");
    assert_eq!((&failure.address, failure.cause), (&refusing.address().into(), ConnectCause::Refused));
}

#[test]
fn no_candidate_is_tried_twice_and_backups_come_last() {
    let refusing = [Refusing::new(), Refusing::new(), Refusing::new()];
    let lab = Lab::with(ONE_WORKER, &refusing.each_ref().map(Refusing::address), |service| {
        service.retries = 10;
        service.backends[0].backup = true;
        service.backends[1].weight = Weight::new(100).unwrap();
    });
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::ConnectFailed);
    let tried: Vec<_> = lab.failures.all().iter().map(|(id, _)| id.backend.to_string()).collect();
    assert_eq!(tried, ["b1", "b2", "b0"]);
    assert_eq!(lab.stats().retries, 2);
}

#[test]
fn retries_are_as_many_as_configured() {
    let refusing = [Refusing::new(), Refusing::new(), Refusing::new()];
    let server = Server::saying("3");
    let mut backends = refusing.each_ref().map(Refusing::address).to_vec();
    backends.push(server.address);
    let lab = Lab::with(ONE_WORKER, &backends, |service| service.retries = 2);
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::ConnectFailed);
    assert_eq!(lab.failures.all().len(), 3);
}

#[test]
fn what_a_client_sent_while_candidates_failed_reaches_the_one_that_took_it() {
    let refusing = Refusing::new();
    let server = Server::echo();
    let lab = Lab::new(&[refusing.address(), server.address]);
    for _ in 0..4 {
        let mut client = lab.connect();
        client.write_all(b"early").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut client), b"early");
    }
}
