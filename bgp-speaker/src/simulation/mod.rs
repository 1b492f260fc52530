//! Two of our speakers on a bad network with virtual time, thousands of seeds per run.
//!
//! A seed decides everything: delays, how octets are cut, connections that are refused, reset or silently cut in one or
//! both directions, sides that freeze or restart, and changes of what should be announced. After a while of that the
//! network heals, and both sides must end Established with each other, holding what the other wants announced.
//! `SIMULATION_SEED=n` replays one, `SIMULATION_SEEDS=n` runs more.

mod network;
mod side;

use std::time::Duration;

use network::{Faults, World};

use crate::status::PeerState;

const SEEDS: u64 = 1000;
const TROUBLE: Duration = Duration::from_secs(90);
/// Longer than what may hold a side up: a silent connection in OpenSent (4 min) and the longest back-off.
const HEALING: Duration = Duration::from_secs(480);
/// Longer than a cut connection may go unnoticed.
const SETTLING: Duration = Duration::from_secs(20);

/// Which sides dial.
fn passive(seed: u64) -> [bool; 2] {
    match seed % 4 {
        0 => [true, false],
        1 => [false, true],
        _ => [false, false],
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, passive(seed));
    world.run_for(TROUBLE, Faults::Many);
    let mut healing = Duration::ZERO;
    loop {
        let before = (world.is_established(), world.sessions());
        world.run_for(SETTLING, Faults::None);
        healing += SETTLING;
        if before == (true, world.sessions()) && world.is_established() || healing >= HEALING {
            break;
        }
    }
    world.check_converged();
}

#[test]
fn after_any_trouble_two_speakers_agree_again() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("replay with SIMULATION_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn without_trouble_two_speakers_are_established_within_a_second() {
    for seed in 0..200 {
        let mut world = World::new(seed, passive(seed));
        world.run_for(Duration::from_secs(1), Faults::None);
        assert_eq!(world.states(), [PeerState::Established; 2], "seed {seed}");
    }
}
