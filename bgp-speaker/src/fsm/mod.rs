//! The finite state machine of a peer (RFC 4271 §8), sans I/O: events and the time in, actions out.
//!
//! [`PeerFsm`] owns two slots, one per direction a connection can have been opened in, each with its own state and
//! timers; the table of [`table`] says what an input means in a state, [`PeerFsm`] carries it out, resolves collisions
//! (§6.8) and spaces retries. No socket, clock or randomness of its own: `now` and a seed are passed in. The owner does
//! what [`PeerFsm::poll_action`] says, in order, and calls [`PeerFsm::handle_timeout`] at [`PeerFsm::poll_timeout`].

mod collision;
mod farewell;
mod link;
mod negotiate;
mod peer;
#[cfg(test)]
mod peer_tests;
mod receive;
mod retry;
mod table;
mod timers;

use std::time::Duration;

use bytes::BytesMut;
use config::{Asn, Family, HoldTime, Role, RouterId};

pub(crate) use negotiate::offer;
pub(crate) use peer::PeerFsm;
pub(crate) use retry::Jitter;

use crate::status::{CloseReason, Negotiated};
use crate::wire::{Disposition, Frame, MessageKind, Notification, WireError};

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    /// We dialled.
    Outbound,
    /// We accepted.
    Inbound,
}

impl Slot {
    pub(crate) const BOTH: [Slot; 2] = [Slot::Outbound, Slot::Inbound];

    pub(crate) fn other(self) -> Slot {
        match self {
            Slot::Outbound => Slot::Inbound,
            Slot::Inbound => Slot::Outbound,
        }
    }
}

/// One connection, or attempt at one. What comes from an older generation of the slot is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    pub(crate) slot: Slot,
    pub(crate) generation: u64,
}

/// What does not change while the peer is configured as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) local_as: Asn,
    pub(crate) router_id: RouterId,
    pub(crate) remote_as: Asn,
    pub(crate) hold_time: HoldTime,
    pub(crate) families: Vec<Family>,
    /// Never dial.
    pub(crate) passive: bool,
    /// What we are to an external peer (RFC 9234).
    pub(crate) role: Option<Role>,
    /// The peer has to say its role as well.
    pub(crate) role_strict: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub(crate) extended_next_hop: bool,
    /// There is a TCP-MD5 key.
    pub(crate) has_key: bool,
    /// What the back-offs between attempts are multiples of.
    pub(crate) connect_retry: Duration,
}

impl Params {
    pub(crate) fn internal(&self) -> bool {
        self.local_as == self.remote_as
    }

    /// Roles are for external sessions only (RFC 9234 §4).
    pub(crate) fn role(&self) -> Option<Role> {
        self.role.filter(|_| !self.internal())
    }
}

/// What happened. A new inbound connection comes through [`PeerFsm::accept`] instead, which has an answer.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// ManualStart.
    Start,
    /// ManualStop, or AutomaticStop, with the NOTIFICATION to leave behind.
    Stop(Notification),
    /// The dial of [`Action::Dial`] succeeded.
    Connected(ConnId),
    /// The dial failed, or TCP ended; in the operating system's words.
    Disconnected(ConnId, String),
    /// A whole message.
    Received(ConnId, Frame<'a>),
    /// What came is no message.
    Malformed(ConnId, WireError),
    /// Everything that was to be sent has been handed to TCP.
    Flushed(ConnId),
    /// The owner sent UPDATEs of its own.
    UpdatesSent(ConnId),
    /// The peer's TCP did not acknowledge an UPDATE in time.
    Unacknowledged(ConnId),
    /// Who knows says that the way to the peer is dead; with the NOTIFICATION to leave behind, and how that came.
    PathDown(Notification, String),
}

/// How to close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// What was sent before may still get through.
    Flush,
    /// The peer does not read: reset.
    Abort,
}

/// What the owner has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Dial(ConnId),
    Send(ConnId, MessageKind, BytesMut),
    /// Close the connection, or give up the dial. The last action for this id.
    Close(ConnId, Closing),
    /// The session is Established on this connection.
    Up(ConnId, Negotiated),
    /// It no longer is. Exactly one after each `Up`.
    Down(CloseReason),
    /// A connection or dial ended that never was Established.
    AttemptFailed(CloseReason),
    /// An UPDATE came; its routes are to be dropped.
    Update {
        announced: usize,
        disposition: Disposition,
    },
    /// The peer wants everything of this family again.
    Refresh(Family),
}
