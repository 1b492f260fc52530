//! The whole control side in virtual time, thousands of seeds per run: health book, schedule, steering, life cycles,
//! governor, and our BGP speaker with a router on the other end of a bad network, all of them the real, pure cores. Around
//! them are models: servers, a data plane, the host's hands, operators, a process that stops and dies.
//!
//! A seed decides everything. Invariants are checked after every step ([`oracle`], [`routers`]); after the trouble everything
//! must settle as the state of the world deserves. Which fault is caught by what is in `docs/simulation.md`.
//! `SIMULATION_SEED=n` replays one seed and tells its story, `SIMULATION_SEEDS=n` runs so many.

mod checker;
mod host;
mod oracle;
mod plan;
mod random;
mod routers;
mod rules;
mod shadow;
mod trouble;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use world::World;

/// Half a minute on two idle cores, without optimization.
const SEEDS: u64 = 2000;
const TROUBLE: Duration = Duration::from_secs(60);
/// Longer than the longest that a recovery is put off, and than BGP takes from a silent connection in OpenSent (4 min).
const HEALING: Duration = Duration::from_secs(480);
const SETTLING: Duration = Duration::from_secs(10);

fn live(world: &mut World) {
    world.run_for(Duration::from_secs(3));
    world.begin_to_suffer();
    world.run_for(TROUBLE);
    world.heal();
    let mut healing = Duration::ZERO;
    // A state that passes by is none: it must be there twice.
    let mut before = Err("nothing was seen yet".to_owned());
    loop {
        world.run_for(SETTLING);
        healing += SETTLING;
        let state = world.is_converged();
        if state.is_ok() && before.is_ok() {
            return;
        }
        assert!(healing < HEALING, "after {healing:?} without trouble: {state:?}");
        before = state;
    }
}

/// Panics with the story of the seed if an invariant breaks.
fn run(seed: u64) {
    let mut world = World::new(seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| live(&mut world))) {
        eprintln!("{}\nreplay with SIMULATION_SEED={seed}", world.trace.join("\n"));
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn whatever_goes_wrong_no_invariant_breaks_and_the_routers_hold_in_the_end_what_is_deserved() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    if let Some(seed) = number("SIMULATION_SEED") {
        return run(seed);
    }
    #[allow(clippy::disallowed_methods, reason = "how fast it runs, not when anything happens in it")]
    let start = std::time::Instant::now();
    let (next, end) = (AtomicU64::new(0), number("SIMULATION_SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end) {
                    run(seed);
                }
            });
        }
    });
    let took = start.elapsed().as_secs_f64();
    println!("{end} seeds in {took:.1} s: {:.0} a minute", end as f64 / took * 60.0);
}
