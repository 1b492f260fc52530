//! One backend as the rules of rise and fall have it: what the health book is compared with.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use health::Target;

/// Beyond two intervals and a timeout.
const STALE_SLACK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Shadow {
    pub target: Target,
    up: Option<bool>,
    /// Equal results in a row: passed or failed, and how many.
    streak: Option<(bool, u32)>,
    fresh_until: Instant,
    /// Failed connections of live traffic.
    failures: VecDeque<Instant>,
}

impl Shadow {
    pub fn new(target: &Target, now: Instant) -> Self {
        let mut shadow = Shadow {
            target: target.clone(),
            up: None,
            streak: None,
            fresh_until: now,
            failures: VecDeque::new(),
        };
        shadow.refresh(now);
        shadow
    }

    /// Changing how a backend is checked, or nothing about it, never changes its health.
    pub fn reloaded(mut self, target: &Target, now: Instant) -> Self {
        if self.target != *target {
            self.target = target.clone();
            self.streak = None;
            self.failures.clear();
            self.refresh(now);
        }
        self
    }

    pub fn observe(&mut self, passed: bool, at: Instant) {
        let run = match self.streak {
            Some((same, run)) if same == passed => run + 1,
            Some(_) | None => 1,
        };
        self.streak = Some((passed, run));
        let needed = if passed { self.target.check.rise } else { self.target.check.fall };
        let changes = self.up.is_none() || (self.up != Some(passed) && run >= u32::from(needed));
        if changes {
            self.up = Some(passed);
            self.failures.clear();
        }
        self.refresh(at);
    }

    pub fn connect_failed(&mut self, now: Instant) {
        if self.up != Some(true) {
            return;
        }
        let passive = self.target.passive;
        self.failures.retain(|at| now - *at <= passive.window);
        self.failures.push_back(now);
        if self.failures.len() >= passive.failures as usize {
            (self.up, self.streak) = (Some(false), None);
            self.failures.clear();
            self.refresh(now);
        }
    }

    pub fn is_up(&self) -> bool {
        self.up == Some(true)
    }

    pub fn is_known(&self) -> bool {
        self.up.is_some()
    }

    pub fn is_stale(&self, now: Instant) -> bool {
        now >= self.fresh_until
    }

    pub fn fresh_until(&self) -> Instant {
        self.fresh_until
    }

    fn refresh(&mut self, at: Instant) {
        let check = &self.target.check;
        let interval = match (self.up, self.streak) {
            (Some(true), Some((false, _))) | (Some(false), Some((true, _)) | None) => check.fast_interval,
            (Some(false), Some((false, _))) => check.down_interval,
            (Some(true), Some((true, _)) | None) | (None, _) => None,
        };
        self.fresh_until = at + interval.unwrap_or(check.interval) * 2 + check.timeout + STALE_SLACK;
    }
}
