//! The wiring: from a configuration to a running daemon, and the handle through which others look at it and ask.
//!
//! Order at start: sockets bound → addresses on the host → accepting → checks → BGP. Each step that fails undoes those
//! before it. `run` returns when the daemon has been stopped.
#![allow(clippy::disallowed_methods, reason = "a driver: it stamps the start and measures ages")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use bgp_speaker::{PeerStatus, Speaker};
use config::Config;
use lb_core::{DataPlane, PlaneOptions};
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::events::{ChainView, EventView, Origin};
use crate::control::http::{self, Credentials};
use crate::control::metrics::Latencies;
use crate::control::socket::RuntimeSocket;
use crate::control::view::{self, Status};
use crate::events::EventId;
use crate::logging::Logs;
use crate::names::{self, Names};
use crate::reload::{Outcome, Reloader};
use crate::shutdown;
use crate::steer::Duty;
use crate::steer::task::{self, Command, Inputs, TrafficObserver};
use crate::steer::vips::Refused;
use crate::vip::host::Host;
use crate::watchdog::{self, Heart, Watchdog};

/// How long the steering task may take to answer before it counts as hanging.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The steering task did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the steering task did not answer within 1 s: this contrail-lb hangs, restart it")]
pub struct Unresponsive;

/// The running daemon as others see it.
pub struct Daemon {
    started: Origin,
    file: PathBuf,
    plane: Arc<DataPlane>,
    host: Host,
    commands: mpsc::Sender<Command>,
    speaker: RwLock<Option<Speaker>>,
    latencies: Arc<Latencies>,
    reloader: tokio::sync::Mutex<Reloader>,
    credentials: RwLock<Option<Credentials>>,
    /// What holds now, for readers that must not wait for a reload under way.
    config: RwLock<Arc<Config>>,
    reloads: RwLock<view::Reloads>,
    newest_event: watch::Receiver<EventId>,
}

impl Daemon {
    /// Everything about VIPs, services and backends.
    pub async fn status(&self) -> Result<Status, Unresponsive> {
        let view = self.ask_in_time(Command::View).await?;
        let about = view::About {
            uptime: self.started.monotonic.elapsed(),
            config_file: self.file.display().to_string(),
            reloads: self.reloads.read().unwrap_or_else(PoisonError::into_inner).clone(),
            stalest_turn: self.plane.stalest_turn(),
        };
        Ok(view::status(about, &self.config(), &view, &self.plane.stats(), &self.peers()))
    }

    /// Whether the steering task answers; nothing is copied for it. When the data plane's slowest thread last turned.
    pub async fn pulse(&self) -> Result<Duration, Unresponsive> {
        self.ask_in_time(Command::Ping).await?;
        Ok(self.plane.stalest_turn())
    }

    async fn ask_in_time<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Unresponsive> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.commands.send(command(answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asked).await.ok().flatten().ok_or(Unresponsive)
    }

    /// The BGP sessions, in configuration order.
    pub fn bgp(&self) -> Vec<view::PeerView> {
        let now = Instant::now();
        self.peers().into_iter().map(|peer| view::PeerView::new(peer, now)).collect()
    }

    pub fn peers(&self) -> Vec<PeerStatus> {
        self.speaker().map(|speaker| speaker.peers()).unwrap_or_default()
    }

    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    pub fn plane(&self) -> &DataPlane {
        &self.plane
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Applies the configuration file as it is now. One reload at a time.
    pub async fn reload(&self) -> Outcome {
        let outcome = self.reloader.lock().await.reload(self).await;
        let mut reloads = self.reloads.write().unwrap_or_else(PoisonError::into_inner);
        if outcome.ok {
            reloads.applied += 1;
            reloads.last_error = None;
        } else {
            reloads.refused += 1;
            reloads.last_error = Some(outcome.text.clone());
        }
        outcome
    }

    /// What is remembered of the events after one, oldest first.
    pub async fn events(&self, after: EventId) -> Vec<EventView> {
        let events = self.ask(|done| Command::Events { after, done }).await.unwrap_or_default();
        events.iter().map(|event| EventView::new(event, self.started)).collect()
    }

    /// Waits until there is an event after this one, but no longer than `patience`.
    pub async fn event_after(&self, after: EventId, patience: Duration) {
        let mut newest = self.newest_event.clone();
        let _ = tokio::time::timeout(patience, newest.wait_for(|newest| *newest > after)).await;
    }

    /// The chain of events behind the newest change of a VIP, backend, service or peer.
    pub async fn why(&self, subject: &str) -> Option<ChainView> {
        let subject = subject.to_owned();
        let chain = self.ask(|done| Command::Why { subject, done }).await.flatten()?;
        Some(ChainView::new(&chain, self.started))
    }

    /// Begins to withdraw this host's VIPs in order; answers what is going to happen.
    pub async fn drain(&self, why: &str) -> Outcome {
        let timeout = self.config().global.drain_timeout;
        let (why, deadline) = (why.to_owned(), Instant::now() + timeout);
        let before = self.ask(|done| Command::Drain { duty: Duty::Drained, why, deadline, done }).await;
        match before.unwrap_or(Duty::Stopping) {
            Duty::Serving => Outcome::done(format!(
                "draining: the VIPs of this host leave within {timeout:?}; `undrain` brings them back"
            )),
            Duty::Drained => {
                Outcome::done("this host is drained already, or on its way; `undrain` brings it back")
            }
            Duty::Stopping => Outcome::refused("the daemon is stopping: its VIPs leave anyway, and for good"),
        }
    }

    /// Ends a drain, wherever it is.
    pub async fn undrain(&self, why: &str) -> Outcome {
        let why = why.to_owned();
        match self.ask(|done| Command::Undrain { why, done }).await.unwrap_or(Err(Refused::Stopping)) {
            Ok(()) => Outcome::done("this host serves again"),
            Err(serves @ Refused::NotDrained) => Outcome::done(serves),
            Err(refused) => Outcome::refused(refused),
        }
    }

    /// Stops holding back a VIP that came and went.
    pub async fn release(&self, address: IpAddr) -> Outcome {
        match self.ask(|done| Command::Release { address, done }).await.unwrap_or(Err(Refused::Stopping)) {
            Ok(true) => Outcome::done(format!(
                "{address} is held back no longer: once healthy for its announce_delay, it is announced"
            )),
            Ok(false) => {
                Outcome::done(format!("{address} was not held back; what it did before is forgotten"))
            }
            Err(refused) => Outcome::refused(refused),
        }
    }

    /// Waits for a reload under way and takes no further one.
    pub async fn end_reloads(&self) {
        self.reloader.lock().await.end();
    }

    /// What an HTTP request needs to be let in.
    pub fn credentials(&self) -> Option<Credentials> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_credentials(&self, credentials: Option<Credentials>) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub fn speaker(&self) -> Option<Speaker> {
        self.speaker.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub async fn set_speaker(&self, speaker: Option<Speaker>) {
        self.speaker.write().unwrap_or_else(PoisonError::into_inner).clone_from(&speaker);
        self.command(Command::Speaker(speaker)).await;
    }

    /// Sends a command to the steering task, which outlives every sender.
    pub async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    /// Sends a command and waits until it has been carried out.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.command(command(done)).await;
        answer.await.ok()
    }
}

/// Runs until stopped by a signal. Logging is set up already.
pub async fn run(file: PathBuf, config: Config, logs: &Logs) -> anyhow::Result<()> {
    let mut signals = shutdown::Signals::install()?;
    let descriptors = lb_core::raise_descriptor_limit().context("cannot raise the limit on open files")?;
    let options = plane_options(&config, descriptors);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        threads = options.workers,
        max_connections = options.max_connections,
        descriptors,
        "starting"
    );
    let (inputs, channels) = task::channels();
    let Inputs { commands, peer_events, failures } = inputs;
    let plane =
        Arc::new(DataPlane::start(options, Arc::new(TrafficObserver::new(failures, logs.access.clone())))?);
    let latencies = Arc::new(Latencies::new()?);
    let seed = config
        .bgp
        .as_ref()
        .map_or(u64::from(std::process::id()), |b| u64::from(u32::from(b.router_id.as_ipv4())));
    let admin = open_admin(&config).await?;
    let (newest, newest_event) = watch::channel(EventId::NONE);
    let host = Host::new(Arc::clone(&plane), commands.clone());
    let heart = Heart::default();
    let watchdog =
        Watchdog::watch(heart.clone(), watchdog::end_process).context("cannot start the watchdog")?;
    let mut steering = tokio::spawn(task::run(
        channels,
        Arc::clone(&plane),
        host.clone(),
        seed,
        Arc::clone(&latencies),
        newest,
        heart,
    ));
    let daemon = Arc::new(Daemon {
        started: Origin { monotonic: Instant::now(), wall: SystemTime::now() },
        file: file.clone(),
        plane,
        host: host.clone(),
        commands,
        speaker: RwLock::new(None),
        latencies,
        reloader: tokio::sync::Mutex::new(Reloader::new(file, logs, peer_events, host, seed)),
        credentials: RwLock::default(),
        config: RwLock::new(Arc::new(config.clone())),
        reloads: RwLock::default(),
        newest_event,
    });
    daemon.reloader.lock().await.start(&daemon, config).await?;
    let watching = tokio::spawn(daemon.host.clone().watch_addresses());
    let admin = admin.serve(&daemon);
    let names = tokio::spawn(keep_names_resolved(Arc::clone(&daemon)));
    tracing::info!("serving");
    let stop = tokio::select! {
        stop = signals.serve_reloads_until_stop(&daemon) => stop,
        ended = &mut steering => {
            // Nobody decides any more: what is announced must not stay announced.
            watching.abort();
            names.abort();
            shutdown::at_once(&daemon).await;
            anyhow::bail!("the steering task has ended: {}", ended.err().map_or("it returned".into(), |e| e.to_string()));
        }
    };
    watching.abort();
    names.abort();
    shutdown::stop(&daemon, stop, &mut signals).await;
    drop(admin);
    drop(watchdog);
    steering.abort();
    Ok(())
}

/// Asks again and again what the names of backends stand for.
async fn keep_names_resolved(daemon: Arc<Daemon>) {
    let mut again = tokio::time::interval(names::INTERVAL);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        again.tick().await;
        let wanted = Names::wanted(&daemon.config());
        if wanted.is_empty() {
            continue;
        }
        let answers = names::resolve(wanted).await;
        daemon.reloader.lock().await.learn(&daemon, &answers).await;
    }
}

/// Descriptors for what is neither the data plane nor counted one by one: admin connections, logs, libraries.
const RESERVED_DESCRIPTORS: u64 = 512;
/// Per BGP peer: dialled, accepted, colliding and closing connections.
const DESCRIPTORS_PER_PEER: u64 = 8;
/// Below this a load balancer is of little use: said at start.
const FEW_CONNECTIONS: u32 = 1000;

/// How many threads and connections; checks and sessions never want for descriptors because of clients.
fn plane_options(config: &Config, descriptors: u64) -> PlaneOptions {
    let workers =
        config.global.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let listeners = config.services.iter().map(|s| s.listen.len()).sum();
    let backends: usize = config.services.iter().map(|s| s.backends.len()).sum();
    let peers = config.bgp.as_ref().map_or(0, |bgp| bgp.peers.len());
    let reserved = RESERVED_DESCRIPTORS
        + lb_core::descriptors_of_plane(workers, listeners)
        + backends as u64
        + DESCRIPTORS_PER_PEER * peers as u64;
    let fits = lb_core::max_connections_for(descriptors, reserved);
    let max_connections = config.global.max_connections.unwrap_or(fits);
    if max_connections > fits {
        tracing::warn!(
            max_connections,
            fits,
            descriptors,
            "global.max_connections is more than the descriptors allow: raise the limit on open files (LimitNOFILE)"
        );
    } else if max_connections < FEW_CONNECTIONS && config.global.max_connections.is_none() {
        tracing::warn!(
            max_connections,
            descriptors,
            "few connections fit: raise the limit on open files (LimitNOFILE)"
        );
    }
    PlaneOptions { workers, max_connections, engine: config.global.engine }
}

/// The admin sockets, bound before anything changes on the host so that a second daemon fails first.
struct Admin {
    socket: Option<RuntimeSocket>,
    http: Option<tokio::net::TcpListener>,
}

async fn open_admin(config: &Config) -> anyhow::Result<Admin> {
    let socket = config.admin.socket.as_deref().map(RuntimeSocket::bind).transpose()?;
    let http = match config.admin.listen {
        Some(address) => Some(http::bind(address).await?),
        None => None,
    };
    Ok(Admin { socket, http })
}

/// Ends serving when dropped.
struct Serving(tokio::task::JoinSet<()>);

impl Admin {
    fn serve(self, daemon: &Arc<Daemon>) -> Serving {
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(socket) = self.socket {
            tasks.spawn(socket.serve(Arc::clone(daemon)));
        }
        if let Some(listener) = self.http {
            tasks.spawn(http::serve(listener, Arc::clone(daemon)));
        }
        Serving(tasks)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}
