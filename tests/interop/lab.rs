//! The network of the interop tests: client — router — load balancer, a namespace each, IPv4 and IPv6.
//!
//! ```text
//!  client 10.99.1.2 ── 10.99.1.1 router 10.99.2.1 ── 10.99.2.2 lb (contrail-lb, the VIPs on lo, the backends)
//!        fd99:1::2       fd99:1::1     fd99:2::1       fd99:2::2
//! ```
//! Only BGP tells the router where the VIPs are.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use std::time::Duration;

use serde_json::Value;

use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::{LOCAL_AS, ROUTER_AS, quick_check, service_on_vips};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http::backend_of;
use crate::common::process::Process;
use crate::netns::Namespace;
use crate::router::{Kind, Manner, Route, Router, Session};

pub const VIP4: &str = "10.84.13.100";
pub const VIP6: &str = "fd84::100";
pub const LB4: &str = "10.99.2.2";
pub const LB6: &str = "fd99:2::2";
pub const ROUTER4: &str = "10.99.2.1";
pub const ROUTER6: &str = "fd99:2::1";
pub const PORT: u16 = 8082;

/// Dropped from top to bottom: the daemon before its network.
pub struct Lab {
    pub daemon: Daemon,
    /// `None` only while it is restarted.
    router: Option<Box<dyn Router>>,
    pub backends: [Backend; 2],
    /// `ip monitor` of routes in the router and of addresses in the load balancer's namespace.
    pub router_events: Process,
    pub lb_events: Process,
    pub client_ns: Namespace,
    pub lb_ns: Namespace,
    pub router_ns: Namespace,
    kind: Kind,
    options: Options,
}

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Options {
    /// The load balancer's AS.
    pub local_as: u32,
    /// Further keys of `[bgp]`.
    pub bgp: String,
    /// Further keys of each `[[bgp.peer]]`.
    pub peer: String,
    /// Further keys of each `[[vip]]`.
    pub vip: String,
    /// Further keys of the service.
    pub service: String,
    pub sessions: Vec<Session>,
    /// How the router speaks.
    pub manner: Manner,
    /// The router is where the client is, a hop further away.
    pub far: bool,
}

/// A session per family, external, and no delay before anything.
impl Default for Options {
    fn default() -> Self {
        Options {
            local_as: LOCAL_AS,
            bgp: String::new(),
            peer: String::new(),
            vip: "announce_delay = \"0s\"\n".into(),
            service: String::new(),
            sessions: vec![over_ipv4(&["ipv4"]), over_ipv6(&["ipv6"])],
            manner: Manner {
                local_as: ROUTER_AS,
                remote_as: LOCAL_AS,
                hold_time: 9,
                password: None,
                ttl_security: false,
                hops: 1,
                passive: false,
                four_octet_as: true,
                extended_next_hop: false,
                bfd: None,
                announces: false,
            },
            far: false,
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The session between two addresses.
pub fn session(own: &str, peer: &str, families: &[&str]) -> Session {
    let [ipv4, ipv6] = ["ipv4", "ipv6"].map(|family| families.contains(&family));
    Session { own: ip(own), peer: ip(peer), ipv4, ipv6, interface: None }
}

pub fn over_ipv4(families: &[&str]) -> Session {
    session(ROUTER4, LB4, families)
}

pub fn over_ipv6(families: &[&str]) -> Session {
    session(ROUTER6, LB6, families)
}

/// Whether tests against this router can run here; if not, one line says why.
pub fn can_run(router: Kind) -> bool {
    static SAID: Once = Once::new();
    let (package, file) = router.package();
    let why = if !rustix::process::geteuid().is_root() {
        "interop tests skipped: network namespaces need root".to_owned()
    } else if !router.is_installed() {
        format!("interop tests skipped: package {package} is not installed ({} is not there)", file.display())
    } else {
        return true;
    };
    // Not `eprintln!`, which the test runner keeps for itself.
    SAID.call_once(|| drop(writeln!(std::io::stderr(), "{why}")));
    false
}

/// The three namespaces and the wires between them, before anything runs.
pub fn network() -> (Namespace, Namespace, Namespace) {
    let (client, router, lb) = (Namespace::new("client"), Namespace::new("router"), Namespace::new("lb"));
    for setting in
        ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.fib_multipath_hash_policy=1"]
    {
        router.sysctl(setting);
    }
    router.connect(
        ("to-client", &["10.99.1.1/24", "fd99:1::1/64"]),
        &client,
        ("to-router", &["10.99.1.2/24", "fd99:1::2/64"]),
    );
    router.connect(
        ("to-lb", &["10.99.2.1/24", "fd99:2::1/64", "fe80::1/64"]),
        &lb,
        ("to-router", &["10.99.2.2/24", "fd99:2::2/64", "fe80::2/64"]),
    );
    for (namespace, destination, gateway) in [
        (&client, "default", "10.99.1.1"),
        (&client, "default", "fd99:1::1"),
        // No router takes a default route for the way to a next hop.
        (&client, "10.99.2.0/24", "10.99.1.1"),
        (&client, "fd99:2::/64", "fd99:1::1"),
        (&lb, "default", ROUTER4),
        (&lb, "default", ROUTER6),
    ] {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        namespace.run(&["ip", family, "route", "add", destination, "via", gateway]);
    }
    (client, router, lb)
}

/// Where the daemon under test serves HTTP, in its namespace.
pub fn admin() -> SocketAddr {
    SocketAddr::new(ip("127.0.0.1"), 5937)
}

/// The two backends, on the load balancer's own host.
pub fn backends(lb_ns: &Namespace) -> [Backend; 2] {
    let backend =
        |name: &str, port| lb_ns.within(|| Backend::http(name, SocketAddr::new(ip("127.0.0.1"), port)));
    [backend("a", 9100), backend("b", 9101)]
}

impl Lab {
    /// Everything started; waits until both VIPs are in the router's kernel, or in its table where it has no kernel.
    #[track_caller]
    pub fn announced(router: Kind, options: Options) -> Self {
        let lab = Lab::start(router, options);
        for vip in [VIP4, VIP6] {
            lab.wait_announced(vip);
        }
        lab
    }

    #[track_caller]
    pub fn start(kind: Kind, options: Options) -> Self {
        let (client_ns, router_ns, lb_ns) = network();
        let monitor = |ns: &Namespace, what| {
            Process::start("ip monitor", &[&ns.prefix()[..], &["ip", "monitor", what]].concat())
        };
        let (router_events, lb_events) = (monitor(&router_ns, "route"), monitor(&lb_ns, "address"));
        let backends = backends(&lb_ns);
        let namespace = if options.far { &client_ns } else { &router_ns };
        let router = Some(kind.start(namespace, &options.sessions, &options.manner));
        let config = configuration(&options, &backends.each_ref());
        let daemon = Daemon::spawn(admin(), "", &config, &lb_ns.prefix());
        Lab { daemon, router, backends, router_events, lb_events, client_ns, lb_ns, router_ns, kind, options }
    }

    /// The daemon's configuration.
    pub fn config(&self) -> String {
        configuration(&self.options, &self.backends.each_ref())
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Starts the daemon again with the same configuration, after the present one has ended.
    pub fn restart(&mut self) {
        self.daemon = Daemon::spawn(admin(), "", &self.config(), &self.lb_ns.prefix());
    }

    /// Ends the router as a crash would, and starts it again.
    pub fn restart_router(&mut self) {
        self.router = None;
        let Options { sessions, manner, .. } = &self.options;
        self.router = Some(self.kind.start(&self.router_ns, sessions, manner));
    }

    pub fn router(&self) -> &dyn Router {
        self.router.as_deref().expect("a router")
    }

    /// Waits for the VIP in the router's BGP table.
    #[track_caller]
    pub fn wait_rib(&self, vip: &str) -> Route {
        eventually(&format!("{vip} in the router's BGP table"), SOON, || self.router().route(&host(vip)))
    }

    /// Waits until the VIP in the router's BGP table is as it should be.
    #[track_caller]
    pub fn wait_rib_with(&self, vip: &str, mut is: impl FnMut(&Route) -> bool) -> Route {
        eventually(&format!("{vip} in the router's BGP table, as wanted"), SOON, || {
            match self.router().route(&host(vip)) {
                Some(route) if is(&route) => Ok(route),
                other => Err(format!("{other:?}")),
            }
        })
    }

    /// Waits until the VIP is not in the router's BGP table any more.
    #[track_caller]
    pub fn wait_no_rib(&self, vip: &str) {
        eventually(&format!("{vip} gone from the router's BGP table"), SOON, || {
            self.router().route(&host(vip)).is_none()
        });
    }

    /// Waits for the VIP in the router's kernel, and answers its gateway.
    #[track_caller]
    pub fn wait_fib(&self, vip: &str) -> String {
        eventually(&format!("{vip} in the router's kernel"), SOON, || {
            let routes = self.router_ns.routes(&host(vip));
            let gateway = routes.first().and_then(|route| route["gateway"].as_str().map(str::to_owned));
            gateway.ok_or_else(|| format!("{routes:?}"))
        })
    }

    /// Waits until the VIP is not in the router's kernel any more.
    #[track_caller]
    pub fn wait_no_fib(&self, vip: &str, within: Duration) {
        eventually(&format!("{vip} gone from the router's kernel"), within, || {
            self.router_ns.routes(&host(vip)).is_empty()
        });
    }

    /// Waits until the router would send packets to the VIP this way, as far as it sends packets at all.
    #[track_caller]
    pub fn wait_announced(&self, vip: &str) {
        if self.kind.has_kernel_routes() && !self.options.far {
            self.wait_fib(vip);
        } else {
            self.wait_rib(vip);
        }
    }

    /// Which backend answers a client beyond the router.
    pub fn fetch(&self, vip: &str) -> std::io::Result<String> {
        self.client_ns.within(|| backend_of(SocketAddr::new(ip(vip), PORT)))
    }

    /// Which backend answers on the load balancer's own host.
    pub fn fetch_locally(&self, vip: &str) -> std::io::Result<String> {
        self.lb_ns.within(|| backend_of(SocketAddr::new(ip(vip), PORT)))
    }

    /// What `bgp --json` says of the peer of a session, by the session's place in the options.
    pub fn peer(&self, session: usize) -> Value {
        let peers = self.daemon.ask("show bgp json").unwrap_or_default();
        let name = format!("router-{session}");
        let found = peers.as_array().and_then(|all| all.iter().find(|peer| peer["name"] == name.as_str()));
        found.cloned().unwrap_or_default()
    }

    /// Waits until `bgp --json` says this of the peer of a session.
    #[track_caller]
    pub fn wait_peer(&self, session: usize, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        eventually(what, SOON, || {
            let peer = self.peer(session);
            if is(&peer) { Ok(peer) } else { Err(peer.to_string()) }
        })
    }

    #[track_caller]
    pub fn wait_established(&self) {
        for session in &self.options.sessions {
            let peer = session.peer;
            eventually(&format!("session with {peer}"), SOON, || self.router().is_established(peer));
        }
    }
}

/// A VIP as a prefix.
pub fn host(vip: &str) -> String {
    format!("{vip}/{}", if vip.contains(':') { 128 } else { 32 })
}

/// The daemon's configuration: a peer for each session, both VIPs and a service on both of them.
pub fn configuration(options: &Options, backends: &[&Backend]) -> String {
    let mut text = format!(
        "[bgp]\nlocal_as = {}\nrouter_id = \"10.84.14.11\"\nconnect_retry = \"1s\"\n{}",
        options.local_as, options.bgp
    );
    for (number, session) in options.sessions.iter().enumerate() {
        let Session { own, peer, interface, .. } = session;
        let families: Vec<_> = session.families().collect();
        let _ = write!(
            text,
            "[[bgp.peer]]\nname = \"router-{number}\"\nremote_as = {}\nfamilies = {families:?}\n{}",
            options.manner.local_as, options.peer
        );
        text += &match interface {
            None => format!("address = \"{own}\"\nlocal_address = \"{peer}\"\n"),
            Some(_) => format!("address = \"{own}%to-router\"\n"),
        };
    }
    for vip in [VIP4, VIP6] {
        text += &format!("[[vip]]\naddress = \"{vip}\"\n{}", options.vip);
    }
    text + &service_on_vips("web", &[ip(VIP4), ip(VIP6)], PORT, &(quick_check() + &options.service), backends)
}
