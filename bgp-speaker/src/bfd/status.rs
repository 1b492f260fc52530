//! What can be seen of BFD from outside: plain values.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::packet::{Diagnostic, SessionState};
use super::sm::Machine;

/// Why a session went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DownReason {
    /// Nothing was heard for the Detection Time.
    DetectionTimeExpired,
    /// The neighbor says Down: it does not hear us, or has just started.
    NeighborDown,
    /// The neighbor says AdminDown: its operator's wish, and no word about the path (RFC 5882 §3.2).
    NeighborAdminDown,
    /// We said AdminDown.
    AdminDown,
}

impl DownReason {
    /// Whether the path, or whoever is at its end, is to be taken for dead.
    pub fn is_failure(self) -> bool {
        match self {
            DownReason::DetectionTimeExpired | DownReason::NeighborDown => true,
            DownReason::NeighborAdminDown | DownReason::AdminDown => false,
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DownReason::DetectionTimeExpired => "nothing was heard for the detection time",
            DownReason::NeighborDown => "the neighbor signaled Down",
            DownReason::NeighborAdminDown => "the neighbor signaled AdminDown",
            DownReason::AdminDown => "held down here",
        })
    }
}

/// Packets of all sessions that were discarded, by [`super::Discard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Discards {
    /// TTL or hop limit too small (RFC 5881 §5).
    pub hop_limit: u64,
    /// From no configured neighbor, or for no session.
    pub unknown: u64,
    /// Not what RFC 5880 §6.8.6 lets through.
    pub invalid: u64,
}

/// One session as it is now. Counters may be a second old; everything else is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BfdStatus {
    pub state: SessionState,
    /// When `state` was entered.
    #[serde(skip)]
    pub since: Instant,
    pub local_diagnostic: Diagnostic,
    pub remote_state: SessionState,
    pub remote_diagnostic: Diagnostic,
    pub local_discriminator: u32,
    /// `None`: not heard.
    pub remote_discriminator: Option<u32>,
    pub multihop: bool,
    /// Where its packets leave from; `None`: there is no socket, see `socket_error`.
    pub local_address: Option<IpAddr>,
    /// Between our packets, before jitter; `None`: the neighbor wants none.
    #[serde(rename = "transmit_interval_seconds", serialize_with = "seconds")]
    pub transmit_interval: Option<Duration>,
    /// `None`: there is nothing to time out.
    #[serde(rename = "detection_time_seconds", serialize_with = "seconds")]
    pub detection_time: Option<Duration>,
    /// A change of timers waits for the neighbor's consent.
    pub polling: bool,
    pub packets_in: u64,
    pub packets_out: u64,
    /// The kernel did not take them.
    pub packets_unsent: u64,
    /// Times the session came Up.
    pub ups: u64,
    /// Times it left Up.
    pub downs: u64,
    /// Times it left Up because the path failed, and with it the BGP session.
    pub failures: u64,
    /// Why it last left Up.
    pub last_down: Option<DownReason>,
    /// The BFD thread runs at real-time priority.
    pub real_time: bool,
    /// Why there are no sockets; tried again every second.
    pub socket_error: Option<String>,
    /// Of all sessions together.
    pub discarded: Discards,
}

impl BfdStatus {
    pub(crate) fn new(discriminator: NonZeroU32, multihop: bool, real_time: bool, now: Instant) -> Self {
        BfdStatus {
            state: SessionState::Down,
            since: now,
            local_diagnostic: Diagnostic::NONE,
            remote_state: SessionState::Down,
            remote_diagnostic: Diagnostic::NONE,
            local_discriminator: discriminator.get(),
            remote_discriminator: None,
            multihop,
            local_address: None,
            transmit_interval: None,
            detection_time: None,
            polling: false,
            packets_in: 0,
            packets_out: 0,
            packets_unsent: 0,
            ups: 0,
            downs: 0,
            failures: 0,
            last_down: None,
            real_time,
            socket_error: None,
            discarded: Discards::default(),
        }
    }

    pub(crate) fn changed(&mut self, to: SessionState, reason: Option<DownReason>, now: Instant) {
        if self.state == SessionState::Up {
            self.last_down = reason;
            self.downs += 1;
            self.failures += u64::from(reason.is_some_and(DownReason::is_failure));
        }
        self.ups += u64::from(to == SessionState::Up);
        (self.state, self.since) = (to, now);
    }

    pub(super) fn describe(&mut self, machine: &Machine) {
        let remote = machine.remote();
        self.local_diagnostic = machine.diagnostic();
        (self.remote_state, self.remote_diagnostic) = (remote.state, remote.diagnostic);
        self.remote_discriminator = remote.discriminator.map(NonZeroU32::get);
        self.transmit_interval = machine.transmit_interval();
        self.detection_time = machine.detection_time();
        self.polling = machine.is_polling();
    }
}

fn seconds<S: serde::Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(s)
}
