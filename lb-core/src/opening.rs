//! What a client has to say before a backend is chosen: steps that each read some bytes and decide.
//!
//! A step reads through the client's [`End`] into `Connection::received`, takes off the front what it understands, and
//! leaves the rest to the next step and at last to the backend. All of it has to be there by one deadline, so that a client
//! that never says it costs its own slot and one buffer at most.
//!
//! A further step (a TLS handshake, a look at the ClientHello) is a further variant of [`Step`], its place in
//! [`Step::after`], and a function that returns a [`Verdict`].

use std::time::Duration;

use rustix::event::epoll::EventFlags;

use crate::CloseReason;
use crate::connection::{Client, Connection, Stage};
use crate::poll::Watch;
use crate::proxy_protocol::{self, Decoded, Header};
use crate::relay::{Buffers, Read};
use crate::service::Settings;
use crate::slab::Key;
use crate::wheel::{Tick, Ticks};
use crate::worker::Worker;

/// An opening takes no longer than this, nor than `timeouts.client`.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a client is in its opening.
#[derive(Debug)]
pub(crate) struct Opening {
    step: Step,
    deadline: Tick,
}

/// What a client has to say, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `accept_proxy`.
    ProxyHeader,
}

impl Step {
    /// The next step that the service asks for; `None`: a backend can be chosen.
    fn after(step: Option<Step>, settings: &Settings) -> Option<Step> {
        match step {
            None if settings.accept_proxy.is_some() => Some(Step::ProxyHeader),
            None | Some(Step::ProxyHeader) => None,
        }
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
        }
    }
}

impl Worker {
    /// Begins the opening of a client that was just accepted, or connects it if there is nothing to say.
    pub(crate) fn begin_opening(&mut self, key: Key) {
        let now = self.tick();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let settings = connection.service.settings();
        let Some(step) = Step::after(None, settings) else { return self.begin_to_connect(key) };
        if step == Step::ProxyHeader && !is_trusted(connection) {
            return self.close(key, CloseReason::Untrusted);
        }
        let deadline = now.after(settings.client.min(Ticks::from(LONGEST)));
        connection.stage = Stage::Opening(Opening { step, deadline });
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
            };
            match verdict {
                Verdict::More => return,
                Verdict::Close(reason) => return self.close(key, reason),
                Verdict::Done => {}
            }
            let Stage::Opening(opening) = &mut connection.stage else { return };
            match Step::after(Some(opening.step), connection.service.settings()) {
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
                return Verdict::Done;
            }
            Err(_) => return Verdict::Close(CloseReason::ProxyHeader),
        }
    }
}
