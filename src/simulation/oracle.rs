//! What must be true of the steering core after every step, by the [`rules`](super::rules).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_speaker::{Preference, RouteSet};
use config::{BackendId, Config, Vip};
use health::{Report, Target, Verdict};
use lb_core::Eligible;

use super::checker::{Checker, Server};
use super::rules::{ARRIVAL, Fitness, STARTING, fitness, is_leaving, is_serving, may_follow};
use super::shadow::Shadow;
use crate::events::{Event, EventId, EventKind};
use crate::steer::{Door, Duty, Effects};
use crate::vip::life_cycle::{Desire, Phase};

/// Beyond its deadline a drain takes no longer than the host's answers do.
const DRAIN_SLACK: Duration = Duration::from_secs(4);
/// The longest that newcomers wait for a fellow host, and the time until they may wait again.
const DOOR_HELD: Duration = Duration::from_millis(900);
const DOOR_AGAIN: Duration = Duration::from_secs(5);
/// How often the data plane's threads are looked at.
pub const PLANE_WATCH: Duration = Duration::from_millis(500);
const LEVELS: [Desire; 3] = [Desire::LastResort, Desire::Degraded, Desire::Normal];

/// One VIP's history.
#[derive(Debug)]
struct Tracker {
    phase: Phase,
    desire: Desire,
    /// Phase and route before this step.
    was: (Phase, Desire),
    /// Per level: since when at the latest it has been fit for it, without a break: what may be announced.
    may: [Option<Instant>; LEVELS.len()],
    /// The same, at the earliest: what must be announced.
    must: [Option<Instant>; LEVELS.len()],
    /// How often its health lowered its route since it was released.
    lowered: u32,
    drain_deadline: Option<Instant>,
    /// When it began to arrive, and the `announce_delay` that was over then: a reload may have changed it since.
    arrival: Option<(Instant, Duration)>,
}

#[derive(Default)]
pub struct Oracle {
    /// When the process was first judged.
    began: Option<Instant>,
    pub config: Option<Arc<Config>>,
    pub backends: BTreeMap<BackendId, Shadow>,
    vips: BTreeMap<IpAddr, Tracker>,
    eligible: BTreeMap<BackendId, Eligible>,
    events: Vec<Event>,
    pub plane_stalled: bool,
    /// VIPs whose newcomers wait or have waited: since when, and whether they still do.
    doors: BTreeMap<IpAddr, (Instant, bool)>,
    pub routes: Option<Arc<RouteSet>>,
    /// Grows whenever something changes that is judged. Most steps change nothing of it, and what was found then still holds.
    changes: u64,
    /// At which of them eligibility was judged.
    eligibility_at: u64,
    fitness: Known<BTreeMap<IpAddr, Fitness>>,
    reality: Known<()>,
}

/// What was found out and still holds, unless something changes or this much time has passed.
#[derive(Default)]
struct Known<T> {
    found: T,
    changes: u64,
    until: Option<Instant>,
}

impl<T> Known<T> {
    fn holds(&self, changes: u64, now: Instant) -> bool {
        self.changes == changes && self.until.is_none_or(|until| now < until)
    }
}

impl Oracle {
    pub fn configured(&mut self, config: &Arc<Config>, targets: &[Target], now: Instant) {
        let mut before = std::mem::take(&mut self.backends);
        for target in targets {
            let shadow = match before.remove(&target.id) {
                Some(shadow) => shadow.reloaded(target, now),
                None => Shadow::new(target, now),
            };
            self.backends.insert(target.id.clone(), shadow);
        }
        self.eligible.clear();
        self.changes += 1;
        self.config = Some(Arc::clone(config));
    }

    pub fn reported(&mut self, report: &Report) {
        self.changes += 1;
        if let Some(shadow) = self.backends.get_mut(&report.id) {
            match report.outcome.verdict() {
                Verdict::NotMade => {}
                verdict => shadow.observe(verdict == Verdict::Passed, report.at),
            }
        }
    }

    pub fn connect_failed(&mut self, id: &BackendId, now: Instant) {
        self.changes += 1;
        if let Some(shadow) = self.backends.get_mut(id) {
            shadow.connect_failed(now);
        }
    }

    pub fn released(&mut self, vip: IpAddr) {
        if let Some(tracker) = self.vips.get_mut(&vip) {
            tracker.lowered = 0;
        }
    }

    pub fn phases(&self) -> impl Iterator<Item = Phase> {
        self.vips.values().map(|tracker| tracker.phase)
    }

    pub fn desire(&self, vip: IpAddr) -> Desire {
        self.vips.get(&vip).map_or(Desire::Withdrawn, |tracker| tracker.desire)
    }

    pub fn is_eligible(&self, id: &BackendId) -> bool {
        self.eligible.get(id) == Some(&Eligible::Yes)
    }

    /// Takes in what the steering core wants done, and checks all of it.
    pub fn judge(&mut self, effects: &Effects, duty: Duty, now: Instant) {
        self.journal(&effects.events, now);
        self.changes += u64::from(!effects.standing.is_empty());
        let told = effects.standing.iter().map(|(id, standing)| (id.clone(), standing.eligible));
        self.eligible.extend(told);
        if let Some(routes) = &effects.desired {
            let before = self.routes.replace(Arc::clone(routes));
            assert!(before.is_none_or(|before| before.version < routes.version), "versions grow");
        }
        for tracker in self.vips.values_mut() {
            tracker.was = (tracker.phase, tracker.desire);
        }
        self.follow_phases(effects);
        self.follow_doors(effects, now);
        let Some(config) = self.config.clone() else { return };
        if self.eligibility_at != self.changes {
            self.eligibility(&config, now);
            self.eligibility_at = self.changes;
        }
        self.find_fitness(&config, now);
        let routes = self.routes.clone();
        let plane_stalled = self.plane_stalled;
        let has_fellows = config.bgp.iter().flat_map(|bgp| &bgp.peers).any(|peer| peer.fellow);
        let starting = has_fellows && now <= *self.began.get_or_insert(now) + STARTING;
        for (address, tracker) in &mut self.vips {
            let route = routes.as_ref().map_or(Desire::Withdrawn, |routes| desired(routes, *address));
            // To the routers, one that arrives is not there yet.
            assert_eq!(route == Desire::Arriving, tracker.phase == Phase::Arriving, "{address}");
            tracker.desire = if route == Desire::Arriving { Desire::Withdrawn } else { route };
            let was = tracker.was;
            let Some(vip) = config.vips.iter().find(|vip| vip.address == *address) else {
                tracker.check_phase(was.1, *address);
                continue;
            };
            let known = self.fitness.found.get(address).copied();
            let fitness = if plane_stalled { Fitness::Stale } else { known.expect("of every VIP") };
            tracker.check_phase(was.1, *address);
            // Invariant 3: an undrain always finds the way back.
            let is_stuck = duty == Duty::Serving && is_leaving(tracker.phase);
            assert!(!is_stuck, "{address} is wanted, and on its way out: {:?}", tracker.phase);
            tracker.check_route(vip, fitness, was, starting, now);
            tracker.check_drain(*address, now);
        }
    }

    /// What only a change or a result that grows old can make another.
    fn find_fitness(&mut self, config: &Config, now: Instant) {
        if self.fitness.holds(self.changes, now) {
            return;
        }
        let of = |vip: &Vip| (vip.address, fitness(config, vip, &self.backends, now));
        let next = self.backends.values().map(Shadow::fresh_until).filter(|until| *until > now).min();
        self.fitness =
            Known { found: config.vips.iter().map(of).collect(), changes: self.changes, until: next };
    }

    /// Invariant 9: ids grow by one, causes are older, every change of a VIP leads back to something that began it.
    fn journal(&mut self, fresh: &[Event], now: Instant) {
        for event in fresh {
            assert_eq!(event.id.0, self.events.len() as u64 + 1, "the ids of events have no gap");
            assert!(event.cause < event.id && event.at <= now, "{event:?} is caused by what comes after it");
            self.events.push(event.clone());
            if event.kind == EventKind::VipChanged {
                let root = self.root(event.cause);
                assert!(
                    root.is_some_and(|root| root.kind.begins()),
                    "{} {} has no first cause, but {root:?}",
                    event.subject,
                    event.text
                );
            }
        }
    }

    fn root(&self, cause: EventId) -> Option<&Event> {
        let event = self.events.get(usize::try_from(cause.0.checked_sub(1)?).ok()?)?;
        if event.cause == EventId::NONE { Some(event) } else { self.root(event.cause) }
    }

    /// No fellow host keeps newcomers out for long, nor often.
    fn follow_doors(&mut self, effects: &Effects, now: Instant) {
        for (vip, door) in &effects.doors {
            let known = self.doors.get(vip).copied();
            match door {
                Door::Held => {
                    let again = known.is_none_or(|(since, _)| since + DOOR_AGAIN <= now);
                    assert!(again, "newcomers to {vip} are made to wait too often");
                    self.doors.insert(*vip, (now, true));
                }
                Door::Open => {
                    let (since, _) = known.expect("it was held");
                    self.doors.insert(*vip, (since, false));
                }
            }
        }
        for (vip, (since, waits)) in &mut self.doors {
            // On the way out the host opens it.
            *waits &= self.vips.get(vip).is_some_and(|tracker| is_serving(tracker.phase));
            assert!(!*waits || now <= *since + DOOR_HELD, "newcomers to {vip} wait for too long");
        }
    }

    /// Invariant 2: no edge that the life cycle does not have.
    fn follow_phases(&mut self, effects: &Effects) {
        for entered in &effects.entered {
            let known = self.vips.get(&entered.address).map(|tracker| tracker.phase);
            if entered.phase == entered.left {
                assert_eq!(entered.phase, Phase::Init, "only a new VIP enters a phase from itself");
                assert!(
                    known.is_none_or(|phase| phase == Phase::AddressDown),
                    "{} is added twice",
                    entered.address
                );
                self.vips.insert(entered.address, Tracker::new());
                continue;
            }
            assert_eq!(known, Some(entered.left), "{}", entered.address);
            assert!(may_follow(entered.left, entered.phase), "{:?} → {:?}", entered.left, entered.phase);
            let tracker = self.vips.get_mut(&entered.address).expect("it is known");
            tracker.phase = entered.phase;
            tracker.drain_deadline = is_leaving(entered.phase).then_some(entered.deadline);
        }
    }

    /// Invariants 5, 6 and 7: who may take connections is exactly who is up, as the rules of rise and fall have it.
    fn eligibility(&self, config: &Config, now: Instant) {
        for service in &config.services {
            for backend in &service.backends {
                let id = service.backend_id(backend);
                let expected = !backend.disabled && self.backends.get(&id).is_some_and(|b| b.is_up());
                assert_eq!(
                    self.is_eligible(&id),
                    expected,
                    "{id} takes traffic; {:?} at {now:?}",
                    self.backends.get(&id)
                );
            }
        }
    }

    /// Invariant 1, from the outside: who has been dead, or well, for long enough is known to be.
    pub fn knows_reality(&mut self, checker: &Checker, now: Instant) {
        let changes = self.changes + checker.changes;
        if self.reality.holds(changes, now) {
            return;
        }
        let mut next = None;
        for (id, shadow) in &self.backends {
            let (Some(server), Some(since)) = (checker.servers.get(id), checker.steady_since(id)) else {
                continue;
            };
            let check = &shadow.target.check;
            let (is_well, times) = match server {
                Server::Answers => (true, check.rise),
                Server::Refuses | Server::Hangs => (false, check.fall),
                Server::Late => continue,
            };
            let slowest = check.interval.max(check.down_interval.unwrap_or_default()).mul_f64(1.65);
            let known = since + (slowest + check.timeout) * u32::from(times + 1) + Duration::from_millis(300);
            if now <= known {
                let due = known + Duration::from_nanos(1);
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
                continue;
            }
            let ago = now - since;
            assert!(shadow.is_up() || !is_well, "{id} has been well for {ago:?} and is still down");
            assert!(!shadow.is_up() || is_well, "{id} has been dead for {ago:?} and is still up");
        }
        self.reality = Known { found: (), changes, until: next };
    }

    /// The best that a VIP's health allows now.
    pub fn deserves(&self, vip: &Vip, now: Instant) -> Desire {
        let Some(config) = &self.config else { return Desire::Withdrawn };
        let fitness =
            if self.plane_stalled { Fitness::Stale } else { fitness(config, vip, &self.backends, now) };
        fitness.allows(vip, self.desire(vip.address))
    }
}

impl Tracker {
    fn new() -> Self {
        Tracker {
            phase: Phase::Init,
            desire: Desire::Withdrawn,
            was: (Phase::Init, Desire::Withdrawn),
            may: [None; LEVELS.len()],
            must: [None; LEVELS.len()],
            lowered: 0,
            drain_deadline: None,
            arrival: None,
        }
    }

    /// The route is what the phase says: none without address and listeners (invariant 1).
    fn check_phase(&self, before: Desire, address: IpAddr) {
        let expected = match self.phase {
            Phase::Announced => Desire::Normal,
            Phase::Degraded => Desire::Degraded,
            Phase::LastResort => Desire::LastResort,
            Phase::Draining => Desire::Draining,
            Phase::Holding => {
                return assert!(self.desire > Desire::Withdrawn && before > Desire::Withdrawn, "{address}");
            }
            Phase::Init | Phase::AddressUp | Phase::Listening | Phase::Arriving => Desire::Withdrawn,
            Phase::Withdrawn => Desire::Withdrawn,
            Phase::Quiet | Phase::Closed | Phase::AddressDown => Desire::Withdrawn,
        };
        assert_eq!(self.desire, expected, "{address} in {:?}", self.phase);
    }

    /// Invariants 1, 4 and 7: worse at once, better when earned and then without fail.
    fn check_route(
        &mut self,
        vip: &Vip,
        fitness: Fitness,
        (was_in, was): (Phase, Desire),
        starting: bool,
        now: Instant,
    ) {
        let on_the_way_out = matches!(self.phase, Phase::Holding | Phase::Draining);
        let arrives = self.phase == Phase::Arriving;
        if !is_serving(self.phase) && !arrives && !on_the_way_out {
            (self.may, self.must) = ([None; LEVELS.len()], [None; LEVELS.len()]);
            return;
        }
        self.arrival = match (was_in, self.phase) {
            (Phase::Arriving, _) => self.arrival,
            (_, Phase::Arriving) => Some((now, vip.announce_delay)),
            (_, _) => None,
        };
        let delay = self.arrival.map_or(vip.announce_delay, |(_, before)| before.min(vip.announce_delay));
        let waits_for_fellows = (starting && self.phase == Phase::Listening)
            || self.arrival.is_some_and(|(since, _)| now <= since + ARRIVAL);
        let fit = fitness.allows(vip, self.desire);
        // What the route would be without the drain cannot be seen.
        let hidden = on_the_way_out && fitness.leaves_as_it_is(vip);
        for (n, level) in LEVELS.into_iter().enumerate() {
            self.may[n] = (level <= fit || hidden).then(|| self.may[n].unwrap_or(now));
            self.must[n] = (level <= fit && !on_the_way_out).then(|| self.must[n].unwrap_or(now));
        }
        if on_the_way_out {
            return;
        }
        let address = vip.address;
        assert!(self.desire <= fit, "{address} is announced as {:?}, but is {fitness:?}", self.desire);
        if is_serving(was_in) && self.desire < was {
            assert_eq!(
                self.desire,
                was.min(fitness.allows(vip, was)),
                "{address} is lowered for nothing: {fitness:?}"
            );
            self.lowered += 1;
        }
        for (n, level) in LEVELS.into_iter().enumerate() {
            if was < level && self.desire >= level && !matches!(was_in, Phase::Draining | Phase::Holding) {
                let earned = self.may[n].is_some_and(|since| since + delay <= now);
                assert!(earned, "{address} is announced as {level:?} before announce_delay is over");
            }
            let most = if self.lowered <= 1 {
                vip.announce_delay
            } else {
                vip.announce_delay.max(vip.flap.max_delay)
            };
            let overdue = self.must[n].is_some_and(|since| since + most < now);
            assert!(
                !overdue || waits_for_fellows || self.desire >= level,
                "{address} has been fit for {level:?} for more than {most:?}"
            );
        }
    }

    /// Invariant 3: a drain ends.
    fn check_drain(&self, address: IpAddr, now: Instant) {
        let ends = self.drain_deadline.map(|deadline| deadline + DRAIN_SLACK);
        assert!(ends.is_none_or(|ends| now <= ends), "{address} has been in {:?} for too long", self.phase);
    }
}

/// As what a VIP is to be announced.
pub fn desired(routes: &RouteSet, address: IpAddr) -> Desire {
    match routes.routes.get(&address.into()).map(|route| route.preference) {
        None => Desire::Withdrawn,
        Some(Preference::Normal) => Desire::Normal,
        Some(Preference::Degraded) => Desire::Degraded,
        Some(Preference::Draining) => Desire::Draining,
        Some(Preference::Arriving) => Desire::Arriving,
        Some(Preference::LastResort) => Desire::LastResort,
    }
}
