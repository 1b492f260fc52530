//! The book of health: the single owner of what is known about every backend. Pure; the caller feeds it reports and the
//! time, and acts on the transitions that come back.
//!
//! An active check decides by rise and fall. Failed connects of live traffic (`passive`) only ever lower a backend; its
//! active check then decides recovery. Without one (`kind = "none"`) it is out for `window` and comes back on trial:
//! for another `window` a single failed connect takes it out again.
#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use config::{BackendId, Check, CheckKind};

use crate::outcome::{Epoch, Outcome, Report, Target, Verdict};
use crate::passive::ConnectFailures;
use crate::state::{Health, Observation, RiseFall, Streak};

/// Slack for a busy machine before a missing result counts as a checker that hangs.
const STALE_SLACK: Duration = Duration::from_secs(1);

/// A backend changed its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub id: BackendId,
    pub from: Health,
    pub to: Health,
    /// Why, in words, with the last result.
    pub reason: String,
    /// To `Down`: when the first of the failures that led here came.
    pub failing_since: Option<Instant>,
}

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
    /// Failed connects of live traffic.
    pub connects_failed: u64,
    pub transitions: u64,
    epoch: Epoch,
    state: RiseFall,
    failures: ConnectFailures,
    freshness: Freshness,
    trial: Trial,
}

#[derive(Debug, Clone, Copy)]
enum Freshness {
    /// No active check: nothing to go stale.
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
    fn new(target: Target, epoch: Epoch, now: Instant) -> Self {
        let (health, reason) = match target.check.kind {
            CheckKind::None => (Health::Up, "no active check"),
            CheckKind::Tcp
            | CheckKind::Http(_)
            | CheckKind::Https(_)
            | CheckKind::Tls
            | CheckKind::SendExpect(_)
            | CheckKind::Agent { .. } => (Health::Unknown, "not checked yet"),
        };
        Entry {
            since: now,
            reason: reason.into(),
            last: None,
            checks_passed: 0,
            checks_failed: 0,
            checks_not_made: 0,
            connects_failed: 0,
            transitions: 0,
            epoch,
            state: RiseFall::new(health),
            failures: ConnectFailures::default(),
            freshness: Freshness::after(&target.check, now),
            trial: Trial::None,
            target,
        }
    }

    pub fn health(&self) -> Health {
        self.state.health()
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

    fn is_checked(&self) -> bool {
        self.target.check.kind != CheckKind::None
    }

    fn deadline(&self) -> Option<Instant> {
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

    fn observe(&mut self, report: &Report) -> Option<Transition> {
        let kind = match report.outcome.verdict {
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
        self.freshness = Freshness::after(&self.target.check, report.at);
        let from = self.health();
        let Check { rise, fall, .. } = self.target.check;
        if !self.state.observe(kind, rise, fall, report.at) {
            return None;
        }
        let streak = self.state.streak()?;
        let reason = in_words(from, streak, &report.outcome.detail, report.at);
        let failing_since = (kind == Observation::Bad).then_some(streak.since);
        self.failures.clear();
        Some(self.changed(from, reason, failing_since, report.at))
    }

    fn connect_failed(&mut self, detail: &str, now: Instant) -> Option<Transition> {
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
        let reason = format!(
            "{} of live traffic in {}, the last: {detail}",
            counted(failures, "failed connect"),
            seconds(now.saturating_duration_since(since)),
        );
        Some(self.changed(Health::Up, reason, Some(since), now))
    }

    fn handle_timeout(&mut self, now: Instant) -> Option<Transition> {
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
    fn adopt(&mut self, target: Target, epoch: Epoch, now: Instant) {
        let loses_check = self.is_checked() && target.check.kind == CheckKind::None;
        if target.address != self.target.address || loses_check {
            *self = Entry::new(target, epoch, now);
            return;
        }
        self.state.force(self.health());
        self.failures.clear();
        self.freshness = Freshness::after(&target.check, now);
        self.epoch = epoch;
        self.target = target;
        if self.is_checked() {
            self.trial = Trial::None;
        }
    }
}

impl Freshness {
    /// Fresh from a result at `at` until two intervals, one timeout and some slack later: attempts start at most 1.6
    /// intervals apart and last at most one timeout.
    fn after(check: &Check, at: Instant) -> Self {
        match check.kind {
            CheckKind::None => Freshness::Always,
            CheckKind::Tcp
            | CheckKind::Http(_)
            | CheckKind::Https(_)
            | CheckKind::Tls
            | CheckKind::SendExpect(_)
            | CheckKind::Agent { .. } => {
                Freshness::Until(at + check.interval.saturating_mul(2) + check.timeout + STALE_SLACK)
            }
        }
    }
}

/// Every backend's health, by backend.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<BackendId, Entry>,
    last_epoch: u64,
}

impl Book {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the book hold exactly `targets` and answers what [`crate::Monitor::apply`] is to run. An unchanged target
    /// keeps everything; one whose check changed keeps its health; one with another address, or that lost its active
    /// check, starts anew. No transitions come out: read the health of every backend again.
    pub fn reconcile(&mut self, targets: &[Target], now: Instant) -> Vec<(Target, Epoch)> {
        let mut previous = std::mem::take(&mut self.entries);
        for target in targets {
            let entry = match previous.remove(&target.id) {
                Some(same) if same.target == *target => same,
                Some(mut changed) => {
                    changed.adopt(target.clone(), self.next_epoch(), now);
                    changed
                }
                None => Entry::new(target.clone(), self.next_epoch(), now),
            };
            self.entries.insert(target.id.clone(), entry);
        }
        self.entries.values().map(|e| (e.target.clone(), e.epoch)).collect()
    }

    /// Takes in a check result. Those of a target that is gone, was replaced or has no active check are ignored.
    pub fn record(&mut self, report: &Report) -> Option<Transition> {
        let entry = self.entries.get_mut(&report.id).filter(|e| e.epoch == report.epoch && e.is_checked())?;
        entry.last = Some((report.outcome.clone(), report.at));
        entry.observe(report)
    }

    /// Takes in a failed connect of live traffic; `detail` says what was tried and what came back.
    pub fn connect_failed(&mut self, id: &BackendId, detail: &str, now: Instant) -> Option<Transition> {
        self.entries.get_mut(id)?.connect_failed(detail, now)
    }

    /// When [`Book::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.values().filter_map(Entry::deadline).min()
    }

    /// Ends trials and finds stale entries. Judge the VIPs again afterwards: an entry that went stale is no transition.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Transition> {
        self.entries.values_mut().filter_map(|e| e.handle_timeout(now)).collect()
    }

    pub fn get(&self, id: &BackendId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// In the order of service and backend names.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        Epoch(self.last_epoch)
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

#[cfg(test)]
mod tests;
