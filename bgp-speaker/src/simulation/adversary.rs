//! Our speaker against a peer that does whatever it likes, in virtual time, thousands of seeds per run.
//!
//! Any message in any state, whole, cut off, changed or one after the other without end; connections from both sides,
//! taken, refused, silent, reset and half-open; nothing read for minutes. After every event [`super::victim`] is checked.
//! To every whole message exactly the NOTIFICATION must come that the RFCs have for it in that state, and to a peer that
//! behaves after all that, a session. `SIMULATION_SEED=n` replays one, `SIMULATION_SEEDS=n` runs more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only ever built for tests: to panic is how they fail"
)]
#![allow(clippy::disallowed_methods, reason = "an arbitrary origin; time is virtual")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use config::{Asn, Family, HoldTime, RouterId};

use super::network::Rng;
use super::victim::Victim;
use crate::fixture;
use crate::fsm::{ConnId, Event, Slot};
use crate::status::PeerState;
use crate::wire::{Capability, Cease, Frame, MessageKind, Notification, keepalive};

const SEEDS: u64 = 2000;
const STEPS: usize = 120;
const FLOOD: usize = 200;

/// A whole message, or what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Open,
    OpenOfAnotherVersion,
    OpenOfAnotherAs,
    OpenWithoutIdentifier,
    Keepalive,
    Update,
    UpdateWithBadOrigin,
    UpdateThatOverruns,
    UpdateWithBadPrefix,
    Refresh,
    RefreshTooLong,
    Notification,
    NoMarker,
    TooShort,
    UnknownType,
}

use Piece::*;

const PIECES: [Piece; 15] = [
    Open,
    OpenOfAnotherVersion,
    OpenOfAnotherAs,
    OpenWithoutIdentifier,
    Keepalive,
    Update,
    UpdateWithBadOrigin,
    UpdateThatOverruns,
    UpdateWithBadPrefix,
    Refresh,
    RefreshTooLong,
    Notification,
    NoMarker,
    TooShort,
    UnknownType,
];

impl Piece {
    fn octets(self, router_id: [u8; 4]) -> Vec<u8> {
        let open = |change: fn(&mut [u8])| {
            let mut octets = their_open(router_id).encode().to_vec();
            change(&mut octets);
            octets
        };
        match self {
            Open => open(|_| {}),
            OpenOfAnotherVersion => open(|octets| octets[19] = 3),
            OpenOfAnotherAs => {
                let another = Asn::new(64999).unwrap();
                let capabilities = Capability::offer(another, &[Family::Ipv4]);
                crate::wire::Open { my_as: 64999, capabilities, ..their_open(router_id) }.encode().to_vec()
            }
            OpenWithoutIdentifier => open(|octets| octets[24..28].fill(0)),
            Keepalive => keepalive().to_vec(),
            Update => message(2, &[0, 2, 8, 10, 0, 0]),
            UpdateWithBadOrigin => message(2, &[0, 0, 0, 4, 0x40, 1, 1, 9, 8, 10]),
            UpdateThatOverruns => message(2, &[0, 0, 0, 9, 0]),
            UpdateWithBadPrefix => message(2, &[0, 0, 0, 0, 33]),
            Refresh => message(5, &[0, 1, 0, 1]),
            RefreshTooLong => message(5, &[0, 1, 1, 1, 0]),
            Piece::Notification => {
                crate::wire::Notification::cease(Cease::AdministrativeReset, "").encode().to_vec()
            }
            NoMarker => vec![0x47; 19],
            TooShort => [&[0xFF; 16][..], &[0, 18, 4]].concat(),
            UnknownType => message(9, &[]),
        }
    }

    /// Code and subcode of the answer, on the connection that it came on, in this state.
    fn answer(self, state: PeerState) -> Option<(u8, u8)> {
        // RFC 6608 §3.
        let unexpected = match state {
            PeerState::OpenSent => (5, 1),
            PeerState::OpenConfirm => (5, 2),
            _ => (5, 3),
        };
        let is_open_sent = state == PeerState::OpenSent;
        let is_established = state == PeerState::Established;
        match self {
            // RFC 4271 §6.1.
            NoMarker => Some((1, 1)),
            TooShort => Some((1, 2)),
            UnknownType => Some((1, 3)),
            // §6.2.
            Open => (!is_open_sent).then_some(unexpected),
            OpenOfAnotherVersion => Some(if is_open_sent { (2, 1) } else { unexpected }),
            OpenOfAnotherAs => Some(if is_open_sent { (2, 2) } else { unexpected }),
            OpenWithoutIdentifier => Some(if is_open_sent { (2, 3) } else { unexpected }),
            Keepalive => is_open_sent.then_some(unexpected),
            // RFC 7606 §2: the routes go, the session stays.
            Update | UpdateWithBadOrigin | Refresh => (!is_established).then_some(unexpected),
            // §3 (a), §5.3.
            UpdateThatOverruns => Some(if is_established { (3, 1) } else { unexpected }),
            UpdateWithBadPrefix => Some(if is_established { (3, 10) } else { unexpected }),
            // RFC 7313 §5.
            RefreshTooLong => Some(if is_established { (7, 1) } else { unexpected }),
            // RFC 4271 §6.4.
            Piece::Notification => None,
        }
    }
}

fn their_open(router_id: [u8; 4]) -> crate::wire::Open {
    let asn = Asn::new(64513).unwrap();
    crate::wire::Open {
        my_as: crate::wire::Open::short_as(asn),
        hold_time: HoldTime::from_secs(9).unwrap(),
        router_id: RouterId::new(router_id.into()).unwrap(),
        capabilities: Capability::offer(asn, &[Family::Ipv4]),
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = 19 + body.len() as u16;
    [&[0xFF; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

struct Adversary {
    rng: Rng,
    victim: Victim,
    router_id: [u8; 4],
    version: u64,
}

impl Adversary {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let (passive, has_key) = (rng.below(4) == 0, rng.below(2) == 0);
        // Below and above ours.
        let router_id = [10, 0, 0, [1, 9][rng.below(2) as usize]];
        let victim = Victim::new(passive, has_key, rng.next(), Instant::now());
        Adversary { rng, victim, router_id, version: 0 }
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0 | 1 => self.victim.connect(),
            2 => self.victim.dial.into_iter().for_each(|id| self.victim.disconnect(id)),
            3 => _ = self.victim.accept(),
            4..=8 => self.say_something(),
            9 => self.say_it_wrong(),
            10 => self.flood(),
            11 => self.on_some_wire(|victim, id| victim.disconnect(id)),
            12 => self.read_or_not(),
            13 => self.say_it_late(),
            14 => self.local_change(),
            _ => return self.let_time_pass(),
        }
        if let Some((_, said)) = self.victim.take_said().pop() {
            assert_eq!((said.code(), said.subcode()), (6, 7), "nothing was wrong: {said:?}");
        }
    }

    fn some_wire(&mut self) -> Option<ConnId> {
        let count = self.victim.wires.len() as u64;
        self.victim.wires.get(self.rng.below(count) as usize).map(|wire| wire.id)
    }

    fn on_some_wire(&mut self, act: impl FnOnce(&mut Victim, ConnId)) {
        if let Some(id) = self.some_wire() {
            act(&mut self.victim, id);
        }
    }

    fn is_clean(&mut self, id: ConnId) -> bool {
        self.victim.wire(id).is_some_and(|wire| !wire.is_dirty)
    }

    /// A whole message, in as many pieces as it likes; every other time the one that leads on.
    fn say_something(&mut self) {
        let Some(id) = self.some_wire() else { return };
        if !self.is_clean(id) {
            return;
        }
        let state = self.victim.state(id.slot);
        let piece = match (self.rng.below(2), state) {
            (0, PeerState::OpenSent) => Open,
            (0, _) => Keepalive,
            _ => PIECES[self.rng.below(PIECES.len() as u64) as usize],
        };
        let octets = piece.octets(self.router_id);
        let (first, rest) = octets.split_at(self.rng.below(octets.len() as u64) as usize);
        let other = self.victim.state(id.slot.other());
        self.victim.receive(id, first);
        self.victim.receive(id, rest);
        let said = self.victim.take_said();
        let decides =
            matches!((piece, state), (Open, PeerState::OpenSent) | (Keepalive, PeerState::OpenConfirm));
        let collides = decides && other >= PeerState::OpenSent;
        let codes: Vec<_> = said.iter().map(|(on, said)| (*on == id, said.code(), said.subcode())).collect();
        match piece.answer(state) {
            Some((code, subcode)) => assert_eq!(codes, [(true, code, subcode)], "{piece:?} in {state}"),
            None if collides => assert!(
                matches!(codes[..], [] | [(_, 6, 7)]),
                "{piece:?} in {state} beside {other}: {codes:?}"
            ),
            None => assert_eq!(codes, [], "{piece:?} in {state}"),
        }
        if piece.answer(state).is_some() || piece == Piece::Notification {
            assert!(self.victim.wire(id).is_none(), "{piece:?} in {state} leaves the connection open");
        }
    }

    /// A message cut off, changed, or no message at all; the stream has lost its place after that.
    fn say_it_wrong(&mut self) {
        let Some(id) = self.some_wire() else { return };
        let mut octets = PIECES[self.rng.below(PIECES.len() as u64) as usize].octets(self.router_id);
        match self.rng.below(3) {
            0 => octets.truncate(self.rng.below(octets.len() as u64) as usize),
            1 => {
                for _ in 0..=self.rng.below(4) {
                    let at = self.rng.below(octets.len() as u64) as usize;
                    octets[at] = self.rng.next() as u8;
                }
            }
            _ => octets = (0..self.rng.below(6000)).map(|_| self.rng.next() as u8).collect(),
        }
        if let Some(wire) = self.victim.wire(id) {
            wire.is_dirty = true;
        }
        self.victim.receive(id, &octets);
        for (_, said) in self.victim.take_said() {
            assert!(matches!(said.code(), 1..=3 | 5..=7), "{said:?}");
        }
    }

    /// What a session may be told, over and over.
    fn flood(&mut self) {
        let Some(id) = self.some_wire() else { return };
        if !self.is_clean(id) || self.victim.state(id.slot) != PeerState::Established {
            return;
        }
        let piece = [Keepalive, Update, UpdateWithBadOrigin, Refresh][self.rng.below(4) as usize];
        self.victim.receive(id, &piece.octets(self.router_id).repeat(FLOOD));
        assert!(self.victim.take_said().is_empty(), "{piece:?}");
        assert_eq!(self.victim.state(id.slot), PeerState::Established);
    }

    fn read_or_not(&mut self) {
        let Some(id) = self.some_wire() else { return };
        match self.victim.wire(id) {
            Some(wire) if wire.reads => wire.reads = false,
            _ => self.victim.drain(id),
        }
    }

    /// Something of a connection or dial that has ended already: as if it had not been.
    fn say_it_late(&mut self) {
        let count = self.victim.ended.len() as u64;
        let Some(&id) = self.victim.ended.get(self.rng.below(count) as usize) else { return };
        let before = [Slot::Outbound, Slot::Inbound].map(|slot| self.victim.state(slot));
        self.victim.event(match self.rng.below(5) {
            0 => Event::Connected(id),
            1 => Event::Disconnected(id, "late".to_owned()),
            2 => Event::Received(id, Frame { kind: MessageKind::Keepalive, body: &[] }),
            3 => Event::Unacknowledged(id),
            _ => Event::Flushed(id),
        });
        let after = [Slot::Outbound, Slot::Inbound].map(|slot| self.victim.state(slot));
        assert_eq!(before, after, "{id:?} is over");
        assert!(self.victim.take_said().is_empty());
    }

    /// Other routes, a dead path, or a restart by the operator.
    fn local_change(&mut self) {
        let leaves = match self.rng.below(6) {
            0 => {
                let dead = Notification::cease(Cease::BfdDown, "");
                self.victim.event(Event::PathDown(dead, "silent".to_owned()));
                (6, 10)
            }
            1 => {
                let stop = Notification::cease(Cease::AdministrativeShutdown, "");
                let connected = self.victim.wires.len();
                self.victim.stop_and_start(stop);
                assert!(connected >= self.victim.wires.len());
                (6, 2)
            }
            _ => {
                self.version += 1;
                let prefixes: Vec<_> =
                    (0..self.rng.below(40)).map(|host| format!("192.0.2.{host}/32")).collect();
                let med = self.rng.below(3) as u32;
                let routes: Vec<_> = prefixes.iter().map(|prefix| (prefix.as_str(), med)).collect();
                let decision = fixture::decision(self.version, &routes, self.victim.now);
                return self.victim.want(Arc::new(decision));
            }
        };
        for (_, said) in self.victim.take_said() {
            assert_eq!((said.code(), said.subcode()), leaves);
        }
        assert!(self.victim.wires.is_empty());
    }

    fn let_time_pass(&mut self) {
        let longest = [100, 5_000, 20_000, 600_000][self.rng.below(4) as usize];
        self.victim.pass(Duration::from_millis(self.rng.below(longest)));
        for (_, said) in self.victim.take_said() {
            assert_eq!((said.code(), said.subcode()), (4, 0), "only patience ends");
        }
    }

    /// From now on a good peer.
    fn reform(&mut self) {
        for id in self.victim.wires.iter().map(|wire| wire.id).collect::<Vec<_>>() {
            self.victim.disconnect(id);
        }
        // The longest that a peer is kept Idle.
        let mut patience = Duration::from_secs(17);
        while !(self.victim.dial.is_some() || self.victim.params.passive && self.victim.accept()) {
            let pause = Duration::from_millis(50);
            self.victim.pass(pause);
            patience = patience.checked_sub(pause).expect("we dial, or accept");
        }
        self.victim.connect();
        let id = self.victim.wires[0].id;
        self.victim.receive(id, &Open.octets(self.router_id));
        self.victim.receive(id, &Keepalive.octets(self.router_id));
        assert_eq!(self.victim.state(id.slot), PeerState::Established);
    }
}

fn run(seed: u64) -> u64 {
    let mut adversary = Adversary::new(seed);
    for _ in 0..STEPS {
        adversary.step();
    }
    adversary.reform();
    adversary.victim.ups - 1
}

#[test]
fn whatever_a_peer_does_it_gets_the_answer_of_the_rfc_and_costs_no_more_than_its_session() {
    let (sessions, runs) = (AtomicU64::new(0), AtomicU64::new(0));
    fixture::for_each_seed(SEEDS, |seed| {
        sessions.fetch_add(run(seed), Ordering::Relaxed);
        runs.fetch_add(1, Ordering::Relaxed);
    });
    let (sessions, runs) = (sessions.into_inner(), runs.into_inner());
    assert!(
        sessions >= runs / 2 || runs == 1,
        "the adversary hardly gets beyond OpenConfirm: {sessions} in {runs}"
    );
}
