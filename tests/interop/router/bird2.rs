//! BIRD 2: one process for both families.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use super::birdc::{Bird, options, protocol};
use super::{Manner, ROUTE4, ROUTE6, Route, Router, Session};
use crate::common::process::Process;
use crate::netns::Namespace;

#[derive(Debug)]
pub struct Bird2(Bird);

impl Bird2 {
    pub fn start(namespace: &Namespace, sessions: &[Session], manner: &Manner) -> Self {
        let configuration = configuration(sessions, manner);
        Bird2(Bird::start(namespace, Path::new("/usr/sbin/bird"), "/usr/sbin/birdc".into(), &configuration))
    }
}

impl Router for Bird2 {
    fn is_established(&self, peer: IpAddr) -> bool {
        self.0.is_established(peer)
    }

    fn route(&self, prefix: &str) -> Option<Route> {
        self.0.route(prefix)
    }

    fn refresh(&self, session: &Session) {
        self.0.order("reload in", session, "");
    }

    fn clear(&self, session: &Session) {
        self.0.order("restart", session, "");
    }

    fn shut_down(&self, session: &Session, text: &str) {
        self.0.order("disable", session, &format!("\"{text}\""));
    }

    fn reconfigure(&self, sessions: &[Session], manner: &Manner) {
        self.0.reconfigure(&configuration(sessions, manner));
    }

    fn speakers(&self) -> Vec<&Process> {
        vec![&self.0.process]
    }
}

fn configuration(sessions: &[Session], manner: &Manner) -> String {
    let mut text = format!(
        "router id 10.99.2.1;\nlog stderr all;\nprotocol device {{ scan time 1; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; merge paths on; }}\n\
         protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; merge paths on; }}\n\
         protocol static {{ ipv4; route {ROUTE4} blackhole; }}\n\
         protocol static {{ ipv6; route {ROUTE6} blackhole; }}\n",
    );
    if let Some(interval) = manner.bfd {
        let _ = writeln!(
            text,
            "protocol bfd {{ interface \"*\" {{ min rx interval {interval} ms; min tx interval {interval} ms; \
             multiplier 3; }}; }}"
        );
    }
    for session in sessions {
        let _ = write!(text, "protocol bgp {} {{ {}", protocol(session.peer), options(session, manner));
        text += if manner.bfd.is_some() { "bfd on; " } else { "" };
        let export = if manner.announces { "where source = RTS_STATIC" } else { "none" };
        for family in session.families() {
            let extended =
                if manner.extended_next_hop && family == "ipv4" { "extended next hop on; " } else { "" };
            let _ = write!(text, "{family} {{ import all; export {export}; {extended}}}; ");
        }
        text += "}\n";
    }
    text
}
