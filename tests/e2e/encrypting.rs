//! TLS on the real binary: ended here, begun anew towards the backends, passed through by the name that is asked for.

use std::net::SocketAddr;

use crate::common::backend::Backend;
use crate::common::configuration::{UNCHECKED, service};
use crate::common::daemon::Daemon;
use crate::common::http::backend_of;
use crate::common::ports::Loopback;
use crate::common::status::wait_health;
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
