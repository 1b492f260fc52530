//! BIRD 1.6: a process per family, each with a table, a control socket and sessions of its own.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::birdc::{Bird, options, protocol};
use super::{Manner, ROUTE4, ROUTE6, Route, Router, Session};
use crate::common::process::Process;
use crate::netns::Namespace;

/// Where `.ci/setup routers` unpacks it: as a package it cannot be beside BIRD 2.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/routers/bird1/usr/sbin")
}

#[derive(Debug)]
pub struct Bird1 {
    ipv4: Bird,
    ipv6: Bird,
}

impl Bird1 {
    pub fn start(namespace: &Namespace, sessions: &[Session], manner: &Manner) -> Self {
        let start = |program: &str, client: &str, family| {
            let configuration = configuration(family, sessions, manner);
            Bird::start(namespace, &directory().join(program), directory().join(client), &configuration)
        };
        Bird1 { ipv4: start("bird", "birdc", "ipv4"), ipv6: start("bird6", "birdc6", "ipv6") }
    }

    fn of(&self, session: &Session) -> &Bird {
        if session.ipv4 { &self.ipv4 } else { &self.ipv6 }
    }
}

impl Router for Bird1 {
    fn is_established(&self, peer: IpAddr) -> bool {
        if peer.is_ipv4() { self.ipv4.is_established(peer) } else { self.ipv6.is_established(peer) }
    }

    fn route(&self, prefix: &str) -> Option<Route> {
        if prefix.contains(':') { self.ipv6.route(prefix) } else { self.ipv4.route(prefix) }
    }

    fn refresh(&self, session: &Session) {
        self.of(session).order("reload in", session, "");
    }

    fn clear(&self, session: &Session) {
        self.of(session).order("restart", session, "");
    }

    fn shut_down(&self, session: &Session, text: &str) {
        self.of(session).order("disable", session, &format!("\"{text}\""));
    }

    fn reconfigure(&self, sessions: &[Session], manner: &Manner) {
        self.ipv4.reconfigure(&configuration("ipv4", sessions, manner));
        self.ipv6.reconfigure(&configuration("ipv6", sessions, manner));
    }

    fn speakers(&self) -> Vec<&Process> {
        vec![&self.ipv4.process, &self.ipv6.process]
    }
}

fn configuration(family: &str, sessions: &[Session], manner: &Manner) -> String {
    let route = if family == "ipv4" { ROUTE4 } else { ROUTE6 };
    let mut text = format!(
        "router id 10.99.2.1;\nlog stderr all;\nprotocol device {{ scan time 1; }}\n\
         protocol kernel {{ import none; export where source = RTS_BGP; merge paths on; }}\n\
         protocol static {{ route {route} blackhole; }}\n",
    );
    let export = if manner.announces { "where source = RTS_STATIC" } else { "none" };
    for session in sessions.iter().filter(|session| session.families().any(|of| of == family)) {
        let (name, options) = (protocol(session.peer), options(session, manner));
        let _ = writeln!(text, "protocol bgp {name} {{ {options} import all; export {export}; }}");
    }
    text
}
