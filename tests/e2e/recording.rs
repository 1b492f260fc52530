//! The access log: a line per connection among the log's, in HAProxy's form or as JSON.

use serde_json::Value;

use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::{UNCHECKED, service};
use crate::common::daemon::Daemon;
use crate::common::http::backend_of;
use crate::common::ports::Loopback;

/// A service `web` of backend `a`, with this access log.
fn recording(lab: &Loopback, access: &str) -> (Backend, Daemon) {
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let web = service("web", &[front], UNCHECKED, &[&backend]);
    // The harness's [global.log] stands right before.
    let daemon = Daemon::start(lab, &format!("access = \"{access}\"\n{web}"));
    assert_eq!(backend_of(front).unwrap(), "a");
    (backend, daemon)
}

#[test]
fn a_connection_leaves_a_line_as_of_option_tcplog() {
    let lab = Loopback::take();
    let (_backend, daemon) = recording(&lab, "tcplog");
    let line = daemon.wait_log(0, SOON, &["127.0.0.1:", " web web/a 0/", " -- 1/1/1/1/0 0/0"]).what;
    assert!(serde_json::from_str::<Value>(&line).is_err(), "a line of its own form: {line}");
}

#[test]
fn a_connection_leaves_an_object_with_where_from_where_to_and_why_it_ended() {
    let lab = Loopback::take();
    let (_backend, daemon) = recording(&lab, "json");
    let line = daemon.wait_log(0, SOON, &["\"service\":\"web\"", "bytes_out"]).what;
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&record["backend"], &record["reason"]), (&"a".into(), &"completed".into()), "{record}");
    assert!(record["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
    assert!(record["bytes_out"].as_u64() > Some(1), "{record}");
}
