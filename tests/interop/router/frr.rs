//! FRR: zebra for the kernel's routes and bgpd, as user `frr`; JSON through vtysh.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Manner, ROUTE4, ROUTE6, Route, Router, Session, bits_per_second, path};
use crate::common::SOON;
use crate::common::eventually::eventually;
use crate::common::process::Process;
use crate::netns::Namespace;

/// Where the Debian package has its daemons.
pub const DIRECTORY: &str = "/usr/lib/frr";

#[derive(Debug)]
pub struct Frr {
    // bgpd goes first: it takes its routes back from zebra.
    bgpd: Process,
    bfdd: Option<Process>,
    _zebra: Process,
    local_as: u32,
    dir: TempDir,
}

impl Frr {
    pub fn start(namespace: &Namespace, sessions: &[Session], manner: &Manner) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bfdd = bfd_configuration(manner);
        // Nexthop groups lose a hop in the kernel after a carrier flap.
        let zebra = "no zebra nexthop kernel enable\n".to_owned();
        for (name, text) in [("zebra", zebra), ("bfdd", bfdd), ("bgpd", configuration(sessions, manner))] {
            std::fs::write(dir.path().join(format!("{name}.conf")), text).expect("the configuration file");
        }
        let chown = Command::new("chown").args(["-R", "frr:frr"]).arg(dir.path()).status();
        assert!(chown.is_ok_and(|status| status.success()), "the directory belongs to frr");
        let zebra = daemon(namespace, "zebra", dir.path());
        eventually("zebra listens", SOON, || dir.path().join("zserv.api").exists());
        let bfdd = manner.bfd.map(|_| daemon(namespace, "bfdd", dir.path()));
        let bgpd = daemon(namespace, "bgpd", dir.path());
        let router = Frr { bgpd, bfdd, _zebra: zebra, local_as: manner.local_as, dir };
        // Until it knows its interfaces it resets sessions; nobody has dialled it yet.
        eventually("bgpd has met zebra", SOON, || {
            router.vtysh(&["show zebra client summary"]).lines().any(|line| line.starts_with("bgp "))
        });
        router
    }

    /// The reply to commands, one after the other.
    fn vtysh(&self, commands: &[&str]) -> String {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(self.dir.path());
        vtysh.args(commands.iter().flat_map(|command| ["-c", command]));
        String::from_utf8_lossy(&vtysh.output().expect("vtysh").stdout).into_owned()
    }

    /// The JSON reply to a command; `None` while bgpd does not answer yet, or has nothing.
    fn ask(&self, command: &str) -> Option<Value> {
        serde_json::from_str(&self.vtysh(&[command])).ok()
    }
}

impl Router for Frr {
    fn is_established(&self, peer: IpAddr) -> bool {
        let peer = peer.to_string();
        let neighbor = self.ask(&format!("show bgp neighbors {peer} json"));
        neighbor.is_some_and(|n| n[&peer]["bgpState"] == "Established")
    }

    fn route(&self, prefix: &str) -> Option<Route> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let table = self.ask(&format!("show bgp {family} unicast {prefix} json"))?;
        let path = table["paths"].as_array()?.iter().find(|path| path["bestpath"]["overall"] == true)?;
        let hops = path["nexthops"].as_array()?;
        let global = hops.iter().find(|hop| hop["scope"] != "link-local").or(hops.first())?;
        let members = path["aspath"]["string"].as_str()?;
        let number = |key: &str| path[key].as_u64().and_then(|number| number.try_into().ok());
        Some(Route {
            next_hop: global["ip"].as_str()?.parse().ok()?,
            med: number("metric"),
            local_pref: number("locPrf"),
            as_path: members.split(' ').filter_map(|asn| asn.parse().ok()).collect(),
            communities: communities(&path["community"]),
            large_communities: communities(&path["largeCommunity"]),
            link_bandwidth: link_bandwidth(&path["extendedCommunity"]),
        })
    }

    fn refresh(&self, session: &Session) {
        self.vtysh(&[&format!("clear bgp {} soft in", session.peer)]);
    }

    fn clear(&self, session: &Session) {
        self.vtysh(&[&format!("clear bgp {}", session.peer)]);
    }

    fn shut_down(&self, session: &Session, text: &str) {
        let (bgp, peer) = (format!("router bgp {}", self.local_as), session.peer);
        self.vtysh(&["configure terminal", &bgp, &format!("neighbor {peer} shutdown message {text}")]);
    }

    fn reconfigure(&self, sessions: &[Session], manner: &Manner) {
        let file = self.dir.path().join("again.conf");
        std::fs::write(&file, configuration(sessions, manner)).expect("the configuration file");
        let mut vtysh = Command::new("vtysh");
        let status = vtysh.arg("--vty_socket").arg(self.dir.path()).arg("-f").arg(&file).status();
        assert!(status.is_ok_and(|status| status.success()), "vtysh takes the configuration");
    }

    fn speakers(&self) -> Vec<&Process> {
        vec![&self.bgpd]
    }

    fn bfd_speakers(&self) -> Vec<&Process> {
        self.bfdd.iter().collect()
    }

    fn was_told_admin_down(&self, peer: IpAddr) -> bool {
        let peers = self.ask("show bfd peers json").unwrap_or_default();
        let mut all = peers.as_array().into_iter().flatten();
        let found = all.find(|found| found["peer"] == peer.to_string());
        found.is_some_and(|found| found["remote-diagnostic"] == "administratively down")
    }
}

fn communities(value: &Value) -> BTreeSet<String> {
    value["string"].as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// `LB:64512:125000000 (1.000 Gbps)`: AS and octets per second.
fn link_bandwidth(value: &Value) -> Option<f64> {
    let octets = value["string"].as_str()?.strip_prefix("LB:")?.split([':', ' ']).nth(1)?;
    octets.parse().ok().map(bits_per_second)
}

fn daemon(namespace: &Namespace, name: &str, dir: &Path) -> Process {
    let program = format!("{DIRECTORY}/{name}");
    let (file, pid) = (path(dir, &format!("{name}.conf")), path(dir, &format!("{name}.pid")));
    let (vty, zserv) = (path(dir, ""), path(dir, "zserv.api"));
    let argv = [&program, "--log", "stdout", "--vty_socket", &vty, "-z", &zserv, "-f", &file, "-i", &pid];
    let user = ["-P", "0", "-u", "frr", "-g", "frr"];
    Process::start(name, &[&namespace.prefix()[..], &argv, &user].concat())
}

fn bfd_configuration(manner: &Manner) -> String {
    let Some(interval) = manner.bfd else { return String::new() };
    format!(
        "bfd\n profile lab\n  detect-multiplier 3\n  receive-interval {interval}\n  \
         transmit-interval {interval}\n exit\nexit\n"
    )
}

fn configuration(sessions: &[Session], manner: &Manner) -> String {
    let Manner { local_as, hold_time, .. } = manner;
    let keepalive = hold_time / 3;
    let mut text = format!(
        "router bgp {local_as}\n bgp router-id 10.99.2.1\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n no bgp network import-check\n timers bgp {keepalive} {hold_time}\n"
    );
    for session in sessions {
        for line in neighbor(session, manner) {
            let _ = writeln!(text, " neighbor {} {line}", session.peer);
        }
    }
    for family in ["ipv4", "ipv6"] {
        let _ = writeln!(text, " address-family {family} unicast\n  maximum-paths 2");
        if manner.announces {
            let _ = writeln!(text, "  network {}", if family == "ipv4" { ROUTE4 } else { ROUTE6 });
        }
        for session in sessions.iter().filter(|session| session.families().any(|of| of == family)) {
            let _ = writeln!(text, "  neighbor {} activate", session.peer);
        }
        text += " exit-address-family\n";
    }
    text
}

/// What there is to say of a neighbour outside the address families.
fn neighbor(session: &Session, manner: &Manner) -> Vec<String> {
    let Manner { remote_as, hops, .. } = manner;
    let mut lines = vec![format!("remote-as {remote_as}"), "timers connect 1".into()];
    lines.extend(session.interface.map(|name| format!("interface {name}")));
    lines.extend(manner.bfd.map(|_| "bfd profile lab".into()));
    lines.extend(manner.password.map(|password| format!("password {password}")));
    if manner.ttl_security {
        lines.push(format!("ttl-security hops {hops}"));
    } else if *hops > 1 {
        lines.push(format!("ebgp-multihop {hops}"));
    }
    for (on, line) in [
        (manner.passive, "passive"),
        (!manner.four_octet_as, "dont-capability-negotiate"),
        (manner.extended_next_hop, "capability extended-nexthop"),
    ] {
        lines.extend(on.then(|| line.into()));
    }
    lines
}
