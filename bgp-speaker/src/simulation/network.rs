//! One link between two speakers: TCP as it behaves on a bad day, in virtual time. What goes wrong, and when, is the
//! caller's to say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use config::Name;
use ipnet::IpNet;

use super::side::{Path, Request, Side};
use crate::fsm::ConnId;
use crate::route::RouteSet;
use crate::status::{PeerEvent, PeerState};

pub(super) const OURS: usize = 0;
pub(super) const PEERS: usize = 1;

/// What the other side hears of one that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    Nothing,
    Reset,
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
    /// A side that did nothing goes on, unless it was frozen for longer meanwhile.
    Thaw(usize),
}

/// One TCP connection; `ends[side]` is the id by which a side knows it.
#[derive(Debug)]
pub(super) struct Tcp {
    dialler: usize,
    pub(super) ends: [Option<ConnId>; 2],
    /// Octets from a side are lost on the way, for good.
    cut: [bool; 2],
    /// Octets from a side that have arrived.
    arrived: [u64; 2],
    /// Octets do not overtake: the next ones from a side arrive after this.
    last: [Instant; 2],
}

/// Our speaker, its peer, and what is between them.
pub struct Link {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) sides: [Side; 2],
    /// Until when a side does nothing at all.
    frozen: [Instant; 2],
    /// What happened to a side meanwhile, in order.
    waiting: [VecDeque<Happening>; 2],
    /// The timer that is planned already.
    alarm: [Option<Instant>; 2],
    pub(super) connections: BTreeMap<u64, Tcp>,
    happenings: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    planned: u64,
    /// Of a hundred dials, how many are lost, and of those that are not, how many refused.
    pub(super) lossy: u64,
    /// Until when the peer refuses connections.
    refuses: Instant,
}

impl Link {
    /// Both sides dial, except for the `passive` ones; ours comes first.
    pub(super) fn between(peer: Name, passive: [bool; 2], seed: u64, now: Instant) -> Self {
        let sides =
            [Side::new(peer.clone(), 0, passive[0], seed, now), Side::new(peer, 1, passive[1], !seed, now)];
        let mut link = Link {
            now,
            rng: Rng(seed),
            sides,
            frozen: [now; 2],
            waiting: [VecDeque::new(), VecDeque::new()],
            alarm: [None; 2],
            connections: BTreeMap::new(),
            happenings: BinaryHeap::new(),
            planned: 0,
            lossy: 0,
            refuses: now,
        };
        link.serve(OURS);
        link.serve(PEERS);
        link
    }

    /// To the peer of this name, which both dials and is dialled.
    pub fn new(peer: Name, seed: u64, now: Instant) -> Self {
        Self::between(peer, [false; 2], seed, now)
    }

    /// When [`Link::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.happenings.peek().map(|Reverse((at, _, _))| *at)
    }

    /// All that happens up to `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|at| at <= now) {
            let Some(Reverse((at, _, happening))) = self.happenings.pop() else { break };
            self.now = at.max(self.now);
            self.happen(happening);
        }
        self.now = now;
    }

    /// What our speaker is to announce.
    pub fn set_desired(&mut self, desired: Arc<RouteSet>, now: Instant) {
        self.handle_timeout(now);
        self.sides[OURS].desired = desired;
        self.serve(OURS);
    }

    /// What our speaker has told since this was last called.
    pub fn take_events(&mut self) -> Vec<PeerEvent> {
        std::mem::take(&mut self.sides[OURS].events)
    }

    /// As [`crate::Speaker::settled`]: the peer's TCP has acknowledged everything up to `version`, or there is no session.
    pub fn is_settled(&self, version: u64) -> bool {
        let ours = &self.sides[OURS];
        ours.state() != PeerState::Established || ours.version_acknowledged() >= version
    }

    /// Whether both sides think so.
    pub fn is_established(&self) -> bool {
        self.states() == [PeerState::Established; 2]
    }

    /// Whether ours thinks so.
    pub fn is_up(&self) -> bool {
        self.sides[OURS].state() == PeerState::Established
    }

    /// What the peer holds from us; `None`: it has no session.
    pub fn held(&self) -> Option<&BTreeMap<IpNet, Path>> {
        self.sides[PEERS].received()
    }

    pub(super) fn states(&self) -> [PeerState; 2] {
        [self.sides[0].state(), self.sides[1].state()]
    }

    /// The peer does nothing at all until then; its kernel still acknowledges.
    pub fn freeze_peer(&mut self, until: Instant) {
        self.freeze(PEERS, until);
    }

    /// The peer refuses connections until then.
    pub fn refuse(&mut self, until: Instant) {
        self.refuses = until;
    }

    /// The newest connection is reset, and both sides hear it.
    pub fn reset(&mut self) {
        let Some((&number, _)) = self.connections.iter().next_back() else { return };
        self.plan_after(Duration::ZERO, Happening::End(number, 0));
        self.plan_after(Duration::ZERO, Happening::End(number, 1));
        self.handle_timeout(self.now);
    }

    /// The newest connection is cut from our side on, and from the peer's too if `both`; nobody is told.
    pub fn cut(&mut self, both: bool) {
        if let Some(mut newest) = self.connections.last_entry() {
            // What is cut stays cut.
            let tcp = newest.get_mut();
            tcp.cut = [true, both || tcp.cut[1]];
        }
    }

    /// Our process dies, and its sockets with it; another begins at `again`.
    pub fn crash(&mut self, again: Instant) {
        self.restart(OURS, Farewell::Reset);
        self.freeze(OURS, again);
    }

    /// The peer dies and comes back empty.
    pub fn restart_peer(&mut self, farewell: Farewell) {
        self.restart(PEERS, farewell);
    }

    /// Our speaker leaves with Cease/Administrative Shutdown, for good.
    pub fn shut_down(&mut self) {
        self.sides[OURS].stop(self.now);
        self.serve(OURS);
    }

    pub(super) fn freeze(&mut self, side: usize, until: Instant) {
        self.frozen[side] = self.frozen[side].max(until);
        self.plan(until, Happening::Thaw(side));
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
            Happening::Thaw(_) => None,
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
    pub(super) fn serve(&mut self, side: usize) {
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
        if self.chance(self.lossy) {
            return;
        }
        let delay = self.delay();
        self.plan_after(delay, Happening::Syn(number));
    }

    fn syn(&mut self, number: u64) {
        let Some(to) = self.connections.get(&number).map(|tcp| 1 - tcp.dialler) else { return };
        let refused = self.chance(self.lossy) || (to == PEERS && self.now < self.refuses);
        let accepted = if refused { None } else { self.sides[to].accept(self.now) };
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

    /// A side dies and comes back empty.
    pub(super) fn restart(&mut self, side: usize, farewell: Farewell) {
        let seed = self.rng.next();
        self.sides[side] = self.sides[side].anew(seed, self.now);
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let Some(tcp) = self.connections.get_mut(&number) else { continue };
            tcp.ends[side] = None;
            if farewell == Farewell::Reset {
                self.plan_after(Duration::ZERO, Happening::End(number, 1 - side));
            }
        }
        self.handle_timeout(self.now);
        self.serve(side);
    }

    fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.rng.below(100) < percent
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(100 + self.rng.below(40_000))
    }
}

/// splitmix64.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
