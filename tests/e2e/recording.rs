//! The access log: a line per connection among the log's, in HAProxy's form or as JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::SOON;
use crate::common::backend::{Backend, Manner};
use crate::common::configuration::{UNCHECKED, server, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
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

/// Says something and reads until the load balancer ends it.
fn until_the_end(front: SocketAddr) {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").and_then(|()| stream.read_to_end(&mut Vec::new()));
}

#[test]
fn the_letters_tell_who_or_what_ended_a_connection_and_what_it_was_doing() {
    let lab = Loopback::take();
    let quick = |which: &str| format!("timeouts = {{ {which} = \"300ms\" }}\n");
    let cases = [
        ("reset", Manner::ResetMidBody, String::new(), "SD"),
        ("mute", Manner::Silent, quick("server"), "sD"),
        ("idle", Manner::Silent, quick("client"), "cD"),
        ("left", Manner::Silent, String::new(), "CD"),
        ("killed", Manner::Silent, String::new(), "KD"),
        ("late", Manner::NeverEnd, quick("queue"), "sQ"),
        ("closed", Manner::Silent, String::new(), "SC"),
    ];
    let mut config = "access = \"tcplog\"\n".to_owned();
    let mut services = Vec::new();
    for (name, manner, keys, letters) in cases {
        let (mut backend, front) = (Backend::start("a", lab.addr(), manner), lab.addr());
        if name == "closed" {
            backend.stop();
        }
        let limit = if name == "late" { "max_connections = 1\n" } else { "" };
        config += &(service(name, &[front], &format!("{UNCHECKED}{keys}"), &[]) + &server(&backend, limit));
        services.push((name, backend, front, letters));
    }
    let daemon = Daemon::start(&lab, &config);
    let mut held = Vec::new();
    for (name, backend, front, letters) in &services {
        if matches!(*name, "left" | "killed" | "late") {
            let stream = TcpStream::connect(front).unwrap();
            (&stream).write_all(b"x").unwrap();
            eventually("the backend has it", SOON, || backend.open() == 1);
            held.push(stream);
        }
        match *name {
            "left" => held.drain(..).for_each(|stream| {
                set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }),
            "killed" => assert_eq!(daemon.say("shutdown sessions server killed/a").unwrap(), "\n"),
            _ => until_the_end(*front),
        }
        daemon.wait_log(0, SOON, &[&format!(" {name} {name}/"), &format!(" {letters} ")]);
    }
}

#[test]
fn records_go_to_a_syslog_server_too() {
    let lab = Loopback::take();
    let server = UdpSocket::bind(lab.addr()).unwrap();
    server.set_read_timeout(Some(SOON)).unwrap();
    let (backend, front) = (Backend::http("a", lab.addr()), lab.addr());
    let target = format!("access = \"tcplog\"\ntarget = \"syslog://{}\"\n", server.local_addr().unwrap());
    let daemon = Daemon::start(&lab, &(target + &service("web", &[front], UNCHECKED, &[&backend])));
    assert_eq!(backend_of(front).unwrap(), "a");
    let mut datagram = [0; 4096];
    let record = loop {
        let n = server.recv(&mut datagram).expect("the record of the connection");
        let text = String::from_utf8_lossy(&datagram[..n]);
        if text.contains(" web web/a ") {
            break text.into_owned();
        }
    };
    // RFC 5424: facility and severity, version, time, host, name, process.
    assert!(
        record.starts_with('<') && record.contains(&format!(" contrail-lb {} - - ", daemon.id())),
        "{record}"
    );
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_tells_afterwards_how_much_is_missing() {
    // More than the queue and the pipe have room for.
    const CLIENTS: usize = 6_000;
    let lab = Loopback::take();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("stderr");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    // For writing too: else it could only be opened together with the daemon.
    let reader = File::options().read(true).write(true).open(&pipe).unwrap();
    let (backend, front, admin) = (Backend::http("a", lab.addr()), lab.addr(), lab.addr());
    let config = format!("access = \"tcplog\"\n{}", service("web", &[front], UNCHECKED, &[&backend]));
    let to_pipe = format!("exec \"$@\" 2>{}", pipe.display());
    let mut daemon = Daemon::spawn(admin, "", &config, &["sh", "-c", &to_pipe, "sh"]);
    daemon.wait_ready(SOON);
    for n in 0..CLIENTS {
        assert_eq!(backend_of(front).unwrap(), "a", "client {n}");
    }
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(" records of the access log dropped")));
    daemon.signal(Signal::TERM);
    thread::spawn(move || lines.for_each(drop));
    daemon.wait_code(SOON, 0);
}
