//! Every timeout ends the connection it is for, with its own reason, and no other does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the time that passes is what is tested")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use common::*;
use lb_core::{CloseReason, ConnectCause};

const SHORT: Duration = Duration::from_millis(60);

/// A backend that says hello and then keeps quiet for as long as the connection lasts.
fn quiet() -> Server {
    Server::new(|mut stream| {
        stream.write_all(b"hello").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

#[test]
fn a_backend_that_does_not_answer_is_given_up_after_the_connect_timeout() {
    let hole = BlackHole::new();
    let lab = Lab::with(ONE_WORKER, &[hole.address], |service| service.timeouts.connect = SHORT);
    let started = Instant::now();
    assert_reset(&mut lab.connect());
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
    lab.await_close(CloseReason::ConnectTimeout);
    let (_, failure) = lab.failures.all().remove(0);
    assert_eq!(failure.cause, ConnectCause::TimedOut);
    assert!(failure.after >= SHORT);
}

#[test]
fn after_a_connect_timeout_the_next_candidate_serves() {
    let (hole, server) = (BlackHole::new(), Server::saying("here"));
    let lab = Lab::with(ONE_WORKER, &[hole.address, server.address], |service| {
        service.timeouts.connect = SHORT;
    });
    assert_eq!(read_all(&mut lab.connect()), b"here");
    assert_eq!((lab.stats().retries, lab.backend(0).connect_failures), (1, 1));
}

#[test]
fn an_idle_client_is_closed_after_the_client_timeout() {
    let server = quiet();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.timeouts.client = SHORT);
    let started = Instant::now();
    assert_eq!(read_all(&mut lab.connect()), b"hello");
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
    lab.await_close(CloseReason::ClientTimeout);
}

#[test]
fn without_lingering_a_timeout_resets_both_sides() {
    let (heard, said) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        heard.send(stream.read(&mut [0]).map_err(|e| e.kind())).unwrap();
    });
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        service.timeouts.client = SHORT;
        service.linger = false;
    });
    assert_reset(&mut lab.connect());
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn an_idle_backend_is_closed_after_the_server_timeout() {
    let server = quiet();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.timeouts.server = SHORT);
    assert_eq!(read_all(&mut lab.connect()), b"hello");
    lab.await_close(CloseReason::ServerTimeout);
}

#[test]
fn activity_puts_the_timeouts_off() {
    let server = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        service.timeouts.client = SHORT * 4;
        service.timeouts.server = SHORT * 4;
    });
    let mut client = lab.connect();
    let started = Instant::now();
    while started.elapsed() < SHORT * 12 {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        std::thread::park_timeout(SHORT / 4);
    }
    assert_eq!(lab.stats().active, 1);
}

#[test]
fn a_client_that_reads_nothing_is_reset_after_the_client_timeout() {
    let server = Server::new(|mut stream| while stream.write_all(&[7; 65536]).is_ok() {});
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.timeouts.client = SHORT);
    let mut client = lab.connect();
    lab.await_close(CloseReason::ClientTimeout);
    // What is cut off must not look complete.
    assert_reset(&mut client);
}

#[test]
fn a_slow_reader_s_silence_is_not_held_against_the_backend() {
    let server = Server::new(|mut stream| while stream.write_all(&[7; 65536]).is_ok() {});
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| {
        service.timeouts.server = SHORT;
        service.timeouts.client = SHORT * 5;
    });
    let _client = lab.connect();
    lab.await_close(CloseReason::ClientTimeout);
}

#[test]
fn after_the_client_s_half_close_a_silent_backend_has_server_fin() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = Server::new(move |mut stream| {
        read_all(&mut stream);
        let _ = released.lock().unwrap().recv_timeout(PATIENCE);
    });
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.timeouts.server_fin = SHORT);
    let mut client = lab.connect();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"");
    lab.await_close(CloseReason::ServerFinTimeout);
    drop(release);
}

#[test]
fn after_the_backend_s_half_close_a_silent_client_has_client_fin() {
    let server = Server::new(|mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.timeouts.client_fin = SHORT);
    let mut client = lab.connect();
    assert_eq!(read_all(&mut client), b"bye");
    lab.await_close(CloseReason::ClientFinTimeout);
}
