//! Accepting: hands connections from configured peers to their tasks and closes all others at once.
//!
//! One task per listening address; each ends when its handle is dropped. Reads the roster, writes a counter.
#![allow(clippy::disallowed_methods, reason = "this driver owns the pause after a failed accept")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::peer_task::Command;
use crate::roster::Roster;
use crate::speaker::SpeakerError;
use crate::transport;

/// After an accept that failed, usually for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that came from no configured peer.
pub(crate) type Strangers = Arc<AtomicU64>;

/// A listening address and the task that accepts on it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// As configured; its port may be 0.
    pub(crate) configured: SocketAddr,
    pub(crate) bound: SocketAddr,
    _accepting: JoinSet<()>,
}

/// A socket that listens; accepting starts with [`Bound::accept`].
#[derive(Debug)]
pub(crate) struct Bound {
    configured: SocketAddr,
    bound: SocketAddr,
    listener: TcpListener,
}

impl Bound {
    pub(crate) fn new(address: SocketAddr) -> Result<Self, SpeakerError> {
        let failed = |source| SpeakerError::Listen { address, source };
        let listener = transport::listen(address).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok(Bound { configured: address, bound, listener })
    }

    pub(crate) fn accept(self, roster: Arc<Roster>, strangers: Strangers) -> Listener {
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(self.listener, roster, strangers));
        Listener { configured: self.configured, bound: self.bound, _accepting: accepting }
    }
}

async fn accept(listener: TcpListener, roster: Arc<Roster>, strangers: Strangers) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => hand_over(stream, remote, &roster, &strangers),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a BGP connection");
                tokio::time::sleep_until(tokio::time::Instant::now() + PAUSE).await;
            }
        }
    }
}

/// A stream that nobody takes is closed by being dropped.
fn hand_over(stream: TcpStream, remote: SocketAddr, roster: &Roster, strangers: &AtomicU64) {
    let Some(peer) = roster.by_address(remote.ip().to_canonical()) else {
        strangers.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%remote, "a BGP connection from no configured peer is closed");
        return;
    };
    if peer.command(Command::Accepted(stream)).is_err() {
        peer.observer().update(|status| status.connections_refused += 1);
    }
}
