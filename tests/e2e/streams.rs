//! Whatever client and backend do, each sees of the other what it would see without the load balancer: the patterns of
//! `lb-core/tests/streams.rs`, over the real binary.
//!
//! `STREAM_PATTERNS=n` runs n of them; a pattern that fails is printed with its seed, and `STREAM_SEED=seed` runs it alone.

#[path = "../../lb-core/tests/common/scripts.rs"]
mod scripts;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::Value;

use crate::common::SOON;
use crate::common::configuration::UNCHECKED;
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::ports::Loopback;
use crate::common::status::Status;
use scripts::{Script, Seen, check, play, scripts, seeds};

const PATTERNS: u64 = 10_000;
/// How many are played at once, each over a service and a backend of its own.
const LANES: usize = 8;

/// A backend, and the service that leads to it alone.
struct Lane {
    name: String,
    front: SocketAddr,
    next: Sender<Script>,
    reports: Receiver<Seen>,
}

impl Lane {
    /// A lane, and its part of the configuration.
    fn new(lab: &Loopback, index: usize) -> (Self, String) {
        let (name, front, backend) = (format!("lane-{index}"), lab.addr(), lab.addr());
        let listener = TcpListener::bind(backend).unwrap();
        let (next, scripts) = channel::<Script>();
        let (report, reports) = channel();
        thread::spawn(move || {
            while let (Ok((stream, _)), Ok(script)) = (listener.accept(), scripts.recv()) {
                let _ = report.send(play(patient(stream), &script));
            }
        });
        let config = format!(
            "[[service]]\nname = \"{name}\"\nlisten = [\"{front}\"]\n{UNCHECKED}\
             [[service.backend]]\nname = \"a\"\naddress = \"{backend}\"\n"
        );
        (Lane { name, front, next, reports }, config)
    }

    /// Its numbers so far: connections that have ended, and those that the backend took.
    fn counts(&self, daemon: &Daemon) -> (u64, u64) {
        let status = Status::of(daemon).unwrap();
        let service = status.service(&self.name).unwrap();
        let closes = service["closes"].as_object().into_iter().flatten();
        let taken = status.backend(&self.name, "a").unwrap()["connections_total"].as_u64().unwrap();
        (closes.filter_map(|(_, count)| Value::as_u64(count)).sum(), taken)
    }

    /// Plays a pattern, and judges what the two sides saw.
    fn run(&self, daemon: &Daemon, seed: u64, before: &mut (u64, u64)) -> Result<(), String> {
        let (client, backend) = scripts(seed);
        let stream = patient(TcpStream::connect(self.front).unwrap());
        let (ended, taken) = *before;
        let seen_by_client = thread::scope(|scope| {
            let playing = scope.spawn(|| play(stream, &client));
            // What the backend is to do is there only once its connection is: a script that nobody takes would be the next one's.
            *before = eventually("the backend took it, or never will", SOON, || {
                Some(self.counts(daemon)).filter(|now| now.1 > taken || now.0 > ended)
            });
            if before.1 > taken {
                self.next.send(backend.clone()).unwrap();
            }
            playing.join().unwrap()
        });
        let is_seen = before.1 > taken;
        *before = eventually(&format!("the connection of seed {seed} has ended"), SOON, || {
            Some(self.counts(daemon)).filter(|now| now.0 > ended)
        });
        // A client that is gone before its backend was chosen is never seen by it.
        if !is_seen {
            return Ok(());
        }
        let seen_by_backend = self.reports.recv_timeout(SOON).map_err(|_| "the backend saw nobody")?;
        check(&seen_by_client, &backend, &client).map_err(|error| format!("the client saw {error}"))?;
        check(&seen_by_backend, &client, &backend).map_err(|error| format!("the backend saw {error}"))
    }
}

/// Nobody waits for ever.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn each_side_sees_of_the_other_what_it_would_see_directly() {
    let lab = Loopback::take();
    let (lanes, configs): (Vec<_>, Vec<_>) = (0..LANES).map(|index| Lane::new(&lab, index)).unzip();
    let daemon = Daemon::start(&lab, &format!("[global]\nthreads = 2\n{}", configs.concat()));
    let seeds = seeds(PATTERNS);
    let seed = AtomicU64::new(seeds.start);
    thread::scope(|scope| {
        for lane in lanes {
            let (daemon, seed, seeds) = (&daemon, &seed, &seeds);
            scope.spawn(move || {
                let mut counts = (0, 0);
                loop {
                    let seed = seed.fetch_add(1, SeqCst);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    if let Err(error) = lane.run(daemon, seed, &mut counts) {
                        let (client, backend) = scripts(seed);
                        panic!("STREAM_SEED={seed}: {error}\nclient: {client:?}\nbackend: {backend:?}");
                    }
                }
            });
        }
    });
}
