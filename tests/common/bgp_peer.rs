//! A scripted BGP peer over real sockets: what a router sees of the speaker under test, message by message.
//!
//! It accepts any number of connections, one thread each, answers OPEN and KEEPALIVE like a router, and writes all it
//! gets into a [`Journal`] with the time of arrival. It can be told to freeze, to send anything, and to close.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bgp_wire::{self, Attributes, HEADER, Message, Prefix, Update};
use super::journal::{Entry, Journal};
use super::ports::Loopback;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Connected,
    Message(Message),
    /// Bytes that are no BGP message: the speaker's fault.
    Malformed(String),
    /// The speaker ended the connection (an orderly end, or a reset).
    Closed,
}

#[derive(Debug)]
pub struct BgpPeer {
    addr: SocketAddr,
    _own: Loopback,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    asn: u32,
    hold_time: u16,
    id: Ipv4Addr,
    frozen: (Mutex<bool>, Condvar),
    journal: Journal<Seen>,
    connection: Mutex<Option<TcpStream>>,
}

impl BgpPeer {
    /// A router of AS `asn` that listens on an address of its own, with a hold time of 9 s.
    pub fn start(asn: u32) -> Self {
        let own = Loopback::take();
        let shared = Arc::new(Shared {
            asn,
            hold_time: 9,
            id: Ipv4Addr::new(192, 0, 2, 1),
            frozen: Default::default(),
            journal: Journal::default(),
            connection: Mutex::new(None),
        });
        let mut peer = BgpPeer { addr: own.addr(), _own: own, shared, listener: None, acceptor: None };
        peer.listen_again();
        peer
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn asn(&self) -> u32 {
        self.shared.asn
    }

    pub fn journal(&self) -> &Journal<Seen> {
        &self.shared.journal
    }

    /// Dials the speaker under test; the connection is then treated like an accepted one.
    pub fn dial(&self, addr: SocketAddr) -> io::Result<()> {
        let stream = TcpStream::connect(addr)?;
        self.shared.connected(&stream);
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || converse(&stream, &shared));
        Ok(())
    }

    pub fn send(&self, bytes: &[u8]) {
        if let Some(mut connection) = self.shared.connection().as_ref() {
            let _ = connection.write_all(bytes);
        }
    }

    /// Stops reading and sending, as a router whose control plane hangs; `false` goes on.
    pub fn freeze(&self, frozen: bool) {
        *self.shared.frozen.0.lock().unwrap_or_else(PoisonError::into_inner) = frozen;
        self.shared.frozen.1.notify_all();
    }

    /// Ends the present connection without a NOTIFICATION.
    pub fn close(&self) {
        if let Some(connection) = self.shared.connection().take() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Refuses connections until [`BgpPeer::listen_again`], and ends the present one.
    pub fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.close();
    }

    pub fn listen_again(&mut self) {
        let listener = TcpListener::bind(self.addr).unwrap_or_else(|e| panic!("peer on {}: {e}", self.addr));
        let handle = listener.try_clone().expect("a second handle of the listener");
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                shared.connected(&stream);
                let shared = Arc::clone(&shared);
                thread::spawn(move || converse(&stream, &shared));
            }
        }));
        self.listener = Some(handle);
    }

    /// What the speaker has announced on its newest connection and not withdrawn; nothing once it is closed.
    pub fn routes(&self) -> BTreeMap<Prefix, Attributes> {
        routes(&self.journal().since(0))
    }

    /// Waits until `prefix` is announced, and says when and how.
    #[track_caller]
    pub fn wait_announced(&self, prefix: Prefix, within: Duration) -> (Instant, Attributes) {
        self.wait_route(&format!("{prefix} announced"), within, |all| all.get(&prefix).cloned())
    }

    /// Waits until `prefix` is announced with attributes that satisfy `are`.
    #[track_caller]
    pub fn wait_attributes(
        &self,
        prefix: Prefix,
        within: Duration,
        are: impl Fn(&Attributes) -> bool,
    ) -> Instant {
        let what = format!("{prefix} with other attributes");
        self.wait_route(&what, within, |all| all.get(&prefix).filter(|a| are(a)).map(|_| ())).0
    }

    /// Waits until `prefix` is not announced, and says when that began to be so.
    #[track_caller]
    pub fn wait_withdrawn(&self, prefix: Prefix, within: Duration) -> Instant {
        self.wait_route(&format!("{prefix} withdrawn"), within, |all| {
            (!all.contains_key(&prefix)).then_some(())
        })
        .0
    }

    #[track_caller]
    fn wait_route<R>(
        &self,
        what: &str,
        within: Duration,
        mut find: impl FnMut(&BTreeMap<Prefix, Attributes>) -> Option<R>,
    ) -> (Instant, R) {
        let found = self.journal().wait(within, |all| {
            let at = all.last().map_or_else(Instant::now, |e| e.at);
            find(&routes(all)).map(|r| (at, r))
        });
        found.unwrap_or_else(|| {
            panic!("not within {within:?}: {what}; journal: {:#?}", self.journal().since(0))
        })
    }

    /// Waits for the session: both OPENs and the speaker's first KEEPALIVE have been exchanged.
    #[track_caller]
    pub fn wait_established(&self, within: Duration) {
        let keepalive = Seen::Message(Message::Keepalive);
        assert!(
            self.journal().wait_since(0, within, |seen| *seen == keepalive).is_some(),
            "no session within {within:?}: {:#?}",
            self.journal().since(0)
        );
    }

    /// Waits for a NOTIFICATION that came after the journal had `mark` entries: when, its code and its subcode.
    #[track_caller]
    pub fn wait_notification(&self, mark: usize, within: Duration) -> (Instant, u8, u8) {
        let found = self.journal().wait(within, |all| {
            all.iter().skip(mark).find_map(|entry| match entry.what {
                Seen::Message(Message::Notification { code, subcode, .. }) => Some((entry.at, code, subcode)),
                _ => None,
            })
        });
        found
            .unwrap_or_else(|| panic!("no NOTIFICATION within {within:?}: {:#?}", self.journal().since(mark)))
    }

    /// UPDATEs that came after the journal had `mark` entries.
    pub fn updates_since(&self, mark: usize) -> Vec<Update> {
        let update = |entry: Entry<Seen>| match entry.what {
            Seen::Message(Message::Update(update)) => Some(update),
            _ => None,
        };
        self.journal().since(mark).into_iter().filter_map(update).collect()
    }

    /// Everything but KEEPALIVEs that came after the journal had `mark` entries.
    pub fn news_since(&self, mark: usize) -> Vec<Seen> {
        let is_news = |seen: &Seen| *seen != Seen::Message(Message::Keepalive);
        self.journal().since(mark).into_iter().map(|e| e.what).filter(is_news).collect()
    }
}

impl Drop for BgpPeer {
    fn drop(&mut self) {
        self.freeze(false);
        self.stop();
    }
}

impl Shared {
    fn connected(&self, stream: &TcpStream) {
        *self.connection() = stream.try_clone().ok();
        self.journal.push(Seen::Connected);
    }

    /// Returns once it is not frozen.
    fn thaw(&self) {
        let frozen = self.frozen.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.frozen.1.wait_while(frozen, |frozen| *frozen));
    }

    fn connection(&self) -> MutexGuard<'_, Option<TcpStream>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The adj-rib-in after these entries.
fn routes(entries: &[Entry<Seen>]) -> BTreeMap<Prefix, Attributes> {
    let mut rib = BTreeMap::new();
    for entry in entries {
        match &entry.what {
            Seen::Connected | Seen::Closed => rib.clear(),
            Seen::Message(Message::Update(update)) => {
                for prefix in &update.withdrawn {
                    rib.remove(prefix);
                }
                for prefix in &update.announced {
                    rib.insert(*prefix, update.attributes.clone());
                }
            }
            Seen::Message(_) | Seen::Malformed(_) => {}
        }
    }
    rib
}

/// One connection from OPEN to its end.
fn converse(stream: &TcpStream, shared: &Shared) {
    let end = exchange(stream, shared);
    if let Err(e) = end
        && e.kind() == io::ErrorKind::InvalidData
    {
        shared.journal.push(Seen::Malformed(e.to_string()));
    }
    shared.journal.push(Seen::Closed);
}

fn exchange(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    const TICK: Duration = Duration::from_millis(50);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.write_all(&bgp_wire::open(shared.asn, shared.hold_time, shared.id))?;
    let keepalive_every = Duration::from_secs(u64::from(shared.hold_time / 3));
    let mut keepalive_at = Instant::now() + keepalive_every;
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        shared.thaw();
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => pending.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
        while let Some(message) = next_message(&mut pending)? {
            if let Message::Open(_) = message {
                stream.write_all(&bgp_wire::keepalive())?;
            }
            shared.journal.push(Seen::Message(message));
        }
        if Instant::now() >= keepalive_at {
            keepalive_at = Instant::now() + keepalive_every;
            stream.write_all(&bgp_wire::keepalive())?;
        }
    }
}

fn next_message(pending: &mut Vec<u8>) -> io::Result<Option<Message>> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let Some(header) = pending.get(..HEADER) else { return Ok(None) };
    if header.iter().take(16).any(|b| *b != 0xFF) {
        return Err(bad("a marker that is not all ones".into()));
    }
    let (length, kind) = (usize::from(u16::from_be_bytes([header[16], header[17]])), header[18]);
    if !(HEADER..=4096).contains(&length) {
        return Err(bad(format!("length {length}")));
    }
    if pending.len() < length {
        return Ok(None);
    }
    let message: Vec<u8> = pending.drain(..length).collect();
    bgp_wire::decode(kind, &message[HEADER..]).map(Some).map_err(bad)
}
