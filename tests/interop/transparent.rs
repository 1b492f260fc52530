//! `source_address = "transparent"` on the real binary, with the routing that docs/operations.md asks for: a backend on a
//! host of its own sees the client's address; and where a part is missing, the error names it.
//!
//! ```text
//!  client ── router ── lb 10.99.4.1 ── 10.99.4.2 backend, whose default route is the lb
//!                         fd99:4::1    fd99:4::2
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use crate::common::SOON;
use crate::common::configuration::UNCHECKED;
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::lab::{LB4, LB6, PORT, admin, network};
use crate::netns::Namespace;

const BACKEND4: &str = "10.99.4.2";
const BACKEND6: &str = "fd99:4::2";

/// Whether this can run here; if not, a line says why.
fn can_run() -> bool {
    let why = if !rustix::process::geteuid().is_root() {
        "network namespaces need root"
    } else if !Path::new("/usr/sbin/nft").exists() {
        "package nftables is not installed"
    } else {
        return true;
    };
    drop(writeln!(std::io::stderr(), "test of transparent skipped: {why}"));
    false
}

struct Lab {
    client: Namespace,
    /// It routes for the others as long as it is there.
    _router: Namespace,
    lb: Namespace,
    backend: Namespace,
}

impl Lab {
    fn new() -> Self {
        let (client, router, lb) = network();
        let backend = Namespace::new("backend");
        lb.connect(
            ("to-backend", &["10.99.4.1/24", "fd99:4::1/64"]),
            &backend,
            ("to-lb", &["10.99.4.2/24", "fd99:4::2/64"]),
        );
        for gateway in ["10.99.4.1", "fd99:4::1"] {
            let family = if gateway.contains(':') { "-6" } else { "-4" };
            backend.run(&["ip", family, "route", "add", "default", "via", gateway]);
        }
        Lab { client, _router: router, lb, backend }
    }

    /// A backend that tells whoever connects what address it sees.
    fn serve(&self, address: &str) {
        let listener = self
            .backend
            .within(|| TcpListener::bind((ip(address), PORT)).expect("an address of the backend"));
        thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = write!(stream, "{}", peer.ip());
            }
        });
    }

    /// What the backend behind the load balancer's address sees of the client.
    fn seen_through(&self, lb: &str) -> std::io::Result<String> {
        self.client.within(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip(lb), PORT), SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            let mut seen = String::new();
            stream.read_to_string(&mut seen)?;
            Ok(seen)
        })
    }

    /// Starts the daemon, with something before its command.
    fn start(&self, before: &[&str]) -> Daemon {
        let service = |name: &str, lb: &str, backend: &str| {
            let (lb, backend) = (SocketAddr::new(ip(lb), PORT), SocketAddr::new(ip(backend), PORT));
            format!(
                "[[service]]\nname = \"{name}\"\nlisten = [\"{lb}\"]\nsource_address = \"transparent\"\n{UNCHECKED}\
                 [[service.backend]]\naddress = \"{backend}\"\n"
            )
        };
        let config = service("four", LB4, BACKEND4) + &service("six", LB6, BACKEND6);
        Daemon::spawn(admin(), "", &config, &[&self.lb.prefix()[..], before].concat())
    }

    /// Starts the daemon, which must end by itself and say this.
    #[track_caller]
    fn refused(&self, before: &[&str], why: &[&str]) {
        let mut daemon = self.start(before);
        let (_, status) = daemon.wait_exit(SOON);
        assert!(!status.success(), "{status}");
        daemon.wait_log(0, SOON, why);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn backends_see_the_clients_own_addresses_and_what_that_lacks_is_named() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    lab.refused(&[], &["service four", "no IPv4 route", "ip route add local default dev lo table 100"]);
    lab.lb.run(&["ip", "route", "add", "local", "default", "dev", "lo", "table", "100"]);
    lab.refused(&[], &["service four", "no IPv4 rule leads to table 100", "ip rule add fwmark 1 lookup 100"]);
    lab.lb.run(&["ip", "rule", "add", "fwmark", "1", "lookup", "100"]);
    lab.refused(&[], &["service six", "no IPv6 route", "ip -6 route add local default dev lo table 100"]);
    lab.lb.run(&["ip", "-6", "route", "add", "local", "default", "dev", "lo", "table", "100"]);
    lab.refused(&[], &["service six", "no IPv6 rule leads to table 100"]);
    lab.lb.run(&["ip", "-6", "rule", "add", "fwmark", "1", "lookup", "100"]);
    let unprivileged = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"];
    lab.refused(&unprivileged, &["service four", "CAP_NET_ADMIN or CAP_NET_RAW"]);

    for command in [
        &["add", "table", "inet", "contrail"][..],
        &["add", "chain", "inet", "contrail", "divert", "{ type filter hook prerouting priority mangle; }"],
        &["add", "rule", "inet", "contrail", "divert", "socket transparent 1 meta mark set 1 accept"],
    ] {
        lab.lb.run(&[&["nft"][..], command].concat());
    }
    lab.serve(BACKEND4);
    lab.serve(BACKEND6);
    let _daemon = lab.start(&[]);
    for (lb, client) in [(LB4, "10.99.1.2"), (LB6, "fd99:1::2")] {
        eventually(&format!("the backend sees {client}"), SOON, || match lab.seen_through(lb) {
            Ok(seen) if seen == client => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}
