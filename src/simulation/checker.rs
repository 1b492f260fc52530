//! The servers as they really are, and a monitor that checks them on the real schedule, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use config::BackendId;
use health::{CheckStatus, Clock, Epoch, Schedule, Target};

use super::random::Random;

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Answers,
    Refuses,
    /// Accepts nothing and says nothing.
    Hangs,
    /// Now in time, now too late.
    Late,
}

struct Running {
    epoch: Epoch,
    schedule: Schedule,
    timeout: Duration,
    is_attempting: bool,
}

/// Runs the checks of all targets, as `health::Monitor` does.
#[derive(Default)]
pub struct Checker {
    running: BTreeMap<BackendId, Running>,
    pub servers: BTreeMap<BackendId, Server>,
    /// Since when nothing has happened to a server or its target.
    steady_since: BTreeMap<BackendId, Instant>,
    /// How often a server has changed.
    pub changes: u64,
    /// Until when no attempt is made.
    pub hangs_until: Option<Instant>,
    /// Until when no attempt can be made: no descriptor is left.
    pub exhausted_until: Option<Instant>,
}

/// An attempt of the target with this epoch ends so after that time.
pub type Attempt = (Duration, CheckStatus);

impl Checker {
    /// Makes exactly these run; answers which are due when.
    pub fn apply(
        &mut self,
        targets: &[(Target, Epoch)],
        seed: u64,
        now: Instant,
    ) -> Vec<(BackendId, Epoch, Instant)> {
        let mut previous = std::mem::take(&mut self.running);
        let mut due = Vec::new();
        for (target, epoch) in targets {
            let running = match previous.remove(&target.id).filter(|running| running.epoch == *epoch) {
                Some(same) => same,
                None => {
                    self.steady_since.insert(target.id.clone(), now);
                    let clock = Clock { now, wall: Duration::from_millis(seed) };
                    let schedule = Schedule::new(seed, &target.id, target.check.interval, clock);
                    due.push((target.id.clone(), *epoch, schedule.due()));
                    Running { epoch: *epoch, schedule, timeout: target.check.timeout, is_attempting: false }
                }
            };
            self.servers.entry(target.id.clone()).or_insert(Server::Answers);
            self.running.insert(target.id.clone(), running);
        }
        due
    }

    /// Checks this one from now on so often; answers when it is due.
    pub fn set_interval(
        &mut self,
        id: &BackendId,
        interval: Duration,
        now: Instant,
    ) -> Option<(Epoch, Instant)> {
        let running = self.running.get_mut(id)?;
        running.schedule.set_interval(interval, now);
        (!running.is_attempting).then(|| (running.epoch, running.schedule.due()))
    }

    pub fn epoch(&self, id: &BackendId) -> Option<Epoch> {
        self.running.get(id).map(|running| running.epoch)
    }

    /// An attempt, if one is due; or when to ask again, if the checker hangs.
    pub fn attempt(
        &mut self,
        id: &BackendId,
        epoch: Epoch,
        random: &mut Random,
        now: Instant,
    ) -> Result<Attempt, Option<Instant>> {
        let Some(running) = self.running.get_mut(id).filter(|r| r.epoch == epoch) else { return Err(None) };
        if running.is_attempting || running.schedule.due() > now {
            return Err(None);
        }
        if let Some(until) = self.hangs_until.filter(|until| *until > now) {
            return Err(Some(until));
        }
        running.is_attempting = true;
        if self.exhausted_until.is_some_and(|until| until > now) {
            return Ok((Duration::ZERO, CheckStatus::NotMade));
        }
        let timeout = running.timeout;
        let soon = Duration::from_micros(100) + random.millis(5);
        Ok(match self.servers.get(id).copied().unwrap_or(Server::Answers) {
            Server::Answers => (soon, CheckStatus::Connected),
            Server::Refuses => (soon, CheckStatus::ConnectFailed),
            Server::Hangs => (timeout, CheckStatus::ConnectTimedOut),
            Server::Late if random.percent(50) => (timeout, CheckStatus::ConnectTimedOut),
            Server::Late => (random.millis(timeout.as_millis() as u64), CheckStatus::Connected),
        })
    }

    /// An attempt is over; answers when the next is due. `None`: nobody waits for it any more.
    pub fn finished(&mut self, id: &BackendId, epoch: Epoch, now: Instant) -> Option<Instant> {
        let running = self.running.get_mut(id).filter(|r| r.epoch == epoch)?;
        running.is_attempting = false;
        running.schedule.finished(now);
        Some(running.schedule.due())
    }

    /// The servers stay as they are.
    pub fn process_died(&mut self) {
        *self = Checker { servers: std::mem::take(&mut self.servers), ..Checker::default() };
    }

    pub fn set_server(&mut self, id: &BackendId, server: Server, now: Instant) {
        self.changes += 1;
        self.servers.insert(id.clone(), server);
        self.steady_since.insert(id.clone(), now);
    }

    /// Since when a server has been as it is, with checks being made.
    pub fn steady_since(&self, id: &BackendId) -> Option<Instant> {
        let since = self.steady_since.get(id).copied()?;
        [Some(since), self.hangs_until, self.exhausted_until].into_iter().flatten().max()
    }
}
