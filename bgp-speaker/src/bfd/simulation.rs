//! Two of our state machines over a bad network with virtual time, thousands of seeds per run.
//!
//! A seed decides everything: timers of both sides, loss, delay, reordering, copies, spells of silence in one or both
//! directions, sides that freeze, restart, change their timers or are held down. After every step the invariants of
//! [`World::check`] hold; when the network heals, both sides come Up, agree on the timers and stay Up.
//! `SIMULATION_SEED=n` replays one, `SIMULATION_SEEDS=n` runs more.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin; time is virtual")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::demux::{self, Identity, Neighbor};
use super::packet::{Discard, LENGTH, SessionState};
use super::sm::{Action, Machine};
use crate::fsm::Jitter;

const SEEDS: u64 = 3000;
const TROUBLE: Duration = Duration::from_secs(40);
/// From the network's healing until both are Up: what one still believes dies within the longest Detection Time (1.8 s at
/// 600 ms, 3 s at one packet a second), then three packets at one a second, and the Poll Sequences.
const HEALING: Duration = Duration::from_secs(9);
const STEADY: Duration = Duration::from_secs(10);
/// The longest a packet is under way.
const MAX_DELAY: Duration = Duration::from_millis(120);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Timer(usize),
    /// A packet arrives at a side.
    Packet(usize, [u8; LENGTH]),
    Fault,
    /// A frozen side goes on.
    Thaw(usize),
}

struct Side {
    machine: Machine,
    timers: config::Bfd,
    frozen: bool,
    /// What arrived while frozen, as in a socket's buffer.
    buffered: Vec<[u8; LENGTH]>,
    held_down: bool,
    /// When it last was Init or Up.
    at_least_init: Option<Instant>,
    /// When it was last handed a packet, or thawed; and the longest Detection Time it had since.
    heard: Instant,
    patience: Duration,
    downs: u32,
    /// The timer that is planned already.
    alarm: Option<Instant>,
}

struct World {
    now: Instant,
    random: Jitter,
    sides: [Side; 2],
    /// Packets to a side are lost until then.
    silence: [Instant; 2],
    loss_percent: u32,
    faults: bool,
    happenings: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    planned: u64,
}

fn identity(side: usize, machine: &Machine) -> Identity {
    let address = [192, 0, 2, 1 - side as u8].into();
    let neighbor = Neighbor { address, scope: 0, multihop: false };
    Identity {
        neighbor,
        discriminator: machine.discriminator(),
        remote: machine.known_neighbor(),
        min_hop_limit: 255,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut random = Jitter::new(seed);
        let sides = [0, 1].map(|_| {
            let timers = draw_timers(&mut random);
            let machine =
                Machine::new(timers, draw_discriminator(&mut random), draw(&mut random, 1 << 30), now);
            let (frozen, held_down, buffered) = (false, false, Vec::new());
            let (at_least_init, patience) = (None, Duration::ZERO);
            Side {
                machine,
                timers,
                frozen,
                buffered,
                held_down,
                at_least_init,
                heard: now,
                patience,
                downs: 0,
                alarm: None,
            }
        });
        let (silence, happenings) = ([now; 2], BinaryHeap::new());
        let mut world =
            World { now, random, sides, silence, loss_percent: 0, faults: false, happenings, planned: 0 };
        world.serve(0);
        world.serve(1);
        world
    }

    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.random, below)
    }

    fn plan(&mut self, at: Instant, happening: Happening) {
        self.planned += 1;
        self.happenings.push(Reverse((at, self.planned, happening)));
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.happenings.peek().is_some_and(|Reverse((at, _, _))| *at <= end) {
            let Some(Reverse((at, _, happening))) = self.happenings.pop() else { break };
            self.now = self.now.max(at);
            self.happen(happening);
            self.check();
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Timer(side) => {
                if self.sides[side].alarm == Some(self.now) && !self.sides[side].frozen {
                    self.sides[side].alarm = None;
                    self.sides[side].machine.handle_timeout(self.now);
                    self.serve(side);
                }
            }
            Happening::Packet(side, octets) if self.sides[side].frozen => {
                self.sides[side].buffered.push(octets);
            }
            Happening::Packet(side, octets) => self.deliver(side, &octets),
            Happening::Fault => self.fault(),
            Happening::Thaw(side) => self.thaw(side),
        }
    }

    fn deliver(&mut self, side: usize, octets: &[u8]) {
        let to = &mut self.sides[side];
        let identity = identity(side, &to.machine);
        match demux::select(octets, identity.neighbor, Some(255), [identity]) {
            Ok((_, packet)) => {
                to.machine.handle_packet(&packet, self.now);
                (to.heard, to.patience) = (self.now, Duration::ZERO);
            }
            // A neighbor that has not noticed our restart, or whose restart we have not noticed.
            Err(Discard::UnknownSession) => {}
            Err(Discard::YourDiscriminator) if identity.remote.is_some() => {}
            Err(discard) => panic!("{discard}"),
        }
        self.serve(side);
    }

    /// What the driver does after a late wake-up: everything that came first, then the timers.
    fn thaw(&mut self, side: usize) {
        self.sides[side].frozen = false;
        for octets in std::mem::take(&mut self.sides[side].buffered) {
            self.deliver(side, &octets);
        }
        self.sides[side].machine.handle_timeout(self.now);
        self.serve(side);
        self.sides[side].heard = self.now;
    }

    /// Carries out what a side wants.
    fn serve(&mut self, side: usize) {
        while let Some(action) = self.sides[side].machine.poll_action() {
            match action {
                Action::Transmit(packet) => self.send(1 - side, packet.encode()),
                Action::Changed { to, reason } => {
                    if to == SessionState::Up {
                        self.check_partner_was_ready(1 - side);
                    }
                    self.sides[side].downs += u32::from(reason.is_some());
                }
            }
        }
        let side_state = &mut self.sides[side];
        if side_state.machine.state() >= SessionState::Init {
            side_state.at_least_init = Some(self.now);
        }
        side_state.patience =
            side_state.patience.max(side_state.machine.detection_time().unwrap_or_default());
        let next = side_state.machine.poll_timeout();
        if let Some(at) = next.filter(|_| side_state.alarm != next) {
            side_state.alarm = next;
            self.plan(at, Happening::Timer(side));
        }
    }

    fn send(&mut self, to: usize, octets: [u8; LENGTH]) {
        let lost = self.silence[to] > self.now || self.draw(100) < u64::from(self.loss_percent);
        let copies = if lost { 0 } else { 1 + u64::from(self.faults && self.draw(50) == 0) };
        for _ in 0..copies {
            let most = if self.faults { MAX_DELAY } else { Duration::from_millis(5) };
            let delay = Duration::from_micros(self.draw(most.as_micros() as u64));
            self.plan(self.now + delay, Happening::Packet(to, octets));
        }
    }

    fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let side = self.draw(2) as usize;
        let spell = Duration::from_millis(50 + self.draw(4000));
        match self.draw(8) {
            0 => self.silence[side] = self.now + spell,
            1 => self.silence = [self.now + spell; 2],
            2 if !self.sides[side].frozen => {
                self.sides[side].frozen = true;
                self.plan(self.now + spell, Happening::Thaw(side));
            }
            3 => self.restart(side),
            4 => {
                let timers = draw_timers(&mut self.random);
                self.sides[side].timers = timers;
                self.sides[side].machine.configure(timers, self.now);
                self.serve(side);
            }
            5 => {
                self.sides[side].held_down ^= true;
                self.hold(side);
            }
            _ => self.loss_percent = self.draw(60) as u32,
        }
        let pause = Duration::from_millis(self.draw(3000));
        self.plan(self.now + pause, Happening::Fault);
    }

    fn restart(&mut self, side: usize) {
        let discriminator = draw_discriminator(&mut self.random);
        let seed = self.draw(1 << 30);
        let side_state = &mut self.sides[side];
        side_state.machine = Machine::new(side_state.timers, discriminator, seed, self.now);
        side_state.heard = self.now;
        self.hold(side);
    }

    fn hold(&mut self, side: usize) {
        let side_state = &mut self.sides[side];
        if side_state.held_down {
            side_state.machine.disable(self.now);
        } else {
            side_state.machine.enable(self.now);
        }
        self.serve(side);
    }

    /// Nobody comes Up but on the word of a neighbor that was at least Init when it gave it.
    fn check_partner_was_ready(&self, partner: usize) {
        let oldest = self.now - MAX_DELAY - Duration::from_secs(5); // a frozen side reads old packets
        let ready = self.sides[partner].at_least_init.is_some_and(|at| at >= oldest);
        assert!(ready, "side {} is Up, its neighbor never was Init", 1 - partner);
    }

    fn check(&self) {
        for (number, side) in self.sides.iter().enumerate().filter(|(_, side)| !side.frozen) {
            let state = side.machine.state();
            assert_eq!(side.held_down, state == SessionState::AdminDown, "side {number}");
            assert!(side.machine.poll_timeout().is_some(), "side {number} is stuck in {state}");
            // A packet, or being frozen, accounts for one Detection Time; the grace for less than another.
            let silent = self.now - side.heard;
            let limit = side.patience * 2 + Duration::from_millis(1);
            assert!(
                state < SessionState::Init || silent <= limit,
                "side {number} is {state} after {silent:?}"
            );
        }
    }

    fn heal(&mut self) {
        (self.faults, self.loss_percent, self.silence) = (false, 0, [self.now; 2]);
        for side in 0..2 {
            if self.sides[side].frozen {
                self.thaw(side);
            }
            self.sides[side].held_down = false;
            self.hold(side);
        }
    }

    fn check_converged(&self) {
        let [a, b] = &self.sides;
        for (own, other) in [(a, b), (b, a)] {
            assert_eq!(own.machine.state(), SessionState::Up);
            assert!(!own.machine.is_polling(), "every Poll Sequence has ended");
            assert_eq!(own.machine.remote().discriminator, Some(other.machine.discriminator()));
            let interval = own.timers.min_tx.max(other.timers.min_rx);
            assert_eq!(own.machine.transmit_interval(), Some(interval));
            let detection = interval * u32::from(own.timers.multiplier);
            assert_eq!(other.machine.detection_time(), Some(detection));
        }
    }
}

fn draw(random: &mut Jitter, below: u64) -> u64 {
    let thousandths = random.thousandths(Duration::from_secs(1), 0..=999_999_999);
    // 64 fresh bits would do; a number of milliseconds below a thousand million is what the jitter gives.
    thousandths.as_millis() as u64 % below
}

fn draw_discriminator(random: &mut Jitter) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(draw(random, 1 << 29) as u32)
}

fn draw_timers(random: &mut Jitter) -> config::Bfd {
    let mut interval = || Duration::from_millis(50 + draw(random, 12) * 50);
    let (min_tx, min_rx) = (interval(), interval());
    config::Bfd { min_tx, min_rx, multiplier: 2 + draw(random, 4) as u8 }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    world.faults = true;
    world.plan(world.now, Happening::Fault);
    world.run_for(TROUBLE);
    world.heal();
    world.run_for(HEALING);
    world.check_converged();
    let downs = world.sides.each_ref().map(|side| side.downs);
    world.run_for(STEADY);
    world.check_converged();
    assert_eq!(world.sides.each_ref().map(|side| side.downs), downs, "nothing goes down without a fault");
}

#[test]
fn after_any_trouble_two_sessions_come_up_agree_and_stay_up() {
    crate::fixture::for_each_seed(SEEDS, run);
}

#[test]
fn without_trouble_two_sessions_are_up_within_two_seconds() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        world.run_for(Duration::from_secs(2));
        assert_eq!(
            world.sides.each_ref().map(|side| side.machine.state()),
            [SessionState::Up; 2],
            "seed {seed}"
        );
    }
}
