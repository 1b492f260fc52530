//! The network of the simulation: TCP as it behaves on a bad day, in virtual time.
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin; time is virtual")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::side::{Request, Side};
use crate::fsm::ConnId;
use crate::status::PeerState;

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    None,
    Many,
}

/// Something that happens at a time; ties are resolved by the order in which it was planned.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// Side's timers.
    Timer(usize),
    /// The SYN of connection number arrives.
    Syn(u64),
    /// The answer arrives back: whether it was accepted.
    Answer(u64, bool),
    /// Octets arrive at a side.
    Octets(u64, usize, Vec<u8>),
    /// The end of the stream, or a reset, arrives at a side.
    End(u64, usize),
    /// Something goes wrong.
    Fault,
    /// A side that did nothing goes on, unless it was frozen for longer meanwhile.
    Thaw(usize),
}

/// One TCP connection; `ends[side]` is the id by which a side knows it.
#[derive(Debug)]
struct Tcp {
    dialler: usize,
    ends: [Option<ConnId>; 2],
    /// Octets from a side are lost on the way, for good.
    cut: [bool; 2],
    /// Octets from a side that have arrived.
    arrived: [u64; 2],
    /// Octets do not overtake: the next ones from a side arrive after this.
    last: [Instant; 2],
}

pub(super) struct World {
    now: Instant,
    rng: Rng,
    sides: [Side; 2],
    /// Until when a side does nothing at all.
    frozen: [Instant; 2],
    /// What happened to a side meanwhile, in order.
    waiting: [VecDeque<Happening>; 2],
    /// The timer that is planned already.
    alarm: [Option<Instant>; 2],
    connections: BTreeMap<u64, Tcp>,
    happenings: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    planned: u64,
    faults: Faults,
}

impl World {
    pub(super) fn new(seed: u64, passive: [bool; 2]) -> Self {
        let now = Instant::now();
        let sides = [Side::new(0, passive[0], seed, now), Side::new(1, passive[1], seed ^ 0xABCD, now)];
        let mut world = World {
            now,
            rng: Rng(seed),
            sides,
            frozen: [now; 2],
            waiting: [VecDeque::new(), VecDeque::new()],
            alarm: [None; 2],
            connections: BTreeMap::new(),
            happenings: BinaryHeap::new(),
            planned: 0,
            faults: Faults::None,
        };
        world.serve(0);
        world.serve(1);
        world
    }

    pub(super) fn states(&self) -> [PeerState; 2] {
        [self.sides[0].state(), self.sides[1].state()]
    }

    pub(super) fn run_for(&mut self, duration: Duration, faults: Faults) {
        let end = self.now + duration;
        self.faults = faults;
        if faults == Faults::Many {
            self.plan_after(Duration::ZERO, Happening::Fault);
        }
        while self.happenings.peek().is_some_and(|Reverse((at, _, _))| *at <= end) {
            let Some(Reverse((at, _, happening))) = self.happenings.pop() else { break };
            self.now = at.max(self.now);
            self.happen(happening);
        }
        self.now = end;
    }

    pub(super) fn is_established(&self) -> bool {
        self.states() == [PeerState::Established; 2]
    }

    /// Sessions that each side ever had.
    pub(super) fn sessions(&self) -> [u64; 2] {
        [self.sides[0].sessions(), self.sides[1].sessions()]
    }

    /// Both Established over one connection, each holding what the other wants announced.
    pub(super) fn check_converged(&self) {
        assert!(self.is_established(), "{:?}", self.states());
        let shared = self.connections.values().filter(|tcp| {
            (0..2).all(|side| tcp.ends[side].is_some() && tcp.ends[side] == self.sides[side].session_id())
        });
        assert_eq!(shared.count(), 1, "the sessions are over different connections");
        for side in 0..2 {
            assert_eq!(self.sides[side].received(), Some(&self.sides[1 - side].wanted()));
        }
    }

    fn plan(&mut self, at: Instant, happening: Happening) {
        self.planned += 1;
        self.happenings.push(Reverse((at, self.planned, happening)));
    }

    fn plan_after(&mut self, delay: Duration, happening: Happening) {
        self.plan(self.now + delay, happening);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        let side = match &happening {
            Happening::Timer(side) | Happening::Octets(_, side, _) | Happening::End(_, side) => Some(*side),
            Happening::Syn(number) => self.connections.get(number).map(|tcp| 1 - tcp.dialler),
            Happening::Answer(number, _) => self.connections.get(number).map(|tcp| tcp.dialler),
            Happening::Fault | Happening::Thaw(_) => None,
        };
        if let Some(side) = side.filter(|side| self.frozen[*side] > now || !self.waiting[*side].is_empty()) {
            return self.waiting[side].push_back(happening);
        }
        match happening {
            Happening::Timer(side) => {
                if self.sides[side].poll_timeout().is_none_or(|due| due > now) {
                    return;
                }
                self.alarm[side] = None;
                self.sides[side].timeout(now);
                self.look_for_acknowledgements(side);
            }
            Happening::Syn(number) => self.syn(number),
            Happening::Answer(number, accepted) => self.answer(number, accepted),
            Happening::Octets(number, to, octets) => {
                let Some(tcp) = self.connections.get_mut(&number) else { return };
                tcp.arrived[1 - to] += octets.len() as u64;
                let Some(id) = tcp.ends[to] else { return };
                self.sides[to].receive(id, &octets, now);
            }
            Happening::End(number, to) => {
                let Some(id) = self.connections.get_mut(&number).and_then(|tcp| tcp.ends[to].take()) else {
                    return;
                };
                self.sides[to].disconnected(id, now);
            }
            Happening::Fault => self.fault(),
            Happening::Thaw(side) if self.frozen[side] <= now => {
                let waiting = std::mem::take(&mut self.waiting[side]);
                waiting.into_iter().for_each(|happening| self.happen(happening));
            }
            Happening::Thaw(_) => {}
        }
        self.serve(0);
        self.serve(1);
        self.connections.retain(|_, tcp| tcp.ends != [None, None]);
    }

    /// Does what a side wants, until it wants nothing more, and plans its next timer.
    fn serve(&mut self, side: usize) {
        if self.frozen[side] > self.now {
            return;
        }
        for request in self.sides[side].requests(self.now) {
            match request {
                Request::Dial(id) => self.dial(side, id),
                Request::Send(id, octets) => self.send(side, id, octets),
                Request::Close(id) => self.close(side, id),
            }
        }
        let due = self.sides[side].poll_timeout().map(|due| due.max(self.now));
        if let (Some(at), true) = (due, due != self.alarm[side]) {
            self.plan(at, Happening::Timer(side));
        }
        self.alarm[side] = due;
    }

    fn dial(&mut self, side: usize, id: ConnId) {
        self.planned += 1;
        let number = self.planned;
        let mut ends = [None; 2];
        ends[side] = Some(id);
        let tcp = Tcp { dialler: side, ends, cut: [false; 2], arrived: [0; 2], last: [self.now; 2] };
        self.connections.insert(number, tcp);
        if self.chance(10) {
            return;
        }
        let delay = self.delay();
        self.plan_after(delay, Happening::Syn(number));
    }

    fn syn(&mut self, number: u64) {
        let Some(to) = self.connections.get(&number).map(|tcp| 1 - tcp.dialler) else { return };
        let accepted = if self.chance(10) { None } else { self.sides[to].accept(self.now) };
        if let Some(tcp) = self.connections.get_mut(&number) {
            tcp.ends[to] = accepted;
        }
        let delay = self.delay();
        let answer = self.plan_in_order(number, to, delay);
        self.plan(answer, Happening::Answer(number, accepted.is_some()));
    }

    fn answer(&mut self, number: u64, accepted: bool) {
        let Some(tcp) = self.connections.get_mut(&number) else { return };
        let side = tcp.dialler;
        let Some(id) = tcp.ends[side] else {
            // Given up meanwhile: the answer gets a reset.
            return self.plan_after(Duration::ZERO, Happening::End(number, 1 - side));
        };
        if accepted {
            self.sides[side].connected(id, self.now);
        } else {
            tcp.ends[side] = None;
            self.sides[side].disconnected(id, self.now);
        }
    }

    fn send(&mut self, side: usize, id: ConnId, octets: BytesMut) {
        let Some(number) = self.number_of(side, id) else { return };
        if self.connections.get(&number).is_none_or(|tcp| tcp.cut[side]) {
            return;
        }
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let size = 1 + self.rng.below(rest.len() as u64) as usize;
            let (chunk, tail) = rest.split_at(size);
            rest = tail;
            let delay = self.delay();
            let at = self.plan_in_order(number, side, delay);
            self.plan(at, Happening::Octets(number, 1 - side, chunk.to_vec()));
        }
    }

    fn close(&mut self, side: usize, id: ConnId) {
        let Some(number) = self.number_of(side, id) else { return };
        let Some(tcp) = self.connections.get_mut(&number) else { return };
        tcp.ends[side] = None;
        if !tcp.cut[side] {
            let delay = self.delay();
            let at = self.plan_in_order(number, side, delay);
            self.plan(at, Happening::End(number, 1 - side));
        }
    }

    /// When what `from` sends now arrives: after `delay`, and after what it sent before.
    fn plan_in_order(&mut self, number: u64, from: usize, delay: Duration) -> Instant {
        let at = self.now + delay;
        let Some(tcp) = self.connections.get_mut(&number) else { return at };
        tcp.last[from] = tcp.last[from].max(at);
        tcp.last[from]
    }

    fn number_of(&self, side: usize, id: ConnId) -> Option<u64> {
        self.connections.iter().find(|(_, tcp)| tcp.ends[side] == Some(id)).map(|(number, _)| *number)
    }

    fn look_for_acknowledgements(&mut self, side: usize) {
        let Some(id) = self.sides[side].session_id() else { return };
        let Some(tcp) = self.number_of(side, id).and_then(|number| self.connections.get(&number)) else {
            return;
        };
        self.sides[side].acknowledged(id, tcp.arrived[side], self.now);
    }

    fn fault(&mut self) {
        if self.faults == Faults::None {
            return;
        }
        let side = self.rng.below(2) as usize;
        match self.rng.below(8) {
            0 => self.restart(side),
            1 => {
                let until = self.now + Duration::from_millis(self.rng.below(20_000));
                self.frozen[side] = self.frozen[side].max(until);
                self.plan(until, Happening::Thaw(side));
            }
            2 | 3 => self.break_connection(),
            _ => {
                let (hosts, first) = (self.rng.below(8) as u8, self.rng.below(4) as u8);
                let med = self.rng.below(3) as u32;
                self.sides[side].want(first..first + hosts, med, self.now);
            }
        }
        let pause = Duration::from_millis(self.rng.below(6_000));
        self.plan_after(pause, Happening::Fault);
    }

    /// The newest connection: reset, or cut in one or both directions without a word.
    fn break_connection(&mut self) {
        let Some((&number, _)) = self.connections.iter().next_back() else { return };
        let how = self.rng.below(4) as usize;
        if how < 2 {
            self.plan_after(Duration::ZERO, Happening::End(number, 0));
            return self.plan_after(Duration::ZERO, Happening::End(number, 1));
        }
        if let Some(tcp) = self.connections.get_mut(&number) {
            // What is cut stays cut.
            tcp.cut = [true, how == 2 || tcp.cut[1]];
        }
    }

    /// A side dies and comes back empty; the other hears a reset, or nothing.
    fn restart(&mut self, side: usize) {
        let (wanted, seed) = (self.sides[side].wanted(), self.rng.next());
        let passive = self.sides[side].is_passive();
        self.sides[side] = Side::new(side as u8, passive, seed, self.now);
        let med = wanted.values().next().copied().unwrap_or_default();
        let hosts = wanted.keys().map(|prefix| match prefix.addr() {
            std::net::IpAddr::V4(address) => address.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        });
        self.sides[side].want(hosts, med, self.now);
        let heard = self.rng.below(2) == 0;
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let Some(tcp) = self.connections.get_mut(&number) else { continue };
            tcp.ends[side] = None;
            if heard {
                self.plan_after(Duration::ZERO, Happening::End(number, 1 - side));
            }
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.faults == Faults::Many && self.rng.below(100) < percent
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(100 + self.rng.below(40_000))
    }
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
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
