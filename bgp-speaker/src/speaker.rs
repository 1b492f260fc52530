//! The handle to the speaker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use config::Name;
use tokio::sync::mpsc;

use crate::route::RouteSet;
use crate::status::{PeerEvent, PeerStatus};

/// Why the speaker could not be started or changed; nothing was.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    #[error(
        "cannot listen for BGP on {address}: {source}; change [bgp] listen, or stop what uses that address"
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// Who had acknowledged when [`Speaker::settled`] returned; names in configuration order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    pub acked: Vec<Name>,
    /// Established, and not everything was acknowledged by the deadline.
    pub late: Vec<Name>,
    /// Without a session: there was nobody to acknowledge.
    pub down: Vec<Name>,
}

/// A running speaker. Clones are the same speaker; when the last one is dropped, the sessions are closed.
#[derive(Clone)]
pub struct Speaker {}

impl Speaker {
    /// Binds `config.listen` and spawns the tasks on the current tokio runtime. `seed` feeds all jitter.
    pub async fn start(
        _config: &config::Bgp,
        _seed: u64,
        _events: mpsc::Sender<PeerEvent>,
    ) -> Result<Speaker, SpeakerError> {
        Ok(Speaker {})
    }

    /// Applies a changed configuration. Touches only peers that are new, gone or changed.
    pub async fn apply(&self, _config: &config::Bgp) -> Result<(), SpeakerError> {
        Ok(())
    }

    /// What should be announced from now on. The last value wins.
    pub fn set_desired(&self, _desired: Arc<RouteSet>) {}

    /// Every peer as it is now, in configuration order.
    pub fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// Connections from addresses that are no configured peer; each was closed at once.
    pub fn strangers_refused(&self) -> u64 {
        0
    }

    /// The addresses it accepts BGP on, with the port the kernel chose where the configuration said 0.
    pub fn listening(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// Returns once every Established peer's TCP has acknowledged everything up to `version`, or its session went down;
    /// at `deadline` at the latest.
    pub async fn settled(&self, _version: u64, _deadline: Instant) -> Settled {
        Settled::default()
    }

    /// Ends every session with Cease/Administrative Shutdown and `message` (RFC 9003), flushes and closes; returns at
    /// `deadline` at the latest.
    pub async fn shutdown(&self, _message: &str, _deadline: Instant) {}
}
