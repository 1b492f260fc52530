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

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use common::*;

const PATTERNS: u64 = 10_000;
/// How many are played at once, each over a service and a backend of its own.
const LANES: usize = 8;

/// How a side ends what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// FIN, and reads on.
    HalfClose,
    /// Reads the other's whole stream first, then FIN.
    CloseLast,
    /// Closes both directions without having read anything: the kernel sends FIN, or RST where something came.
    WalkAway,
    Reset,
}

impl End {
    fn reads(self) -> bool {
        matches!(self, End::HalfClose | End::CloseLast)
    }
}

#[derive(Debug, Clone)]
struct Script {
    segments: Vec<usize>,
    /// How much it reads at a time.
    reads: usize,
    /// It begins to read when it has sent everything and nothing more arrives: every buffer on the way is full then.
    late: bool,
    end: End,
}

/// More than the kernel takes for somebody who does not read: on the sender's and the reader's side, some 3 MB.
const LARGEST: usize = 6_000_000;
const MOST_SEGMENTS: usize = 7;

impl Script {
    fn random(random: &mut Random) -> Self {
        let mut segment = || match random.below(50) {
            0..30 => 1 + random.below(100),
            30..46 => 1 + random.below(20_000),
            46..49 => 1 + random.below(400_000),
            _ => 1 + random.below(LARGEST),
        };
        let segments = (0..MOST_SEGMENTS).map(|_| segment()).collect();
        let mut script = Script { segments, reads: 0, late: false, end: End::Reset };
        script.segments.truncate(random.below(MOST_SEGMENTS + 1));
        script.reads = [300, 5_000, 65_536][random.below(3)];
        script.late = random.below(3) == 0;
        script.end = match random.below(8) {
            0..4 => End::HalfClose,
            4..6 => End::CloseLast,
            6 => End::WalkAway,
            _ => End::Reset,
        };
        script
    }

    /// What it sends.
    fn bytes(&self) -> &'static [u8] {
        static ALL: OnceLock<Vec<u8>> = OnceLock::new();
        let all = ALL.get_or_init(|| pattern(LARGEST * MOST_SEGMENTS));
        &all[..self.segments.iter().sum()]
    }

    /// Makes it so short that it is taken by a kernel whose other side does not read.
    fn shorten(&mut self) {
        self.segments.iter_mut().for_each(|length| *length = (*length).min(5_000));
    }
}

/// What the client and the backend do, by the seed.
fn scripts(seed: u64) -> (Script, Script) {
    let random = &mut Random(seed);
    let (mut client, mut backend) = (Script::random(random), Script::random(random));
    if client.end == End::CloseLast && backend.end == End::CloseLast {
        // Two who each wait for the other's end would wait for ever, with or without a load balancer.
        backend.end = End::HalfClose;
    }
    if !client.end.reads() && !backend.end.reads() {
        client.shorten();
        backend.shorten();
    }
    // Nor may two wait for each other to read.
    let eager = |script: &Script| script.end.reads() && !script.late;
    client.late &= eager(&backend);
    backend.late &= eager(&client);
    (client, backend)
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// What a side saw of the other.
#[derive(Debug)]
struct Seen {
    bytes: Vec<u8>,
    clean: bool,
}

fn read_to_end(stream: &mut TcpStream, at_a_time: usize) -> Seen {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; at_a_time]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Seen { bytes, clean: true },
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(_) => return Seen { bytes, clean: false },
        }
    }
}

/// Waits until nothing more arrives.
fn await_standstill(stream: &TcpStream) {
    let mut before = u64::MAX;
    eventually("nothing more arrives", || {
        let now = rustix::io::ioctl_fionread(stream).unwrap();
        std::mem::replace(&mut before, now) == now
    });
}

/// Sends what the script says. Whether the kernel took it all.
fn send(stream: &mut TcpStream, script: &Script) -> bool {
    let mut rest = script.bytes();
    script.segments.iter().all(|length| {
        let (now, later) = rest.split_at(*length);
        rest = later;
        stream.write_all(now).is_ok()
    })
}

/// Plays one side. An error may show when writing and then no more when reading: either counts.
fn play(mut stream: TcpStream, script: &Script) -> Seen {
    let mut writer = stream.try_clone().unwrap();
    let closes = script.end == End::HalfClose;
    match script.end {
        End::HalfClose | End::CloseLast => std::thread::scope(|scope| {
            let mut writing = Some(scope.spawn(move || {
                send(&mut writer, script) && (!closes || writer.shutdown(Shutdown::Write).is_ok())
            }));
            let mut written = true;
            if script.late {
                written = writing.take().is_none_or(|writing| writing.join().unwrap_or(false));
                await_standstill(&stream);
            }
            let seen = read_to_end(&mut stream, script.reads);
            written &= writing.is_none_or(|writing| writing.join().unwrap_or(false));
            Seen { clean: seen.clean && written, ..seen }
        }),
        End::WalkAway | End::Reset => {
            send(&mut writer, script);
            drop(writer);
            if script.end == End::Reset {
                reset(stream);
            }
            Seen { bytes: vec![], clean: false }
        }
    }
}

/// What `seen` may be of a side that played `script`, when the observer played `own`.
fn check(seen: &Seen, script: &Script, own: &Script) -> Result<(), String> {
    if !own.end.reads() {
        return Ok(());
    }
    let (sent, got) = (script.bytes(), seen.bytes.len());
    if !sent.starts_with(&seen.bytes) {
        return Err(format!("bytes that were never sent, among {got}"));
    }
    match script.end {
        End::Reset if seen.clean => Err("a reset looked like an end".into()),
        End::WalkAway | End::Reset if seen.clean && got < sent.len() => {
            Err(format!("{got} of {} looked like all", sent.len()))
        }
        End::HalfClose | End::CloseLast if !seen.clean || got < sent.len() => {
            Err(format!("{got} of {}, clean: {}", sent.len(), seen.clean))
        }
        _ => Ok(()),
    }
}

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

/// The seeds that the environment asks for.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match number("STREAM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STREAM_PATTERNS").unwrap_or(PATTERNS),
    }
}

#[test]
fn each_side_sees_of_the_other_what_it_would_see_directly() {
    play_all((2, 100), seeds());
}
