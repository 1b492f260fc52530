//! What a client does while its backend has not answered yet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use common::*;
use lb_core::{CloseReason, ConnectCause};

/// Long enough for a client to be watched while its backend is connecting.
const CONNECT: Duration = Duration::from_millis(300);

#[test]
fn a_client_that_resets_while_its_backend_does_not_answer_gives_its_place_free() {
    let hole = BlackHole::new();
    let lab = Lab::new(&[hole.address]);
    let mut clients: Vec<_> = (0..100).map(|_| lab.connect()).collect();
    let stays = clients.pop();
    eventually("all are accepted", || lab.plane.active() == 100);
    clients.into_iter().for_each(reset);
    eventually("those who left are not counted", || lab.plane.active() == 1);
    assert_eq!(lab.stats().closes.of(CloseReason::ClientReset), 99);
    assert_eq!(
        (lab.backend(0).active, lab.backend(0).connect_failures),
        (1, 0),
        "it is not the backend's failure"
    );
    drop(stays);
}

#[test]
fn a_client_that_left_is_noticed_at_the_next_candidate_too() {
    let (refusing, hole) = (Refusing::new(), BlackHole::new());
    let lab = Lab::new(&[refusing.address(), hole.address]);
    let client = lab.connect();
    eventually("the second is tried", || lab.backend(1).active == 1);
    reset(client);
    lab.await_close(CloseReason::ClientReset);
}

#[test]
fn a_client_that_half_closes_while_its_backend_does_not_answer_is_served_by_the_next() {
    let (hole, server) = (BlackHole::new(), Server::echo());
    let lab =
        Lab::with(ONE_WORKER, &[hole.address, server.address], |service| service.timeouts.connect = CONNECT);
    let mut client = lab.connect();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"question");
    lab.await_close(CloseReason::Completed);
}

#[test]
fn a_client_that_resets_after_a_late_connect_is_noticed() {
    let (hole, server) = (BlackHole::new(), Server::echo());
    let lab =
        Lab::with(ONE_WORKER, &[hole.address, server.address], |service| service.timeouts.connect = CONNECT);
    let client = lab.connect();
    eventually("the second is connected", || lab.backend(1).active == 1);
    reset(client);
    lab.await_close(CloseReason::ClientReset);
}

#[test]
fn a_reset_counts_against_a_backend_only_before_either_side_has_said_a_byte() {
    for (said, answered, reported) in [("", "", 1), ("1", "", 0), ("1", "x", 0)] {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let backend = Server::new(move |mut stream| {
            stream.read_exact(&mut vec![0; said.len()]).unwrap();
            stream.write_all(answered.as_bytes()).unwrap();
            held.lock().unwrap().recv().unwrap();
            reset(stream);
        });
        let lab = Lab::new(&[backend.address]);
        let mut client = lab.connect();
        client.write_all(said.as_bytes()).unwrap();
        client.read_exact(&mut vec![0; answered.len()]).unwrap();
        let connects = || lab.plane.stats().services[0].backends[0].connects;
        eventually("it is connected", || connects() == 1);
        release.send(()).unwrap();
        assert_reset(&mut client);
        lab.await_close(CloseReason::ServerReset);
        let failures = lab.failures.all();
        assert_eq!(failures.len(), reported, "{failures:?}");
        assert!(failures.iter().all(|(_, failure)| failure.cause == ConnectCause::ResetUnanswered));
    }
}
