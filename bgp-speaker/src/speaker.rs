//! The handle to the speaker: starts, changes and stops the peers' tasks, and reads what they show.
#![allow(clippy::disallowed_methods, reason = "the deadline of a reload starts when it does")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::Name;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::bfd::Bfd;
use crate::listener::{Bound, Listener, Strangers};
use crate::md5::Md5Key;
use crate::peer_task::Command;
use crate::roster::{PeerHandle, Roster, Settings, Shared};
use crate::route::RouteSet;
use crate::status::{PeerEvent, PeerState, PeerStatus};
use crate::wire::{Cease, Notification};

/// How long a reload waits for a session that it ends to be closed.
const RELOAD_PATIENCE: Duration = Duration::from_secs(2);

/// How long a shutdown waits for BFD, which answers in a turn of its loop.
const BFD_PATIENCE: Duration = Duration::from_millis(200);

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
    #[error("cannot start the BFD thread: {0}; are there too many threads?")]
    Bfd(#[source] std::io::Error),
    #[error("cannot read the TCP-MD5 key of peer {peer} from {}: {source}", path.display())]
    Password {
        peer: Name,
        path: PathBuf,
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
#[derive(Debug, Clone)]
pub struct Speaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Shared,
    roster: Arc<Roster>,
    strangers: Strangers,
    listeners: Mutex<Vec<Listener>>,
    /// From the first peer with BFD on.
    bfd: Mutex<Option<Bfd>>,
    /// One change at a time; holds the `connect_retry` in force.
    changing: tokio::sync::Mutex<Duration>,
}

impl Speaker {
    /// Binds `config.listen` and spawns the tasks on the current tokio runtime. `seed` feeds all jitter.
    pub async fn start(
        config: &config::Bgp,
        seed: u64,
        events: mpsc::Sender<PeerEvent>,
    ) -> Result<Speaker, SpeakerError> {
        let desired = watch::Sender::new(Arc::new(RouteSet::empty(Instant::now())));
        let speaker = Speaker(Arc::new(Inner {
            shared: Shared { seed, desired, events },
            roster: Arc::default(),
            strangers: Strangers::default(),
            listeners: Mutex::default(),
            bfd: Mutex::default(),
            changing: tokio::sync::Mutex::new(config.connect_retry),
        }));
        speaker.apply(config).await?;
        Ok(speaker)
    }

    /// Applies a changed configuration. Touches only peers that are new, gone (Cease/Peer De-configured) or changed
    /// (Cease/Other Configuration Change); on an error, nothing.
    pub async fn apply(&self, config: &config::Bgp) -> Result<(), SpeakerError> {
        let inner = &*self.0;
        let mut connect_retry = inner.changing.lock().await;
        let keys = read_keys(config)?;
        let new_listeners = inner.bind_new(config)?;
        inner.start_bfd(config)?;
        let wanted: Vec<Settings> = config.peers.iter().map(|peer| settings(config, peer)).collect();
        let (kept, ended): (Vec<_>, Vec<_>) =
            inner.roster.peers().iter().cloned().partition(|peer| wanted.contains(&peer.settings));
        inner.roster.replace(kept.clone());
        stop_all(&ended, Instant::now() + RELOAD_PATIENCE, |peer| {
            let name = &peer.settings.peer.name;
            let changed = config.peers.iter().any(|peer| peer.name == *name);
            let reason = if changed { Cease::OtherConfigurationChange } else { Cease::PeerDeconfigured };
            Notification::cease(reason, "")
        })
        .await;
        if *connect_retry != config.connect_retry {
            for peer in &kept {
                if peer.command(Command::ConnectRetry(config.connect_retry)).is_err() {
                    tracing::warn!(peer = %peer.settings.peer.name, "the new connect_retry did not get through");
                }
            }
            *connect_retry = config.connect_retry;
        }
        let peers = wanted.into_iter().map(|settings| {
            let key = keys.get(&settings.peer.address);
            if let Some(same) = kept.iter().find(|peer| peer.settings == settings) {
                same.rekey(key);
                return same.clone();
            }
            PeerHandle::spawn(settings, key.cloned(), config.connect_retry, &inner.shared, Instant::now())
        });
        inner.roster.replace(peers.collect());
        inner.exchange_listeners(config, new_listeners, &keys);
        inner.watch_paths(config);
        Ok(())
    }

    /// What should be announced from now on. The last value wins.
    pub fn set_desired(&self, desired: Arc<RouteSet>) {
        self.0.shared.desired.send_replace(desired);
    }

    /// Every peer as it is now, in configuration order.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.0.roster.peers().iter().map(|peer| peer.status()).collect()
    }

    /// Connections from addresses that are no configured peer; each was closed at once.
    pub fn strangers_refused(&self) -> u64 {
        self.0.strangers.load(Ordering::Relaxed)
    }

    /// The addresses it accepts BGP on, with the port the kernel chose where the configuration said 0.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.0.listeners().iter().map(|listener| listener.bound).collect()
    }

    /// Returns once every Established peer's TCP has acknowledged everything up to `version`, or its session went down;
    /// at `deadline` at the latest.
    pub async fn settled(&self, version: u64, deadline: Instant) -> Settled {
        let mut settled = Settled::default();
        for peer in self.0.roster.peers().iter() {
            let mut status = peer.observer().subscribe();
            let done = status.wait_for(|status| {
                status.state != PeerState::Established || status.version_acknowledged >= version
            });
            let state = match tokio::time::timeout_at(deadline.into(), done).await {
                Ok(Ok(status)) => Some(status.state),
                // The sender is gone: so is the session.
                Ok(Err(_)) => Some(PeerState::Idle),
                Err(_) => None,
            };
            let names = match state {
                Some(PeerState::Established) => &mut settled.acked,
                Some(_) => &mut settled.down,
                None => &mut settled.late,
            };
            names.push(peer.settings.peer.name.clone());
        }
        settled
    }

    /// Ends every session with Cease/Administrative Shutdown and `message` (RFC 9003), flushes and closes; returns at
    /// `deadline` at the latest.
    pub async fn shutdown(&self, message: &str, deadline: Instant) {
        self.0.listeners().clear();
        self.0.hold_paths_down(deadline).await;
        let notification = Notification::cease(Cease::AdministrativeShutdown, message);
        stop_all(&self.0.roster.peers(), deadline, |_| notification.clone()).await;
    }
}

impl Inner {
    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bfd(&self) -> std::sync::MutexGuard<'_, Option<Bfd>> {
        self.bfd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the BFD thread where somebody needs it and it does not run.
    fn start_bfd(&self, config: &config::Bgp) -> Result<(), SpeakerError> {
        let mut bfd = self.bfd();
        if bfd.is_none() && config.peers.iter().any(|peer| peer.bfd.is_some()) {
            *bfd = Some(Bfd::start().map_err(SpeakerError::Bfd)?);
        }
        Ok(())
    }

    /// Has BFD watch exactly the ways to peers that want it. No BGP session depends on that this succeeds.
    fn watch_paths(&self, config: &config::Bgp) {
        let Some(bfd) = &*self.bfd() else { return };
        let timers = |name: &Name| config.peers.iter().find(|peer| peer.name == *name)?.bfd;
        let peers = self.roster.peers();
        let wanted = peers.iter().filter_map(|peer| Some(peer.bfd(timers(&peer.settings.peer.name)?)));
        bfd.apply(wanted.collect());
    }

    /// Says AdminDown, and waits until it is said. Before the sessions end: a router that loses them first may have
    /// forgotten BFD with them. What is to be withdrawn has to be before this, because some take AdminDown for Down.
    async fn hold_paths_down(&self, deadline: Instant) {
        let Some(()) = self.bfd().as_ref().map(Bfd::hold_down) else { return };
        let said = async {
            for peer in self.roster.peers().iter() {
                peer.bfd_held_down().await;
            }
        };
        let deadline = deadline.min(Instant::now() + BFD_PATIENCE);
        if tokio::time::timeout_at(deadline.into(), said).await.is_err() {
            tracing::warn!("BFD did not say AdminDown in time");
        }
    }

    /// Binds what is not bound yet; on an error nothing has changed.
    fn bind_new(&self, config: &config::Bgp) -> Result<Vec<Bound>, SpeakerError> {
        let is_bound = |address| self.listeners().iter().any(|listener| listener.configured == address);
        config.listen.iter().copied().filter(|address| !is_bound(*address)).map(Bound::new).collect()
    }

    /// Closes what is no longer configured and starts accepting on what is new; in configuration order.
    fn exchange_listeners(&self, config: &config::Bgp, new: Vec<Bound>, keys: &BTreeMap<IpAddr, Md5Key>) {
        let mut listeners = self.listeners();
        listeners.retain(|listener| config.listen.contains(&listener.configured));
        listeners
            .extend(new.into_iter().map(|bound| bound.accept(self.roster.clone(), self.strangers.clone())));
        listeners.iter_mut().for_each(|listener| listener.set_keys(keys));
        listeners.sort_by_key(|listener| config.listen.iter().position(|a| *a == listener.configured));
    }
}

/// The keys of those peers that have one, by the peer's address.
fn read_keys(config: &config::Bgp) -> Result<BTreeMap<IpAddr, Md5Key>, SpeakerError> {
    let with_file = config.peers.iter().filter_map(|peer| Some((peer, peer.password_file.as_ref()?)));
    let keys = with_file.map(|(peer, path)| match Md5Key::read(path) {
        Ok(key) => Ok((peer.address, key)),
        Err(source) => Err(SpeakerError::Password { peer: peer.name.clone(), path: path.clone(), source }),
    });
    keys.collect()
}

fn settings(config: &config::Bgp, peer: &config::Peer) -> Settings {
    let peer = config::Peer { bfd: None, ..peer.clone() };
    Settings { local_as: config.local_as, router_id: config.router_id, peer }
}

/// Side by side, so that one that hangs does not hold up the others.
async fn stop_all(
    peers: &[Arc<PeerHandle>],
    deadline: Instant,
    farewell: impl Fn(&PeerHandle) -> Notification,
) {
    let mut stopping = JoinSet::new();
    for peer in peers {
        let (notification, peer) = (farewell(peer), peer.clone());
        stopping.spawn(async move { peer.stop(notification, deadline).await });
    }
    stopping.join_all().await;
}
