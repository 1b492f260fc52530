//! Whatever the two sides do, each sees of the other what it would see without the load balancer: everything after a
//! clean end, and never a clean end after less than everything.
//!
//! 10,000 patterns of segments, half-closes, resets and walks away, each from a seed, several at once over one plane.
//! `STREAM_PATTERNS=n` runs n of them; a pattern that fails is printed with its seed, and `STREAM_SEED=seed` runs it alone.
//!
//! It was tried whether it can fail, by breaking the relay in one way at a time. Within a second: a FIN that is not passed
//! on; the rest of a buffer, or of a pipe, that is forgotten when the reader is slow; a reset that is closed as an end.
//! Within the patience of one wait: a broken connection, or a short read, taken for the end. Not caught, as the last piece
//! must be the very one that is not taken: a FIN passed on ahead of it (a test beside the relay has that).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/scripts.rs"]
mod scripts;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};

use common::*;
use scripts::{Script, Seen, check, play, scripts, seeds};

const PATTERNS: u64 = 10_000;
/// How many are played at once, each over a service and a backend of its own.
const LANES: usize = 8;

/// A backend, and the service that leads to it alone.
struct Lane {
    index: usize,
    front: SocketAddr,
    next: Arc<Mutex<Option<Script>>>,
    reports: mpsc::Receiver<Seen>,
}

/// A lane's numbers so far: connections that have ended, and connects to the backend.
fn counts(lab: &Lab, lane: usize) -> (u64, u64) {
    let service = lab.plane.stats().services.swap_remove(lane);
    (service.closes.iter().map(|(_, count)| count).sum(), service.backends[0].connects)
}

impl Lane {
    /// Plays a pattern, and judges what the two sides saw.
    fn run(&self, lab: &Lab, seed: u64) -> Result<(), String> {
        let (client, backend) = scripts(seed);
        let (ended, connects) = counts(lab, self.index);
        *self.next.lock().unwrap() = Some(backend.clone());
        let seen_by_client = play(connect(self.front), &client);
        eventually(&format!("the connection of seed {seed} has ended"), || counts(lab, self.index).0 > ended);
        // A client that is gone before its backend was chosen is never seen by it.
        if !client.end.reads() && counts(lab, self.index).1 == connects {
            return Ok(());
        }
        let seen_by_backend = self.reports.recv_timeout(PATIENCE).map_err(|_| "the backend saw nobody")?;
        check(&seen_by_client, &backend, &client).map_err(|error| format!("the client saw {error}"))?;
        check(&seen_by_backend, &client, &backend).map_err(|error| format!("the backend saw {error}"))
    }
}

/// Plays `seeds` over a plane with these options.
fn play_all(size: (usize, u32), seeds: std::ops::Range<u64>) {
    let ports: Vec<_> = (0..LANES).map(|_| Reserved::new(LOCALHOST)).collect();
    let mut servers = Vec::new();
    let mut services = Vec::new();
    let mut lanes = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let next = Arc::<Mutex<Option<Script>>>::default();
        let (report, reports) = mpsc::channel();
        let scripts = next.clone();
        servers.push(Server::new(move |stream| {
            let script = scripts.lock().unwrap().take().unwrap();
            let _ = report.send(play(stream, &script));
        }));
        let mut service = service(port.address, &[servers[index].address]);
        service.name = name(&format!("lane-{index}"));
        services.push(service);
        lanes.push(Lane { index, front: port.address, next, reports });
    }
    let lab = Lab::with(size, &[], |_| {});
    lab.apply(&services);
    for service in &services {
        let id = service.backend_id(&service.backends[0]);
        lab.plane.set_standing(&[(id, lb_core::Standing::UP)]);
    }
    let (seed, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in lanes {
            let (lab, seed, seeds, failed) = (&lab, &seed, &seeds, &failed);
            scope.spawn(move || {
                loop {
                    let seed = seed.fetch_add(1, SeqCst);
                    if !seeds.contains(&seed) || !failed.lock().unwrap().is_empty() {
                        return;
                    }
                    if let Err(error) = lane.run(lab, seed) {
                        let (client, backend) = scripts(seed);
                        failed.lock().unwrap().push(format!(
                            "STREAM_SEED={seed}: {error}\nclient: {client:?}\nbackend: {backend:?}"
                        ));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn each_side_sees_of_the_other_what_it_would_see_directly() {
    play_all((2, 100), seeds(PATTERNS));
}
