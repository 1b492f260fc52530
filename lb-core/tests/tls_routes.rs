//! TLS that is passed through, to the service that the name in its ClientHello leads to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod pki;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::*;
use config::{Service, SniRoute};
use lb_core::{CloseReason, ServiceStats, Standing};
use pki::*;

/// A service `web` with routes to `api` (for `api.example.org`) and `any` (for `*.example.org`), each with one backend, of
/// which that of `web` does not speak TLS.
struct Routed {
    lab: Lab,
    authority: Authority,
    _servers: Vec<Server>,
    _ports: Vec<Reserved>,
}

impl Routed {
    fn new(change: impl FnOnce(&mut Service)) -> Self {
        let authority = Authority::new("ca");
        let web = Server::new(|mut stream| {
            let _ = stream.write_all(b"web");
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let lab = Lab::with(ONE_WORKER, &[web.address], |service| {
            let route = |pattern: &str, service: &str| SniRoute {
                pattern: pattern.to_owned(),
                service: name(service),
            };
            service.sni_routes = vec![route("api.example.org", "api"), route("*.example.org", "any")];
            change(service);
        });
        let (mut services, mut servers, mut ports) = (vec![lab.service.clone()], vec![web], vec![]);
        for name in ["api", "any"] {
            let leaf = authority.issue(&["*.example.org"]);
            let server = tls_server(server_config(&leaf, None), move |mut stream| {
                stream.write_all(name.as_bytes()).unwrap();
                echo(stream);
            });
            let port = Reserved::new(LOCALHOST);
            let mut routed = service(port.address, &[server.address]);
            routed.name = common::name(name);
            services.push(routed);
            servers.push(server);
            ports.push(port);
        }
        lab.apply(&services);
        for service in &services {
            lab.plane.set_standing(&[(service.backend_id(&service.backends[0]), Standing::UP)]);
        }
        Routed { lab, authority, _servers: servers, _ports: ports }
    }

    fn stats(&self, service: &str) -> ServiceStats {
        self.lab.plane.stats().services.into_iter().find(|stats| stats.name == name(service)).unwrap()
    }

    /// What the service says that this name leads to.
    fn ask(&self, server_name: &str) -> String {
        let stream = self.lab.connect();
        let mut client = handshaken(stream, client_config(&self.authority), server_name).unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    }
}

#[test]
fn the_name_leads_to_another_services_backends_and_its_counters() {
    let routed = Routed::new(|_| {});
    assert_eq!(routed.ask("api.example.org"), "api");
    assert_eq!(routed.ask("www.example.org"), "any");
    assert_eq!(routed.ask("API.example.org"), "api");
    let (web, api, any) = (routed.stats("web"), routed.stats("api"), routed.stats("any"));
    assert_eq!((web.accepted, api.accepted, any.accepted), (3, 2, 1));
    assert_eq!((web.backends[0].connects, api.backends[0].connects), (0, 2));
    eventually("all have ended, where they were led to", || {
        let active: u64 = ["web", "api", "any"].iter().map(|service| routed.stats(service).active).sum();
        let ended = |service| routed.stats(service).closes.iter().map(|(_, count)| count).sum::<u64>();
        active == 0 && (ended("web"), ended("api"), ended("any")) == (0, 2, 1)
    });
}

#[test]
fn a_hello_that_comes_in_pieces_reaches_the_backend_whole() {
    struct Slowly(TcpStream);
    impl Read for Slowly {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Slowly {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // Sent at once (TCP_NODELAY), so that most pieces arrive alone.
            self.0.write(bytes.get(..bytes.len().min(20)).unwrap())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let routed = Routed::new(|_| {});
    let stream = routed.lab.connect();
    stream.set_nodelay(true).unwrap();
    let name = "api.example.org".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(client_config(&routed.authority), name).unwrap();
    let mut slowly = Slowly(stream);
    while connection.is_handshaking() {
        connection.complete_io(&mut slowly).unwrap();
    }
    assert_eq!(routed.stats("api").accepted, 1);
}

#[test]
fn who_asks_for_no_known_name_or_speaks_no_tls_stays_where_it_is() {
    let routed = Routed::new(|_| {});
    let mut client = routed.lab.connect();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut answer = [0; 3];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"web");
    let refused = refusal(routed.lab.connect(), client_config(&routed.authority), "example.net");
    assert!(refused.contains("corrupt"), "web's backend speaks no TLS: {refused}");
    assert_eq!((routed.stats("web").accepted, routed.stats("web").backends[0].connects), (2, 2));
}

#[test]
fn a_client_that_ends_its_stream_before_its_hello_stays_where_it_is() {
    let routed = Routed::new(|_| {});
    let mut client = routed.lab.connect();
    client.write_all(&[22, 3, 1]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"web");
}

#[test]
fn a_client_that_never_says_its_hello_is_closed() {
    let routed = Routed::new(|service| service.timeouts.client = Duration::from_millis(200));
    assert_reset(&mut routed.lab.connect());
    routed.lab.await_close(CloseReason::TlsTimeout);
    assert_eq!(routed.stats("web").backends[0].connects, 0);
}
