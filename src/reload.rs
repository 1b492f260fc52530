//! Reload: a wrong file changes nothing, a good one touches only what it names.
//!
//! Order: read and check → open new sockets, put new addresses on the host → BGP peers → accept → checks, VIPs, routes → no
//! BGP any more.
//! The steps that can fail come first, and each undoes what came before it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bgp_speaker::{PeerEvent, Speaker, SpeakerError};
use config::{AccessLog, Config, Service};
use lb_core::Recording;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::app::Daemon;
use crate::control::http::Credentials;
use crate::logging::{AccessLogger, LevelHandle, Logs};
use crate::names::{self, Names};
use crate::return_path;
use crate::steer::task::Command;
use crate::vip::host::Host;

/// How long a configuration waits for names that are new.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// How a command of an operator ended.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub ok: bool,
    /// What changed, or why nothing did.
    pub text: String,
}

impl Outcome {
    pub fn done(text: impl ToString) -> Self {
        Outcome { ok: true, text: text.to_string() }
    }

    pub fn refused(text: impl ToString) -> Self {
        Outcome { ok: false, text: text.to_string() }
    }
}

/// Owns what a reload changes. One reload at a time.
pub struct Reloader {
    file: PathBuf,
    level: LevelHandle,
    access: AccessLogger,
    /// What holds, without what the names of backends stand for.
    configured: Option<Arc<Config>>,
    names: Names,
    peer_events: mpsc::Sender<PeerEvent>,
    host: Host,
    /// Feeds all jitter of the speaker.
    seed: u64,
    /// The daemon is stopping.
    ended: bool,
}

impl Reloader {
    pub fn new(
        file: PathBuf,
        logs: &Logs,
        peer_events: mpsc::Sender<PeerEvent>,
        host: Host,
        seed: u64,
    ) -> Self {
        let (level, access) = (logs.level.clone(), logs.access.clone());
        Reloader {
            file,
            level,
            access,
            configured: None,
            names: Names::default(),
            peer_events,
            host,
            seed,
            ended: false,
        }
    }

    /// The first configuration.
    pub async fn start(&mut self, daemon: &Daemon, config: Config) -> anyhow::Result<()> {
        let what = format!("{}: the first configuration", self.file.display());
        self.apply(daemon, Arc::new(config), what).await
    }

    /// Takes answers about the names of backends. Those that have moved are other backends from now on.
    pub async fn learn(&mut self, daemon: &Daemon, answers: &[(Arc<str>, Vec<IpAddr>)]) {
        let mut moved = Vec::new();
        for (name, answer) in answers {
            if self.names.learn(name, answer) {
                moved.push(name.to_string());
            }
        }
        let Some(configured) = self.configured.clone().filter(|_| !moved.is_empty() && !self.ended) else {
            return;
        };
        let what = format!("names resolved: {}", moved.join(", "));
        if let Err(error) = self.apply(daemon, configured, what).await {
            tracing::error!("cannot take over what names were resolved to: {error:#}");
        }
    }

    /// No reload is taken any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Applies the file as it is now.
    pub async fn reload(&mut self, daemon: &Daemon) -> Outcome {
        if self.ended {
            return Outcome { ok: false, text: "the daemon is stopping\nnothing was changed".into() };
        }
        let loaded = match config::load(&self.file) {
            Ok(loaded) => loaded,
            Err(problems) => {
                let text = format!("{}\nnothing was changed", problems.render(false).trim_end());
                tracing::error!(file = %self.file.display(), "reload refused:\n{text}");
                return Outcome { ok: false, text };
            }
        };
        let before = self.configured.clone().unwrap_or_else(|| daemon.config());
        let after = Arc::new(loaded.config);
        let what = changes(&before, &after);
        let mut text = what.clone();
        for note in at_next_start(&before, &after) {
            tracing::warn!("reload: {note} takes effect at the next start");
            text.push_str(&format!("\nnote: {note} takes effect at the next start"));
        }
        if !loaded.warnings.is_empty() {
            text.push_str(&format!("\n{}", loaded.warnings.render(false).trim_end()));
        }
        match self.apply(daemon, after, format!("reload: {what}")).await {
            Ok(()) => Outcome { ok: true, text },
            Err(error) => {
                tracing::error!("reload refused: {error:#}; nothing was changed");
                Outcome { ok: false, text: format!("error: {error:#}\nnothing was changed") }
            }
        }
    }

    async fn apply(&mut self, daemon: &Daemon, configured: Arc<Config>, what: String) -> anyhow::Result<()> {
        self.ask_for_new_names(&configured).await;
        let config = Arc::new(self.names.fill_in(&configured));
        // All that can fail, and each failure leaves things as they were.
        let credentials = config.admin.auth.as_ref().map(Credentials::read).transpose()?;
        let ran = self.configured.as_ref().map_or(&[][..], |before| &before.services);
        return_path::check(&config.services, ran).await?;
        let installation = self.host.prepare(&config.services, &config.vips).await?;
        let running = daemon.speaker();
        let speaker = match self.apply_bgp(running.clone(), &config).await {
            Ok(speaker) => speaker,
            Err(error) => {
                installation.roll_back().await;
                return Err(error.into());
            }
        };
        // From here on nothing fails.
        installation.commit().await;
        self.configured = Some(configured);
        self.level.set(config.global.log.level);
        self.access.set(config.global.log.access);
        daemon.plane().set_recording(match config.global.log.access {
            AccessLog::Off => Recording::Off,
            AccessLog::Tcplog | AccessLog::Json => Recording::On,
        });
        daemon.set_credentials(credentials);
        if running.is_none() && speaker.is_some() {
            daemon.set_speaker(speaker.clone()).await;
        }
        daemon.set_config(Arc::clone(&config));
        daemon
            .ask(|done| Command::Configure { config, what, done })
            .await
            .context("the steering task has ended")?;
        if let (Some(running), None) = (running, speaker) {
            daemon.set_speaker(None).await;
            let deadline = tokio::time::Instant::now() + crate::shutdown::CEASE_BOUND;
            running.shutdown("BGP is no longer configured", deadline.into_std()).await;
        }
        Ok(())
    }

    /// Names that nothing is known of yet are asked for, but not waited for long: what comes later is taken then.
    async fn ask_for_new_names(&mut self, config: &Config) {
        let unknown: Vec<_> =
            Names::wanted(config).into_iter().filter(|name| !self.names.knows(name)).collect();
        if unknown.is_empty() {
            return;
        }
        if let Ok(answers) = tokio::time::timeout(FIRST_ANSWER, names::resolve(unknown)).await {
            for (name, answer) in &answers {
                self.names.learn(name, answer);
            }
        }
    }

    /// The speaker that the configuration wants; one that it does not want goes on until the routes are decided.
    async fn apply_bgp(
        &self,
        running: Option<Speaker>,
        config: &Config,
    ) -> Result<Option<Speaker>, SpeakerError> {
        match (running, &config.bgp) {
            (None | Some(_), None) => Ok(None),
            (None, Some(bgp)) => Ok(Some(Speaker::start(bgp, self.seed, self.peer_events.clone()).await?)),
            (Some(speaker), Some(bgp)) => {
                speaker.apply(bgp).await?;
                Ok(Some(speaker))
            }
        }
    }
}

/// What differs, in a line.
fn changes(before: &Config, after: &Config) -> String {
    let services = difference(&before.services, &after.services, |s| s.name.to_string());
    let backends = difference(&all_backends(before), &all_backends(after), |b| b.0.clone());
    let vips = difference(&before.vips, &after.vips, |v| v.address.to_string());
    let peers = difference(peers(before), peers(after), |p| p.name.to_string());
    let parts: Vec<String> =
        [("service", services), ("backend", backends), ("VIP", vips), ("BGP peer", peers)]
            .into_iter()
            .filter_map(|(what, changed)| Some(format!("{what} {}", changed?)))
            .collect();
    if parts.is_empty() { "no change".into() } else { format!("applied: {}", parts.join("; ")) }
}

fn peers(config: &Config) -> &[config::Peer] {
    config.bgp.as_ref().map_or(&[], |bgp| &bgp.peers)
}

fn all_backends(config: &Config) -> Vec<(String, config::Backend)> {
    let of =
        |s: &Service| s.backends.iter().map(|b| (s.backend_id(b).to_string(), b.clone())).collect::<Vec<_>>();
    config.services.iter().flat_map(of).collect()
}

/// `+new -gone ~changed`, or nothing.
fn difference<T: PartialEq>(before: &[T], after: &[T], key: impl Fn(&T) -> String) -> Option<String> {
    let keys = |all: &[T]| all.iter().map(&key).collect::<BTreeSet<_>>();
    let (old, new) = (keys(before), keys(after));
    let changed = after
        .iter()
        .filter(|a| before.iter().any(|b| key(b) == key(a) && b != *a))
        .map(|a| format!("~{}", key(a)));
    let words: Vec<String> = new
        .difference(&old)
        .map(|k| format!("+{k}"))
        .chain(old.difference(&new).map(|k| format!("-{k}")))
        .chain(changed)
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Keys that differ and that a running daemon does not take over.
fn at_next_start(before: &Config, after: &Config) -> Vec<&'static str> {
    let (a, b) = (&before.global, &after.global);
    [
        ("global.threads", a.threads != b.threads),
        ("global.engine", a.engine != b.engine),
        ("global.max_connections", a.max_connections != b.max_connections),
        ("global.log.format", a.log.format != b.log.format),
        ("global.log.target", a.log.target != b.log.target),
        ("admin.socket", before.admin.socket != after.admin.socket),
        ("admin.listen", before.admin.listen != after.admin.listen),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
