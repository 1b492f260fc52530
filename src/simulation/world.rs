//! The process and what is around it, one happening at a time: the steering core and its drivers as they are wired in
//! `steer::task`, `vip::host` and `shutdown`, two peers, servers, and a queue of what happens when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{BackendId, Config, Name};
use health::{CheckStatus, Epoch, Outcome, Report};

use super::checker::Checker;
use super::host::{Host, Job, RETRY, Sight};
use super::oracle::{Oracle, PLANE_WATCH};
use super::plan::Plan;
use super::random::Random;
use super::routers::{PROPAGATION, Peer};
use crate::steer::others::Session;
use crate::steer::{Duty, STALL_BOUND, Steer};
use crate::vip::life_cycle::{Input, Phase};

/// Beyond its deadline a planned stop waits for the life cycles.
const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);
const TRACE: usize = 200;

pub enum Happening {
    Due(BackendId, Epoch),
    Attempted(BackendId, Epoch, CheckStatus),
    Job(Job),
    Answer {
        address: IpAddr,
        turn: Option<u64>,
        input: Input,
    },
    WatchAddresses,
    WatchPlane,
    /// The stop goes on.
    Stop {
        deadline: Instant,
    },
    SessionsClosed,
    Exit,
    /// The process begins.
    Start,
    /// An operator drains or undrains, and then so often again.
    Dither(u64),
    Trouble,
}

pub struct World {
    pub now: Instant,
    pub random: Random,
    seed: u64,
    pub plan: Plan,
    pub config: Arc<Config>,
    pub steer: Steer,
    pub peers: Vec<Peer>,
    pub checker: Checker,
    pub host: Host,
    /// The data plane's threads stand still since and until then.
    pub stall: Option<(Instant, Instant)>,
    pub duty: Duty,
    pub is_running: bool,
    /// No other host has these VIPs: the traffic never moves.
    pub is_alone: bool,
    pub oracle: Oracle,
    /// When a VIP last attracted somebody.
    pub arrivals: BTreeMap<IpAddr, Instant>,
    /// When the newest answer about a VIP arrives.
    answers: BTreeMap<IpAddr, Instant>,
    /// Addresses that somebody took off, and when.
    pub stolen: BTreeMap<IpAddr, Instant>,
    queue: BTreeMap<(Instant, u64), (u64, Happening)>,
    planned: u64,
    /// Which process: what an earlier one was about to do is never done.
    life: u64,
    pub suffers: bool,
    pub trace: Vec<String>,
    start: Instant,
}

impl World {
    pub fn new(seed: u64) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; time is virtual")]
        let now = Instant::now();
        let mut random = Random(seed);
        let (plan, config) = std::iter::repeat_with(|| Plan::random(&mut random))
            .find_map(|plan| plan.config().map(|config| (plan, config)))
            .expect("most plans are valid");
        let peers = ["tor-a", "tor-b"].map(|name| {
            let name = Name::new(name).expect("a name");
            Peer::new(name, random.next(), now)
        });
        let mut world = World {
            now,
            seed,
            is_alone: random.percent(30),
            random,
            plan,
            config,
            steer: Steer::new(now),
            peers: peers.into(),
            checker: Checker::default(),
            host: Host::default(),
            stall: None,
            duty: Duty::Serving,
            is_running: false,
            oracle: Oracle::default(),
            arrivals: BTreeMap::new(),
            answers: BTreeMap::new(),
            stolen: BTreeMap::new(),
            queue: BTreeMap::new(),
            planned: 0,
            life: 0,
            suffers: false,
            trace: Vec::new(),
            start: now,
        };
        world.plan_after(Duration::ZERO, Happening::Start);
        world
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() == 2 * TRACE {
            self.trace.drain(..TRACE);
        }
        let at = (self.now - self.start).as_secs_f64();
        self.trace.push(format!("{at:9.3} {}", text()));
    }

    pub fn plan_after(&mut self, delay: Duration, happening: Happening) {
        self.plan_at(self.now + delay, happening);
    }

    fn plan_at(&mut self, at: Instant, happening: Happening) {
        self.planned += 1;
        self.queue.insert((at.max(self.now), self.planned), (self.life, happening));
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut at_once = 0;
        loop {
            let links = self.peers.iter().filter_map(|peer| peer.link.poll_timeout()).min();
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let steer = self.steer.poll_timeout();
            let Some(next) = [links, queued, steer].into_iter().flatten().min().filter(|at| *at <= end)
            else {
                break;
            };
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 10_000, "time stands still");
            self.now = self.now.max(next);
            let is_peers = links.is_some_and(|at| at <= self.now);
            if is_peers {
                self.serve_peers();
            } else if steer.is_some_and(|at| at <= self.now) {
                self.steer.handle_timeout(self.now);
            } else if let Some((_, (life, happening))) = self.queue.pop_first()
                && (life == self.life || matches!(happening, Happening::Trouble | Happening::Start))
            {
                self.happen(happening);
            }
            self.carry_out(is_peers);
        }
        self.now = end;
    }

    fn serve_peers(&mut self) {
        for peer in &mut self.peers {
            if peer.link.poll_timeout().is_some_and(|at| at <= self.now) {
                peer.link.handle_timeout(self.now);
            }
            for event in peer.link.take_events() {
                peer.heard(&event, self.now);
                self.steer.peer_event(&event, self.now);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Due(id, epoch) => match self.checker.attempt(&id, epoch, &mut self.random, now) {
                Ok((took, status)) => self.plan_after(took, Happening::Attempted(id, epoch, status)),
                Err(Some(later)) => self.plan_at(later, Happening::Due(id, epoch)),
                Err(None) => {}
            },
            Happening::Attempted(id, epoch, status) => self.attempted(id, epoch, status),
            Happening::Job(job) => self.work(job),
            Happening::Answer { address, turn, input } => {
                self.note(|| format!("{address}: {input:?}"));
                self.steer.vip(address, turn, input, "simulated", now);
            }
            Happening::WatchAddresses => {
                for address in self.host.missed() {
                    self.answer(Duration::ZERO, address, None, Input::AddressGone);
                }
                self.plan_after(RETRY, Happening::WatchAddresses);
            }
            Happening::WatchPlane => {
                self.stall = self.stall.filter(|(_, until)| *until > now);
                let ago = self.stall.map_or(Duration::ZERO, |(since, _)| now - since);
                self.oracle.plane_stalled = ago > STALL_BOUND;
                self.steer.plane_turned(ago, now);
                let sessions = self.sessions();
                self.steer.others(&sessions, now);
                self.plan_after(PLANE_WATCH, Happening::WatchPlane);
            }
            Happening::Stop { deadline } => self.go_on_stopping(deadline),
            Happening::SessionsClosed => {
                self.host.hold_addresses = false;
                self.plan_after(GRACE, Happening::Exit);
            }
            Happening::Exit => {
                self.host.remove_all();
                self.die(Duration::from_millis(300));
            }
            Happening::Start => self.start(),
            Happening::Dither(more) => self.dither(more),
            Happening::Trouble => self.suffer(),
        }
    }

    /// Who has a session, and what a fellow among them shows: it comes and goes, or says so at least.
    fn sessions(&mut self) -> Vec<Session> {
        let mut sessions = Vec::new();
        for peer in &self.peers {
            let Some(since) = peer.up_since.filter(|_| peer.link.is_established()) else { continue };
            let mut shown = |percent| {
                let vips = self.config.vips.iter().map(|vip| vip.address);
                vips.filter(|_| self.suffers && self.random.percent(percent)).collect::<BTreeSet<_>>()
            };
            // A router that shows one would make this host believe that it is the last when it shows none any more.
            let is_fellow =
                self.config.bgp.iter().flat_map(|bgp| &bgp.peers).any(|p| p.fellow && p.name == peer.name);
            let coming = if is_fellow { shown(20) } else { BTreeSet::new() };
            sessions.push(Session { peer: peer.name.clone(), since, vips: coming.clone(), coming });
        }
        sessions
    }

    fn start(&mut self) {
        if self.is_running {
            return;
        }
        self.note(|| "the process starts".into());
        self.is_running = true;
        self.duty = Duty::Serving;
        self.plan_after(Duration::ZERO, Happening::WatchAddresses);
        self.plan_after(Duration::ZERO, Happening::WatchPlane);
        self.configure();
    }

    /// Puts `self.config` to work.
    pub fn configure(&mut self) {
        let (config, now) = (Arc::clone(&self.config), self.now);
        self.host.install(config.vips.iter().map(|vip| vip.address).collect());
        let checks = self.steer.configure(Arc::clone(&config), "simulated", now);
        let targets: Vec<_> = checks.iter().map(|(target, _)| target.clone()).collect();
        self.oracle.configured(&config, &targets, now);
        for (id, epoch, due) in self.checker.apply(&checks, self.seed, now) {
            self.plan_at(due, Happening::Due(id, epoch));
        }
    }

    fn attempted(&mut self, id: BackendId, epoch: Epoch, status: CheckStatus) {
        let now = self.now;
        let report = Report {
            id: id.clone(),
            epoch,
            outcome: Outcome::new(status, "simulated", Duration::ZERO),
            at: now,
        };
        if self.checker.epoch(&id) == Some(epoch) {
            self.oracle.reported(&report);
        }
        // Where nobody waits for it any more, it may be on its way all the same.
        self.steer.report(&report, now);
        if let Some(due) = self.checker.finished(&id, epoch, now) {
            self.plan_at(due, Happening::Due(id, epoch));
        }
    }

    fn work(&mut self, mut job: Job) {
        let address = job.entered.address;
        let last_arrival = self.arrivals.get(&address).copied();
        let settled = self.peers.iter().all(|peer| peer.link.is_settled(job.version));
        let step = self.host.step(&job, Sight { now: self.now, settled, last_arrival }, &mut self.random);
        if let Some(input) = step.answer {
            let most = if self.random.percent(5) { 500 } else { 10 };
            let delay = self.random.millis(most);
            self.answer(delay, address, Some(job.entered.turn), input);
        }
        if let Some((delay, stage)) = step.next {
            job.stage = stage;
            self.plan_after(delay, Happening::Job(job));
        }
    }

    /// The host says something. On a channel: nothing overtakes what was said before.
    fn answer(&mut self, delay: Duration, address: IpAddr, turn: Option<u64>, input: Input) {
        let last = self.answers.entry(address).or_insert(self.now);
        *last = (*last).max(self.now + delay);
        let at = *last;
        self.plan_at(at, Happening::Answer { address, turn, input });
    }

    pub fn drain(&mut self, duty: Duty) {
        let deadline = self.now + self.config.global.drain_timeout;
        if duty == Duty::Stopping {
            self.host.hold_addresses = true;
            self.host.stopping = true;
            self.plan_after(POLL, Happening::Stop { deadline });
        }
        self.duty = duty;
        self.steer.drain(duty, "simulated", deadline, self.now);
    }

    fn go_on_stopping(&mut self, deadline: Instant) {
        let over = self.oracle.phases().all(|phase| matches!(phase, Phase::Closed | Phase::AddressDown));
        if !over && self.now < deadline + GRACE {
            return self.plan_after(POLL, Happening::Stop { deadline });
        }
        let listening = std::mem::take(&mut self.host.listening);
        if !over {
            self.host.capped.extend(listening);
        }
        self.peers.iter_mut().for_each(|peer| peer.link.shut_down());
        self.trouble_with_all(PROPAGATION);
        self.plan_after(PROPAGATION, Happening::SessionsClosed);
    }

    /// The process is gone, and another begins after that.
    pub fn die(&mut self, pause: Duration) {
        let (now, again) = (self.now, self.now + pause);
        self.note(|| "the process is gone".into());
        self.life += 1;
        self.is_running = false;
        self.steer = Steer::new(now);
        self.checker.process_died();
        self.host.process_died();
        self.stall = None;
        self.oracle = Oracle::default();
        for peer in &mut self.peers {
            peer.link.handle_timeout(now);
            peer.link.crash(again);
            peer.forget();
        }
        self.trouble_with_all(pause + PROPAGATION);
        self.plan_at(again, Happening::Start);
    }

    fn trouble_with_all(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.peers.iter_mut().for_each(|peer| peer.trouble_until = peer.trouble_until.max(until));
    }

    /// As `steer::task` does: traffic first, routes next, the host after them; then everything is judged.
    pub fn carry_out(&mut self, is_peers: bool) {
        let (effects, now) = (self.steer.take_effects(), self.now);
        for (id, interval) in &effects.intervals {
            if let Some((epoch, due)) = self.checker.set_interval(id, *interval, now) {
                self.plan_at(due, Happening::Due(id.clone(), epoch));
            }
        }
        // Invariant 6.
        assert!(
            !is_peers
                || (effects.standing.is_empty() && effects.desired.is_none() && effects.entered.is_empty()),
            "what a peer does changes what is wanted: {effects:?}"
        );
        if let Some(routes) = &effects.desired {
            let levels: Vec<_> =
                routes.routes.iter().map(|(net, route)| format!("{net} {:?}", route.preference)).collect();
            self.note(|| format!("wanted: {}", levels.join(", ")));
            self.peers.iter_mut().for_each(|peer| peer.link.set_desired(Arc::clone(routes), now));
        }
        let version =
            effects.desired.as_ref().or(self.oracle.routes.as_ref()).map_or(0, |routes| routes.version);
        for entered in &effects.entered {
            self.note(|| format!("{}: {:?} → {:?}", entered.address, entered.left, entered.phase));
            if let Some((delay, job)) = self.host.begin(*entered, version, &mut self.random, now) {
                self.plan_after(delay, Happening::Job(job));
            }
            if self.suffers && self.random.percent(4) {
                let soon = self.random.millis(2);
                self.plan_after(soon, Happening::Trouble);
            }
        }
        self.oracle.judge(&effects, self.duty, now);
        if self.is_running {
            self.oracle.knows_reality(&self.checker, now);
        }
        self.judge_peers();
    }
}
