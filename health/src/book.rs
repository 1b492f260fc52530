//! The book of health: the single owner of what is known about every backend. Pure; the caller feeds it reports and the
//! time, and acts on what comes back: transitions, and intervals for the monitor.
//!
//! An active check decides by rise and fall. Failed connections of live traffic (`passive`) only ever lower a backend;
//! its active check then decides recovery. Without one (`kind = "none"`) it is out for `window` and comes back on trial:
//! for another `window` a single failure takes it out again. An agent's word about its backend counts at once, as it does
//! with HAProxy; that it is not reached, or not understood, counts as a failed check like any other.
#![deny(clippy::disallowed_methods)]

mod entry;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use config::BackendId;

pub use entry::Entry;

use crate::outcome::{Epoch, Report, Target};
use crate::state::Health;

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

/// Every backend's health, by backend.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<BackendId, Entry>,
    last_epoch: u64,
    /// The intervals that the monitor has not been told of, the newest of each backend last.
    intervals: Vec<(BackendId, Duration)>,
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
        let faster =
            self.entries.values().filter(|e| e.is_checked() && e.interval() != e.target.check.interval);
        self.intervals = faster.map(|e| (e.target.id.clone(), e.interval())).collect();
        self.entries.values().map(|e| (e.target.clone(), e.epoch)).collect()
    }

    /// Takes in a check result. Those of a target that is gone, was replaced or has no active check are ignored.
    pub fn record(&mut self, report: &Report) -> Option<Transition> {
        let entry = self.entries.get_mut(&report.id).filter(|e| e.epoch == report.epoch && e.is_checked())?;
        let before = entry.interval();
        entry.last = Some((report.outcome.clone(), report.at));
        let transition = entry.observe(report);
        self.note_interval(&report.id, before);
        transition
    }

    /// Takes in a connection of live traffic that failed: refused, unanswered, or reset before the backend had sent
    /// anything. `detail` says what was tried and what came back.
    pub fn connect_failed(&mut self, id: &BackendId, detail: &str, now: Instant) -> Option<Transition> {
        let entry = self.entries.get_mut(id)?;
        let before = entry.interval();
        let transition = entry.connect_failed(detail, now);
        self.note_interval(id, before);
        transition
    }

    /// How often who is to be checked from now on, for [`crate::Monitor::set_intervals`]; after every call that takes something
    /// in.
    pub fn take_intervals(&mut self) -> Vec<(BackendId, Duration)> {
        std::mem::take(&mut self.intervals)
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

    fn note_interval(&mut self, id: &BackendId, before: Duration) {
        if let Some(entry) = self.entries.get(id).filter(|e| e.is_checked() && e.interval() != before) {
            self.intervals.push((id.clone(), entry.interval()));
        }
    }

    fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        Epoch(self.last_epoch)
    }
}

#[cfg(test)]
mod tests;
