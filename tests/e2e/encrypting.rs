//! TLS on the real binary: ended here, begun anew towards the backends, passed through by the name that is asked for.

use std::net::SocketAddr;

use rustls::ALL_VERSIONS;
use rustls::version::TLS12;

use crate::common::backend::Backend;
use crate::common::configuration::{UNCHECKED, service};
use crate::common::daemon::Daemon;
use crate::common::http::backend_of;
use crate::common::ports::Loopback;
use crate::common::status::{wait_closes, wait_health};
use crate::common::tls::Certificate;

/// A service whose one backend speaks TLS.
fn encrypted(name: &str, listen: SocketAddr, keys: &str, backend: SocketAddr) -> String {
    let head = service(name, &[listen], keys, &[]);
    format!("{head}[[service.backend]]\nname = \"tls\"\naddress = \"{backend}\"\n")
}

#[test]
fn tls_of_clients_is_ended_and_the_backend_sees_none_of_it() {
    let lab = Loopback::take();
    let (certificate, backend, front) =
        (Certificate::of("api.example.org"), Backend::http("a", lab.addr()), lab.addr());
    let tls = format!(
        "{UNCHECKED}tls = {{ certificate = {:?}, key = {:?} }}\n",
        certificate.certificate(),
        certificate.key()
    );
    let daemon = Daemon::start(&lab, &service("web", &[front], &tls, &[&backend]));
    assert_eq!(certificate.ask(front).unwrap(), "a");
    assert!(Certificate::of("api.example.org").ask(front).is_err(), "not what that client trusts");
    let handshakes = "contrail_lb_service_tls_handshakes_total{kind=\"full\",service=\"web\"}";
    assert_eq!(daemon.metric(handshakes), Some(1.0));
}

#[test]
fn tls_towards_a_backend_is_verified_by_checks_and_traffic_alike() {
    let lab = Loopback::take();
    let (certificate, other) = (Certificate::of("db.example.org"), Certificate::of("db.example.org"));
    let (good, front, refused) = (lab.addr(), lab.addr(), lab.addr());
    certificate.serve(good, "over TLS");
    let keys = |trusted: &Certificate| {
        format!(
            "check = {{ kind = \"tls\", interval = \"100ms\", rise = 1, fall = 1 }}\n\
             backend_tls = {{ enabled = true, ca = {:?}, server_name = \"db.example.org\" }}\n",
            trusted.certificate()
        )
    };
    let config =
        encrypted("good", front, &keys(&certificate), good) + &encrypted("bad", refused, &keys(&other), good);
    let daemon = Daemon::start(&lab, &config);
    wait_health(&daemon, "good", "tls", "up");
    wait_health(&daemon, "bad", "tls", "down");
    assert_eq!(backend_of(front).unwrap(), "over TLS");
    assert!(backend_of(refused).is_err());
}

#[test]
fn tls_is_passed_through_to_the_service_of_the_name_that_the_client_asks_for() {
    let lab = Loopback::take();
    let [one, two] = ["one.example.org", "two.example.org"].map(Certificate::of);
    let (backends, fronts) = ([lab.addr(), lab.addr()], [lab.addr(), lab.addr()]);
    one.serve(backends[0], "one");
    two.serve(backends[1], "two");
    let routed = format!("{UNCHECKED}sni_routes = {{ \"two.example.org\" = \"second\" }}\n");
    let config = encrypted("first", fronts[0], &routed, backends[0])
        + &encrypted("second", fronts[1], UNCHECKED, backends[1]);
    let _daemon = Daemon::start(&lab, &config);
    assert_eq!(one.ask(fronts[0]).unwrap(), "one");
    assert_eq!(two.ask(fronts[0]).unwrap(), "two");
}

/// A service on one listener that ends TLS with these certificates.
fn ended(front: SocketAddr, certificates: &[&Certificate], keys: &str, backend: &Backend) -> String {
    let files: Vec<_> = certificates.iter().map(|c| format!("{:?}", c.certificate())).collect();
    let secrets: Vec<_> = certificates.iter().map(|c| format!("{:?}", c.key())).collect();
    let (files, secrets) = (files.join(", "), secrets.join(", "));
    let tls = format!("{UNCHECKED}tls = {{ certificate = [{files}], key = [{secrets}]{keys} }}\n");
    service("web", &[front], &tls, &[backend])
}

#[test]
fn the_certificate_follows_the_name_and_a_reload_brings_a_renewed_one() {
    let lab = Loopback::take();
    let [one, two, renewed] = ["one.example.org", "two.example.org", "two.example.org"].map(Certificate::of);
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let config = ended(front, &[&one, &two], "", &backend);
    let daemon = Daemon::start(&lab, &config);
    assert_eq!((one.ask(front).unwrap(), two.ask(front).unwrap()), ("a".into(), "a".into()));
    for (fresh, stale) in [(renewed.certificate(), two.certificate()), (renewed.key(), two.key())] {
        std::fs::copy(fresh, stale).unwrap();
    }
    assert!(renewed.ask(front).is_err(), "not before a reload");
    daemon.reload(&config);
    assert_eq!((one.ask(front).unwrap(), renewed.ask(front).unwrap()), ("a".into(), "a".into()));
    assert!(two.ask(front).is_err(), "the old one is not shown any more");
}

#[test]
fn clients_have_to_speak_the_least_version_and_show_a_certificate_that_the_ca_vouches_for() {
    let lab = Loopback::take();
    let [certificate, own, foreign] = ["api.example.org", "client", "client"].map(Certificate::of);
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let keys = format!(
        ", min_version = \"1.3\", client_ca = {:?}, client_auth = \"required\", alpn = [\"h2\", \"http/1.1\"]",
        own.certificate()
    );
    let daemon = Daemon::start(&lab, &ended(front, &[&certificate], &keys, &backend));
    let mut client = certificate.client(ALL_VERSIONS, Some(&own));
    client.alpn_protocols = vec![b"spdy/1".to_vec(), b"http/1.1".to_vec()];
    let served = certificate.ask_as(front, client).unwrap();
    assert_eq!(served, ("a".to_owned(), Some(b"http/1.1".to_vec())));
    for (refused, versions, shown) in [
        ("too old", &[&TLS12][..], Some(&own)),
        ("unknown", ALL_VERSIONS, Some(&foreign)),
        ("none", ALL_VERSIONS, None),
    ] {
        assert!(certificate.ask_as(front, certificate.client(versions, shown)).is_err(), "{refused}");
    }
    wait_closes(&daemon, "web", "tls_handshake_failed", 3);
}
