//! GoBGP: a BGP table without a kernel; JSON over gRPC, which listens on a Unix socket.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Manner, ROUTE4, ROUTE6, Route, Router, Session, bits_per_second, path};
use crate::common::SOON;
use crate::common::eventually::eventually;
use crate::common::process::Process;
use crate::netns::Namespace;

/// `SessionState` of its API.
const ESTABLISHED: u64 = 6;

#[derive(Debug)]
pub struct Gobgp {
    process: Process,
    dir: TempDir,
}

impl Gobgp {
    pub fn start(namespace: &Namespace, sessions: &[Session], manner: &Manner) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, api) =
            (path(dir.path(), "gobgp.toml"), format!("unix://{}", path(dir.path(), "api.sock")));
        std::fs::write(&file, configuration(sessions, manner)).expect("the configuration file");
        let argv = ["gobgpd", "-f", &file, "--api-hosts", &api, "--pprof-disable"];
        let process = Process::start("gobgpd", &[&namespace.prefix()[..], &argv].concat());
        let router = Gobgp { process, dir };
        if manner.announces {
            for (route, family) in [(ROUTE4, "ipv4"), (ROUTE6, "ipv6")] {
                eventually("GoBGP takes a route", SOON, || {
                    let (ok, _, errors) = router.gobgp(&["global", "rib", "add", route, "-a", family]);
                    if ok { Ok(()) } else { Err(errors) }
                });
            }
        }
        router
    }

    /// Whether a command succeeded, its output and its errors.
    fn gobgp(&self, arguments: &[&str]) -> (bool, String, String) {
        let api = format!("unix://{}", path(self.dir.path(), "api.sock"));
        let out = Command::new("gobgp").args(["--target", &api, "-j"]).args(arguments).output();
        let out = out.expect("gobgp");
        let [stdout, stderr] =
            [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (out.status.success(), stdout, stderr)
    }

    /// The JSON reply to a command; `None` while gobgpd does not answer yet, or has nothing.
    fn ask(&self, arguments: &[&str]) -> Option<Value> {
        serde_json::from_str(&self.gobgp(arguments).1).ok()
    }

    #[track_caller]
    fn order(&self, session: &Session, order: &[&str]) {
        let peer = neighbor_address(session);
        let (ok, _, errors) = self.gobgp(&[&["neighbor", &peer], order].concat());
        assert!(ok, "{errors}");
    }
}

impl Router for Gobgp {
    fn is_established(&self, peer: IpAddr) -> bool {
        let neighbors = self.ask(&["neighbor"]);
        let of_peer = |neighbor: &&Value| {
            let address = neighbor["state"]["neighbor_address"].as_str().unwrap_or_default();
            address.split('%').next() == Some(&peer.to_string())
        };
        let neighbor = neighbors.as_ref().and_then(|all| all.as_array()?.iter().find(of_peer));
        neighbor.is_some_and(|n| n["state"]["session_state"] == ESTABLISHED)
    }

    fn route(&self, prefix: &str) -> Option<Route> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let table = self.ask(&["global", "rib", prefix, "-a", family])?;
        let path = table[prefix].as_array()?.iter().find(|path| path["best"] == true)?;
        let attributes = path["attrs"].as_array()?;
        let attribute = |code: u8| attributes.iter().find(|attribute| attribute["type"] == code);
        let number = |code, key: &str| attribute(code)?[key].as_u64()?.try_into().ok();
        // NEXT_HOP, or what MP_REACH_NLRI says.
        let next_hop = attribute(3).or_else(|| attribute(14))?["nexthop"].as_str()?;
        let segments = attribute(2).and_then(|path| path["as_paths"].as_array());
        let members =
            segments.into_iter().flatten().filter_map(|segment| segment["asns"].as_array()).flatten();
        Some(Route {
            next_hop: next_hop.parse().ok()?,
            med: number(4, "metric"),
            local_pref: number(5, "value"),
            as_path: members.filter_map(|asn| asn.as_u64()?.try_into().ok()).collect(),
            communities: attribute(8).map(communities).unwrap_or_default(),
            large_communities: attribute(32).map(large_communities).unwrap_or_default(),
            link_bandwidth: attribute(16).and_then(link_bandwidth),
        })
    }

    fn refresh(&self, session: &Session) {
        self.order(session, &["softresetin"]);
    }

    fn clear(&self, session: &Session) {
        // After `reset` it stays away for 30 s, whatever it is configured to do.
        self.order(session, &["disable"]);
        self.order(session, &["enable"]);
    }

    fn shut_down(&self, session: &Session, text: &str) {
        self.order(session, &["shutdown", "--reason", text]);
    }

    fn reconfigure(&self, sessions: &[Session], manner: &Manner) {
        let file = self.dir.path().join("gobgp.toml");
        std::fs::write(file, configuration(sessions, manner)).expect("the configuration file");
        self.process.signal(Signal::HUP);
    }

    fn speakers(&self) -> Vec<&Process> {
        vec![&self.process]
    }
}

fn communities(attribute: &Value) -> BTreeSet<String> {
    let values = attribute["communities"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    values.map(|value| format!("{}:{}", value >> 16, value & 0xFFFF)).collect()
}

fn large_communities(attribute: &Value) -> BTreeSet<String> {
    let part = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
    let parts = ["ASN", "LocalData1", "LocalData2"];
    let values = attribute["value"].as_array().into_iter().flatten();
    values.map(|value| parts.map(|key| part(value, key).to_string()).join(":")).collect()
}

fn link_bandwidth(attribute: &Value) -> Option<f64> {
    attribute["value"].as_array()?.iter().find_map(|value| value["bandwidth"].as_f64()).map(bits_per_second)
}

fn neighbor_address(session: &Session) -> String {
    let zone = session.interface.map(|name| format!("%{name}")).unwrap_or_default();
    format!("{}{zone}", session.peer)
}

fn configuration(sessions: &[Session], manner: &Manner) -> String {
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"10.99.2.1\"\nlocal-address-list = [\"0.0.0.0\", \"::\"]\n",
        manner.local_as
    );
    for session in sessions {
        let _ = writeln!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}",
            neighbor_address(session),
            manner.remote_as
        );
        if let Some(password) = manner.password {
            let _ = writeln!(text, "auth-password = \"{password}\"");
        }
        // Otherwise it takes any link-local address of the interface for its own end.
        let local = session
            .interface
            .map(|name| format!("local-address = \"{}%{name}\"\n", session.own))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "[neighbors.transport.config]\npassive-mode = {}\n{local}[neighbors.timers.config]\nconnect-retry = 1\n\
             hold-time = {}\nkeepalive-interval = {}",
            manner.passive,
            manner.hold_time,
            manner.hold_time / 3
        );
        if manner.ttl_security {
            let least = 256 - u16::from(manner.hops);
            let _ = writeln!(text, "[neighbors.ttl-security.config]\nenabled = true\nttl-min = {least}");
        } else if manner.hops > 1 {
            let hops = manner.hops;
            let _ = writeln!(text, "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {hops}");
        }
        for family in session.families() {
            let _ = writeln!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\""
            );
        }
    }
    text
}
