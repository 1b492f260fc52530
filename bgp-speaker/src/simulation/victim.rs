//! Our speaker with whoever is at the other end: the real machine, framer and announcer, no network. After every event it
//! is checked; what it cannot have done right panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only ever built for tests: to panic is how they fail"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BufMut;
use config::{Asn, AttributeOverrides, Family, HoldTime, Name, RouterId};

use crate::announcer::Announcer;
use crate::dialect::{Dialect, NextHops};
use crate::fsm::{Action, ConnId, Event, Params, PeerFsm, Slot};
use crate::policy::Policy;
use crate::route::RouteSet;
use crate::session::ack_limit;
use crate::status::{Negotiated, PeerState};
use crate::wire::{Frame, Framer, HEADER_LEN, MAX_MESSAGE_LEN, MessageKind, Notification};

/// What may wait for a peer that does not read: one answer to everything it asked, and KEEPALIVEs for eight minutes.
const MAX_PENDING: usize = 64 * 1024;
/// Octets of one read.
const READ: usize = 1024;

/// A connection as we see it.
pub(super) struct Wire {
    pub(super) id: ConnId,
    framer: Framer,
    /// Octets that came and are no whole message yet.
    unread: usize,
    /// Octets that TCP has not taken.
    pending: usize,
    queued: u64,
    /// The peer takes what we send.
    pub(super) reads: bool,
    /// The peer has sent something that is not its next whole message.
    pub(super) is_dirty: bool,
    has_left: bool,
}

pub(super) struct Victim {
    pub(super) params: Params,
    fsm: PeerFsm,
    pub(super) now: Instant,
    pub(super) dial: Option<ConnId>,
    pub(super) wires: Vec<Wire>,
    /// Connections and dials that have ended.
    pub(super) ended: Vec<ConnId>,
    session: Option<(ConnId, Announcer)>,
    desired: Arc<RouteSet>,
    pub(super) ups: u64,
    downs: u64,
    /// NOTIFICATIONs since they were last taken.
    said: Vec<(ConnId, Notification)>,
}

impl Victim {
    pub(super) fn new(passive: bool, has_key: bool, seed: u64, now: Instant) -> Self {
        let params = Params {
            local_as: Asn::new(64512).unwrap(),
            router_id: RouterId::new([10, 0, 0, 5].into()).unwrap(),
            remote_as: Asn::new(64513).unwrap(),
            hold_time: HoldTime::from_secs(9).unwrap(),
            families: vec![Family::Ipv4],
            passive,
            role: None,
            role_strict: false,
            extended_next_hop: false,
            has_key,
            connect_retry: Duration::from_secs(2),
        };
        let fsm = PeerFsm::new(params.clone(), seed);
        let desired = Arc::new(RouteSet::empty(now));
        let (wires, ended, said) = (vec![], vec![], vec![]);
        let mut victim = Victim {
            params,
            fsm,
            now,
            dial: None,
            wires,
            ended,
            session: None,
            desired,
            ups: 0,
            downs: 0,
            said,
        };
        victim.event(Event::Start);
        victim
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        self.fsm.handle(event, self.now);
        self.carry_out();
    }

    /// An operator has the peer shut down and up again.
    pub(super) fn stop_and_start(&mut self, farewell: Notification) {
        self.fsm.handle(Event::Stop(farewell), self.now);
        self.event(Event::Start);
    }

    /// What is to be announced.
    pub(super) fn want(&mut self, desired: Arc<RouteSet>) {
        self.desired = desired;
        self.carry_out();
    }

    pub(super) fn state(&self, slot: Slot) -> PeerState {
        let [outbound, inbound] = self.fsm.states();
        if slot == Slot::Outbound { outbound } else { inbound }
    }

    pub(super) fn take_said(&mut self) -> Vec<(ConnId, Notification)> {
        std::mem::take(&mut self.said)
    }

    pub(super) fn wire(&mut self, id: ConnId) -> Option<&mut Wire> {
        self.wires.iter_mut().find(|wire| wire.id == id)
    }

    /// The dial in progress succeeds.
    pub(super) fn connect(&mut self) {
        let Some(id) = self.dial.take() else { return };
        self.open(id);
        self.event(Event::Connected(id));
    }

    /// The peer connects; whether we take it.
    pub(super) fn accept(&mut self) -> bool {
        let accepted = self.fsm.accept(self.now);
        if let Ok(id) = accepted {
            // The one that is given up for it is still to be closed.
            self.open(id);
        }
        self.carry_out();
        accepted.is_ok()
    }

    fn open(&mut self, id: ConnId) {
        let framer = Framer::default();
        let (reads, is_dirty, has_left) = (true, false, false);
        self.wires.push(Wire { id, framer, unread: 0, pending: 0, queued: 0, reads, is_dirty, has_left });
    }

    /// TCP ends.
    pub(super) fn disconnect(&mut self, id: ConnId) {
        self.event(Event::Disconnected(id, "reset".to_owned()));
    }

    /// Octets of the peer, read as the peer's task reads them.
    pub(super) fn receive(&mut self, id: ConnId, octets: &[u8]) {
        for piece in octets.chunks(READ) {
            let Some(wire) = self.wire(id) else { return };
            wire.framer.space().put_slice(piece);
            wire.unread += piece.len();
            while let Some(wire) = self.wires.iter_mut().find(|wire| wire.id == id) {
                match wire.framer.next_frame() {
                    Ok(Some(Frame { kind, body })) => {
                        wire.unread -= HEADER_LEN + body.len();
                        self.fsm.handle(Event::Received(id, Frame { kind, body }), self.now);
                    }
                    Ok(None) => break,
                    Err(error) => self.fsm.handle(Event::Malformed(id, error), self.now),
                }
                self.carry_out();
            }
        }
    }

    /// The peer takes what waits for it.
    pub(super) fn drain(&mut self, id: ConnId) {
        let Some(wire) = self.wire(id) else { return };
        (wire.reads, wire.pending) = (true, 0);
        self.event(Event::Flushed(id));
    }

    /// Time passes; what is due happens when it is.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.fsm.handle_timeout(self.now);
            self.look_for_acknowledgements();
            self.carry_out();
        }
        self.now = end;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let announcer = self.session.as_ref().and_then(|(_, announcer)| announcer.poll_timeout());
        [self.fsm.poll_timeout(), announcer].into_iter().flatten().min()
    }

    fn look_for_acknowledgements(&mut self) {
        let Some((id, announcer)) = &mut self.session else { return };
        let Some(wire) = self.wires.iter().find(|wire| wire.id == *id) else { return };
        announcer.acknowledged(wire.queued - wire.pending as u64, self.now);
        if announcer.is_overdue(self.now) {
            self.fsm.handle(Event::Unacknowledged(*id), self.now);
        }
    }

    fn carry_out(&mut self) {
        loop {
            while let Some(action) = self.fsm.poll_action() {
                self.act(action);
            }
            if !self.announce() {
                break;
            }
        }
        self.check();
    }

    fn announce(&mut self) -> bool {
        let Some((id, announcer)) = &mut self.session else { return false };
        let wire = self.wires.iter_mut().find(|wire| wire.id == *id).expect("a session has a connection");
        if wire.pending > 0 {
            return false;
        }
        let Some(batch) = announcer.next_batch(&self.desired, wire.queued, self.now).unwrap() else {
            return false;
        };
        let id = *id;
        wire.send(batch.octets.len());
        let is_flushed = wire.pending == 0;
        self.fsm.handle(Event::UpdatesSent(id), self.now);
        if is_flushed {
            self.fsm.handle(Event::Flushed(id), self.now);
        }
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial(id) => assert!(self.dial.replace(id).is_none(), "two dials at once"),
            Action::Send(id, kind, octets) => {
                let wire = self.wire(id).expect("nothing is sent on a closed connection");
                assert!(!wire.has_left, "nothing follows a NOTIFICATION");
                wire.has_left = kind == MessageKind::Notification;
                wire.send(octets.len());
                let is_flushed = wire.pending == 0;
                if kind == MessageKind::Notification {
                    self.said.push((id, Notification::decode(&octets[HEADER_LEN..]).unwrap()));
                }
                if is_flushed {
                    self.fsm.handle(Event::Flushed(id), self.now);
                }
            }
            Action::Close(id, _) => {
                let (wires, dial) = (self.wires.len(), self.dial.take_if(|dial| *dial == id));
                self.wires.retain(|wire| wire.id != id);
                self.ended.push(id);
                assert!(dial.is_some() || self.wires.len() < wires || wires == 0, "closed twice");
            }
            Action::Up(id, negotiated) => {
                self.ups += 1;
                assert_eq!(self.ups, self.downs + 1, "up twice");
                self.session = Some((id, self.announcer(&negotiated)));
            }
            Action::Down(_) => {
                self.downs += 1;
                assert_eq!(self.ups, self.downs, "down twice");
                self.session = None;
            }
            Action::Refresh(family) => {
                let (_, announcer) = self.session.as_mut().expect("only a session is asked for routes");
                announcer.refresh(family);
            }
            Action::AttemptFailed(_) | Action::Update { .. } => {}
        }
    }

    fn announcer(&self, negotiated: &Negotiated) -> Announcer {
        let next_hops = NextHops { v4: Some([10, 0, 0, 5].into()), ..NextHops::default() };
        let dialect = Dialect::of(&self.params, negotiated, next_hops);
        let (announce, degraded) = (AttributeOverrides::default(), AttributeOverrides::default());
        let policy = Policy { peer: Name::new("peer").unwrap(), announce, degraded };
        Announcer::new(policy, dialect, true, ack_limit(negotiated.hold_time), self.now)
    }

    /// What must hold after every event.
    fn check(&self) {
        let established =
            self.fsm.states().into_iter().filter(|state| *state == PeerState::Established).count();
        assert!(established <= 1, "two sessions");
        assert_eq!(established == 1, self.session.is_some());
        assert_eq!(established == 1, self.ups == self.downs + 1);
        assert!(self.wires.len() <= 2, "{} connections", self.wires.len());
        for wire in &self.wires {
            assert!(self.state(wire.id.slot) >= PeerState::OpenSent, "a connection that nobody owns");
            assert!(wire.pending <= MAX_PENDING, "{} octets wait", wire.pending);
            assert!(wire.unread <= MAX_MESSAGE_LEN + READ, "{} octets are kept", wire.unread);
        }
        let waits_for_the_peer = self.params.passive && self.fsm.state() == PeerState::Active;
        assert!(self.fsm.poll_timeout().is_some() || waits_for_the_peer, "stuck in {}", self.fsm.state());
    }
}

impl Wire {
    fn send(&mut self, octets: usize) {
        self.queued += octets as u64;
        self.pending += if self.reads { 0 } else { octets };
    }
}
