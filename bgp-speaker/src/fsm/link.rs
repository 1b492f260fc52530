//! What the machine keeps of one slot: plain data, changed by [`super::PeerFsm`] alone.

use super::timers::Timers;
use crate::status::{Negotiated, PeerState};

/// One connection's half of the machine.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: PeerState,
    pub(super) generation: u64,
    pub(super) timers: Timers,
    /// From OpenConfirm on.
    pub(super) negotiated: Option<Negotiated>,
}

impl Link {
    pub(super) fn new() -> Self {
        Link { state: PeerState::Idle, generation: 0, timers: Timers::default(), negotiated: None }
    }
    pub(super) fn is_connected(&self) -> bool {
        self.state >= PeerState::OpenSent
    }
    pub(super) fn is_agreed(&self) -> bool {
        self.state >= PeerState::OpenConfirm
    }
}
