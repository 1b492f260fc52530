//! Weighted least connections: a tournament over the members, so that the winner is known at once and a member whose load
//! changed plays log2 n matches again.
//!
//! The least loaded wins: connections per weight. Of equals, whoever is next in weighted turn (start-time fair queueing),
//! so that ties rotate and members of an idle service are used by their weights.
//!
//! A member that comes back has no connections, and would get every new one until it has as many as the others. So it
//! begins level with the least loaded of them: *phantom* connections stand in for what it lacks, and one of them goes with
//! every round of as many picks as there are members. With slow start there are none: its small weight does the same.

use std::cmp::Ordering;

/// The load of one member as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub connections: u64,
    /// In 65,536ths, for a member may have part of a weight; at least 1, at most 2^25.
    pub weight: u64,
    /// Takes no further one.
    pub full: bool,
}

/// What is known of a member from the tournament before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    Known(Record),
    /// It was not in it.
    Returned,
    /// The same, and its weight begins small.
    SlowStart,
}

/// What goes over to the next tournament.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    turn: u64,
    phantoms: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Tournament {
    players: Box<[Player]>,
    /// Winner of each match: the final is match 1, the winners of 2k and 2k + 1 meet in k, the last half are the players.
    matches: Box<[u32]>,
    /// Where the newest turn began.
    turn: u64,
    /// Who is looked at with the next pick.
    visit: usize,
}

#[derive(Debug, Clone, Copy)]
struct Player {
    load: Load,
    record: Record,
    /// Not to be chosen just now.
    out: bool,
}

/// How far a turn moves a member of weight 1 / 65,536.
const STRIDE: u64 = 1 << 40;

impl Player {
    fn connections(&self) -> u64 {
        self.load.connections.saturating_add(self.record.phantoms)
    }

    fn compare(&self, other: &Player) -> Ordering {
        let barred = |p: &Player| p.out || p.load.full;
        let load = |a: &Player, b: &Player| a.connections().saturating_mul(b.load.weight);
        (barred(self).cmp(&barred(other)))
            .then_with(|| load(self, other).cmp(&load(other, self)))
            .then_with(|| self.record.turn.cmp(&other.record.turn))
    }
}

impl Tournament {
    /// A tournament of `members`, named by their index from here on, after one whose [`Tournament::turn`] was `turn`.
    pub fn new(members: &[(Load, Past)], turn: u64) -> Self {
        let known = members.iter().filter_map(|(load, past)| match past {
            Past::Known(record) => Some(Player { load: *load, record: *record, out: false }),
            Past::Returned | Past::SlowStart => None,
        });
        let least = known.min_by(Player::compare);
        let level = |load: &Load| {
            let level = least.map_or(0, |l| l.connections() * load.weight / l.load.weight);
            level.saturating_sub(load.connections)
        };
        let player = |(load, past): &(Load, Past)| {
            let record = match past {
                Past::Known(record) => *record,
                Past::Returned => Record { turn, phantoms: level(load) },
                Past::SlowStart => Record { turn, phantoms: 0 },
            };
            Player { load: *load, record, out: false }
        };
        let count = members.len() as u32;
        let mut tournament = Tournament {
            players: members.iter().map(player).collect(),
            matches: (0..count).chain(0..count).collect(),
            turn,
            visit: 0,
        };
        (1..members.len()).rev().for_each(|k| tournament.play(k));
        tournament
    }

    /// The member that takes the next connection; `None` if every one is full or out.
    pub fn best(&self) -> Option<usize> {
        let winner = *self.matches.get(1)? as usize;
        self.players.get(winner).filter(|p| !p.out && !p.load.full).map(|_| winner)
    }

    /// It was picked: its turn is over.
    pub fn picked(&mut self, index: usize) {
        let Some(player) = self.players.get_mut(index) else { return };
        self.turn = self.turn.max(player.record.turn);
        player.record.turn = self.turn + STRIDE / player.load.weight.max(1);
        self.replay(index);
    }

    pub fn set_load(&mut self, index: usize, load: Load) {
        let Some(player) = self.players.get_mut(index) else { return };
        player.load = load;
        self.replay(index);
    }

    /// Keeps a member from being chosen, or no longer.
    pub fn set_out(&mut self, index: usize, out: bool) {
        let Some(player) = self.players.get_mut(index) else { return };
        player.out = out;
        self.replay(index);
    }

    /// Takes a phantom from the member whose visit it is, a different one with each call. The caller sets its load.
    pub fn next_visit(&mut self) -> Option<usize> {
        let index = self.visit.checked_rem(self.players.len())?;
        self.visit = index + 1;
        let record = &mut self.players.get_mut(index)?.record;
        record.phantoms = record.phantoms.saturating_sub(1);
        Some(index)
    }

    pub fn record(&self, index: usize) -> Option<Record> {
        self.players.get(index).map(|player| player.record)
    }

    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// Every match that this player may be in.
    fn replay(&mut self, index: usize) {
        let mut k = (self.players.len() + index) / 2;
        while k > 0 {
            self.play(k);
            k /= 2;
        }
    }

    fn play(&mut self, k: usize) {
        let player = |at: usize| {
            let index = *self.matches.get(at)?;
            Some((self.players.get(index as usize)?, index))
        };
        let (Some((a, first)), Some((b, second))) = (player(2 * k), player(2 * k + 1)) else { return };
        let winner = if a.compare(b).then(first.cmp(&second)).is_le() { first } else { second };
        if let Some(slot) = self.matches.get_mut(k) {
            *slot = winner;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(connections: u64, weight: u64) -> Load {
        Load { connections, weight: weight << 16, full: false }
    }

    fn fresh(weights: &[u64]) -> Tournament {
        let members: Vec<_> = weights.iter().map(|w| (load(0, *w), Past::Returned)).collect();
        Tournament::new(&members, 0)
    }

    /// Picks without ends.
    struct Held {
        tournament: Tournament,
        members: Vec<Load>,
    }

    impl Held {
        fn new(weights: &[u64]) -> Self {
            Held { tournament: fresh(weights), members: weights.iter().map(|w| load(0, *w)).collect() }
        }

        fn pick(&mut self) -> usize {
            if let Some(visited) = self.tournament.next_visit() {
                self.tournament.set_load(visited, self.members[visited]);
            }
            let best = self.tournament.best().unwrap();
            self.members[best].connections += 1;
            self.tournament.picked(best);
            self.tournament.set_load(best, self.members[best]);
            best
        }

        fn end(&mut self, index: usize) {
            self.members[index].connections -= 1;
            self.tournament.set_load(index, self.members[index]);
        }

        /// The tournament after these members came back without connections.
        fn return_of(mut self, back: &[usize]) -> Self {
            let past = |i: usize| {
                if back.contains(&i) {
                    Past::Returned
                } else {
                    Past::Known(self.tournament.record(i).unwrap())
                }
            };
            back.iter().for_each(|i| self.members[*i].connections = 0);
            let members: Vec<_> = self.members.iter().enumerate().map(|(i, load)| (*load, past(i))).collect();
            self.tournament = Tournament::new(&members, self.tournament.turn());
            self
        }
    }

    #[test]
    fn held_connections_spread_by_weight() {
        for weights in [vec![1, 1, 1], vec![1, 2, 5], vec![256, 1], (1..=100).collect()] {
            let mut held = Held::new(&weights);
            let total: u64 = weights.iter().sum();
            for _ in 0..total * 50 {
                held.pick();
            }
            for (member, weight) in held.members.iter().zip(&weights) {
                assert!(member.connections.abs_diff(weight * 50) <= (weight * 50 / 100).max(1), "{member:?}");
            }
        }
    }

    #[test]
    fn while_nothing_is_held_ties_rotate_by_weight() {
        let mut held = Held::new(&[2, 1, 1]);
        let mut count = [0; 3];
        for _ in 0..400 {
            let picked = held.pick();
            held.end(picked);
            count[picked] += 1;
        }
        assert_eq!(count, [200, 100, 100]);
        let mut equal = Held::new(&[1, 1, 1]);
        let order: Vec<_> = (0..6)
            .map(|_| {
                let picked = equal.pick();
                equal.end(picked);
                picked
            })
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn one_that_comes_back_gets_at_most_twice_its_share_until_it_is_level() {
        let mut held = Held::new(&[1; 10]);
        (0..10_000).for_each(|_| {
            held.pick();
        });
        let mut held = held.return_of(&[3]);
        let picks: Vec<usize> = (0..1000).map(|_| held.pick()).collect();
        let got = picks.iter().filter(|picked| **picked == 3).count();
        assert!((150..=210).contains(&got), "{got} of 1000, its share is 100");
        // In the end it has what the others have.
        (0..20_000).for_each(|_| {
            held.pick();
        });
        let (least, most) = (
            held.members.iter().map(|m| m.connections).min(),
            held.members.iter().map(|m| m.connections).max(),
        );
        assert!(most.unwrap() - least.unwrap() <= 1, "{least:?}..{most:?}");
    }

    #[test]
    fn all_that_begin_together_have_no_handicap() {
        let tournament = fresh(&[1, 1]);
        assert_eq!(tournament.record(0), Some(Record { turn: 0, phantoms: 0 }));
    }

    #[test]
    fn who_is_full_or_out_is_not_chosen() {
        let mut tournament = fresh(&[1, 1, 1]);
        tournament.set_load(0, Load { full: true, ..load(0, 1) });
        tournament.set_out(1, true);
        assert_eq!(tournament.best(), Some(2));
        tournament.set_out(2, true);
        assert_eq!(tournament.best(), None);
        tournament.set_out(1, false);
        assert_eq!(tournament.best(), Some(1));
        assert_eq!(Tournament::new(&[], 0).best(), None);
        assert_eq!(fresh(&[1]).best(), Some(0));
    }

    proptest! {
        #[test]
        fn the_winner_is_who_a_scan_would_find(
            count in 1usize..40,
            changes in prop::collection::vec((0usize..40, 0u64..20, 1u64..=256, any::<bool>()), 0..200),
        ) {
            let mut tournament = fresh(&vec![1; count]);
            for (index, connections, weight, full) in changes {
                tournament.set_load(index % count, Load { full, ..load(connections, weight) });
                let scan = (0..count)
                    .filter(|i| !tournament.players[*i].load.full)
                    .min_by(|a, b| tournament.players[*a].compare(&tournament.players[*b]).then(a.cmp(b)));
                prop_assert_eq!(tournament.best(), scan);
            }
        }

        #[test]
        fn nobody_starves(weights in prop::collection::vec(1u64..=16, 1..10)) {
            let mut held = Held::new(&weights);
            let rounds = weights.iter().sum::<u64>() as usize;
            let picks: Vec<usize> = (0..2 * rounds).map(|_| { let p = held.pick(); held.end(p); p }).collect();
            for index in 0..weights.len() {
                prop_assert!(picks.contains(&index));
            }
        }
    }
}
