//! The driver of the checks: one tokio task per target with an active check, which waits until the target is due, makes
//! one attempt and sends its [`Report`].
//!
//! Owns the tasks and the clocks. Reports go to a bounded channel; when its owner is slow the tasks wait, and the
//! schedule then goes on without a burst. Judges nothing.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clocks the schedule is asked with")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::BackendId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::outcome::{Epoch, Report, Target};
use crate::probe::{Clients, Probe};
use crate::schedule::{Clock, Schedule};

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
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

/// What may change for a target while its task runs.
#[derive(Debug, Clone)]
struct Orders {
    interval: Duration,
    probe: Arc<Probe>,
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
    /// keeps its phase and its attempt in flight; the rest are started or aborted. Certificate files are read again for
    /// all. Must be called within a tokio runtime with I/O and time; the tasks run there.
    pub fn apply(&mut self, targets: &[(Target, Epoch)]) {
        let mut previous = std::mem::take(&mut self.running);
        let mut clients = Clients::default();
        for (target, epoch) in targets {
            let same = previous.remove(&target.id).filter(|running| running.epoch == *epoch);
            let Some(probe) = Probe::new(target, &mut clients).map(Arc::new) else { continue };
            let running = match same {
                Some(same) => {
                    if probe.reads_files() {
                        same.orders.send_modify(|orders| orders.probe = probe);
                    }
                    same
                }
                None => self.start(target, *epoch, probe),
            };
            self.running.insert(target.id.clone(), running);
        }
    }

    /// Checks these from now on so often; see [`crate::Book::take_intervals`].
    pub fn set_intervals(&self, intervals: &[(BackendId, Duration)]) {
        for (id, interval) in intervals {
            if let Some(running) = self.running.get(id) {
                running.orders.send_modify(|orders| orders.interval = *interval);
            }
        }
    }

    /// Aborts every check. Dropping the monitor does the same.
    pub fn stop(&mut self) {
        self.running.clear();
    }

    fn start(&self, target: &Target, epoch: Epoch, probe: Arc<Probe>) -> Running {
        let interval = target.check.interval;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let schedule = Schedule::new(self.seed, &target.id, interval, Clock { now: Instant::now(), wall });
        let (orders, given) = watch::channel(Orders { interval, probe });
        let task = tokio::spawn(run(target.id.clone(), epoch, schedule, given, self.reports.clone()));
        Running { epoch, orders, task }
    }
}

async fn run(
    id: BackendId,
    epoch: Epoch,
    mut schedule: Schedule,
    mut orders: watch::Receiver<Orders>,
    reports: mpsc::Sender<Report>,
) {
    loop {
        tokio::select! {
            () = sleep_until(schedule.due().into()) => {}
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
                let interval = orders.borrow_and_update().interval;
                schedule.set_interval(interval, Instant::now());
                continue;
            }
        }
        let probe = Arc::clone(&orders.borrow().probe);
        let outcome = probe.attempt().await;
        let report = Report { id: id.clone(), epoch, outcome, at: Instant::now() };
        if reports.send(report).await.is_err() {
            return;
        }
        schedule.finished(Instant::now());
    }
}

#[cfg(test)]
mod tests;
