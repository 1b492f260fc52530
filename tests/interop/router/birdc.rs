//! What BIRD 1.6 and BIRD 2 share: the text protocol on the control socket, and the table as `show route all` prints it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Manner, Route, Session, bits_per_second, path};
use crate::common::process::Process;
use crate::netns::Namespace;

/// A running BIRD of either version.
#[derive(Debug)]
pub struct Bird {
    pub process: Process,
    client: PathBuf,
    dir: TempDir,
}

impl Bird {
    pub fn start(namespace: &Namespace, program: &Path, client: PathBuf, configuration: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("bird.conf"), configuration).expect("the configuration file");
        let program = program.to_str().expect("a path in UTF-8");
        let [file, socket, pid] = ["bird.conf", "bird.ctl", "bird.pid"].map(|name| path(dir.path(), name));
        let argv = [program, "-f", "-c", &file, "-s", &socket, "-P", &pid];
        let process = Process::start("bird", &[&namespace.prefix()[..], &argv].concat());
        Bird { process, client, dir }
    }

    /// The reply to a command; empty while BIRD does not answer yet.
    pub fn ask(&self, command: &str) -> String {
        let mut client = Command::new(&self.client);
        let out = client.arg("-s").arg(self.dir.path().join("bird.ctl")).args(command.split(' ')).output();
        String::from_utf8_lossy(&out.expect("birdc").stdout).into_owned()
    }

    pub fn reconfigure(&self, configuration: &str) {
        std::fs::write(self.dir.path().join("bird.conf"), configuration).expect("the configuration file");
        let reply = self.ask("configure");
        assert!(reply.contains("Reconfigur"), "{reply}");
    }

    pub fn is_established(&self, peer: IpAddr) -> bool {
        self.ask(&format!("show protocols {}", protocol(peer))).contains("Established")
    }

    /// `reload in`, `restart`, or `disable` with a text.
    pub fn order(&self, verb: &str, session: &Session, text: &str) {
        let reply = self.ask(format!("{verb} {} {text}", protocol(session.peer)).trim_end());
        assert!(reply.contains(&protocol(session.peer)), "{reply}");
    }

    pub fn route(&self, prefix: &str) -> Option<Route> {
        let text = self.ask(&format!("show route for {prefix} primary all"));
        let attribute = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("BGP.{name}: ")));
            line.map(str::to_owned)
        };
        // With a link-local next hop beside it, the global one comes first; `::` if there is none.
        let next_hops = attribute("next_hop")?;
        let next_hop = next_hops.split_whitespace().find(|hop| *hop != "::")?.parse().ok()?;
        // Inside the AS the path is empty.
        let as_path = attribute("as_path").unwrap_or_default();
        Some(Route {
            next_hop,
            med: attribute("med").and_then(|med| med.parse().ok()),
            local_pref: attribute("local_pref").and_then(|preference| preference.parse().ok()),
            as_path: as_path.split_whitespace().filter_map(|asn| asn.parse().ok()).collect(),
            communities: communities(attribute("community")),
            large_communities: communities(attribute("large_community")),
            link_bandwidth: attribute("ext_community").as_deref().and_then(link_bandwidth),
        })
    }
}

/// `(64512,100) (64512,200)` as `64512:100` and so on.
fn communities(text: Option<String>) -> BTreeSet<String> {
    let text = text.unwrap_or_default().replace(' ', "");
    let all = text.split(['(', ')']).filter(|part| !part.is_empty());
    all.map(|part| part.replace(',', ":")).collect()
}

/// `(unknown 0x4004, 64512, 1318388473)`: BIRD does not interpret it.
fn link_bandwidth(text: &str) -> Option<f64> {
    let (asn, value) = text.strip_prefix("(unknown 0x4004, ")?.strip_suffix(')')?.split_once(", ")?;
    asn.parse::<u16>().ok()?;
    value.parse().ok().map(|octets| bits_per_second(f32::from_bits(octets).into()))
}

/// One protocol per session, named after the load balancer's address.
pub fn protocol(peer: IpAddr) -> String {
    format!("lb_{}", peer.to_string().replace(['.', ':'], "_"))
}

/// The options of a session that both versions write alike.
pub fn options(session: &Session, manner: &Manner) -> String {
    let Manner { local_as, remote_as, hold_time, hops, .. } = manner;
    let Session { own, peer, .. } = session;
    let zone = session.interface.map(|name| format!("%'{name}'")).unwrap_or_default();
    let keepalive = hold_time / 3;
    let mut text = format!(
        "local {own} as {local_as}; neighbor {peer}{zone} as {remote_as}; hold time {hold_time}; \
         keepalive time {keepalive}; connect delay time 1; connect retry time 1; error wait time 1, 2; "
    );
    if let Some(password) = manner.password {
        text += &format!("password \"{password}\"; ");
    }
    for (on, option) in [
        (manner.ttl_security, "ttl security on; "),
        (manner.passive, "passive on; "),
        (!manner.four_octet_as, "enable as4 off; "),
    ] {
        text += if on { option } else { "" };
    }
    if *hops > 1 {
        text += &format!("multihop {hops}; ");
    } else {
        // Not so by itself inside the AS.
        text += "direct; ";
    }
    text
}
