//! The configured peers and the handles of their tasks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::{Asn, RouterId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::bfd::{BfdStatus, Path, Report, SessionConfig, SessionState};
use crate::blueprint::Blueprint;
use crate::fsm::{Params, offer};
use crate::md5::Md5Key;
use crate::observer::Observer;
use crate::peer_task::{Command, PeerTask};
use crate::policy::Policy;
use crate::route::RouteSet;
use crate::status::{CloseReason, Origin, PeerEvent, PeerState, PeerStatus};
use crate::supervisor::supervise;
use crate::transport::{Endpoint, is_from};
use crate::wire::{Capability, Notification};

/// Commands waiting for one peer's task, connections to be taken included.
const COMMAND_QUEUE: usize = 16;

/// Everything of the configuration that a session depends on: equal means untouched by a reload. BFD is not in `peer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) local_as: Asn,
    pub(crate) router_id: RouterId,
    pub(crate) peer: config::Peer,
}

/// What all peers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) desired: watch::Sender<Arc<RouteSet>>,
    pub(crate) events: mpsc::Sender<PeerEvent>,
}

/// One peer's task from outside.
#[derive(Debug)]
pub(crate) struct PeerHandle {
    pub(crate) settings: Settings,
    /// The TCP-MD5 key in force.
    key: Mutex<Option<Md5Key>>,
    commands: mpsc::Sender<Command>,
    observer: Observer,
    bfd: Report,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl PeerHandle {
    /// Starts the peer's task on the current runtime.
    pub(crate) fn spawn(
        settings: Settings,
        key: Option<Md5Key>,
        connect_retry: Duration,
        shared: &Shared,
        now: Instant,
    ) -> Arc<Self> {
        let bfd = Report::new(None);
        let observer = Observer::new(PeerStatus::new(&settings.peer, now), shared.events.clone());
        let params = Params {
            local_as: settings.local_as,
            router_id: settings.router_id,
            remote_as: settings.peer.remote_as,
            hold_time: settings.peer.hold_time,
            families: settings.peer.families.clone(),
            passive: settings.peer.passive,
            role: settings.peer.role,
            role_strict: settings.peer.role_strict,
            extended_next_hop: settings.peer.extended_next_hop,
            has_key: key.is_some(),
            connect_retry,
        };
        let offered = offer(&params).iter().map(Capability::name).collect();
        observer.update(|status| status.offered = offered);
        let blueprint = Blueprint {
            endpoint: Endpoint::of(&settings.peer, params.internal(), key.clone()),
            policy: Policy::of(&settings.peer),
            next_hop: settings.peer.next_hop,
            seed: shared.seed ^ fingerprint(settings.peer.name.as_str()),
            desired: shared.desired.subscribe(),
            observer: observer.clone(),
            bfd: bfd.subscribe(),
            params,
        };
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let task = tokio::spawn(run(blueprint, receiver));
        Arc::new(PeerHandle {
            settings,
            key: Mutex::new(key),
            commands,
            observer,
            bfd,
            task: Mutex::new(Some(task)),
        })
    }

    /// An error: its queue is full, or its task is gone.
    pub(crate) fn command(&self, command: Command) -> Result<(), ()> {
        self.commands.try_send(command).map_err(|_| ())
    }

    /// Takes a changed TCP-MD5 key into use; whether there is none is a matter of the settings.
    pub(crate) fn rekey(&self, key: Option<&Md5Key>) {
        let mut current = lock(&self.key);
        let Some(key) = key.filter(|key| current.as_ref() != Some(key)) else { return };
        match self.command(Command::Key(key.clone())) {
            Ok(()) => *current = Some(key.clone()),
            Err(()) => {
                tracing::warn!(peer = %self.settings.peer.name, "the new TCP-MD5 key did not get through")
            }
        }
    }

    /// The peer as it is now.
    pub(crate) fn status(&self) -> PeerStatus {
        PeerStatus { bfd: self.bfd.borrow().clone(), ..self.observer.snapshot() }
    }

    /// The BFD session that watches the way to this peer.
    pub(crate) fn bfd(&self, timers: config::Bfd) -> SessionConfig {
        let Settings { local_as, peer, .. } = &self.settings;
        let path = Path::of(peer, *local_as == peer.remote_as);
        SessionConfig { path, timers, report: self.bfd.clone() }
    }

    /// Returns once BFD, where there is any, says AdminDown.
    pub(crate) async fn bfd_held_down(&self) {
        let mut report = self.bfd.subscribe();
        let is_down = |status: &Option<BfdStatus>| {
            status.as_ref().is_none_or(|status| status.state == SessionState::AdminDown)
        };
        // The sender is here, so there is no error.
        let _ = report.wait_for(is_down).await;
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Ends the session with `notification` and waits until the task is gone; at `deadline` it is ended.
    pub(crate) async fn stop(&self, notification: Notification, deadline: Instant) {
        let task = lock(&self.task).take();
        let Some(mut task) = task else { return };
        let ended = async {
            // An error: the task is gone already.
            let _ = self.commands.send(Command::Stop(notification)).await;
            (&mut task).await
        };
        if tokio::time::timeout_at(deadline.into(), ended).await.is_err() {
            task.abort();
        }
    }
}

/// The supervised task. The receiver outlives a task that panics, so that the handle keeps working.
async fn run(blueprint: Blueprint, commands: mpsc::Receiver<Command>) {
    let observer = blueprint.observer.clone();
    let commands = Arc::new(tokio::sync::Mutex::new(commands));
    let make = || {
        let (blueprint, commands) = (blueprint.clone(), commands.clone());
        async move { PeerTask::new(blueprint, &mut *commands.lock().await).run().await }
    };
    let failed = |text: String| {
        tracing::error!(peer = %observer.name(), text, "the peer's task died");
        let was_established = observer.snapshot().state == PeerState::Established;
        observer.update(|status| {
            status.state = PeerState::Idle;
            status.session_ended();
        });
        let peer = observer.name().clone();
        observer.emit(PeerEvent::TaskFailed { peer: peer.clone(), text });
        if was_established {
            let text = "the peer's task died".to_owned();
            observer.emit(PeerEvent::Down {
                peer,
                reason: CloseReason { origin: Origin::Local, code: None, text },
            });
        }
    };
    supervise(make, failed).await;
}

/// FNV-1a: the same jitter for the same name and seed, on every run.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// The peers in configuration order.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<Arc<Vec<Arc<PeerHandle>>>>);

impl Roster {
    pub(crate) fn peers(&self) -> Arc<Vec<Arc<PeerHandle>>> {
        lock(&self.0).clone()
    }

    pub(crate) fn replace(&self, peers: Vec<Arc<PeerHandle>>) {
        *lock(&self.0) = Arc::new(peers);
    }

    /// The peer that a connection from `remote` is of.
    pub(crate) fn by_remote(&self, remote: SocketAddr) -> Option<Arc<PeerHandle>> {
        let is_of = |peer: &config::Peer| is_from(remote, peer.address, peer.interface.as_deref());
        self.peers().iter().find(|peer| is_of(&peer.settings.peer)).cloned()
    }
}

/// What these locks guard is replaced whole, so a panic elsewhere leaves it sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
