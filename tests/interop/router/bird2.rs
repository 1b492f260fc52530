//! BIRD 2: one process, a text protocol on a Unix socket.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{Route, Router, Sessions};
use crate::common::process::Process;
use crate::netns::Namespace;

#[derive(Debug)]
pub struct Bird2 {
    _process: Process,
    dir: TempDir,
}

impl Router for Bird2 {
    const PACKAGE: (&str, &str) = ("bird2", "/usr/sbin/bird");

    fn start(namespace: &Namespace, sessions: &Sessions) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("a path in UTF-8").to_owned();
        let (file, socket, pid) = (path("bird.conf"), path("bird.ctl"), path("bird.pid"));
        std::fs::write(&file, configuration(sessions)).expect("the configuration file");
        let argv = ["bird", "-f", "-c", &file, "-s", &socket, "-P", &pid];
        let process = Process::start("bird", &[&namespace.prefix()[..], &argv].concat());
        Bird2 { _process: process, dir }
    }

    fn is_established(&self, peer: IpAddr) -> bool {
        self.ask(&format!("show protocols {}", protocol(peer))).contains("Established")
    }

    fn route(&self, prefix: &str) -> Option<Route> {
        let text = self.ask(&format!("show route for {prefix} primary all"));
        let attribute = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("BGP.{name}: ")));
            line.map(str::to_owned)
        };
        // With a link-local next hop beside it, the global one comes first.
        let next_hop = attribute("next_hop")?.split_whitespace().next()?.parse().ok()?;
        let as_path = attribute("as_path")?.split_whitespace().filter_map(|asn| asn.parse().ok()).collect();
        Some(Route {
            next_hop,
            med: attribute("med").and_then(|med| med.parse().ok()),
            as_path,
            communities: communities(attribute("community")),
            large_communities: communities(attribute("large_community")),
        })
    }
}

impl Bird2 {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("bird.ctl")
    }

    /// The reply to a command; empty while BIRD does not answer yet.
    fn ask(&self, command: &str) -> String {
        let out = Command::new("birdc").arg("-s").arg(self.socket()).args(command.split(' ')).output();
        String::from_utf8_lossy(&out.expect("birdc").stdout).into_owned()
    }
}

/// `(64512,100) (64512,200)` as `64512:100` and so on.
fn communities(text: Option<String>) -> BTreeSet<String> {
    let text = text.unwrap_or_default().replace(' ', "");
    let all = text.split(['(', ')']).filter(|part| !part.is_empty());
    all.map(|part| part.replace(',', ":")).collect()
}

fn protocol(peer: IpAddr) -> &'static str {
    if peer.is_ipv4() { "lb4" } else { "lb6" }
}

fn configuration(sessions: &Sessions) -> String {
    let mut text = String::from(
        "router id 10.99.2.1;\nlog stderr all;\nprotocol device { scan time 1; }\n\
         protocol kernel { ipv4 { import none; export all; }; merge paths on; }\n\
         protocol kernel { ipv6 { import none; export all; }; merge paths on; }\n",
    );
    let Sessions { local_as, remote_as, password, ttl_security, .. } = sessions;
    for (own, peer) in &sessions.addresses {
        let family = if peer.is_ipv4() { "ipv4" } else { "ipv6" };
        let mut options = String::new();
        if let Some(password) = password {
            let _ = write!(options, "password \"{password}\"; ");
        }
        if *ttl_security {
            options.push_str("ttl security on; ");
        }
        let _ = writeln!(
            text,
            "protocol bgp {} {{ local {own} as {local_as}; neighbor {peer} as {remote_as}; {options}\
             connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 9; \
             {family} {{ import all; export none; }}; }}",
            protocol(*peer)
        );
    }
    text
}
