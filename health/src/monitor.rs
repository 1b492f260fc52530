//! The driver of the checks: one tokio task per target with an active check, which waits until the target is due, makes
//! one attempt and sends its [`Report`].
//!
//! Owns the tasks and the clock. Reports go to a bounded channel; when its owner is slow the tasks wait, and the
//! schedule then goes on without a burst. Judges nothing.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clock the schedule is asked with")]

use std::collections::HashMap;
use std::time::Instant;

use config::{BackendId, CheckKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::outcome::{Epoch, Report, Target};
use crate::probe;
use crate::schedule::Schedule;

/// Runs the checks of all targets.
#[derive(Debug)]
pub struct Monitor {
    seed: u64,
    reports: mpsc::Sender<Report>,
    running: HashMap<BackendId, Running>,
}

#[derive(Debug)]
struct Running {
    epoch: Epoch,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Monitor {
    /// `seed`: the router id, so that hosts of one cluster differ. `reports`: where results go; it should hold a few per
    /// target.
    pub fn new(seed: u64, reports: mpsc::Sender<Report>) -> Self {
        Monitor { seed, reports, running: HashMap::new() }
    }

    /// Makes exactly `targets` run, as [`crate::Book::reconcile`] answered them. One with the epoch it already runs with
    /// keeps its phase and its attempt in flight; the rest are started or aborted. Must be called within a tokio
    /// runtime with I/O and time; the tasks run there.
    pub fn apply(&mut self, targets: &[(Target, Epoch)]) {
        let mut previous = std::mem::take(&mut self.running);
        for (target, epoch) in targets.iter().filter(|(t, _)| t.check.kind != CheckKind::None) {
            let running = match previous.remove(&target.id) {
                Some(same) if same.epoch == *epoch => same,
                Some(_) | None => self.start(target.clone(), *epoch),
            };
            self.running.insert(target.id.clone(), running);
        }
    }

    /// Aborts every check. Dropping the monitor does the same.
    pub fn stop(&mut self) {
        self.running.clear();
    }

    fn start(&self, target: Target, epoch: Epoch) -> Running {
        let schedule = Schedule::new(self.seed, &target.id, target.check.interval, Instant::now());
        Running { epoch, task: tokio::spawn(run(target, epoch, schedule, self.reports.clone())) }
    }
}

async fn run(target: Target, epoch: Epoch, mut schedule: Schedule, reports: mpsc::Sender<Report>) {
    loop {
        sleep_until(schedule.due().into()).await;
        let Some(outcome) = probe::attempt(&target).await else { return };
        let report = Report { id: target.id.clone(), epoch, outcome, at: Instant::now() };
        if reports.send(report).await.is_err() {
            return;
        }
        schedule.finished(Instant::now());
    }
}

#[cfg(test)]
mod tests;
