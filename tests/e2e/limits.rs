//! What a service grants whom: limits and the queue, the same backend for a client, who the client is said to be, and what is left
//! behind when backends and clients come and go.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::Signal;

use crate::common::SOON;
use crate::common::backend::{Backend, Gate, Manner};
use crate::common::configuration::{UNCHECKED, quick_check, server, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http::{self, Connection, backend_of};
use crate::common::load::Load;
use crate::common::ports::{HeldPort, Loopback};
use crate::common::resources::{descriptors, half_closed};
use crate::common::status::{Status, wait_closes, wait_health};

/// The name of the backend that serves a client of this address.
fn backend_for(client: IpAddr, front: SocketAddr) -> String {
    let dialled = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&dialled, &SocketAddr::new(client, 0)).unwrap();
    connect(&dialled, &front).unwrap();
    let mut stream = TcpStream::from(dialled);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

#[test]
fn by_source_a_client_comes_to_the_same_backend_on_every_host() {
    let labs = [Loopback::take(), Loopback::take()];
    let backends = ["a", "b", "c"].map(|name| Backend::http(name, labs[0].addr()));
    let keys = format!("{UNCHECKED}balance = \"source\"\n");
    let fronts = labs.each_ref().map(Loopback::addr);
    let start =
        |n: usize| Daemon::start(&labs[n], &service("web", &[fronts[n]], &keys, &backends.each_ref()));
    let _daemons = [start(0), start(1)];
    let clients = (1..=20).map(|n| IpAddr::from(Ipv4Addr::new(127, 0, 3, n)));
    let chosen: BTreeSet<String> = clients
        .map(|client| {
            let names = fronts.map(|front| backend_for(client, front));
            assert_eq!(names[0], names[1], "{client}");
            assert_eq!(names[0], backend_for(client, fronts[0]), "{client} again");
            names[0].clone()
        })
        .collect();
    assert_eq!(chosen.len(), 3, "all share the clients");
}

#[test]
fn a_client_beyond_its_limit_is_reset_and_counted() {
    let lab = Loopback::take();
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let keys = format!("{UNCHECKED}client_limits = {{ connections = 1 }}\n");
    let daemon = Daemon::start(&lab, &service("web", &[front], &keys, &[&backend]));
    let mut first = Connection::open(front).unwrap();
    first.get("/").unwrap();
    let refused = Connection::open(front).and_then(|mut second| second.get("/"));
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    wait_closes(&daemon, "web", "client_connections", 1);
    first.get("/").unwrap();
    drop(first);
    eventually("its place is free again", SOON, || backend_of(front));
}

#[test]
fn who_finds_every_backend_full_waits_and_is_served_when_there_is_a_place() {
    let lab = Loopback::take();
    let gate = Gate::default();
    let backend = Backend::start("a", lab.addr(), Manner::Gated(gate.clone()));
    let front = lab.addr();
    let config = service("web", &[front], UNCHECKED, &[]) + &server(&backend, "max_connections = 1\n");
    let daemon = Daemon::start(&lab, &config);
    let clients = [(); 2].map(|()| thread::spawn(move || backend_of(front)));
    eventually("one waits", SOON, || {
        let status = Status::of(&daemon).map_err(|e| e.to_string())?;
        let web = status.service("web").cloned().unwrap_or_default();
        if web["queued"] == 1 { Ok(()) } else { Err(web.to_string()) }
    });
    assert_eq!(daemon.metric("contrail_lb_service_queued{service=\"web\"}"), Some(1.0));
    let limit = "contrail_lb_backend_max_connections{backend=\"a\",service=\"web\"}";
    assert_eq!(daemon.metric(limit), Some(1.0));
    gate.open();
    for client in clients {
        assert_eq!(client.join().unwrap().unwrap(), "a");
    }
}

#[test]
fn with_on_down_close_a_downfall_ends_the_connections() {
    let lab = Loopback::take();
    let (backend, mut side) = (Backend::http("a", lab.addr()), Backend::http("side", lab.addr()));
    let front = lab.addr();
    let keys = format!(
        "check = {{ kind = \"tcp\", port = {}, interval = \"100ms\", rise = 1, fall = 1 }}\non_down = \"close\"\n",
        side.addr().port()
    );
    let daemon = Daemon::start(&lab, &service("web", &[front], &keys, &[&backend]));
    wait_health(&daemon, "web", "a", "up");
    let mut client = Connection::open(front).unwrap();
    client.get("/").unwrap();
    side.stop();
    wait_closes(&daemon, "web", "backend_down", 1);
    assert!(client.get("/").is_err());
}

#[test]
fn who_the_client_is_goes_from_a_trusted_proxy_to_the_backend() {
    let lab = Loopback::take();
    let (backend, front) = (Backend::start("a", lab.addr(), Manner::Echo), lab.addr());
    let keys = format!(
        "{UNCHECKED}accept_proxy = \"required\"\ntrusted_proxies = [\"127.0.0.1/32\"]\nsend_proxy = \"v1\"\n"
    );
    let _daemon = Daemon::start(&lab, &service("raw", &[front], &keys, &[&backend]));
    let said = "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\nhello";
    let mut client = TcpStream::connect(front).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.write_all(said.as_bytes()).unwrap();
    let mut heard = vec![0; said.len()];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), said);
}

#[test]
fn a_backend_is_found_by_its_name() {
    let lab = Loopback::take();
    let port = HeldPort::v4();
    let (_backend, front) = (Backend::http("a", port.addr()), lab.addr());
    let config = service("web", &[front], &quick_check(), &[])
        + &format!("[[service.backend]]\nname = \"a\"\naddress = \"localhost:{}\"\n", port.addr().port());
    let daemon = Daemon::start(&lab, &config);
    wait_health(&daemon, "web", "a", "up");
    assert_eq!(backend_of(front).unwrap(), "a");
}

const THREADS: usize = 2;
const PIPES_OF_A_THREAD: usize = 16;

#[test]
fn nothing_is_left_behind_by_clients_and_backends_that_come_and_go() {
    let lab = Loopback::take();
    let backends = ["a", "b"].map(|name| Backend::http(name, lab.addr()));
    let front = lab.addr();
    let config = service("web", &[front], UNCHECKED, &backends.each_ref());
    let daemon = Daemon::start(&lab, &format!("[global]\nthreads = {THREADS}\n{config}"));
    let idle = || Status::of(&daemon).is_ok_and(|status| status.0["plane"]["connections"] == 0);
    backend_of(front).unwrap();
    eventually("idle", SOON, idle);
    let before = descriptors(daemon.id());
    let load = Load::on(&[front, front]);
    for manner in [Manner::CloseAtOnce, Manner::ResetMidBody, Manner::ResetAtOnce, Manner::Http] {
        load.answers(100);
        backends[0].behave(manner);
    }
    load.answers(100);
    load.finish();
    let half_open: Vec<_> = (0..20).map(|_| TcpStream::connect(front).unwrap()).collect();
    drop(half_open);
    eventually("idle again", SOON, idle);
    // A thread keeps the few pipes that it has opened for bulk: two ends each. The question whether it is idle has a socket
    // too, which may have been there still when the first count was taken.
    eventually("every descriptor is closed", SOON, || {
        let now = descriptors(daemon.id());
        let had = |kind: &str| before.get(kind).copied().unwrap_or(0);
        let may = |kind: &str| had(kind) + if kind == "pipe" { 2 * THREADS * PIPES_OF_A_THREAD } else { 0 };
        let is_closed = now.iter().all(|(kind, count)| *count <= may(kind));
        is_closed.then_some(()).ok_or(format!("{now:?}, {before:?} before"))
    });
    assert_eq!(half_closed(front), 0);
}

#[test]
fn a_backend_that_is_killed_costs_its_own_connections_only() {
    let lab = Loopback::take();
    let elsewhere = Loopback::take();
    let (behind, b) = (Backend::http("a", elsewhere.addr()), Backend::http("b", lab.addr()));
    // A process of its own that answers as `a`: another load balancer.
    let (address, front) = (elsewhere.addr(), lab.addr());
    let victim = Daemon::start(&elsewhere, &service("victim", &[address], UNCHECKED, &[&behind]));
    let config = service("web", &[front], &quick_check(), &[])
        + &format!("[[service.backend]]\nname = \"a\"\naddress = \"{address}\"\n")
        + &server(&b, "");
    let daemon = Daemon::start(&lab, &config);
    for backend in ["a", "b"] {
        wait_health(&daemon, "web", backend, "up");
    }
    let mut kept: Vec<_> = (0..4).map(|_| Connection::open(front).unwrap()).collect();
    let names: Vec<_> = kept.iter_mut().map(|client| client.get("/").unwrap().text()).collect();
    let load = Load::on(&[front]);
    load.answers(100);
    victim.signal(Signal::KILL);
    load.answers(200);
    wait_health(&daemon, "web", "a", "down");
    let report = load.finish();
    assert!(report.failed.len() <= 2, "each client loses one connection at most: {:?}", report.failed);
    for (client, name) in kept.iter_mut().zip(&names) {
        assert_eq!(client.get("/").is_ok(), name == "b", "{name}");
    }
    assert_eq!(http::get(daemon.admin(), "/readyz").unwrap().status, 200);
}
