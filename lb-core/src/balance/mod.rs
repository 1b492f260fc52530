//! Which backend a new connection goes to. Pure: positions in, members out; no clock, no socket, no randomness.

pub mod smooth_wrr;

/// Members in the order in which they take turns, for ever repeated.
#[derive(Debug, Clone)]
pub struct Ring<T> {
    members: Box<[T]>,
    /// Indices into `members`: one full period.
    turns: Box<[u32]>,
}

impl<T> Ring<T> {
    /// A ring in smooth weighted round-robin order. A member of weight 0 gets no turn.
    pub fn weighted(members: Vec<(T, u16)>) -> Self {
        let weights: Vec<u16> = members.iter().map(|(_, weight)| *weight).collect();
        Ring {
            turns: smooth_wrr::sequence(&weights).into_boxed_slice(),
            members: members.into_iter().map(|(member, _)| member).collect(),
        }
    }

    /// The first member from position `cursor` on that is `wanted`; `None` if nobody who has a turn is.
    pub fn pick(&self, cursor: u64, wanted: impl Fn(&T) -> bool) -> Option<&T> {
        let period = self.turns.len();
        let start = usize::try_from(cursor.checked_rem(period as u64)?).ok()?;
        let (before, from) = self.turns.split_at_checked(start)?;
        from.iter().chain(before).filter_map(|turn| self.members.get(*turn as usize)).find(|m| wanted(m))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_the_sequence_and_wrap_around() {
        let ring = Ring::weighted(vec![("a", 2), ("b", 1)]);
        let picked: Vec<_> = (0..6).filter_map(|at| ring.pick(at, |_| true)).copied().collect();
        assert_eq!(picked, ["a", "b", "a", "a", "b", "a"]);
        assert_eq!(ring.pick(u64::MAX, |_| true), ring.pick(u64::MAX % 3, |_| true));
    }

    #[test]
    fn an_unwanted_member_passes_its_turn_to_the_next() {
        let ring = Ring::weighted(vec![("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(ring.pick(0, |m| *m != "a"), Some(&"b"));
        assert_eq!(ring.pick(2, |m| *m == "b"), Some(&"b"));
        assert_eq!(ring.pick(1, |_| false), None);
    }

    #[test]
    fn a_ring_without_turns_picks_nobody() {
        assert_eq!(Ring::<&str>::weighted(vec![]).pick(7, |_| true), None);
        assert_eq!(Ring::weighted(vec![("a", 0)]).pick(7, |_| true), None);
    }
}
