//! From what a configuration says of a service's backends ([`Roster`]) and how they stand to what picks read ([`Table`]).

use std::sync::Arc;
use std::time::Duration;

use config::{Balance, Name};

use crate::backend::Backend;
use crate::balance::ONE;
use crate::balance::maglev::Maglev;
use crate::choice::{Ask, Balancing, Candidate, Group, Miss, Turns};
use crate::{Eligible, Standing};

/// A backend's part in a service.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) backend: Arc<Backend>,
    pub(crate) weight: u16,
    pub(crate) backup: bool,
    pub(crate) limit: Option<u32>,
}

/// The backends of a service and how they are balanced.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) members: Vec<Member>,
    pub(crate) balance: Balance,
    pub(crate) slow_start: Duration,
    /// Of the primaries and of the backups. They do not depend on who is up, so that who goes down moves only his own
    /// clients.
    maglevs: Option<[Arc<Places>; 2]>,
}

/// A Maglev table with what it was made of.
#[derive(Debug)]
struct Places {
    members: Vec<(Name, u16)>,
    maglev: Arc<Maglev>,
}

impl Places {
    fn new(members: Vec<(Name, u16)>, known: Option<&Arc<Places>>) -> Arc<Self> {
        match known {
            Some(known) if known.members == members => known.clone(),
            _ => {
                let named: Vec<_> = members.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
                let maglev = Arc::new(Maglev::new(&named));
                Arc::new(Places { members, maglev })
            }
        }
    }
}

impl Roster {
    /// What is the same as in `before` is not worked out again.
    pub(crate) fn new(
        members: Vec<Member>,
        balance: Balance,
        slow_start: Duration,
        before: Option<&Roster>,
    ) -> Self {
        let known = before.and_then(|roster| roster.maglevs.as_ref());
        let places = |backup: bool| {
            let named = weighted(&members, backup).map(|m| (m.backend.id().backend.clone(), m.weight));
            Places::new(
                named.collect(),
                known.map(|[primaries, backups]| if backup { backups } else { primaries }),
            )
        };
        let maglevs = (balance == Balance::Source).then(|| [places(false), places(true)]);
        Roster { members, balance, slow_start, maglevs }
    }

    /// The table for how the backends stand now, after `before`.
    pub(crate) fn compile(&self, before: &Table, now: Duration) -> Table {
        Table {
            primaries: self.group(false, &before.primaries, now),
            backups: self.group(true, &before.backups, now),
        }
    }

    fn group(&self, backup: bool, before: &Group, now: Duration) -> Group {
        let balancing = match (self.balance, &self.maglevs) {
            (Balance::RoundRobin, _) => Balancing::RoundRobin,
            (Balance::LeastConn, _) => Balancing::LeastConn,
            (Balance::Random, _) => Balancing::Random,
            (Balance::Source, Some([_, backups])) if backup => Balancing::Source(backups.maglev.clone()),
            (Balance::Source, Some([primaries, _])) => Balancing::Source(primaries.maglev.clone()),
            (Balance::First | Balance::Source, _) => Balancing::First,
        };
        let standing: Vec<(&Member, Standing)> =
            weighted(&self.members, backup).map(|m| (m, m.backend.standing())).collect();
        // Where all are to have the same part of their weights, it is the whole.
        let most =
            standing.iter().filter(|(_, s)| s.eligible == Eligible::Yes).map(|(_, s)| s.weight_percent);
        let most = u32::from(most.max().unwrap_or(0).max(1));
        let candidate = |(member, standing): (&Member, Standing)| Candidate {
            backend: member.backend.clone(),
            weight: member.weight,
            portion: (u32::from(standing.weight_percent) * ONE / most).min(ONE),
            limit: standing.max_connections.or(member.limit),
            slow_start: self.slow_start,
        };
        // The indices of a Maglev table are those of all members, up or not.
        let all = matches!(balancing, Balancing::Source(_));
        let usable = |s: &Standing| s.eligible == Eligible::Yes && s.weight_percent > 0;
        let candidates = standing.into_iter().filter(|(_, s)| all || usable(s)).map(candidate).collect();
        Group::new(candidates, balancing, before, now)
    }
}

/// The primaries or the backups that take connections at all.
fn weighted(members: &[Member], backup: bool) -> impl Iterator<Item = &Member> {
    members.iter().filter(move |m| m.backup == backup && m.weight > 0)
}

/// The backends of a service that may be picked now.
#[derive(Debug)]
pub(crate) struct Table {
    primaries: Group,
    /// Used only once no primary is left to try. Primaries that are full are waited for.
    backups: Group,
}

impl Table {
    /// Before the first configuration.
    pub(crate) fn empty() -> Self {
        Table { primaries: Group::empty(), backups: Group::empty() }
    }

    /// Takes a place at a backend, which whoever asks gives back.
    pub(crate) fn pick(&self, ask: &Ask<'_>, turns: &Turns) -> Result<&Arc<Backend>, Miss> {
        match self.primaries.pick(ask, turns) {
            Err(Miss::Nobody) => self.backups.pick(ask, turns),
            decided => decided,
        }
    }

    /// A backend has a connection less.
    pub(crate) fn released(&self, backend: &Arc<Backend>, now: impl Fn() -> Duration) {
        self.primaries.released(backend, &now);
        self.backups.released(backend, &now);
    }

    /// Takes in what happened to the loads while the table was compiled.
    pub(crate) fn look_again(&self, now: Duration) {
        self.primaries.look_again(now);
        self.backups.look_again(now);
    }

    /// Connections that all backends together take; `None`: there is no limit.
    pub(crate) fn room(&self) -> Option<u64> {
        Some(self.primaries.room()?.saturating_add(self.backups.room()?))
    }
}
