//! Peers that misbehave and a host that has run out of something: what it costs the process, and that nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::common::SOON;
use crate::common::backend::{Backend, Manner};
use crate::common::configuration::{UNCHECKED, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::{eventually, throughout};
use crate::common::http::{Connection, backend_of};
use crate::common::ports::Loopback;
use crate::common::resources::{
    busy, descriptors, exhaust_descriptors, half_closed, limit_descriptors, resident,
};
use crate::common::status::{Status, wait_closes};

const LONG: Duration = Duration::from_secs(60);

/// One backend of this manner behind one service.
fn one(lab: &Loopback, manner: Manner, keys: &str) -> (Backend, Daemon, SocketAddr) {
    let (backend, front) = (Backend::start("a", lab.addr(), manner), lab.addr());
    let config = service("raw", &[front], &format!("{UNCHECKED}{keys}"), &[&backend]);
    let daemon = Daemon::start(lab, &format!("[global]\nthreads = 2\n{config}"));
    (backend, daemon, front)
}

fn dial(front: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Client connections now.
fn connections(daemon: &Daemon) -> Option<u64> {
    Status::of(daemon).ok()?.0["plane"]["connections"].as_u64()
}

#[test]
fn a_backend_that_accepts_and_never_answers_costs_only_its_own_clients() {
    let lab = Loopback::take();
    let mute = Backend::start("mute", lab.addr(), Manner::Silent);
    let (good, front) = (Backend::http("good", lab.addr()), lab.addr());
    let keys = format!("{UNCHECKED}timeouts = {{ server = \"500ms\" }}\n");
    let daemon = Daemon::start(&lab, &service("web", &[front], &keys, &[&mute, &good]));
    let clients: Vec<_> = (0..20).map(|_| thread::spawn(move || backend_of(front))).collect();
    let answers: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(answers.iter().flatten().filter(|name| *name == "good").count(), 10, "{answers:?}");
    wait_closes(&daemon, "web", "server_timeout", 10);
    eventually("nothing is left at the backend", SOON, || mute.open() == 0);
}

#[test]
fn a_backend_that_closes_after_one_byte_delivers_that_byte() {
    let lab = Loopback::take();
    let (_backend, daemon, front) = one(&lab, Manner::OneByte, "");
    for _ in 0..100 {
        let mut answer = Vec::new();
        dial(front).read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"1");
    }
    wait_closes(&daemon, "raw", "completed", 100);
}

#[test]
fn clients_that_say_nothing_cost_no_time_and_keep_nobody_from_being_served() {
    const SILENT: u64 = 500;
    let lab = Loopback::take();
    let (_backend, daemon, front) = one(&lab, Manner::Http, "timeouts = { client = \"3s\" }\n");
    let _silent: Vec<_> = (0..SILENT).map(|_| dial(front)).collect();
    eventually("all are there", SOON, || connections(&daemon) == Some(SILENT));
    let before = busy(daemon.id());
    assert_eq!(backend_of(front).unwrap(), "a");
    throughout("they idle", Duration::from_secs(1), || {
        let spent = busy(daemon.id()) - before;
        if spent < Duration::from_millis(300) { Ok(()) } else { Err(format!("{spent:?}")) }
    });
    wait_closes(&daemon, "raw", "client_timeout", SILENT);
}

/// Waits until hardly a byte gets through. The kernel finds room for a few more again and again.
fn await_standstill(daemon: &Daemon) {
    const STILL: Duration = Duration::from_secs(1);
    const FEW: f64 = 1e6;
    let moved = || {
        let way = |way| {
            daemon.metric(&format!("contrail_lb_service_bytes_total{{direction=\"{way}\",service=\"raw\"}}"))
        };
        way("in").zip(way("out")).map_or(0.0, |(up, down)| up + down)
    };
    let (mut before, mut since) = (moved(), Instant::now());
    eventually("hardly a byte gets through", LONG, || {
        let now = moved();
        if now == 0.0 || now - before > FEW {
            (before, since) = (now, Instant::now());
        }
        if since.elapsed() >= STILL { Ok(()) } else { Err(format!("{now}")) }
    });
}

/// Connections that stand still because one side does not read cost a buffer each, and nothing once they are gone.
fn slow_readers_cost_a_buffer_each(manner: Manner, client: impl Fn(&mut TcpStream) + Sync) {
    const SLOW: usize = 16;
    const BUFFER: u64 = 64 * 1024;
    let lab = Loopback::take();
    let (backend, daemon, front) = one(&lab, manner, "");
    // They end with a RST: a backend that does not read would not see a FIN.
    let dial = || {
        let stream = dial(front);
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        stream
    };
    drop(dial());
    eventually("the first has gone", SOON, || connections(&daemon) == Some(0));
    let before = resident(daemon.id());
    let mut clients: Vec<_> = (0..SLOW).map(|_| dial()).collect();
    thread::scope(|scope| {
        for stream in &mut clients {
            scope.spawn(|| client(stream));
        }
    });
    await_standstill(&daemon);
    let (grown, spent) = (resident(daemon.id()).saturating_sub(before), busy(daemon.id()));
    // What a thread has besides (buffers of the ring, scratch) is there once, however many are slow.
    assert!(grown < SLOW as u64 * BUFFER + (4 << 20), "{grown} bytes for {SLOW} slow readers");
    throughout("nothing is done meanwhile", Duration::from_secs(1), || {
        busy(daemon.id()) - spent < Duration::from_millis(300)
    });
    drop(clients);
    // Although a reset is behind bytes that the backend does not take: long before a timeout.
    eventually("all have ended", SOON, || connections(&daemon) == Some(0) && backend.open() == 0);
    wait_closes(&daemon, "raw", "client_reset", SLOW as u64);
}

#[test]
fn clients_that_do_not_read_cost_a_buffer_each() {
    slow_readers_cost_a_buffer_each(Manner::Flood, |_| {});
}

#[test]
fn backends_that_do_not_read_cost_a_buffer_each() {
    slow_readers_cost_a_buffer_each(Manner::Deaf, |client| {
        client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        while client.write(&[b'x'; 65536]).is_ok() {}
    });
}

#[test]
fn fifty_thousand_connections_opened_and_dropped_leave_nothing_behind() {
    const ROUND: u64 = 5_000;
    let lab = Loopback::take();
    let (backend, daemon, front) = one(&lab, Manner::Silent, "");
    let accepted = || daemon.metric("contrail_lb_service_connections_total{service=\"raw\"}");
    let churn = |rounds: u64| {
        for _ in 0..rounds {
            let before = accepted().unwrap();
            for count in 0..ROUND {
                let stream = TcpStream::connect(front).unwrap();
                match count % 4 {
                    0 => set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
                    1 => stream.shutdown(Shutdown::Write).unwrap(),
                    2 => (&stream).write_all(b"x").unwrap(),
                    _ => {}
                }
            }
            eventually("all have ended", LONG, || {
                accepted() == Some(before + ROUND as f64) && connections(&daemon) == Some(0)
            });
        }
    };
    churn(1);
    let (open, memory) = (descriptors(daemon.id()), resident(daemon.id()));
    churn(9);
    let grown = resident(daemon.id()).saturating_sub(memory);
    assert!(grown < 2 << 20, "{grown} bytes more than after the first {ROUND}");
    eventually("every descriptor is closed", SOON, || {
        let now = descriptors(daemon.id());
        let is_closed = now.iter().all(|(kind, count)| open.get(kind).is_some_and(|before| count <= before));
        if is_closed { Ok(()) } else { Err(format!("{now:?}, {open:?} before")) }
    });
    eventually("the backend has none", SOON, || match backend.open() {
        0 => Ok(()),
        open => Err(format!("{open} of {}", backend.accepted())),
    });
    assert_eq!((half_closed(front), half_closed(backend.addr())), (0, 0));
}

#[test]
fn out_of_descriptors_clients_wait_and_are_served_when_there_are_some_again() {
    let lab = Loopback::take();
    let (_backend, daemon, front) = one(&lab, Manner::Http, "");
    let mut established = Connection::open(front).unwrap();
    established.get("/").unwrap();
    let mut before = None;
    eventually("no descriptor comes or goes", SOON, || {
        let now = Some(descriptors(daemon.id()));
        std::mem::replace(&mut before, now.clone()) == now
    });
    let limit = exhaust_descriptors(daemon.id());
    let (mark, spent) = (daemon.stderr().since(0).len(), busy(daemon.id()));
    let waiting: Vec<_> = (0..4).map(|_| thread::spawn(move || backend_of(front))).collect();
    let first = daemon.wait_log(mark, SOON, &["out of resources, new clients wait"]);
    throughout("established connections go on and nothing spins", Duration::from_secs(1), || {
        established.get("/")?;
        let spent = busy(daemon.id()) - spent;
        // Each thread tries again every 100 ms.
        if spent < Duration::from_millis(700) {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("{spent:?}")))
        }
    });
    limit_descriptors(daemon.id(), limit);
    for client in waiting {
        match client.join().unwrap() {
            Ok(name) => assert_eq!(name, "a"),
            // One descriptor had come free, which is enough to accept but not to connect.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(backend_of(front).unwrap(), "a");
    let said =
        daemon.stderr().since(mark).iter().filter(|line| line.what.contains("out of resources")).count();
    assert!(said <= 2, "once a thread: {said} times since {:?}", first.what);
}
