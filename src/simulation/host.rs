//! The host as the life cycles see it: addresses that come and go, listeners, and hands that work as `vip::host` does,
//! each with delays of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::random::Random;
use crate::steer::Entered;
use crate::vip::life_cycle::{Input, Phase};

// As in `vip::host`.
const HOLD_CAP: Duration = Duration::from_millis(500);
const FELLOWS_GRACE: Duration = Duration::from_millis(200);
const FELLOWS_PATIENCE: Duration = Duration::from_millis(300);
const ROUTER_GRACE: Duration = Duration::from_millis(300);
const SHIFTED: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_secs(1);
const QUIET_CAP: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
pub const RETRY: Duration = Duration::from_secs(1);

/// What a phase asks for, under way.
#[derive(Debug, Clone)]
pub struct Job {
    pub entered: Entered,
    /// Of the routes as of this phase.
    pub version: u64,
    pub stage: Stage,
}

#[derive(Debug, Clone, Copy)]
pub enum Stage {
    Place,
    Open,
    HoldDoor,
    DoorHeld,
    FellowsTold,
    /// Until the peers have the routes.
    AwaitPeers {
        until: Instant,
    },
    Watch {
        quiet: Duration,
        cap: Instant,
        from: Instant,
    },
    Close,
    AwaitConnections {
        end: Instant,
    },
    AwaitRelease,
}

/// What comes of a step: an answer to the life cycle, and how the job goes on.
#[derive(Debug, Default)]
pub struct Step {
    pub answer: Option<Input>,
    pub next: Option<(Duration, Stage)>,
}

/// What a job can see of the world.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    pub now: Instant,
    /// Every peer has the routes that the job is about.
    pub settled: bool,
    /// When somebody last came.
    pub last_arrival: Option<Instant>,
}

/// Named as in `vip::host`.
#[derive(Debug, Default)]
pub struct Host {
    /// On the host, whoever put them there.
    pub addresses: BTreeSet<IpAddr>,
    /// Put there by us.
    ours: BTreeSet<IpAddr>,
    pub listening: BTreeSet<IpAddr>,
    vips: BTreeSet<IpAddr>,
    closed: BTreeSet<IpAddr>,
    pub present: BTreeSet<IpAddr>,
    down: BTreeSet<IpAddr>,
    pub stopping: bool,
    pub hold_addresses: bool,
    /// Until when neither an address nor a listener can be had.
    pub trouble_until: Option<Instant>,
    /// Life cycles whose peers did not get the withdrawal in time: what follows is nobody's fault.
    pub capped: BTreeSet<IpAddr>,
    /// Life cycles whose traffic was found to have ended.
    traffic_ended: BTreeSet<IpAddr>,
    /// Which turn each life cycle is at.
    turns: BTreeMap<IpAddr, u64>,
    /// Jobs of one VIP begin in order.
    begun: BTreeMap<IpAddr, Instant>,
}

impl Host {
    /// A configuration is installed: addresses are placed and listeners open, unless their life cycle is on its way out.
    pub fn install(&mut self, vips: BTreeSet<IpAddr>) {
        for vip in vips.iter().filter(|vip| !self.down.contains(*vip)).copied().collect::<Vec<_>>() {
            self.place(vip);
        }
        self.listening.extend(vips.iter().filter(|vip| !self.closed.contains(*vip)));
        self.vips = vips;
        self.forget_gone();
    }

    /// The process has died; addresses stay.
    pub fn process_died(&mut self) {
        *self = Host {
            addresses: std::mem::take(&mut self.addresses),
            trouble_until: self.trouble_until,
            ..Host::default()
        };
    }

    /// As at the end of a planned stop.
    pub fn remove_all(&mut self) {
        for address in std::mem::take(&mut self.ours) {
            self.addresses.remove(&address);
        }
    }

    /// Addresses that are gone and that nobody has told a life cycle about.
    pub fn missed(&mut self) -> Vec<IpAddr> {
        let missed: Vec<IpAddr> = self.present.difference(&self.addresses).copied().collect();
        for address in &missed {
            self.present.remove(address);
            self.ours.remove(address);
        }
        missed
    }

    /// What a phase asks for, and after how long it begins.
    pub fn begin(
        &mut self,
        entered: Entered,
        version: u64,
        random: &mut Random,
        now: Instant,
    ) -> Option<(Duration, Job)> {
        let Entered { address, phase, left, deadline, turn } = entered;
        self.turns.insert(address, turn);
        // Invariants 2 and 3.
        let has_ended = self.traffic_ended.remove(&address);
        assert!(phase != Phase::Quiet || has_ended, "{address} is closed before its traffic has ended");
        let is_open = self.listening.contains(&address);
        assert!(phase != Phase::Closed || !is_open, "{address} is taken away under its listeners");
        // On its way back in, what the peers were not seen to take away may still be on its way to them.
        if matches!(phase, Phase::Announced | Phase::Degraded | Phase::LastResort | Phase::Holding) {
            self.capped.remove(&address);
        }
        let stage = match phase {
            Phase::Init => Stage::Place,
            Phase::AddressUp => Stage::Open,
            Phase::Arriving => Stage::AwaitPeers { until: now + FELLOWS_PATIENCE },
            Phase::Holding => Stage::HoldDoor,
            Phase::Draining | Phase::Withdrawn => Stage::AwaitPeers { until: deadline },
            Phase::Quiet => Stage::Close,
            Phase::Closed => Stage::AwaitRelease,
            Phase::Listening if matches!(left, Phase::Announced | Phase::Degraded | Phase::LastResort) => {
                Stage::AwaitPeers { until: now + PATIENCE }
            }
            Phase::Listening
            | Phase::Announced
            | Phase::Degraded
            | Phase::LastResort
            | Phase::AddressDown => return None,
        };
        let begun = self.begun.entry(address).or_insert(now);
        *begun = (*begun).max(now + random.millis(5));
        Some((*begun - now, Job { entered, version, stage }))
    }

    pub fn step(&mut self, job: &Job, sight: Sight, random: &mut Random) -> Step {
        let Entered { address, phase, deadline, .. } = job.entered;
        let now = sight.now;
        let left = deadline.saturating_duration_since(now);
        let wait = |delay, stage| Step { answer: None, next: Some((delay, stage)) };
        let done = |input| Step { answer: Some(input), next: None };
        let is_turn = self.turns.get(&address) == Some(&job.entered.turn);
        match job.stage {
            Stage::Place | Stage::Open | Stage::Close if !is_turn => Step::default(),
            Stage::Place if self.stopping || !self.vips.contains(&address) => Step::default(),
            Stage::Place => {
                self.down.remove(&address);
                if !self.is_in_trouble(now) {
                    self.place(address);
                }
                if self.addresses.contains(&address) {
                    self.present.insert(address);
                    return done(Input::AddressReady);
                }
                self.ours.remove(&address);
                wait(RETRY, Stage::Place)
            }
            Stage::Open if self.closed.contains(&address) && self.is_in_trouble(now) => {
                wait(RETRY, Stage::Open)
            }
            Stage::Open => {
                if self.closed.remove(&address) {
                    self.listening.insert(address);
                }
                done(Input::ListenersReady)
            }
            Stage::HoldDoor => {
                let held = HOLD_CAP.min(left / 4).min(Duration::from_millis(100) + random.millis(400));
                wait(held, Stage::DoorHeld)
            }
            Stage::DoorHeld => done(Input::DoorHeld),
            Stage::FellowsTold => done(Input::FellowsTold),
            Stage::AwaitPeers { until } if !sight.settled && now < until => {
                wait(POLL.min(until - now), job.stage)
            }
            Stage::AwaitPeers { .. } if phase == Phase::Arriving => wait(FELLOWS_GRACE, Stage::FellowsTold),
            Stage::AwaitPeers { until } => {
                if !sight.settled {
                    self.capped.insert(address);
                }
                let quiet = if phase == Phase::Draining { SHIFTED } else { QUIET };
                let grace =
                    if phase == Phase::Listening { Duration::ZERO } else { ROUTER_GRACE.min(left / 4) };
                let cap = now + grace + QUIET_CAP.min(until.saturating_duration_since(now) / 2);
                let answer = (phase == Phase::Withdrawn).then_some(Input::WithdrawAcked);
                Step { answer, next: Some((grace, Stage::Watch { quiet, cap, from: now + grace })) }
            }
            Stage::Watch { quiet, cap, from } => {
                let last = sight.last_arrival.map_or(from, |at| at.max(from));
                if now < last + quiet && now < cap {
                    return wait(POLL, job.stage);
                }
                if phase == Phase::Draining {
                    return done(Input::TrafficShifted);
                }
                if is_turn {
                    self.traffic_ended.insert(address);
                }
                done(Input::TrafficEnded)
            }
            Stage::Close => {
                self.closed.insert(address);
                self.listening.remove(&address);
                let end = now + random.millis(2 * u64::try_from(left.as_millis()).unwrap_or(0));
                wait(Duration::ZERO, Stage::AwaitConnections { end })
            }
            Stage::AwaitConnections { .. } if !self.closed.contains(&address) => Step::default(),
            Stage::AwaitConnections { end } if now < end.min(deadline) => wait(POLL, job.stage),
            Stage::AwaitConnections { .. } => done(Input::ConnectionsClosed),
            Stage::AwaitRelease if self.hold_addresses => wait(POLL, Stage::AwaitRelease),
            Stage::AwaitRelease => {
                self.present.remove(&address);
                if self.ours.remove(&address) {
                    self.addresses.remove(&address);
                }
                self.down.insert(address);
                self.forget_gone();
                done(Input::AddressGone)
            }
        }
    }

    fn is_in_trouble(&self, now: Instant) -> bool {
        self.trouble_until.is_some_and(|until| now < until)
    }

    fn place(&mut self, address: IpAddr) {
        if !self.ours.contains(&address) && self.addresses.insert(address) {
            self.ours.insert(address);
        }
    }

    fn forget_gone(&mut self) {
        let vips = &self.vips;
        let gone: Vec<IpAddr> = self.down.iter().copied().filter(|vip| !vips.contains(vip)).collect();
        for vip in gone {
            self.down.remove(&vip);
            self.closed.remove(&vip);
        }
    }
}
