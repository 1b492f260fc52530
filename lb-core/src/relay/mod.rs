//! Moving bytes between a client and its backend once both are connected.
//!
//! A connection owns its two sockets ([`End`]) from its first stage to its last; a [`Relay`] owns what is between them:
//! the bytes in flight and how much went through. There are kinds of it, because not every connection is served best,
//! or at all, by the same one:
//!
//! | kind | for |
//! |---|---|
//! | [`Relay::Ringed`] | bytes that pass unchanged, in small pieces that are taken at once: [`ringed`], by the worker's io_uring |
//! | [`Relay::Plain`] | bytes that pass unchanged otherwise: [`copy`], and [`splice`] while they come in bulk |
//! | [`Relay::Secured`] | TLS on one side or on both: [`crate::tls`] |
//!
//! A further kind is a further variant, with four functions: `drive` moves what can be moved within a budget; `delivered`
//! counts what the destinations' kernels took; `owes` and `waits_for` say whom the connection waits for, which decides its
//! deadline and how it is closed. It is a `match`, not a trait object: what it costs per packet is a branch that
//! is always taken the same way.
//!
//! Rules for every kind: at most one buffer held per direction; a source is not read while its destination takes nothing;
//! the end of a stream is passed on after its last byte; nothing hides on a stack, a connection is data.

mod buffers;
pub(crate) mod copy;
mod end;
mod ringed;
mod splice;

pub(crate) use buffers::{BUFFER, Buffers};
pub(crate) use end::{End, Read};
pub(crate) use ringed::{Ringed, Step};
pub(crate) use splice::PIPES;

use crate::tls::Secured;
use crate::wheel::Tick;

/// Which of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }
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

/// Bytes that the destinations' kernels took: towards the backend, and towards the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// What is between the two ends of an established connection.
#[derive(Debug)]
pub(crate) enum Relay {
    /// Moved by what the ring answers (`ringing.rs`), not driven.
    Ringed(Ringed),
    Plain(copy::Plain),
    Secured(Box<Secured>),
}

impl Relay {
    /// Moves what can be moved now, within the budget.
    pub(crate) fn drive(
        &mut self,
        client: &mut End,
        backend: &mut End,
        buffers: &mut Buffers,
        now: Tick,
    ) -> Progress {
        match self {
            Relay::Ringed(_) => Progress::Waiting,
            Relay::Plain(plain) => plain.drive(client, backend, buffers, now),
            Relay::Secured(secured) => secured.drive(client, backend, buffers, now),
        }
    }

    pub(crate) fn delivered(&self) -> Delivered {
        match self {
            Relay::Ringed(ringed) => ringed.delivered(),
            Relay::Plain(plain) => plain.delivered(),
            Relay::Secured(secured) => secured.delivered(),
        }
    }

    /// Whether bytes wait for this side to take them.
    pub(crate) fn owes(&self, side: Side) -> bool {
        match self {
            Relay::Ringed(ringed) => ringed.owes(side),
            Relay::Plain(plain) => plain.owes(side),
            Relay::Secured(secured) => secured.owes(side),
        }
    }

    /// Whether the connection waits for this side, whose socket is `end`: to send, or to take what there is for it.
    pub(crate) fn waits_for(&self, side: Side, end: &End) -> bool {
        match self {
            Relay::Ringed(ringed) => ringed.waits_for(side, end),
            Relay::Plain(plain) => plain.waits_for(side, end),
            Relay::Secured(secured) => secured.waits_for(side, end),
        }
    }
}
