//! From what a configuration says of a service's backends ([`Roster`]) and how they stand to what picks read ([`Table`]).

use std::sync::Arc;
use std::time::Duration;

use config::Balance;

use crate::backend::Backend;
use crate::balance::ONE;
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
}

impl Roster {
    /// The table for how the backends stand now, after `before`.
    pub(crate) fn compile(&self, before: &Table, now: Duration) -> Table {
        Table {
            primaries: self.group(false, &before.primaries, now),
            backups: self.group(true, &before.backups, now),
        }
    }

    fn group(&self, backup: bool, before: &Group, now: Duration) -> Group {
        let balancing = match self.balance {
            Balance::RoundRobin => Balancing::RoundRobin,
            Balance::LeastConn => Balancing::LeastConn,
            Balance::Source => Balancing::Source,
            Balance::Random => Balancing::Random,
            Balance::First => Balancing::First,
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
        let usable = |s: &Standing| s.eligible == Eligible::Yes && s.weight_percent > 0;
        let candidates = standing.into_iter().filter(|(_, s)| usable(s)).map(candidate).collect();
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use config::{BackendAddr, BackendId, Name};

    use super::*;

    const ALL: [Balance; 5] =
        [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Random, Balance::First];
    const HOUR: Duration = Duration::from_secs(3600);

    /// A service of which places are taken and given back by hand.
    struct Bench {
        roster: Roster,
        table: Table,
        turns: Turns,
        now: Duration,
    }

    impl Bench {
        fn new(balance: Balance, slow_start: Duration, members: &[(u16, Option<u32>)]) -> Self {
            let name = |text: &str| Name::new(text).unwrap();
            let member = |(index, (weight, limit)): (usize, &(u16, Option<u32>))| {
                let id = BackendId { service: name("web"), backend: name(&format!("b{index}")) };
                let address = BackendAddr::ClientPort(Ipv4Addr::LOCALHOST.into());
                let backend = Arc::new(Backend::new(id, address, 1));
                backend.set_standing(Standing::UP, Duration::ZERO);
                Member { backend, weight: *weight, backup: false, limit: *limit }
            };
            let members = members.iter().enumerate().map(member).collect();
            let roster = Roster { members, balance, slow_start };
            let mut bench = Bench { roster, table: Table::empty(), turns: Turns::new(1), now: HOUR };
            bench.compile();
            bench
        }

        fn compile(&mut self) {
            self.table = self.roster.compile(&self.table, self.now);
        }

        fn set(&mut self, index: usize, standing: impl Into<Standing>) {
            self.roster.members[index].backend.set_standing(standing.into(), self.now);
            self.compile();
        }

        /// The index of the backend that this client's connection is taken to.
        fn pick(&self, client: u32) -> Result<usize, Miss> {
            let ask = Ask { client: IpAddr::V4(client.into()), tried: &[], now: self.now };
            let picked = self.table.pick(&ask, &self.turns)?;
            Ok(self.roster.members.iter().position(|m| Arc::ptr_eq(&m.backend, picked)).unwrap())
        }

        fn give_back(&self, index: usize) {
            let backend = &self.roster.members[index].backend;
            backend.give_back();
            self.table.released(backend, || self.now);
        }

        /// How many of so many connections, of which each ends at once, each backend gets.
        fn spread<const N: usize>(&self, connections: u32) -> [u32; N] {
            let mut count = [0; N];
            for client in 0..connections {
                let picked = self.pick(client).unwrap();
                count[picked] += 1;
                self.give_back(picked);
            }
            count
        }
    }

    #[test]
    fn connections_are_within_one_percent_of_the_weights() {
        for balance in [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Random] {
            let bench = Bench::new(balance, Duration::ZERO, &[(1, None), (2, None), (5, None)]);
            let count: [u32; 3] = bench.spread(400_000);
            for (count, fair) in count.into_iter().zip([50_000, 100_000, 250_000]) {
                assert!(count.abs_diff(fair) <= fair / 100, "{balance:?}: {count} of {fair}");
            }
        }
    }

    #[test]
    fn slow_start_is_linear_for_a_backend_that_returns_and_leaves_the_others_alike() {
        for balance in [Balance::RoundRobin, Balance::Source, Balance::Random] {
            let mut bench = Bench::new(balance, Duration::from_secs(100), &[(1, None), (1, None), (1, None)]);
            bench.set(0, Eligible::No);
            bench.set(0, Eligible::Yes);
            for (seconds, percent) in [(1, 1), (25, 25), (50, 50), (100, 100)] {
                bench.now = HOUR + Duration::from_secs(seconds);
                let [slow, a, b]: [u32; 3] = bench.spread(60_000);
                // Of its own clients while a source has one backend, of what the others get otherwise.
                let whole = if balance == Balance::Source { 20_000 } else { (a + b) / 2 };
                assert!(
                    slow.abs_diff(whole * percent / 100) <= whole / 20,
                    "{balance:?}, {seconds} s: {slow} of {whole}"
                );
                assert!(
                    balance == Balance::Source || a.abs_diff(b) <= (a + b) / 20,
                    "{balance:?}: {a} and {b}"
                );
            }
        }
    }

    #[test]
    fn in_slow_start_least_connections_are_least_by_what_the_weight_has_grown_to() {
        let mut bench = Bench::new(Balance::LeastConn, Duration::from_secs(100), &[(1, None), (1, None)]);
        bench.set(0, Eligible::No);
        assert!((0..100).all(|client| bench.pick(client) == Ok(1)));
        bench.set(0, Eligible::Yes);
        bench.now += Duration::from_secs(10);
        bench.compile();
        let got = (0..50).filter(|client| bench.pick(*client) == Ok(0)).count();
        assert!((9..=16).contains(&got), "{got}: a tenth of what the other has");
    }

    #[test]
    fn all_in_slow_start_together_still_serve_everybody() {
        for balance in ALL {
            let mut bench = Bench::new(balance, HOUR, &[(1, None), (1, None)]);
            for index in [0, 1] {
                bench.set(index, Eligible::No);
                bench.set(index, Eligible::Yes);
            }
            let [a, b]: [u32; 2] = bench.spread(1000);
            assert_eq!(a + b, 1000, "{balance:?}");
        }
    }

    #[test]
    fn limits_hold_and_only_a_place_that_is_given_back_is_taken_again() {
        for balance in ALL {
            let bench = Bench::new(balance, Duration::ZERO, &[(3, Some(2)), (1, Some(1)), (1, Some(0))]);
            let mut got: Vec<_> = (0..3).map(|client| bench.pick(client).unwrap()).collect();
            got.sort_unstable();
            assert_eq!(got, [0, 0, 1], "{balance:?}");
            assert_eq!(bench.pick(9), Err(Miss::Full), "{balance:?}");
            bench.give_back(1);
            assert_eq!(bench.pick(9), Ok(1), "{balance:?}");
        }
    }

    #[test]
    fn who_is_down_or_drains_gets_nothing_and_with_nobody_else_there_is_nobody() {
        for balance in ALL {
            let mut bench = Bench::new(balance, Duration::ZERO, &[(1, None), (1, None), (0, None)]);
            bench.set(0, Standing { weight_percent: 0, ..Standing::UP });
            let [drained, other, zero]: [u32; 3] = bench.spread(50);
            assert_eq!((drained, other, zero), (0, 50, 0), "{balance:?}");
            bench.set(1, Eligible::No);
            assert_eq!(bench.pick(1), Err(Miss::Nobody), "{balance:?}");
        }
    }

    #[test]
    fn who_goes_down_moves_only_his_own_clients() {
        let mut bench = Bench::new(Balance::Source, Duration::ZERO, &[(1, None); 5]);
        let homes = |bench: &Bench| (0..5000).map(|client| bench.pick(client).unwrap()).collect::<Vec<_>>();
        let before = homes(&bench);
        bench.set(2, Eligible::No);
        let during = homes(&bench);
        assert!(before.iter().zip(&during).all(|(b, d)| b == d || *b == 2));
        bench.set(2, Eligible::Yes);
        assert_eq!(homes(&bench), before);
    }

    #[test]
    fn the_same_seed_picks_the_same() {
        for balance in ALL {
            let picks = || -> Vec<_> {
                let bench = Bench::new(balance, Duration::ZERO, &[(1, None), (2, None), (3, None)]);
                (0..200).map(|client| bench.pick(client)).collect()
            };
            assert_eq!(picks(), picks(), "{balance:?}");
        }
    }
}
