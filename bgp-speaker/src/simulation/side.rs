//! One speaker of the simulation: the real machine, framer and announcer, what it tells, and a record of what it saw.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only ever built for tests: to panic is how they fail"
)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use config::{Asn, AttributeOverrides, Family, HoldTime, Name, RouterId};
use ipnet::IpNet;

use crate::announcer::Announcer;
use crate::dialect::{Dialect, NextHops};
use crate::fsm::{Action, ConnId, Event, Params, PeerFsm};
use crate::policy::Policy;
use crate::route::RouteSet;
use crate::session::ack_limit;
use crate::status::{CloseReason, Negotiated, PeerEvent, PeerState};
use crate::wire::{AttributeContext, Cease, Frame, Framer, MessageKind, Notification, Update};

/// What a peer was told about a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    pub med: u32,
    pub communities: Vec<u32>,
}

/// What a side wants of the network.
#[derive(Debug)]
pub(super) enum Request {
    Dial(ConnId),
    Send(ConnId, BytesMut),
    Close(ConnId),
}

struct Connection {
    framer: Framer,
    queued: u64,
}

struct Session {
    id: ConnId,
    announcer: Announcer,
    /// What the peer announced to us on this session.
    received: BTreeMap<IpNet, Path>,
    version_acknowledged: u64,
}

pub(super) struct Side {
    /// Of the peer.
    name: Name,
    params: Params,
    fsm: PeerFsm,
    connections: HashMap<ConnId, Connection>,
    session: Option<Session>,
    pub(super) desired: Arc<RouteSet>,
    requests: Vec<Request>,
    /// Sessions that it ever had.
    pub(super) ups: u64,
    downs: u64,
    is_stopped: bool,
    pub(super) events: Vec<PeerEvent>,
}

impl Side {
    pub(super) fn new(name: Name, number: u8, passive: bool, seed: u64, now: Instant) -> Self {
        let asn = |number: u8| Asn::new(64512 + u32::from(number)).unwrap();
        let params = Params {
            local_as: asn(number),
            router_id: RouterId::new([10, 0, 0, 1 + number].into()).unwrap(),
            remote_as: asn(1 - number),
            hold_time: HoldTime::from_secs(9).unwrap(),
            families: vec![Family::Ipv4],
            passive,
            role: None,
            role_strict: false,
            extended_next_hop: false,
            has_key: false,
            connect_retry: Duration::from_secs(2),
        };
        Self::with(name, params, seed, now)
    }

    /// As it was in the beginning.
    pub(super) fn anew(&self, seed: u64, now: Instant) -> Self {
        Self::with(self.name.clone(), self.params.clone(), seed, now)
    }

    fn with(name: Name, params: Params, seed: u64, now: Instant) -> Self {
        let mut fsm = PeerFsm::new(params.clone(), seed);
        fsm.handle(Event::Start, now);
        Side {
            name,
            params,
            fsm,
            connections: HashMap::new(),
            session: None,
            desired: Arc::new(RouteSet::empty(now)),
            requests: vec![],
            ups: 0,
            downs: 0,
            is_stopped: false,
            events: vec![],
        }
    }

    pub(super) fn stop(&mut self, now: Instant) {
        self.is_stopped = true;
        self.fsm.handle(Event::Stop(Notification::cease(Cease::AdministrativeShutdown, "stops")), now);
    }
    pub(super) fn state(&self) -> PeerState {
        self.fsm.state()
    }
    pub(super) fn received(&self) -> Option<&BTreeMap<IpNet, Path>> {
        self.session.as_ref().map(|session| &session.received)
    }
    pub(super) fn version_acknowledged(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.version_acknowledged)
    }
    pub(super) fn session_id(&self) -> Option<ConnId> {
        self.session.as_ref().map(|session| session.id)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let announcer = self.session.as_ref().and_then(|session| session.announcer.poll_timeout());
        [self.fsm.poll_timeout(), announcer].into_iter().flatten().min()
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.fsm.handle_timeout(now);
    }
    pub(super) fn accept(&mut self, now: Instant) -> Option<ConnId> {
        let id = self.fsm.accept(now).ok()?;
        self.open(id);
        Some(id)
    }
    pub(super) fn connected(&mut self, id: ConnId, now: Instant) {
        self.open(id);
        self.fsm.handle(Event::Connected(id), now);
    }
    pub(super) fn disconnected(&mut self, id: ConnId, now: Instant) {
        self.fsm.handle(Event::Disconnected(id, "lost".to_owned()), now);
    }
    fn open(&mut self, id: ConnId) {
        self.connections.insert(id, Connection { framer: Framer::default(), queued: 0 });
    }

    pub(super) fn receive(&mut self, id: ConnId, octets: &[u8], now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.framer.space().put_slice(octets);
        while let Some((kind, body)) = self.next_message(id) {
            let frame = Frame { kind, body: &body };
            self.fsm.handle(Event::Received(id, frame), now);
            self.carry_out(now);
            if let (MessageKind::Update, Some(session)) = (kind, &mut self.session) {
                session.take(frame);
            }
        }
    }

    fn next_message(&mut self, id: ConnId) -> Option<(MessageKind, Vec<u8>)> {
        let framer = &mut self.connections.get_mut(&id)?.framer;
        let frame = framer.next_frame().expect("our speakers send no garbage")?;
        Some((frame.kind, frame.body.to_vec()))
    }

    /// `acknowledged` octets of connection `id` have arrived at the other side.
    pub(super) fn acknowledged(&mut self, id: ConnId, offset: u64, now: Instant) {
        let Some(session) = self.session.as_mut().filter(|session| session.id == id) else { return };
        for change in session.announcer.acknowledged(offset, now) {
            session.version_acknowledged = change.version;
            if change.is_change() {
                self.events.push(PeerEvent::Acked {
                    peer: self.name.clone(),
                    version: change.version,
                    cause: change.cause,
                    since_decided: change.age(now),
                    since_sent: change.since_queued(now),
                    withdrawn: change.withdrawn().len(),
                });
            }
        }
        if session.announcer.is_overdue(now) {
            self.fsm.handle(Event::Unacknowledged(id), now);
        }
    }

    /// What the machine and the announcer want, carried out as the peer's task does it.
    pub(super) fn requests(&mut self, now: Instant) -> Vec<Request> {
        loop {
            self.carry_out(now);
            let Some(session) = &mut self.session else { break };
            let Some(connection) = self.connections.get_mut(&session.id) else { break };
            let batch = session.announcer.next_batch(&self.desired, connection.queued, now).unwrap();
            let Some(batch) = batch else { break };
            connection.queued += batch.octets.len() as u64;
            for change in session.announcer.written(connection.queued).filter(|change| change.is_change()) {
                self.events.push(PeerEvent::Sent {
                    peer: self.name.clone(),
                    version: change.version,
                    cause: change.cause,
                    announced: change.announced().to_vec(),
                    withdrawn: change.withdrawn().to_vec(),
                    since_decided: change.age(now),
                });
            }
            self.requests.push(Request::Send(session.id, batch.octets));
            self.fsm.handle(Event::UpdatesSent(session.id), now);
        }
        self.check();
        std::mem::take(&mut self.requests)
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(action) = self.fsm.poll_action() {
            self.act(action, now);
        }
    }

    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Dial(id) => self.requests.push(Request::Dial(id)),
            Action::Send(id, _, octets) => {
                let connection =
                    self.connections.get_mut(&id).expect("nothing is sent on a closed connection");
                connection.queued += octets.len() as u64;
                self.requests.push(Request::Send(id, octets));
                self.fsm.handle(Event::Flushed(id), now);
            }
            Action::Close(id, _) => {
                self.connections.remove(&id);
                self.requests.push(Request::Close(id));
            }
            Action::Up(id, negotiated) => {
                self.ups += 1;
                assert_eq!(self.ups, self.downs + 1, "up twice");
                self.session = Some(self.session_on(id, &negotiated, now));
                let (local, remote) =
                    (SocketAddr::from(([10, 0, 0, 1], 179)), SocketAddr::from(([10, 0, 0, 2], 179)));
                self.events.push(PeerEvent::Up { peer: self.name.clone(), negotiated, local, remote });
            }
            Action::Down(reason) => {
                self.downs += 1;
                assert_eq!(self.ups, self.downs, "down twice");
                self.session = None;
                self.events.push(PeerEvent::Down { peer: self.name.clone(), reason });
            }
            Action::AttemptFailed(reason) => self.note(reason),
            Action::Update { disposition, .. } => {
                assert_eq!(disposition, crate::wire::Disposition::Accept);
            }
            Action::Refresh(_) => unreachable!("nobody asks for one"),
        }
    }

    fn session_on(&self, id: ConnId, negotiated: &Negotiated, now: Instant) -> Session {
        let next_hops = NextHops { v4: Some([10, 0, 0, 1].into()), ..NextHops::default() };
        let dialect = Dialect::of(&self.params, negotiated, next_hops);
        let limit = ack_limit(negotiated.hold_time);
        let (announce, degraded) = (AttributeOverrides::default(), AttributeOverrides::default());
        let policy = Policy { peer: self.name.clone(), announce, degraded };
        Session {
            id,
            announcer: Announcer::new(policy, dialect, true, limit, now),
            received: BTreeMap::new(),
            version_acknowledged: 0,
        }
    }

    fn note(&mut self, reason: CloseReason) {
        self.events.push(PeerEvent::AttemptFailed { peer: self.name.clone(), reason });
    }

    /// What must hold after every step.
    fn check(&self) {
        let established = self.state() == PeerState::Established;
        assert_eq!(established, self.session.is_some());
        assert_eq!(established, self.ups == self.downs + 1);
        assert!(self.connections.len() <= 2);
        let waits_for_the_peer = self.params.passive && self.state() == PeerState::Active;
        assert!(
            self.fsm.poll_timeout().is_some() || waits_for_the_peer || self.is_stopped,
            "stuck in {}",
            self.state()
        );
    }
}

impl Session {
    /// Applies the peer's UPDATE to what it has announced.
    fn take(&mut self, frame: Frame<'_>) {
        let context =
            AttributeContext { as4: true, internal: false, families: &[Family::Ipv4], v4_over_v6: false };
        let update = Update::decode(frame.body, context).unwrap();
        for prefix in update.withdrawn.iter() {
            assert!(self.received.remove(&prefix).is_some(), "{prefix} is withdrawn but was not announced");
        }
        let path = path(update.attributes);
        self.received.extend(update.announced.iter().map(|prefix| (prefix, path.clone())));
    }
}

/// What distinguishes routes here; the rest is the announcer's own tests' business.
fn path(mut attributes: &[u8]) -> Path {
    let mut path = Path::default();
    while attributes.remaining() > 3 {
        let (flags, kind) = (attributes.get_u8(), attributes.get_u8());
        let length = if flags & 0x10 == 0 { attributes.get_u8().into() } else { attributes.get_u16() };
        let (mut value, rest) = attributes.split_at(length.into());
        match kind {
            4 => path.med = value.get_u32(),
            8 => path.communities = (0..value.len() / 4).map(|_| value.get_u32()).collect(),
            _ => {}
        }
        attributes = rest;
    }
    path
}
