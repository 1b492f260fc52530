//! The driver of the checks: one tokio task per target with an active check, which waits until the target is due, makes
//! one attempt and sends its [`Report`].
//!
//! Owns the tasks, the clocks and the thread they run on: one of its own, so that nothing else in the process holds a
//! check up, and a check wakes no second thread. Where that is permitted the thread goes before those that relay, so that
//! checks keep their pace while every core is busy. Reports go to a bounded channel; when its owner is slow the tasks
//! wait, and the schedule then goes on without a burst. Judges nothing.
#![allow(clippy::disallowed_methods, reason = "a driver: it owns the clocks the schedule is asked with")]

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use config::BackendId;
use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::outcome::{Epoch, Report, Target};
use crate::probe::{Clients, Probe};
use crate::schedule::{Clock, Schedule};

/// What is due within so short a time begins in one wake: a check costs little once the thread is awake and the caches
/// are warm. Too short to be a burst to anybody.
const TOGETHER: Duration = Duration::from_millis(8);
/// Of its interval, a check is never put off by more than this part.
const TOGETHER_PART: u32 = 64;
/// Nine times the share of a normal thread. They need little, and at once.
const NICENESS: i32 = -10;

/// Runs the checks of all targets.
#[derive(Debug)]
pub struct Monitor {
    seed: u64,
    reports: mpsc::Sender<Report>,
    runtime: Handle,
    /// What wakes are counted from.
    origin: Instant,
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
        thread::Builder::new().name("checks".into()).spawn(move || {
            // Linux takes this for the calling thread alone. Where it is not permitted, checks go on as anybody.
            let _ = setpriority_process(None, NICENESS);
            runtime.block_on(gone)
        })?;
        let origin = Instant::now();
        Ok(Monitor { seed, reports, runtime: handle, origin, _alive: alive, running: HashMap::new() })
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
        let identity = (target.id.clone(), epoch);
        let task = self.runtime.spawn(run(identity, schedule, self.origin, given, self.reports.clone()));
        Running { epoch, orders, task }
    }
}

/// When to wake for what is due then.
fn wake(due: Instant, interval: Duration, origin: Instant) -> Instant {
    let step = TOGETHER.min(interval / TOGETHER_PART).as_nanos().max(1);
    let past = due.saturating_duration_since(origin).as_nanos() % step;
    let wait = if past == 0 { 0 } else { step - past };
    due + Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
}

async fn run(
    (id, epoch): (BackendId, Epoch),
    mut schedule: Schedule,
    origin: Instant,
    mut orders: watch::Receiver<Orders>,
    reports: mpsc::Sender<Report>,
) {
    loop {
        let due = wake(schedule.due(), orders.borrow().interval, origin);
        tokio::select! {
            () = sleep_until(due.into()) => {}
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
