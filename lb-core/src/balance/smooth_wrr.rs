//! Smooth weighted round robin, as nginx defines it: at each turn every member gains its weight, the one with most
//! (the first of equals) takes the turn and pays the sum of all weights. Weights 5, 1, 1 give `a a b a c a a`.
//!
//! With fixed weights the order repeats after sum / gcd turns, so it is computed once per change and then read by
//! position: the same order whatever the number of threads.

/// Beyond this many steps the exact order takes too long for a change of eligibility (about 10 ms).
const EXACT_STEPS: usize = 1 << 23;

/// One period of turns as indices into `weights`. Members of weight 0 do not appear; no member does: empty.
pub fn sequence(weights: &[u16]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd);
    let members: Vec<Member> = (0u32..)
        .zip(weights)
        .filter(|(_, weight)| **weight > 0)
        .map(|(index, weight)| Member { index, weight: i64::from(weight / divisor), current: 0 })
        .collect();
    let period = members.iter().map(|m| m.weight).sum::<i64>();
    let turns = usize::try_from(period).unwrap_or(usize::MAX);
    if turns.saturating_mul(members.len()) <= EXACT_STEPS { exact(members, period) } else { spread(&members) }
}

struct Member {
    index: u32,
    weight: i64,
    current: i64,
}

fn exact(mut members: Vec<Member>, period: i64) -> Vec<u32> {
    let turn = |_| {
        let mut best: Option<&mut Member> = None;
        for member in &mut members {
            member.current += member.weight;
            if best.as_ref().is_none_or(|b| member.current > b.current) {
                best = Some(member);
            }
        }
        best.map(|b| {
            b.current -= period;
            b.index
        })
    };
    (0..period).filter_map(turn).collect()
}

/// The same shares spread as evenly: turn k of a member lies at (k + ½) / weight of the period.
fn spread(members: &[Member]) -> Vec<u32> {
    let mut turns: Vec<(i64, i64, u32)> =
        members.iter().flat_map(|m| (0..m.weight).map(|k| (2 * k + 1, m.weight, m.index))).collect();
    turns.sort_unstable_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)).then(a.2.cmp(&b.2)));
    turns.into_iter().map(|(_, _, index)| index).collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_nginx_s() {
        assert_eq!(sequence(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(sequence(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(sequence(&[3, 2]), [0, 1, 0, 1, 0]);
        assert_eq!(sequence(&[1, 2, 3]), [2, 1, 0, 2, 1, 2]);
    }

    #[test]
    fn common_factors_and_weight_zero_do_not_lengthen_the_period() {
        assert_eq!(sequence(&[100, 0, 100]), [0, 2]);
        assert_eq!(sequence(&[0, 0]), [0u32; 0]);
        assert_eq!(sequence(&[]), [0u32; 0]);
    }

    #[test]
    fn a_thousand_backends_of_awkward_weights_keep_their_shares() {
        let weights: Vec<u16> = (0..1000).map(|i| 200 + i % 57).collect();
        let order = sequence(&weights);
        assert_shares(&weights, &order, 1);
    }

    /// Every member has exactly its share of the turns.
    fn assert_shares(weights: &[u16], order: &[u32], divisor: u16) {
        for (index, weight) in (0u32..).zip(weights) {
            let turns = order.iter().filter(|turn| **turn == index).count();
            assert_eq!(turns, usize::from(weight / divisor), "member {index}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_exact_and_no_member_waits_for_long(weights in prop::collection::vec(0u16..=256, 1..12)) {
            let divisor = weights.iter().copied().fold(0, gcd).max(1);
            let order = sequence(&weights);
            assert_shares(&weights, &order, divisor);

            let total: usize = weights.iter().map(|w| usize::from(w / divisor)).sum();
            for (index, weight) in (0u32..).zip(&weights).filter(|(_, w)| **w > 0) {
                let fair = total.div_ceil(usize::from(weight / divisor));
                let at: Vec<usize> = (0..2 * order.len()).filter(|i| order[i % order.len()] == index).collect();
                let longest = at.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(total);
                prop_assert!(longest <= 2 * fair, "member {} waits {} turns, fair are {}", index, longest, fair);
            }
        }

        #[test]
        fn the_short_cut_for_huge_tables_gives_the_same_shares(weights in prop::collection::vec(1u16..=256, 1..12)) {
            let members: Vec<Member> = (0u32..).zip(&weights)
                .map(|(index, weight)| Member { index, weight: i64::from(*weight), current: 0 }).collect();
            assert_shares(&weights, &spread(&members), 1);
        }
    }
}
