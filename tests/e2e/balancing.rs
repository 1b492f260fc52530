//! Load balancing: who gets a connection, and that every byte and every end of it arrives.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::SOON;
use crate::common::backend::{Backend, Manner};
use crate::common::configuration::{UNCHECKED, quick_check, server, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::forbid::without;
use crate::common::http::{self, Connection, backend_of};
use crate::common::ports::{HeldPort, Loopback};
use crate::common::status::{Status, wait_closes, wait_health};

/// Three HTTP backends behind one service; `keys` are further keys of the service.
fn three(lab: &Loopback, keys: &str) -> ([Backend; 3], Daemon, SocketAddr) {
    let backends = ["a", "b", "c"].map(|name| Backend::http(name, lab.addr()));
    let front = lab.addr();
    let config = service("web", &[front], keys, &backends.each_ref());
    let daemon = Daemon::start(lab, &format!("[global]\nthreads = 2\n{config}"));
    (backends, daemon, front)
}

/// One backend of this manner behind one service.
fn one(lab: &Loopback, manner: Manner, keys: &str) -> (Backend, Daemon, SocketAddr) {
    let backend = Backend::start("a", lab.addr(), manner);
    let front = lab.addr();
    let daemon = Daemon::start(lab, &service("raw", &[front], &format!("{UNCHECKED}{keys}"), &[&backend]));
    (backend, daemon, front)
}

fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Reads to the end, which has to be a RST; how long that took.
#[track_caller]
fn reset_after(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let end = io::copy(stream, &mut io::sink());
    assert_eq!(end.map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
    start.elapsed()
}

#[test]
fn round_robin_is_an_exact_sequence_whatever_the_thread_count() {
    let lab = Loopback::take();
    let (_backends, daemon, front) = three(&lab, UNCHECKED);
    let order: Vec<_> = (0..30).map(|_| backend_of(front).unwrap()).collect();
    let mut first: Vec<_> = order[..3].to_vec();
    first.sort();
    assert_eq!(first, ["a", "b", "c"]);
    assert!(order.iter().zip(&order[3..]).all(|(one, next_turn)| one == next_turn), "{order:?}");
    assert_eq!(Status::of(&daemon).unwrap().0["plane"]["threads"], 2);
}

#[test]
fn a_host_that_forbids_io_uring_is_served_by_epoll_and_told_so() {
    let lab = Loopback::take();
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let config = service("web", &[front], UNCHECKED, &[&backend]);
    for forbidden in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter] {
        without(forbidden, || {
            let daemon = Daemon::start(&lab, &config);
            assert_eq!(backend_of(front).unwrap(), "a");
            assert_eq!(Status::of(&daemon).unwrap().0["plane"]["engine"], "epoll");
            daemon.wait_log(0, SOON, &["io_uring cannot be used here: it is forbidden"]);
        });
    }
}

#[test]
fn bytes_are_moved_by_epoll_alone_where_that_is_configured_and_status_says_so() {
    let lab = Loopback::take();
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let config = service("web", &[front], UNCHECKED, &[&backend]);
    let daemon = Daemon::start(&lab, &format!("[global]\nengine = \"epoll\"\n{config}"));
    assert_eq!(backend_of(front).unwrap(), "a");
    assert_eq!(Status::of(&daemon).unwrap().0["plane"]["engine"], "epoll");
}

#[test]
fn weights_share_connections_exactly_and_weight_0_gets_none() {
    let lab = Loopback::take();
    let [a, b, c] = ["a", "b", "c"].map(|name| Backend::http(name, lab.addr()));
    let front = lab.addr();
    let config = service("web", &[front], UNCHECKED, &[])
        + &server(&a, "weight = 3\n")
        + &server(&b, "")
        + &server(&c, "weight = 0\n");
    let _daemon = Daemon::start(&lab, &config);
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..12 {
        *counts.entry(backend_of(front).unwrap()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 9), ("b".to_owned(), 3)]));
}

#[test]
fn every_listener_of_a_service_serves_ipv4_and_ipv6() {
    let lab = Loopback::take();
    let backend = Backend::http("a", lab.addr());
    let v6 = HeldPort::v6();
    let fronts = [lab.addr(), lab.addr(), v6.addr()];
    let _daemon = Daemon::start(&lab, &service("web", &fronts, UNCHECKED, &[&backend]));
    for front in fronts {
        assert_eq!(backend_of(front).unwrap(), "a", "{front}");
    }
}

#[test]
fn ipv6_backend_is_reached_from_an_ipv4_listener() {
    let lab = Loopback::take();
    let port = HeldPort::v6();
    let backend = Backend::http("six", port.addr());
    let front = lab.addr();
    let _daemon = Daemon::start(&lab, &service("web", &[front], UNCHECKED, &[&backend]));
    assert_eq!(backend_of(front).unwrap(), "six");
}

#[test]
fn connection_goes_past_a_dead_backend_without_the_client_noticing() {
    let lab = Loopback::take();
    let (mut backends, daemon, front) = three(&lab, UNCHECKED);
    backends[0].stop();
    for _ in 0..12 {
        assert_ne!(backend_of(front).unwrap(), "a");
    }
    let status = Status::of(&daemon).unwrap();
    assert!(status.service("web").unwrap()["retries"].as_u64().unwrap() >= 4);
    assert!(status.backend("web", "a").unwrap()["connect_failures"].as_u64().unwrap() >= 4);
}

#[test]
fn client_gets_a_reset_when_every_candidate_refuses() {
    let lab = Loopback::take();
    let (mut backends, daemon, front) = three(&lab, UNCHECKED);
    backends.iter_mut().for_each(Backend::stop);
    assert!(reset_after(&mut dial(front)) < SOON / 3);
    wait_closes(&daemon, "web", "connect_failed", 1);
}

#[test]
fn no_healthy_backend_is_a_reset_at_once() {
    let lab = Loopback::take();
    let backend = Backend::stopped("a", lab.addr(), Manner::Http);
    let front = lab.addr();
    let daemon = Daemon::start(&lab, &service("web", &[front], &quick_check(), &[&backend]));
    wait_health(&daemon, "web", "a", "down");
    assert!(reset_after(&mut dial(front)) < SOON / 3);
    wait_closes(&daemon, "web", "no_backend", 1);
}

#[test]
fn backups_serve_only_while_no_primary_is_up() {
    let lab = Loopback::take();
    let mut primary = Backend::http("primary", lab.addr());
    let backup = Backend::http("backup", lab.addr());
    let front = lab.addr();
    let config = service("web", &[front], &quick_check(), &[&primary]) + &server(&backup, "backup = true\n");
    let daemon = Daemon::start(&lab, &config);
    wait_health(&daemon, "web", "primary", "up");
    wait_health(&daemon, "web", "backup", "up");
    for _ in 0..4 {
        assert_eq!(backend_of(front).unwrap(), "primary");
    }
    primary.stop();
    wait_health(&daemon, "web", "primary", "down");
    assert_eq!(backend_of(front).unwrap(), "backup");
    primary.start_again();
    wait_health(&daemon, "web", "primary", "up");
    assert_eq!(backend_of(front).unwrap(), "primary");
}

#[test]
fn many_bytes_both_ways_at_once_arrive_unchanged() {
    const LENGTH: usize = 24 << 20;
    let lab = Loopback::take();
    let (_backend, daemon, front) = one(&lab, Manner::Echo, "");
    let sent: Vec<u8> = (0..LENGTH).map(|i| (i * 31 + i / 251) as u8).collect();
    let mut stream = dial(front);
    let mut writer = stream.try_clone().unwrap();
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::with_capacity(LENGTH);
        stream.read_to_end(&mut received).map(|_| received)
    });
    assert!(received.unwrap() == sent, "the echo differs");
    wait_closes(&daemon, "raw", "completed", 1);
    let status = Status::of(&daemon).unwrap();
    let service = status.service("raw").unwrap();
    assert_eq!((&service["bytes_in"], &service["bytes_out"]), (&LENGTH.into(), &LENGTH.into()));
}

#[test]
fn client_that_ends_its_direction_still_gets_the_answer() {
    let lab = Loopback::take();
    let (_backend, _daemon, front) = one(&lab, Manner::CountThenAnswer, "");
    let mut stream = dial(front);
    stream.write_all(&[7; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000 bytes");
}

#[test]
fn backend_that_ends_its_direction_still_gets_the_clients_bytes() {
    let lab = Loopback::take();
    let (backend, _daemon, front) = one(&lab, Manner::EndThenRead, "");
    let mut stream = dial(front);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(&[7; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    eventually("every byte arrives", SOON, || backend.received() == 100_000);
    eventually("the connection ends", SOON, || backend.open() == 0);
}

#[test]
fn backends_reset_reaches_the_client_as_a_reset_and_nobody_else() {
    let lab = Loopback::take();
    let (backends, daemon, front) = three(&lab, UNCHECKED);
    let mut bystanders: Vec<_> = (0..3).map(|_| Connection::open(front).unwrap()).collect();
    bystanders.iter_mut().for_each(|c| drop(c.get("/").unwrap()));
    backends.iter().for_each(|b| b.behave(Manner::ResetMidBody));
    assert_eq!(http::get(front, "/").unwrap_err().kind(), ErrorKind::ConnectionReset);
    wait_closes(&daemon, "web", "server_reset", 1);
    bystanders.iter_mut().for_each(|c| assert_eq!(c.get("/").unwrap().status, 200));
}

#[test]
fn clients_reset_ends_the_backends_connection() {
    let lab = Loopback::take();
    let (backend, daemon, front) = one(&lab, Manner::Silent, "");
    let mut stream = dial(front);
    stream.write_all(b"x").unwrap();
    eventually("the backend has the connection", SOON, || backend.open() == 1);
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    eventually("the backend's connection ends", SOON, || backend.open() == 0);
    wait_closes(&daemon, "raw", "client_reset", 1);
}

/// A listener whose queue is full: connects get no answer.
fn deaf(lab: &Loopback) -> (Backend, TcpListener, Vec<TcpStream>) {
    let backend = Backend::stopped("deaf", lab.addr(), Manner::Silent);
    let listener = TcpListener::bind(backend.addr()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let fill = |_| TcpStream::connect_timeout(&backend.addr(), Duration::from_millis(200)).ok();
    let queued: Vec<_> = (0..8).map_while(fill).collect();
    assert!(queued.len() < 8, "the queue does not fill");
    (backend, listener, queued)
}

#[test]
fn connect_timeout_moves_on_to_the_next_backend() {
    let lab = Loopback::take();
    let (deaf, _listener, _queued) = deaf(&lab);
    let good = Backend::http("good", lab.addr());
    let front = lab.addr();
    let keys = format!("{UNCHECKED}timeouts = {{ connect = \"300ms\" }}\n");
    let _daemon = Daemon::start(&lab, &service("web", &[front], &keys, &[&deaf, &good]));
    for _ in 0..2 {
        assert_eq!(backend_of(front).unwrap(), "good");
    }
}

#[test]
fn connect_timeout_without_another_candidate_resets_the_client() {
    let lab = Loopback::take();
    let (deaf, _listener, _queued) = deaf(&lab);
    let front = lab.addr();
    let keys = format!("{UNCHECKED}timeouts = {{ connect = \"300ms\" }}\nretries = 0\n");
    let daemon = Daemon::start(&lab, &service("web", &[front], &keys, &[&deaf]));
    let took = reset_after(&mut dial(front));
    assert!(took >= Duration::from_millis(250), "{took:?}");
    wait_closes(&daemon, "web", "connect_timeout", 1);
}

/// A time-out of 300 ms on an idle connection: it ends, not before its time, and for this reason.
fn idle_connection_ends(manner: Manner, timeouts: &str, half_close: bool, reason: &str) {
    let lab = Loopback::take();
    let (_backend, daemon, front) = one(&lab, manner, &format!("timeouts = {{ {timeouts} }}\n"));
    let start = Instant::now();
    let mut stream = dial(front);
    if half_close {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    // Whether it ends with FIN or RST is not what this is about.
    let _ = io::copy(&mut stream, &mut io::sink());
    assert!(start.elapsed() >= Duration::from_millis(280), "ended after {:?}", start.elapsed());
    wait_closes(&daemon, "raw", reason, 1);
}

#[test]
fn idle_client_is_ended_after_its_timeout() {
    idle_connection_ends(Manner::Silent, "client = \"300ms\", server = \"60s\"", false, "client_timeout");
}

#[test]
fn idle_backend_is_ended_after_its_timeout() {
    idle_connection_ends(Manner::Silent, "client = \"60s\", server = \"300ms\"", false, "server_timeout");
}

#[test]
fn backend_that_does_not_finish_after_the_clients_end_is_ended_after_server_fin() {
    let timeouts = "client = \"60s\", server = \"60s\", client_fin = \"60s\", server_fin = \"300ms\"";
    idle_connection_ends(Manner::NeverEnd, timeouts, true, "server_fin_timeout");
}

#[test]
fn client_that_does_not_finish_after_the_backends_end_is_ended_after_client_fin() {
    let lab = Loopback::take();
    let keys =
        "timeouts = { client = \"60s\", server = \"60s\", client_fin = \"300ms\", server_fin = \"60s\" }\n";
    let (backend, daemon, front) = one(&lab, Manner::EndThenRead, keys);
    let mut stream = dial(front);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    wait_closes(&daemon, "raw", "client_fin_timeout", 1);
    eventually("the backend's connection ends", SOON, || backend.open() == 0);
}

#[test]
fn linger_decides_whether_the_proxys_own_close_is_a_fin_or_a_rst() {
    for (linger, end) in [(true, Ok(0)), (false, Err(ErrorKind::ConnectionReset))] {
        let lab = Loopback::take();
        let keys = format!("linger = {linger}\ntimeouts = {{ client = \"300ms\" }}\n");
        let (_backend, _daemon, front) = one(&lab, Manner::Silent, &keys);
        let mut stream = dial(front);
        assert_eq!(stream.read(&mut [0]).map_err(|e| e.kind()), end, "linger = {linger}");
    }
}

#[test]
fn connections_of_one_backend_are_ended_by_command_and_no_others() {
    let lab = Loopback::take();
    let (_backends, daemon, front) = three(&lab, UNCHECKED);
    let mut clients: Vec<_> = (0..3).map(|_| Connection::open(front).unwrap()).collect();
    let names: Vec<_> = clients.iter_mut().map(|client| client.get("/").unwrap().text()).collect();
    assert_eq!(daemon.say("shutdown sessions server web/b").unwrap(), "\n");
    for (client, name) in clients.iter_mut().zip(&names) {
        match client.get("/") {
            Ok(answer) => assert!(answer.text() == *name && name != "b"),
            Err(error) => assert_eq!((error.kind(), name.as_str()), (ErrorKind::ConnectionReset, "b")),
        }
    }
    wait_closes(&daemon, "web", "killed", 1);
    for (words, refusal) in [
        ("shutdown sessions server web", "Require 'backend/server'.\n\n"),
        ("shutdown sessions server", "Require 'backend/server'.\n\n"),
        ("shutdown sessions server other/b", "No such backend.\n\n"),
        ("shutdown sessions server web/z", "No such server.\n\n"),
    ] {
        assert_eq!(daemon.say(words).unwrap(), refusal, "{words}");
    }
}
