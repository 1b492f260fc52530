//! FRR: zebra for the kernel's routes and bgpd, as user `frr`; JSON through vtysh.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Route, Router, Sessions};
use crate::common::SOON;
use crate::common::eventually::eventually;
use crate::common::process::Process;
use crate::netns::Namespace;

#[derive(Debug)]
pub struct Frr {
    // bgpd goes first: it takes its routes back from zebra.
    _bgpd: Process,
    _zebra: Process,
    dir: TempDir,
}

impl Router for Frr {
    const PACKAGE: (&str, &str) = ("frr", "/usr/lib/frr/bgpd");

    fn start(namespace: &Namespace, sessions: &Sessions) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Nexthop groups lose a hop in the kernel after a carrier flap.
        let files = [("zebra", "no zebra nexthop kernel enable\n".into()), ("bgpd", configuration(sessions))];
        for (name, text) in files {
            std::fs::write(dir.path().join(format!("{name}.conf")), text).expect("the configuration file");
        }
        let chown = Command::new("chown").args(["-R", "frr:frr"]).arg(dir.path()).status();
        assert!(chown.is_ok_and(|status| status.success()), "the directory belongs to frr");
        let zebra = daemon(namespace, "zebra", dir.path());
        eventually("zebra listens", SOON, || dir.path().join("zserv.api").exists());
        let bgpd = daemon(namespace, "bgpd", dir.path());
        Frr { _bgpd: bgpd, _zebra: zebra, dir }
    }

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
        let global = hops.iter().find(|hop| hop["scope"] != "link-local")?;
        let members = path["aspath"]["string"].as_str()?;
        Some(Route {
            next_hop: global["ip"].as_str()?.parse().ok()?,
            med: path["metric"].as_u64().and_then(|med| med.try_into().ok()),
            as_path: members.split(' ').filter_map(|asn| asn.parse().ok()).collect(),
            communities: communities(&path["community"]),
            large_communities: communities(&path["largeCommunity"]),
        })
    }
}

impl Frr {
    /// The JSON reply to a command; `None` while bgpd does not answer yet, or has nothing.
    fn ask(&self, command: &str) -> Option<Value> {
        let out =
            Command::new("vtysh").arg("--vty_socket").arg(self.dir.path()).args(["-c", command]).output();
        serde_json::from_slice(&out.expect("vtysh").stdout).ok()
    }
}

fn communities(value: &Value) -> BTreeSet<String> {
    value["string"].as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn daemon(namespace: &Namespace, name: &str, dir: &Path) -> Process {
    let dir = dir.to_str().expect("a path in UTF-8");
    let program = format!("/usr/lib/frr/{name}");
    let (file, pid, zserv) =
        (format!("{dir}/{name}.conf"), format!("{dir}/{name}.pid"), format!("{dir}/zserv.api"));
    let argv = [&program, "--log", "stdout", "--vty_socket", dir, "-z", &zserv, "-f", &file, "-i", &pid];
    let user = ["-P", "0", "-u", "frr", "-g", "frr"];
    Process::start(name, &[&namespace.prefix()[..], &argv, &user].concat())
}

fn configuration(sessions: &Sessions) -> String {
    let Sessions { local_as, remote_as, password, ttl_security, .. } = sessions;
    let mut text = format!(
        "router bgp {local_as}\n bgp router-id 10.99.2.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n timers bgp 3 9\n"
    );
    for (_, peer) in &sessions.addresses {
        let mut lines = vec![format!("remote-as {remote_as}"), "timers connect 1".into()];
        lines.extend(password.map(|password| format!("password {password}")));
        lines.extend(ttl_security.then(|| "ttl-security hops 1".into()));
        for line in lines {
            let _ = writeln!(text, " neighbor {peer} {line}");
        }
    }
    for (_, peer) in &sessions.addresses {
        let family = if peer.is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = write!(
            text,
            " address-family {family} unicast\n  neighbor {peer} activate\n exit-address-family\n"
        );
    }
    text
}
