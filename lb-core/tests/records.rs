//! What the access log is given of each connection.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use common::*;
use config::{BackendId, Service};
use lb_core::{AccessRecord, CloseReason, ConnectFailure, DataPlane, Observer, Reached, Recording, Standing};

struct Log(Sender<AccessRecord>);

impl Observer for Log {
    fn connect_failed(&self, _: &BackendId, _: &ConnectFailure) {}

    fn connection_ended(&self, record: AccessRecord) {
        let _ = self.0.send(record);
    }
}

struct Recorded {
    plane: DataPlane,
    records: Receiver<AccessRecord>,
    port: Reserved,
}

impl Recorded {
    fn new(backends: &[std::net::SocketAddr], change: impl FnOnce(&mut Service)) -> Self {
        let port = Reserved::new(LOCALHOST);
        let mut service = service(port.address, backends);
        change(&mut service);
        let (sender, records) = channel();
        let plane = DataPlane::start(options(ONE_WORKER), Arc::new(Log(sender))).unwrap();
        let _ = plane.commit(plane.prepare(std::slice::from_ref(&service)).unwrap());
        let all: Vec<_> = service.backends.iter().map(|b| (service.backend_id(b), Standing::UP)).collect();
        plane.set_standing(&all);
        plane.set_recording(Recording::On);
        Recorded { plane, records, port }
    }

    fn next(&self) -> AccessRecord {
        self.records.recv_timeout(PATIENCE).unwrap()
    }
}

#[test]
fn a_connection_that_was_served_is_recorded_with_whom_it_was_tried_bytes_and_times() {
    let (refusing, server) = (Refusing::new(), Server::echo());
    let lab = Recorded::new(&[refusing.address(), server.address], |_| {});
    let mut client = connect(lab.port.address);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"hello");

    let record = lab.next();
    assert_eq!((record.service, record.listener), (name("web"), lab.port.address));
    assert_eq!(record.client, client.local_addr().unwrap());
    assert_eq!((record.backend, record.tried), (Some(name("b1")), vec![name("b0"), name("b1")]));
    assert_eq!((record.bytes_in, record.bytes_out), (5, 5));
    assert_eq!((record.reason, record.reached), (CloseReason::Completed, Reached::Last));
    assert!(record.queue.is_some() && record.connect.unwrap() <= record.total);
    assert_eq!((record.concurrent.total, record.concurrent.service, record.concurrent.backend), (1, 1, 1));
}

#[test]
fn a_connection_that_nobody_took_is_recorded_without_a_backend() {
    let refusing = [Refusing::new(), Refusing::new()];
    let lab = Recorded::new(&[refusing[0].address(), refusing[1].address()], |_| {});
    assert_reset(&mut connect(lab.port.address));
    let record = lab.next();
    assert_eq!((record.backend, record.tried), (None, vec![name("b0"), name("b1")]));
    assert_eq!((record.reason, record.reached), (CloseReason::ConnectFailed, Reached::Connecting));
    assert_eq!(record.connect, None);
}

#[test]
fn nothing_is_recorded_unless_it_is_asked_for() {
    let server = Server::saying("x");
    let lab = Recorded::new(&[server.address], |_| {});
    lab.plane.set_recording(Recording::Off);
    assert_eq!(read_all(&mut connect(lab.port.address)), b"x");
    eventually("it has ended", || lab.plane.active() == 0);
    lab.plane.set_recording(Recording::On);
    let mut client = connect(lab.port.address);
    client.read_exact(&mut [0]).unwrap();
    let asked_for = client.local_addr().unwrap();
    drop(client);
    assert_eq!(lab.next().client, asked_for);
}
