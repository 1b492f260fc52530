//! Bytes between a client and a backend: nothing lost, nothing added, every kind of end passed on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpStream};
use std::sync::mpsc;

use common::*;
use lb_core::CloseReason;

const MIB: usize = 1 << 20;

#[test]
fn bytes_pass_unchanged_in_both_directions_at_once() {
    let server = Server::echo();
    let lab = Lab::new(&[server.address]);
    let sent = pattern(8 * MIB);
    let mut client = lab.connect();
    let received = std::thread::scope(|scope| {
        let mut writer = client.try_clone().unwrap();
        let sent = &sent;
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        read_all(&mut client)
    });
    assert!(received == sent);
    lab.await_close(CloseReason::Completed);
    let stats = lab.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (8 * MIB as u64, 8 * MIB as u64));
    assert_eq!((stats.backends[0].bytes_in, stats.backends[0].bytes_out), (8 * MIB as u64, 8 * MIB as u64));
    assert_eq!((stats.active, stats.accepted, stats.backends[0].active), (0, 1, 0));
}

#[test]
fn a_backend_that_speaks_first_is_heard() {
    let server = Server::saying("220 ready");
    let lab = Lab::new(&[server.address]);
    assert_eq!(read_all(&mut lab.connect()), b"220 ready");
}

#[test]
fn ipv6_clients_and_backends_are_relayed() {
    let localhost = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let server = Server::at((localhost, 0).into(), |mut stream| {
        let _ = stream.write_all(b"six");
    });
    let port = Reserved::new(localhost);
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.listen = vec![port.address]);
    assert_eq!(read_all(&mut connect(port.address)), b"six");
    drop(lab);
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let server = Server::new(|mut stream| {
        let question = read_all(&mut stream);
        let _ = stream.write_all(format!("{} bytes", question.len()).as_bytes());
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.write_all(&pattern(MIB)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"1048576 bytes");
    lab.await_close(CloseReason::Completed);
}

#[test]
fn a_backend_that_half_closes_still_gets_the_rest() {
    let (heard, said) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        stream.write_all(b"go on").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        heard.send(read_all(&mut stream)).unwrap();
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    assert_eq!(read_all(&mut client), b"go on");
    client.write_all(&pattern(MIB)).unwrap();
    drop(client);
    assert!(said.recv_timeout(PATIENCE).unwrap() == pattern(MIB));
    lab.await_close(CloseReason::Completed);
}

#[test]
fn a_client_s_reset_reaches_the_backend_as_a_reset() {
    let (heard, said) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        let mut first = [0; 5];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"got it").unwrap();
        heard.send(stream.read(&mut first).map_err(|e| e.kind())).unwrap();
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    reset(client);
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), Err(std::io::ErrorKind::ConnectionReset));
    lab.await_close(CloseReason::ClientReset);
}

#[test]
fn a_backend_s_reset_reaches_the_client_as_a_reset() {
    let server = Server::new(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        reset(stream);
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.write_all(b"hello").unwrap();
    assert_reset(&mut client);
    lab.await_close(CloseReason::ServerReset);
}

#[test]
fn an_answer_sent_before_the_backend_reset_is_delivered() {
    // A server that closes with unread data resets: the usual way to refuse a large upload.
    let server = Server::new(|mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        stream.write_all(b"413 too large").unwrap();
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.write_all(&[0; 4096]).unwrap();
    let mut answer = [0; 13];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"413 too large");
}

#[test]
fn a_reset_after_a_half_close_ends_the_connection() {
    let (resetting, go) = mpsc::channel();
    let go = std::sync::Mutex::new(go);
    let server = Server::new(move |mut stream| {
        read_all(&mut stream);
        go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        drop(stream);
    });
    let lab = Lab::new(&[server.address]);
    let client = lab.connect();
    client.shutdown(Shutdown::Write).unwrap();
    eventually("the backend is connected", || lab.backend(0).connects == 1);
    reset(client);
    lab.await_close(CloseReason::ClientReset);
    resetting.send(()).unwrap();
}

#[test]
fn urgent_data_does_not_stall_what_follows() {
    use rustix::net::{SendFlags, send};
    let server = Server::echo();
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.write_all(b"before").unwrap();
    send(&client, b"!", SendFlags::OOB).unwrap();
    client.write_all(b"after").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"beforeafter", "the urgent byte itself is out of band");
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_back_and_then_gets_everything() {
    const SIZE: usize = 64 * MIB;
    let server = Server::new(|mut stream| {
        let piece = pattern(MIB);
        for _ in 0..SIZE / MIB {
            stream.write_all(&piece).unwrap();
        }
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    let mut settled = 0;
    eventually("the flow stands still", || {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        let before = std::mem::replace(&mut settled, lab.stats().bytes_out);
        settled > 0 && before == settled
    });
    assert!(settled < SIZE as u64, "{settled} bytes went to a client that reads nothing");
    let piece = pattern(MIB);
    let mut received = vec![0; MIB];
    for _ in 0..SIZE / MIB {
        client.read_exact(&mut received).unwrap();
        assert!(received == piece);
    }
    assert_eq!(client.read(&mut received).unwrap(), 0);
}

#[test]
fn four_workers_serve_many_clients_at_once() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let addresses = servers.each_ref().map(|server| server.address);
    let lab = Lab::with((4, 1000), &addresses, |_| {});
    const CLIENTS: usize = 4;
    const EACH: usize = 100;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let address = lab.address;
            scope.spawn(move || {
                for round in 0..EACH {
                    let mut stream = connect(address);
                    let sent = format!("client {client} round {round}");
                    stream.write_all(sent.as_bytes()).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_all(&mut stream), sent.as_bytes());
                }
            });
        }
    });
    let total = (CLIENTS * EACH) as u64;
    eventually("all have ended", || lab.stats().closes.of(CloseReason::Completed) == total);
    let stats = lab.stats();
    assert_eq!((stats.accepted, stats.active, lab.plane.active()), (total, 0, 0));
    assert_eq!(stats.backends.iter().map(|b| b.connects).sum::<u64>(), total);
}

#[test]
fn without_lingering_a_client_that_half_closed_still_sees_a_complete_answer_end() {
    let server = Server::new(|mut stream| {
        read_all(&mut stream);
        let _ = stream.write_all(&pattern(MIB));
    });
    let lab = Lab::with(ONE_WORKER, &[server.address], |service| service.linger = false);
    let mut client = lab.connect();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&mut client) == pattern(MIB));
    lab.await_close(CloseReason::Completed);
}

fn read_all_or_reset(stream: &mut TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn killing_resets_both_sides() {
    let (heard, said) = mpsc::channel();
    let server = Server::new(move |mut stream| {
        stream.write_all(b"x").unwrap();
        heard.send(stream.read(&mut [0]).map_err(|e| e.kind())).unwrap();
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.read_exact(&mut [0]).unwrap();
    lab.plane.kill_connections();
    assert_eq!(lab.plane.active(), 0);
    assert_reset(&mut client);
    assert_eq!(said.recv_timeout(PATIENCE).unwrap(), Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(lab.stats().closes.of(CloseReason::Killed), 1);
}

#[test]
fn dropping_the_plane_resets_what_is_relayed() {
    let server = Server::new(|mut stream| {
        stream.write_all(b"x").unwrap();
        read_all_or_reset(&mut stream);
    });
    let lab = Lab::new(&[server.address]);
    let mut client = lab.connect();
    client.read_exact(&mut [0]).unwrap();
    drop(lab);
    assert_reset(&mut client);
}

#[test]
fn an_idle_plane_keeps_turning() {
    let lab = Lab::new(&[]);
    eventually("it has turned", || lab.plane.stalest_turn() < PATIENCE / 20);
}
