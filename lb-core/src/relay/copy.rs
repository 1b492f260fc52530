//! The relay of bytes that pass unchanged: read into the worker's one buffer, written straight to the other side.
//!
//! Only what the other side does not take stays behind: then the buffer itself is put aside with it, the worker takes
//! another, and the source is not read until those bytes are gone. So a direction holds at most one buffer.
//!
//! Urgent (out-of-band) octets are not passed on: the kernel keeps the one that is urgent out of the stream, and the rest
//! goes on without it.

use super::splice::Pipe;
use super::{Buffers, Delivered, End, Progress, Read, Side};
use crate::socket;
use crate::wheel::Tick;

/// Reads per direction before others get their turn: 1 MiB.
const BUDGET: usize = 16;
/// The same for moves through a pipe, of up to 1 MiB each.
const MOVES: usize = 2;

/// Pieces this large are bulk; a few in a row and the direction is spliced, until they have become small again.
pub(super) const LARGE: usize = 16 * 1024;
pub(super) const BULK: u8 = 8;

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    pending: Option<Pending>,
    /// Bytes delivered to the destination's kernel.
    bytes: u64,
    /// The source ended and everything was delivered.
    finished: bool,
    /// How many of the last pieces were large, up to [`BULK`]; while it is spliced, of the last moves.
    large: u8,
    /// Bytes go through a pipe.
    spliced: bool,
}

impl Flow {
    /// Takes down how much came at once.
    fn note(&mut self, size: usize) {
        self.large = match (size >= LARGE, self.spliced) {
            (true, _) => (self.large + 1).min(BULK),
            (false, false) => 0,
            (false, true) => self.large.saturating_sub(1),
        };
        self.spliced = self.large == BULK || (self.spliced && self.large > 0);
    }
}

/// What the destination has not taken yet.
#[derive(Debug)]
enum Pending {
    Buffer { buffer: Box<[u8]>, start: u32, end: u32 },
    Pipe(Pipe),
}

impl Pending {
    /// Writes what it can. Returns how much was taken.
    fn write_to(&mut self, destination: &mut End, now: Tick) -> usize {
        match self {
            Pending::Buffer { buffer, start, end } => {
                let bytes = buffer.get(*start as usize..*end as usize).unwrap_or_default();
                let taken = destination.write(bytes, now);
                *start += taken as u32;
                taken
            }
            Pending::Pipe(pipe) => destination.splice_from(pipe, now),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Pending::Buffer { start, end, .. } => start == end,
            Pending::Pipe(pipe) => pipe.is_empty(),
        }
    }

    fn give_back(self, buffers: &mut Buffers) {
        match self {
            Pending::Buffer { buffer, .. } => buffers.give_back(buffer),
            Pending::Pipe(pipe) => buffers.pipes.give_back(pipe),
        }
    }
}

/// A direction that was relayed in another way before.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// What was read and not written yet.
    pub(super) pending: Vec<u8>,
    pub(super) bytes: u64,
    pub(super) finished: bool,
    pub(super) bulk: bool,
}

/// Both directions.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    /// Client to backend.
    up: Flow,
    /// Backend to client.
    down: Flow,
}

impl Plain {
    /// A relay that has taken these bytes from the client already.
    pub(crate) fn with_early(bytes: Option<Box<[u8]>>) -> Self {
        let pending = bytes.map(|buffer| Pending::Buffer { start: 0, end: buffer.len() as u32, buffer });
        Plain { up: Flow { pending, ..Flow::default() }, down: Flow::default() }
    }

    /// Goes on with what was begun, upwards and downwards.
    pub(super) fn resume(up: Begun, down: Begun) -> Self {
        let [up, down] = [up, down].map(|Begun { pending, bytes, finished, bulk }| {
            let buffer = pending.into_boxed_slice();
            let pending =
                (!buffer.is_empty()).then(|| Pending::Buffer { start: 0, end: buffer.len() as u32, buffer });
            Flow { pending, bytes, finished, large: if bulk { BULK } else { 0 }, spliced: bulk }
        });
        Plain { up, down }
    }

    pub(super) fn drive(
        &mut self,
        client: &mut End,
        backend: &mut End,
        buffers: &mut Buffers,
        now: Tick,
    ) -> Progress {
        let Plain { up, down } = self;
        let mut upward = pump(client, backend, up, buffers, now);
        let downward = pump(backend, client, down, buffers, now);
        if client.broken {
            upward = pump(client, backend, up, buffers, now);
        }
        match (upward, downward) {
            (Pumped::Broken, _) => return Progress::Broken(Side::Client),
            (_, Pumped::Broken) => return Progress::Broken(Side::Backend),
            (Pumped::Finished, Pumped::Finished) => return Progress::Completed,
            (Pumped::Finished, _) => half_close(up, backend),
            (_, Pumped::Finished) => half_close(down, client),
            (Pumped::Waiting | Pumped::Busy, Pumped::Waiting | Pumped::Busy) => {}
        }
        if upward == Pumped::Busy || downward == Pumped::Busy { Progress::Busy } else { Progress::Waiting }
    }

    pub(super) fn delivered(&self) -> Delivered {
        Delivered { up: self.up.bytes, down: self.down.bytes }
    }

    pub(super) fn owes(&self, side: Side) -> bool {
        self.flow_to(side).pending.is_some()
    }

    pub(super) fn waits_for(&self, side: Side, end: &End) -> bool {
        let sent = match side {
            Side::Client => &self.up,
            Side::Backend => &self.down,
        };
        self.owes(side) || (!end.eof && sent.pending.is_none())
    }

    fn flow_to(&self, side: Side) -> &Flow {
        match side {
            Side::Client => &self.down,
            Side::Backend => &self.up,
        }
    }
}

/// Hands the end of a stream on. A failure shows as an event of its own.
fn half_close(flow: &mut Flow, destination: &End) {
    if !std::mem::replace(&mut flow.finished, true) {
        let _ = socket::finish(&destination.socket);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Waiting,
    Busy,
    Finished,
    /// The source is gone.
    Broken,
}

fn pump(
    source: &mut End,
    destination: &mut End,
    flow: &mut Flow,
    buffers: &mut Buffers,
    now: Tick,
) -> Pumped {
    if !flush(source, destination, flow, buffers, now) {
        return Pumped::Waiting;
    }
    for _ in 0..BUDGET {
        if destination.broken && !source.eof {
            return if source.broken { Pumped::Broken } else { Pumped::Waiting };
        }
        if flow.spliced
            && source.may_splice()
            && let Some(pipe) = buffers.pipes.take()
        {
            return pump_through(pipe, source, destination, flow, buffers, now);
        }
        match source.read(&mut buffers.current, now) {
            Read::Bytes(read) => {
                flow.note(read);
                if !deliver(read, destination, flow, buffers, now) {
                    return Pumped::Waiting;
                }
            }
            Read::Waiting => return Pumped::Waiting,
            Read::Finished => return Pumped::Finished,
            Read::Broken => return Pumped::Broken,
        }
    }
    Pumped::Busy
}

/// The same through a pipe that is empty.
fn pump_through(
    mut pipe: Pipe,
    source: &mut End,
    destination: &mut End,
    flow: &mut Flow,
    buffers: &mut Buffers,
    now: Tick,
) -> Pumped {
    let mut pumped = Pumped::Busy;
    for _ in 0..MOVES {
        match source.splice_into(&mut pipe, now) {
            Read::Bytes(moved) => flow.note(moved),
            Read::Waiting => pumped = Pumped::Waiting,
            Read::Finished => pumped = Pumped::Finished,
            Read::Broken => pumped = Pumped::Broken,
        }
        if pumped != Pumped::Busy {
            break;
        }
        flow.bytes += destination.splice_from(&mut pipe, now) as u64;
        if !pipe.is_empty() {
            if !destination.broken {
                destination.touched = now;
                flow.pending = Some(Pending::Pipe(pipe));
            }
            return Pumped::Waiting;
        }
    }
    buffers.pipes.give_back(pipe);
    pumped
}

/// Writes the first `read` bytes of the buffer, and puts the buffer aside with what is not taken. Whether nothing is.
fn deliver(read: usize, destination: &mut End, flow: &mut Flow, buffers: &mut Buffers, now: Tick) -> bool {
    let Some(bytes) = buffers.current.get(..read) else { return true };
    let taken = destination.write(bytes, now);
    flow.bytes += taken as u64;
    if taken == read {
        return true;
    }
    if !destination.broken {
        destination.touched = now;
        let (start, end) = (taken as u32, read as u32);
        flow.pending = Some(Pending::Buffer { buffer: buffers.take(), start, end });
    }
    false
}

/// Writes what was put aside. Whether nothing is left.
fn flush(source: &mut End, destination: &mut End, flow: &mut Flow, buffers: &mut Buffers, now: Tick) -> bool {
    let Some(pending) = &mut flow.pending else { return true };
    if destination.writable && !destination.broken {
        flow.bytes += pending.write_to(destination, now) as u64;
    }
    if !destination.broken && !pending.is_empty() {
        return false;
    }
    // The source was not read meanwhile, so its silence begins only now.
    source.touched = now;
    if let Some(pending) = flow.pending.take() {
        pending.give_back(buffers);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use std::os::fd::OwnedFd;

    use rustix::event::epoll::EventFlags;

    use super::super::buffers::BUFFER;
    use super::super::splice::Pipes;
    use super::*;

    const NOW: Tick = Tick(7);

    struct Relay {
        client: End,
        backend: End,
        plain: Plain,
    }

    impl Relay {
        fn drive(&mut self, buffers: &mut Buffers, now: Tick) -> Progress {
            self.plain.drive(&mut self.client, &mut self.backend, buffers, now)
        }
    }

    /// A relay with the client's and the backend's far ends.
    fn relay() -> (Relay, TcpStream, TcpStream) {
        let (client, far_client) = pair();
        let (backend, far_backend) = pair();
        let end = |socket| End::new(socket, Tick(0));
        (
            Relay { client: end(client), backend: end(backend), plain: Plain::default() },
            far_client,
            far_backend,
        )
    }

    fn pair() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (near.into(), far)
    }

    /// Writes until the relay stands still. Returns how much.
    fn fill(relay: &mut Relay, buffers: &mut Buffers, source: &mut TcpStream) -> usize {
        let mut written = 0;
        let mut idle = 0;
        while idle < 3 {
            match source.write(&[1; 65536]) {
                Ok(n) => (written, idle) = (written + n, 0),
                Err(_) => idle += 1,
            }
            relay.backend.note(EventFlags::IN);
            while relay.drive(buffers, NOW) == Progress::Busy {}
        }
        written
    }

    /// Fills a relay whose client does not read, then reads it all. Returns how much was held meanwhile, and whether in a
    /// pipe.
    fn hold_back(buffers: &mut Buffers) -> (usize, bool) {
        let (mut relay, mut reader, mut source) = relay();
        let written = fill(&mut relay, buffers, &mut source);
        assert!(relay.plain.owes(Side::Client));
        assert!(relay.plain.waits_for(Side::Client, &relay.client));
        assert!(!relay.plain.waits_for(Side::Backend, &relay.backend));
        let held = match relay.plain.down.pending.as_ref().unwrap() {
            Pending::Buffer { start, end, .. } => ((end - start) as usize, false),
            Pending::Pipe(pipe) => (pipe.held(), true),
        };
        assert!(
            (relay.plain.down.bytes as usize) + held.0 < written,
            "the rest waits in the source's kernel buffer"
        );

        let mut read = 0;
        let mut buffer = vec![0; 1 << 20];
        while read < written {
            if let Ok(n) = reader.read(&mut buffer) {
                assert!(buffer[..n].iter().all(|byte| *byte == 1));
                read += n;
            }
            relay.client.note(EventFlags::OUT);
            relay.backend.note(EventFlags::IN);
            while relay.drive(buffers, NOW) == Progress::Busy {}
        }
        assert_eq!(relay.plain.down.bytes as usize, written);
        assert!(!relay.plain.owes(Side::Client));
        held
    }

    #[test]
    fn a_slow_reader_costs_one_buffer_and_its_source_is_not_read() {
        let mut buffers = Buffers::new();
        buffers.pipes = Pipes::none();
        let (held, piped) = hold_back(&mut buffers);
        assert!(held > 0 && held <= BUFFER && !piped);
        assert_eq!(buffers.spare.len(), 1, "the buffer that was put aside is used again");
    }

    #[test]
    fn a_slow_reader_of_bulk_costs_one_pipe_which_comes_back_empty() {
        let mut buffers = Buffers::new();
        let (held, piped) = hold_back(&mut buffers);
        assert!(held > 0 && held <= 1 << 20 && piped);
        assert_eq!(buffers.pipes.free(), 1);
    }

    #[test]
    fn a_direction_is_bulk_from_a_few_large_pieces_on_until_they_are_small_again() {
        let mut flow = Flow::default();
        let mut note = |size, times| {
            (0..times).for_each(|_| flow.note(size));
            flow.spliced
        };
        assert!(!note(LARGE, BULK - 1));
        assert!(!note(LARGE - 1, 1), "all over again");
        assert!(!note(LARGE, BULK - 1));
        assert!(note(LARGE, 1));
        assert!(note(1, BULK - 1));
        assert!(note(LARGE, 100));
        assert!(!note(1, BULK));
        assert!(!note(LARGE, BULK - 1));
    }

    #[test]
    fn a_source_that_never_pauses_gives_others_their_turn() {
        let (mut relay, mut reader, mut source) = relay();
        let mut buffers = Buffers::new();
        buffers.current = vec![0; 16].into_boxed_slice();
        source.write_all(&[1; 16 * BUDGET + 1]).unwrap();
        assert_eq!(relay.drive(&mut buffers, NOW), Progress::Busy);
        assert_eq!(relay.plain.down.bytes as usize, 16 * BUDGET);
        assert_eq!(relay.drive(&mut buffers, NOW), Progress::Waiting);
        assert_eq!(reader.read(&mut [0; 4096]).unwrap(), 16 * BUDGET + 1);
    }

    #[test]
    fn bytes_and_the_time_of_both_ends_are_taken_down() {
        let (mut relay, _reader, mut source) = relay();
        source.write_all(b"hello").unwrap();
        assert_eq!(relay.drive(&mut Buffers::new(), NOW), Progress::Waiting);
        assert_eq!((relay.plain.up.bytes, relay.plain.down.bytes), (0, 5));
        assert_eq!((relay.client.touched, relay.backend.touched), (NOW, NOW));
    }

    #[test]
    fn an_end_that_came_with_the_last_bytes_waits_until_they_are_taken() {
        let (mut relay, mut client, _source) = relay();
        let mut buffers = Buffers::new();
        let last = Box::from(*b"last");
        relay.plain.down.pending = Some(Pending::Buffer { buffer: last, start: 0, end: 4 });
        relay.backend.eof = true;
        relay.client.writable = false;
        assert_eq!(relay.drive(&mut buffers, NOW), Progress::Waiting);
        relay.client.note(EventFlags::OUT);
        assert_eq!(relay.drive(&mut buffers, NOW), Progress::Waiting, "for what the client sends");
        client.set_nonblocking(false).unwrap();
        let mut seen = Vec::new();
        client.read_to_end(&mut seen).unwrap();
        assert_eq!(seen, b"last");
    }

    #[test]
    fn an_error_that_comes_together_with_a_fin_is_not_missed() {
        use rustix::net::sockopt;
        let (mut relay, client, _source) = relay();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        relay.client.note(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        assert_eq!(relay.drive(&mut Buffers::new(), NOW), Progress::Broken(Side::Client));
    }
}
