//! What is between a relay and one of its sockets: a TLS session, or nothing, and the bytes that the socket has not taken.
//!
//! Everything that goes to a socket goes through its layer, in order: application data, handshake messages, alerts. What
//! the kernel does not take is kept, and nothing further is read for this side until it is gone: at most one relay buffer
//! and what the session itself has to say.

use config::CloseNotify;

use super::TlsFailure;
use super::session::{Handshake, Received, Session};
use crate::relay::{End, Read};
use crate::socket;
use crate::wheel::Tick;

/// Bytes read at once during a handshake, whose messages are small.
const HANDSHAKE_READ: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Layer {
    session: Option<Box<Session>>,
    /// For the socket, from `taken` on.
    owed: Vec<u8>,
    taken: usize,
    fin: Fin,
}

/// How a stream ends that goes to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// close_notify, where it is TLS, then FIN.
    InOrder,
    /// FIN alone.
    CutOff,
}

/// How far the FIN has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    Open,
    /// The FIN waits for what is owed.
    Due,
    Sent,
}

/// What a step of the handshake came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shaken {
    /// It goes on when the peer has said more, or takes more.
    Waiting,
    Done,
    Failed(TlsFailure),
    /// The connection is gone.
    Broken,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// There may be something; there need not.
    Plain,
    Waiting,
    /// The stream ended in order.
    Finished,
    /// The connection ended although the stream had not: a FIN without close_notify.
    Truncated,
    Broken,
}

impl Layer {
    pub(crate) fn secure(session: Session) -> Self {
        Layer { session: Some(Box::new(session)), ..Layer::default() }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the peer has to end its stream in order for it to be complete.
    pub(crate) fn close_notify(&self) -> CloseNotify {
        self.session.as_ref().map_or(CloseNotify::Required, |session| session.close_notify())
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_resumed())
    }

    pub(crate) fn owes(&self) -> bool {
        self.taken < self.owed.len()
    }

    /// Goes on with the handshake, as far as what is there allows.
    pub(crate) fn shake_hands(&mut self, end: &mut End, buffer: &mut [u8], now: Tick) -> Shaken {
        let mut received = 0;
        loop {
            let Some(session) = &mut self.session else { return Shaken::Done };
            let mut outgoing = Vec::new();
            let step = session.shake_hands(buffer.get(..received).unwrap_or_default(), &mut outgoing);
            let ended = session.has_ended();
            self.write(&outgoing, end, now);
            match step {
                Err(failure) => return Shaken::Failed(failure),
                Ok(Handshake::Done) => {
                    end.eof |= ended;
                    return Shaken::Done;
                }
                Ok(Handshake::Goes) => {}
            }
            // A client that takes nothing is sent nothing more.
            if !self.flush(end, now) && !end.is_broken() {
                return Shaken::Waiting;
            }
            match end.read(buffer.get_mut(..HANDSHAKE_READ).unwrap_or_default(), now) {
                Read::Bytes(read) => received = read,
                Read::Waiting => return Shaken::Waiting,
                Read::Finished => return Shaken::Failed(TlsFailure::Gone),
                Read::Broken => return Shaken::Broken,
            }
        }
    }

    /// Reads from the socket into `buffer` and appends what is decrypted to `plain`. Only for a secure one.
    pub(crate) fn read(&mut self, end: &mut End, buffer: &mut [u8], plain: &mut Vec<u8>, now: Tick) -> Input {
        let Some(session) = &mut self.session else { return Input::Broken };
        let lead = session.lead();
        let read = match end.read(buffer.get_mut(lead..).unwrap_or_default(), now) {
            Read::Bytes(read) => read,
            Read::Waiting | Read::Finished if session.has_early() => 0,
            Read::Waiting => return Input::Waiting,
            Read::Finished if session.has_ended() => return Input::Finished,
            Read::Finished => return Input::Truncated,
            Read::Broken => return Input::Broken,
        };
        let Some(incoming) = buffer.get_mut(..lead + read) else { return Input::Broken };
        let mut outgoing = Vec::new();
        let received = session.receive(incoming, plain, &mut outgoing);
        self.write(&outgoing, end, now);
        match received {
            Ok(Received::More) => Input::Plain,
            Ok(Received::Ended) => {
                // Nothing that comes after it is wanted.
                end.eof = true;
                Input::Plain
            }
            Err(_) => Input::Broken,
        }
    }

    /// Hands application data on: encrypted by way of `sealed`, or as it is.
    pub(crate) fn send(
        &mut self,
        plain: &[u8],
        sealed: &mut [u8],
        end: &mut End,
        now: Tick,
    ) -> Result<(), TlsFailure> {
        let Some(session) = &mut self.session else {
            self.write(plain, end, now);
            return Ok(());
        };
        let filled = session.seal(plain, sealed)?;
        self.write(sealed.get(..filled).unwrap_or_default(), end, now);
        Ok(())
    }

    /// Ends what goes to the socket.
    pub(crate) fn finish(&mut self, ending: Ending, end: &mut End, now: Tick) {
        if let (Some(session), Ending::InOrder) = (&mut self.session, ending) {
            let mut outgoing = Vec::new();
            session.close(&mut outgoing);
            self.write(&outgoing, end, now);
        }
        self.fin = Fin::Due;
        self.flush(end, now);
    }

    /// Writes what is owed. Whether nothing is any more.
    pub(crate) fn flush(&mut self, end: &mut End, now: Tick) -> bool {
        if self.owes() && end.is_writable() {
            self.taken += end.write(self.owed.get(self.taken..).unwrap_or_default(), now);
        }
        if self.owes() && !end.is_broken() {
            return false;
        }
        (self.owed, self.taken) = (Vec::new(), 0);
        if self.fin == Fin::Due {
            // A failure shows as an event of its own.
            let _ = socket::finish(&end.socket);
            self.fin = Fin::Sent;
        }
        true
    }

    fn write(&mut self, bytes: &[u8], end: &mut End, now: Tick) {
        if bytes.is_empty() || end.is_broken() {
            return;
        }
        let taken = if self.owes() || !end.is_writable() { 0 } else { end.write(bytes, now) };
        let left = bytes.get(taken..).unwrap_or_default();
        if !left.is_empty() && !end.is_broken() {
            end.touched = now;
            self.owed.extend_from_slice(left);
        }
    }
}
