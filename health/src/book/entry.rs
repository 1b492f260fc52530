//! One backend in the book: what its checks, its live traffic and its agent have said, and what follows.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use config::{BackendAddr, Check, CheckKind};

use super::Transition;
use crate::agent::Agent;
use crate::outcome::{Epoch, Outcome, Report, Target, Verdict};
use crate::passive::Failures;
use crate::state::{Health, Observation, RiseFall, Streak};

/// Slack for a busy machine before a missing result counts as a checker that hangs.
const STALE_SLACK: Duration = Duration::from_secs(1);

/// What is known about one backend.
#[derive(Debug, Clone)]
pub struct Entry {
    pub target: Target,
    /// When the health became what it is.
    pub since: Instant,
    /// Why it is what it is, in words.
    pub reason: String,
    /// The newest attempt and when it ended, conclusive or not.
    pub last: Option<(Outcome, Instant)>,
    pub checks_passed: u64,
    pub checks_failed: u64,
    /// Attempts that this host could not make.
    pub checks_not_made: u64,
    /// Connections of live traffic that failed or were reset before an answer.
    pub connects_failed: u64,
    pub transitions: u64,
    /// What the backend's agent has said so far; a layer of its own beside the health.
    pub agent: Agent,
    pub(super) epoch: Epoch,
    state: RiseFall,
    failures: Failures,
    freshness: Freshness,
    trial: Trial,
}

#[derive(Debug, Clone, Copy)]
enum Freshness {
    /// Not checked: nothing to go stale.
    Always,
    Until(Instant),
    Stale,
}

/// Where a backend without an active check is on its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    None,
    /// Taken out until then.
    OutUntil(Instant),
    /// Back, but a single failure until then takes it out again.
    OnTrialUntil(Instant),
}

impl Entry {
    pub(super) fn new(target: Target, epoch: Epoch, now: Instant) -> Self {
        let (health, reason) = match &target.address {
            BackendAddr::Name { host, answer: None, .. } => {
                (Health::Down, format!("name {host} not resolved"))
            }
            BackendAddr::Ip(_)
            | BackendAddr::ClientPort(_)
            | BackendAddr::Name { answer: Some(_), .. }
            | BackendAddr::Unix(_) => {
                if target.is_checked() {
                    (Health::Unknown, "not checked yet".into())
                } else {
                    (Health::Up, "no active check".into())
                }
            }
        };
        let freshness = if target.is_checked() {
            Freshness::after(&target.check, target.check.interval, now)
        } else {
            Freshness::Always
        };
        Entry {
            since: now,
            reason,
            last: None,
            checks_passed: 0,
            checks_failed: 0,
            checks_not_made: 0,
            connects_failed: 0,
            transitions: 0,
            epoch,
            state: RiseFall::new(health),
            agent: Agent::default(),
            failures: Failures::default(),
            freshness,
            trial: Trial::None,
            target,
        }
    }

    pub fn health(&self) -> Health {
        self.state.health()
    }

    /// Whether new connections may come here as far as health and agent go.
    pub fn takes_traffic(&self) -> bool {
        self.health().is_up() && self.agent.takes_traffic()
    }

    /// The time from one attempt to the next that is in force: `fast_interval` while the health is changing or while what
    /// lowered it was not its check, `down_interval` while it is down, `interval` otherwise.
    pub fn interval(&self) -> Duration {
        let Check { interval, fast_interval, down_interval, .. } = self.target.check;
        match (self.health(), self.state.streak().map(|streak| streak.kind)) {
            (Health::Up, Some(Observation::Bad)) | (Health::Down, Some(Observation::Good) | None) => {
                fast_interval.unwrap_or(interval)
            }
            (Health::Down, Some(Observation::Bad)) => down_interval.unwrap_or(interval),
            (Health::Up, Some(Observation::Good) | None) | (Health::Unknown, _) => interval,
        }
    }

    /// No conclusive result for longer than the check's interval and timeout explain: the checker hangs.
    pub fn is_stale(&self) -> bool {
        matches!(self.freshness, Freshness::Stale)
    }

    /// Equal check results in a row up to the newest: passed or failed, and how many.
    pub fn streak(&self) -> Option<(Verdict, u32)> {
        self.state.streak().map(|s| match s.kind {
            Observation::Good => (Verdict::Passed, s.length),
            Observation::Bad => (Verdict::Failed, s.length),
        })
    }

    pub(super) fn is_checked(&self) -> bool {
        self.target.is_checked()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let stale = match self.freshness {
            Freshness::Until(at) => Some(at),
            Freshness::Always | Freshness::Stale => None,
        };
        let trial = match self.trial {
            Trial::OutUntil(at) => Some(at),
            Trial::None | Trial::OnTrialUntil(_) => None,
        };
        stale.into_iter().chain(trial).min()
    }

    pub(super) fn observe(&mut self, report: &Report) -> Option<Transition> {
        let reply = report.outcome.agent.as_ref();
        reply.inspect(|reply| self.agent.take(reply));
        let kind = match report.outcome.verdict() {
            // It answers, but has not taken back what it said before.
            Verdict::Passed if self.agent.is_down() => Observation::Bad,
            Verdict::Passed => Observation::Good,
            Verdict::Failed => Observation::Bad,
            Verdict::NotMade => {
                self.checks_not_made += 1;
                return None;
            }
        };
        match kind {
            Observation::Good => self.checks_passed += 1,
            Observation::Bad => self.checks_failed += 1,
        }
        let Check { rise, fall, .. } = self.target.check;
        let is_the_agents_word = reply.is_some_and(|reply| reply.condition.is_some());
        let (rise, fall) = if is_the_agents_word { (1, 1) } else { (rise, fall) };
        let from = self.health();
        let changed = self.state.observe(kind, rise, fall, report.at);
        self.refresh(report.at);
        if !changed {
            return None;
        }
        let streak = self.state.streak()?;
        let reason = in_words(from, streak, &report.outcome.detail, report.at);
        let failing_since = (kind == Observation::Bad).then_some(streak.since);
        self.failures.clear();
        Some(self.changed(from, reason, failing_since, report.at))
    }

    /// A result came at `at`, or the interval in force may have changed then.
    fn refresh(&mut self, at: Instant) {
        if self.is_checked() {
            self.freshness = Freshness::after(&self.target.check, self.interval(), at);
        }
    }

    pub(super) fn connect_failed(&mut self, detail: &str, now: Instant) -> Option<Transition> {
        self.connects_failed += 1;
        if !self.target.passive.enabled || !self.health().is_up() {
            return None;
        }
        let (failures, since) = match self.trial {
            Trial::OnTrialUntil(end) if now <= end => (1, now),
            Trial::OnTrialUntil(_) | Trial::OutUntil(_) | Trial::None => {
                let burst = self.failures.record(&self.target.passive, now)?;
                (burst.failures, burst.since)
            }
        };
        self.state.force(Health::Down);
        self.trial =
            if self.is_checked() { Trial::None } else { Trial::OutUntil(now + self.target.passive.window) };
        self.refresh(now);
        let reason = format!(
            "{} of live traffic in {}, the last: {detail}",
            counted(failures, "failed connection"),
            seconds(now.saturating_duration_since(since)),
        );
        Some(self.changed(Health::Up, reason, Some(since), now))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Transition> {
        if matches!(self.freshness, Freshness::Until(at) if at <= now) {
            self.freshness = Freshness::Stale;
        }
        match self.trial {
            Trial::OutUntil(at) if at <= now => {
                let window = self.target.passive.window;
                self.trial = Trial::OnTrialUntil(now + window);
                let from = self.health();
                self.state.force(Health::Up);
                self.failures.clear();
                Some(self.changed(from, format!("out for {window:?}, now on trial"), None, now))
            }
            Trial::OutUntil(_) | Trial::OnTrialUntil(_) | Trial::None => None,
        }
    }

    fn changed(
        &mut self,
        from: Health,
        reason: String,
        failing_since: Option<Instant>,
        at: Instant,
    ) -> Transition {
        self.since = at;
        self.transitions += 1;
        self.reason = reason.clone();
        Transition { id: self.target.id.clone(), from, to: self.health(), reason, failing_since }
    }

    /// Takes over a changed target. The health found out so far holds until the new check says otherwise, by its own
    /// rise and fall, so that changing how a backend is checked never takes it out. Another address is another server.
    pub(super) fn adopt(&mut self, target: Target, epoch: Epoch, now: Instant) {
        let loses_check = self.is_checked() && !target.is_checked();
        if target.address != self.target.address || loses_check {
            *self = Entry::new(target, epoch, now);
            return;
        }
        self.state.force(self.health());
        self.failures.clear();
        self.epoch = epoch;
        self.target = target;
        if !matches!(self.target.check.kind, CheckKind::Agent { .. }) {
            self.agent = Agent::default();
        }
        if self.is_checked() {
            self.trial = Trial::None;
            self.refresh(now);
        }
    }
}

impl Freshness {
    /// Fresh from a result at `at` until two intervals, one timeout and some slack later: attempts start at most 1.6
    /// intervals apart and last at most one timeout.
    fn after(check: &Check, interval: Duration, at: Instant) -> Self {
        Freshness::Until(at + interval.saturating_mul(2) + check.timeout + STALE_SLACK)
    }
}

fn in_words(from: Health, streak: Streak, detail: &str, now: Instant) -> String {
    let (good_or_failed, passed_or_failed) = match streak.kind {
        Observation::Good => ("good check", "passed"),
        Observation::Bad => ("failed check", "failed"),
    };
    match (from, streak.length) {
        (Health::Unknown, _) => format!("first check {passed_or_failed}: {detail}"),
        (Health::Up | Health::Down, 1) => format!("1 {good_or_failed}: {detail}"),
        (Health::Up | Health::Down, n) => format!(
            "{} in {}, the last: {detail}",
            counted(n as usize, good_or_failed),
            seconds(now.saturating_duration_since(streak.since)),
        ),
    }
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn seconds(d: Duration) -> String {
    format!("{:.1} s", d.as_secs_f64())
}
