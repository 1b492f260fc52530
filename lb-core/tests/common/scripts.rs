//! What a client and a backend do in one connection, by a seed, and what each may then have seen of the other. It knows
//! nothing of who is between them: this crate's tests play it over a plane, those of the root over the real binary.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// How a side ends what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN, and reads on.
    HalfClose,
    /// Reads the other's whole stream first, then FIN.
    CloseLast,
    /// Closes both directions without having read anything: the kernel sends FIN, or RST where something came.
    WalkAway,
    Reset,
}

impl End {
    pub fn reads(self) -> bool {
        matches!(self, End::HalfClose | End::CloseLast)
    }
}

#[derive(Debug, Clone)]
pub struct Script {
    segments: Vec<usize>,
    /// How much it reads at a time.
    reads: usize,
    /// It begins to read when it has sent everything and nothing more arrives: every buffer on the way is full then.
    late: bool,
    pub end: End,
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
        let random = &mut Random(1);
        let all = ALL.get_or_init(|| (0..LARGEST * MOST_SEGMENTS).map(|_| random.below(256) as u8).collect());
        &all[..self.segments.iter().sum()]
    }

    /// Makes it so short that it is taken by a kernel whose other side does not read.
    fn shorten(&mut self) {
        self.segments.iter_mut().for_each(|length| *length = (*length).min(5_000));
    }
}

/// What the client and the backend do, by the seed.
pub fn scripts(seed: u64) -> (Script, Script) {
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
pub struct Seen {
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
    loop {
        let now = rustix::io::ioctl_fionread(stream).unwrap();
        if std::mem::replace(&mut before, now) == now {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
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
pub fn play(mut stream: TcpStream, script: &Script) -> Seen {
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
                set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }
            Seen { bytes: vec![], clean: false }
        }
    }
}

/// What `seen` may be of a side that played `script`, when the observer played `own`.
pub fn check(seen: &Seen, script: &Script, own: &Script) -> Result<(), String> {
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

/// The seeds that the environment asks for.
pub fn seeds(patterns: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    match number("STREAM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STREAM_PATTERNS").unwrap_or(patterns),
    }
}
