//! What each router sends in one run, octet by octet: a tee between the daemon and the router keeps it.
//!
//! Every run checks that we understood all of it. With `RECORD_PACKETS=1` it also becomes the fixtures of
//! `bgp-speaker/tests/replay.rs`: a file per router and session, a message per line in hexadecimal.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::common::SOON;
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::lab::{Options, admin, backends, can_run, configuration, network};
use crate::router::{Kind, Session};

const BGP: u16 = 179;
/// Message types (RFC 4271 §4.1, RFC 2918 §3) and the names that `bgp --json` counts them by.
const KINDS: [(u8, &str); 5] =
    [(1, "open"), (2, "update"), (3, "notification"), (4, "keepalive"), (5, "route_refresh")];

#[test]
fn what_bird2_sends_is_understood() {
    is_understood(Kind::Bird2);
}

#[test]
fn what_bird1_sends_is_understood() {
    is_understood(Kind::Bird1);
}

#[test]
fn what_frr_sends_is_understood() {
    is_understood(Kind::Frr);
}

#[test]
fn what_gobgp_sends_is_understood() {
    is_understood(Kind::Gobgp);
}

/// A router announces its routes, asks for ours again where it ever does, and takes its leave.
fn is_understood(kind: Kind) {
    if !can_run(kind) {
        return;
    }
    let (_client, router_ns, lb_ns) = network();
    let mut options = Options::default();
    options.manner.announces = true;
    let servers = backends(&lb_ns);
    let mut config = configuration(&options, &servers.each_ref());
    let router = kind.start(&router_ns, &options.sessions, &options.manner);
    let tees = lb_ns.within(|| options.sessions.iter().map(Tee::start).collect::<Vec<_>>());
    for (session, tee) in options.sessions.iter().zip(&tees) {
        config = tee.put_between(session, &config);
    }
    let daemon = Daemon::spawn(admin(), "", &config, &lb_ns.prefix());

    for (number, (session, tee)) in options.sessions.iter().zip(&tees).enumerate() {
        let wait = |what: &str, kinds: &[u8]| {
            eventually(what, SOON, || {
                let messages = messages(&tee.octets());
                let missing = kinds.iter().find(|kind| !messages.iter().any(|message| message[18] == **kind));
                missing.map_or(Ok(()), |kind| Err(format!("no message of type {kind} in {messages:02x?}")))
            });
        };
        wait("OPEN, KEEPALIVE and UPDATE", &[1, 4, 2]);
        eventually("our routes are there", SOON, || peer(&daemon, number)["routes_acknowledged"] == 1);
        if kind != Kind::Gobgp {
            router.refresh(session);
            wait("ROUTE-REFRESH", &[5]);
        }
        router.shut_down(session, "maintenance");
        wait("NOTIFICATION", &[3]);
        let seen = messages(&tee.octets());
        eventually("we counted what it sent", SOON, || {
            let peer = peer(&daemon, number);
            let count = |kind: u8| seen.iter().filter(|message| message[18] == kind).count();
            let differs = KINDS.iter().find(|(kind, name)| peer["messages_in"][name] != count(*kind));
            differs.map_or(Ok(()), |(_, name)| Err(format!("{name}: {peer} {seen:02x?}")))
        });
        assert_eq!(peer(&daemon, number)["updates_malformed"], 0);
        if std::env::var_os("RECORD_PACKETS").is_some() {
            record(kind, session, &seen);
        }
    }
}

fn peer(daemon: &Daemon, number: usize) -> Value {
    daemon.ask("show bgp json").unwrap_or_default()[number].clone()
}

/// Whole messages; each begins with 16 octets of marker and its length.
fn messages(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let [.., _] = octets.get(..19).unwrap_or_default() {
        let length = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
        let Some((message, rest)) = octets.split_at_checked(length.max(19)) else { break };
        messages.push(message.to_vec());
        octets = rest;
    }
    messages
}

fn record(kind: Kind, session: &Session, messages: &[Vec<u8>]) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("bgp-speaker/tests/fixtures").join(kind.name());
    std::fs::create_dir_all(&fixtures).unwrap();
    let line =
        |message: &Vec<u8>| message.iter().map(|octet| format!("{octet:02x}")).chain(["\n".into()]).collect();
    let text: Vec<String> = messages.iter().map(line).collect();
    let family = session.families().next().unwrap();
    std::fs::write(fixtures.join(family).with_extension("hex"), text.concat()).unwrap();
}

/// Listens on loopback, and passes on what comes to the router and back. Its threads end with their sockets, the last one
/// with the test.
#[derive(Debug)]
struct Tee {
    address: SocketAddr,
    /// What the router sent on each connection.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tee {
    /// In front of the router's end of a session.
    fn start(session: &Session) -> Self {
        let router = SocketAddr::new(session.own, BGP);
        let loopback = match session.own {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let listener = TcpListener::bind((loopback, 0)).expect("a port on loopback");
        let tee = Tee { address: listener.local_addr().expect("its address"), heard: Arc::default() };
        let heard = Arc::clone(&tee.heard);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(router) else { continue };
                join(client, server, &heard);
            }
        });
        tee
    }

    /// The configuration with this tee for the router; next hops stay what they were.
    fn put_between(&self, session: &Session, config: &str) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        let Session { own, peer, .. } = session;
        let direct = format!("address = \"{own}\"\nlocal_address = \"{peer}\"\n");
        assert!(config.contains(&direct), "{config}");
        let through =
            format!("address = \"{ip}\"\nport = {port}\nlocal_address = \"{ip}\"\nnext_hop = \"{peer}\"\n");
        config.replace(&direct, &through)
    }

    /// What the router sent on the connection that it said most on.
    fn octets(&self) -> Vec<u8> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().max_by_key(|octets| octets.len()).cloned().unwrap_or_default()
    }
}

/// Passes on both directions until either ends.
fn join(client: TcpStream, server: TcpStream, heard: &Arc<Mutex<Vec<Vec<u8>>>>) {
    let number = {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(Vec::new());
        heard.len() - 1
    };
    let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
    let heard = Arc::clone(heard);
    thread::spawn(move || pass_on(client, to_server, |_| ()));
    thread::spawn(move || {
        pass_on(server, to_client, |octets| {
            heard.lock().unwrap_or_else(PoisonError::into_inner)[number].extend_from_slice(octets);
        });
    });
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut hear: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        hear(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
