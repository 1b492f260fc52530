//! Out of file descriptors: clients wait, established connections go on, and when there are some again so does the
//! rest. The limit is the process's, so this test has its process to itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read, Write};

use common::*;
use lb_core::CloseReason;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn running_out_of_descriptors_stops_accepting_and_costs_no_established_connection() {
    let server = Server::echo();
    let lab = Lab::new(&[server.address]);
    let mut established = lab.connect();
    let mut ask = |byte: u8| {
        established.write_all(&[byte]).unwrap();
        let mut answer = [0];
        established.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [byte]);
    };
    ask(1);

    let limit = getrlimit(Resource::Nofile);
    let (mut refused, mut late) = (Late::new(&lab), Late::new(&lab));
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: limit.maximum }).unwrap();
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

    // One descriptor is enough to accept, not to connect.
    hoard.pop();
    refused.connect();
    eventually("who cannot be served is refused", || lab.stats().closes.of(CloseReason::Resources) == 1);
    hoard.extend(File::open("/dev/null"));
    late.connect();
    eventually("the listener is paused", || lab.plane.stats().paused_listeners == 1);
    ask(2);

    drop(hoard);
    setrlimit(Resource::Nofile, limit).unwrap();
    late.send(b"x");
    assert_eq!(late.read(), b'x', "who waited is served");
    eventually("the listener accepts again", || lab.plane.stats().paused_listeners == 0);
    assert!(lab.failures.all().is_empty(), "it was not the backend's failure");
    ask(3);
}

/// A client's socket that exists before it connects.
struct Late {
    stream: std::net::TcpStream,
    address: std::net::SocketAddr,
}

impl Late {
    fn new(lab: &Lab) -> Self {
        use rustix::net::{AddressFamily, SocketType, socket};
        let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap().into();
        Late { stream, address: lab.address }
    }

    fn connect(&mut self) {
        rustix::net::connect(&self.stream, &self.address).unwrap();
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn read(&mut self) -> u8 {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }
}
