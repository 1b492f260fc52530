//! Which of a service's backends takes the next connection: the algorithm over what the backends can take now.
//!
//! A [`Group`] is compiled when the configuration or a standing changes (see `table`); a pick reads it, and takes the place
//! that it finds at once, so that no two connections are given the same one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Eligible;
use crate::backend::Backend;
use crate::balance::Ring;
use crate::balance::least::{Load, Past, Tournament};
use crate::balance::random::{Draws, Random};
use crate::balance::rendezvous::{ClientHash, Rendezvous};

/// Further turns taken where the one whose turn it is cannot use it.
const REDRAWS: usize = 32;

/// A connection that looks for a backend.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub client: IpAddr,
    /// Not these.
    pub tried: &'a [Arc<Backend>],
    /// Since the start of the plane.
    pub now: Duration,
}

/// Why there is no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Some are up, but at their limit.
    Full,
    Nobody,
}

/// The next turn, for all workers: the sequence is the same whatever their number.
#[derive(Debug)]
pub(crate) struct Turns {
    cursor: AtomicU64,
    pub(crate) seed: u64,
}

impl Turns {
    pub(crate) fn new(seed: u64) -> Self {
        Turns { cursor: AtomicU64::new(0), seed }
    }

    fn next(&self) -> u64 {
        self.cursor.fetch_add(1, Relaxed)
    }
}

/// A backend's part in a table.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) backend: Arc<Backend>,
    pub(crate) weight: u16,
    /// 65,536ths of its weight that it is to have, beside slow start.
    pub(crate) portion: u32,
    pub(crate) limit: Option<u32>,
    pub(crate) slow_start: Duration,
}

/// What came of trying to take a candidate's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    Taken,
    Full,
    /// Down, or tried before.
    Unwanted,
}

impl Candidate {
    fn take(&self, ask: &Ask<'_>) -> Take {
        if !self.is_wanted(ask) {
            Take::Unwanted
        } else if self.backend.take(self.limit) {
            Take::Taken
        } else {
            Take::Full
        }
    }

    fn is_wanted(&self, ask: &Ask<'_>) -> bool {
        self.portion > 0
            && self.backend.eligible() == Eligible::Yes
            && !ask.tried.iter().any(|t| Arc::ptr_eq(t, &self.backend))
    }

    fn portion_at(&self, now: Duration) -> u32 {
        let ramp = self.backend.ramp(self.slow_start, now);
        ((u64::from(self.portion) * u64::from(ramp)) >> 16) as u32
    }

    fn load(&self, now: Duration) -> Load {
        let connections = self.backend.active();
        Load {
            connections,
            weight: (u64::from(self.weight) * u64::from(self.portion_at(now))).max(1),
            full: self.limit.is_some_and(|limit| connections >= u64::from(limit)),
        }
    }
}

/// An algorithm with what it has compiled of its candidates.
#[derive(Debug)]
enum Method {
    RoundRobin(Ring),
    LeastConn(Mutex<Tournament>),
    Source(Rendezvous),
    Random(Draws),
    First,
}

/// The primaries or the backups of a service.
#[derive(Debug)]
pub(crate) struct Group {
    candidates: Vec<Candidate>,
    method: Method,
}

/// How a group is to be balanced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Balancing {
    RoundRobin,
    LeastConn,
    Source,
    Random,
    First,
}

impl Group {
    pub(crate) fn empty() -> Self {
        Group { candidates: Vec::new(), method: Method::First }
    }

    /// Candidates of a weight above 0, in the order of the configuration; `before`: the group that this one replaces.
    pub(crate) fn new(
        candidates: Vec<Candidate>,
        balancing: Balancing,
        before: &Group,
        now: Duration,
    ) -> Self {
        let method = match balancing {
            Balancing::RoundRobin => {
                Method::RoundRobin(Ring::weighted(&candidates.iter().map(|c| c.weight).collect::<Vec<_>>()))
            }
            Balancing::LeastConn => Method::LeastConn(Mutex::new(tournament(&candidates, before, now))),
            Balancing::Source => Method::Source(rendezvous(&candidates)),
            Balancing::Random => Method::Random(Draws::new(candidates.iter().map(|c| c.weight))),
            Balancing::First => Method::First,
        };
        for (index, candidate) in (0..).zip(&candidates) {
            candidate.backend.place.store(index, Relaxed);
        }
        Group { candidates, method }
    }

    /// Takes a place at a candidate.
    pub(crate) fn pick(&self, ask: &Ask<'_>, turns: &Turns) -> Result<&Arc<Backend>, Miss> {
        let picked = match &self.method {
            Method::RoundRobin(ring) => self.by_turns(ring, ask, turns),
            Method::LeastConn(tournament) => self.least_loaded(&mut lock(tournament), ask),
            Method::Source(members) => self.by_source(members, ask),
            Method::Random(draws) => self.by_draws(draws, ask, turns),
            Method::First => {
                self.first_of(|c| c.backend.earns(c.portion_at(ask.now)), 0..self.candidates.len(), ask)
            }
        };
        // Nobody who takes only part of its turns has one now: the turn is everybody's.
        match picked.or_else(|| self.any(ask, turns)) {
            Some(candidate) => Ok(&candidate.backend),
            None if self.candidates.iter().any(|c| c.is_wanted(ask)) => Err(Miss::Full),
            None => Err(Miss::Nobody),
        }
    }

    /// A turn that its member cannot use is the next member's if that member is tried before, and lapses if it is full
    /// or its slow start gives it fewer turns: the others keep their order and their shares.
    fn by_turns(&self, ring: &Ring, ask: &Ask<'_>, turns: &Turns) -> Option<&Candidate> {
        for _ in 0..REDRAWS {
            let turn = turns.next();
            let candidate = self.candidates.get(ring.at(turn)?)?;
            if !candidate.backend.earns(candidate.portion_at(ask.now)) {
                continue;
            }
            match candidate.take(ask) {
                Take::Taken => return Some(candidate),
                Take::Full => {}
                Take::Unwanted => return self.first_of(|_| true, ring.from(turn), ask),
            }
        }
        None
    }

    fn least_loaded(&self, tournament: &mut Tournament, ask: &Ask<'_>) -> Option<&Candidate> {
        if let Some(visited) = tournament.next_visit() {
            self.report(tournament, visited, ask.now);
        }
        let mut out = Vec::new();
        let picked = loop {
            let Some(best) = tournament.best() else { break None };
            let Some(candidate) = self.candidates.get(best) else { break None };
            let take = candidate.take(ask);
            match take {
                Take::Taken => tournament.picked(best),
                Take::Full => {}
                Take::Unwanted => {
                    tournament.set_out(best, true);
                    out.push(best);
                }
            }
            self.report(tournament, best, ask.now);
            if take == Take::Taken {
                break Some(candidate);
            }
        };
        out.into_iter().for_each(|index| tournament.set_out(index, false));
        picked
    }

    fn report(&self, tournament: &mut Tournament, index: usize, now: Duration) {
        if let Some(candidate) = self.candidates.get(index) {
            tournament.set_load(index, candidate.load(now));
        }
    }

    /// A member that is to have only part of its clients has always the same of them.
    fn by_source(&self, members: &Rendezvous, ask: &Ask<'_>) -> Option<&Candidate> {
        let client = ClientHash::of(ask.client);
        let order = || members.order(client);
        let belongs = |candidate: &Candidate| candidate.portion_at(ask.now) > client.lot();
        self.first_of(belongs, order(), ask).or_else(|| self.first_of(|_| true, order(), ask))
    }

    fn by_draws(&self, draws: &Draws, ask: &Ask<'_>, turns: &Turns) -> Option<&Candidate> {
        for _ in 0..REDRAWS {
            let (first, second) = draws.two(Random::new(turns.seed, turns.next()))?;
            let (first, second) = (self.candidates.get(first)?, self.candidates.get(second)?);
            let (a, b) = (first.load(ask.now), second.load(ask.now));
            let other_is_less =
                b.connections.saturating_mul(a.weight) < a.connections.saturating_mul(b.weight);
            let (less, more) = if other_is_less { (second, first) } else { (first, second) };
            if !less.backend.earns(less.portion_at(ask.now)) {
                continue;
            }
            if let Some(taken) = [less, more].into_iter().find(|c| c.take(ask) == Take::Taken) {
                return Some(taken);
            }
        }
        None
    }

    fn any(&self, ask: &Ask<'_>, turns: &Turns) -> Option<&Candidate> {
        match &self.method {
            Method::RoundRobin(ring) => self.first_of(|_| true, ring.from(turns.next()), ask),
            Method::LeastConn(_) => None,
            Method::Source(_) | Method::Random(_) | Method::First => {
                self.first_of(|_| true, 0..self.candidates.len(), ask)
            }
        }
    }

    fn first_of(
        &self,
        may: impl Fn(&Candidate) -> bool,
        mut order: impl Iterator<Item = usize>,
        ask: &Ask<'_>,
    ) -> Option<&Candidate> {
        let candidate = |index| self.candidates.get(index);
        order.find_map(|index| candidate(index).filter(|c| may(c) && c.take(ask) == Take::Taken))
    }

    pub(crate) fn released(&self, backend: &Arc<Backend>, now: impl Fn() -> Duration) {
        let Method::LeastConn(tournament) = &self.method else { return };
        if let Some(place) = self.place_of(backend) {
            self.report(&mut lock(tournament), place, now());
        }
    }

    fn place_of(&self, backend: &Arc<Backend>) -> Option<usize> {
        let place = backend.place.load(Relaxed) as usize;
        self.candidates.get(place).filter(|c| Arc::ptr_eq(&c.backend, backend)).map(|_| place)
    }

    pub(crate) fn look_again(&self, now: Duration) {
        if let Method::LeastConn(tournament) = &self.method {
            let mut tournament = lock(tournament);
            (0..self.candidates.len()).for_each(|index| self.report(&mut tournament, index, now));
        }
    }

    /// Connections that all candidates together take; `None`: there is no limit.
    pub(crate) fn room(&self) -> Option<u64> {
        self.candidates.iter().map(|c| c.limit.map(u64::from)).sum()
    }
}

fn rendezvous(candidates: &[Candidate]) -> Rendezvous {
    let named = candidates.iter().map(|c| (c.backend.id().backend.as_str(), c.weight));
    Rendezvous::new(&named.collect::<Vec<_>>())
}

fn tournament(candidates: &[Candidate], group: &Group, now: Duration) -> Tournament {
    let before = match &group.method {
        Method::LeastConn(tournament) => Some(lock(tournament)),
        Method::RoundRobin(_) | Method::Source(_) | Method::Random(_) | Method::First => None,
    };
    let known = |candidate: &Candidate| before.as_ref()?.record(group.place_of(&candidate.backend)?);
    let past = |candidate: &Candidate| match known(candidate) {
        Some(record) => Past::Known(record),
        None if candidate.slow_start.is_zero() => Past::Returned,
        None => Past::SlowStart,
    };
    let members: Vec<_> = candidates.iter().map(|c| (c.load(now), past(c))).collect();
    Tournament::new(&members, before.as_ref().map_or(0, |tournament| tournament.turn()))
}

fn lock(tournament: &Mutex<Tournament>) -> MutexGuard<'_, Tournament> {
    tournament.lock().unwrap_or_else(PoisonError::into_inner)
}
