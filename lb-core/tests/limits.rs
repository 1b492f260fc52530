//! At the limit on connections clients wait, and are served when others have gone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};

use common::*;
use lb_core::Standing;

#[test]
fn clients_beyond_the_limit_wait_until_others_end() {
    for workers in [1, 3] {
        let server = Server::echo();
        let options = (workers, 2);
        let lab = Lab::with(options, &[server.address], |_| {});
        let mut clients: Vec<_> = (0..10).map(|_| lab.connect()).collect();
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
        eventually("the limit is reached", || lab.plane.active() == 2);
        eventually("listeners are paused", || lab.plane.stats().paused_listeners > 0);
        // Whoever is served gives way; the kernel decides who is.
        while !clients.is_empty() {
            assert!(lab.plane.active() <= 2);
            clients.retain_mut(|client| {
                client.set_nonblocking(true).unwrap();
                client.read(&mut [0]).is_err()
            });
            std::thread::yield_now();
        }
        eventually("all are accepted", || lab.plane.accepted() == 10);
        eventually("all have ended", || lab.plane.active() == 0);
        eventually("listeners accept again", || lab.plane.stats().paused_listeners == 0);
    }
}

#[test]
fn clients_beyond_a_service_s_own_limit_wait_and_other_services_go_on() {
    for workers in [1, 3] {
        let server = Server::echo();
        let options = (workers, 1000);
        let lab = Lab::with(options, &[server.address], |service| service.max_connections = Some(2));
        let other = Reserved::new(LOCALHOST);
        let mut second = service(other.address, &[server.address]);
        second.name = name("other");
        lab.apply(&[lab.service.clone(), second.clone()]);
        lab.plane.set_standing(&[(second.backend_id(&second.backends[0]), Standing::UP)]);

        let mut clients: Vec<_> = (0..6).map(|_| lab.connect()).collect();
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
        eventually("the limit is reached", || lab.stats().active == 2);
        eventually("listeners are paused", || lab.plane.stats().paused_listeners > 0);
        let mut elsewhere = connect(other.address);
        elsewhere.write_all(b"y").unwrap();
        elsewhere.read_exact(&mut [0]).unwrap();
        while !clients.is_empty() {
            assert!(lab.stats().active <= 2);
            clients.retain_mut(|client| {
                client.set_nonblocking(true).unwrap();
                client.read(&mut [0]).is_err()
            });
            std::thread::yield_now();
        }
        eventually("all were served", || lab.stats().accepted == 6 && lab.stats().active == 0);
        eventually("listeners accept again", || lab.plane.stats().paused_listeners == 0);
    }
}
