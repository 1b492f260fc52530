//! A backend's agent has its say beside health: a part of the weight, no new connections, so many at once, or down.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::common::SOON;
use crate::common::agent::Agent;
use crate::common::backend::Backend;
use crate::common::configuration::{server, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http::{Connection, backend_of};
use crate::common::ports::Loopback;
use crate::common::status::{Status, is_event, wait_health};

/// Backends `a`, which has an agent, and `b`, whose agent is always content.
struct Agents {
    agent: Agent,
    _others: (Agent, Backend, Backend),
    daemon: Daemon,
    front: SocketAddr,
}

fn agents(service_keys: &str) -> Agents {
    let (at, elsewhere) = (Loopback::take(), Loopback::take());
    let (a, b) = (Backend::http("a", at.addr()), Backend::http("b", elsewhere.addr()));
    let talks_at = at.addr();
    let agent = Agent::start(talks_at, "up");
    let content = Agent::start((elsewhere.ip(), talks_at.port()).into(), "up");
    let front = at.addr();
    let keys = format!(
        "check = {{ kind = \"agent\", port = {}, interval = \"50ms\", timeout = \"1s\", rise = 1, fall = 1 }}\n\
         {service_keys}",
        talks_at.port()
    );
    let config = service("web", &[front], &keys, &[]) + &server(&a, "") + &server(&b, "");
    let daemon = Daemon::start(&at, &config);
    wait_health(&daemon, "web", "a", "up");
    wait_health(&daemon, "web", "b", "up");
    Agents { agent, _others: (content, a, b), daemon, front }
}

impl Agents {
    /// Waits until the status has this of `a`.
    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        eventually(what, SOON, || {
            let status = Status::of(&self.daemon).map_err(|e| e.to_string())?;
            let a = status.backend("web", "a").cloned().unwrap_or_default();
            if holds(&a) { Ok(()) } else { Err(a.to_string()) }
        });
    }

    fn shares(&self, requests: usize) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            *counts.entry(backend_of(self.front).unwrap()).or_default() += 1;
        }
        counts
    }
}

#[test]
fn half_of_its_weight_is_half_of_its_turns_and_the_log_says_who_wished_so() {
    let lab = agents("");
    let mark = lab.daemon.stderr().len();
    lab.agent.says("50%");
    lab.wait("half of the weight", |a| a["agent"]["weight_percent"] == 50);
    let shares = lab.shares(30);
    assert_eq!((shares["a"], shares["b"]), (10, 20));
    eventually("the log tells of it", SOON, || {
        lab.daemon.records(mark).iter().any(|r| is_event(r, "agent_said", "web/a"))
    });
    let status = lab.daemon.cli("status", &[]).stdout;
    assert!(status.contains("1 × 50%"), "{status}");
}

#[test]
fn a_backend_that_drains_keeps_its_connections_gets_no_new_one_and_is_ready_when_it_says_so() {
    let lab = agents("on_down = \"close\"\n");
    let mut kept = [Connection::open(lab.front).unwrap(), Connection::open(lab.front).unwrap()];
    kept.iter_mut().for_each(|connection| drop(connection.get("/").unwrap()));
    lab.agent.says("drain");
    lab.wait("it drains", |a| a["agent"]["admin"] == "drain" && a["in_use"] == false);
    lab.wait("it is healthy all the same", |a| a["health"] == "up");
    assert_eq!(lab.shares(6), BTreeMap::from([("b".to_owned(), 6)]));
    let still: Vec<_> = kept.iter_mut().map(|connection| connection.get("/").unwrap().text()).collect();
    assert!(still.contains(&"a".to_owned()), "{still:?}");
    lab.agent.says("ready");
    lab.wait("it is used", |a| a["in_use"] == true);
    assert_eq!(lab.shares(6)["a"], 3);
}

#[test]
fn a_limit_that_the_agent_sets_holds_until_it_takes_it_back() {
    let lab = agents("balance = \"first\"\n");
    lab.agent.says("maxconn:1");
    lab.wait("one at once", |a| a["max_connections"] == 1);
    let mut first = Connection::open(lab.front).unwrap();
    assert_eq!(first.get("/").unwrap().text(), "a");
    assert_eq!(backend_of(lab.front).unwrap(), "b");
    lab.agent.says("maxconn:0");
    lab.wait("no limit", |a| a["max_connections"].is_null());
    assert_eq!(backend_of(lab.front).unwrap(), "a");
}

#[test]
fn what_says_that_it_is_down_is_down_at_once_and_why_tells_its_reason() {
    let lab = agents("");
    lab.agent.says("down #disk is full");
    wait_health(&lab.daemon, "web", "a", "down");
    assert_eq!(lab.shares(4), BTreeMap::from([("b".to_owned(), 4)]));
    let why = lab.daemon.cli("why", &["web/a"]).stdout;
    assert!(why.contains("disk is full"), "{why}");
    lab.agent.says("up");
    wait_health(&lab.daemon, "web", "a", "up");
    assert!(TcpStream::connect(lab.front).is_ok());
}
