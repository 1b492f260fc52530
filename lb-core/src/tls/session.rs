//! One TLS connection without its socket: ciphertext in, plaintext out, and the other way round.
//!
//! rustls decides everything; this keeps the bytes of a message that is not complete yet, and what rustls wants sent is
//! handed over as bytes. Memory: at most one handshake message (64 KiB) while it lasts, then at most one record.

use std::sync::Arc;

use config::CloseNotify;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};

use super::TlsFailure;

/// Bytes of one incomplete message at most: rustls takes no longer handshake message.
pub(crate) const LONGEST_MESSAGE: usize = 0xffff;
/// How much longer than its plaintext the ciphertext of one relay buffer is at most, and what rustls puts before it.
pub(crate) const SEAL_OVERHEAD: usize = 4096;

/// Either role.
enum Role {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl Role {
    fn advance(&mut self, incoming: &mut [u8], output: &mut Output<'_>) -> Advanced {
        match self {
            Role::Server(server) => advance(server, incoming, output),
            Role::Client(client) => advance(client, incoming, output),
        }
    }
}

/// One side of a relayed connection that speaks TLS.
pub(crate) struct Session {
    role: Role,
    /// Received, but not complete enough to be processed.
    rest: Vec<u8>,
    /// Application data that came in one piece with the end of the handshake.
    early: Vec<u8>,
    /// The peer said that it sends nothing more.
    ended: bool,
    /// Whether it has to say so.
    close_notify: CloseNotify,
}

/// What receiving came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// The peer may send more.
    More,
    /// The peer ended its stream in order (close_notify).
    Ended,
}

/// Whether the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Goes,
    Done,
}

impl Session {
    /// A client's connection, which begins with the bytes that were read before.
    pub(crate) fn accept(config: Arc<ServerConfig>, first: Vec<u8>) -> Result<Self, TlsFailure> {
        let server = UnbufferedServerConnection::new(config).map_err(|error| TlsFailure::of(&error))?;
        Ok(Session::new(Role::Server(server), first))
    }

    /// Our connection to a backend.
    pub(crate) fn connect(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsFailure> {
        let client = UnbufferedClientConnection::new(config, name).map_err(|error| TlsFailure::of(&error))?;
        Ok(Session::new(Role::Client(client), Vec::new()))
    }

    /// The same, whose peer has to end its stream in order, or need not.
    pub(crate) fn expecting(self, close_notify: CloseNotify) -> Self {
        Session { close_notify, ..self }
    }

    pub(crate) fn close_notify(&self) -> CloseNotify {
        self.close_notify
    }

    fn new(role: Role, rest: Vec<u8>) -> Self {
        Session { role, rest, early: Vec::new(), ended: false, close_notify: CloseNotify::Required }
    }

    /// Whether [`Session::receive`] has something to give without any further bytes.
    pub(crate) fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Whether the peer has ended its stream in order.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// How much of the next buffer is left free at its front, for what is not complete yet.
    pub(crate) fn lead(&self) -> usize {
        self.rest.len()
    }

    /// Goes on with the handshake. What is to be sent is appended to `outgoing`, an alert too if it fails.
    pub(crate) fn shake_hands(
        &mut self,
        received: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<Handshake, TlsFailure> {
        self.rest.extend_from_slice(received);
        let Session { role, rest, early, .. } = self;
        let Advanced { taken, came_to } = role.advance(rest, &mut Output { plain: early, outgoing });
        self.rest.drain(..taken);
        self.take_down(came_to?)?;
        match (self.is_handshaking(), self.ended) {
            (true, true) => Err(TlsFailure::Gone),
            (true, false) => Ok(Handshake::Goes),
            (false, _) => Ok(Handshake::Done),
        }
    }

    /// Takes in `incoming`, in which as much as [`Session::lead`] says is free at the front. Application data is appended to
    /// `plain`, what the session itself has to say to `outgoing`: an alert, if it fails.
    pub(crate) fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Received, TlsFailure> {
        if let Some(front) = incoming.get_mut(..self.rest.len()) {
            front.copy_from_slice(&self.rest);
        }
        plain.append(&mut self.early);
        let Advanced { taken, came_to } = self.role.advance(incoming, &mut Output { plain, outgoing });
        self.keep(incoming.get(taken..).unwrap_or_default());
        self.take_down(came_to?)?;
        Ok(if self.ended { Received::Ended } else { Received::More })
    }

    /// After a step, with `rest` kept.
    fn take_down(&mut self, stop: Stop) -> Result<(), TlsFailure> {
        match stop {
            Stop::Ended => {
                self.ended = true;
                self.rest = Vec::new();
            }
            Stop::Blocked if self.rest.len() > LONGEST_MESSAGE => return Err(TlsFailure::Protocol),
            Stop::Blocked => {}
        }
        Ok(())
    }

    /// Keeps what is not complete; nothing of it takes no memory.
    fn keep(&mut self, incomplete: &[u8]) {
        if incomplete.is_empty() {
            self.rest = Vec::new();
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(incomplete);
        }
    }

    /// Encrypts all of `plain`, after what rustls itself has to say. `sealed` is longer by [`SEAL_OVERHEAD`] and returned
    /// is how much of it was filled.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<usize, TlsFailure> {
        match &mut self.role {
            Role::Server(server) => seal(server, &mut self.rest, plain, sealed),
            Role::Client(client) => seal(client, &mut self.rest, plain, sealed),
        }
    }

    /// Ends our stream in order.
    pub(crate) fn close(&mut self, outgoing: &mut Vec<u8>) {
        let mut sealed = [0; 256];
        let filled = match &mut self.role {
            Role::Server(server) => close(server, &mut self.rest, &mut sealed),
            Role::Client(client) => close(client, &mut self.rest, &mut sealed),
        };
        outgoing.extend_from_slice(sealed.get(..filled).unwrap_or_default());
    }

    /// Whether the handshake was that of a resumed session.
    pub(crate) fn is_resumed(&self) -> bool {
        let kind = match &self.role {
            Role::Server(server) => server.handshake_kind(),
            Role::Client(client) => client.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    fn is_handshaking(&self) -> bool {
        match &self.role {
            Role::Server(server) => server.is_handshaking(),
            Role::Client(client) => client.is_handshaking(),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = match self.role {
            Role::Server(_) => "server",
            Role::Client(_) => "client",
        };
        f.debug_struct("Session").field("role", &role).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What the two roles have in common, for which rustls has no name.
trait Peer {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// Whether the next call of `process` gives something to send.
    fn wants_write(&self) -> bool;
}

impl Peer for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

impl Peer for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

/// Where the results go.
struct Output<'a> {
    plain: &'a mut Vec<u8>,
    outgoing: &'a mut Vec<u8>,
}

/// Why it went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Nothing complete is left.
    Blocked,
    /// The peer's stream has ended in order.
    Ended,
}

struct Advanced {
    /// Bytes of the input that are done with.
    taken: usize,
    came_to: Result<Stop, TlsFailure>,
}

fn advance<P: Peer>(peer: &mut P, incoming: &mut [u8], output: &mut Output<'_>) -> Advanced {
    let mut taken = 0;
    loop {
        let left = incoming.get_mut(taken..).unwrap_or_default();
        let UnbufferedStatus { discard, state } = peer.process(left);
        let stop = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    output.plain.extend_from_slice(record.payload);
                }
                None
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(output.outgoing, |room| data.encode(room));
                None
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                None
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Stop::Ended),
            // Early data is not offered, and there is no other state that this could wait for.
            Ok(_) => Some(Stop::Blocked),
            Err(error) => {
                taken += discard;
                say_why(peer, incoming.get_mut(taken..).unwrap_or_default(), output.outgoing);
                return Advanced { taken, came_to: Err(TlsFailure::of(&error)) };
            }
        };
        taken += discard;
        if let Some(stop) = stop {
            return Advanced { taken, came_to: Ok(stop) };
        }
    }
}

/// After an error: the alert that rustls has made of it, and what was to go before that. It is asked no more often than
/// it has something to say: it would look at the same bytes again.
fn say_why<P: Peer>(peer: &mut P, incoming: &mut [u8], outgoing: &mut Vec<u8>) {
    while peer.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = peer.process(incoming).state else { return };
        encode(outgoing, |room| data.encode(room));
    }
}

/// Appends one message, which says itself how much room it needs.
fn encode(outgoing: &mut Vec<u8>, mut message: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = message(&mut []) {
        let start = outgoing.len();
        outgoing.resize(start + required_size, 0);
        let filled = message(outgoing.get_mut(start..).unwrap_or_default()).unwrap_or(0);
        outgoing.truncate(start + filled);
    }
}

fn seal<P: Peer>(
    peer: &mut P,
    rest: &mut [u8],
    plain: &[u8],
    sealed: &mut [u8],
) -> Result<usize, TlsFailure> {
    match peer.process(rest).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.encrypt(plain, sealed).map_err(|_| TlsFailure::Exhausted)
        }
        Ok(_) => Err(TlsFailure::Protocol),
        Err(error) => Err(TlsFailure::of(&error)),
    }
}

fn close<P: Peer>(peer: &mut P, rest: &mut [u8], sealed: &mut [u8]) -> usize {
    match peer.process(rest).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(sealed).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{client_config, server_config};

    /// Both sides of a connection, without sockets.
    struct Pair {
        client: Session,
        server: Session,
    }

    impl Pair {
        /// After the handshake, whose flights come in pieces of so many bytes.
        fn connected(piece: usize) -> Self {
            let client = Session::connect(client_config(), "api.example.org".try_into().unwrap()).unwrap();
            let server = Session::accept(server_config(), Vec::new()).unwrap();
            let mut pair = Pair { client, server };
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let mut done = (Handshake::Goes, Handshake::Goes);
            while done != (Handshake::Done, Handshake::Done) {
                let taken: Vec<u8> = down.drain(..piece.min(down.len())).collect();
                done.0 = pair.client.shake_hands(&taken, &mut up).unwrap();
                let taken: Vec<u8> = up.drain(..piece.min(up.len())).collect();
                done.1 = pair.server.shake_hands(&taken, &mut down).unwrap();
            }
            let received = pair.client.give(&down, 1000).unwrap();
            assert_eq!(received, (Vec::new(), Received::More), "tickets are no data");
            pair
        }
    }

    impl Session {
        fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
            let mut sealed = vec![0; plain.len() + SEAL_OVERHEAD];
            let filled = self.seal(plain, &mut sealed).unwrap();
            sealed.truncate(filled);
            sealed
        }

        /// Receives bytes in pieces.
        fn give(&mut self, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Received), TlsFailure> {
            let (mut plain, mut outgoing, mut last) = (Vec::new(), Vec::new(), Received::More);
            for bytes in bytes.chunks(piece) {
                let mut incoming = [&vec![0; self.lead()][..], bytes].concat();
                last = self.receive(&mut incoming, &mut plain, &mut outgoing)?;
            }
            Ok((plain, last))
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_are_cut() {
        for piece in [1, 7, 4096, 100_000] {
            let mut pair = Pair::connected(piece);
            let data: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
            let sealed = pair.client.sealed(&data);
            assert_eq!(pair.server.give(&sealed, piece), Ok((data.clone(), Received::More)));
            let sealed = pair.server.sealed(&data);
            assert_eq!(pair.client.give(&sealed, piece), Ok((data, Received::More)));
        }
    }

    #[test]
    fn one_side_can_end_and_the_other_go_on() {
        let mut pair = Pair::connected(500);
        let mut last = pair.client.sealed(b"last");
        pair.client.close(&mut last);
        assert_eq!(pair.server.give(&last, 1), Ok((b"last".to_vec(), Received::Ended)));
        let answer = pair.server.sealed(b"answer");
        assert_eq!(pair.client.give(&answer, 1), Ok((b"answer".to_vec(), Received::More)));
    }

    #[test]
    fn what_comes_with_the_end_of_the_handshake_is_not_lost() {
        let mut client = Session::connect(client_config(), "api.example.org".try_into().unwrap()).unwrap();
        let mut server = Session::accept(server_config(), Vec::new()).unwrap();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        client.shake_hands(&[], &mut up).unwrap();
        server.shake_hands(&up, &mut down).unwrap();
        up.clear();
        assert_eq!(client.shake_hands(&down, &mut up), Ok(Handshake::Done));
        up.extend(client.sealed(b"at once"));
        client.close(&mut up);
        let mut tickets = Vec::new();
        assert_eq!(server.shake_hands(&up, &mut tickets), Ok(Handshake::Done));
        assert!(server.has_early() && server.has_ended());
        let mut plain = Vec::new();
        assert_eq!(server.receive(&mut [], &mut plain, &mut Vec::new()), Ok(Received::Ended));
        assert_eq!(plain, b"at once");
    }

    #[test]
    fn a_changed_record_ends_the_connection_and_the_peer_is_told() {
        let mut pair = Pair::connected(500);
        let mut sealed = pair.client.sealed(b"something");
        *sealed.last_mut().unwrap() ^= 1;
        let mut alert = Vec::new();
        assert_eq!(pair.server.receive(&mut sealed, &mut Vec::new(), &mut alert), Err(TlsFailure::Protocol));
        assert_eq!(pair.client.give(&alert, 1000), Err(TlsFailure::Alert(20)), "bad_record_mac");
    }

    #[test]
    fn garbage_is_answered_with_an_alert_and_an_endless_message_not_waited_for() {
        let mut alert = Vec::new();
        let mut server = Session::accept(server_config(), b"GET / HTTP/1.1\r\n".to_vec()).unwrap();
        assert_eq!(server.shake_hands(&[], &mut alert), Err(TlsFailure::NotTls));
        assert_eq!(alert.first(), Some(&21), "an alert record");

        let mut server = Session::accept(server_config(), vec![22, 3, 1, 64, 0, 1, 1, 0, 0]).unwrap();
        let outcome = (0..100).try_for_each(|_| server.shake_hands(&[0; 4096], &mut alert).map(|_| ()));
        assert_eq!(outcome, Err(TlsFailure::Protocol));
        assert!(server.lead() <= LONGEST_MESSAGE + 4096);
    }

    #[test]
    fn an_idle_session_holds_no_buffer() {
        let mut pair = Pair::connected(500);
        let sealed = pair.client.sealed(&[1; 50_000]);
        pair.server.give(&sealed, 1000).unwrap();
        assert_eq!((pair.server.rest.capacity(), pair.server.early.capacity()), (0, 0));
    }
}
