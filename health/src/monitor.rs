//! The driver of the checks: one tokio task per target with an active check, which waits until the target is due, makes
//! one attempt and sends its [`Report`].
//!
//! Owns the tasks, the clocks and the thread they run on: one of its own, so that nothing else in the process holds a
//! check up, and a check wakes no second thread. Reports go to a bounded channel; when its owner is slow the tasks
//! wait, and the schedule then goes on without a burst. Judges nothing.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clocks the schedule is asked with")]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use config::BackendId;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
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
    runtime: Handle,
    /// The thread ends once this is gone.
    _alive: oneshot::Sender<()>,
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
    /// Starts the thread. `seed`: the router id, so that hosts of one cluster differ. `reports`: where results go; it should
    /// hold a few per target.
    ///
    /// # Errors
    /// This host has no descriptor or no thread left.
    pub fn start(seed: u64, reports: mpsc::Sender<Report>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, gone) = oneshot::channel();
        thread::Builder::new().name("checks".into()).spawn(move || runtime.block_on(gone))?;
        Ok(Monitor { seed, reports, runtime: handle, _alive: alive, running: HashMap::new() })
    }

    /// Makes exactly `targets` run, as [`crate::Book::reconcile`] answered them. One with the epoch it already runs with
    /// keeps its phase and its attempt in flight; the rest are started or aborted. Certificate files are read again for
    /// all.
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
                None => self.begin(target, *epoch, probe),
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

    fn begin(&self, target: &Target, epoch: Epoch, probe: Arc<Probe>) -> Running {
        let interval = target.check.interval;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let schedule = Schedule::new(self.seed, &target.id, interval, Clock { now: Instant::now(), wall });
        let (orders, given) = watch::channel(Orders { interval, probe });
        let task = self.runtime.spawn(run(target.id.clone(), epoch, schedule, given, self.reports.clone()));
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
