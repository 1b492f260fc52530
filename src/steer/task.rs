//! The driver of the steering core: one task that owns it, feeds it from bounded channels and carries out its effects.
//!
//! In: check reports, failed connects of live traffic, peer events, commands. Out: eligibility to the data plane, the
//! desired routes to the speaker, events to the log. It never awaits anything but its inputs, so what takes it
//! long is nobody else's fault, and nobody else's slowness is its own.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock the core is fed with")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::{OwnPath, PeerEvent, PeerState, PeerStatus, RouteSet, Speaker};
use config::{BackendAddr, BackendId, Config, Name};
use health::{Monitor, Report};
use lb_core::{AccessRecord, ConnectCause, ConnectFailure, DataPlane, Observer, TlsFailure};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::others::Session;
use super::view::SteerView;
use super::vips::Refused;
use super::why::Chain;
use super::{Duty, Steer};
use crate::control::metrics::Latencies;
use crate::events::{Event, EventId};
use crate::logging::AccessLogger;
use crate::vip::host::Host;
use crate::vip::life_cycle::Input;
use crate::watchdog::Heart;

/// How often the data plane's threads are looked at, and what the peers show of our VIPs.
const PLANE_WATCH: Duration = Duration::from_millis(500);
const REPORTS: usize = 1024;
const FAILURES: usize = 1024;
const PEER_EVENTS: usize = 4096;
const COMMANDS: usize = 64;

/// What the rest of the process may ask of the steering task.
pub enum Command {
    Configure {
        config: Arc<Config>,
        what: String,
        done: oneshot::Sender<()>,
    },
    /// What the host has brought about for a life cycle on its `turn`, or found out by itself.
    Vip {
        address: IpAddr,
        turn: Option<u64>,
        input: Input,
        why: String,
    },
    /// These peers have not acknowledged the change of the route of a VIP that drains, and are waited for no longer.
    Unacknowledged {
        address: IpAddr,
        turn: u64,
        peers: Vec<Name>,
    },
    /// The host cannot do so yet.
    VipWaits {
        address: IpAddr,
        why: String,
    },
    Drain {
        duty: Duty,
        why: String,
        deadline: Instant,
        /// What this host was meant to do before.
        done: oneshot::Sender<Duty>,
    },
    Undrain {
        why: String,
        done: oneshot::Sender<Result<(), Refused>>,
    },
    /// A VIP that came and went is held back no longer.
    Release {
        address: IpAddr,
        /// Whether it was held back.
        done: oneshot::Sender<Result<bool, Refused>>,
    },
    /// The events after this one, oldest first.
    Events {
        after: EventId,
        done: oneshot::Sender<Vec<Event>>,
    },
    Why {
        subject: String,
        done: oneshot::Sender<Option<Chain>>,
    },
    /// Another speaker, or none.
    Speaker(Option<Speaker>),
    View(oneshot::Sender<SteerView>),
    /// Whether it answers at all.
    Ping(oneshot::Sender<()>),
}

/// The ends that others hold.
pub struct Inputs {
    pub commands: mpsc::Sender<Command>,
    pub peer_events: mpsc::Sender<PeerEvent>,
    pub failures: mpsc::Sender<FailedConnect>,
}

/// A failed connect of live traffic on its way to the health book.
pub struct FailedConnect {
    backend: BackendId,
    detail: String,
}

/// The data plane's seam to the health book and the access log. Never blocks: when the channel is full the failure is not counted, and
/// enough others are.
pub struct TrafficObserver {
    failures: mpsc::Sender<FailedConnect>,
    access: AccessLogger,
}

impl TrafficObserver {
    pub fn new(failures: mpsc::Sender<FailedConnect>, access: AccessLogger) -> Self {
        TrafficObserver { failures, access }
    }
}

impl Observer for TrafficObserver {
    fn connect_failed(&self, backend: &BackendId, failure: &ConnectFailure) {
        if blames_the_client(failure) {
            return;
        }
        let _ =
            self.failures.try_send(FailedConnect { backend: backend.clone(), detail: failure.to_string() });
    }

    fn connection_ended(&self, record: AccessRecord) {
        self.access.push(record);
    }
}

/// Whether a client alone could have brought this about: by the port it came to, or because the backend turned it away.
fn blames_the_client(failure: &ConnectFailure) -> bool {
    matches!(failure.address, BackendAddr::ClientPort(_))
        || matches!(failure.cause, ConnectCause::Tls(TlsFailure::Gone | TlsFailure::Alert(_)))
}

/// The receiving ends, made before the data plane so that its observer can be.
pub struct Channels {
    commands: mpsc::Receiver<Command>,
    peer_events: mpsc::Receiver<PeerEvent>,
    failures: mpsc::Receiver<FailedConnect>,
}

pub fn channels() -> (Inputs, Channels) {
    let (commands, commands_in) = mpsc::channel(COMMANDS);
    let (peer_events, peer_events_in) = mpsc::channel(PEER_EVENTS);
    let (failures, failures_in) = mpsc::channel(FAILURES);
    (
        Inputs { commands, peer_events, failures },
        Channels { commands: commands_in, peer_events: peer_events_in, failures: failures_in },
    )
}

struct Task {
    steer: Steer,
    monitor: Monitor,
    plane: Arc<DataPlane>,
    host: Host,
    speaker: Option<Speaker>,
    routes: Arc<RouteSet>,
    newest_event: watch::Sender<EventId>,
    latencies: Arc<Latencies>,
}

/// Runs until every command sender is gone. `seed` spreads the checks of several hosts.
pub async fn run(
    mut channels: Channels,
    plane: Arc<DataPlane>,
    host: Host,
    seed: u64,
    latencies: Arc<Latencies>,
    newest_event: watch::Sender<EventId>,
    heart: Heart,
) {
    let (reports, mut reports_in) = mpsc::channel::<Report>(REPORTS);
    let now = Instant::now();
    let monitor = match Monitor::start(seed, reports) {
        Ok(monitor) => monitor,
        Err(error) => {
            tracing::error!("the thread of the checks does not start: {error}");
            return;
        }
    };
    let mut task = Task {
        steer: Steer::new(now),
        monitor,
        plane,
        host,
        speaker: None,
        routes: Arc::new(RouteSet::empty(now)),
        newest_event,
        latencies,
    };
    let mut watch = tokio::time::interval(PLANE_WATCH);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heart.beat();
        // What is overdue comes before what waits: after a stall the results in the queue are old.
        let now = Instant::now();
        if task.steer.poll_timeout().is_some_and(|due| due <= now) {
            task.steer.handle_timeout(now);
            task.carry_out();
        }
        let deadline = task.steer.poll_timeout();
        let timeout = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(report) = reports_in.recv() => task.steer.report(&report, Instant::now()),
            Some(failed) = channels.failures.recv() => {
                task.steer.connect_failed(&failed.backend, &failed.detail, Instant::now());
            }
            Some(event) = channels.peer_events.recv() => {
                task.latencies.observe(&event);
                task.steer.peer_event(&event, Instant::now());
                if changes_what_sessions_show(&event) {
                    task.steer.others(&task.sessions(), Instant::now());
                }
            }
            command = channels.commands.recv() => match command {
                Some(command) => task.obey(command),
                None => return,
            },
            () = timeout => task.steer.handle_timeout(Instant::now()),
            _ = watch.tick() => {
                let stalest = task.plane.stalest_turn();
                task.steer.plane_turned(stalest, Instant::now());
                task.steer.others(&task.sessions(), Instant::now());
            }
        }
        task.carry_out();
    }
}

impl Task {
    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Configure { config, what, done } => {
                let checks = self.steer.configure(config, &what, now);
                self.monitor.apply(&checks);
                self.carry_out();
                let _ = done.send(());
            }
            Command::Vip { address, turn, input, why } => self.steer.vip(address, turn, input, &why, now),
            Command::Unacknowledged { address, turn, peers } => {
                self.steer.unacknowledged(address, turn, &peers, now);
            }
            Command::VipWaits { address, why } => self.steer.vip_waits(address, why),
            Command::Drain { duty, why, deadline, done } => {
                let before = self.steer.drain(duty, &why, deadline, now);
                self.carry_out();
                let _ = done.send(before);
            }
            Command::Undrain { why, done } => {
                let _ = done.send(self.steer.undrain(&why, now));
            }
            Command::Release { address, done } => {
                let _ = done.send(self.steer.release(address, now));
            }
            Command::Events { after, done } => {
                let _ = done.send(self.steer.journal().after(after));
            }
            Command::Why { subject, done } => {
                let _ = done.send(self.steer.why(&subject, now));
            }
            Command::Speaker(speaker) => {
                if let Some(speaker) = &speaker {
                    speaker.set_desired(Arc::clone(&self.routes));
                }
                self.speaker = speaker;
            }
            Command::View(answer) => {
                let _ = answer.send(self.steer.view(now));
            }
            Command::Ping(answer) => {
                let _ = answer.send(());
            }
        }
    }

    /// What the Established sessions show of our VIPs.
    fn sessions(&self) -> Vec<Session> {
        let peers = self.speaker.as_ref().map(Speaker::peers).unwrap_or_default();
        let established = peers.into_iter().filter(|peer| peer.state == PeerState::Established);
        let session = |peer: PeerStatus| {
            let shown = |path: &&OwnPath| path.graceful_shutdown;
            let address = |path: &OwnPath| path.prefix.addr();
            Session {
                vips: peer.paths.iter().map(address).collect(),
                coming: peer.paths.iter().filter(shown).map(address).collect(),
                peer: peer.name,
                since: peer.since,
            }
        };
        established.map(session).collect()
    }

    /// Traffic first, routes next, the host after them, words last.
    fn carry_out(&mut self) {
        let effects = self.steer.take_effects();
        self.monitor.set_intervals(&effects.intervals);
        if !effects.standing.is_empty() {
            self.plane.set_standing(&effects.standing);
        }
        if let Some(desired) = effects.desired {
            self.routes = desired;
            if let Some(speaker) = &self.speaker {
                speaker.set_desired(Arc::clone(&self.routes));
            }
        }
        for entered in effects.entered {
            self.host.work_on(entered, self.speaker.clone(), self.routes.version);
        }
        for (address, door) in effects.doors {
            self.host.move_door(address, door);
        }
        for event in &effects.events {
            log(event);
        }
        if let Some(newest) = effects.events.last() {
            self.newest_event.send_replace(newest.id);
        }
    }
}

/// Whether that is not to wait until the sessions are looked at again.
fn changes_what_sessions_show(event: &PeerEvent) -> bool {
    match event {
        PeerEvent::Up { .. } | PeerEvent::Down { .. } | PeerEvent::GracefulPathsChanged { .. } => true,
        PeerEvent::AttemptFailed { .. }
        | PeerEvent::Sent { .. }
        | PeerEvent::Acked { .. }
        | PeerEvent::RefreshRequested { .. }
        | PeerEvent::BfdUp { .. }
        | PeerEvent::BfdDown { .. }
        | PeerEvent::TaskFailed { .. } => false,
    }
}

fn log(event: &Event) {
    let Event { id, kind, subject, text, cause, since_root_ms, .. } = event;
    let (id, cause, event) = (id.0, cause.0, kind.as_str());
    let after_ms = (since_root_ms * 1e3).round() / 1e3;
    let separator = if subject.is_empty() { "" } else { ": " };
    if kind.is_bad_news() {
        tracing::warn!(event, id, cause, after_ms, subject, "{subject}{separator}{text}");
    } else {
        tracing::info!(event, id, cause, after_ms, subject, "{subject}{separator}{text}");
    }
}
