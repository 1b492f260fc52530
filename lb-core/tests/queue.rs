//! Places at backends: who finds none waits in line, and what happens to who waits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::*;
use config::Service;
use lb_core::{CloseReason, Eligible, Standing};

/// Every backend takes one connection at a time.
fn one_each(service: &mut Service) {
    service.timeouts.queue = Duration::from_secs(60);
    service.backends.iter_mut().for_each(|backend| backend.max_connections = Some(1));
}

fn await_queued(lab: &Lab, count: u64) {
    eventually(&format!("{count} clients wait"), || lab.stats().queued == count);
}

/// A client that has got through to an echo server.
fn served(lab: &Lab) -> TcpStream {
    let mut client = lab.connect();
    assert!(echoes(&mut client));
    client
}

fn echoes(client: &mut TcpStream) -> bool {
    let mut answer = [0];
    client.write_all(b"x").is_ok() && client.read_exact(&mut answer).is_ok() && answer == *b"x"
}

#[test]
fn who_finds_every_backend_full_waits_and_is_served_in_order_on_one_worker_and_on_three() {
    for workers in [1, 3] {
        let server = Server::echo();
        let options = (workers, 1000);
        let lab = Lab::with(options, &[server.address], one_each);
        let mut current = served(&lab);
        let mut waiting: Vec<_> = (1..=20)
            .map(|count| {
                let client = lab.connect();
                await_queued(&lab, count);
                client
            })
            .collect();
        while !waiting.is_empty() {
            assert_eq!(lab.backend(0).active, 1);
            drop(std::mem::replace(&mut current, waiting.remove(0)));
            assert!(echoes(&mut current), "the first in line is served, with {} behind", waiting.len());
            assert_eq!(lab.stats().queued, waiting.len() as u64);
        }
        assert_eq!(lab.stats().closes.of(CloseReason::QueueTimeout), 0);
    }
}

#[test]
fn nobody_who_comes_later_is_served_before_those_who_wait() {
    let server = Server::echo();
    let options = (3, 1000);
    let lab = Lab::with(options, &[server.address], one_each);
    let first = served(&lab);
    let mut waiting = lab.connect();
    await_queued(&lab, 1);
    // A crowd that comes while the place changes hands.
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..8).map(|_| scope.spawn(|| lab.connect())).collect();
        drop(first);
        assert!(echoes(&mut waiting));
        crowd.into_iter().for_each(|client| drop(client.join().unwrap()));
    });
}

#[test]
fn who_waits_longer_than_the_queue_timeout_is_reset() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        one_each(service);
        service.timeouts.queue = Duration::from_millis(50);
    });
    let mut first = served(&lab);
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::QueueTimeout);
    assert_eq!(lab.stats().queued, 0);
    assert!(echoes(&mut first));
}

#[test]
fn without_a_queue_who_finds_every_backend_full_is_reset_at_once() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        one_each(service);
        service.timeouts.queue = Duration::ZERO;
    });
    let mut first = served(&lab);
    assert_reset(&mut lab.connect());
    lab.await_close(CloseReason::QueueFull);
    assert!(echoes(&mut first));
    assert!(lab.failures.all().is_empty(), "a full backend is no failure");
}

#[test]
fn a_client_that_breaks_off_leaves_the_line() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], one_each);
    let first = served(&lab);
    let gone = lab.connect();
    await_queued(&lab, 1);
    let mut behind = lab.connect();
    await_queued(&lab, 2);
    reset(gone);
    await_queued(&lab, 1);
    lab.await_close(CloseReason::ClientReset);
    drop(first);
    assert!(echoes(&mut behind));
}

/// When the stream of a client that waits ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    BeforeItWaits,
    /// Together with the PROXY header, which is read before it waits.
    WithItsHeader,
    WhileItWaits,
}

#[test]
fn a_client_whose_stream_has_ended_is_served_but_after_everybody_else() {
    for ends in [Ends::BeforeItWaits, Ends::WithItsHeader, Ends::WhileItWaits] {
        let server = Server::new(|mut stream| {
            if stream.read_exact(&mut [0]).is_ok() {
                let _ = stream.write_all(b"answer");
            }
        });
        let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
            one_each(service);
            service.accept_proxy = ends == Ends::WithItsHeader;
            service.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let header: &[u8] = if ends == Ends::WithItsHeader { b"PROXY UNKNOWN\r\n" } else { b"" };
        let join = |say: &[u8]| {
            let mut client = lab.connect();
            client.write_all(&[header, say].concat()).unwrap();
            client
        };
        let first = join(b"");
        eventually("the place is taken", || lab.backend(0).active == 1);
        let mut half_closed = join(b"?");
        if ends != Ends::WhileItWaits {
            half_closed.shutdown(Shutdown::Write).unwrap();
        }
        await_queued(&lab, 1);
        let mut behind = join(b"?");
        await_queued(&lab, 2);
        // One worker takes events in the order in which they happen.
        half_closed.shutdown(Shutdown::Write).unwrap();
        drop(first);
        assert_eq!(read_all(&mut behind), b"answer", "{ends:?}");
        drop(behind);
        assert_eq!(read_all(&mut half_closed), b"answer", "{ends:?}");
        assert_eq!(lab.backend(0).connects, 3);
    }
}

#[test]
fn a_backend_that_comes_up_or_is_given_more_room_serves_the_line() {
    let servers = [Server::echo(), Server::echo()];
    let lab = Lab::with(ONE_WORKER, &servers.each_ref().map(|s| s.address), one_each);
    lab.set(1, Eligible::No);
    let _first = served(&lab);
    let mut second = lab.connect();
    await_queued(&lab, 1);
    lab.set(1, Eligible::Yes);
    assert!(echoes(&mut second));
    let mut third = lab.connect();
    await_queued(&lab, 1);
    lab.set(0, Standing { max_connections: Some(2), ..Standing::UP });
    assert!(echoes(&mut third));
    assert_eq!(lab.backend(0).max_connections, Some(2));
}

#[test]
fn full_primaries_are_waited_for_though_there_is_a_backup() {
    let servers = [Server::echo(), Server::echo()];
    let lab = Lab::with(ONE_WORKER, &servers.each_ref().map(|s| s.address), |service| {
        one_each(service);
        service.backends[1].backup = true;
    });
    let first = served(&lab);
    let mut second = lab.connect();
    await_queued(&lab, 1);
    assert_eq!(lab.backend(1).active, 0);
    drop(first);
    assert!(echoes(&mut second));
    assert_eq!(lab.backend(1).connects, 0);
}

#[test]
fn who_waits_is_refused_once_no_backend_is_up() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], one_each);
    let mut first = served(&lab);
    let mut second = lab.connect();
    await_queued(&lab, 1);
    lab.set(0, Eligible::No);
    assert_reset(&mut second);
    lab.await_close(CloseReason::NoBackend);
    assert!(echoes(&mut first), "established connections go on");
}

#[test]
fn a_connection_whose_candidate_failed_waits_for_one_that_is_full() {
    let (refusing, server) = (Refusing::new(), Server::echo());
    let lab = Lab::with(ONE_WORKER, &[refusing.address(), server.address], one_each);
    let first = served(&lab);
    let mut second = lab.connect();
    await_queued(&lab, 1);
    drop(first);
    assert!(echoes(&mut second));
}
