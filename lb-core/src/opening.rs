//! What a client has to say before a backend is chosen: steps that each read some bytes and decide.
//!
//! A step reads through the client's end into `Connection::received`, takes off the front what it understands, and
//! leaves the rest to the next step and at last to the backend. All of it has to be there by one deadline, so that a client
//! that never says it costs its own slot and one buffer at most.
//!
//! A further step is a further variant of [`Step`], its place in [`Step::after`], and a function that returns a [`Verdict`].

use std::time::Duration;

use rustix::event::epoll::EventFlags;

use crate::CloseReason;
use crate::connection::{Client, Connection, Stage};
use crate::poll::Watch;
use crate::proxy_protocol::{self, Decoded, Header};
use crate::relay::{Buffers, Read, Side};
use crate::service::ServiceEntry;
use crate::slab::Key;
use crate::snapshot::Snapshot;
use crate::tls::hello::{Hello, HelloReader, LONGEST_HELLO};
use crate::tls::{Secured, Shaken};
use crate::wheel::{Tick, Ticks};
use crate::worker::Worker;

/// An opening takes no longer than this, nor than `timeouts.client`.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a client is in its opening.
#[derive(Debug)]
pub(crate) struct Opening {
    step: Step,
    deadline: Tick,
    /// How far the ClientHello has been read.
    hello: HelloReader,
}

/// What a client has to say, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `accept_proxy`.
    ProxyHeader,
    /// `sni_routes`: only looked at, the backend gets it. It may lead to another service, whose own `tls` then counts.
    ClientHello,
    /// `tls`.
    Handshake,
}

impl Step {
    /// The next step that the service asks for; `None`: a backend can be chosen.
    fn after(step: Option<Step>, service: &ServiceEntry) -> Option<Step> {
        let asked_for = |step: &Step| match step {
            Step::ProxyHeader => service.settings.accept_proxy.is_some(),
            Step::ClientHello => service.tls.is_routed(),
            Step::Handshake => service.tls.is_terminated(),
        };
        let rest = match step {
            None => &[Step::ProxyHeader, Step::ClientHello, Step::Handshake][..],
            Some(Step::ProxyHeader) => &[Step::ClientHello, Step::Handshake],
            Some(Step::ClientHello) => &[Step::Handshake],
            Some(Step::Handshake) => &[],
        };
        rest.iter().copied().find(asked_for)
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on when the client has said more.
    More,
    /// On to the next step.
    Done,
    Close(CloseReason),
}

impl Opening {
    pub(crate) fn deadline(&self) -> (Tick, CloseReason) {
        match self.step {
            Step::ProxyHeader => (self.deadline, CloseReason::ProxyHeader),
            Step::ClientHello | Step::Handshake => (self.deadline, CloseReason::TlsTimeout),
        }
    }
}

impl Worker {
    /// Begins the opening of a client that was just accepted, or connects it if there is nothing to say.
    pub(crate) fn begin_opening(&mut self, key: Key) {
        let now = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.service.settings().accept_proxy.is_none()
            && let Err(reason) = connection.admit()
        {
            return self.close(key, reason);
        }
        let Some(step) = Step::after(None, connection.service.entry()) else {
            return self.begin_to_connect(key);
        };
        if step == Step::ProxyHeader && !is_trusted(connection) {
            return self.close(key, CloseReason::Untrusted);
        }
        let deadline = now.after(connection.service.settings().client.min(Ticks::from(LONGEST)));
        connection.stage = Stage::Opening(Opening { step, deadline, hello: HelloReader::default() });
        self.wheel.set(key.index, deadline);
        self.watch_client(key, Watch::Reads);
    }

    /// The kernel reports on a client that is in its opening.
    pub(crate) fn go_on_opening(&mut self, key: Key, flags: EventFlags) {
        let now = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.client_end.note(flags);
        loop {
            let Stage::Opening(opening) = &mut connection.stage else { return };
            let verdict = match opening.step {
                Step::ProxyHeader => proxy_header(connection, &mut self.buffers, now),
                Step::ClientHello => {
                    client_hello(connection, &mut self.buffers, &self.shared.snapshot.load(), now)
                }
                Step::Handshake => handshake(connection, &mut self.buffers, now),
            };
            match verdict {
                Verdict::More => {
                    // Most clients take a handshake's flight at once.
                    if connection.secured.as_ref().is_some_and(|secured| secured.owes(Side::Client)) {
                        self.watch_client(key, Watch::ReadsAndWrites);
                    }
                    return;
                }
                Verdict::Close(reason) => return self.close(key, reason),
                Verdict::Done => {}
            }
            let Stage::Opening(opening) = &mut connection.stage else { return };
            match Step::after(Some(opening.step), connection.service.entry()) {
                Some(step) => opening.step = step,
                None => return self.begin_to_connect(key),
            }
        }
    }
}

/// Whether the client may say on whose behalf it comes.
fn is_trusted(connection: &Connection) -> bool {
    let trusted = connection.service.settings().accept_proxy.as_deref().unwrap_or_default();
    trusted.iter().any(|network| network.contains(&connection.client.address.ip()))
}

/// Reads the header, and takes the client's addresses from it.
fn proxy_header(connection: &mut Connection, buffers: &mut Buffers, now: Tick) -> Verdict {
    loop {
        match connection.client_end.read(buffers.current(), now) {
            Read::Waiting => return Verdict::More,
            Read::Finished => return Verdict::Close(CloseReason::ProxyHeader),
            Read::Broken => return Verdict::Close(CloseReason::ClientReset),
            Read::Bytes(read) => {
                connection.received.extend_from_slice(buffers.current().get(..read).unwrap_or_default());
            }
        }
        match proxy_protocol::decode(&connection.received) {
            Ok(None) => {}
            Ok(Some(Decoded { header, length })) => {
                connection.received.drain(..length);
                if let Header::Addresses { source, destination } = header {
                    connection.client = Client { address: source, local: destination };
                }
                return connection.admit().map_or_else(Verdict::Close, |()| Verdict::Done);
            }
            Err(_) => return Verdict::Close(CloseReason::ProxyHeader),
        }
    }
}

/// Looks at the ClientHello for the name that the client asks for, and goes on as the service that this name leads to. Who
/// asks for none, does not speak TLS, or ends its stream before that is clear stays where it is.
fn client_hello(
    connection: &mut Connection,
    buffers: &mut Buffers,
    snapshot: &Snapshot,
    now: Tick,
) -> Verdict {
    let Stage::Opening(Opening { hello, .. }) = &mut connection.stage else { return Verdict::Done };
    loop {
        let name = match hello.read(&connection.received) {
            Hello::Name(name) => name,
            Hello::Nameless => return Verdict::Done,
            Hello::Incomplete => {
                let buffer = buffers.current().get_mut(..LONGEST_HELLO).unwrap_or_default();
                match connection.client_end.read(buffer, now) {
                    Read::Waiting => return Verdict::More,
                    Read::Finished => return Verdict::Done,
                    Read::Broken => return Verdict::Close(CloseReason::ClientReset),
                    Read::Bytes(read) => {
                        connection.received.extend_from_slice(buffer.get(..read).unwrap_or_default());
                    }
                }
                continue;
            }
        };
        let route = connection.service.entry().tls.route(&name).and_then(|name| snapshot.service(name));
        if let Some(entry) = route.cloned() {
            connection.service.route_to(entry);
            // That service has its own say about the client.
            return connection.admit().map_or_else(Verdict::Close, |()| Verdict::Done);
        }
        return Verdict::Done;
    }
}

/// Goes on with the TLS handshake with the client, which may have begun in what was read already.
fn handshake(connection: &mut Connection, buffers: &mut Buffers, now: Tick) -> Verdict {
    let Connection { secured, received, service, client_end, .. } = connection;
    let secured = match secured {
        Some(secured) => secured,
        None => match service.entry().tls.accept(std::mem::take(received)) {
            Some(Ok(session)) => secured.insert(Box::new(Secured::client(session))),
            Some(Err(_)) | None => return Verdict::Close(CloseReason::TlsHandshakeFailed),
        },
    };
    let layer = secured.layer_mut(Side::Client);
    match layer.shake_hands(client_end, buffers.current(), now) {
        Shaken::Waiting => Verdict::More,
        Shaken::Done => {
            service.counters().tls_handshakes.increment();
            if layer.is_resumed() {
                service.counters().tls_resumed.increment();
            }
            Verdict::Done
        }
        Shaken::Failed(_) => Verdict::Close(CloseReason::TlsHandshakeFailed),
        Shaken::Broken => Verdict::Close(CloseReason::ClientReset),
    }
}
