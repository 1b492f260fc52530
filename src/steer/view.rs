//! A copy of what the steering core knows, for those who only look.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::{BackendId, Name};
use health::{Agent, Outcome, Verdict};

use super::{Duty, Steer};
use crate::vip::life_cycle::Desire;

/// Ages are relative to the moment the copy was made.
#[derive(Debug, Clone)]
pub struct SteerView {
    pub duty: Duty,
    /// Of the routes that are to be announced now.
    pub routes_version: u64,
    pub vips: BTreeMap<IpAddr, VipStanding>,
    pub healthy: BTreeMap<Name, u32>,
    pub backends: BTreeMap<BackendId, BackendStanding>,
}

#[derive(Debug, Clone)]
pub struct VipStanding {
    pub phase: &'static str,
    pub desire: Desire,
    pub age: Duration,
    pub announce_in: Option<Duration>,
    /// How long the way up takes, where that is longer than `announce_delay` because it came and went.
    pub held_back: Option<Duration>,
    pub reason: String,
}

#[derive(Debug, Clone)]
pub struct BackendStanding {
    pub health: &'static str,
    pub age: Duration,
    pub last: Option<(Outcome, Duration)>,
    pub checks_passed: u64,
    pub checks_failed: u64,
    pub agent: Agent,
}

impl BackendStanding {
    pub fn last_passed(&self) -> bool {
        self.last.as_ref().is_some_and(|(outcome, _)| outcome.verdict() == Verdict::Passed)
    }
}

impl Steer {
    pub fn view(&self, now: Instant) -> SteerView {
        let age = |since: Instant| now.saturating_duration_since(since);
        let vips = self.vips.iter().map(|(address, vip)| {
            let standing = VipStanding {
                phase: vip.life_cycle().phase().as_str(),
                desire: vip.desire(),
                age: age(vip.since()),
                held_back: vip.life_cycle().held_back(),
                announce_in: vip.life_cycle().waiting_until().map(|at| at.saturating_duration_since(now)),
                reason: vip.reason(now),
            };
            (*address, standing)
        });
        let backends = self.book.iter().map(|entry| {
            let standing = BackendStanding {
                health: entry.health().as_str(),
                age: age(entry.since),
                last: entry.last.as_ref().map(|(outcome, at)| (outcome.clone(), age(*at))),
                checks_passed: entry.checks_passed,
                checks_failed: entry.checks_failed,
                agent: entry.agent,
            };
            (entry.target.id.clone(), standing)
        });
        SteerView {
            duty: self.duty,
            routes_version: self.routes.version,
            vips: vips.collect(),
            healthy: self.tallies.iter().map(|(name, tally)| (name.clone(), tally.healthy)).collect(),
            backends: backends.collect(),
        }
    }
}
