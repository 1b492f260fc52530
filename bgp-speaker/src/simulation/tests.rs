//! Two of our speakers on a bad network with virtual time, thousands of seeds per run.
//!
//! A seed decides everything: delays, how octets are cut, connections that are refused, reset or silently cut in one or
//! both directions, sides that freeze or restart, and changes of what should be announced. After a while of that the
//! network heals, and both sides must end Established with each other, holding what the other wants announced.
//! `SIMULATION_SEED=n` replays one, `SIMULATION_SEEDS=n` runs more.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin; time is virtual")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Name;
use ipnet::IpNet;

use super::{Farewell, Link};
use crate::fixture;
use crate::status::PeerState;

const SEEDS: u64 = 1000;
const TROUBLE: Duration = Duration::from_secs(90);
/// Longer than what may hold a side up: a silent connection in OpenSent (4 min) and the longest back-off.
const HEALING: Duration = Duration::from_secs(480);
/// Longer than a cut connection may go unnoticed.
const SETTLING: Duration = Duration::from_secs(20);

impl Link {
    fn of_seed(seed: u64) -> Self {
        let passive = match seed % 4 {
            0 => [true, false],
            1 => [false, true],
            _ => [false, false],
        };
        Link::between(Name::new("peer").unwrap(), passive, seed, Instant::now())
    }

    fn run_for(&mut self, duration: Duration) {
        self.handle_timeout(self.now + duration);
    }

    fn suffer_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.lossy = 10;
        while self.now < end {
            self.fault();
            let pause = Duration::from_millis(self.rng.below(6_000));
            self.run_for(pause.min(end - self.now));
        }
        self.lossy = 0;
    }

    fn fault(&mut self) {
        let side = self.rng.below(2) as usize;
        match self.rng.below(8) {
            0 => {
                let desired = self.sides[side].desired.clone();
                let farewell = if self.rng.below(2) == 0 { Farewell::Reset } else { Farewell::Nothing };
                self.restart(side, farewell);
                self.sides[side].desired = desired;
                self.serve(side);
            }
            1 => {
                let until = self.now + Duration::from_millis(self.rng.below(20_000));
                self.freeze(side, until);
            }
            2 | 3 => match self.rng.below(4) {
                0 | 1 => self.reset(),
                how => self.cut(how == 2),
            },
            _ => {
                let (hosts, first) = (self.rng.below(8) as u8, self.rng.below(4) as u8);
                let med = self.rng.below(3) as u32;
                self.want(side, first..first + hosts, med);
            }
        }
    }

    /// A side wants these host numbers announced, with this MED.
    fn want(&mut self, side: usize, hosts: impl Iterator<Item = u8>, med: u32) {
        let prefixes: Vec<_> = hosts.map(|host| format!("192.0.2.{host}/32")).collect();
        let routes: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), med)).collect();
        let version = self.sides[side].desired.version + 1;
        self.sides[side].desired = Arc::new(fixture::decision(version, &routes, self.now));
        self.serve(side);
    }

    fn sessions(&self) -> [u64; 2] {
        [self.sides[0].ups, self.sides[1].ups]
    }

    /// Both Established over one connection, each holding what the other wants announced.
    fn check_converged(&self) {
        assert!(self.is_established(), "{:?}", self.states());
        let shared = self.connections.values().filter(|tcp| {
            (0..2).all(|side| tcp.ends[side].is_some() && tcp.ends[side] == self.sides[side].session_id())
        });
        assert_eq!(shared.count(), 1, "the sessions are over different connections");
        for side in 0..2 {
            let held = self.sides[side].received().unwrap().iter();
            let held: BTreeMap<IpNet, u32> = held.map(|(prefix, path)| (*prefix, path.med)).collect();
            let wanted = self.sides[1 - side].desired.routes.iter();
            assert_eq!(held, wanted.map(|(prefix, route)| (*prefix, route.attributes.med)).collect());
        }
    }
}

fn run(seed: u64) {
    let mut link = Link::of_seed(seed);
    link.suffer_for(TROUBLE);
    let mut healing = Duration::ZERO;
    loop {
        let before = (link.is_established(), link.sessions());
        link.run_for(SETTLING);
        healing += SETTLING;
        if before == (true, link.sessions()) && link.is_established() || healing >= HEALING {
            break;
        }
    }
    link.check_converged();
}

#[test]
fn after_any_trouble_two_speakers_agree_again() {
    crate::fixture::for_each_seed(SEEDS, run);
}

/// A second attempt is rarely needed, where each side is Established on another connection for a moment (RFC 4271 §6.8
/// has both closed then).
#[test]
fn without_trouble_two_speakers_are_established_within_two_seconds() {
    for seed in 0..200 {
        let mut link = Link::of_seed(seed);
        link.run_for(Duration::from_secs(2));
        assert_eq!(link.states(), [PeerState::Established; 2], "seed {seed}");
    }
}
