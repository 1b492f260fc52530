//! Health: what a check or live traffic finds out takes a backend out and brings it back, and the log says why.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::common::SOON;
use crate::common::backend::{Backend, Manner};
use crate::common::configuration::{quick_check, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http::backend_of;
use crate::common::ports::Loopback;
use crate::common::status::{Status, is_event, wait_health};

const QUICK_TCP: &str =
    "check = { kind = \"tcp\", interval = \"100ms\", timeout = \"500ms\", rise = 1, fall = 2 }\n";

/// The newest record that `web/a` went down, since the log had `mark` lines.
fn downfall(daemon: &Daemon, mark: usize) -> Value {
    eventually("the log tells of the downfall", SOON, || {
        daemon.records(mark).into_iter().rev().find(|r| is_event(r, "backend_down", "web/a"))
    })
}

#[track_caller]
fn says(record: &Value, words: &[&str]) {
    let text = record["message"].as_str().unwrap_or_default();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} not all in {record}");
}

#[test]
fn first_check_comes_at_once_not_after_an_interval() {
    let lab = Loopback::take();
    let backend = Backend::http("a", lab.addr());
    let front = lab.addr();
    let check = "check = { kind = \"tcp\", interval = \"60s\" }\n";
    let daemon = Daemon::start(&lab, &service("web", &[front], check, &[&backend]));
    wait_health(&daemon, "web", "a", "up");
    assert_eq!(backend_of(front).unwrap(), "a");
}

#[test]
fn tcp_check_takes_a_refusing_backend_out_and_brings_it_back() {
    let lab = Loopback::take();
    let mut backend = Backend::http("a", lab.addr());
    let front = lab.addr();
    let daemon = Daemon::start(&lab, &service("web", &[front], QUICK_TCP, &[&backend]));
    wait_health(&daemon, "web", "a", "up");
    let mark = daemon.stderr().len();
    backend.stop();
    wait_health(&daemon, "web", "a", "down");
    says(&downfall(&daemon, mark), &["refused", &backend.addr().to_string(), "failing for"]);
    backend.start_again();
    wait_health(&daemon, "web", "a", "up");
    eventually("the log tells of the rise", SOON, || {
        daemon.records(mark).iter().any(|r| is_event(r, "backend_up", "web/a"))
    });
    assert_eq!(backend_of(front).unwrap(), "a");
}

#[test]
fn http_check_judges_by_status_and_the_log_names_it() {
    let lab = Loopback::take();
    let backend = Backend::http("a", lab.addr());
    let daemon = Daemon::start(&lab, &service("web", &[lab.addr()], &quick_check(), &[&backend]));
    wait_health(&daemon, "web", "a", "up");
    let mark = daemon.stderr().len();
    backend.behave(Manner::Status(503));
    wait_health(&daemon, "web", "a", "down");
    says(&downfall(&daemon, mark), &["503", "/check"]);
    backend.behave(Manner::Status(302));
    wait_health(&daemon, "web", "a", "up");
}

#[test]
fn http_check_judges_by_body() {
    let lab = Loopback::take();
    let backend = Backend::http("a", lab.addr());
    let wanting = |text: &str| {
        let check = format!(
            "check = {{ kind = \"http\", path = \"/check\", interval = \"100ms\", rise = 1, fall = 1, expect_body = \"{text}\" }}\n"
        );
        Daemon::start(&lab, &service("web", &[lab.addr()], &check, &[&backend]))
    };
    wait_health(&wanting("a"), "web", "a", "up");
    wait_health(&wanting("something else"), "web", "a", "down");
}

#[test]
fn backend_that_accepts_and_never_answers_is_down_after_the_checks_timeout() {
    let lab = Loopback::take();
    let backend = Backend::http("a", lab.addr());
    let check = "check = { kind = \"http\", path = \"/check\", interval = \"100ms\", timeout = \"200ms\", rise = 1, fall = 1 }\n";
    let daemon = Daemon::start(&lab, &service("web", &[lab.addr()], check, &[&backend]));
    wait_health(&daemon, "web", "a", "up");
    let mark = daemon.stderr().len();
    backend.behave(Manner::Silent);
    wait_health(&daemon, "web", "a", "down");
    says(&downfall(&daemon, mark), &["no complete answer within 200ms"]);
}

#[test]
fn check_goes_to_its_own_port() {
    let lab = Loopback::take();
    let (backend, side) =
        (Backend::http("a", lab.addr()), Backend::stopped("side", lab.addr(), Manner::Http));
    let port = side.addr().port();
    let check =
        format!("check = {{ kind = \"tcp\", interval = \"100ms\", rise = 1, fall = 1, port = {port} }}\n");
    let daemon = Daemon::start(&lab, &service("web", &[lab.addr()], &check, &[&backend]));
    wait_health(&daemon, "web", "a", "down");
    let mut side = side;
    side.start_again();
    wait_health(&daemon, "web", "a", "up");
}

#[test]
fn failed_connects_of_live_traffic_take_a_backend_out_before_its_next_check() {
    let lab = Loopback::take();
    let (mut a, b) = (Backend::http("a", lab.addr()), Backend::http("b", lab.addr()));
    let front = lab.addr();
    let keys =
        "check = { kind = \"tcp\", interval = \"60s\" }\npassive = { failures = 2, window = \"10s\" }\n";
    let daemon = Daemon::start(&lab, &service("web", &[front], keys, &[&a, &b]));
    wait_health(&daemon, "web", "a", "up");
    wait_health(&daemon, "web", "b", "up");
    let mark = daemon.stderr().len();
    a.stop();
    for _ in 0..6 {
        assert_eq!(backend_of(front).unwrap(), "b");
    }
    wait_health(&daemon, "web", "a", "down");
    says(&downfall(&daemon, mark), &["refused"]);
}

#[test]
fn resets_before_anybody_said_a_word_take_a_backend_out_before_its_next_check() {
    let lab = Loopback::take();
    let (a, b) = (Backend::http("a", lab.addr()), Backend::http("b", lab.addr()));
    let front = lab.addr();
    let keys =
        "check = { kind = \"tcp\", interval = \"60s\" }\npassive = { failures = 2, window = \"10s\" }\n";
    let daemon = Daemon::start(&lab, &service("web", &[front], keys, &[&a, &b]));
    wait_health(&daemon, "web", "a", "up");
    wait_health(&daemon, "web", "b", "up");
    let mark = daemon.stderr().len();
    a.behave(Manner::ResetUnanswered);
    assert_eq!((0..8).filter(|_| backend_of(front).is_err()).count(), 4, "every other one");
    assert_eq!(
        Status::of(&daemon).unwrap().health("web", "a"),
        Some("up"),
        "what the client said may be why"
    );
    a.behave(Manner::ResetAtOnce);
    // Clients that say nothing: what they might have said is no excuse.
    eventually("a is out", SOON, || {
        let _ = TcpStream::connect(front).and_then(|mut client| {
            client.set_read_timeout(Some(Duration::from_millis(100)))?;
            client.read(&mut [0])
        });
        Status::of(&daemon).is_ok_and(|status| status.health("web", "a") == Some("down"))
    });
    says(&downfall(&daemon, mark), &["reset"]);
    assert!((0..4).all(|_| backend_of(front).is_ok()));
}
