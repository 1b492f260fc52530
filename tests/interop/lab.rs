//! The network of the interop tests: client — router — load balancer, a namespace each, IPv4 and IPv6.
//!
//! ```text
//!  client 10.99.1.2 ── 10.99.1.1 router 10.99.2.1 ── 10.99.2.2 lb (contrail-lb, the VIPs on lo, the backends)
//!        fd99:1::2       fd99:1::1     fd99:2::1       fd99:2::2
//! ```
//! Only BGP tells the router where the VIPs are.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use std::time::Duration;

use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::{LOCAL_AS, ROUTER_AS, bgp, quick_check, service_on_vips};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http::backend_of;
use crate::common::process::Process;
use crate::netns::Namespace;
use crate::router::{Route, Router, Sessions};

pub const VIP4: &str = "10.84.13.100";
pub const VIP6: &str = "fd84::100";
pub const LB4: &str = "10.99.2.2";
pub const LB6: &str = "fd99:2::2";
pub const ROUTER4: &str = "10.99.2.1";
const ROUTER6: &str = "fd99:2::1";
pub const PORT: u16 = 8082;

/// Dropped from top to bottom: the daemon before its network.
pub struct Lab<R> {
    pub daemon: Daemon,
    /// `None` only while it is restarted.
    router: Option<R>,
    pub backends: [Backend; 2],
    /// `ip monitor` of routes in the router and of addresses in the load balancer's namespace.
    pub router_events: Process,
    pub lb_events: Process,
    pub client_ns: Namespace,
    pub lb_ns: Namespace,
    pub router_ns: Namespace,
}

/// What differs from test to test.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further keys of `[bgp]`.
    pub bgp: String,
    /// Further keys of each `[[bgp.peer]]`.
    pub peer: String,
    /// Further keys of each `[[vip]]`.
    pub vip: String,
    /// Further keys of the service.
    pub service: String,
    /// What the router is told beyond addresses and AS numbers.
    pub router: Sessions,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Whether tests against this router can run here; if not, one line says why.
pub fn can_run<R: Router>() -> bool {
    static SAID: Once = Once::new();
    let (package, file) = R::PACKAGE;
    let why = if !rustix::process::geteuid().is_root() {
        "interop tests skipped: network namespaces need root".to_owned()
    } else if !R::is_installed() {
        format!("interop tests skipped: package {package} is not installed ({file} is not there)")
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
        ("to-lb", &["10.99.2.1/24", "fd99:2::1/64"]),
        &lb,
        ("to-router", &["10.99.2.2/24", "fd99:2::2/64"]),
    );
    for (namespace, gateways) in [(&client, ["10.99.1.1", "fd99:1::1"]), (&lb, [ROUTER4, ROUTER6])] {
        for gateway in gateways {
            let family = if gateway.contains(':') { "-6" } else { "-4" };
            namespace.run(&["ip", family, "route", "add", "default", "via", gateway]);
        }
    }
    (client, router, lb)
}

/// The router's side of the sessions.
pub fn sessions(options: &Sessions) -> Sessions {
    Sessions {
        addresses: vec![(ip(ROUTER4), ip(LB4)), (ip(ROUTER6), ip(LB6))],
        local_as: ROUTER_AS,
        remote_as: LOCAL_AS,
        ..options.clone()
    }
}

impl<R: Router> Lab<R> {
    /// Everything started; waits until both VIPs are in the router's kernel.
    #[track_caller]
    pub fn announced(options: &Options) -> Self {
        let lab = Lab::start(options);
        for vip in [VIP4, VIP6] {
            lab.wait_fib(vip);
        }
        lab
    }

    #[track_caller]
    pub fn start(options: &Options) -> Self {
        let (client_ns, router_ns, lb_ns) = network();
        let monitor = |ns: &Namespace, what| {
            Process::start("ip monitor", &[&ns.prefix()[..], &["ip", "monitor", what]].concat())
        };
        let (router_events, lb_events) = (monitor(&router_ns, "route"), monitor(&lb_ns, "address"));
        let backend =
            |name: &str, port| lb_ns.within(|| Backend::http(name, SocketAddr::new(ip("127.0.0.1"), port)));
        let backends = [backend("a", 9100), backend("b", 9101)];
        let router = Some(R::start(&router_ns, &sessions(&options.router)));
        let admin = SocketAddr::new(ip("127.0.0.1"), 5937);
        let daemon = Daemon::spawn(admin, "", &configuration(options, &backends.each_ref()), &lb_ns.prefix());
        Lab { daemon, router, backends, router_events, lb_events, client_ns, lb_ns, router_ns }
    }

    /// The daemon's configuration.
    pub fn config(&self, options: &Options) -> String {
        configuration(options, &self.backends.each_ref())
    }

    /// Starts the daemon again with the same configuration, after the present one has ended.
    pub fn restart(&mut self, options: &Options) {
        let admin = SocketAddr::new(ip("127.0.0.1"), 5937);
        let config = configuration(options, &self.backends.each_ref());
        self.daemon = Daemon::spawn(admin, "", &config, &self.lb_ns.prefix());
    }

    /// Ends the router as a crash would, and starts it again.
    pub fn restart_router(&mut self, options: &Sessions) {
        self.router = None;
        self.router = Some(R::start(&self.router_ns, &sessions(options)));
    }

    fn router(&self) -> &R {
        self.router.as_ref().expect("a router")
    }

    /// Waits for the VIP in the router's BGP table.
    #[track_caller]
    pub fn wait_rib(&self, vip: &str) -> Route {
        eventually(&format!("{vip} in the router's BGP table"), SOON, || self.router().route(&host(vip)))
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

    /// Which backend answers a client beyond the router.
    pub fn fetch(&self, vip: &str) -> std::io::Result<String> {
        self.client_ns.within(|| backend_of(SocketAddr::new(ip(vip), PORT)))
    }

    /// Which backend answers on the load balancer's own host.
    pub fn fetch_locally(&self, vip: &str) -> std::io::Result<String> {
        self.lb_ns.within(|| backend_of(SocketAddr::new(ip(vip), PORT)))
    }

    #[track_caller]
    pub fn wait_established(&self) {
        for peer in [LB4, LB6] {
            eventually(&format!("session with {peer}"), SOON, || self.router().is_established(ip(peer)));
        }
    }
}

fn host(vip: &str) -> String {
    format!("{vip}/{}", if vip.contains(':') { 128 } else { 32 })
}

fn configuration(options: &Options, backends: &[&Backend]) -> String {
    let mut text = bgp(&options.bgp);
    for (name, address, local, family) in
        [("router-4", ROUTER4, LB4, "ipv4"), ("router-6", ROUTER6, LB6, "ipv6")]
    {
        text += &format!(
            "[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nlocal_address = \"{local}\"\n\
             remote_as = {ROUTER_AS}\nfamilies = [\"{family}\"]\n{}",
            options.peer
        );
    }
    for vip in [VIP4, VIP6] {
        text += &format!("[[vip]]\naddress = \"{vip}\"\n{}", options.vip);
    }
    text + &service_on_vips("web", &[ip(VIP4), ip(VIP6)], PORT, &(quick_check() + &options.service), backends)
}
