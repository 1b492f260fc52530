//! A bounded, reproducible run: the corpus, then mutations of it from a seed.
//!
//! `FUZZ_SEED` (1) and `FUZZ_RUNS` (per target; what `make fuzz` passes takes seconds) decide everything. What panics is
//! printed in hex.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Longer inputs are cut.
const MAX_LEN: usize = 8192;

/// Tries `target` on everything in `corpus/NAME` and on mutations of that.
pub fn run(name: &str, target: impl Fn(&[u8])) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let (seed, runs): (u64, u64) = (number("FUZZ_SEED").unwrap_or(1), number("FUZZ_RUNS").unwrap_or(10_000));
    let corpus = corpus(name);
    for input in &corpus {
        attempt(name, &target, input);
    }
    let mut rng = Rng(seed);
    for _ in 0..runs {
        attempt(name, &target, &mutated(&corpus, &mut rng));
    }
    println!("{name}: {} inputs and {runs} mutations, seed {seed}", corpus.len());
}

fn attempt(name: &str, target: &impl Fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let hex: String = input.iter().map(|octet| format!("{octet:02x}")).collect();
        eprintln!("{name} fails on {hex}");
        std::process::exit(1);
    }
}

/// In the order of the file names, so that every run is the same; and the empty input.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    };
    paths.iter().map(read).chain([Vec::new()]).collect()
}

fn mutated(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let pick = |rng: &mut Rng| corpus[rng.below(corpus.len())].clone();
    let mut input = pick(rng);
    for _ in 0..=rng.below(6) {
        let place = rng.below(input.len() + 1);
        match rng.below(8) {
            0 => input.truncate(place),
            1 => input.insert(place, rng.octet()),
            2 => {
                let end = (place + 1 + rng.below(8)).min(input.len());
                drop(input.drain(place.min(end)..end));
            }
            3 => {
                let other = pick(rng);
                let from = rng.below(other.len() + 1);
                input.truncate(place);
                input.extend_from_slice(&other[from..]);
            }
            4 => {
                let end = (place + rng.below(16)).min(input.len());
                let again = input[place..end].to_vec();
                input.splice(place..place, again);
            }
            5 => input[place..].iter_mut().take(1).for_each(|octet| *octet ^= 1 << rng.below(8)),
            // Where lengths break.
            6 => {
                let edge = [0, 1, 2, 3, 4, 16, 32, 33, 127, 128, 129, 254, 255][rng.below(13)];
                input[place..].iter_mut().take(1).for_each(|octet| *octet = edge);
            }
            _ => input[place..].iter_mut().take(2).for_each(|octet| *octet = rng.octet()),
        }
    }
    input.truncate(MAX_LEN);
    input
}

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
    fn octet(&mut self) -> u8 {
        self.next() as u8
    }
}
