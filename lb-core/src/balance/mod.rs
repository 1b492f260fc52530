//! Which backend a new connection goes to, one algorithm a file. Pure: numbers in, members out; no clock, no socket, no
//! randomness of their own. `docs/balancing.md` says what an operator can expect of each.

pub mod least;
pub mod random;
pub mod rendezvous;
pub mod smooth_wrr;

/// The whole of a weight or of a member's turns, in 65,536ths.
pub(crate) const ONE: u32 = 1 << 16;

/// Members in the order in which they take turns, for ever repeated.
#[derive(Debug, Clone)]
pub struct Ring {
    members: usize,
    /// Indices of members: one full period.
    turns: Box<[u32]>,
}

impl Ring {
    /// A ring in smooth weighted round-robin order. A member of weight 0 gets no turn.
    pub fn weighted(weights: &[u16]) -> Self {
        Ring { turns: smooth_wrr::sequence(weights).into_boxed_slice(), members: weights.len() }
    }

    /// Whose turn it is at this position.
    pub fn at(&self, cursor: u64) -> Option<usize> {
        let position = usize::try_from(cursor.checked_rem(self.turns.len() as u64)?).ok()?;
        self.turns.get(position).map(|member| *member as usize)
    }

    /// The members in the order of their turns from position `cursor` on, then, should a few have most of the turns, each
    /// once more by its index: who is looked for is found in a number of steps that weights do not lengthen.
    pub fn from(&self, cursor: u64) -> impl Iterator<Item = usize> + '_ {
        let period = self.turns.len() as u64;
        let start = cursor.checked_rem(period).and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
        let (before, from) = self.turns.split_at_checked(start).unwrap_or_default();
        let all = if period == 0 { 0 } else { self.members };
        from.iter().chain(before).take(4 * self.members).map(|member| *member as usize).chain(0..all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_the_sequence_and_wrap_around() {
        let ring = Ring::weighted(&[2, 1]);
        let turns: Vec<_> = (0..6).filter_map(|at| ring.at(at)).collect();
        assert_eq!(turns, [0, 1, 0, 0, 1, 0]);
        assert_eq!(ring.at(u64::MAX), ring.at(u64::MAX % 3));
    }

    #[test]
    fn whoever_comes_next_can_be_found_and_everybody_is_there() {
        let ring = Ring::weighted(&[1, 1, 1]);
        assert_eq!(ring.from(1).take(3).collect::<Vec<_>>(), [1, 2, 0]);
        let uneven = Ring::weighted(&[256, 1]);
        assert!(uneven.from(0).any(|member| member == 1));
        assert!(uneven.from(0).count() <= 10);
    }

    #[test]
    fn a_ring_without_turns_has_nobody() {
        for ring in [Ring::weighted(&[]), Ring::weighted(&[0])] {
            assert_eq!((ring.at(7), ring.from(7).next()), (None, None));
        }
    }
}
