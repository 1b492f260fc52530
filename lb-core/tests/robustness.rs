//! Peers that misbehave, in numbers: nothing of them is left, and nobody else notices.
//!
//! Descriptors and memory are the process's, so each test here looks at them in a process of its own (nextest).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::*;
use lb_core::CloseReason;

const MANY: (usize, u32) = (2, 4000);

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Sockets of this host in CLOSE_WAIT on this port, or towards it.
fn close_waits(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let waits = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        state == "08" && (local.ends_with(&port) || remote.ends_with(&port))
    };
    table.lines().skip(1).filter(waits).count()
}

/// One request and its answer over an echo.
fn ask(stream: &mut TcpStream, byte: u8) {
    stream.write_all(&[byte]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [byte]);
}

#[test]
fn fifty_thousand_connections_opened_and_dropped_leave_nothing_behind() {
    const ROUND: u64 = 5_000;
    let server = Server::new(|_| {});
    let lab = Lab::with(MANY, &[server.address], |_| {});
    let churn = |times: u64| {
        let before = lab.stats().accepted;
        for count in 0..times {
            let stream = connect(lab.address);
            match count % 4 {
                0 => reset(stream),
                1 => drop(stream),
                2 => drop(stream.shutdown(Shutdown::Write)),
                _ => drop((&stream).write_all(b"x")),
            }
        }
        eventually("all have ended", || lab.plane.active() == 0 && lab.stats().accepted == before + times);
    };
    churn(ROUND);
    let (descriptors, memory) = (open_descriptors(), resident());
    (1..10).for_each(|_| churn(ROUND));
    eventually("every descriptor is back", || open_descriptors() <= descriptors + 8);
    let grown = resident().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes more than after the first {ROUND}");
    assert_eq!(close_waits(lab.address.port()), 0);
    assert_eq!(lab.backend(0).active, 0);
}

#[test]
fn clients_that_connect_and_say_nothing_keep_nobody_from_being_served() {
    let server = Server::new(|mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut writer);
    });
    let lab = Lab::with(MANY, &[server.address], |service| service.timeouts.client = Duration::from_secs(2));
    let silent: Vec<TcpStream> = (0..300).map(|_| lab.connect()).collect();
    ask(&mut lab.connect(), 7);
    eventually("the silent ones are ended", || lab.stats().closes.of(CloseReason::ClientTimeout) >= 300);
    assert_eq!(silent.len(), 300);
}

#[test]
fn a_backend_that_accepts_and_never_answers_costs_its_clients_only() {
    let mute = Server::new(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let echo = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[mute.address, echo.address], |service| {
        service.timeouts.server = Duration::from_millis(300);
    });
    let mut clients: Vec<TcpStream> = (0..20).map(|_| lab.connect()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"?").unwrap());
    let answered = clients.iter_mut().filter_map(|client| client.read(&mut [0]).ok()).sum::<usize>();
    assert_eq!(answered, 10);
    eventually("the others are ended", || lab.backend(0).active == 0);
    assert!(lab.stats().closes.of(CloseReason::ServerTimeout) >= 10);
}

#[test]
fn a_backend_that_closes_after_one_byte_delivers_that_byte() {
    let server = Server::saying("1");
    let lab = Lab::new(&[server.address]);
    for _ in 0..50 {
        assert_eq!(read_all(&mut lab.connect()), b"1");
    }
}

#[test]
fn a_backend_that_resets_mid_body_is_seen_as_a_reset_by_its_client() {
    let server = Server::new(|mut stream| {
        // Who resets before the worker has looked has not taken the connection.
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(&pattern(300_000)).unwrap();
        reset(stream);
    });
    let lab = Lab::new(&[server.address]);
    for count in 1..=20 {
        let mut client = lab.connect();
        client.write_all(b"?").unwrap();
        assert_reset(&mut client);
        eventually("it is counted", || lab.stats().closes.of(CloseReason::ServerReset) == count);
    }
}

#[test]
fn slow_readers_on_either_side_cost_a_buffer_or_a_pipe_each_and_no_more() {
    const SLOW: usize = 100;
    let flooding = || {
        Server::new(|mut stream| {
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            while stream.write_all(&[7; 65536]).is_ok() {}
            let _ = stream.read(&mut [0]);
        })
    };
    let server = flooding();
    let lab = Lab::with(MANY, &[server.address], |_| {});
    let before = resident();
    let clients: Vec<TcpStream> = (0..SLOW).map(|_| lab.connect()).collect();
    let moved = || lab.stats().bytes_out;
    eventually("every client holds its backend back", || {
        let earlier = moved();
        std::thread::park_timeout(Duration::from_millis(1000));
        earlier > 0 && earlier == moved()
    });
    // The buffers of the relay; the threads of the backends here take a share as well.
    let grown = resident().saturating_sub(before);
    assert!(grown < (SLOW as u64) * 256 * 1024, "{grown} bytes for {SLOW} slow readers");
    drop(clients);
    eventually("all have ended", || lab.plane.active() == 0);
}

#[test]
fn a_backend_that_dies_takes_only_its_own_connections_with_it() {
    // A process of its own would be killed; to its peers that is the kernel closing its sockets, those with unread bytes
    // by RST.
    let dying = Server::new(|mut stream| {
        let mut byte = [0];
        while matches!(stream.read(&mut byte), Ok(1)) {
            if byte == [255] {
                return reset(stream);
            }
            stream.write_all(&byte).unwrap();
        }
    });
    let echo = Server::echo();
    let lab = Lab::with(ONE_WORKER, &[dying.address, echo.address], |_| {});
    let mut clients: Vec<TcpStream> = (0..40).map(|_| lab.connect()).collect();
    clients.iter_mut().for_each(|client| ask(client, 1));
    let broken = AtomicU64::new(0);
    for (index, client) in clients.iter_mut().enumerate() {
        client.write_all(&[255]).unwrap();
        let mut answer = [0];
        match client.read(&mut answer) {
            Ok(1) => assert_eq!((answer, index % 2), ([255], 1), "of the one that lives"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                assert_eq!(index % 2, 0);
                broken.fetch_add(1, SeqCst);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(broken.into_inner(), 20);
    clients.iter_mut().skip(1).step_by(2).for_each(|client| ask(client, 2));
}

#[test]
fn bulk_in_both_directions_at_once_is_unchanged_and_gives_its_pipes_back() {
    let server = Server::echo();
    let lab = Lab::with(MANY, &[server.address], |_| {});
    let sent = pattern(24 << 20);
    let round = || {
        let mut client = lab.connect();
        let mut reader = client.try_clone().unwrap();
        let received = std::thread::scope(|scope| {
            let received = scope.spawn(|| read_all(&mut reader));
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            received.join().unwrap()
        });
        assert!(received == sent);
    };
    round();
    eventually("it has ended", || lab.plane.active() == 0);
    let descriptors = open_descriptors();
    (0..3).for_each(|_| round());
    eventually("they have ended", || lab.plane.active() == 0);
    eventually("no descriptor is left behind", || open_descriptors() <= descriptors + 2 * 2 * 16);
}
