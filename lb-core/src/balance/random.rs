//! Power of two choices: two distinct draws by weight; whoever chooses takes the less loaded. Pure: the randomness is a
//! number that the caller counts up, mixed with its seed.

/// Members by weight.
#[derive(Debug, Clone)]
pub struct Draws {
    /// Sums of the weights up to and with each member.
    sums: Box<[u32]>,
}

impl Draws {
    pub fn new(weights: impl Iterator<Item = u16>) -> Self {
        let sum = |sum: &mut u32, weight| {
            *sum = sum.saturating_add(u32::from(weight));
            Some(*sum)
        };
        Draws { sums: weights.scan(0, sum).collect() }
    }

    /// Two different members, the first drawn by weight; the same one twice where there is only one with a weight. `None`:
    /// there is none.
    pub fn two(&self, random: Random) -> Option<(usize, usize)> {
        const TRIES: usize = 16;
        let first = self.draw(random.0)?;
        let mut next = random;
        for _ in 0..TRIES {
            next = next.next();
            let second = self.draw(next.0)?;
            if second != first {
                return Some((first, second));
            }
        }
        // One member has almost all of the weight.
        Some((first, (first + 1) % self.sums.len()))
    }

    fn draw(&self, random: u64) -> Option<usize> {
        let total = *self.sums.last()?;
        // The upper half of a product spreads evenly without a division.
        let lot = ((random >> 32) * u64::from(total)) >> 32;
        (total > 0).then(|| self.sums.partition_point(|sum| u64::from(*sum) <= lot))
    }
}

/// A random number, and all that follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// The number for this turn: SplitMix64 (Steele, Lea, Flood 2014), whose state is a counter.
    pub fn new(seed: u64, turn: u64) -> Self {
        Random(mix(seed.wrapping_add(turn.wrapping_mul(GOLDEN))))
    }

    fn next(self) -> Self {
        Random(mix(self.0.wrapping_add(GOLDEN)))
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 400_000;

    #[test]
    fn the_first_draw_is_within_one_percent_of_the_weights() {
        let weights = [1u16, 2, 3, 4];
        let draws = Draws::new(weights.into_iter());
        let mut count = [0u32; 4];
        (0..DRAWS)
            .filter_map(|turn| draws.two(Random::new(7, turn)))
            .for_each(|(first, _)| count[first] += 1);
        for (count, weight) in count.into_iter().zip(weights) {
            let fair = DRAWS as f64 * f64::from(weight) / 10.0;
            assert!((f64::from(count) - fair).abs() <= fair * 0.01, "{count} of {fair}");
        }
    }

    #[test]
    fn two_draws_are_never_the_same_while_there_are_two_members() {
        for weights in [vec![1, 1], vec![256, 1], vec![1, 0, 1], vec![3, 9, 1, 4]] {
            let draws = Draws::new(weights.into_iter());
            for turn in 0..10_000 {
                let (first, second) = draws.two(Random::new(1, turn)).unwrap();
                assert_ne!(first, second);
            }
        }
    }

    #[test]
    fn one_member_is_drawn_twice_and_none_never() {
        assert_eq!(Draws::new([5].into_iter()).two(Random::new(0, 3)), Some((0, 0)));
        assert_eq!(Draws::new([].into_iter()).two(Random::new(0, 3)), None);
        assert_eq!(Draws::new([0].into_iter()).two(Random::new(0, 3)), None);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_does_not() {
        let draws = Draws::new([1u16; 100].into_iter());
        let drawn =
            |seed| (0..50).map(|turn| draws.two(Random::new(seed, turn)).unwrap()).collect::<Vec<_>>();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
