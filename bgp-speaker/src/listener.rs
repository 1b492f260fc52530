//! Accepting: hands connections from configured peers to their tasks and closes all others at once.
//!
//! One task per listening address; each ends when its handle is dropped. Reads the roster, writes a counter.
#![allow(clippy::disallowed_methods, reason = "this driver owns the pause after a failed accept")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::md5::Md5Key;
use crate::peer_task::Command;
use crate::roster::Roster;
use crate::sockopt;
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
    socket: Arc<TcpListener>,
    /// TCP-MD5 keys that the socket knows.
    keys: BTreeMap<IpAddr, Md5Key>,
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
        let socket = Arc::new(self.listener);
        accepting.spawn(accept(socket.clone(), roster, strangers));
        let (configured, bound, keys) = (self.configured, self.bound, BTreeMap::new());
        Listener { configured, bound, socket, keys, _accepting: accepting }
    }
}

impl Listener {
    /// Makes the socket know exactly `keys` of its own family. A key that it does not take is taken, or refused, again
    /// when a connection is accepted, so that no connection does without.
    pub(crate) fn set_keys(&mut self, keys: &BTreeMap<IpAddr, Md5Key>) {
        let wanted: BTreeMap<_, _> =
            keys.iter().filter(|(peer, _)| peer.is_ipv4() == self.bound.is_ipv4()).collect();
        let gone = self.keys.keys().filter(|peer| !wanted.contains_key(peer)).map(|peer| (*peer, &[][..]));
        let new = wanted.iter().filter(|(peer, key)| self.keys.get(peer) != Some(key));
        let new = new.map(|(peer, key)| (**peer, key.as_bytes()));
        for (peer, key) in gone.chain(new) {
            if let Err(error) = sockopt::set_md5_key(&*self.socket, peer, key) {
                tracing::warn!(listener = %self.bound, %peer, %error, "a TCP-MD5 key is not taken");
            }
        }
        self.keys = wanted.into_iter().map(|(peer, key)| (*peer, key.clone())).collect();
    }
}

async fn accept(listener: Arc<TcpListener>, roster: Arc<Roster>, strangers: Strangers) {
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
    let Some(peer) = roster.by_remote(remote) else {
        strangers.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%remote, "a BGP connection from no configured peer is closed");
        return;
    };
    if peer.command(Command::Accepted(stream)).is_err() {
        peer.observer().update(|status| status.connections_refused += 1);
    }
}
