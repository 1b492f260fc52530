//! The relay of a connection that speaks TLS on one side or on both.
//!
//! ```text
//!  client ⇄ layer ⇄ plaintext ⇄ layer ⇄ backend
//! ```
//!
//! Bytes are read into the worker's buffer, decrypted, encrypted again and written, all at once; only what the other side
//! does not take stays with the connection, and then its source is not read.
//!
//! The end of a stream is close_notify on a side that speaks TLS and a FIN on one that does not, and each is passed on as
//! the other. A FIN without close_notify is no end: the stream may have been cut off by anybody on the way (RFC 8446 §6.1).
//! A side that speaks TLS is passed on just that, so that its own TLS decides what to make of it; one that does not sees a
//! RST. One case is forgiven, because many clients do it and nothing is lost: a client that has been sent everything, the
//! end included, may just go away. Another where the operator says so: `backend_tls.close_notify = "optional"`.

use config::CloseNotify;

use super::layer::{Ending, Input, Layer};
use super::session::{SEAL_OVERHEAD, Session};
use crate::relay::{BUFFER, Buffers, Delivered, End, Progress, Read, Side};
use crate::socket;
use crate::wheel::Tick;

/// Reads per direction before others get their turn: 256 KiB, as encrypting takes longer than copying.
const BUDGET: usize = 4;

/// A worker's buffers for TLS: nothing in them outlasts the turn.
#[derive(Debug)]
pub(crate) struct Scratch {
    plain: Vec<u8>,
    sealed: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        let plain = Vec::with_capacity(BUFFER);
        Scratch { plain, sealed: vec![0; BUFFER + SEAL_OVERHEAD].into_boxed_slice() }
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Application data that was handed to the destination's layer.
    bytes: u64,
    /// The source ended and everything was handed on.
    finished: bool,
}

/// Both sides and both directions. It begins before there is a backend.
#[derive(Debug, Default)]
pub(crate) struct Secured {
    client: Layer,
    backend: Layer,
    /// Client to backend.
    up: Flow,
    /// Backend to client.
    down: Flow,
    /// What a plain client sent before its backend was connected.
    early: Vec<u8>,
}

impl Secured {
    /// A client that speaks TLS.
    pub(crate) fn client(session: Session) -> Self {
        Secured { client: Layer::secure(session), ..Secured::default() }
    }

    /// From now on this is the session with the backend, instead of that with the one before.
    pub(crate) fn connect(&mut self, session: Session) {
        self.backend = Layer::secure(session);
    }

    /// The relay begins with these bytes from a client that does not speak TLS.
    pub(crate) fn begin_with(&mut self, early: Vec<u8>) {
        self.early = early;
    }

    pub(crate) fn layer_mut(&mut self, side: Side) -> &mut Layer {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    pub(crate) fn drive(
        &mut self,
        client_end: &mut End,
        backend_end: &mut End,
        buffers: &mut Buffers,
        now: Tick,
    ) -> Progress {
        let Secured { client, backend, up, down, early } = self;
        client.flush(client_end, now);
        backend.flush(backend_end, now);
        let early = std::mem::take(early);
        if !hand_over(&early, backend, backend_end, up, &mut buffers.secure().1.sealed, now) {
            return Progress::Broken(Side::Backend);
        }
        let mut upward = pump((client, client_end), (backend, backend_end), up, buffers, now);
        let downward = pump((backend, backend_end), (client, client_end), down, buffers, now);
        if client_end.is_broken() {
            upward = pump((client, client_end), (backend, backend_end), up, buffers, now);
        }
        let upward = pass_end_on(upward, client.close_notify(), up, (backend, backend_end), now);
        let downward = pass_end_on(downward, backend.close_notify(), down, (client, client_end), now);
        match (upward, downward) {
            (Pumped::Truncated, _) if down.finished && !client.owes() => {
                // Everybody has everything, but the backend no end of the stream that it may trust.
                socket::reset_on_close(&backend_end.socket);
                return Progress::Completed;
            }
            (Pumped::Truncated | Pumped::Broken, _) | (_, Pumped::Unsent) => {
                return Progress::Broken(Side::Client);
            }
            (_, Pumped::Truncated | Pumped::Broken) | (Pumped::Unsent, _) => {
                return Progress::Broken(Side::Backend);
            }
            _ => {}
        }
        if up.finished && down.finished && !client.owes() && !backend.owes() {
            return Progress::Completed;
        }
        if upward == Pumped::Busy || downward == Pumped::Busy { Progress::Busy } else { Progress::Waiting }
    }

    pub(crate) fn delivered(&self) -> Delivered {
        Delivered { up: self.up.bytes, down: self.down.bytes }
    }

    pub(crate) fn owes(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client.owes(),
            Side::Backend => self.backend.owes(),
        }
    }

    /// As for a plain relay: for this side to take bytes, or to send some if they could be passed on.
    pub(crate) fn waits_for(&self, side: Side, end: &End) -> bool {
        let other = match side {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        };
        self.owes(side) || (!end.eof && !self.owes(other))
    }
}

/// Tells the destination, once, that the source has ended, in the way that it has.
fn pass_end_on(
    pumped: Pumped,
    close_notify: CloseNotify,
    flow: &mut Flow,
    (to, destination): (&mut Layer, &mut End),
    now: Tick,
) -> Pumped {
    let ending = match pumped {
        Pumped::Finished => Ending::InOrder,
        Pumped::Truncated if to.is_secure() || close_notify == CloseNotify::Optional => Ending::CutOff,
        other => return other,
    };
    if !std::mem::replace(&mut flow.finished, true) {
        to.finish(ending, destination, now);
    }
    Pumped::Finished
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Waiting,
    Busy,
    Finished,
    /// The source is gone without a proper end.
    Truncated,
    /// The source is gone.
    Broken,
    /// The destination's session can send no more.
    Unsent,
}

fn pump(
    (from, source): (&mut Layer, &mut End),
    (to, destination): (&mut Layer, &mut End),
    flow: &mut Flow,
    buffers: &mut Buffers,
    now: Tick,
) -> Pumped {
    let owed = to.owes();
    if !to.flush(destination, now) {
        return Pumped::Waiting;
    }
    if owed {
        // The source was not read meanwhile, so its silence begins only now.
        source.touched = now;
    }
    let (buffer, Scratch { plain, sealed }) = buffers.secure();
    for _ in 0..BUDGET {
        if destination.is_broken() && !source.eof {
            return if source.is_broken() { Pumped::Broken } else { Pumped::Waiting };
        }
        plain.clear();
        let received = if from.is_secure() {
            match from.read(source, buffer, plain, now) {
                Input::Plain => plain.as_slice(),
                Input::Waiting => return Pumped::Waiting,
                Input::Finished => return Pumped::Finished,
                Input::Truncated => return Pumped::Truncated,
                Input::Broken => return Pumped::Broken,
            }
        } else {
            match source.read(buffer, now) {
                Read::Bytes(read) => buffer.get(..read).unwrap_or_default(),
                Read::Waiting => return Pumped::Waiting,
                Read::Finished => return Pumped::Finished,
                Read::Broken => return Pumped::Broken,
            }
        };
        if !hand_over(received, to, destination, flow, sealed, now) {
            return Pumped::Unsent;
        }
        if to.owes() {
            return Pumped::Waiting;
        }
    }
    Pumped::Busy
}

/// Gives all of it to the destination's layer. Whether that could be encrypted.
fn hand_over(
    plain: &[u8],
    to: &mut Layer,
    destination: &mut End,
    flow: &mut Flow,
    sealed: &mut [u8],
    now: Tick,
) -> bool {
    for piece in plain.chunks(BUFFER) {
        if to.send(piece, sealed, destination, now).is_err() {
            return false;
        }
        flow.bytes += piece.len() as u64;
    }
    true
}
