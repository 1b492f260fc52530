//! Moving bytes between a client and its backend: both ways at once, half-closed ends, bounded memory.
//!
//! State is two descriptors, the bytes in flight and a few flags; nothing hides on a stack. Bytes go through the
//! worker's one buffer straight to the other side. Only what the other side does not take stays behind: then the buffer
//! itself is put aside with it, the worker takes another, and the source is not read until those bytes are gone. So a
//! direction holds at most one buffer.
//!
//! Urgent (out-of-band) octets are not passed on: the kernel keeps the one that is urgent out of the stream, and the rest
//! goes on without it.
//!
//! Events come edge-triggered, so what is known of a socket is kept in flags: `readable` and `writable` hold until the
//! kernel says otherwise.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::socket;
use crate::wheel::Tick;

/// Bytes moved by one read and write.
const BUFFER: usize = 64 * 1024;
/// Reads per direction before others get their turn: 1 MiB.
const BUDGET: usize = 16;
/// Buffers kept for the next slow reader.
const SPARE: usize = 16;

/// The worker's buffer, and spare ones for when it is put aside.
#[derive(Debug)]
pub(crate) struct Buffers {
    current: Box<[u8]>,
    spare: Vec<Box<[u8]>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Buffers { current: vec![0; BUFFER].into_boxed_slice(), spare: Vec::new() }
    }

    fn take(&mut self) -> Box<[u8]> {
        let next = self.spare.pop().unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
        std::mem::replace(&mut self.current, next)
    }

    fn give_back(&mut self, buffer: Box<[u8]>) {
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }
}

/// One of the two sockets of a relayed connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: OwnedFd,
    /// When bytes last went in or out, or were first waited for.
    pub(crate) touched: Tick,
    readable: bool,
    writable: bool,
    /// The peer's FIN is here, so a short read has come to the end.
    fin: bool,
    /// A short read does not prove that nothing is left: an error or urgent data may follow.
    more: bool,
    /// The kernel reported an error.
    error: bool,
    /// Everything the peer sent has been read, and its FIN.
    pub(crate) eof: bool,
    /// A write failed. What the peer sent before is still read and delivered.
    broken: bool,
}

impl End {
    pub(crate) fn new(socket: OwnedFd, now: Tick) -> Self {
        End {
            socket,
            touched: now,
            readable: true,
            writable: true,
            fin: false,
            more: false,
            error: false,
            eof: false,
            broken: false,
        }
    }

    /// Takes in what the kernel reported.
    pub(crate) fn note(&mut self, flags: EventFlags) {
        const MORE: EventFlags = EventFlags::HUP.union(EventFlags::ERR).union(EventFlags::PRI);
        self.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        self.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | MORE);
        self.fin |= flags.contains(EventFlags::RDHUP);
        self.more |= flags.intersects(MORE);
        self.error |= flags.contains(EventFlags::ERR);
    }

    /// What to make of the end of what this side sent.
    fn ended(&mut self) -> Pumped {
        // After a FIN reading never shows an error, so it has to be asked for.
        if std::mem::take(&mut self.error) && socket::outcome(&self.socket).is_err() {
            self.broken = true;
        }
        if self.broken { Pumped::Broken } else { Pumped::Finished }
    }

    /// Writes, and returns how much was taken. Less than everything: full for now, or broken.
    fn write(&mut self, bytes: &[u8], now: Tick) -> usize {
        loop {
            match socket::send(&self.socket, bytes) {
                Ok(taken) => {
                    self.touched = now;
                    self.writable = taken == bytes.len();
                    return taken;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    return 0;
                }
                Err(_) => {
                    self.broken = true;
                    // Reads what came before the reset, then the end.
                    self.readable = true;
                    self.more = true;
                    return 0;
                }
            }
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pending: Option<Pending>,
    /// Bytes delivered to the destination's kernel.
    pub(crate) bytes: u64,
    /// The source ended and everything was delivered.
    finished: bool,
}

/// What the destination has not taken yet.
#[derive(Debug)]
struct Pending {
    buffer: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Which of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

/// What driving a relay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing to do until the kernel reports something.
    Waiting,
    /// There is more to do at once.
    Busy,
    /// Both directions are finished.
    Completed,
    /// The connection on this side is gone.
    Broken(Side),
}

/// Both ends and both directions.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) client: End,
    pub(crate) backend: End,
    /// Client to backend.
    pub(crate) up: Flow,
    /// Backend to client.
    pub(crate) down: Flow,
}

impl Relay {
    pub(crate) fn new(client: OwnedFd, backend: OwnedFd, now: Tick) -> Self {
        Relay {
            client: End::new(client, now),
            backend: End::new(backend, now),
            up: Flow::default(),
            down: Flow::default(),
        }
    }

    /// Another backend's socket, still connecting, instead of the one before.
    pub(crate) fn connect_to(&mut self, backend: OwnedFd, now: Tick) {
        self.backend = End::new(backend, now);
    }

    /// The backend took the connection, and the kernel reported `flags` of it.
    pub(crate) fn begin(&mut self, flags: EventFlags, now: Tick) {
        self.client.touched = now;
        self.backend.touched = now;
        self.backend.readable = false;
        self.backend.note(flags);
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    /// Moves what can be moved now, within the budget.
    pub(crate) fn drive(&mut self, buffers: &mut Buffers, now: Tick) -> Progress {
        let Relay { client, backend, up, down } = self;
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

    /// Whether bytes wait for this side to take them.
    pub(crate) fn owes(&self, side: Side) -> bool {
        let flow = match side {
            Side::Client => &self.down,
            Side::Backend => &self.up,
        };
        flow.pending.is_some()
    }

    /// Whether the connection waits for this side: to send, or to take what there is for it.
    pub(crate) fn waits_for(&self, side: Side) -> bool {
        let (end, sent) = match side {
            Side::Client => (&self.client, &self.up),
            Side::Backend => (&self.backend, &self.down),
        };
        self.owes(side) || (!end.eof && sent.pending.is_none())
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
        if source.eof {
            return source.ended();
        }
        if destination.broken {
            return if source.broken { Pumped::Broken } else { Pumped::Waiting };
        }
        if !source.readable {
            return Pumped::Waiting;
        }
        match socket::receive(&source.socket, &mut buffers.current) {
            Ok(0) => source.eof = true,
            Ok(read) => {
                source.touched = now;
                if read < buffers.current.len() && !source.more {
                    source.readable = false;
                    source.eof = source.fin;
                }
                if !deliver(read, destination, flow, buffers, now) {
                    return Pumped::Waiting;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !source.broken => {
                source.readable = false;
                source.more = false;
            }
            Err(_) => return Pumped::Broken,
        }
    }
    Pumped::Busy
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
        flow.pending = Some(Pending { buffer: buffers.take(), start: taken as u32, end: read as u32 });
    }
    false
}

/// Writes what was put aside. Whether nothing is left.
fn flush(source: &mut End, destination: &mut End, flow: &mut Flow, buffers: &mut Buffers, now: Tick) -> bool {
    let Some(pending) = &mut flow.pending else { return true };
    if destination.writable && !destination.broken {
        let taken = destination.write(pending.bytes(), now);
        flow.bytes += taken as u64;
        pending.start += taken as u32;
    }
    if !destination.broken && !pending.bytes().is_empty() {
        return false;
    }
    // The source was not read meanwhile, so its silence begins only now.
    source.touched = now;
    if let Some(pending) = flow.pending.take() {
        buffers.give_back(pending.buffer);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const NOW: Tick = Tick(7);

    /// A relay with the client's and the backend's far ends.
    fn relay() -> (Relay, TcpStream, TcpStream) {
        let (client, far_client) = pair();
        let (backend, far_backend) = pair();
        (Relay::new(client, backend, Tick(0)), far_client, far_backend)
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

    #[test]
    fn a_slow_reader_costs_one_buffer_and_its_source_is_not_read() {
        let (mut relay, mut reader, mut source) = relay();
        let mut buffers = Buffers::new();
        let written = fill(&mut relay, &mut buffers, &mut source);

        assert!(relay.owes(Side::Client));
        assert!(relay.waits_for(Side::Client) && !relay.waits_for(Side::Backend));
        let held = relay.down.pending.as_ref().map_or(0, |pending| pending.bytes().len());
        assert!(held > 0 && held <= BUFFER);
        assert!((relay.down.bytes as usize) + held < written, "the rest waits in the source's kernel buffer");

        let mut read = 0;
        let mut buffer = vec![0; 1 << 20];
        while read < written {
            if let Ok(n) = reader.read(&mut buffer) {
                read += n;
            }
            relay.client.note(EventFlags::OUT);
            relay.backend.note(EventFlags::IN);
            while relay.drive(&mut buffers, NOW) == Progress::Busy {}
        }
        assert_eq!(relay.down.bytes as usize, written);
        assert!(!relay.owes(Side::Client));
        assert_eq!(buffers.spare.len(), 1, "the buffer that was put aside is used again");
    }

    #[test]
    fn a_source_that_never_pauses_gives_others_their_turn() {
        let (mut relay, mut reader, mut source) = relay();
        let mut buffers = Buffers::new();
        buffers.current = vec![0; 16].into_boxed_slice();
        source.write_all(&[1; 16 * BUDGET + 1]).unwrap();
        assert_eq!(relay.drive(&mut buffers, NOW), Progress::Busy);
        assert_eq!(relay.down.bytes as usize, 16 * BUDGET);
        assert_eq!(relay.drive(&mut buffers, NOW), Progress::Waiting);
        assert_eq!(reader.read(&mut [0; 4096]).unwrap(), 16 * BUDGET + 1);
    }

    #[test]
    fn bytes_and_the_time_of_both_ends_are_taken_down() {
        let (mut relay, _reader, mut source) = relay();
        source.write_all(b"hello").unwrap();
        assert_eq!(relay.drive(&mut Buffers::new(), NOW), Progress::Waiting);
        assert_eq!((relay.up.bytes, relay.down.bytes), (0, 5));
        assert_eq!((relay.client.touched, relay.backend.touched), (NOW, NOW));
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
