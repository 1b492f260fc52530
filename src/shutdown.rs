//! Signals and the way out: routes first, traffic second, sockets third, the address last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::Daemon;
use crate::steer::Duty;
use crate::steer::task::Command;

/// Longest wait for the peers to take the closing NOTIFICATION.
pub const CEASE_BOUND: Duration = Duration::from_secs(1);
/// What a life cycle may take beyond its drain deadline: to close what is left and report it.
const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// How the daemon was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: in order, without a failed request.
    Planned,
    /// SIGINT, or SIGTERM once more: now.
    Now,
}

/// The signals the daemon obeys.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn install() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// SIGHUP reloads; anything else ends the wait.
    pub async fn serve_reloads_until_stop(&mut self, daemon: &Arc<Daemon>) -> Stop {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    // In a task of its own: a reload under way must not delay a stop.
                    let daemon = Arc::clone(daemon);
                    tokio::spawn(async move { drop(daemon.reload().await) });
                }
                _ = self.terminate.recv() => return Stop::Planned,
                _ = self.interrupt.recv() => return Stop::Now,
            }
        }
    }

    /// Resolves when somebody loses patience.
    async fn hurry(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Brings the daemon down; every VIP is withdrawn and its address gone when this returns.
pub async fn stop(daemon: &Daemon, stop: Stop, signals: &mut Signals) {
    let planned = match stop {
        Stop::Planned => tokio::select! {
            () = in_order(daemon) => true,
            () = signals.hurry() => false,
        },
        Stop::Now => false,
    };
    if !planned {
        at_once(daemon).await;
    }
    tracing::info!("stopped");
}

async fn in_order(daemon: &Daemon) {
    let timeout = daemon.config().global.drain_timeout;
    let deadline = now() + timeout;
    tracing::info!(timeout = ?timeout, "planned stop: withdrawing, then draining");
    let why = "planned stop (SIGTERM)".to_owned();
    // Routes first: a reload under way is waited for only then, and what it adds drains at once.
    daemon.host().hold_addresses();
    daemon.ask(|done| Command::Drain { duty: Duty::Stopping, why, deadline, done }).await;
    daemon.end_reloads().await;
    daemon.host().begin_stop().await;
    until(deadline + GRACE, async || vips_are(daemon, &["closed", "address_down"]).await).await;

    daemon.host().close_all_listeners().await;
    until(deadline, async || daemon.plane().active() == 0).await;
    let left = daemon.plane().active();
    if left > 0 {
        tracing::warn!(connections = left, "drain_timeout is over: closing what is left");
    }
    daemon.plane().kill_connections();

    close_sessions(daemon).await;
    daemon.host().release_addresses();
    until(now() + GRACE, async || vips_are(daemon, &["address_down"]).await).await;
    daemon.host().remove_all().await;
}

/// Routes still go first: the closing NOTIFICATION takes them.
pub async fn at_once(daemon: &Daemon) {
    tracing::info!("stopping now");
    // A reload under way is not waited for long.
    let _ = tokio::time::timeout(GRACE, daemon.end_reloads()).await;
    let _ = tokio::time::timeout(GRACE, daemon.host().begin_stop()).await;
    close_sessions(daemon).await;
    let _ = tokio::time::timeout(GRACE, daemon.host().close_all_listeners()).await;
    daemon.plane().kill_connections();
    daemon.host().remove_all().await;
}

async fn close_sessions(daemon: &Daemon) {
    if let Some(speaker) = daemon.speaker() {
        speaker.shutdown("contrail-lb stops", now() + CEASE_BOUND).await;
    }
}

async fn vips_are(daemon: &Daemon, phases: &[&str]) -> bool {
    let view = daemon.ask(Command::View).await;
    view.is_none_or(|view| view.vips.values().all(|vip| phases.contains(&vip.phase)))
}

/// Waits for a condition, or for the deadline.
async fn until(deadline: Instant, condition: impl AsyncFn() -> bool) {
    let met = async {
        let mut poll = tokio::time::interval(POLL);
        while !condition().await {
            poll.tick().await;
        }
    };
    let _ = tokio::time::timeout_at(deadline.into(), met).await;
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
